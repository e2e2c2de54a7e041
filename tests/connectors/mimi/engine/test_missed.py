"""A follower whom the hub has told nothing for too long: it sits down anew, and says what is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import Disconnected
from connectors.mimi.clients.hubs import Hubs
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.turns import Stale
from connectors.mimi.mls import Signer
from connectors.mimi.service.outbox import Outbox
from connectors.mimi.service.peers import Answer
from connectors.mimi.service.presets import MEMBER
from connectors.mimi.testing.cast import Client
from connectors.mimi.wire import rooms
from connectors.mimi.wire.mls import GROUP_INFO
from connectors.mimi.wire.rooms import CommitBundle, FullGroupInfo
from tests.connectors.mimi.engine.pair import ROOM, Pair
from tests.connectors.mimi.engine.test_hub import joining


def given_up(patch: pytest.MonkeyPatch) -> None:
    """From now on nothing reaches b, and the hub waits no longer for it."""
    sent = Outbox._try

    async def lost(outbox: Outbox, to: str, room: str, body: bytes) -> Answer:
        return Answer(201, b"") if to == "b.example" else await sent(outbox, to, room, body)

    patch.setattr(Outbox, "_try", lost)


@pytest.mark.parametrize("away", [None, Stale(), Disconnected("busy")])
async def test_who_missed_commits_sits_down_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: Exception | None
):
    """Also where the hub is busy, or the room changes, at the first try."""
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        with monkeypatch.context() as patch:
            given_up(patch)
            await pair.a.says("alice", "nobody hears this")
            async with asyncio.timeout(60):
                while pair.a.tenants._provider.outbox.waiting:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        asked, tries = Hubs.group_info, [away] if away else []

        async def group_info(
            hubs: Hubs, room: str, identity: Signer, *, code: bytes | None = None
        ) -> rooms.GroupInfoAndTree:
            if hubs._domain == "b.example" and tries:
                raise tries.pop()
            return await asked(hubs, room, identity, code=code)

        monkeypatch.setattr(Hubs, "group_info", group_info)
        await pair.a.says("anna", "b reads that it missed something")
        await pair.b.hears(facts.Missed)
        alice = "mimi://a.example/u/alice:hs"
        await pair.b.hears(facts.Roster, lambda roster: alice in {m.person.id for m in roster.members})
        await pair.b.says("bob", "back again")
        await pair.a.reads("back again")
        await pair.a.says("anna", "good")
        await pair.b.reads("good")


async def test_a_commit_that_nobody_can_follow_ends_no_room(tmp_path: Path):
    """RFC 9420 6.1, 7.6: a hub can check neither the confirmation tag nor the secrets of a path."""
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        hub, eve = pair.a.tenants._provider, Client("eve", "c.example")
        seat, commit = joining(hub.room(ROOM), eve, MEMBER)
        assert isinstance(await hub.update(ROOM, commit, "c.example"), rooms.Updated)
        await pair.b.hears(facts.Membership, lambda m: m.person.id == eve.user)
        assert isinstance(await hub.update(ROOM, damaged(seat, eve), "c.example"), rooms.Updated)
        for side, other, words in ((pair.b, pair.a, "still here"), (pair.a, pair.b, "we, too")):
            await side.says("bob", words)
            await other.reads(words)


def damaged(seat: Seat, client: Client) -> CommitBundle:
    """A commit with a confirmation tag that is not its epoch's."""
    bundle = seat.tidy()
    assert isinstance(bundle.group_info, FullGroupInfo)
    tag = bytes(32)
    info = msgspec.structs.replace(bundle.group_info.group_info, confirmation_tag=tag, signature=b"")
    signature = client.identity.sign("GroupInfoTBS", GROUP_INFO.encode(info)[:-1])
    return msgspec.structs.replace(
        bundle,
        message=msgspec.structs.replace(bundle.message, confirmation_tag=tag),
        group_info=FullGroupInfo(msgspec.structs.replace(info, signature=signature)),
    )
