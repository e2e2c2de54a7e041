"""People's own accounts: asked for, opened by the first words, refused, taken away; and double puppets."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.connector import LoginField, OwnAccounts
from bridgekit.contract.errors import Disconnected, LoginBanned
from bridgekit.contract.facts import Edit, Invitation, Reaction, Retraction
from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import EditMessage, Join, Leave, PostMessage, React, Retract
from bridgekit.runtime.networks import sessions
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.testing.homeserver import Fail, Human
from tests.runtime.fake_network import TALK, Town, TownConfig, TownConnector, now, person, says
from tests.runtime.running import (
    BOT,
    SERVER,
    STATUS,
    World,
    by,
    emptied,
    ghost,
    invited,
    linked,
    said,
    town_world,
    until,
)

TOWN = NetworkId("town")
ALICE_ID = PersonId(f"@alice:{SERVER}")
ALICE = LoginId(f"town/{ALICE_ID}")
PASSWORD = "correct horse"


async def management(place: World, alice: Human) -> str:
    """A direct room of Alice and the bot, in which the bot may take messages back."""
    room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[BOT])
    await said(place, lambda e: e.room_id == room and e.sender == BOT and "Every word here" in e.body)
    return room


async def test_who_asks_for_an_account_speaks_with_it(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "through the relay")
        await town.until(lambda: town.said() == ["<alice> through the relay"])
        await alice.send(await management(place, alice), "login town")
        await until(lambda: ALICE in town.sessions)
        await alice.send(room, "by myself")
        await town.until(lambda: town.done(PostMessage, ALICE))
        assert [p.content.text.body for p in town.done(PostMessage, ALICE)] == ["by myself"]
        assert [j.chat for j in town.done(Join, ALICE)] == [TALK]  # before the first words, and once
        await alice.send(await management(place, alice), "logout town")
        await said(place, by(BOT, "taken away from the bridge, with its password"))
        assert [login.id for login in town.left] == [ALICE], "the network forgets what it keeps of it, too"
        await alice.send(room, "relayed again")
        await town.until(lambda: town.said()[-1] == "<alice> relayed again")


async def test_an_account_that_is_gone_is_not_let_back_by_who_still_knows_of_it(tmp_path: Path) -> None:
    """A policy list that is read meanwhile goes through the accounts that there were."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "!bridge login town")
        await until(lambda: ALICE in town.sessions)
        known = bridge.registry.logins[ALICE].login
        await bridge.accounts.close(TOWN, ALICE)
        await bridge.accounts.suspend(TOWN, known, because="")
        assert (TOWN, ALICE) not in bridge.accounts.sessions


async def test_where_there_are_no_own_accounts_nobody_logs_in(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        await alice.send(await management(place, alice), "login town")
        await said(place, by(BOT, "Town is set up without accounts of your own"))
        assert bridge.registry.logins == {}


async def test_the_first_words_open_an_account_where_everybody_has_their_own(tmp_path: Path) -> None:
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place:
        place.more["permissions"] = {"@alice:hs.test": "admin", "@carol:hs.test": "relay", "*": "user"}
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send(room, "hello")
            await town.until(lambda: town.done(PostMessage, ALICE))
            carol = place.homeserver.user("carol")
            await carol.join(room)
            await carol.send(room, "me too")
            await town.until(lambda: "<carol> me too" in town.said())
            assert [login.owner for login in town.logins if login] == [alice.id]


async def test_first_words_in_two_rooms_at_once_open_one_account(tmp_path: Path) -> None:
    """Two at once left a connection behind that nobody could close: it stayed on the network after `logout`."""
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        first, second = await asyncio.gather(*(bridge.accounts.ensure(TOWN, ALICE_ID) for _ in range(2)))
        assert first == second == ALICE
        await until(lambda: town.sessions.get(ALICE))
        assert [login.id for login in town.logins if login] == [ALICE]
        await asyncio.gather(bridge.accounts.open(TOWN, ALICE_ID), bridge.accounts.close(TOWN, ALICE))
        assert bridge.registry.logins == {}
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("session")] == [
            "session town"  # the relay's
        ]


