"""Erasing a person: what they said is taken back where it can be, and nothing of them is kept."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from bridgekit.cli import erase as command
from bridgekit.contract.facts import Reaction, Retraction, Roster
from bridgekit.contract.ids import LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import File, Member, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import PostMessage, Retract, Verb
from bridgekit.core import wording
from bridgekit.core.model import Downgrade, Toward
from bridgekit.core.protection import Agreement
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.people.erasure import Report
from bridgekit.runtime.traffic import rooms
from bridgekit.store import ids, new_id
from tests.runtime.fake_network import TALK, Town, TownConfig, TownConnector, now, person, says
from tests.runtime.running import BOT, World, by, ghost, invited, linked, said, town_world, until

ALICE, BOB = "@alice:hs.test", ghost("bob")


async def erased(bridge: Bridge, user: str) -> Any:
    """The report, when it is done."""
    await bridge.erasure.ask(PersonId(user))
    await until(lambda: (report := bridge.erasure.report(PersonId(user))) is not None and report.done)
    return bridge.erasure.report(PersonId(user))


def readable(place: World, room: str, sender: str) -> list[str]:
    """What can still be read of somebody in a room."""
    return [e.body for e in place.homeserver.messages(room) if e.sender == sender and e.body]


async def test_a_person_of_a_network_is_gone_from_the_room_and_from_the_bridge(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        bob = person("Bob", avatar=File(uri="mxc://hs.test/face", name="face"))
        town.emit(says("Bob", "one", sender=bob), says("Bob", "two", sender=bob), says("Eve", "three"))
        await said(place, by(ghost("eve"), "three"))
        await until(lambda: place.homeserver.world.profiles[BOB].get("avatar_url"))
        mine = await alice.send(room, "mine")
        await town.until(lambda: any(_words(deed.verb) == "mine" for deed in town.deeds))
        target = next(deed.id for deed in town.deeds if _words(deed.verb) == "mine")
        town.emit(Reaction(chat=TALK, at=now(), sender=bob, target=target, key="👍", id=MessageId("r1")))
        await said(place, lambda e: e.type == "m.reaction" and e.sender == BOB)

        report = await erased(bridge, BOB)

        assert (report.messages, report.taken_back, report.kept) == (3, {"Matrix": 3}, {})
        assert readable(place, room, BOB) == []
        assert readable(place, room, ghost("eve")) == ["three"]
        assert not any(e.content for e in place.homeserver.timeline(room) if e.type == "m.reaction")
        assert BOB not in place.homeserver.joined(room)
        assert place.homeserver.world.profiles[BOB] == {}
        assert BOB in place.homeserver.world.deactivated
        assert "an admin of the homeserver" in report.left[0]
        store = bridge.store
        assert await store.ghosts.get(PersonId(BOB)) is None
        assert PersonId(BOB) not in await store.members.of(room)  # type: ignore[arg-type]
        assert [n async for n in store.copies.said_by(NetworkId("town"), PersonId("bob"))] == []
        assert len(await store.copies.of(NetworkId("matrix"), room, mine)) == 2  # type: ignore[arg-type]
        [wish] = await store.optouts.all()
        assert (wish.network, wish.person) == ("town", "bob")
        # From this moment on, without a restart: what they say stays on their side, and makes no ghost.
        town.emit(says("Bob", "am I gone?"), says("Eve", "four"))
        await said(place, by(ghost("eve"), "four"))
        assert readable(place, room, BOB) == []
        assert BOB not in place.homeserver.joined(room)
        assert by(BOT, wording.OMITTED)(place.homeserver.messages(room)[-2])


async def test_who_is_erased_stays_out_with_the_account_that_they_are_signed_in_to(tmp_path: Path) -> None:
    town = Town()
    bob, phone = person("Bob", account="rob"), person("Pocket", account="rob")
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            _, room = await linked(place)
            members = (Member(person=bob), Member(person=person("Eve")))
            town.emit(Roster(chat=TALK, at=now(), members=members), says("Bob", "one", sender=bob))
            await said(place, by(BOB, "one"))
            await erased(bridge, BOB)
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(says("Pocket", "am I gone?", sender=phone), says("Eve", "four"))
            await said(place, by(ghost("eve"), "four"))
            assert readable(place, room, ghost("pocket")) == []


def _words(verb: Verb) -> str:
    return verb.content.text.body if isinstance(verb, PostMessage) else ""


async def test_a_matrix_user_is_taken_back_on_the_networks_and_their_accounts_are_closed(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        zoe = place.homeserver.user("zoe")
        await zoe.join(room)
        await alice.send(room, "I stay")
        await zoe.send(room, "relayed")
        await town.until(lambda: len(town.said()) == 2)
        await zoe.send(room, "!bridge login town")
        await until(lambda: any(login for login in town.sessions))
        await zoe.send(room, "with my own account")
        await town.until(lambda: len(town.said()) == 3)

        report = await erased(bridge, zoe.id)

        assert (report.messages, report.taken_back) == (2, {"Town": 2})
        assert town.forgotten == [zoe.id]
        assert report.left == ["A ban of theirs stands on Town."]
        words = {deed.id: _words(deed.verb) for deed in town.deeds}
        gone = [
            (deed.login, words[deed.verb.target]) for deed in town.deeds if isinstance(deed.verb, Retract)
        ]
        login = LoginId("town/@zoe:hs.test")
        assert sorted(gone, key=str) == [(login, "relayed"), (login, "with my own account")]
        assert bridge.registry.logins == {}
        assert await bridge.store.logins.all() == []
        assert [n async for n in bridge.store.copies.said_by(NetworkId("matrix"), PersonId(zoe.id))] == []


async def test_what_a_network_cannot_take_back_is_counted(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {Retract})
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "one")
        await town.until(town.said)
        report = await erased(bridge, ALICE)
        assert report.kept == {"Town": 1}
        assert report.left == ["1 messages can still be read on Town: it cannot take them back."]


async def test_a_network_that_is_away_is_waited_for_over_a_restart(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "one")
            await town.until(town.said)
            town.cut()
            await until(lambda: not town.sessions)
            await bridge.erasure.ask(PersonId(ALICE))
            await asyncio.sleep(0.2)
            assert town.done(Retract) == []
        town.mend()
        async with place.bridge() as bridge:
            await town.until(lambda: town.done(Retract))
            await until(lambda: (r := bridge.erasure.report(PersonId(ALICE))) is not None and r.done)


async def test_the_command_asks_the_running_bridge_and_says_what_became_of_it(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.02)
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            await linked(place)
            town.emit(says("Bob", "one"))
            await said(place, by(BOB, "one"))
            url = f"http://{bridge.admin_address}/api/v1/erasures"
            assert await command._erase(url, "wrong", BOB) == 1
            async with aiohttp.ClientSession() as http, http.get(f"{url}?user={BOB}") as answer:
                assert answer.status == 401
            assert await command._erase(url, bridge.admin_token, "bob") == 1
            assert await command._erase(url, bridge.admin_token, BOB) == 0
        assert await command._erase(url, bridge.admin_token, BOB) == 1
        told = capsys.readouterr()
        assert "1 messages:\n  1 taken back on Matrix\n" in told.out
        assert "bob is no user id of a person" in told.err
        assert "has to run" in told.err


# A redaction -------------------------------------------------------------------------------------------------


async def test_a_redaction_is_carried_to_every_link_that_can_and_reported_for_those_that_cannot(
    tmp_path: Path,
) -> None:
    town, village = Town(), Town()
    village.can = msgspec.structs.replace(village.can, verbs=village.can.verbs - {Retract})
    async with town_world(tmp_path, town) as place:
        place.networks["village"] = {"connector": "village", "config": TownConfig(), "name": "Village"}
        place.connectors = {**place.connectors, "village": TownConnector(village)}
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            for network in ("town", "village"):
                await alice.send(room, f"!bridge link {network} {TALK}")
                await said(place, by(BOT, f"now linked to {TALK} on {network.title()}"))
            event = await alice.send(room, "oops")
            await town.until(town.said)
            await village.until(village.said)
            await alice.redact(room, event)
            await town.until(lambda: town.done(Retract))
            told = await said(
                place, by(BOT, "Village cannot take messages back: it can still be read there.")
            )
            assert told.content["m.relates_to"]["m.in_reply_to"]["event_id"] != event
            assert village.done(Retract) == []

            town.emit(says("Bob", "oops too", id="b1"))
            await village.until(lambda: len(village.said()) == 2)
            town.emit(Retraction(chat=TALK, at=now(), sender=person("Bob"), target=MessageId("b1")))
            await until(lambda: readable(place, room, BOB) == [])


@pytest.mark.parametrize("how", ["retracted", "redacted", "erased"])
async def test_what_was_taken_back_is_quoted_no_more(tmp_path: Path, how: str) -> None:
    """Nor do answers to it name who said it, where they were erased."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(says("Bob", "secret plan", id="b1"))
        event = (await said(place, by(BOB, "secret plan"))).event_id
        await alice.reply(room, event, "which plan?")
        assert "secret plan" in str(await _posted(town, "which plan?"))
        match how:
            case "retracted":
                town.emit(Retraction(chat=TALK, at=now(), sender=person("Bob"), target=MessageId("b1")))
            case "redacted":
                await alice.redact(room, event)
            case _:
                await erased(bridge, BOB)
        if how == "redacted":
            await town.until(lambda: town.done(Retract))
        else:
            await said(place, lambda e: e.type == "m.room.redaction")
        await alice.reply(room, event, "that one")
        answer = str(await _posted(town, "that one"))
        assert "secret plan" not in answer
        assert how != "erased" or "Bob" not in answer


