"""One is put out while their own leave waits to be committed, and a leave that its hub does not take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import SendRejected, SendUncertain
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Person
from connectors.mimi import uris
from connectors.mimi.clients.hubs import Hubs
from connectors.mimi.service.room import BANNED, NOBODY
from connectors.mimi.wire import rooms
from tests.connectors.mimi.engine.pair import ROOM, Pair, Side


async def nothing(room: str) -> None:
    """Nobody commits what waits."""


async def bob_is_there(pair: Pair) -> Person:
    await pair.b.says("bob", "hello")
    await pair.a.reads("hello")
    seat = pair.a.tenants.seat(ROOM)
    assert seat is not None
    (bob,) = [p.user for p in seat.state.participants if "bob" in p.user and "b.example" in p.user]
    return Person(id=PersonId(bob), name="bob")


async def test_a_bridge_that_leaves_in_an_epoch_that_is_over_leaves_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else its clients stay in the group for ever, and the hub keeps letters for a provider that reads none."""
    pair = Pair(tmp_path)
    async with pair.up():
        await bob_is_there(pair)
        update, answers = (
            Hubs.update,
            [rooms.WrongEpoch("The room is in another epoch.", 0) for _ in range(2)],
        )

        async def late(hubs: Hubs, room: str, bundle: rooms.UpdateRequest) -> rooms.UpdateResponse:
            leaves = isinstance(bundle, rooms.ProposalBundle)
            return answers.pop() if leaves and answers else await update(hubs, room, bundle)

        monkeypatch.setattr(Hubs, "update", late)
        await pair.b.session.perform(verbs.Leave(chat=ROOM))
        async with asyncio.timeout(30):
            while domains_of(pair.a) != {"a.example"}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("deed", [verbs.Kick, verbs.Ban])
async def test_who_is_on_their_way_out_is_put_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: type
):
    """7.5: one commit changes one participant once, and it has to cover the leave that waits."""
    pair = Pair(tmp_path)
    async with pair.up():
        bob = await bob_is_there(pair)
        for side in (pair.a, pair.b):
            monkeypatch.setattr(side.tenants, "_tidy", nothing)
        await pair.b.session.perform(verbs.Depart(chat=ROOM, speaker=pair.b.person("bob")))
        await until_proposed(pair.a)
        await pair.a.session.perform(deed(chat=ROOM, person=bob))
        assert people_of(pair.a) == {"bridge"}
        assert pair.a.tenants.role(ROOM, bob.id) == (BANNED if deed is verbs.Ban else NOBODY)
        await pair.a.says("ann", "he is gone")
        await pair.b.reads("he is gone")


async def test_a_leave_that_the_hub_does_not_take_yet_is_proposed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """5.3: what contradicts something that waits (InvalidProposal) may be valid once that is committed."""
    pair = Pair(tmp_path)
    async with pair.up():
        await bob_is_there(pair)
        update, answers = Hubs.update, [rooms.InvalidProposal("That waits already.", ())]

        async def refusing(hubs: Hubs, room: str, bundle: rooms.UpdateRequest) -> rooms.UpdateResponse:
            leaves = isinstance(bundle, rooms.ProposalBundle)
            return answers.pop() if leaves and answers else await update(hubs, room, bundle)

        monkeypatch.setattr(Hubs, "update", refusing)
        await pair.b.session.perform(verbs.Depart(chat=ROOM, speaker=pair.b.person("bob")))
        await pair.a.hears(facts.Membership, left)
        assert answers == []
        await pair.a.says("ann", "he is gone")
        await pair.b.reads("he is gone")


async def test_who_is_not_let_go_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody is told that they have left who reads on: their keys are still in the group."""
    pair = Pair(tmp_path)
    async with pair.up():
        await bob_is_there(pair)
        update = Hubs.update

        async def refusing(hubs: Hubs, room: str, bundle: rooms.UpdateRequest) -> rooms.UpdateResponse:
            if isinstance(bundle, rooms.ProposalBundle):
                return rooms.NotAllowed("Too many proposals of one client wait for a commit.")
            return await update(hubs, room, bundle)

        monkeypatch.setattr(Hubs, "update", refusing)
        with pytest.raises(SendRejected, match="Too many proposals"):
            await pair.b.session.perform(verbs.Depart(chat=ROOM, speaker=pair.b.person("bob")))
        monkeypatch.setattr(Hubs, "update", update)
        await pair.b.says("bob", "still here")
        await pair.a.reads("still here")
        await pair.a.says("ann", "I see")
        await pair.b.reads("I see")


async def test_a_leave_whose_answer_was_lost_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The hub has it already, and says that who is gone changes nothing; those who stay follow the commit."""
    pair = Pair(tmp_path)
    async with pair.up():
        await bob_is_there(pair)
        monkeypatch.setattr(pair.a.tenants, "_tidy", nothing)
        update = Hubs.update
        lost: list[rooms.UpdateResponse] = []

        async def losing(hubs: Hubs, room: str, bundle: rooms.UpdateRequest) -> rooms.UpdateResponse:
            answer = await update(hubs, room, bundle)
            if isinstance(bundle, rooms.ProposalBundle) and not lost:
                lost.append(answer)
                raise SendUncertain("The answer was lost.")
            return answer

        monkeypatch.setattr(Hubs, "update", losing)
        depart = verbs.Depart(chat=ROOM, speaker=pair.b.person("bob"))
        with pytest.raises(SendUncertain):
            await pair.b.session.perform(depart)
        await pair.b.session.perform(depart)
        assert len(lost) == 1
        await pair.a.hears(facts.Membership, left)
        await pair.a.says("ann", "he is gone")
        await pair.b.reads("he is gone")
        assert not any(isinstance(fact, facts.Missed) for fact in pair.b.heard)


def left(fact: facts.Membership) -> bool:
    """Bob went of his own will."""
    return fact.change is facts.Change.LEAVE and "bob" in fact.person.id


async def until_proposed(side: Side) -> None:
    seat = side.tenants.seat(ROOM)
    assert seat is not None
    async with asyncio.timeout(30):
        while not seat.group.pending_proposals:  # noqa: ASYNC110 - an engine tells nobody
            await asyncio.sleep(0.01)


def people_of(side: Side) -> set[str]:
    """Whose clients are in the room, as the side has it."""
    return {client.name.partition("/")[0] for client in clients(side)}


def domains_of(side: Side) -> set[str]:
    """Whose providers they are."""
    return {client.domain for client in clients(side)}


def clients(side: Side) -> list[uris.Uri]:
    seat = side.tenants.seat(ROOM)
    assert seat is not None
    return [uris.parse(member.name.decode()) for member in seat.group.members]
