"""Private conversations: between whom they may begin, who blocks whom, and what whoever is turned away is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.facts import Invitation, Message, Profile
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Kind, Person, Role
from bridgekit.contract.verbs import Leave, PostMessage
from bridgekit.core.rates import Rate
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.linking import contacts
from bridgekit.testing.homeserver import Human
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.gates.test_consenting import roster, told
from tests.runtime.running import (
    BOT,
    World,
    by,
    emptied,
    ghost,
    has_fate,
    linked,
    membership,
    said,
    town_world,
    until,
)

TOWN = NetworkId("town")
ALICE = LoginId("town/@alice:hs.test")
BOB = ghost("bob")
DIRECT = PortalKey(TOWN, ChatId("dm:bob"), ALICE)
TALK_THERE = PortalKey(TOWN, TALK)
TAKES_NONE = "bob does not take private messages from you."
NOT_TAKEN = (
    "This was not passed on to Matrix: by this bridge people there are written to by those who are in a linked chat "
    "with them."
)


async def signed_in(place: World, town: Town, bridge: Bridge) -> Human:
    """Alice, with an account in town."""
    alice = place.homeserver.user("alice")
    await bridge.accounts.open(TOWN, PersonId(alice.id))
    await until(lambda: ALICE in town.sessions)
    return alice


def whispers(words: str, sender: Person | None = None, kind: Kind = Kind.TEXT) -> Message:
    return says("Bob", words, chat="dm:bob", private=True, sender=sender, kind=kind)


async def asks(alice: Human) -> str:
    """A room into which Alice asks Bob alone."""
    return await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[BOB])


async def declined(place: World) -> str:
    """Why Bob did not come."""
    return str((await said(place, membership(BOB, "leave"))).content["reason"])


def nothing_kept(bridge: Bridge) -> Callable[[], bool]:
    """Whether no fact waits on disk any more."""
    return lambda: bridge._parts.rooms.depth()[0] == 0


async def fate(place: World, alice: Human, room: str, words: str) -> str:
    """Why it failed; "" where it was delivered."""
    event = await alice.send(room, words)
    return str((await said(place, has_fate(event))).content.get("message", ""))


async def test_a_stranger_is_not_written_to_and_the_inviter_reads_what_to_do(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        await asks(alice)
        assert await declined(place) == (
            "On Town private conversations are for people who share a linked chat: join a room that is linked to a "
            "chat where bob is."
        )
        assert bridge.registry.links == {}
        assert town.done(PostMessage) == []


async def test_no_account_is_opened_for_who_may_not_write(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await asks(place.homeserver.user("alice"))
        await declined(place)
        assert bridge.registry.logins == {}


async def test_who_is_in_a_chat_of_a_room_that_one_is_in_is_no_stranger(tmp_path: Path) -> None:
    """The roster is enough: Bob has said nothing, and has no ghost."""
    town = Town()
    async with town_world(tmp_path, town, members="active") as place, place.bridge() as bridge:
        alice, _ = await linked(place)
        town.emit(roster((person("Bob"), Role.NONE)))
        await until(lambda: bridge._parts.crowds.of(TALK_THERE).known)
        room = await asks(alice)
        await said(place, membership(BOB, "join"))
        assert await fate(place, alice, room, "psst") == ""
        assert town.said("dm:bob") == ["psst"]


async def test_who_is_in_a_linked_chat_is_a_stranger_to_those_who_are_not_in_its_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(BOB, "hello"))
        room = await asks(place.homeserver.user("carol"))
        left = await said(place, lambda e: membership(BOB, "leave")(e) and e.room_id == room)
        assert "are for people who share a linked chat" in left.content["reason"]


async def test_a_chat_that_is_not_open_makes_nobody_known(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="required") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        room = await alice.create_room(preset="public_chat", invite=[BOT])
        await said(place, membership(BOT, "join"))
        await alice.set_power(room, BOT, 100)
        await alice.send(room, "!bridge link town #talk")
        await until(lambda: bridge.registry.links_of(ChatId(room)))
        town.emit(roster((person("Bob"), Role.NONE)))
        await asks(alice)
        assert "are for people who share" in await declined(place)


async def test_what_a_network_allows_can_be_asked(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "!bridge networks")
        await said(place, by(BOT, "private conversations with people of linked chats"))


async def test_the_command_refuses_a_stranger_with_the_same_words(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        await alice.send(room, "!bridge chat town Bob")
        await said(place, by(BOT, "linked to a chat where Bob is."))
        assert DIRECT not in bridge.registry.links


async def test_a_service_is_nobodys_stranger(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        await alice.send(room, "!bridge chat town townhall")
        await said(place, by(BOT, "You are invited to a room with townhall"))


async def test_a_stranger_of_the_network_is_turned_away_and_told_once(tmp_path: Path) -> None:
    """The Matrix user hears nothing of it; the admin reads how many there were."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(whispers("buy"), whispers("this"), whispers("now"), login=ALICE)
        await until(lambda: bridge._parts.directs.turned_away[TOWN] == 3)
        await town.until(lambda: told(town, "bob"))
        assert told(town, "bob") == [NOT_TAKEN]
        assert [post.chat for post in town.done(PostMessage, ALICE)] == ["dm:bob"]  # from whom they wrote to
        assert place.homeserver.invitations(alice.id) == []
        assert DIRECT not in bridge.registry.links
        counted = (await bridge.metrics.exposition()).decode()
        assert 'bridgekit_turned_away_total{network="town"} 3.0' in counted
        assert [(n.network, n.turned_away) for n in bridge._parts.desk.networks()] == [("town", 3)]
        await alice.send(room, "!bridge networks")
        await said(place, by(BOT, "people of linked chats (3 private messages turned away since the start)"))
        await until(nothing_kept(bridge))


