"""Endpoints that put something into a room: messages, redactions, state, typing, receipts."""

from collections.abc import Callable

import msgspec

from bridgekit.testing.homeserver.api.routes import Call, routes
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.refusals import Json, bad_json, invalid, not_found

_RECEIPTS = ("m.read", "m.read.private", "m.fully_read")


@routes.add("PUT", "client/rooms/*/send/*/*")
def send(call: Call) -> bytes:
    """PUT /rooms/{roomId}/send/{eventType}/{txnId}."""
    room_id, type, txn = call.args
    if type == "m.room.redaction":
        body = call.json()
        target = body.get("redacts")
        if not isinstance(target, str):
            raise bad_json("'redacts' must be a string")
        return _once(call, txn, lambda: call.world.redact(call.user, room_id, target, body, call.timestamp()))
    return _once(call, txn, lambda: call.world.send(call.user, room_id, type, call.json(), call.timestamp()))


@routes.add("PUT", "client/rooms/*/redact/*/*")
def redact(call: Call) -> bytes:
    """PUT /rooms/{roomId}/redact/{eventId}/{txnId}."""
    room_id, event_id, txn = call.args
    body = call.json()
    content = {"reason": body["reason"]} if isinstance(body.get("reason"), str) else {}
    return _once(
        call, txn, lambda: call.world.redact(call.user, room_id, event_id, content, call.timestamp())
    )


def _once(call: Call, txn: str, act: Callable[[], Event]) -> bytes:
    """Act, unless this transaction id was seen: then return the old answer.

    As Synapse 1.163: the memory is keyed by (path, appservice) and not by ghost, and dies with the process; only
    with a device id is an event deduplicated for good, per (room, user, device, txn id). Errors are not kept.
    """
    key = (call.caller.scope, call.request.path)
    seen = call.app.txns.get(key)
    if seen is not None:
        return seen
    device_key: tuple[str, ...] | None = None
    if call.caller.device is not None:
        device_key = (call.args[0], call.user, call.caller.device, txn)
        seen = call.app.device_txns.get(device_key)
        if seen is not None:
            return seen
    answer = b'{"event_id":"%b"}' % act().event_id.encode()
    call.app.txns[key] = answer
    if device_key is not None:
        call.app.device_txns[device_key] = answer
    return answer


@routes.add("PUT", "client/rooms/*/state/*", "client/rooms/*/state/*/*")
def put_state(call: Call) -> Json:
    """PUT /rooms/{roomId}/state/{eventType}/{stateKey}."""
    room_id, type, *key = call.args
    state_key = key[0] if key else ""
    event = call.world.put_state(call.user, room_id, type, state_key, call.json(), call.timestamp())
    return {"event_id": event.event_id}


@routes.add("GET", "client/rooms/*/state")
def get_whole_state(call: Call) -> bytes:
    """GET /rooms/{roomId}/state."""
    room = call.world.room(call.args[0])
    room.check_reader(call.user)
    return msgspec.json.encode(list(room.state.values()))


@routes.add("GET", "client/rooms/*/state/*", "client/rooms/*/state/*/*")
def get_state(call: Call) -> Json:
    """GET /rooms/{roomId}/state/{eventType}/{stateKey}: the content, or the event with `?format=event`."""
    room_id, type, *key = call.args
    room = call.world.room(room_id)
    room.check_reader(call.user)
    event = room.state.get((type, key[0] if key else ""))
    if event is None:
        raise not_found("Event not found.")
    if call.request.query.get("format") == "event":
        whole: Json = msgspec.to_builtins(event)
        return whole
    return event.content


@routes.add("PUT", "client/rooms/*/typing/*")
def put_typing(call: Call) -> Json:
    """PUT /rooms/{roomId}/typing/{userId}: ends by itself after `timeout` milliseconds."""
    room_id, user = call.args
    if user != call.user:
        raise invalid("Cannot set another user's typing state")
    body = call.json()
    timeout = body.get("timeout", 30_000)
    if not isinstance(body.get("typing"), bool) or not isinstance(timeout, int):
        raise bad_json("'typing' must be a boolean and 'timeout' a number")
    call.app.set_typing(user, room_id, body["typing"], min(timeout, 120_000) / 1000)
    return {}


@routes.add("POST", "client/rooms/*/receipt/*/*")
def post_receipt(call: Call) -> Json:
    """POST /rooms/{roomId}/receipt/{receiptType}/{eventId}."""
    room_id, type, event_id = call.args
    if type not in _RECEIPTS:
        raise invalid(f"Receipt type must be one of {', '.join(_RECEIPTS)}")
    thread = call.json().get("thread_id")
    call.world.set_receipt(call.user, room_id, type, event_id, thread if isinstance(thread, str) else None)
    return {}


@routes.add("POST", "client/rooms/*/read_markers")
def post_read_markers(call: Call) -> Json:
    """POST /rooms/{roomId}/read_markers."""
    body = call.json()
    for type in _RECEIPTS:
        event_id = body.get(type)
        if isinstance(event_id, str):
            call.world.set_receipt(call.user, call.args[0], type, event_id)
    return {}
