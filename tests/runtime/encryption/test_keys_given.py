"""Who is given the bridge's keys, and who is given them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto import contents
from tests.runtime.fake_network import says
from tests.runtime.running import ghost, has_fate, said, until
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import Scene, scene

BOB = PersonId(ghost("bob"))


async def newcomer(now: Scene, name: str = "carol") -> SecretClient:
    """Somebody with a verified device who has just come into the room."""
    person = SecretClient(now.place.homeserver, now.place.homeserver.user(name))
    await person.human.join(now.room)
    await now.place.homeserver.settled()
    return person


async def test_a_device_that_lost_a_key_is_given_it_again_from_where_it_had_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("for Alice")
        carol = await newcomer(now)
        await now.bob_says("for both")
        first, second = now.sealed_by(BOB)
        assert first.content["session_id"] == second.content["session_id"]
        carol.collect()
        for who, index in ((now.alice, 0), (carol, 1)):
            who.ask(now.room, second)
            await until(lambda who=who: who.answers() and second.content["session_id"] in who.keys)  # type: ignore[misc]
            assert who.keys[second.content["session_id"]].first_known_index == index
        assert now.alice.words(now.room, BOB) == ["for Alice", "for both"]


async def test_the_session_that_was_replaced_last_is_given_again_too(tmp_path: Path) -> None:
    async with scene(tmp_path, rotation_period_msgs=1) as now:
        await now.bob_says("one", "two", "three")
        one, two, three = now.sealed_by(BOB)
        for event in (one, two, three):
            now.alice.ask(now.room, event)
        await until(lambda: now.alice.answers() and three.content["session_id"] in now.alice.keys)
        await until(lambda: now.alice.answers() and two.content["session_id"] in now.alice.keys)
        await now.place.homeserver.settled()
        now.alice.collect()
        assert one.content["session_id"] not in now.alice.keys


async def test_who_was_never_given_a_key_gets_none_by_asking(tmp_path: Path) -> None:
    """Carol came later; Eve's device is not verified; and Alice asks the one ghost for the other's."""
    async with scene(tmp_path) as now:
        eve = SecretClient(now.place.homeserver, now.place.homeserver.user("eve"), verified=False)
        await eve.human.join(now.room)
        await now.bob_says("for Alice")
        (event,) = now.sealed_by(BOB)
        carol = await newcomer(now)
        now.town.emit(says("Ann", "hello"))
        await until(lambda: now.alice.words(now.room, ghost("ann")) == ["hello"])
        session = event.content["session_id"]
        for who in (carol, eve):
            who.ask(now.room, event)
        del now.alice.keys[session]
        (ann,) = now.alice.devices_of(ghost("ann"))
        asked = contents.key_request(ChatId(now.room), session, now.alice.machine.device, ann.curve25519)
        now.alice.send(ann.user, ann.id, "m.room_key_request", asked)
        # What was asked first was looked at first: when Alice has her answer from Bob, the others have none.
        now.alice.ask(now.room, event)
        await until(lambda: now.alice.answers() and session in now.alice.keys)
        for who in (carol, eve):
            who.collect()
            assert session not in who.keys
        assert now.alice.senders[session].user == BOB


@pytest.mark.parametrize("history", ["joined", "invited", "shared"])
async def test_who_is_invited_gets_keys_where_they_will_be_shown_what_is_said(
    tmp_path: Path, history: str
) -> None:
    async with scene(tmp_path) as now:
        await now.alice.human.set_state(
            now.room, "m.room.history_visibility", {"history_visibility": history}
        )
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"))
        await now.alice.human.invite(now.room, carol.id)
        await now.place.homeserver.settled()
        await now.bob_says("for whom?")
        carol.collect()
        assert (carol.keys != {}) == (history != "joined")
        await carol.human.join(now.room)
        await now.place.homeserver.settled()
        await now.bob_says("for both")
        assert "for both" in carol.words_readable(now.room, BOB)


async def test_who_has_a_sessions_key_cannot_take_its_places_from_who_made_it(tmp_path: Path) -> None:
    """Mallory says that Alice's session is hers, and sends a copy of what Alice is about to say."""
    async with scene(tmp_path) as now:
        mallory = await newcomer(now, "mallory")
        now.alice.rotate(now.room)
        now.alice.share(now.room)
        content = now.alice.sealed(now.room, {"msgtype": "m.text", "body": "my own words"})
        mallory._out[now.room] = now.alice._out[now.room]
        mallory.share(now.room)
        copy = await mallory.human.send(now.room, content, "m.room.encrypted")
        await said(now.place, has_fate(copy))
        event = await now.alice.human.send(now.room, content, "m.room.encrypted")
        fate = await said(now.place, has_fate(event))
        assert fate.content["status"] == "SUCCESS"
        assert now.town.said()[-1] == "<alice> my own words"
