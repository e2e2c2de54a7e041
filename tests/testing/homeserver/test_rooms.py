"""Rooms: how they are made, who gets in and out, what their state allows, and how they are replaced."""

from bridgekit.testing.homeserver import FakeHomeserver
from tests.testing.homeserver.conftest import ANN, Client


async def test_a_private_room_needs_an_invitation(hs: FakeHomeserver, api: Client) -> None:
    alice = hs.user("alice")
    room = await alice.create_room(
        preset="private_chat", name="den", topic="quiet", is_direct=True, invite=[ANN]
    )
    ann, bea = await api.ghost("ann"), await api.ghost("bea")
    await api.refused("M_FORBIDDEN", "POST", f"join/{room}", {}, user=bea, expect=403)
    assert hs.invitations(ann) == [room]
    member = hs.state(room, "m.room.member", ann)
    assert member == {"membership": "invite", "is_direct": True}
    assert await api("POST", f"rooms/{room}/join", {}, user=ann) == {"room_id": room}
    assert hs.joined(room) == ["@alice:hs.test", ann]
    assert (hs.state(room, "m.room.name"), hs.state(room, "m.room.topic")) == (
        {"name": "den"},
        {"topic": "quiet"},
    )


async def test_create_room_takes_the_usual_fields(hs: FakeHomeserver, api: Client) -> None:
    body = {
        "preset": "public_chat",
        "visibility": "public",
        "room_alias_name": "_bk_lobby",
        "room_version": "11",
        "creation_content": {"type": "m.space"},
        "initial_state": [{"type": "m.room.join_rules", "content": {"join_rule": "invite"}}],
        "power_level_content_override": {"users": {"@bridgebot:hs.test": 100, "@alice:hs.test": 50}},
    }
    room = (await api("POST", "createRoom", body))["room_id"]
    assert hs.state(room, "m.room.create") == {"type": "m.space", "room_version": "11"}
    assert hs.state(room, "m.room.join_rules") == {"join_rule": "invite"}
    assert hs.state(room, "m.room.canonical_alias") == {"alias": "#_bk_lobby:hs.test"}
    levels = hs.state(room, "m.room.power_levels")
    assert levels is not None
    assert levels["users"] == {"@bridgebot:hs.test": 100, "@alice:hs.test": 50}
    assert [event.type for event in hs.timeline(room)[:3]] == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
    ]
    assert await api("GET", f"directory/list/room/{room}") == {"visibility": "public"}
    await api("PUT", f"directory/list/room/{room}", {"visibility": "private"})
    assert await api("GET", f"directory/list/room/{room}") == {"visibility": "private"}
    await api.refused("M_ROOM_IN_USE", "POST", "createRoom", {"room_alias_name": "_bk_lobby"}, expect=400)
    await api.refused("M_EXCLUSIVE", "POST", "createRoom", {"room_alias_name": "mine"}, expect=400)
    await api.refused("M_UNSUPPORTED_ROOM_VERSION", "POST", "createRoom", {"room_version": "99"}, expect=400)


async def test_creators_of_a_version_12_room_stand_above_all_levels(hs: FakeHomeserver, api: Client) -> None:
    """MSC4289, MSC4291: the id names no server, the creator is in no list and cannot be outranked."""
    room = (await api("POST", "createRoom", {"room_version": "12", "preset": "public_chat"}))["room_id"]
    assert ":" not in room
    levels = hs.state(room, "m.room.power_levels")
    assert levels is not None
    assert levels["users"] == {}
    named = {**levels, "users": {"@bridgebot:hs.test": 100}}
    await api.refused("M_FORBIDDEN", "PUT", f"rooms/{room}/state/m.room.power_levels", named, expect=403)
    await api("PUT", f"rooms/{room}/state/m.room.tombstone", {"body": "closed"})


async def test_kick_ban_and_unban_follow_the_levels(hs: FakeHomeserver, api: Client, room: str) -> None:
    bea = await api.ghost("bea")
    await api("POST", f"join/{room}", user=bea)
    kick = {"user_id": bea, "reason": "spam"}
    await api.refused("M_FORBIDDEN", "POST", f"rooms/{room}/kick", kick, user=ANN, expect=403)
    await hs.user("alice").set_power(room, ANN, 50)
    await api("POST", f"rooms/{room}/kick", kick, user=ANN)
    left = hs.timeline(room)[-1]
    assert (left.sender, left.state_key, left.content) == (
        ANN,
        bea,
        {"membership": "leave", "reason": "spam"},
    )
    await api("POST", f"rooms/{room}/ban", {"user_id": bea}, user=ANN)
    await api.refused("M_FORBIDDEN", "POST", f"join/{room}", {}, user=bea, expect=403)
    await api("POST", f"rooms/{room}/unban", {"user_id": bea}, user=ANN)
    await api("POST", f"join/{room}", {}, user=bea)
    await api("POST", f"rooms/{room}/kick", {"user_id": "@alice:hs.test"}, user=ANN, expect=403)


