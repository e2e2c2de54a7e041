"""`bridgekit mimi send`: a client that joins a room of somebody's provider from outside, says one thing and leaves."""

from __future__ import annotations

import asyncio
import secrets

from bridgekit.contract.errors import BridgeError, PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.clients.hubs import Hubs, state_in
from connectors.mimi.clients.seat import Seat
from connectors.mimi.kit.calling import Caller
from connectors.mimi.messages import content
from connectors.mimi.messages.content import SALT
from connectors.mimi.messages.parts import PLAIN, MimiContent, SinglePart, origin
from connectors.mimi.mls import installed
from connectors.mimi.service.presets import CONTENT
from connectors.mimi.service.room import entry
from connectors.mimi.translate import name
from connectors.mimi.uris import Thing, Uri
from connectors.mimi.wire import rooms


def send(caller: Caller, room: str, words: str, *, user: str, code: str | None) -> int:
    """Print the message's id. Raises BridgeError with what the hub answered."""
    if not uris.is_user(str(Uri(caller.domain, Thing.USER, user))):
        raise BridgeError(f"{user!r} is no name of a user.")
    try:
        if uris.parse(room, Thing.ROOM).domain != caller.peer:
            raise BridgeError(f"{room} is no room of {caller.peer}.")
    except PeerMisbehaved:
        raise BridgeError(f"{room} names no room: say mimi://{caller.peer}/r/name") from None
    print(asyncio.run(_send(caller, room, words, user, None if code is None else code.encode())))
    return 0


async def _send(caller: Caller, room: str, words: str, user: str, code: bytes | None) -> str:
    engine = installed()
    speaker = str(Uri(caller.domain, Thing.USER, user))
    client = str(Uri(caller.domain, Thing.CLIENT, f"{user}/{secrets.token_hex(4)}"))
    identity = engine.identity(client.encode())
    async with caller.peers() as peers:
        hubs = Hubs(caller.domain, None, peers, engine)
        found = await hubs.group_info(room, identity, code=code)
        role = entry(state_in(found), code)
        seat, commit = Seat.join_external(engine, identity, found, user=speaker, room_uri=room, role=role)
        joined = await hubs.update(room, commit)
        if not isinstance(joined, rooms.Updated):
            raise BridgeError(f"The room does not let us in: {joined.description or type(joined).__name__}")
        message = MimiContent(
            salt=secrets.token_bytes(SALT),
            part=SinglePart(content_type=PLAIN, content=words.encode()),
            extensions=origin(speaker, room),
        )
        octets = content.encode(message)
        try:
            answer = await hubs.submit(room, seat.say(seat.framed(CONTENT, octets), message.salt))
        finally:
            await hubs.update(room, seat.leave())
    if not isinstance(answer, rooms.Accepted):
        raise BridgeError(f"The hub does not take the message: {type(answer).__name__}")
    return name(content.message_id(octets, salt=message.salt, sender_uri=speaker, room_uri=room))
