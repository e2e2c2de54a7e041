"""Endpoints that read a room's past: messages, context, single events, relations."""

import msgspec

from bridgekit.testing.homeserver.api.routes import Call, routes
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.refusals import Json, bad_json, invalid


@routes.add("GET", "client/rooms/*/messages")
def messages(call: Call) -> Json:
    """GET /rooms/{roomId}/messages: `dir`, `from`, `to`, `limit`, and `types`/`senders` of `filter`.

    A token names the place between two events. Without `from` it starts at the end (dir=b) or at the beginning.
    """
    room = call.world.room(call.args[0])
    room.check_reader(call.user)
    query = call.request.query
    direction = query.get("dir", "b")
    if direction not in ("b", "f"):
        raise invalid("'dir' must be 'b' or 'f'")
    limit = call.number("limit", 10, 1000)
    end = len(room.timeline)
    start = _place(query["from"], end) if "from" in query else (end if direction == "b" else 0)
    stop = _place(query["to"], end) if "to" in query else (0 if direction == "b" else end)
    wanted = _filter(query.get("filter"))
    step = -1 if direction == "b" else 1
    place, chunk = start, list[Event]()
    while place != stop and (place > stop) == (step < 0) and len(chunk) < limit:
        event = room.timeline[place - 1 if step < 0 else place]
        place += step
        if all(getattr(event, field) in values for field, values in wanted.items()):
            chunk.append(event)
    answer: Json = {"start": _token(start), "chunk": msgspec.to_builtins(chunk), "state": []}
    # Client-Server API: no `end` means that there is no more in this direction.
    if (step < 0 and place > 0) or (step > 0 and place < end):
        answer["end"] = _token(place)
    return answer


@routes.add("GET", "client/rooms/*/context/*")
def context(call: Call) -> Json:
    """GET /rooms/{roomId}/context/{eventId}."""
    room = call.world.room(call.args[0])
    room.check_reader(call.user)
    place = room.position(call.args[1])
    limit = call.number("limit", 10, 1000)
    first = max(0, place - (limit + 1) // 2)
    last = min(len(room.timeline), place + 1 + limit // 2)
    around: Json = msgspec.to_builtins(
        {
            "event": room.timeline[place],
            "events_before": room.timeline[first:place][::-1],
            "events_after": room.timeline[place + 1 : last],
            "state": list(room.state.values()),
        }
    )
    return {**around, "start": _token(first), "end": _token(last)}


@routes.add("GET", "client/rooms/*/event/*")
def event(call: Call) -> Json:
    """GET /rooms/{roomId}/event/{eventId}."""
    room = call.world.room(call.args[0])
    room.check_reader(call.user)
    found: Json = msgspec.to_builtins(room.event(call.args[1]))
    return found


@routes.add(
    "GET",
    "client/rooms/*/relations/*",
    "client/rooms/*/relations/*/*",
    "client/rooms/*/relations/*/*/*",
)
def relations(call: Call) -> Json:
    """GET /rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]: newest first unless dir=f."""
    room_id, parent, *narrower = call.args
    room = call.world.room(room_id)
    room.check_reader(call.user)
    room.position(parent)
    found = room.relations(parent, *narrower)
    if call.request.query.get("dir", "b") == "b":
        found.reverse()
    start = _place(call.request.query["from"], len(found)) if "from" in call.request.query else 0
    limit = call.number("limit", 5, 1000)
    answer: Json = {"chunk": msgspec.to_builtins(found[start : start + limit])}
    if start + limit < len(found):
        answer["next_batch"] = _token(start + limit)
    return answer


def _token(place: int) -> str:
    return f"t{place}"


def _place(token: str, most: int) -> int:
    if token[:1] != "t" or not token[1:].isascii() or not token[1:].isdecimal():
        raise invalid(f"Invalid stream token {token!r}")
    return min(int(token[1:]), most)


def _filter(text: str | None) -> dict[str, list[str]]:
    if text is None:
        return {}
    try:
        parsed = msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise bad_json("'filter' must be a JSON object") from error
    fields = {"types": "type", "senders": "sender"}
    found = {field: parsed.get(key) for key, field in fields.items()}
    return {
        field: [str(value) for value in values] for field, values in found.items() if isinstance(values, list)
    }