async def test_many_strangers_do_not_make_an_account_write_to_many(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await signed_in(place, town, bridge)
        for number in range(30):
            words = says(f"Eve{number}", "buy", chat=f"dm:eve{number}", private=True)
            town.emit(words, login=ALICE)
        await until(lambda: bridge._parts.directs.turned_away[TOWN] == 30)
        await town.until(lambda: len(town.done(PostMessage, ALICE)) >= 10)
        assert len(town.done(PostMessage, ALICE)) < 20  # ten at once, and one more every six seconds


async def test_who_writes_on_and_on_costs_no_request_a_line_and_is_heard_once_the_room_is_shared(
    tmp_path: Path,
) -> None:
    """Bob is in a linked chat: who is in its room is asked once, and again when somebody came."""
    town = Town()
    async with town_world(tmp_path, town, members="active") as place, place.bridge() as bridge:
        _, room = await linked(place)
        carol = place.homeserver.user("carol")
        login = LoginId(f"town/{carol.id}")
        await bridge.accounts.open(TOWN, PersonId(carol.id))
        await until(lambda: login in town.sessions)
        town.emit(roster((person("Bob"), Role.NONE)))
        await until(lambda: bridge._parts.crowds.of(TALK_THERE).known)
        before = place.homeserver.calls["GET rooms/*/joined_members"]
        for number in range(20):
            town.emit(whispers(f"buy {number}"), login=login)
        await until(lambda: bridge._parts.directs.turned_away[TOWN] == 20)
        assert place.homeserver.calls["GET rooms/*/joined_members"] - before == 1
        await carol.join(room)
        await until(lambda: ChatId(room) not in bridge._parts.directs._joined)
        town.emit(whispers("psst"), login=login)
        await said(place, by(BOB, "psst"))


async def test_who_shares_a_linked_chat_is_heard(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, members="active") as place, place.bridge() as bridge:
        alice, _ = await linked(place)
        await bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: ALICE in town.sessions)
        town.emit(roster((person("Bob"), Role.NONE)))
        await until(lambda: bridge._parts.crowds.of(TALK_THERE).known)
        town.emit(whispers("psst"), login=ALICE)
        await said(place, by(BOB, "psst"))
        assert told(town, "bob") == []


