"""Encrypted rooms: what crosses, what is refused, and what a crash or a rotation changes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import nio
import pytest
import structlog.testing
from nio.crypto import OlmDevice
from nio.crypto.sas import SasState
from vodozemac import GroupSession, InboundGroupSession

from bridgekit.contract.facts import Roster
from bridgekit.contract.ids import ChatId, NetworkId
from bridgekit.contract.people import Member
from bridgekit.contract.verbs import EditMessage, Retract
from bridgekit.matrix.crypto import contents, engine, meeting
from bridgekit.matrix.crypto.sas import MAC
from bridgekit.matrix.transactions import Encryption
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.encryption.standins import WHY
from bridgekit.testing.homeserver import Delay, Drop, Event, Fail, Human
from bridgekit.testing.homeserver.refusals import Refused
from tests.matrix.crypto.test_sas import Peer
from tests.runtime.fake_network import TALK, Town, person, says
from tests.runtime.running import (
    BOT,
    World,
    by,
    emptied,
    ghost,
    has_fate,
    membership,
    said,
    town_world,
    until,
)
from tests.runtime.secret_client import ENCRYPTION, SecretClient
from tests.runtime.secret_rooms import BOB, Scene, linked, running, scene


async def test_what_is_said_crosses_both_ways_and_nothing_is_in_clear(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        event = await now.alice.say(now.room, "hello, town")
        await now.town.until(lambda: now.town.said())
        assert now.town.said() == ["<alice> hello, town"]
        fate = await said(now.place, has_fate(event))
        assert fate.content["status"] == "SUCCESS"
        assert await now.bob_says("hello, Alice") == ["hello, Alice"]
        assert now.place.homeserver.messages(now.room) == []
        assert now.place.homeserver.unknown_calls == []


async def test_a_ghost_has_one_cross_signed_device_and_keeps_it(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            now = Scene(place, town, bridge, alice, room)
            await now.bob_says("one", "two")
            devices = {user: dict(place.homeserver.app.devices[user]) for user in (BOT, BOB)}
            identities = dict(place.homeserver.keys.identities)
        uploads = place.homeserver.calls["POST keys/device_signing/upload"]
        async with running(place) as bridge:
            now = Scene(place, town, bridge, alice, room)
            assert await now.bob_says("three") == ["one", "two", "three"]
            assert {user: dict(place.homeserver.app.devices[user]) for user in (BOT, BOB)} == devices
            assert place.homeserver.keys.identities == identities
            assert place.homeserver.calls["POST keys/device_signing/upload"] == uploads
        assert len(devices[BOB]) == 1


async def test_no_place_of_a_ratchet_is_used_twice_across_restarts(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            await Scene(place, town, bridge, alice, room).bob_says(*[f"before {n}" for n in range(5)])
        async with running(place) as bridge:
            now = Scene(place, town, bridge, alice, room)
            await now.bob_says(*[f"after {n}" for n in range(5)])
        events = now.sealed_by(BOB)
        places = [(e.content["session_id"], alice.position(e)) for e in events]
        assert len(places) == len(set(places)) == 10
        assert len({session for session, _ in places}) == 1  # a restart is no reason for a new session


async def test_a_homeserver_that_forgot_the_devices_gets_them_again(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            await Scene(place, town, bridge, alice, room).bob_says("one")
        before = {user: list(place.homeserver.app.devices[user]) for user in (BOT, BOB)}
        for user, names in before.items():
            for name in names:
                place.homeserver.keys.forget(user, name)
                del place.homeserver.app.devices[user][name]
            del place.homeserver.keys.identities[user]
        async with running(place) as bridge:
            assert await Scene(place, town, bridge, alice, room).bob_says("two") == ["one", "two"]
            assert {user: list(place.homeserver.app.devices[user]) for user in (BOT, BOB)} == before


@asynccontextmanager
async def in_clear_at_first(
    tmp_path: Path,
) -> AsyncIterator[tuple[Town, World, Human, SecretClient, str]]:
    """A linked room that is not encrypted yet, and its Alice, whose client could read it if it were."""
    town = Town()
    async with town_world(tmp_path, town) as place, running(place):
        human = place.homeserver.user("alice")
        alice = SecretClient(place.homeserver, human)
        room = await human.create_room(preset="public_chat", invite=[BOT])
        await said(place, membership(BOT, "join"))
        await human.set_power(room, BOT, 100)
        await human.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "now linked"))
        town.emit(says("Bob", "in clear"))
        await said(place, by(BOB, "in clear"))
        yield town, place, human, alice, room


async def test_a_room_that_becomes_encrypted_hears_nothing_in_clear_from_then_on(tmp_path: Path) -> None:
    async with in_clear_at_first(tmp_path) as (town, place, human, alice, room):
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        await place.homeserver.settled()
        town.emit(says("Bob", "sealed"))
        await alice.say(room, "!bridge agree town #talk")  # until then it is held, and not lost
        await until(lambda: alice.words(room, BOB) == ["sealed"])


async def test_what_waits_to_be_sent_when_its_room_becomes_encrypted_does_not_go_in_clear(
    tmp_path: Path,
) -> None:
    """It was made ready in clear, and the homeserver asked to slow down."""
    async with in_clear_at_first(tmp_path) as (town, place, human, alice, room):
        slow = place.homeserver.fault("PUT */send/m.room.message/*", Fail(status=503), user=BOB)
        town.emit(says("Bob", "on its way"))
        await until(lambda: slow.hits)
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        await place.homeserver.settled()
        place.homeserver.heal(slow)
        await until(lambda: alice.words(room, BOB) == ["on its way"])
        assert [e.body for e in place.homeserver.messages(room) if e.sender == BOB] == ["in clear"]


async def test_a_room_that_became_encrypted_while_the_bridge_was_down(tmp_path: Path) -> None:
    """The event may still be on its way when the first message of the network comes in."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            human = place.homeserver.user("alice")
            alice = SecretClient(place.homeserver, human)
            room = await human.create_room(preset="public_chat", invite=[BOT])
            await said(place, membership(BOT, "join"))
            await human.set_power(room, BOT, 100)
            await human.send(room, "!bridge link town #talk")
            await said(place, by(BOT, "now linked"))
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        place.homeserver.fault("PUT */transactions/*", Delay(seconds=3))
        async with running(place):
            town.emit(says("Bob", "sealed"))
            await alice.say(room, "!bridge agree town #talk")
            await until(lambda: alice.words(room, BOB) == ["sealed"])
            assert not [e for e in place.homeserver.messages(room) if e.sender == BOB]


