"""What a peer can choose names for is bounded: rooms, hubs, clients, requests, codes, proposals, directories."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.errors import Disconnected, NotAllowed, PeerMisbehaved
from connectors.mimi.clients.turns import Turns
from connectors.mimi.service import hub, outbox, peers, provider, server, vouching
from connectors.mimi.service.consent import MAX_WAITING, Consents
from connectors.mimi.service.hub import Delivery
from connectors.mimi.service.peers import Answer, Endpoint
from connectors.mimi.service.people import People
from connectors.mimi.service.presets import MODERATOR
from connectors.mimi.service.server import Rates
from connectors.mimi.testing.cast import ROOM, Client
from connectors.mimi.wire import components, rooms
from connectors.mimi.wire.components import Component, RoomMetadata
from connectors.mimi.wire.mls import MLS_MESSAGE, PublicMessage
from connectors.mimi.wire.rooms import ApplicationFanout, ProposalBundle
from connectors.mimi.wire.users import (
    ClientExhausted,
    ConsentEntry,
    ConsentOperation,
    KeyMaterialResponse,
    UserCode,
)
from tests.connectors.mimi.engine.ears import town
from tests.connectors.mimi.engine.test_hub import Stage, bob
from tests.connectors.mimi.engine.test_provider import Scene


async def test_rooms_that_are_not_there_leave_nothing(tmp_path: Path):
    """Also not a lock: a room is named by whoever asks."""
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin()
        seat = await scene.bring_in_bob()
        update = rooms.UPDATE_REQUEST.encode(seat.tidy())
        seat.refused()
        submit = rooms.SUBMIT_REQUEST.encode(seat.say(b"x", b"s" * 16))
        for number in range(20):
            for endpoint, body in ((Endpoint.UPDATE, update), (Endpoint.SUBMIT_MESSAGE, submit)):
                status, _ = await scene.post(scene.b, scene.a, endpoint, f"{ROOM}{number}", body)
                assert status == 404
        gc.collect()
        assert len(scene.a.provider._locks) <= 1
        turns = Turns()
        for number in range(20):
            async with turns.lock(f"{ROOM}{number}"):
                assert len(turns._locks) == 1


async def test_notifications_are_known_again_of_so_many_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provider, "HUBS", 3)
    monkeypatch.setattr(provider, "SEEN", 4)
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin()
        seat = await scene.bring_in_bob()
        message = seat.say(b"x", b"s" * 16).message
        for number in range(6):
            for at in range(6):
                body = rooms.FANOUTS.encode((ApplicationFanout(at, message),))
                await scene.a.provider.notify(f"mimi://h{number}.example/r/x", body, f"h{number}.example")
        kept = {key: len(msgspec.msgpack.decode(raw)) for key, raw in scene.a.store.items() if "seen/" in key}
        assert kept == {f"seen/h{number}.example": 4 for number in (3, 4, 5)}
        assert set(scene.a.provider._seen) == {f"h{number}.example" for number in (3, 4, 5)}


async def test_nobody_fills_a_hub_with_letters_for_one_who_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A peer may be away for two weeks (5.5); what others say meanwhile is another's share."""
    monkeypatch.setattr(outbox, "MOST_OF_ONE", 3000)
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin()
        await scene.bring_in_bob()
        hub, away = scene.a.provider, asyncio.Event()
        send = hub.outbox._send

        async def absent(to: str, room: str, body: bytes) -> Answer:
            if away.is_set():
                return await send(to, room, body)
            raise Disconnected("They are away.")

        monkeypatch.setattr(hub.outbox, "_send", absent)

        async def says(words: bytes) -> object:
            return await hub.submit(ROOM, scene.seat.say(words, b"s" * 16), "a.example")

        answers = [await says(b"x" * 1000) for _ in range(5)]
        assert [type(answer) for answer in answers] == [rooms.Accepted] * 3 + [rooms.Refused] * 2
        again = outbox.Outbox(hub._host, absent)
        await again.load()
        to_bob = [Delivery("b.example", ROOM, ApplicationFanout(0, scene.seat.say(b"", b"").message))]
        assert not again.has_room(to_bob, scene.alice.user)
        assert again.has_room(to_bob, "mimi://a.example/u/carol")
        away.set()
        hub.outbox.alive("b.example")
        async with asyncio.timeout(30):
            while hub.outbox.waiting:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        assert not hub.outbox._heaps
        assert isinstance(await says(b"back"), rooms.Accepted)


async def test_clients_of_one_provider_are_remembered_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(provider, "CLIENTS", 5)
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin(packages=0)
        for number in range(12):
            client = Client("bob", "b.example", f"device{number}")
            await scene.b.provider.publish(client.user, client.uri, [client.package()])
        await scene.a.provider.key_material(scene.claim(), "a.example")
        kept = [key for key in scene.a.store if key.startswith("client/mimi://b.example")]
        assert len(kept) == 5