async def _posted(town: Town, words: str) -> PostMessage:
    await town.until(lambda: any(_words(deed.verb) == words for deed in town.deeds))
    return next(post for post in town.done(PostMessage) if _words(post) == words)


async def test_that_a_chat_has_agreed_stays_and_who_agreed_or_linked_it_does_not(tmp_path: Path) -> None:
    """Nothing that is kept names the operator, or the Matrix user who wanted the link."""
    town, side = Town(), PortalKey(NetworkId("town"), TALK)
    olga = person("Olga", account="olga-account")
    async with town_world(tmp_path, town, consent="required") as place, place.bridge() as bridge:
        zoe = place.homeserver.user("zoe")
        room = await invited(place, zoe)
        await until(lambda: None in town.sessions)
        members = (Member(person=olga, role=Role.MODERATOR),)
        town.emit(Roster(chat=TALK, at=now(), members=members))
        await zoe.send(room, "!bridge link town #talk")
        await town.until(lambda: re.search(r"bk-\w{4}-\w{4}", str(town.deeds)))
        [code] = re.findall(r"bk-\w{4}-\w{4}", str(town.deeds))[-1:]
        town.emit(says("Olga", f"{code} yes", chat="dm:olga", private=True, sender=olga))
        await said(place, by(BOT, "has agreed to: "))
        await until(lambda: side in bridge.parts.exposures.cleared)
        await until(lambda: place.homeserver.state(room, "m.bridge", "org.bridgekit://town/#talk"))
        town.emit(says("Olga", "hello", sender=olga))
        await said(place, by(ghost("olga"), "hello"))

        await erased(bridge, ghost("olga"))
        await erased(bridge, zoe.id)

        await bridge.store.commit()
        [consent] = await bridge.store.consents.all()
        assert (consent.person, consent.name, consent.account) == ("", wording.ERASED, "")
        assert consent.granted
        assert not consent.ended
        assert consent.at
        assert zoe.id not in consent.wording
        assert side in bridge.parts.exposures.cleared
        assert [link.creator for link in await bridge.store.links.all()] == [BOT]
        assert zoe.id not in [portal.creator for portal in await bridge.store.portals.all()]
        told = place.homeserver.state(room, "m.bridge", "org.bridgekit://town/#talk") or {}
        assert told["creator"] == BOT