async def test_an_account_that_is_rejected_is_heard_through_the_relay_and_its_owner_is_told_once(
    tmp_path: Path,
) -> None:
    town = Town(OwnAccounts.AUTOMATIC)
    town.rejected[PersonId(f"@alice:{SERVER}")] = "Town does not know this password."
    told = "Your account on Town cannot be used: Town does not know this password."
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send(room, "one")
            await alice.send(room, "two")
            await town.until(lambda: len(town.said()) == 2)
            assert town.said() == ["<alice> one", "<alice> two"]
            event = await said(place, by(BOT, told))
            assert event.room_id != room
            assert alice.id in place.homeserver.members(event.room_id)
        async with place.bridge():
            await alice.send(room, "three")
            await town.until(lambda: len(town.said()) == 3)
            await asyncio.sleep(0.2)
            assert [e.body for e in place.homeserver.events() if told in e.body] == [told]


async def test_where_the_first_words_cannot_open_an_account_they_are_relayed(tmp_path: Path) -> None:
    town = Town(OwnAccounts.AUTOMATIC)
    town.fields = (LoginField(name="password", title="your password", password=True, required=True),)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "hello")
        await town.until(lambda: town.said() == ["<alice> hello"])


async def test_a_password_is_in_no_room_no_log_and_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    town = Town()
    town.fields = (LoginField(name="password", title="your password", password=True, required=True),)
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await management(place, alice)
            await alice.send(room, "login town")
            await said(place, by(BOT, "Town also needs: your password."))
            await alice.send(room, "login town pasword=x")
            await said(place, by(BOT, "Town knows no pasword"))
            event = await alice.send(room, f'login town password="{PASSWORD}"')
            await until(lambda: ALICE in town.sessions)
            await said(place, lambda e: e.type == "m.room.redaction" and e.redacts == event)
            [redacted] = [e for e in place.homeserver.timeline(room) if e.event_id == event]
            assert redacted.content == {}
            everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
            assert PASSWORD.encode() not in everything
        async with place.bridge():
            await until(lambda: ALICE in town.sessions)
        assert [login.fields for login in town.logins if login] == [{"password": PASSWORD}] * 2
        everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        assert PASSWORD.encode() not in everything
        assert PASSWORD not in caplog.text + capsys.readouterr().out


