"""What one person says in one room: the message, its file, its thread, and the salt that gives it its id."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Coroutine
from typing import Any, TypeVar

from bridgekit.contract import verbs
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.people import File
from bridgekit.contract.verbs import Sent
from connectors.mimi.clients.tenants import Tenants
from connectors.mimi.clients.threads import Origin
from connectors.mimi.compose import Envelope, Said, octets, to_content
from connectors.mimi.messages import content, status
from connectors.mimi.messages.content import SALT
from connectors.mimi.service.assets import Assets
from connectors.mimi.service.presets import CONTENT, STATUS
from connectors.mimi.translate import name

T = TypeVar("T")
Spoken = verbs.PostMessage | verbs.EditMessage | verbs.React | verbs.Unreact | verbs.Retract


class Speaking:
    """Says it. `seed` makes salts and the keys of files: the same for the same message, whenever it is said again."""

    def __init__(self, tenants: Tenants, assets: Assets, *, seed: bytes) -> None:
        self._tenants = tenants
        self._assets = assets
        self._seed = seed

    async def say(self, verb: Spoken, *, room: str, user: str) -> Sent:
        """One message of a user of ours. Raises SendRejected."""
        threads = self._tenants.threads
        match verb:
            case verbs.PostMessage():
                reply = octets(verb.reply.id) if verb.reply is not None and verb.reply.id else None
                origin = Origin(await threads.topic(verb.thread), reply)
            case verbs.EditMessage() | verbs.Retract():
                origin = await threads.origin(octets(verb.target))
            case _:
                origin = Origin()
        envelope = Envelope(
            salt=self._derived("salt", room, verb)[:SALT],
            sender_uri=user,
            room_uri=room,
            topic=origin.topic,
            in_reply_to=origin.in_reply_to,
        )
        part = None
        if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
            part = await self._assets.offer(verb.content.file, self._derived("file", room, verb))
        try:
            encoded = content.encode(to_content(verb, envelope, file=part))
        except ValueError:
            raise SendRejected("The message is too large for this network.") from None
        await self._tenants.say(room, user, CONTENT, encoded, envelope.salt)
        id = content.message_id(encoded, salt=envelope.salt, sender_uri=user, room_uri=room)
        if isinstance(verb, verbs.PostMessage):
            await threads.said(id, origin)
        return Sent(id=name(id))

    async def has_read(self, verb: verbs.MarkRead, *, room: str, user: str) -> None:
        """Report that a user of ours has read something, where the room knows such reports."""
        report = [status.Report(octets(verb.target), status.Status.READ)]
        if self._tenants.seat(room, user) is not None and self._tenants.carries(room, STATUS):
            await self._tenants.say(room, user, STATUS, status.encode(report), secrets.token_bytes(SALT))

    def token(self, room: str, picture: File) -> bytes:
        """32 octets that nobody can guess, the same each time that this is to be the room's picture."""
        told = "\0".join(("avatar", room, picture.uri))
        return hmac.digest(self._seed, told.encode("utf-8", "surrogatepass"), "sha256")

    def _derived(self, purpose: str, room: str, verb: Said) -> bytes:
        """64 octets that nobody can guess, the same each time that this verb is done."""
        if not verb.key:
            return secrets.token_bytes(64)
        told = "\0".join((purpose, room, type(verb).__name__, verb.key))
        return hmac.digest(self._seed, told.encode("utf-8", "surrogatepass"), "sha512")


class Deeds:
    """What has begun is finished even where the caller gives up: half a commit would lose the room."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def done(self, deed: Coroutine[Any, Any, T], name: str) -> T:
        """What it gives."""
        task = asyncio.create_task(deed, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever gave up need not hear of it

    async def close(self) -> None:
        """Let what is under way end, or end it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
