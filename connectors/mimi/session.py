"""The session: the whole provider as one account that speaks for everybody."""

from __future__ import annotations

import asyncio

from bridgekit.contract import verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, Host
from bridgekit.contract.errors import BridgeError, SendRejected
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Kind, Person
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import Sent, Verb, VerbBase
from connectors.mimi import content, status
from connectors.mimi.compose import Envelope, octets, to_content
from connectors.mimi.markdown_out import STYLES
from connectors.mimi.presets import CONTENT, STATUS
from connectors.mimi.room import BANNED
from connectors.mimi.tenants import BRIDGE, Tenants, new_salt
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

    def __init__(self, domain: str, host: Host, tenants: Tenants) -> None:
        self.me = Person(id=PersonId(tenants.bridge), name=BRIDGE, bot=True)
        self._host = host
        self._tenants = tenants
        self._tasks: set[asyncio.Task[Sent | None]] = set()

    def capabilities(self, chat: ChatId) -> Capabilities:
        """The same everywhere, but whether people can have seats of their own."""
        return Capabilities(
            verbs=_VERBS,
            styles=STYLES,
            kinds=frozenset({Kind.TEXT, Kind.EMOTE, Kind.NOTICE}),
            speakers=self._tenants.speaks_for_others(chat),
            replies=True,
            max_bytes=MAX_BYTES,
            protection=Protection.BRIDGE,
        )

    async def run(self, emit: Emit) -> None:
        """Be in the linked rooms, and tell what is heard, until cancelled."""
        self._tenants.emit = emit
        self._tenants.reading.set()
        try:
            for chat in await self._host.chats():
                try:
                    await self._tenants.enter(chat)
                except BridgeError as problem:
                    self._host.log.warning("room_not_entered", room=chat, why=problem.notice[:200])
            await asyncio.Event().wait()
        finally:
            self._tenants.emit = None
            self._tenants.reading.clear()

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
        room, tenants = verb.chat, self._tenants
        match verb:
            case (
                verbs.PostMessage() | verbs.EditMessage() | verbs.React() | verbs.Unreact() | verbs.Retract()
            ):
                return await self._say(verb)
            case verbs.MarkRead():
                report = [status.Report(octets(verb.target), status.Status.READ)]
                user = tenants.user(verb.speaker)
                if tenants.seat(room, user) is not None and tenants.carries(room, STATUS):
                    await tenants.say(room, user, STATUS, status.encode(report), new_salt())
            case verbs.SetTopic():
                await tenants.change(
                    room, lambda seat: seat.describe(_with_topic(seat.state.metadata, room, verb.topic))
                )
            case verbs.Join():
                await tenants.enter(room)
            case verbs.Leave():
                await tenants.leave(room)
            case verbs.Invite():
                await tenants.invite(room, verb.person.id)
            case verbs.Kick():
                people = tenants.people
                await tenants.change(room, lambda seat: seat.remove(verb.person.id, people))
            case verbs.Ban():
                people = tenants.people
                await tenants.change(room, lambda seat: seat.give_role(verb.person.id, BANNED, people))
            case _:
                raise SendRejected("Nobody on this network can do that.")
        return None

    async def _say(
        self, verb: verbs.PostMessage | verbs.EditMessage | verbs.React | verbs.Unreact | verbs.Retract
    ) -> Sent:
        user = self._tenants.user(verb.speaker)
        envelope = Envelope(salt=new_salt(), sender_uri=user, room_uri=verb.chat)
        try:
            encoded = content.encode(to_content(verb, envelope))
        except ValueError:
            raise SendRejected("The message is too large for this network.") from None
        await self._tenants.say(verb.chat, user, CONTENT, encoded, envelope.salt)
        id = content.message_id(encoded, salt=envelope.salt, sender_uri=user, room_uri=verb.chat)
        return Sent(id=name(id))


def _with_topic(metadata: RoomMetadata | None, room: str, topic: str) -> RoomMetadata:
    old = metadata or RoomMetadata(room)
    clean = topic.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return RoomMetadata(old.room_uri, old.name, old.descriptions, old.avatar, clean, old.mood)