async def test_to_whom_one_wrote_from_elsewhere_is_no_stranger(tmp_path: Path) -> None:
    """With the same account, in another client of the network."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        mine = says("Alice", "are you there?", chat="dm:bob", private=True, own=ALICE)
        town.emit(mine, whispers("yes"), login=ALICE)
        await said(place, by(BOB, "yes"))
        assert told(town, "bob") == []
        assert len(place.homeserver.invitations(alice.id)) == 1


async def test_where_people_are_asked_first_nobody_is_a_stranger(tmp_path: Path) -> None:
    """The network has its own consent: it is not asked for twice."""
    town = Town()
    town.asks_first = True
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        room = await asks(alice)
        await said(place, membership(BOB, "join"))
        assert await fate(place, alice, room, "hi") == ""
        town.emit(says("Ann", "hello", chat="dm:ann", private=True), login=ALICE)
        await said(place, by(ghost("ann"), "hello"))


async def test_who_asks_to_be_a_contact_is_asked_about_and_no_stranger_after_a_yes(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        asking = Invitation(chat=DIRECT.chat, at=now(), private=True, sender=person("Bob"))
        town.emit(asking, login=ALICE)
        await until(lambda: place.homeserver.invitations(alice.id))
        [room] = place.homeserver.invitations(alice.id)
        await alice.join(room)
        await until(lambda: alice.id in place.homeserver.joined(room))
        town.emit(whispers("thanks"), login=ALICE)
        await said(place, by(BOB, "thanks"))


async def test_who_asks_to_be_a_contact_no_more_takes_the_invitation_back(tmp_path: Path) -> None:
    """Also at once, while its room is being made; what the owner has accepted stays."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        asking = Invitation(chat=DIRECT.chat, at=now(), private=True, sender=person("Bob"))
        no_more = msgspec.structs.replace(asking, withdrawn=True)
        for _ in range(2):
            town.emit(asking, login=ALICE)
            town.emit(no_more, login=ALICE)
            kicked = await said(place, lambda e: membership(alice.id, "leave")(e) and e.sender == BOT)
            assert kicked.content["reason"].startswith("Bob has taken back asking")
            await said(place, lambda e: e.type == "m.room.message" and by(BOT, "taken back asking")(e))
            await until(lambda: DIRECT not in bridge.registry.links)
            for management in place.homeserver.invitations(alice.id):
                await alice.join(management)
        town.emit(asking, login=ALICE)
        await until(lambda: place.homeserver.invitations(alice.id))
        [room] = place.homeserver.invitations(alice.id)
        await alice.join(room)
        town.emit(no_more, login=ALICE)
        town.emit(whispers("thanks"), login=ALICE)
        await said(place, by(BOB, "thanks"))
        assert not town.done(Leave)


def asks_for_contact(name: str, *, withdrawn: bool = False) -> Invitation:
    return Invitation(
        chat=ChatId(f"dm:{name.lower()}"), at=now(), private=True, sender=person(name), withdrawn=withdrawn
    )


async def heard(bridge: Bridge) -> None:
    """Whatever was emitted so far has come to its end."""
    await bridge.store.commit(bridge.store.kv.put("test", "everything before", b""))
    await emptied(bridge)


def asked_by(bridge: Bridge) -> set[str]:
    return {link.chat for link in bridge.registry.links}


