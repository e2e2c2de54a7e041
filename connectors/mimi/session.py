"""The session: the whole provider as one account that speaks for everybody."""

from __future__ import annotations

import asyncio
import hmac
import secrets

from bridgekit.contract import verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, Host
from bridgekit.contract.errors import BridgeError, SendRejected
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Kind, Person
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import Sent, Verb, VerbBase
from connectors.mimi import content, status
from connectors.mimi.assets import Assets
from connectors.mimi.compose import Envelope, Said, octets, to_content
from connectors.mimi.content import SALT
from connectors.mimi.markdown_out import STYLES
from connectors.mimi.presets import CONTENT, STATUS
from connectors.mimi.room import BANNED, NOBODY
from connectors.mimi.tenants import BRIDGE, Tenants
from connectors.mimi.threads import Origin
from connectors.mimi.translate import name
from connectors.mimi.wire.components import RoomMetadata

MAX_BYTES = 64 * 1024
_VERBS: frozenset[type[VerbBase]] = frozenset(
    {
        verbs.PostMessage,
        verbs.EditMessage,
        verbs.React,
        verbs.Unreact,
        verbs.Retract,
        verbs.MarkRead,
        verbs.SetTopic,
        verbs.Join,
        verbs.Leave,
        verbs.Invite,
        verbs.Kick,
        verbs.Ban,
    }
)


class MimiSession:
    """`contract.Session` over the clients that are hosted here."""

    def __init__(self, host: Host, tenants: Tenants, assets: Assets, *, seed: bytes) -> None:
        """`seed` makes salts and the keys of files: the same for the same message, whenever it is said again."""
        self.me = Person(id=PersonId(tenants.bridge), name=BRIDGE, bot=True)
        self._host = host
        self.tenants = tenants
        self._assets = assets
        self._seed = seed
        self._tasks: set[asyncio.Task[Sent | None]] = set()

    def capabilities(self, chat: ChatId) -> Capabilities:
        """The same everywhere, but whether people can have seats of their own."""
        return Capabilities(
            verbs=_VERBS,
            styles=STYLES,
            kinds=frozenset({Kind.TEXT, Kind.EMOTE, Kind.NOTICE}),
            speakers=self.tenants.speaks_for_others(chat),
            replies=True,
            threads=True,
            files=True,
            idempotent=True,
            max_bytes=MAX_BYTES,
            protection=Protection.BRIDGE,
        )

    async def run(self, emit: Emit) -> None:
        """Be in the linked rooms, and tell what is heard, until cancelled."""
        self.tenants.emit = emit
        try:
            for chat in await self._host.chats():
                try:
                    await self.tenants.enter(chat)
                except BridgeError as problem:
                    self._host.log.warning("room_not_entered", room=chat, why=problem.notice[:200])
            # Only now: what a hub tells is read from where an unfinished commit has led.
            self.tenants.reading.set()
            for chat in await self._host.chats():
                await self.tenants.greet(chat)
            await self.tenants.work()
        finally:
            self.tenants.emit = None
            self.tenants.reading.clear()

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb. What has begun is finished even where the caller gives up: half a commit would lose the room."""
        task = asyncio.create_task(self._do(verb), name=f"mimi {type(verb).__name__}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Sent | None]) -> None:
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

    async def _do(self, verb: Verb) -> Sent | None:
        room, tenants = verb.chat, self.tenants
        match verb:
            case (
                verbs.PostMessage() | verbs.EditMessage() | verbs.React() | verbs.Unreact() | verbs.Retract()
            ):
                return await self._say(verb)
            case verbs.MarkRead():
                report = [status.Report(octets(verb.target), status.Status.READ)]
                user = tenants.user(verb.speaker)
                if tenants.seat(room, user) is not None and tenants.carries(room, STATUS):
                    await tenants.say(room, user, STATUS, status.encode(report), secrets.token_bytes(SALT))
            case verbs.SetTopic():
                await tenants.change(
                    room, lambda seat: seat.describe(_with_topic(seat.state.metadata, room, verb.topic))
                )
            case verbs.Join():
                await tenants.enter(room, verb.secret.encode())
            case verbs.Leave():
                await tenants.leave(room)
            case verbs.Invite():
                await tenants.invite(room, verb.person.id)
            case verbs.Kick():
                if tenants.role(room, verb.person.id) != NOBODY:
                    people = tenants.people
                    await tenants.change(room, lambda seat: seat.remove(verb.person.id, people))
            case verbs.Ban():
                if tenants.role(room, verb.person.id) != BANNED:
                    people = tenants.people
                    await tenants.change(room, lambda seat: seat.give_role(verb.person.id, BANNED, people))
            case _:
                raise SendRejected("Nobody on this network can do that.")
        return None

    async def _say(
        self, verb: verbs.PostMessage | verbs.EditMessage | verbs.React | verbs.Unreact | verbs.Retract
    ) -> Sent:
        room, user = verb.chat, self.tenants.user(verb.speaker)
        threads = self.tenants.threads
        match verb:
            case verbs.PostMessage():
                reply = octets(verb.reply.id) if verb.reply is not None and verb.reply.id else None
                origin = Origin(await threads.topic(verb.thread), reply)
            case verbs.EditMessage() | verbs.Retract():
                origin = await threads.origin(octets(verb.target))
            case _:
                origin = Origin()
        envelope = Envelope(
            salt=self._derived("salt", verb)[:SALT],
            sender_uri=user,
            room_uri=room,
            topic=origin.topic,
            in_reply_to=origin.in_reply_to,
        )
        part = None
        if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
            part = await self._assets.offer(verb.content.file, self._derived("file", verb))
        try:
            encoded = content.encode(to_content(verb, envelope, file=part))
        except ValueError:
            raise SendRejected("The message is too large for this network.") from None
        await self.tenants.say(room, user, CONTENT, encoded, envelope.salt)
        id = content.message_id(encoded, salt=envelope.salt, sender_uri=user, room_uri=room)
        if isinstance(verb, verbs.PostMessage):
            await threads.said(id, origin)
        return Sent(id=name(id))

    def _derived(self, purpose: str, verb: Said) -> bytes:
        """64 octets that nobody can guess, the same each time that this verb is done."""
        if not verb.key:
            return secrets.token_bytes(64)
        told = "\0".join((purpose, verb.chat, type(verb).__name__, verb.key))
        return hmac.digest(self._seed, told.encode("utf-8", "surrogatepass"), "sha512")


def _with_topic(metadata: RoomMetadata | None, room: str, topic: str) -> RoomMetadata:
    old = metadata or RoomMetadata(room)
    clean = topic.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return RoomMetadata(old.room_uri, old.name, old.descriptions, old.avatar, clean, old.mood)