async def test_who_left_can_forget_the_room(hs: FakeHomeserver, api: Client, room: str) -> None:
    await api("POST", f"rooms/{room}/forget", {}, user=ANN, expect=400)
    await api("POST", f"rooms/{room}/leave", {}, user=ANN)
    await api("POST", f"rooms/{room}/forget", {}, user=ANN)
    assert hs.room(room).forgotten == {ANN}
    assert await api("GET", "joined_rooms", user=ANN) == {"joined_rooms": []}
    await api("POST", f"rooms/{room}/leave", {}, user=ANN, expect=403)


async def test_joining_twice_makes_one_event(hs: FakeHomeserver, api: Client, room: str) -> None:
    before = hs.position
    await api("POST", f"join/{room}", {}, user=ANN)
    assert hs.position == before


async def test_members_are_listed(hs: FakeHomeserver, api: Client, room: str) -> None:
    await hs.user("alice").invite(room, "bob")
    joined = (await api("GET", f"rooms/{room}/joined_members"))["joined"]
    assert joined[ANN] == {"display_name": "_bk_ann", "avatar_url": None}
    assert set(joined) == {"@alice:hs.test", "@bridgebot:hs.test", ANN}
    invited = (await api("GET", f"rooms/{room}/members", membership="invite"))["chunk"]
    assert [event["state_key"] for event in invited] == ["@bob:hs.test"]
    assert len((await api("GET", f"rooms/{room}/members", not_membership="invite"))["chunk"]) == 3


