"""Roles, topics, and what moderators do, in both directions; typing and receipts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridgekit.contract.facts import (
    Change,
    ChatAvatar,
    ChatClosed,
    ChatName,
    ChatVisibility,
    Membership,
    Receipt,
    RoleChange,
    Roster,
    Topic,
    Typing,
)
from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.contract.people import File, Member, Role
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import (
    Ban,
    Depart,
    Invite,
    Kick,
    Leave,
    MarkRead,
    PostMessage,
    SetAvatar,
    SetName,
    SetRole,
    SetTopic,
    SetTyping,
    Unban,
    Verb,
)
from bridgekit.testing.homeserver import Human
from bridgekit.testing.homeserver.faults import Delay
from bridgekit.testing.homeserver.refusals import Refused
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import (
    BOT,
    PNG,
    World,
    by,
    ghost,
    linked,
    membership,
    said,
    town_world,
    until,
    web_server,
)

OPEN_TO_ALL = Visibility(known=True, exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True)


def words_of(verb: Verb) -> str:
    return verb.content.text.body if isinstance(verb, PostMessage) else ""


async def with_bob(place: World, town: Town) -> tuple[Human, str]:
    """A linked room in which Bob has spoken."""
    alice, room = await linked(place)
    town.emit(says("Bob", "hello"))
    await said(place, by(ghost("bob"), "hello"))
    return alice, room


def levels(place: World, room: str) -> dict[str, int]:
    content = place.homeserver.state(room, "m.room.power_levels")
    assert content is not None
    return dict(content["users"])


@pytest.mark.parametrize("late", [0.0, 1.5], ids=["at once", "after the levels were written"])
async def test_who_is_given_a_voice_and_speaks_at_once_is_not_refused(tmp_path: Path, late: float) -> None:
    """Levels are written a second later; the homeserver's refusal may be answered before that, or behind it."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await with_bob(place, town)
        town.emit(RoleChange(chat=TALK, at=now(), person=person("Bob"), role=Role.MUTED))
        await until(lambda: levels(place, room).get(ghost("bob")) == -1)
        place.homeserver.fault(
            "PUT */send/m.room.message/*", Delay(seconds=late, after_effect=True), user=ghost("bob"), times=2
        )
        town.emit(RoleChange(chat=TALK, at=now(), person=person("Bob"), role=Role.NONE))
        town.emit(says("Bob", "at last"))
        await said(place, by(ghost("bob"), "at last"))