def test_what_is_forgotten_of_a_client_is_what_its_provider_said_first():
    people = People()
    for number in range(4):
        people.learn(f"mimi://b.example/d/c{number}", "mimi://b.example/u/bob")
    people.learn("mimi://a.example/d/c0", "mimi://a.example/u/alice")
    assert people.forget_oldest("b.example", 2) == ["mimi://b.example/d/c0", "mimi://b.example/d/c1"]
    users = [people.user_of(f"mimi://b.example/d/c{number}".encode()) for number in (1, 2)]
    assert users == ["mimi://b.example/u/c1", "mimi://b.example/u/bob"]
    assert people.user_of(b"mimi://a.example/d/c0") == "mimi://a.example/u/alice"


def test_nobody_has_clients_without_end():
    clients = tuple(ClientExhausted(f"mimi://b.example/d/bob/{n}") for n in range(vouching.MAX_CLIENTS + 1))
    answer = KeyMaterialResponse(UserCode.NO_COMPATIBLE_MATERIAL, "mimi://b.example/u/bob", clients)
    with pytest.raises(PeerMisbehaved):
        vouching.check_material(answer, "mimi://b.example/u/bob")


def test_one_provider_does_not_take_the_place_of_others_who_ask():
    consents = Consents("mimi://a.example/u/alice")

    def asked(requester: str) -> ConsentEntry:
        return ConsentEntry(ConsentOperation.REQUEST, requester, consents.user)

    for number in range(MAX_WAITING):
        consents = consents.take(asked(f"mimi://b.example/u/{number}"))
    with pytest.raises(NotAllowed):
        consents.take(asked("mimi://b.example/u/one-more"))
    assert consents.take(asked("mimi://b.example/u/0")) == consents, "who waits already may ask again"
    assert len(consents.take(asked("mimi://c.example/u/carol")).waiting) == MAX_WAITING + 1


async def test_who_came_by_a_code_is_remembered_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provider, "CODES", 3)
    async with town(tmp_path, "a.example") as made:
        house = made["a.example"]
        house.host.set_clock(1_800_000_000.0)
        for number in range(5):
            house.provider._let_in(ROOM, f"mimi://b.example/u/{number}")
        assert [user[-1] for _, user in house.provider._codes] == ["2", "3", "4"]
        house.host.advance(provider.CODE + 1)
        house.provider._let_in(ROOM, "mimi://b.example/u/9")
        assert [user[-1] for _, user in house.provider._codes] == ["9"]


def test_rates_are_kept_of_those_who_asked_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "PEERS", 3)
    rates = Rates(rate=1, burst=1)
    for number in range(10):
        rates.wait(f"p{number}", 0.0)
        assert rates.wait(f"p{number}", 0.0) > 0, "who asks twice waits"
    assert set(rates._levels) == {"p7", "p8", "p9"}


def test_one_client_has_so_many_proposals_waiting_and_others_can_still_leave():
    stage = Stage()
    seat = stage.bring_in(bob(), MODERATOR)
    renamed = components.ROOM_METADATA.encode(RoomMetadata(ROOM, name="Ours"))

    def propose() -> rooms.UpdateResponse:
        message = MLS_MESSAGE.decode(seat.group.propose_app_data(int(Component.ROOM_METADATA), renamed))
        assert isinstance(message, PublicMessage)
        return stage.ask(ProposalBundle(message, ()), "b.example")[0]

    answers = [propose() for _ in range(hub.MAX_PENDING + 3)]
    assert [type(answer) for answer in answers] == [rooms.Updated] * hub.MAX_PENDING + [rooms.NotAllowed] * 3
    assert len(stage.room.kept.pending) == hub.MAX_PENDING


def test_a_room_says_so_much_of_itself_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "MAX_STATE", 4000)
    stage = Stage()
    refused, _ = stage.ask(stage.seat.describe(RoomMetadata(ROOM, name="x" * 5000)), "a.example")
    assert isinstance(refused, rooms.NotAllowed)
    stage.seat.refused()
    taken, _ = stage.ask(stage.seat.describe(RoomMetadata(ROOM, name="x")), "a.example")
    assert isinstance(taken, rooms.Updated)


async def test_directories_of_so_many_providers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "DIRECTORIES", 1)
    async with town(tmp_path, "a.example", "b.example", "c.example") as made:
        for domain in ("b.example", "c.example", "b.example"):
            assert await made["a.example"].peers.directory(domain)
            assert list(made["a.example"].peers._directories) == [domain]
        monkeypatch.setattr(peers, "MAX_DIRECTORY", 10)
        with pytest.raises(PeerMisbehaved):
            await made["a.example"].peers.directory("c.example")
