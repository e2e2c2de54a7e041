"""Endpoints of rooms and of who is in them: createRoom, join, invite, leave, kick, ban, members, upgrade."""

from collections.abc import Awaitable
from typing import Any

import msgspec

from bridgekit.testing.homeserver.api.routes import Call, routes
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.refusals import Json, Refused, bad_json


@routes.add("POST", "client/createRoom")
def create_room(call: Call) -> Json:
    """POST /createRoom."""
    options = call.json()
    local = options.get("room_alias_name")
    if local:
        call.app.check_alias(call.caller, f"#{local}:{call.world.server}")
    _shapes(options, {"invite": list, "initial_state": list, "creation_content": dict})
    _shapes(options, {"power_level_content_override": dict, "name": str, "topic": str})
    return {"room_id": call.world.create_room(call.user, options).room_id}


@routes.add("POST", "client/join/*", "client/rooms/*/join")
def join(call: Call) -> Json | Awaitable[Json]:
    """POST /join/{roomIdOrAlias} and /rooms/{roomId}/join; an unknown alias is asked of its appservice."""
    if call.args[0].startswith("#"):
        return _join_alias(call)
    _change(call, call.args[0], call.user, "join")
    return {"room_id": call.args[0]}


async def _join_alias(call: Call) -> Json:
    room_id = await call.app.find_room(call.args[0])
    _change(call, room_id, call.user, "join")
    return {"room_id": room_id}


@routes.add("POST", "client/rooms/*/invite")
def invite(call: Call) -> Json:
    """POST /rooms/{roomId}/invite."""
    return _change(call, call.args[0], call.text("user_id"), "invite")


@routes.add("POST", "client/rooms/*/leave")
def leave(call: Call) -> Json:
    """POST /rooms/{roomId}/leave."""
    return _change(call, call.args[0], call.user, "leave")


@routes.add("POST", "client/rooms/*/kick")
def kick(call: Call) -> Json:
    """POST /rooms/{roomId}/kick."""
    target = call.text("user_id")
    call.world.room(call.args[0]).check_kick(call.user, target)
    return _change(call, call.args[0], target, "leave")


@routes.add("POST", "client/rooms/*/ban")
def ban(call: Call) -> Json:
    """POST /rooms/{roomId}/ban."""
    return _change(call, call.args[0], call.text("user_id"), "ban")


@routes.add("POST", "client/rooms/*/unban")
def unban(call: Call) -> Json:
    """POST /rooms/{roomId}/unban."""
    target = call.text("user_id")
    call.world.room(call.args[0]).check_unban(call.user, target)
    return _change(call, call.args[0], target, "leave")


@routes.add("POST", "client/rooms/*/forget")
def forget(call: Call) -> Json:
    """POST /rooms/{roomId}/forget."""
    call.world.forget(call.user, call.args[0])
    return {}


@routes.add("GET", "client/joined_rooms")
def joined_rooms(call: Call) -> Json:
    """GET /joined_rooms."""
    return {"joined_rooms": list(call.world.joined_by.get(call.user, ()))}


@routes.add("GET", "client/rooms/*/joined_members")
def joined_members(call: Call) -> Json:
    """GET /rooms/{roomId}/joined_members."""
    room = call.world.room(call.args[0])
    room.check_joined(call.user)
    return {"joined": {user: _shown(room.content("m.room.member", user)) for user in room.joined}}


@routes.add("GET", "client/rooms/*/members")
def members(call: Call) -> Json:
    """GET /rooms/{roomId}/members, with `membership` and `not_membership`."""
    room = call.world.room(call.args[0])
    room.check_reader(call.user)
    only, without = call.request.query.get("membership"), call.request.query.get("not_membership")
    chunk: list[Event] = [
        room.state["m.room.member", user]
        for user, membership in room.members.items()
        if (only is None or membership == only) and membership != without
    ]
    return {"chunk": msgspec.to_builtins(chunk)}


@routes.add("POST", "client/rooms/*/upgrade")
def upgrade(call: Call) -> Json:
    """POST /rooms/{roomId}/upgrade."""
    room = call.world.upgrade(call.user, call.args[0], call.text("new_version"))
    return {"replacement_room": room.room_id}


def _change(call: Call, room_id: str, target: str, membership: str) -> Json:
    if not target.startswith("@") or ":" not in target:
        raise Refused(400, "M_INVALID_PARAM", f"{target} is not a user id")
    content: Json = {"membership": membership}
    reason = call.json().get("reason")
    if isinstance(reason, str):
        content["reason"] = reason
    call.world.room(room_id)
    if membership == "join" and target in call.world.room(room_id).joined:
        return {}
    call.world.set_membership(call.user, room_id, target, content, ts=call.timestamp())
    return {}


def _shown(content: Json) -> dict[str, Any]:
    return {"display_name": content.get("displayname"), "avatar_url": content.get("avatar_url")}


def _shapes(options: Json, wanted: dict[str, type]) -> None:
    for key, kind in wanted.items():
        if options.get(key) is not None and not isinstance(options[key], kind):
            raise bad_json(f"'{key}' must be a {kind.__name__}")