async def test_of_many_who_ask_to_be_contacts_some_wait_and_who_asks_no_more_meanwhile_is_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses cost nothing. After a restart the network tells of whoever still waits."""
    monkeypatch.setattr(contacts, "PER_OWNER", Rate(2, 3_600_000))
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice = await signed_in(place, town, bridge)
            for name in ("Ann", "Bob", "Cid", "Dan"):
                town.emit(asks_for_contact(name), login=ALICE)
            await heard(bridge)
            assert asked_by(bridge) == {"dm:ann", "dm:bob"}
            town.emit(asks_for_contact("Cid", withdrawn=True), login=ALICE)
            await heard(bridge)
            assert len(place.homeserver.invitations(alice.id)) == 2  # nothing is said of it, either
        monkeypatch.setattr(contacts, "PER_OWNER", Rate(1, 50))
        async with place.bridge() as bridge:
            await until(lambda: ALICE in town.sessions)
            for name in ("Dan", "Eve", "Fay"):
                town.emit(asks_for_contact(name), login=ALICE)
            await until(lambda: asked_by(bridge) == {"dm:ann", "dm:bob", "dm:dan", "dm:eve", "dm:fay"})


async def test_who_asks_and_takes_it_back_on_and_on_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "PER_PERSON", Rate(1, 3_600_000))
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await signed_in(place, town, bridge)
        for _ in range(3):
            town.emit(asks_for_contact("Bob"), asks_for_contact("Bob", withdrawn=True), login=ALICE)
        town.emit(asks_for_contact("Ann"), login=ALICE)
        await heard(bridge)
        assert asked_by(bridge) == {"dm:ann"}
        notices = [e for e in place.homeserver.events() if by(BOT, "taken back asking")(e)]
        assert len([e for e in notices if e.type == "m.room.message"]) == 1


async def test_who_has_talked_may_talk_again_also_after_a_restart(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        async with place.bridge() as bridge:
            alice = await signed_in(place, town, bridge)
            town.emit(whispers("hi"), login=ALICE)
            await said(place, by(BOB, "hi"))
            [room] = place.homeserver.invitations(alice.id)
            await alice.join(room)
            await until(lambda: alice.id in place.homeserver.joined(room))
            await alice.leave(room)
            await until(lambda: not bridge.registry.links)
        place.networks["town"]["direct"] = "known"
        async with place.bridge():
            await until(lambda: ALICE in town.sessions)
            again = await asks(alice)
            await said(place, lambda e: membership(BOB, "join")(e) and e.room_id == again)
            assert await fate(place, alice, again, "hi again") == ""


async def test_who_was_declined_is_a_stranger_still(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        town.emit(whispers("hi"), login=ALICE)
        await said(place, by(BOB, "hi"))
        [room] = place.homeserver.invitations(alice.id)
        await alice.leave(room)
        assert await bridge.store.kv.items("bridge.talked") == {}


async def test_who_is_blocked_reaches_nobody_until_it_is_taken_back(tmp_path: Path) -> None:
    """Said in the conversation: it is for that one, it is kept, and each message's fate says so."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        async with place.bridge() as bridge:
            alice = await signed_in(place, town, bridge)
            room = await asks(alice)
            await said(place, membership(BOB, "join"))
            assert await fate(place, alice, room, "buy this") == ""
            town.emit(whispers("!block"), login=ALICE)
            await town.until(lambda: any(f"now on {alice.id} cannot write" in t for t in told(town, "bob")))
            assert await fate(place, alice, room, "and this") == TAKES_NONE
            assert [e.body for e in place.homeserver.messages(room) if e.sender == BOB] == []
            carol = place.homeserver.user("carol")
            hers = await asks(carol)
            await said(place, lambda e: membership(BOB, "join")(e) and e.room_id == hers)
            assert await fate(place, carol, hers, "hello, Bob") == ""
        async with place.bridge():
            await until(lambda: ALICE in town.sessions)
            assert await fate(place, alice, room, "and that") == TAKES_NONE
            town.emit(whispers("!unblock"), login=ALICE)
            await town.until(lambda: any(f"{alice.id} can write to you" in t for t in told(town, "bob")))
            assert await fate(place, alice, room, "hello") == ""
        texts = [text for text in town.said("dm:bob") if "in private" not in text]
        assert texts == ["buy this", "hello, Bob", "hello"]