async def test_a_device_that_nobody_verified_gets_no_keys_and_is_not_believed(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"), verified=False)
        await carol.human.join(now.room)
        await now.bob_says("for Alice")
        carol.collect()
        assert (carol.withheld, carol.keys) == (["m.unverified"], {})
        event = await carol.say(now.room, "let me in")
        fate = await said(now.place, has_fate(event))
        assert fate.content["status"] == "FAIL_PERMANENT"
        await until(lambda: any("has not verified" in w for w in now.alice.words(now.room, BOT)))
        assert now.town.said() == []
        tally = now.bridge.engine.tally
        assert tally.unread == {"untrusted": 1, "unreadable": 0}
        assert tally.kept == {"unverified": 2, "no_olm": 0}  # Bob's and the bot's
        # They verify it: from then on it counts.
        now.place.homeserver.keys.upload_identity(carol.id, carol.machine.identity())
        await now.place.homeserver.settled()
        await now.bob_says("for both")
        assert carol.words_readable(now.room, BOB) == ["for both"]
        await carol.say(now.room, "thank you")
        await now.town.until(lambda: now.town.said() == ["<carol> thank you"])


@pytest.mark.parametrize("call", ["query", "claim"])
async def test_somebody_for_whom_the_homeserver_always_fails_keeps_no_other_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """As where another appservice answers for its user with an error: Synapse passes it on as a 500, every time."""
    async with scene(tmp_path) as now:
        keys = now.place.homeserver.keys
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"))
        await carol.human.join(now.room)
        whole_query, whole_claim = keys.query, keys.claim

        def query(asker: str, users: Iterable[str], names: Any) -> Any:
            if carol.id in users and asker != now.alice.id:
                raise Refused(500, "M_UNKNOWN", "Internal server error")
            return whole_query(asker, users, names)

        def claim(wanted: dict[str, dict[str, str]]) -> Any:
            if carol.id in wanted:
                raise Refused(500, "M_UNKNOWN", "Internal server error")
            return whole_claim(wanted)

        with monkeypatch.context() as broken, structlog.testing.capture_logs() as logs:
            broken.setattr(keys, call, {"query": query, "claim": claim}[call])
            assert await now.bob_says("one", "two") == ["one", "two"]
        carol.collect()
        assert carol.keys == {}
        assert carol.withheld == ([] if call == "query" else ["m.no_olm"])
        names = [line["event"] for line in logs]
        assert "keys_not_told" in names
        assert "homeserver_lost" not in names
        if call == "query":  # she is asked for again when her devices change
            keys.upload_identity(carol.id, carol.machine.identity())
            await now.place.homeserver.settled()
            await now.bob_says("three")
            assert carol.words_readable(now.room, BOB) == ["three"]


async def test_every_device_counts_where_the_admin_says_so(tmp_path: Path) -> None:
    async with scene(tmp_path, trust="all") as now:
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"), verified=False)
        await carol.human.join(now.room)
        await carol.say(now.room, "hello")
        await now.town.until(lambda: now.town.said() == ["<carol> hello"])
        await now.bob_says("hello, Carol")
        assert carol.words(now.room, BOB) == ["hello, Carol"]


async def test_a_session_has_its_day_as_the_room_says(tmp_path: Path) -> None:
    async with scene(tmp_path, rotation_period_msgs=2) as now:
        await now.bob_says(*[str(n) for n in range(6)])
        sessions = [event.content["session_id"] for event in now.sealed_by(BOB)]
        assert [sessions.count(one) for one in dict.fromkeys(sessions)] == [2, 2, 2]


async def test_who_leaves_cannot_read_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"))
        await carol.human.join(now.room)
        await now.bob_says("for both")
        await carol.human.leave(now.room)
        await now.place.homeserver.settled()
        await now.bob_says("for Alice")
        assert carol.words_readable(now.room, BOB) == ["for both"]
        await carol.human.join(now.room)
        await now.place.homeserver.settled()
        await now.bob_says("for both again")
        assert carol.words_readable(now.room, BOB) == ["for both", "for both again"]


async def test_keys_that_people_take_are_filled_up(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        keys = now.place.homeserver.keys
        device = next(iter(keys.devices[BOT]))
        before = set(keys.one_time[BOT][device])
        for _ in range(40):
            keys.claim({BOT: {device: "signed_curve25519"}})
        await until(lambda: keys.counts(BOT, device)["signed_curve25519"] == 50)
        assert not before & set(keys.one_time[BOT][device]) - before
        keys.one_time[BOT][device].clear()
        keys.claim({BOT: {device: "signed_curve25519"}})  # the fallback key
        await until(lambda: keys.unused_fallbacks(BOT, device) == ["signed_curve25519"])


async def from_others(bridge: Bridge) -> list[bytes]:
    """What came for the bridge's devices and is not used yet, besides what the bot asks itself at its start."""
    return [body for _, body in await bridge.store.keys.to_device() if b"org.bridgekit.probe" not in body]


async def test_what_came_for_a_device_is_opened_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the 200 for a to-device event and its use: it was on disk, and so was the ratchet before it."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            alice.rotate(room)
            monkeypatch.setattr(bridge.engine.incoming, "take", lambda rows: None)  # it crashes before
            await alice.say(room, "just before")
            await place.homeserver.settled()
            assert len(await from_others(bridge)) == 1
            assert town.said() == []
        async with running(place) as bridge:
            await town.until(lambda: town.said() == ["<alice> just before"])
            assert await from_others(bridge) == []


async def test_a_transaction_that_comes_twice_brings_its_keys_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        now.place.homeserver.fault("PUT */transactions/*", Drop(after_effect=True), times=1)
        await now.alice.say(now.room, "once")
        await now.town.until(lambda: now.town.said())
        await now.place.homeserver.settled()
        await asyncio.sleep(0.3)
        assert now.town.said() == ["<alice> once"]
        assert await now.bridge.store.inbox.parked() == []


async def test_what_is_said_again_in_its_senders_name_is_no_second_message(tmp_path: Path) -> None:
    """A homeserver can repeat a ciphertext as a new event: the place in its session tells that it is old."""
    async with scene(tmp_path) as now:
        await now.alice.say(now.room, "pay 5")
        await now.town.until(lambda: now.town.said() == ["<alice> pay 5"])
        old = now.sealed_by(now.alice.id)[-1]
        again = await now.alice.human.send(now.room, old.content, "m.room.encrypted")
        fate = await said(now.place, has_fate(again))
        assert fate.content["status"] == "FAIL_PERMANENT"
        assert now.town.said() == ["<alice> pay 5"]


@pytest.mark.parametrize("pasted", [12, 60], ids=["in memory", "on disk"])
async def test_to_stop_a_paste_does_not_wait_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pasted: int
) -> None:
    """Nobody sees from outside what is asked there."""
    monkeypatch.setattr("bridgekit.runtime.traffic.worker.UNDER_WAY", 5)
    monkeypatch.setattr("bridgekit.runtime.traffic.worker.IN_MEMORY", 20)
    monkeypatch.setattr("bridgekit.runtime.traffic.rooms.CHUNK", 10)
    monkeypatch.setattr("bridgekit.runtime.networks.sessions.FIRST_WAIT", 0.1)
    async with scene(tmp_path) as now:
        now.town.cut()
        for number in range(pasted):
            await now.alice.say(now.room, f"line {number}")
        await now.place.homeserver.settled()
        await now.alice.say(now.room, "!bridge stop")
        await until(lambda: any("messages of yours that" in line for line in now.alice.words(now.room, BOT)))
        await now.alice.say(now.room, "peace")
        await now.place.homeserver.settled()
        now.town.mend()
        await emptied(now.bridge)
        assert now.town.said() == ["<alice> peace"]


async def test_an_encrypted_event_under_anothers_name_is_not_passed_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        mallory = SecretClient(now.place.homeserver, now.place.homeserver.user("mallory"))
        await mallory.human.join(now.room)
        await now.alice.say(now.room, "hello")
        await now.town.until(lambda: now.town.said())
        copied = now.alice.sealed(now.room, {"msgtype": "m.text", "body": "a second one"})
        await mallory.human.send(now.room, copied, "m.room.encrypted")
        await mallory.say(now.room, "honest")
        await now.town.until(lambda: "<mallory> honest" in now.town.said())
        assert now.town.said() == ["<alice> hello", "<mallory> honest"]


async def test_a_redaction_that_came_encrypted_takes_back_nothing(tmp_path: Path) -> None:
    """Whether somebody may redact is the homeserver's to decide, and it has not seen this one."""
    async with scene(tmp_path) as now:
        event = await now.alice.say(now.room, "hello")
        await now.town.until(lambda: now.town.said())
        mallory = SecretClient(now.place.homeserver, now.place.homeserver.user("mallory"))
        await mallory.human.join(now.room)
        mallory.share(now.room)
        sealed = mallory.sealed(now.room, {"redacts": event}, "m.room.redaction")
        await mallory.human.send(now.room, sealed, "m.room.encrypted")
        await mallory.say(now.room, "honest")
        await now.town.until(lambda: "<mallory> honest" in now.town.said())
        assert now.town.done(Retract) == []


async def test_twenty_ghosts_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        names = [f"p{n}" for n in range(20)]
        for name in names:
            now.town.emit(says(name, f"{name} is here"))
        for name in names:
            await until(lambda name=name: now.alice.words(now.room, ghost(name)) == [f"{name} is here"])  # type: ignore[misc]


async def test_edits_replies_and_redactions_find_their_message(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        event = await now.alice.say(now.room, "the quick brown fox")
        await now.town.until(lambda: now.town.said())
        relation = {"rel_type": "m.replace", "event_id": event}
        edit: dict[str, Any] = {
            "m.new_content": {"msgtype": "m.text", "body": "the red fox"},
            "m.relates_to": relation,
        }
        await now.alice.say(now.room, "* the red fox", **edit)
        await now.town.until(
            lambda: [v.content.text.body for v in now.town.done(EditMessage)] == ["the red fox"]
        )
        await now.alice.human.redact(now.room, event)
        await now.town.until(lambda: now.town.done(Retract))


async def test_no_plaintext_is_on_the_bridges_disk(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        secret = "xyzzy-plaintext-canary"
        await now.alice.say(now.room, secret)
        await now.town.until(lambda: now.town.said())
        await now.bob_says(f"{secret} back")
        now.alice.rotate(now.room)
        await now.alice.say(now.room, secret, shared=False)
        now.town.cut()
        now.alice.rotate(now.room)
        await now.alice.say(now.room, f"{secret} that waits for the town")
        await until(lambda: now.bridge.rooms.depth()[0] >= 1)
        await now.place.homeserver.settled()
        kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert [name for name, data in kept.items() if secret.encode() in data] == []
        assert any(TALK.encode() in data for data in kept.values()), "what stands there in clear is found"


async def test_a_new_identity_is_told_in_the_room(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        other = SecretClient(now.place.homeserver, now.alice.human)
        await now.place.homeserver.settled()
        now.town.emit(says("Bob", "and now?"))
        await until(lambda: "and now?" in other.words_readable(now.room, BOB))
        await until(
            lambda: any("new cryptographic identity" in w for w in other.words_readable(now.room, BOT))
        )


async def test_a_new_identity_is_told_in_a_room_where_nobody_speaks_and_somebody_has_just_come(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        await now.place.homeserver.user("carol").join(now.room)
        await now.place.homeserver.settled()
        other = SecretClient(now.place.homeserver, now.alice.human)
        await until(
            lambda: any("new cryptographic identity" in w for w in other.words_readable(now.room, BOT))
        )


async def test_ghosts_of_a_small_room_have_their_devices_before_they_speak(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        people = tuple(Member(person=person(name)) for name in ("Ada", "Ben"))
        now.town.emit(Roster(chat=TALK, at=1, members=people))
        keys = now.place.homeserver.keys
        await until(lambda: {ghost("ada"), ghost("ben")} <= set(keys.identities))
        await until(lambda: {ghost("ada"), ghost("ben")} <= now.alice.has_keys_of())
        before = now.place.homeserver.calls["POST keys/claim"]
        now.town.emit(says("Ada", "hello"))
        await until(lambda: now.alice.words(now.room, ghost("ada")) == ["hello"])
        assert now.place.homeserver.calls["POST keys/claim"] == before


async def test_whoever_comes_to_speak_has_an_identity_before_people_see_them_come(tmp_path: Path) -> None:
    """Their clients look at once, and a first word that nobody vouches for stays unread in some of them."""
    async with scene(tmp_path) as now:
        vouched: list[bool] = []
        keys = now.place.homeserver.keys

        def look(event: Event) -> bool:
            if event.state_key == BOB and event.content["membership"] == "join":
                vouched.append(BOB in keys.identities and bool(keys.devices.get(BOB)))
            return bool(vouched)

        seen = asyncio.create_task(said(now.place, look))
        await now.bob_says("here I am")
        await seen
        assert vouched == [True]


async def test_the_keys_of_a_first_word_go_out_while_the_ghost_enters(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        server = now.place.homeserver
        server.fault("POST */join/*", Delay(seconds=2))
        before = server.calls["POST keys/claim"]
        now.town.emit(says("Bob", "here I am"))
        await until(lambda: server.calls["POST keys/claim"] > before)
        assert BOB not in server.joined(now.room)
        await until(lambda: now.alice.words(now.room, BOB) == ["here I am"])
        assert server.calls["POST keys/claim"] == before + 1


async def test_a_ghost_speaks_when_people_have_had_the_time_to_ask_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "LEAST_SECONDS", 1.0)
    async with scene(tmp_path) as now:
        await now.bob_says("here I am")
        timeline = now.place.homeserver.timeline(now.room)
        (came,) = [e for e in timeline if e.state_key == BOB and e.content.get("membership") == "join"]
        (word,) = now.sealed_by(BOB)
        assert word.origin_server_ts - came.origin_server_ts >= 1000
        asked = now.place.homeserver.calls["POST keys/query"]
        await now.bob_says("and here I stay")
        assert now.place.homeserver.calls["POST keys/query"] == asked, "people know it by now"


async def test_keys_that_came_while_the_bridge_was_away_are_in_its_ghosts_queues(tmp_path: Path) -> None:
    """Synapse repeats the events of a transaction that failed, and forgets what was in it for devices."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            await Scene(place, town, bridge, alice, room).bob_says("hello")
        for words in ("while you were out", "and again"):
            alice.rotate(room)
            await alice.say(room, words)
            await until(lambda: place.homeserver.deliveries["bridgekit"].retries)
            async with running(place):
                await town.until(lambda words=words: town.said()[-1:] == [f"<alice> {words}"])  # type: ignore[misc]
        assert alice.requests == []


async def test_keys_that_came_for_the_bot_alone_are_asked_for(tmp_path: Path) -> None:
    """Nobody of the network has spoken yet, and Synapse lets no appservice's own user read its queue."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked(place)
        alice.rotate(room)
        await alice.say(room, "while you were out")
        await until(lambda: place.homeserver.deliveries["bridgekit"].retries)
        async with running(place):
            await until(lambda: alice.answers() and town.said() == ["<alice> while you were out"])
        assert [asked["action"] for asked in alice.requests] == ["request"]


async def test_a_key_that_nobody_asked_for_is_not_taken_from_anybody(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        mallory = SecretClient(now.place.homeserver, now.place.homeserver.user("mallory"))
        await mallory.human.join(now.room)
        now.alice.rotate(now.room)
        event = await now.alice.say(now.room, "hello", shared=False)
        await until(lambda: now.alice.answers() and now.alice.requests)
        session = now.alice.requests[0]["body"]["session_id"]
        forged = GroupSession()
        content = {
            **contents.room_key_content(ChatId(now.room), forged.session_id, ""),
            "sender_key": now.alice.machine.curve25519,
        }
        exported = InboundGroupSession(forged.session_key).export_at(0)
        assert exported is not None
        content |= {"session_key": exported.to_base64(), "session_id": session}
        mallory.tell(mallory.devices_in(now.room), "m.forwarded_room_key", content)
        await now.place.homeserver.settled()
        now.alice.share(now.room)
        await now.town.until(lambda: now.town.said() == ["<alice> hello"])
        assert (await said(now.place, has_fate(event))).content["status"] == "SUCCESS"


async def test_a_device_that_came_while_the_bridge_was_away_gets_the_keys(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            carol = SecretClient(place.homeserver, place.homeserver.user("carol"), verified=False)
            await carol.human.join(room)
            await Scene(place, town, bridge, alice, room).bob_says("for Alice")
        place.homeserver.keys.upload_identity(carol.id, carol.machine.identity())
        await until(lambda: place.homeserver.deliveries["bridgekit"].retries)
        async with running(place) as bridge:
            await Scene(place, town, bridge, alice, room).bob_says("for both")
            assert carol.words_readable(room, BOB) == ["for both"]


async def test_a_device_that_came_in_a_transaction_that_did_not_arrive_gets_the_keys(tmp_path: Path) -> None:
    """The transaction said nothing else: Synapse sends it again, and nothing is left in it."""
    async with scene(tmp_path) as now:
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"), verified=False)
        await carol.human.join(now.room)
        await now.bob_says("for Alice")
        await now.place.homeserver.settled()
        blip = now.place.homeserver.fault("PUT */transactions/*", Fail(), times=1)
        now.place.homeserver.keys.upload_identity(carol.id, carol.machine.identity())
        await now.place.homeserver.settled()
        assert blip.hits == 1
        await now.bob_says("for both")
        assert carol.words_readable(now.room, BOB) == ["for both"]


async def test_a_homeserver_that_sends_no_keys_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PROBE_SECONDS", 0.2)
    async with town_world(tmp_path, Town()) as place:
        monkeypatch.setattr(place.homeserver.deliveries["bridgekit"], "on_to_device", lambda *_: None)
        async with running(place) as bridge:
            await until(lambda: bridge.engine.trouble)
            assert "msc2409_to_device_messages_enabled" in bridge.engine.trouble
            assert bridge._health()["encryption"].ok is False


async def test_what_the_homeserver_forgot_of_a_restart_is_no_lack_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synapse (1.163) forgets the to-device events of a transaction that failed, and so the first that is sent to a
    bridge which was away while somebody spoke."""
    monkeypatch.setattr(engine, "PROBE_AGAIN_SECONDS", 0.05)
    async with town_world(tmp_path, Town()) as place:
        delivery = place.homeserver.deliveries["bridgekit"]
        forgotten: list[str] = []
        pass_on = delivery.on_to_device

        def forget_first(user: str, device: str, event: dict[str, Any]) -> None:
            if forgotten:
                pass_on(user, device, event)
            else:
                forgotten.append(event["type"])

        monkeypatch.setattr(delivery, "on_to_device", forget_first)
        async with running(place) as bridge:
            await until(lambda: bridge.engine.works or bridge.engine.trouble)
            assert forgotten == [engine.PROBE]
            assert bridge._health()["encryption"].ok is True


async def test_a_homeserver_that_sends_keys_by_now_is_believed_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr("bridgekit.runtime.bridge.ASK_AGAIN_SECONDS", 0.05)
    async with town_world(tmp_path, Town()) as place:
        delivery = place.homeserver.deliveries["bridgekit"]
        pass_on = delivery.on_to_device
        monkeypatch.setattr(delivery, "on_to_device", lambda *_: None)
        async with running(place) as bridge:
            await until(lambda: bridge.engine.trouble)
            monkeypatch.setattr(delivery, "on_to_device", pass_on)
            await until(lambda: bridge.engine.works)
            assert bridge._health()["encryption"].ok is True


async def test_a_ghost_can_be_verified_in_the_room(tmp_path: Path) -> None:
    """What a client does: a request in the room, then start, key and mac as events that refer to it."""
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        bob = now.alice.devices_of(BOB)[0]
        request = {
            "msgtype": "m.key.verification.request",
            "body": "verify me",
            "from_device": now.alice.machine.device,
            "methods": ["m.sas.v1"],
            "to": BOB,
        }
        now.alice.share(now.room)
        txn = await now.alice.human.send(now.room, now.alice.sealed(now.room, request), "m.room.encrypted")
        relation = {"m.relates_to": {"rel_type": "m.reference", "event_id": txn}}

        async def heard(kind: str) -> dict[str, Any]:
            await until(lambda: now.alice.events_of(now.room, BOB, f"m.key.verification.{kind}"))
            return now.alice.events_of(now.room, BOB, f"m.key.verification.{kind}")[0]

        async def say(kind: str, content: dict[str, Any]) -> None:
            sealed = now.alice.sealed(now.room, {**content, **relation}, f"m.key.verification.{kind}")
            await now.alice.human.send(now.room, sealed, "m.room.encrypted")

        assert (await heard("ready"))["methods"] == ["m.sas.v1"]
        own = OlmDevice(BOB, bob.id, {"ed25519": bob.ed25519, "curve25519": bob.curve25519})
        peer = Peer(now.alice.id, now.alice.machine.device, now.alice.machine.ed25519, own, txn)
        start = {**peer.start_verification().content, "message_authentication_codes": [MAC]}
        del start["transaction_id"]
        await say("start", start)
        accept = await heard("accept")
        await say("key", {"key": peer.pubkey})
        key = await heard("key")
        whole = nio.Api.to_canonical_json({**start, **relation})
        digest = hashlib.sha256(f"{key['key']}{whole}".encode()).digest()
        assert accept["commitment"] == base64.b64encode(digest).decode().rstrip("=")
        peer.establish_sas(key["key"])
        peer.chosen_key_agreement, peer.chosen_mac_method = "curve25519-hkdf-sha256", MAC
        await until(lambda: any(" ".join(peer.shown()) in w for w in now.alice.words(now.room, BOB)))
        peer.state, peer.sas_accepted = SasState.key_received, True
        mac = dict(peer.get_mac().content)
        del mac["transaction_id"]
        await say("mac", mac)
        theirs = await heard("mac")
        assert set(theirs["mac"]) >= {f"ed25519:{bob.id}"}
        info = f"MATRIX_KEY_VERIFICATION_MAC{BOB}{bob.id}{now.alice.id}{now.alice.machine.device}{txn}"
        peer.established_sas.verify_mac(
            bob.ed25519, f"{info}ed25519:{bob.id}", theirs["mac"][f"ed25519:{bob.id}"]
        )
        await heard("done")
        assert now.town.said() == []  # nothing of it is anybody else's business
        await now.alice.say(now.room, f"!bridge verify {BOB}")
        await until(lambda: any(bob.ed25519 in w for w in now.alice.words(now.room, BOT)))


async def test_where_a_double_puppet_could_not_be_believed_the_ghost_speaks(tmp_path: Path) -> None:
    """Nobody gets a device for their own user unasked: it would not be signed by their identity."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, running(place) as bridge:
        alice, room = await linked(place)
        identity = dict(place.homeserver.keys.identities[alice.id])
        login = await bridge.accounts.open(NetworkId("town"), alice.id)
        await until(lambda: login in town.sessions)
        me = person("own-alice")
        spoken = ["from my phone", "and again"]
        for words in spoken:
            town.emit(says("alice", words, sender=me, own=login))
        await until(lambda: alice.words(room, ghost("own-alice")) == spoken)
        notice = await said(place, lambda e: e.sender == BOT and e.content.get("body") == WHY)
        assert place.homeserver.keys.identities[alice.id] == identity
        assert list(place.homeserver.app.devices[alice.id]) == [alice.machine.device]
        assert place.homeserver.messages(room) == []
        # She is told why, by herself, and once.
        assert place.homeserver.members(notice.room_id)[alice.id] == "invite"
        assert [e.content["body"] for e in place.homeserver.messages(notice.room_id)].count(WHY) == 1


async def test_nonsense_for_a_device_stops_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        device = next(iter(now.place.homeserver.keys.devices[BOT]))
        to = {"to_user_id": BOT, "to_device_id": device, "sender": now.alice.id}
        encrypted: list[Any] = [
            {},
            {"algorithm": 5},
            {"algorithm": "m.olm.v1.curve25519-aes-sha2"},
            [],
            "x",
            None,
        ]
        events: list[Any] = [{"type": "m.room.encrypted", "content": content, **to} for content in encrypted]
        events += [
            {"type": kind, "content": {}, **to} for kind in ("m.room_key", "m.room_key.withheld", "m.dummy")
        ]
        events += [{"type": "m.key.verification.start", "content": {"transaction_id": "t"}, **to}]
        events += [{**to, "to_user_id": [BOT]}, {**to, "type": 5}, {"to_user_id": BOT}, [], 7, "x", None, {}]
        said_to_us = Encryption(to_device=tuple(msgspec.json.encode(event) for event in events))
        kept = now.bridge.engine.keep(said_to_us)
        await now.bridge.store.commit(*kept.writes)
        now.bridge.engine.take(kept)
        await now.alice.say(now.room, "hello all the same")
        await now.town.until(lambda: now.town.said() == ["<alice> hello all the same"])
        assert await now.bridge.store.keys.to_device() == []