async def test_an_account_is_used_in_the_direct_chats_that_it_sees_until_it_is_taken_away(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await management(place, alice)
        await alice.send(room, "login town")
        await until(lambda: ALICE in town.sessions)
        await alice.send(room, "chat town Bob")
        await said(place, by(BOT, "You are invited to a room with Bob"))
        [direct] = place.homeserver.invitations(alice.id)
        assert ghost("bob") in place.homeserver.joined(direct)
        town.emit(says("Bob", "hi", chat="dm:bob", private=True), login=ALICE)
        assert (await said(place, by(ghost("bob"), "hi"))).room_id == direct
        # Who is at the other end learns neither that there is a bridge nor who is on it.
        town.emit(says("Bob", "!bridge", chat="dm:bob", private=True), login=ALICE)
        await alice.send(room, "logout town")
        await until(lambda: not bridge.registry.links)
        assert town.done(PostMessage) == []
        await until(lambda: place.homeserver.joined(direct) == [])


async def test_somebody_whose_account_does_not_come_back_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.traffic.performing.OWN_ACCOUNT_SECONDS", 3)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        await alice.send(room, "by myself")
        await town.until(lambda: town.done(PostMessage, ALICE))
        monkeypatch.setattr(Supervised, "_once", _never)
        town.sessions[ALICE].lose()
        began = time.monotonic()
        for n in range(10):
            await alice.send(room, f"relayed {n}")
        await town.until(lambda: len(town.said()) == 11)
        assert town.said()[1:] == [f"<alice> relayed {n}" for n in range(10)]
        assert time.monotonic() - began < 25  # once three seconds, and not once for each message


async def test_an_account_goes_where_its_owner_goes(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await linked(place)
        [room] = [link.room for link in bridge.registry.links.values()]
        carol = place.homeserver.user("carol")
        login = await bridge.accounts.open(TOWN, PersonId(carol.id))
        await until(lambda: login in town.sessions)
        await carol.join(room)
        await town.until(lambda: town.done(Join, login))
        await carol.leave(room)
        await town.until(lambda: town.done(Leave, login))
        await carol.join(room)
        await carol.send(room, "back")
        await town.until(lambda: town.done(PostMessage, login))
        assert type(town.deeds[-2].verb) is Join


async def test_the_relay_stays_when_somebody_leaves_whose_account_is_no_use(tmp_path: Path) -> None:
    """A network had banned one person; when they left the room, the relay left the channel in their place."""
    town = Town(OwnAccounts.AUTOMATIC)
    town.rejected[PersonId(f"@carol:{SERVER}")] = "Town has banned you."
    async with town_world(tmp_path, town, gate="relay-allowed") as place, place.bridge() as bridge:
        _, room = await linked(place)
        carol = place.homeserver.user("carol")
        await carol.join(room)
        await carol.send(room, "relayed")
        await town.until(lambda: "<carol> relayed" in town.said())
        await carol.leave(room)
        await emptied(bridge)
        assert town.done(Leave) == []
        town.emit(says("Bob", "still heard"))
        await said(place, by(ghost("bob"), "still heard"))


async def test_whom_the_network_has_banned_is_not_heard_through_the_relay(tmp_path: Path) -> None:
    """It is the network's ban, and the bridge is no way around it; an account that is merely refused may be relayed."""
    town = Town(OwnAccounts.AUTOMATIC)
    town.rejected[PersonId(f"@carol:{SERVER}")] = "You are banned from this town: spam"
    town.rejection = LoginBanned
    async with town_world(tmp_path, town, gate="relay-allowed") as place, place.bridge():
        _, room = await linked(place)
        carol, dave = place.homeserver.user("carol"), place.homeserver.user("dave")
        await carol.join(room)
        await dave.join(room)
        event = await carol.send(room, "and now?")
        fate = await said(
            place, lambda e: e.type == STATUS and e.content["m.relates_to"]["event_id"] == event
        )
        assert fate.content["status"] == "FAIL_PERMANENT"
        assert "Town has banned your account there" in fate.content["message"]
        await dave.send(room, "I am heard")
        await town.until(lambda: "I am heard" in " ".join(town.said()))
        assert "and now?" not in " ".join(town.said())


async def test_the_admins_hear_once_that_a_network_has_turned_the_bridge_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LONGEST_STAY", 0.05)
    town = Town()
    town.ban = "You are banned from this town: spam"
    town.rejection = partial(LoginBanned, retry_after=0.01)
    why = "You are banned from this town: spam. The bridge tries again by itself, ever more seldom: once a day at last."
    told = f"Town has turned the bridge away, and nothing passes to it or from it until that is mended: {why}"
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        event = await said(place, by(BOT, told))
        assert ALICE_ID in place.homeserver.members(event.room_id)
        assert bridge.accounts.status(TOWN) == f"rejected: {why}"
        await until(lambda: len(town.logins) > 3)
        assert [e.body for e in place.homeserver.events() if told in e.body] == [told]
        town.ban = ""
        await until(lambda: bridge.accounts.is_ready(TOWN))


async def test_an_account_that_was_away_when_its_owner_left_leaves_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.traffic.performing.OWN_ACCOUNT_SECONDS", 0.3)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        carol = place.homeserver.user("carol")
        login = await bridge.accounts.open(TOWN, PersonId(carol.id))
        await until(lambda: login in town.sessions)
        await carol.join(room)
        await town.until(lambda: town.done(Join, login))
        with monkeypatch.context() as away:
            away.setattr(Supervised, "_once", _never)
            town.sessions[login].lose()
            await until(lambda: login not in town.sessions)
            await carol.leave(room)
            await emptied(bridge)
            assert town.done(Leave) == []
        await town.until(lambda: town.done(Leave, login))
        assert [leave.chat for leave in town.done(Leave)] == [TALK]


async def _never(self: Supervised) -> None:
    raise Disconnected("The town is cut off for this account.")


# Permissions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "heard", "may_link", "may_log_in"),
    [
        ("none", False, False, False),
        ("relay", True, False, False),
        ("user", True, True, True),
        ("admin", True, True, True),
    ],
)
async def test_each_level_may_do_what_it_says(
    tmp_path: Path, level: str, heard: bool, may_link: bool, may_log_in: bool
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more["permissions"] = {"@alice:hs.test": "admin", "@carol:hs.test": level}
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            carol = place.homeserver.user("carol")
            await carol.join(room)
            await alice.set_power(room, carol.id, 50)
            await carol.send(room, "hello")
            await carol.send(room, "!bridge link town #other")
            await carol.send(room, "!bridge login town")
            await alice.send(room, "the end")
            await town.until(lambda: "<alice> the end" in town.said())
            await until(lambda: len(bridge.registry.links) == 2 or not may_link)
            await until(lambda: carol.id in bridge.registry.logins_on(TOWN) or not may_log_in)
            await asyncio.sleep(0.2)
            assert ("<carol> hello" in town.said()) is heard
            assert (len(bridge.registry.links) == 2) is may_link
            assert (carol.id in bridge.registry.logins_on(TOWN)) is may_log_in
            room = await carol.create_room(invite=[BOT])
            await until(lambda: place.homeserver.members(room)[BOT] in ("join", "leave"))
            assert (place.homeserver.members(room)[BOT] == "join") is may_link


# Double puppets ----------------------------------------------------------------------------------------------


def own(words: str, id: str, **more: Any) -> Any:
    """What Alice says in town from elsewhere."""
    me = Person(id=PersonId("own-alice"), name="alice")
    return says("alice", words, sender=me, id=id, own=ALICE, **more)


async def test_what_is_said_with_ones_own_account_elsewhere_carries_ones_own_name(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, place.bridge() as bridge:
        alice, _ = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(own("from my phone", "m1"))
        event = await said(place, by(alice.id, "from my phone"))
        me = Person(id=PersonId("own-alice"), name="alice")
        town.emit(
            Edit(
                chat=TALK, at=now(), sender=me, target=MessageId("m1"), content=Content(text=plain("edited"))
            )
        )
        edit = await said(place, by(alice.id, "* edited"))
        assert edit.relates_to["event_id"] == event.event_id
        town.emit(
            Reaction(chat=TALK, at=now(), sender=me, target=MessageId("m1"), key="+1", id=MessageId("r"))
        )
        await said(place, lambda e: e.type == "m.reaction" and e.sender == alice.id)
        town.emit(Retraction(chat=TALK, at=now(), sender=me, target=MessageId("m1")))
        await said(place, lambda e: e.type == "m.room.redaction" and e.sender == alice.id)
        town.emit(says("Bob", "the end"))
        await said(place, by(ghost("bob"), "the end"))
        await asyncio.sleep(0.2)
        # Nothing of it goes back to where it came from.
        assert town.said() == []
        assert [town.done(kind) for kind in (EditMessage, React, Retract)] == [[], [], []]


async def test_a_redaction_by_a_double_puppet_that_comes_back_after_a_restart_is_not_passed_on(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await bridge.accounts.open(TOWN, PersonId(alice.id))
            await until(lambda: ALICE in town.sessions)
            town.emit(own("from my phone", "m1"))
            await said(place, by(alice.id, "from my phone"))
            await place.homeserver.settled()
            place.homeserver.withhold()
            me = Person(id=PersonId("own-alice"), name="alice")
            town.emit(Retraction(chat=TALK, at=now(), sender=me, target=MessageId("m1")))
            await said(place, lambda e: e.type == "m.room.redaction" and e.sender == alice.id)
            await until(lambda: place.homeserver.withheld)
            await emptied(bridge)
        async with place.bridge():
            await until(lambda: ALICE in town.sessions)
            await place.homeserver.release()
            await alice.send(room, "the end")
            await town.until(lambda: "the end" in town.said())
            assert town.done(Retract) == []


async def test_what_one_said_oneself_is_not_edited_by_ones_ghost_nor_the_other_way_round(
    tmp_path: Path,
) -> None:
    """Client-Server API, "Validity of replacement events": of an event of another sender, no client shows an edit."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, place.bridge() as bridge:
        _, room = await linked(place)
        carol = place.homeserver.user("carol")
        login = await bridge.accounts.open(TOWN, PersonId(carol.id))
        await until(lambda: login in town.sessions)
        me = Person(id=PersonId("own-carol"), name="carol")

        def edits(target: str, words: str) -> Edit:
            content = Content(text=plain(words))
            return Edit(chat=TALK, at=now(), sender=me, target=MessageId(target), content=content)

        town.emit(says("carol", "as myself", sender=me, id="m1", own=login))
        await said(place, by(carol.id, "as myself"))
        await carol.leave(room)
        town.emit(says("carol", "as a ghost", sender=me, id="m2", own=login))
        await said(place, by(ghost("own-carol"), "as a ghost"))
        town.emit(edits("m1", "edited by a ghost"))
        anew = await said(place, by(ghost("own-carol"), "edited by a ghost"))
        await carol.join(room)
        town.emit(edits("m2", "edited as myself"))
        edit = await said(place, by(ghost("own-carol"), "edited as myself"))
        assert anew.relates_to == {}
        assert edit.relates_to["rel_type"] == "m.replace"


async def test_without_double_puppets_the_ghost_of_ones_account_speaks(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, _ = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(own("from my phone", "m1"))
        await said(place, by(ghost("own-alice"), "from my phone"))


async def test_a_double_puppet_that_is_not_in_the_room_enters_or_lets_its_ghost_speak(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        carol = place.homeserver.user("carol")
        login = await bridge.accounts.open(TOWN, PersonId(carol.id))
        await until(lambda: login in town.sessions)
        me = Person(id=PersonId("own-carol"), name="carol")
        town.emit(says("carol", "let me in", sender=me, own=login))
        await said(place, by(carol.id, "let me in"))
        await alice.ban(room, carol.id)
        town.emit(says("carol", "and now?", sender=me, own=login))
        await said(place, by(ghost("own-carol"), "and now?"))


async def test_what_somebody_forwards_of_the_bridges_own_is_heard(tmp_path: Path) -> None:
    """Clients forward the whole content, with the marks by which the bridge knows its own."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        other = await invited(place, alice)
        await alice.send(other, "!bridge link town #other")
        await said(place, by(BOT, "now linked to #other"))
        town.emit(says("Bob", "from Bob"), own("from my phone", "m1"))
        for where, sender, words in ((room, ghost("bob"), "from Bob"), (other, alice.id, "from my phone")):
            event = await said(place, by(sender, words))
            assert event.content["org.bridgekit.source"]
            await alice.send(where, dict(event.content))
            await town.until(lambda words=words: words in town.said() + town.said("#other"))  # type: ignore[misc]
        assert (town.said(), town.said("#other")) == (["from Bob"], ["from my phone"])


@pytest.mark.parametrize("pending", [False, True])
async def test_what_somebody_forwards_of_their_own_into_the_same_room_is_heard(
    tmp_path: Path, pending: bool
) -> None:
    """The mark is that of the first event. `pending`: another side of the room does not have the first one yet."""
    town, other = Town(), Town()
    async with town_world(tmp_path, town, double_puppets=True) as place:
        place.networks["other"] = {"connector": "other", "config": TownConfig()}
        place.connectors["other"] = TownConnector(other)
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "!bridge link other #talk")
            await said(place, by(BOT, "linked to #talk on other"))
            await bridge.accounts.open(TOWN, PersonId(alice.id))
            await until(lambda: ALICE in town.sessions)
            if pending:
                other.cut()
            town.emit(own("from my phone", "m1"))
            event = await said(place, by(alice.id, "from my phone"))
            await place.homeserver.settled()
            if not pending:
                await emptied(bridge)
            await alice.send(room, dict(event.content))
            await town.until(lambda: town.said() == ["from my phone"])
            other.mend()
        async with place.bridge():
            await other.until(lambda: len(other.said()) == 2)
            await until(lambda: ALICE in town.sessions)
            await alice.send(room, dict(event.content))
            await alice.send(room, "the end")
            await town.until(lambda: town.said()[-1:] == ["the end"])
            assert town.said() == ["from my phone", "from my phone", "the end"]


async def test_an_echo_that_comes_after_a_restart_is_one_and_what_is_forwarded_of_it_is_not(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await bridge.accounts.open(TOWN, PersonId(alice.id))
            await until(lambda: ALICE in town.sessions)
            await place.homeserver.settled()
            place.homeserver.withhold()
            me = Person(id=PersonId("own-alice"), name="alice")
            content = Content(text=plain("edited"))
            town.emit(
                own("from my phone", "m1"),
                Edit(chat=TALK, at=now(), sender=me, target=MessageId("m1"), content=content),
            )
            event = await said(place, by(alice.id, "from my phone"))
            await said(place, by(alice.id, "* edited"))
            await alice.send(room, dict(event.content))
            await emptied(bridge)
        async with place.bridge():
            await until(lambda: ALICE in town.sessions)
            await place.homeserver.release()
            await alice.send(room, "the end")
            await town.until(lambda: "the end" in town.said())
            assert (town.said(), town.done(EditMessage)) == (["from my phone", "the end"], [])


@pytest.mark.parametrize("kicked", [False, True])
async def test_who_left_a_room_or_was_put_out_is_not_brought_back_by_what_they_say_elsewhere(
    tmp_path: Path, kicked: bool
) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        carol = place.homeserver.user("carol")
        login = await bridge.accounts.open(TOWN, PersonId(carol.id))
        await until(lambda: login in town.sessions)
        await carol.join(room)
        await (alice.kick(room, carol.id) if kicked else carol.leave(room))
        me = Person(id=PersonId("own-carol"), name="carol")
        town.emit(says("carol", "still here", sender=me, own=login))
        await said(place, by(ghost("own-carol"), "still here"))
        assert place.homeserver.members(room)[carol.id] == "leave"


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "M_USER_SUSPENDED"), (401, "M_USER_LOCKED"), (403, "M_USER_DEACTIVATED"), (400, "M_EXCLUSIVE")],
)
async def test_the_ghost_speaks_for_whom_the_homeserver_lets_do_nothing(
    tmp_path: Path, status: int, code: str
) -> None:
    """Client-Server API, "Account suspension" and "Account locking": everything that they do is refused."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, place.bridge() as bridge:
        alice, _ = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(own("from my phone", "m1"))
        event = await said(place, by(alice.id, "from my phone"))
        place.homeserver.fault("PUT */rooms/*", Fail(status=status, errcode=code), user=alice.id)
        place.homeserver.fault("POST */join/*", Fail(status=status, errcode=code), user=alice.id)
        me = Person(id=PersonId("own-alice"), name="alice")
        town.emit(own("and now?", "m2"), Retraction(chat=TALK, at=now(), sender=me, target=MessageId("m1")))
        await said(place, by(ghost("own-alice"), "and now?"))
        taken = await said(place, lambda e: e.type == "m.room.redaction")
        assert (taken.sender, taken.redacts) == (BOT, event.event_id)


async def test_what_one_says_from_elsewhere_in_a_new_direct_chat_makes_its_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(own("hi Bob", "m1", chat="dm:bob", private=True), login=ALICE)
        event = await said(place, by(ghost("own-alice"), "hi Bob"))
        assert ghost("bob") in place.homeserver.joined(event.room_id)
        assert bridge.registry.links_of(ChatId(event.room_id))[0].key.chat == "dm:bob"


async def test_who_asks_to_be_a_contact_is_answered_by_the_owner_alone(tmp_path: Path) -> None:
    """An invitation is the question: joining is a yes, declining a no, and until then nothing is answered."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await place.homeserver.user("alice").ready()
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        for who in ("Bob", "Eve"):
            asks = Invitation(chat=ChatId(f"dm:{who.lower()}"), at=now(), private=True, sender=person(who))
            town.emit(asks, login=ALICE)
            await until(
                lambda who=who: any(  # type: ignore[misc]
                    ghost(who.lower()) in place.homeserver.joined(room)
                    for room in place.homeserver.invitations(alice.id)
                )
            )
        assert town.done(Join, ALICE) == []
        assert town.done(Leave, ALICE) == []
        rooms = {
            who: room
            for room in place.homeserver.invitations(alice.id)
            for who in ("bob", "eve")
            if ghost(who) in place.homeserver.joined(room)
        }
        await alice.join(rooms["bob"])
        await town.until(lambda: [j.chat for j in town.done(Join, ALICE)] == ["dm:bob"])
        await alice.leave(rooms["eve"])
        await town.until(lambda: [j.chat for j in town.done(Leave, ALICE)] == ["dm:eve"])


async def test_who_is_asked_into_a_chat_is_told_and_asked_what_to_do(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await place.homeserver.user("alice").ready()
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(Invitation(chat=ChatId("#den"), at=now(), sender=person("Bob"), name="#Den"), login=ALICE)
        event = await said(place, by(BOT, "Bob asks you into #Den on Town."))
        assert place.homeserver.invitations(alice.id) == [event.room_id]
        assert town.done(Join) == []


async def test_who_was_asked_into_a_chat_is_told_also_behind_a_crash(tmp_path: Path) -> None:
    """The network has told it once, and will not say it again: it is on disk before anything is done about it."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = await place.homeserver.user("alice").ready()
        async with place.bridge() as bridge:
            await bridge.accounts.open(TOWN, PersonId(alice.id))
            await until(lambda: ALICE in town.sessions)
            place.homeserver.fault("POST */createRoom", Fail(status=502))
            asked = Invitation(chat=ChatId("#den"), at=now(), sender=person("Bob"), name="#Den")
            town.emit(asked, login=ALICE)
            async with asyncio.timeout(60):
                while not await bridge.store.inbox.count():  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.02)
        place.homeserver.heal()
        async with place.bridge() as bridge:
            await said(place, by(BOT, "Bob asks you into #Den on Town."))
            async with asyncio.timeout(60):
                while await bridge.store.inbox.count():  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.02)
            assert await bridge.store.inbox.parked() == []
