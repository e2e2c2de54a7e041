"""What came without its key: it waits, is opened late or never, and who said it reads why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.ids import ChatId
from bridgekit.matrix.crypto import contents
from bridgekit.runtime.traffic import keyless
from tests.runtime.fake_network import Town
from tests.runtime.running import (
    BOT,
    emptied,
    has_fate,
    said,
    town_world,
    until,
)
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import linked, running, scene


async def test_a_key_that_comes_late_opens_what_came_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyless, "KEY_SECONDS", 0.3)
    async with scene(tmp_path) as now:
        now.alice.rotate(now.room)
        event = await now.alice.say(now.room, "early", shared=False)
        fate = await said(now.place, has_fate(event))
        assert fate.content["status"] == "FAIL_PERMANENT"
        await until(lambda: any("as soon as the key comes" in w for w in now.alice.words(now.room, BOT)))
        assert await now.bob_says("nobody else waits") == ["nobody else waits"]
        assert now.bridge.engine.tally.missing == {"silent": 1, "withheld": 0}
        now.alice.share(now.room)
        await now.town.until(lambda: now.town.said() == ["<alice> early"])
        await until(lambda: [e for e in now.place.homeserver.timeline(now.room) if has_fate(event)(e)][1:])
        await emptied(now.bridge)


async def test_what_is_taken_back_before_its_key_comes_is_never_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyless, "KEY_SECONDS", 0.3)
    async with scene(tmp_path) as now:
        now.alice.rotate(now.room)
        event = await now.alice.say(now.room, "my password is hunter2", shared=False)
        await said(now.place, has_fate(event))
        await now.alice.human.redact(now.room, event)
        await emptied(now.bridge)  # a restart does not take it up again either
        now.alice.share(now.room)
        await now.alice.say(now.room, "and what is yours?")
        await now.town.until(lambda: now.town.said() == ["<alice> and what is yours?"])


async def test_a_client_that_keeps_its_key_is_named_as_the_reason_also_where_it_says_so_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyless, "KEY_SECONDS", 0.5)
    async with scene(tmp_path) as now:
        now.alice.rotate(now.room)
        id = await now.alice.say(now.room, "not for you", shared=False)
        event = now.sealed_by(now.alice.id)[-1]
        room, session = ChatId(now.room), event.content["session_id"]
        key = now.alice.machine.curve25519
        content = contents.withheld_content(room, session, key, "m.unverified", "not you")
        for device in now.alice.devices_of(BOT):
            now.alice.send(BOT, device.id, "m.room_key.withheld", content)
        await said(now.place, has_fate(id))  # before her client looks at what the bridge asks it for
        await until(lambda: any("does not trust its device" in w for w in now.alice.words(now.room, BOT)))
        assert now.bridge.engine.tally.missing == {"silent": 0, "withheld": 1}


async def test_nobody_says_for_another_that_their_client_keeps_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody in the room sees what a session is called."""
    monkeypatch.setattr(keyless, "KEY_SECONDS", 0.5)
    async with scene(tmp_path) as now:
        mallory = SecretClient(now.place.homeserver, now.place.homeserver.user("mallory"))
        now.alice.rotate(now.room)
        session = now.alice.sealed(now.room, {})["session_id"]
        content = contents.withheld_content(
            ChatId(now.room), session, now.alice.machine.curve25519, "m.blacklisted", "no"
        )
        for device in now.alice.devices_of(BOT):
            mallory.send(BOT, device.id, "m.room_key.withheld", content)
        await now.place.homeserver.settled()
        await said(now.place, has_fate(await now.alice.say(now.room, "hello", shared=False)))
        await until(lambda: any("has not got the key" in w for w in now.alice.words(now.room, BOT)))
        assert not any("is blocked there" in w for w in now.alice.words(now.room, BOT))


async def test_what_a_client_says_of_its_key_after_the_sender_was_told_is_told_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news may be later than the message by more than anybody waits; and the key may follow all the same."""
    monkeypatch.setattr(keyless, "KEY_SECONDS", 0.3)
    async with scene(tmp_path) as now:
        now.alice.rotate(now.room)
        id = await now.alice.say(now.room, "not for you yet", shared=False)
        await said(now.place, has_fate(id))  # before her client looks at what the bridge asks it for
        event = now.sealed_by(now.alice.id)[-1]
        content = contents.withheld_content(
            ChatId(now.room), event.content["session_id"], now.alice.machine.curve25519, "m.unverified", "no"
        )
        for device in now.alice.devices_of(BOT):
            now.alice.send(BOT, device.id, "m.room_key.withheld", content)
        await now.place.homeserver.settled()
        await now.bridge.engine.incoming.caught_up()
        await until(lambda: any("does not trust its device" in w for w in now.alice.words(now.room, BOT)), 30)
        assert any("has not got the key" in words for words in now.alice.words(now.room, BOT))
        now.alice.share(now.room)
        await now.town.until(lambda: now.town.said() == ["<alice> not for you yet"])


async def test_a_key_that_came_before_anybody_waited_for_it_is_not_waited_for(tmp_path: Path) -> None:
    """While the sender is told that it has not come, it comes."""
    async with scene(tmp_path) as now:
        await now.alice.say(now.room, "hello")
        await now.town.until(now.town.said)
        session = now.sealed_by(now.alice.id)[-1].content["session_id"]
        missing = now.bridge.engine.incoming.missing((ChatId(now.room), session, now.alice.id))
        async with asyncio.timeout(60):
            assert await now.bridge.parts.secrecy.key(missing, keyless.KEY_LATEST)
        assert not now.bridge.engine.incoming._waiting  # nor is it remembered that somebody did


async def test_a_refusal_to_a_device_that_is_gone_does_not_hide_the_one_to_the_device_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a new identity the old device is on the homeserver still; clients send both the very same words."""
    monkeypatch.setattr(keyless, "KEY_SECONDS", 0.5)
    async with scene(tmp_path) as now:
        now.alice.rotate(now.room)
        event = contents.megolm_content(msgspec.Raw(msgspec.json.encode(now.alice.sealed(now.room, {}))))
        key = now.alice.machine.curve25519
        content = contents.withheld_content(
            ChatId(now.room), event.session_id, key, "m.unverified", "not you"
        )
        for device in ("GONE", *(device.id for device in now.alice.devices_of(BOT))):
            now.alice.send(BOT, device, "m.room_key.withheld", content)
        id = await now.alice.say(now.room, "not for you", shared=False)
        await said(now.place, has_fate(id))  # before her client looks at what the bridge asks it for
        await until(lambda: any("does not trust its device" in w for w in now.alice.words(now.room, BOT)))


async def test_a_message_whose_key_is_missing_waits_through_a_restart(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked(place)
            alice.rotate(room)
            await alice.say(room, "early", shared=False)
            await place.homeserver.settled()
        async with running(place):
            alice.share(room)
            await town.until(lambda: town.said() == ["<alice> early"])
