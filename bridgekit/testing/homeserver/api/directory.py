"""Endpoints of the room directory: aliases and the published list."""

from bridgekit.testing.homeserver.api.routes import Call, routes
from bridgekit.testing.homeserver.refusals import Json, bad_json, forbidden, invalid


@routes.add("GET", "client/directory/room/*", public=True)
async def get_alias(call: Call) -> Json:
    """GET /directory/room/{roomAlias}; an unknown alias is asked of its appservice."""
    room_id = await call.app.find_room(_alias(call))
    return {"room_id": room_id, "servers": [call.world.server]}


@routes.add("PUT", "client/directory/room/*")
def put_alias(call: Call) -> Json:
    """PUT /directory/room/{roomAlias}: 409 where it exists."""
    alias, room_id = _alias(call), call.text("room_id")
    call.app.check_alias(call.caller, alias)
    room = call.world.room(room_id)
    if call.caller.registration is None:
        room.check_joined(call.user)
    call.world.add_alias(call.user, alias, room_id)
    return {}


@routes.add("DELETE", "client/directory/room/*")
def delete_alias(call: Call) -> Json:
    """DELETE /directory/room/{roomAlias}, for its maker, its appservice and who may set the canonical alias."""
    alias = _alias(call)
    room = call.world.resolve(alias)
    registration = call.caller.registration
    claimed = registration is not None and registration.claims_alias(alias)
    if not claimed and call.world.alias_owners.get(alias) != call.user:
        needed = room.power.to_send("m.room.canonical_alias", state=True)
        if call.user not in room.joined or room.power.of(call.user) < needed:
            raise forbidden("You don't have permission to delete the alias.")
    call.world.remove_alias(alias)
    return {}


@routes.add("GET", "client/rooms/*/aliases")
def get_aliases(call: Call) -> Json:
    """GET /rooms/{roomId}/aliases."""
    room = call.world.room(call.args[0])
    room.check_reader(call.user)
    return {"aliases": room.aliases}


@routes.add("GET", "client/directory/list/room/*", public=True)
def get_visibility(call: Call) -> Json:
    """GET /directory/list/room/{roomId}."""
    return {"visibility": "public" if call.world.room(call.args[0]).published else "private"}


@routes.add("PUT", "client/directory/list/room/*")
def put_visibility(call: Call) -> Json:
    """PUT /directory/list/room/{roomId}: for who may set the canonical alias, as in Synapse."""
    room = call.world.room(call.args[0])
    room.check_joined(call.user)
    if room.power.of(call.user) < room.power.to_send("m.room.canonical_alias", state=True):
        raise forbidden("You must be a moderator to change the directory listing")
    visibility = call.json().get("visibility", "public")
    if visibility not in ("public", "private"):
        raise bad_json("'visibility' must be 'public' or 'private'")
    room.published = visibility == "public"
    return {}


def _alias(call: Call) -> str:
    alias = call.args[0]
    if not alias.startswith("#") or ":" not in alias:
        raise invalid(f"Room alias {alias} must start with '#' and name a server")
    return alias