async def test_a_flood_of_roles_is_one_write_and_nobody_is_lifted_up_to_the_bot(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await with_bob(place, town)
        before = len([e for e in place.homeserver.timeline(room) if e.type == "m.room.power_levels"])
        for name, role in (("Bob", Role.OWNER), ("Carl", Role.VOICE), ("Dora", Role.MODERATOR)):
            town.emit(RoleChange(chat=TALK, at=now(), person=person(name), role=role))
        await until(lambda: ghost("dora") in levels(place, room))
        found = levels(place, room)
        assert [found[ghost(n)] for n in ("bob", "carl", "dora")] == [99, 10, 50]
        after = [e for e in place.homeserver.timeline(room) if e.type == "m.room.power_levels"]
        assert len(after) == before + 1
        assert ghost("carl") not in place.homeserver.joined(room)  # a role lets nobody in


async def test_a_role_that_is_taken_on_the_network_is_taken_in_the_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await with_bob(place, town)
        town.emit(RoleChange(chat=TALK, at=now(), person=person("Bob"), role=Role.MODERATOR))
        await until(lambda: levels(place, room).get(ghost("bob")) == 50)
        town.emit(RoleChange(chat=TALK, at=now(), person=person("Bob"), role=Role.NONE))
        await until(lambda: ghost("bob") not in levels(place, room))


async def test_a_role_that_was_lost_while_nobody_looked_is_taken_by_the_roster(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await with_bob(place, town)
        town.emit(Roster(chat=TALK, at=now(), members=(Member(person=person("Bob"), role=Role.MODERATOR),)))
        await until(lambda: levels(place, room).get(ghost("bob")) == 50)
        town.emit(Roster(chat=TALK, at=now(), members=(Member(person=person("Bob")),)))
        await until(lambda: ghost("bob") not in levels(place, room))


async def test_who_leaves_leaves_the_role_behind(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await with_bob(place, town)
        town.emit(RoleChange(chat=TALK, at=now(), person=person("Bob"), role=Role.MODERATOR))
        await until(lambda: levels(place, room).get(ghost("bob")) == 50)
        town.emit(Roster(chat=TALK, at=now(), members=()))
        await until(lambda: ghost("bob") not in levels(place, room))


# Matrix users with accounts of their own ----------------------------------------------------------------------


async def made_room(place: World, town: Town) -> tuple[Human, Human, str]:
    """A room that the bridge made for #talk, with Alice and Zoe in it; Zoe has an account in town."""
    town.visible[TALK] = OPEN_TO_ALL
    zoe, alice = place.homeserver.user("zoe"), place.homeserver.user("alice")
    room = await zoe.join(f"#_bk_town_{TALK}:hs.test")
    await alice.join(room)
    direct = await zoe.create_room(invite=[BOT], is_direct=True)
    await until(lambda: BOT in place.homeserver.joined(direct))
    await zoe.send(direct, "login town")
    await until(lambda: any(login for login in town.sessions))
    return alice, zoe, room


ZOES = person("own-zoe")


async def test_a_role_on_the_network_gives_a_matrix_user_power_but_none_over_who_may_read(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, zoe, room = await made_room(place, town)
        town.emit(RoleChange(chat=TALK, at=now(), person=ZOES, role=Role.OWNER))
        await until(lambda: levels(place, room).get(zoe.id) == 99)
        await zoe.set_state(room, "m.room.name", {"name": "ours"})
        for type, content in (
            ("m.room.history_visibility", {"history_visibility": "world_readable"}),
            ("m.room.join_rules", {"join_rule": "public"}),
            ("m.room.guest_access", {"guest_access": "can_join"}),
            ("m.room.canonical_alias", {"alias": "#here:hs.test"}),
            ("m.room.power_levels", {"users": {zoe.id: 100}}),
        ):
            with pytest.raises(Refused, match="M_FORBIDDEN"):
                await zoe.set_state(room, type, content)
        town.emit(RoleChange(chat=TALK, at=now(), person=ZOES, role=Role.NONE))
        await until(lambda: zoe.id not in levels(place, room))


async def test_power_that_people_gave_is_not_taken_for_the_want_of_a_role(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "!bridge login town")
        await until(lambda: any(login for login in town.sessions))
        before = levels(place, room)
        me = person("own-alice")
        town.emit(
            Roster(
                chat=TALK,
                at=now(),
                members=(Member(person=me), Member(person=person("Bob"), role=Role.VOICE)),
            )
        )
        await until(lambda: levels(place, room).get(ghost("bob")) == 10)
        assert levels(place, room) == {**before, ghost("bob"): 10}


async def test_a_moderated_chat_lets_only_those_with_a_voice_speak(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, _, room = await made_room(place, town)
        moderated = msgspec.structs.replace(OPEN_TO_ALL, moderated=True)
        town.emit(ChatVisibility(chat=TALK, at=now(), visibility=moderated))
        await until(lambda: place.homeserver.state(room, "m.room.power_levels")["events_default"] == 10)  # type: ignore[index]
        with pytest.raises(Refused, match="M_FORBIDDEN"):
            await alice.send(room, "hello?")
        town.emit(RoleChange(chat=TALK, at=now(), person=ZOES, role=Role.VOICE))
        await until(lambda: levels(place, room).get("@zoe:hs.test") == 10)
        town.emit(ChatVisibility(chat=TALK, at=now(), visibility=OPEN_TO_ALL))
        await until(lambda: place.homeserver.state(room, "m.room.power_levels")["events_default"] == 0)  # type: ignore[index]


@pytest.mark.parametrize(("change", "becomes"), [(Change.KICK, "leave"), (Change.BAN, "ban")])
async def test_whose_account_is_put_out_of_the_chat_is_put_out_of_the_room(
    tmp_path: Path, change: Change, becomes: str
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, zoe, room = await made_room(place, town)
        town.emit(
            Membership(chat=TALK, at=now(), person=ZOES, change=change, actor=person("Eve"), reason="enough")
        )
        out = await said(place, lambda e: e.state_key == zoe.id and e.content.get("membership") == becomes)
        assert (out.sender, out.content["reason"]) == (BOT, "by Eve on Town: enough")
        if change is Change.BAN:
            await town.until(lambda: town.done(Leave, "town/@zoe:hs.test"))
            town.emit(Membership(chat=TALK, at=now(), person=ZOES, change=Change.UNBAN, actor=person("Eve")))
            await until(lambda: place.homeserver.members(room)[zoe.id] == "leave")


async def test_a_reason_without_end_keeps_nobody_in_the_room(tmp_path: Path) -> None:
    town = Town()
    reason = "enough\r\n" + "!" * 70_000
    async with town_world(tmp_path, town) as place, place.bridge():
        _, zoe, _ = await made_room(place, town)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        for who, change in ((person("Bob"), Change.KICK), (ZOES, Change.BAN)):
            town.emit(
                Membership(chat=TALK, at=now(), person=who, change=change, actor=person("Eve"), reason=reason)
            )
        out = await said(place, membership(ghost("bob"), "leave"))
        banned = await said(place, membership(zoe.id, "ban"))
        assert out.content["reason"].startswith("kicked by Eve: enough")
        assert banned.content["reason"].startswith("by Eve on Town: enough")
        assert len(banned.content["reason"]) == 1000


async def test_who_is_let_in_again_while_their_account_is_offline_is_let_in_here(tmp_path: Path) -> None:
    """A ban may have been lifted while the bridge was away."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            _, zoe, room = await made_room(place, town)
            town.emit(Membership(chat=TALK, at=now(), person=ZOES, change=Change.BAN, actor=person("Eve")))
            await until(lambda: place.homeserver.members(room)[zoe.id] == "ban")
        town.rejected[PersonId(zoe.id)] = "Not now."
        async with place.bridge():
            await until(lambda: None in town.sessions)
            lifted = Membership(
                chat=TALK, at=now(), person=ZOES, change=Change.UNBAN, stands_for=PersonId(zoe.id)
            )
            town.emit(lifted)
            await until(lambda: place.homeserver.members(room)[zoe.id] == "leave")


async def test_a_ban_that_the_room_does_not_follow_is_told_in_the_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "!bridge login town")
        await until(lambda: any(login for login in town.sessions))
        town.emit(
            Membership(
                chat=TALK, at=now(), person=person("own-alice"), change=Change.BAN, actor=person("Eve")
            )
        )
        told = await said(place, by(BOT, "banned in Town, but not everywhere. Matrix: "))
        assert told.room_id == room


# Roles given in Matrix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", [False, True])
async def test_a_role_given_in_matrix_is_given_on_the_network_only_where_that_is_configured(
    tmp_path: Path, configured: bool
) -> None:
    town = Town()
    async with town_world(tmp_path, town, grant_roles=configured) as place, place.bridge():
        alice, room = await with_bob(place, town)
        await alice.set_power(room, ghost("bob"), 50)
        await alice.set_power(room, ghost("bob"), 0)
        await alice.set_power(room, ghost("bob"), -1)
        await alice.set_power(room, ghost("bob"), 0)
        await town.until(lambda: len(town.done(SetRole)) >= (4 if configured else 2))
        given = [(v.person.id, v.role, v.speaker and v.speaker.name) for v in town.done(SetRole)]
        muting = [("bob", Role.MUTED, "alice"), ("bob", Role.NONE, "alice")]
        granting = [("bob", Role.MODERATOR, "alice"), ("bob", Role.NONE, "alice")]
        assert given == (granting + muting if configured else muting)


@pytest.mark.parametrize("closed", [False, True])
async def test_who_is_muted_in_the_room_alone_is_told_to_be(tmp_path: Path, closed: bool) -> None:
    """A network that does not do it, or that the bridge is not let into."""
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {SetRole})
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await with_bob(place, town)
        if closed:
            town.emit(ChatClosed(chat=TALK, at=now(), reason="bridge was put out of #talk by Eve."))
            await said(place, by(BOT, "put out of #talk by Eve"))
        await alice.set_power(room, ghost("bob"), -1)
        told = await said(
            place, by(BOT, "What Bob (Town) may do has changed here, but not everywhere. Town: ")
        )
        assert ("put out of #talk" in str(told.content["body"])) is closed


async def test_who_is_muted_on_the_network_is_muted_in_the_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, zoe, room = await made_room(place, town)
        town.emit(RoleChange(chat=TALK, at=now(), person=ZOES, role=Role.MUTED))
        await until(lambda: levels(place, room).get(zoe.id) == -1)
        with pytest.raises(Refused, match="M_FORBIDDEN"):
            await zoe.send(room, "mmh")
        assert town.done(SetRole) == []


# Topics ------------------------------------------------------------------------------------------------------


async def test_a_topic_crosses_both_ways_and_comes_back_neither_way(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.set_topic(room, "tea at five")
        await town.until(lambda: town.done(SetTopic))
        assert [(v.topic, v.speaker.name if v.speaker else "") for v in town.done(SetTopic)] == [
            ("tea at five", "alice")
        ]
        town.emit(Topic(chat=TALK, at=now(), topic="coffee at six", actor=person("Bob")))
        await until(lambda: place.homeserver.state(room, "m.room.topic") == {"topic": "coffee at six"})
        await asyncio.sleep(0.2)
        assert len(town.done(SetTopic)) == 1


async def test_a_room_that_people_made_keeps_its_topic_when_one_is_only_read(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.set_topic(room, "ours")
        town.emit(Topic(chat=TALK, at=now(), topic="theirs"), says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert place.homeserver.state(room, "m.room.topic") == {"topic": "ours"}


async def test_a_topic_that_the_network_does_not_take_is_refused_with_a_sentence(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {SetTopic})
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.set_topic(room, "tea at five")
        await said(place, by(BOT, "The topic cannot be changed from here on Town."))


# Names -------------------------------------------------------------------------------------------------------


async def test_the_name_of_a_room_that_the_bridge_made_crosses_both_ways_and_comes_back_neither_way(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, zoe, room = await made_room(place, town)

        def called() -> object:
            return (place.homeserver.state(room, "m.room.name") or {}).get("name")

        assert called() == f"{TALK} (Town)"
        town.emit(ChatName(chat=TALK, at=now(), name="Small talk"))
        await until(lambda: called() == "Small talk (Town)")
        town.emit(RoleChange(chat=TALK, at=now(), person=ZOES, role=Role.OWNER))
        await until(lambda: levels(place, room).get(zoe.id, 0) >= 50)
        with pytest.raises(Refused):
            await alice.set_name(room, "Alice was here")
        await zoe.set_name(room, "Large talk")
        await town.until(lambda: town.done(SetName))
        town.emit(ChatName(chat=TALK, at=now(), name="Large talk"), says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert called() == "Large talk", "as she wrote it"
        await zoe.set_name(room, "Weather (Town)")
        await town.until(lambda: len(town.done(SetName)) == 2)
        assert [verb.name for verb in town.done(SetName)] == ["Large talk", "Weather"]


async def test_a_room_that_people_made_keeps_its_name_and_gives_it_to_its_chat(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.set_name(room, "ours")
        await town.until(lambda: town.done(SetName))
        assert [(v.name, v.speaker and v.speaker.name) for v in town.done(SetName)] == [("ours", "alice")]
        town.emit(ChatName(chat=TALK, at=now(), name="theirs"), says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert place.homeserver.state(room, "m.room.name") == {"name": "ours"}


async def test_a_name_that_the_network_does_not_take_is_refused_with_a_sentence(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {SetName})
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.set_name(room, "ours")
        await said(place, by(BOT, "The name of the chat cannot be changed from here on Town."))


# Pictures ----------------------------------------------------------------------------------------------------


async def test_the_picture_of_a_room_that_the_bridge_made_crosses_both_ways_and_is_fetched_once(
    tmp_path: Path,
) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, asked), town_world(tmp_path, town) as place:
        cat = File(uri=f"{url}/cat.png", name="avatar")

        def look() -> dict[str, Any]:
            return place.homeserver.state(room, "m.room.avatar") or {}

        def shown() -> str:
            return str(look().get("url", ""))

        async with place.bridge():
            _, zoe, room = await made_room(place, town)
            town.emit(ChatAvatar(chat=TALK, at=now(), avatar=cat))
            await until(shown)
            medium = place.homeserver.app.media.get("hs.test", shown().rpartition("/")[2])
            assert medium.content == PNG
            assert look()["info"] == {"mimetype": "image/png", "size": len(PNG)}
        first = shown()
        async with place.bridge():
            await until(lambda: None in town.sessions and len(town.sessions) > 1)
            town.emit(ChatAvatar(chat=TALK, at=now(), avatar=cat), says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
            assert (shown(), len(asked)) == (first, 1), "what it shows already is left"
            town.emit(RoleChange(chat=TALK, at=now(), person=ZOES, role=Role.OWNER))
            await until(lambda: levels(place, room).get(zoe.id, 0) >= 50)
            mine = await zoe.upload(PNG)
            await zoe.set_state(room, "m.room.avatar", {"url": mine})
            await town.until(lambda: town.done(SetAvatar))
            assert [verb.avatar and verb.avatar.uri for verb in town.done(SetAvatar)] == [mine]
            town.emit(ChatAvatar(chat=TALK, at=now(), avatar=None))
            await until(lambda: not shown())


async def test_a_picture_that_cannot_be_had_leaves_the_room_as_it_is(tmp_path: Path) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, _), town_world(tmp_path, town) as place, place.bridge():
        await made_room(place, town)
        for name in ("missing.png", "large.bin"):
            town.emit(ChatAvatar(chat=TALK, at=now(), avatar=File(uri=f"{url}/{name}", name="avatar")))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert not [e for e in place.homeserver.events() if e.type == "m.room.avatar"]


async def test_where_files_stay_away_from_the_homeserver_a_chats_picture_does(tmp_path: Path) -> None:
    town = Town()
    quiet = town_world(tmp_path, town, ceiling={"media": False})
    async with web_server(tmp_path) as (url, asked), quiet as place, place.bridge():
        await made_room(place, town)
        town.emit(ChatAvatar(chat=TALK, at=now(), avatar=File(uri=f"{url}/cat.png", name="avatar")))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert asked == []


async def test_a_network_without_pictures_of_chats_says_nothing_of_them(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {SetAvatar})
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.set_state(room, "m.room.avatar", {"url": await alice.upload(PNG)})
        await alice.send(room, "hello")
        await town.until(lambda: town.said())
        told = [e.body for e in place.homeserver.events() if e.sender == BOT and e.room_id == room and e.body]
        assert "picture" not in "".join(told)


# People without an account of their own -----------------------------------------------------------------------


async def test_what_a_matrix_user_is_in_the_room_they_are_where_they_are_shown(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, speakers=True)
    async with town_world(tmp_path, town, grant_roles=True) as place, place.bridge():
        alice, room = await linked(place)
        zoe = place.homeserver.user("zoe")
        await zoe.join(room)
        await alice.set_power(room, zoe.id, 50)
        await town.until(lambda: town.done(SetRole))
        (given,) = town.done(SetRole)
        assert (given.person.id, given.role, given.shown) == (zoe.id, Role.MODERATOR, True)
        await alice.kick(room, zoe.id, "enough")
        await town.until(lambda: town.done(Depart))
        (gone,) = town.done(Depart)
        assert (gone.speaker and gone.speaker.id, gone.reason) == (zoe.id, "enough")


# Kicks, bans, invitations ------------------------------------------------------------------------------------


async def test_what_a_moderator_does_to_a_ghost_is_asked_of_its_network(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await with_bob(place, town)
        await alice.kick(room, ghost("bob"), "enough")
        await town.until(lambda: town.done(Kick))
        [kick] = town.done(Kick)
        assert (kick.person.id, kick.reason, kick.speaker and kick.speaker.name) == ("bob", "enough", "alice")
        await alice.ban(room, ghost("bob"), "for good")
        await town.until(lambda: town.done(Ban))
        await alice.unban(room, ghost("bob"))
        await town.until(lambda: town.done(Unban))
        await alice.invite(room, ghost("bob"))
        await town.until(lambda: town.done(Invite))
        await asyncio.sleep(0.1)
        assert place.homeserver.members(room)[ghost("bob")] == "invite"  # until Bob comes
        town.emit(says("Bob", "back"))
        await said(place, by(ghost("bob"), "back"))


async def test_a_ban_is_told_to_be_one_sided_where_the_bridge_is_not_in_the_chat(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await with_bob(place, town)
        town.emit(ChatClosed(chat=TALK, at=now(), reason="bridge was put out of #talk by Eve."))
        await said(place, by(BOT, "put out of #talk by Eve"))
        await alice.ban(room, ghost("bob"), "for good")
        told = await said(place, by(BOT, "banned in Matrix, but not everywhere. Town: "))
        assert told.content["body"] == (
            "⚠ Bob (Town) is banned in Matrix, but not everywhere. Town: bridge was put out of #talk by Eve."
        )
        await alice.unban(room, ghost("bob"))
        await said(place, by(BOT, "let in again in Matrix, but not everywhere. Town: "))
        assert not town.done(Ban)


async def test_whose_room_it_is_no_more_leaves_the_chat_also_where_nothing_passes(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, zoe, room = await made_room(place, town)
        town.emit(ChatClosed(chat=TALK, at=now(), reason="bridge was put out of #talk by Eve."))
        await said(place, by(BOT, "put out of #talk by Eve"))
        await zoe.leave(room)
        await town.until(lambda: town.done(Leave, "town/@zoe:hs.test"))


async def test_what_the_network_cannot_do_is_refused_with_a_sentence(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {Kick, Invite})
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await with_bob(place, town)
        await alice.kick(room, ghost("bob"), "enough")
        await said(place, by(BOT, "The bridge cannot do that on Town: kick Bob"))
        town.emit(says("Bob", "still here"))  # and comes back with the first word
        await said(place, by(ghost("bob"), "still here"))
        await alice.invite(room, ghost("carl"))
        await said(place, by(BOT, "The bridge cannot do that on Town: invite"))


async def test_somebody_who_may_not_use_the_bridge_moderates_nobody(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more["permissions"] = {"@alice:hs.test": "admin", "@mallory:hs.test": "none", "*": "relay"}
        async with place.bridge():
            alice, room = await with_bob(place, town)
            mallory = place.homeserver.user("mallory")
            await mallory.join(room)
            await alice.set_power(room, mallory.id, 60)
            await mallory.set_topic(room, "mine")
            await mallory.kick(room, ghost("bob"))
            await alice.send(room, "hm")
            await town.until(town.said)
            assert town.done(Kick) == []
            assert town.done(SetTopic) == []


# What does not last ------------------------------------------------------------------------------------------


async def test_typing_and_receipts_cross_both_ways_without_touching_the_disk(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await with_bob(place, town)
        event = await alice.send(room, "hello Bob")
        await town.until(town.said)
        sent = next(deed.id for deed in town.deeds if words_of(deed.verb) == "hello Bob")

        await alice.typing(room)
        await town.until(lambda: town.done(SetTyping))
        await alice.typing(room, False)
        await town.until(lambda: len(town.done(SetTyping)) == 2)
        assert [v.active for v in town.done(SetTyping)] == [True, False]

        heard = (await said(place, by(ghost("bob"), "hello"))).event_id
        await alice.read(room, heard)
        await town.until(lambda: town.done(MarkRead))
        assert {v.target[:6] for v in town.done(MarkRead)} == {"heard-"}

        town.emit(Typing(chat=TALK, at=now(), sender=person("Bob"), active=True))
        await until(lambda: ghost("bob") in place.homeserver.room(room).typing)
        town.emit(Receipt(chat=TALK, at=now(), sender=person("Bob"), target=MessageId(sent)))
        await until(lambda: place.homeserver.room(room).receipts.get(("m.read", ghost("bob"))) == event)
        town.emit(Typing(chat=TALK, at=now(), sender=person("Silent"), active=True))
        await asyncio.sleep(0.1)
        assert ghost("silent") not in place.homeserver.joined(room)  # nobody enters to be seen typing


async def test_typing_is_forgotten_while_the_network_is_away(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.cut()
        await until(lambda: not town.sessions)
        await alice.typing(room)
        await alice.send(room, "one")
        await until(lambda: bridge.rooms.depth()[0] >= 1)
        await asyncio.sleep(0.2)
        town.mend()
        await town.until(town.said)
        assert town.done(SetTyping) == []