async def test_what_a_matrix_user_who_is_erased_has_said_and_no_network_has_yet_is_not_said(
    tmp_path: Path,
) -> None:
    town, goes_on = Town(), asyncio.Event()

    async def slow(_: LoginId | None, verb: Verb) -> None:
        if _words(verb) == "one":
            await goes_on.wait()

    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        zoe = place.homeserver.user("zoe")
        await zoe.join(room)
        town.behave = slow
        await alice.send(room, "one")
        await zoe.send(room, "two")
        await until(lambda: [w.under_way for w in bridge.rooms._workers.values()] == [2])
        await erased(bridge, zoe.id)
        goes_on.set()
        await alice.send(room, "three")
        await town.until(lambda: "<alice> three" in town.said())
        assert town.said() == ["<alice> one", "<alice> three"]


@pytest.mark.parametrize("ahead", [0, 3_600_000], ids=["the_clock_goes_right", "it_was_set_back"])
async def test_what_a_matrix_user_has_said_is_not_said_after_a_crash_right_behind_the_wish_to_be_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The wish is on disk, and nothing of it was done: their words still wait. What they say later is said.

    Where the clock was set back, by `ahead` ms, the ids say that their words came later than the wish.
    """
    monkeypatch.setattr(rooms, "STALLED", 0.1)
    monkeypatch.setattr(rooms, "GRACE", 0.1)
    monkeypatch.setattr(ids, "_last", new_id() + (ahead << 21))
    town, never = Town(), asyncio.Event()

    async def stuck(_: LoginId | None, verb: Verb) -> None:
        if _words(verb) == "one":
            await never.wait()

    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            zoe = place.homeserver.user("zoe")
            await zoe.join(room)
            town.behave = stuck
            await alice.send(room, "one")
            await zoe.send(room, "two")
            await until(lambda: [w.under_way for w in bridge.rooms._workers.values()] == [2])
            bridge.erasure._begin = lambda user: Report(user=user)  # type: ignore[method-assign]
            for _ in range(99):
                new_id()  # as of those who type: nothing of it is on disk
            await bridge.erasure.ask(PersonId(zoe.id))
        town.behave = None
        ids._last = 0  # another process
        async with place.bridge() as bridge:
            await alice.send(room, "three")
            await town.until(lambda: "<alice> three" in town.said())
            assert "<zoe> two" not in town.said()
            await until(lambda: (r := bridge.erasure.report(PersonId(zoe.id))) is not None and r.done)
            await zoe.send(room, "four")
            await town.until(lambda: "<zoe> four" in town.said())


async def test_the_links_to_the_files_of_who_is_erased_are_dead_also_after_a_restart(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, aiohttp.ClientSession() as session:
        place.more["public"] = {"url": f"http://127.0.0.1:{place.port}"}

        async def status(words: str) -> int:
            async with session.get(words.rpartition(" ")[2]) as answer:
                return answer.status

        async with place.bridge() as bridge:
            alice, room = await linked(place)
            zoe = place.homeserver.user("zoe")
            await zoe.join(room)
            await alice.send_file(room, b"cat", name="cat.txt", mimetype="text/plain")
            await zoe.send_file(room, b"dog", name="dog.txt", mimetype="text/plain")
            await town.until(lambda: len(town.said()) == 2)
            cat, dog = town.said()
            assert [await status(cat), await status(dog)] == [200, 200]
            await erased(bridge, zoe.id)
            assert [await status(cat), await status(dog)] == [200, 404]
        async with place.bridge() as bridge:
            assert [await status(cat), await status(dog)] == [200, 404]
            await zoe.send_file(room, b"bird", name="bird.txt", mimetype="text/plain")
            await town.until(lambda: len(town.said()) == 3)
            assert await status(town.said()[-1]) == 200


@pytest.mark.parametrize("ahead", [3_600_000, -3_600_000])
async def test_a_homeserver_whose_clock_is_wrong_leaves_no_file_of_who_is_erased_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """What an event's `origin_server_ts` says is its server's word: what came before the erasure, the bridge knows."""
    town = Town()
    async with town_world(tmp_path, town) as place, aiohttp.ClientSession() as session:
        place.more["public"] = {"url": f"http://127.0.0.1:{place.port}"}

        async def status(words: str) -> int:
            async with session.get(words.rpartition(" ")[2]) as answer:
                return answer.status

        async with place.bridge() as bridge:
            _, room = await linked(place)
            zoe = place.homeserver.user("zoe")
            await zoe.join(room)
            wall = place.homeserver.world._wall
            monkeypatch.setattr(place.homeserver.world, "_wall", lambda: wall() + ahead)
            await zoe.send_file(room, b"dog", name="dog.txt", mimetype="text/plain")
            await town.until(lambda: len(town.said()) == 1)
            await erased(bridge, zoe.id)
            await zoe.send_file(room, b"bird", name="bird.txt", mimetype="text/plain")
            await town.until(lambda: len(town.said()) == 2)
            dog, bird = town.said()
            assert [await status(dog), await status(bird)] == [404, 200]


async def test_who_has_nodded_or_agreed_and_is_erased_is_named_nowhere(tmp_path: Path) -> None:
    town = Town()
    quarantine = {"quarantine": "strangers"}
    async with town_world(tmp_path, town, shield=quarantine) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(says("Eve", "one"), says("Mia", "two"))
        await said(place, by(BOT, wording.quarantined("Mia", TALK)))
        await alice.send(room, "!bridge accept Eve")
        await said(place, by(ghost("eve"), "one"))
        boss = person("Boss", account="boss")
        members = (Member(person=boss, role=Role.MODERATOR),)
        town.emit(Roster(chat=TALK, at=now(), members=members))
        town.emit(says("Boss", "!bridge accept Mia", sender=boss))
        await said(place, by(ghost("mia"), "two"))
        agreement = Agreement(
            id=7,
            room=room,
            side=PortalKey(NetworkId("town"), TALK),
            person=PersonId(alice.id),
            at=1,
            wording="it goes on in clear",
            to=Downgrade(toward=Toward.LINK, least=Protection.CLEAR),
            ended=2,
            ended_by=alice.id,
        )
        await bridge.store.commit(bridge.store.agreements.put(agreement))

        await erased(bridge, alice.id)
        await erased(bridge, ghost("boss"))

        await bridge.store.commit()
        assert [nod.by for nod in await bridge.store.nods.all()] == [wording.ERASED] * 2
        [kept] = await bridge.store.agreements.all()
        assert (kept.person, kept.ended_by) == ("", wording.ERASED)


async def test_what_an_erased_stranger_has_said_and_nobody_let_through_is_gone_from_the_disk(
    tmp_path: Path,
) -> None:
    town = Town()
    quarantine = {"quarantine": "strangers"}
    async with town_world(tmp_path, town, shield=quarantine) as place, place.bridge() as bridge:
        await linked(place)
        town.emit(says("Eve", "one"), says("Mia", "two"))
        await said(place, by(BOT, wording.quarantined("Mia", TALK)))
        side = PortalKey(NetworkId("town"), TALK)
        await until(lambda: bridge.parts.holding.count(side) == 2)

        await bridge.store.commit()
        await erased(bridge, ghost("eve"))

        await bridge.store.commit()
        assert [row.person for row in await bridge.store.held.all()] == ["mia"]
        assert await bridge.store.inbox.count() == 1
