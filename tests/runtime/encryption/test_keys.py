"""Keys in trouble: two who use one ratchet at once, servers that answer nonsense or nothing, devices that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.ids import PersonId
from bridgekit.store.keys import Inbound
from bridgekit.testing.homeserver import Fail
from tests.runtime.fake_network import Town, says
from tests.runtime.running import BOT, ghost, town_world, until
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import Scene, linked, running, scene

BOB = PersonId(ghost("bob"))
NONSENSE = "nonsense of another server"


def spoilt(ask: Callable[..., Any], part: str, user: str, nonsense: Any) -> Callable[..., Any]:
    """A question about keys in whose answer one user's part is nonsense."""

    def answer(*about: Any) -> Any:
        found = ask(*about)
        if user in found[part]:
            found[part][user] = nonsense
        return found

    return answer


async def test_a_key_that_comes_in_does_not_put_an_olm_session_back_that_was_spoken_over_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of Alice's is being taken up while Bob speaks to her device; after a restart she still understands him."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            now = Scene(place, town, bridge, alice, room)
            await now.bob_says("hello")
            await alice.say(room, "hi")
            await town.until(lambda: town.said())
            looking, on = asyncio.Event(), asyncio.Event()
            real = bridge.store.keys.inbound

            async def slow(*session: Any) -> Inbound | None:
                looking.set()
                await on.wait()
                return await real(*session)

            monkeypatch.setattr(bridge.store.keys, "inbound", slow)
            alice.rotate(room)
            alice.share(room, [device for device in alice.devices_in(room) if device.user == BOB])
            await asyncio.wait_for(looking.wait(), 60)
            bob = await bridge.engine.machines.of(BOB)
            (device,) = alice.devices_of(alice.id)
            await bridge.engine._outgoing.tell(bob, device, "m.dummy", {}, anew=False)
            on.set()
            await bridge.engine.incoming.caught_up()
            await bridge.store.commit()
            kept = {row.id: row for row in await bridge.store.keys.olm(BOB)}
            assert {row.id: row for row in bob.sessions[device.curve25519]} == kept
            alice.collect()
        async with running(place) as bridge:
            bob = await bridge.engine.machines.of(BOB)
            await bridge.engine._outgoing.tell(bob, device, "m.dummy", {}, anew=False)
            alice.collect()  # a session that was put back opens nothing: Undecryptable


@pytest.mark.parametrize("nonsense", [NONSENSE, None, 7, [], {"DEVICE": NONSENSE}, {"DEVICE": {"keys": 7}}])
@pytest.mark.parametrize("question", ["query", "claim"])
async def test_what_a_server_answers_of_its_user_concerns_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str, nonsense: Any
) -> None:
    """Synapse passes on unchecked what a remote server answers to /keys/query of its users."""
    part = {"query": "device_keys", "claim": "one_time_keys"}[question]
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        mallory = now.place.homeserver.user("mallory")
        SecretClient(now.place.homeserver, mallory)
        keys = now.place.homeserver.keys
        monkeypatch.setattr(keys, question, spoilt(getattr(keys, question), part, mallory.id, nonsense))
        await mallory.join(now.room)
        await now.place.homeserver.settled()
        assert await now.bob_says("still here") == ["hello", "still here"]
        others = [device for device in now.alice.devices_in(now.room) if device.user != mallory.id]
        now.alice.share(now.room, others)
        await now.alice.say(now.room, "so am I", shared=False)
        await now.town.until(lambda: now.town.said())
        assert now.town.said() == ["<alice> so am I"]


async def test_a_homeserver_that_answers_something_else_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        monkeypatch.setattr(now.place.homeserver.keys, "query", lambda *about: {"device_keys": NONSENSE})
        await now.place.homeserver.user("carol").join(now.room)
        await now.place.homeserver.settled()
        # Of whom nothing can be learnt, what was known last: Alice still reads.
        assert await now.bob_says("still here") == ["hello", "still here"]


async def test_a_refused_question_about_devices_is_asked_again_soon(tmp_path: Path) -> None:
    """One error answer, and who has just come in reads nothing: for seconds, not for minutes."""
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        now.place.homeserver.fault("POST */keys/query", Fail(status=400), times=1)
        carol = SecretClient(now.place.homeserver, now.place.homeserver.user("carol"))
        await carol.human.join(now.room)
        await now.place.homeserver.settled()
        words = 0
        async with asyncio.timeout(60):
            while not carol.words_readable(now.room, BOB):
                words += 1
                await now.bob_says(f"word {words}")
                await asyncio.sleep(0.2)


async def test_a_ghost_that_the_homeserver_refuses_takes_encryption_from_no_other(tmp_path: Path) -> None:
    """Ann was deactivated, and the homeserver has forgotten her devices and Zoe's."""
    ann, zoe = ghost("ann"), ghost("zoe")
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked(place)
            for name in ("Ann", "Zoe"):
                town.emit(says(name, f"hello from {name}"))
                await until(partial(alice.words, room, ghost(name.lower())))
        for user in (ann, zoe):
            place.homeserver.app.devices[user].clear()
            place.homeserver.keys.devices[user].clear()
        place.homeserver.fault("*", Fail(status=403), user=ann)
        async with running(place) as bridge:
            await until(lambda: bridge.engine.machines.is_ready(PersonId(zoe)))
            assert bridge.engine.trouble == ""
            assert len(place.homeserver.app.devices[zoe]) == 1
            assert not bridge.engine.machines.is_ready(PersonId(ann))


@pytest.mark.parametrize("whose", [BOT, BOB], ids=["the bot's", "a ghost's"])
async def test_a_device_that_somebody_signs_out_is_back_before_the_next_word_is_lost(
    tmp_path: Path, whose: str
) -> None:
    """An admin of the homeserver does it while the bridge runs: what the device sends is refused until then."""
    async with scene(tmp_path) as now:
        await now.bob_says("one")
        homeserver = now.place.homeserver
        (device,) = homeserver.app.devices[whose]
        homeserver.keys.forget(whose, device)
        del homeserver.app.devices[whose][device]
        await now.alice.say(now.room, "!bridge help")
        assert await now.bob_says("two") == ["one", "two"]
        await until(
            lambda: any("I pass messages between" in words for words in now.alice.words(now.room, BOT))
        )
        carol = SecretClient(homeserver, homeserver.user("carol"))
        await carol.human.join(now.room)
        await homeserver.settled()
        await now.bob_says("three")
        assert carol.words_readable(now.room, BOB) == ["three"]
        assert list(homeserver.app.devices[whose]) == [device]


async def test_somebody_with_fifty_devices_reads_on_each_of_them(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        homeserver = now.place.homeserver
        carol = homeserver.user("carol")
        first, *others = many = [SecretClient(homeserver, carol, verified=False) for _ in range(50)]
        homeserver.keys.upload_identity(first.id, first.machine.identity())
        for one in others:
            one.vouched_for_by(first)
        await carol.join(now.room)
        await homeserver.settled()
        await now.bob_says("hello, all of you")
        assert {tuple(one.words_readable(now.room, BOB)) for one in many} == {("hello, all of you",)}