async def test_state_takes_power_and_the_same_again_makes_no_event(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    topic = f"rooms/{room}/state/m.room.topic"
    await api.refused("M_FORBIDDEN", "PUT", topic, {"topic": "mine"}, user=ANN, expect=403)
    await hs.user("alice").set_power(room, ANN, 50)
    first = await api("PUT", topic + "/", {"topic": "mine"}, user=ANN)
    before = hs.position
    assert await api("PUT", topic, {"topic": "mine"}, user=ANN) == first
    assert hs.position == before
    assert await api("GET", topic) == {"topic": "mine"}
    assert (await api("GET", topic, format="event"))["sender"] == ANN
    await api.refused("M_NOT_FOUND", "GET", f"rooms/{room}/state/m.room.avatar", expect=404)
    whole = await api("GET", f"rooms/{room}/state")
    assert {"m.room.create", "m.room.topic", "m.room.power_levels"} <= {event["type"] for event in whole}


async def test_nobody_gives_away_more_power_than_they_have(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    levels = hs.state(room, "m.room.power_levels")
    assert levels is not None
    await hs.user("alice").set_state(
        room,
        "m.room.power_levels",
        {
            **levels,
            "users": {**levels["users"], ANN: 60},
            "events": {**levels["events"], "m.room.power_levels": 50},
        },
    )
    now = hs.state(room, "m.room.power_levels")
    assert now is not None
    path = f"rooms/{room}/state/m.room.power_levels"
    greedy = {**now, "users": {**now["users"], ANN: 100}}
    await api.refused("M_FORBIDDEN", "PUT", path, greedy, user=ANN, expect=403)
    modest = {**now, "users": {**now["users"], "@bob:hs.test": 60}}
    await api("PUT", path, modest, user=ANN)


async def test_a_restricted_room_opens_to_members_of_another(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    """MSC3083: whoever is in an allowed room may join without an invitation."""
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": room}]}
    state = [{"type": "m.room.join_rules", "content": rule}]
    inner = await hs.user("alice").create_room(initial_state=state)
    await api("POST", f"join/{inner}", {}, user=ANN)
    await api("POST", f"join/{inner}", {}, user=await api.ghost("bea"), expect=403)


async def test_an_upgrade_leaves_a_tombstone_and_takes_the_aliases_along(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    await api("PUT", "directory/room/%23_bk_old:hs.test", {"room_id": room})
    new = await hs.user("alice").upgrade(room, "11")
    stone = hs.state(room, "m.room.tombstone")
    assert stone is not None
    assert stone["replacement_room"] == new
    create = hs.state(new, "m.room.create")
    assert create is not None
    assert create["predecessor"]["room_id"] == room
    assert hs.room("#_bk_old:hs.test").room_id == new
    await api.send(room, "too late", "1", user=ANN, expect=403)
    await api("POST", f"rooms/{new}/upgrade", {"new_version": "12"}, user=ANN, expect=403)
    newest = await api("POST", f"rooms/{new}/upgrade", {"new_version": "12"}, user="@alice:hs.test")
    assert hs.state(newest["replacement_room"], "m.room.join_rules") == {"join_rule": "public"}


async def test_aliases_are_put_found_and_taken_away(hs: FakeHomeserver, api: Client, room: str) -> None:
    path = "directory/room/%23_bk_lobby:hs.test"
    await api.refused("M_NOT_FOUND", "GET", path, expect=404)
    await api("PUT", path, {"room_id": room})
    await api("PUT", path, {"room_id": room}, expect=409)
    assert await api("GET", path) == {"room_id": room, "servers": ["hs.test"]}
    await api.refused("M_EXCLUSIVE", "PUT", path, {"room_id": room}, token=hs.user("alice").token, expect=400)
    canonical = f"rooms/{room}/state/m.room.canonical_alias"
    await hs.user("alice").set_state(room, "m.room.canonical_alias", {"alias": "#_bk_lobby:hs.test"})
    wrong = {"alias": "#nothing:hs.test"}
    await api.refused("M_BAD_ALIAS", "PUT", canonical, wrong, user="@alice:hs.test", expect=400)
    await api("DELETE", path)
    await api.refused("M_NOT_FOUND", "DELETE", path, expect=404)


async def test_a_person_can_be_a_client_too(hs: FakeHomeserver, api: Client, room: str) -> None:
    token = (await hs.user("bob").ready()).token
    await api("POST", f"join/{room}", {}, token=token)
    await api.send(room, "by hand", "1", token=token)
    assert hs.timeline(room)[-1].sender == "@bob:hs.test"
    await api.send(room, "x", "2", token=token, ts="1", expect=403)


async def test_history_is_read_in_both_directions_page_by_page(hs: FakeHomeserver, api: Client) -> None:
    alice = hs.user("alice")
    room = await alice.create_room(preset="public_chat", invite=["@bridgebot:hs.test"])
    await api.refused("M_FORBIDDEN", "GET", f"rooms/{room}/messages", expect=403)
    await api("POST", f"join/{room}", {})
    ids = [await alice.send(room, f"m{number}") for number in range(5)]
    path = f"rooms/{room}/messages"
    newest = await api("GET", path, dir="b", limit="2")
    assert [event["event_id"] for event in newest["chunk"]] == [ids[4], ids[3]]
    older = await api("GET", path, dir="b", limit="2", **{"from": newest["end"]})
    assert [event["event_id"] for event in older["chunk"]] == [ids[2], ids[1]]
    onward = await api("GET", path, dir="f", limit="9", **{"from": older["end"]})
    assert [event["event_id"] for event in onward["chunk"]] == ids[1:]
    assert "end" not in onward
    only = await api("GET", path, limit="100", filter='{"types": ["m.room.member"]}')
    assert {event["type"] for event in only["chunk"]} == {"m.room.member"}
    around = await api("GET", f"rooms/{room}/context/{ids[2]}", limit="2")
    assert [event["event_id"] for event in around["events_before"] + around["events_after"]] == [
        ids[1],
        ids[3],
    ]
    await api.refused("M_NOT_FOUND", "GET", f"rooms/{room}/event/$nothing", expect=404)


async def test_relations_are_found_newest_first_until_they_are_redacted(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    alice = hs.user("alice")
    said = await alice.send(room, "first draft")
    edit = await alice.edit(room, said, "second draft")
    heart = await alice.react(room, said, "❤")
    path = f"/_matrix/client/v1/rooms/{room}/relations/{said}"

    async def related(narrower: str = "") -> list[str]:
        return [event["event_id"] for event in (await api("GET", path + narrower))["chunk"]]

    assert await related() == [heart, edit]
    assert await related("/m.replace") == [edit]
    assert await related("/m.annotation/m.reaction") == [heart]
    await alice.redact(room, heart)
    assert await related() == [edit]