async def test_who_blocks_everybody_is_reached_by_nobody(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        room = await asks(alice)
        await said(place, membership(BOB, "join"))
        town.emit(whispers("!block"))
        await town.until(lambda: any("nobody on Matrix can write" in t for t in told(town, "bob")))
        assert await fate(place, alice, room, "buy this") == TAKES_NONE
        await asks(place.homeserver.user("carol"))
        assert await declined(place) == TAKES_NONE
        town.emit(whispers("!unblock all"), login=ALICE)
        await town.until(lambda: any("can write to you in private again" in t for t in told(town, "bob")))
        assert await fate(place, alice, room, "hello") == ""


async def test_one_of_matrix_can_be_blocked_by_name(tmp_path: Path) -> None:
    """To the bridge itself, before they have written at all."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        town.emit(whispers(f"!block {alice.id}"))
        await town.until(lambda: told(town, "bob"))
        await asks(alice)
        assert await declined(place) == TAKES_NONE


async def test_who_is_erased_leaves_no_trace_of_their_conversations(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        await asks(alice)
        await said(place, membership(BOB, "join"))
        await until(lambda: bridge._parts.directs._talked)
        town.emit(whispers("!block"), login=ALICE)
        await town.until(lambda: told(town, "bob"))
        assert len(await bridge.store.blocks.all()) == 1
        await bridge.erasure.ask(PersonId(BOB))
        await until(lambda: (r := bridge.erasure.report(PersonId(BOB))) is not None and r.done)
        assert await bridge.store.blocks.all() == []
        assert await bridge.store.kv.items("bridge.talked") == {}


async def test_who_blocks_with_an_account_is_not_reached_by_another_name(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, members="active") as place, place.bridge():
        alice, _ = await linked(place)
        bob = person("Robert", account="bob")
        town.emit(whispers("!block", bob), roster((person("Bob", account="bob"), Role.NONE)))
        await town.until(lambda: any("nobody on Matrix" in line for line in told(town, "robert")))
        await asks(alice)
        assert await declined(place) == TAKES_NONE


async def test_who_blocks_and_signs_in_then_is_not_reached_by_another_name_after_a_restart(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, members="active") as place:
        async with place.bridge():
            alice, _ = await linked(place)
            town.emit(roster((person("Robert"), Role.NONE)), whispers("!block", person("Robert")))
            await town.until(lambda: any("nobody on Matrix" in line for line in told(town, "robert")))
            town.emit(Profile(chat=TALK, at=now(), person=person("Robert", account="bobby")))
            await town.until(lambda: any("this account is used" in line for line in told(town, "robert")))
        async with place.bridge() as bridge:
            await until(lambda: None in town.sessions)
            town.emit(roster((person("Bob", account="bobby"), Role.NONE)))
            await until(lambda: bridge._parts.crowds.of(TALK_THERE).known)
            await asks(alice)
            assert await declined(place) == TAKES_NONE


async def test_in_a_chat_the_word_is_for_whoever_else_listens_there(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, _ = await linked(place)
        town.emit(says("Bob", "!block"))
        await said(place, by(BOB, "!block"))
        room = await asks(alice)
        await said(place, lambda e: membership(BOB, "join")(e) and e.room_id == room)
        assert told(town, "bob") == []


async def test_where_they_are_turned_off_neither_side_is_heard_and_both_are_told(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="off") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        town.emit(whispers("one"), whispers("two"), login=ALICE)
        off = "Private conversations with people on Town are turned off on this bridge."
        await town.until(lambda: told(town, "bob"))
        await asks(alice)
        assert await declined(place) == off
        assert told(town, "bob") == [f"This was not passed on to Matrix. {off}"]
        assert place.homeserver.invitations(alice.id) == []
        ask = Invitation(chat=DIRECT.chat, at=now(), private=True, sender=person("Bob"))
        town.emit(ask, login=ALICE)
        await town.until(lambda: town.done(Leave, ALICE))
        assert place.homeserver.invitations(alice.id) == []


async def test_a_machine_that_is_not_passed_on_is_not_answered(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="off") as place, place.bridge() as bridge:
        await signed_in(place, town, bridge)
        town.emit(
            whispers("beep", kind=Kind.NOTICE),
            says("Ann", "hi", chat="dm:ann", private=True),
            login=ALICE,
        )
        await town.until(lambda: told(town, "ann"))
        assert told(town, "bob") == []


async def test_a_conversation_from_before_they_were_turned_off_is_closed(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        async with place.bridge() as bridge:
            alice = await signed_in(place, town, bridge)
            room = await asks(alice)
            await said(place, membership(BOB, "join"))
            assert await fate(place, alice, room, "one") == ""
        place.networks["town"]["direct"] = "off"
        async with place.bridge():
            await until(lambda: ALICE in town.sessions)
            assert "turned off on this bridge" in await fate(place, alice, room, "two")
        assert town.said("dm:bob") == ["one"]


async def test_who_opted_out_gets_no_ghost_by_writing_and_is_told(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = await signed_in(place, town, bridge)
        town.emit(whispers("!optout"))
        await town.until(lambda: told(town, "bob"))
        town.emit(whispers("hi"), login=ALICE)
        await town.until(lambda: any("you have opted out" in line for line in told(town, "bob")))
        await asks(alice)
        assert await declined(place) == (
            "bob does not want to be bridged: there are no private conversations with them here."
        )
        assert place.homeserver.invitations(alice.id) == []
