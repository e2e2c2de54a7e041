"""The session: the whole provider as one account that speaks for everybody."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

import msgspec

from bridgekit.contract import verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, Host
from bridgekit.contract.errors import BridgeError, SendRejected
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import File, Kind, Person, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import Sent, Verb, VerbBase
from connectors.mimi import uris
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.speaking import Deeds, Speaking
from connectors.mimi.clients.tenants import BRIDGE, Tenants
from connectors.mimi.messages.markdown_out import STYLES
from connectors.mimi.service import presets
from connectors.mimi.service.assets import Assets
from connectors.mimi.service.people import People
from connectors.mimi.service.room import BANNED, NOBODY, Capability, role_for
from connectors.mimi.wire.components import RoomMetadata
from connectors.mimi.wire.rooms import CommitBundle

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
        verbs.SetName,
        verbs.SetAvatar,
        verbs.Join,
        verbs.Leave,
        verbs.Depart,
        verbs.Invite,
        verbs.Kick,
        verbs.Ban,
        verbs.Unban,
        verbs.SetRole,
    }
)


class MimiSession:
    """`contract.Session` over the clients that are hosted here."""

    def __init__(self, host: Host, tenants: Tenants, speaking: Speaking, assets: Assets) -> None:
        self.me = Person(id=PersonId(tenants.bridge), name=BRIDGE, bot=True)
        self.tenants = tenants
        self.speaking = speaking
        self._assets = assets
        self.deeds = Deeds()
        self.closed = asyncio.Event()
        self._host = host

    def capabilities(self, chat: ChatId) -> Capabilities:
        """The same everywhere, but whether people can have seats of their own."""
        return capabilities(_VERBS, speakers=self.tenants.speaks_for_others(chat))

    async def run(self, emit: Emit) -> None:
        """Be in the linked rooms, and tell what is heard, until cancelled."""
        self.tenants.listen(emit)
        try:
            for chat in await self._host.chats():
                try:
                    await self.tenants.membership.enter(chat)
                except BridgeError as problem:
                    self._host.log.warning("room_not_entered", room=chat, why=problem.notice[:200])
            # Only now: what a hub tells is read from where an unfinished commit has led.
            self.tenants.reading.set()
            for chat in await self._host.chats():
                await self.tenants.membership.greet(chat)
            await self.tenants.work()
        finally:
            self.tenants.listen(None)

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb. What has begun is finished even where the caller gives up."""
        return await self.deeds.done(self._do(verb), f"mimi {type(verb).__name__}")

    async def close(self) -> None:
        """Let what is under way end; the accounts end with it."""
        self.closed.set()
        await self.deeds.close()

    async def find(self, words: str) -> list[Person]:
        """Users of other providers, by what they let themselves be found by (protocol 5.8). Raises SendRejected."""
        return await self.tenants.search(words)

    async def make_code(self, chat: ChatId) -> str:
        """A join code of a closed room (room-policy 6.2). Raises SendRejected."""
        code = secrets.token_urlsafe(16)
        await self.deeds.done(self.tenants.change(chat, lambda seat: seat.let_in(code.encode())), "mimi code")
        return code

    async def end_codes(self, chat: ChatId) -> int:
        """Take all join codes of a room back. Raises SendRejected."""
        seat = self.tenants.seat(chat)
        count = 0 if seat is None else len(seat.codes)
        if count:
            await self.deeds.done(self.tenants.change(chat, Seat.end_codes), "mimi code")
        return count

    async def _do(self, verb: Verb) -> Sent | None:
        room, tenants = verb.chat, self.tenants
        match verb:
            case verbs.Unreact() | verbs.Retract():
                return await self.speaking.say(verb, room=room, user=self._who_takes_back(verb))
            case verbs.PostMessage() | verbs.EditMessage() | verbs.React():
                return await self.speaking.say(verb, room=room, user=tenants.user(verb.speaker))
            case verbs.MarkRead():
                await self.speaking.has_read(verb, room=room, user=tenants.user(verb.speaker))
            case verbs.SetTopic():
                await self._describe(room, subject=verb.topic)
            case verbs.SetName():
                await self._describe(room, name=verb.name)
            case verbs.SetAvatar():
                await self._show(room, verb.avatar)
            case verbs.Join():
                if tenants.directs.of(room) is not None:
                    raise SendRejected("That is a conversation of two.")
                await tenants.membership.enter(room, verb.secret.encode())
            case verbs.Leave():
                await tenants.membership.leave(room)
            case verbs.Depart():
                await tenants.membership.stand_up(room, tenants.user(verb.speaker))
            case verbs.Invite():
                await tenants.inviting.invite(room, verb.person.id, tenants.user(verb.speaker))
            case verbs.Kick() | verbs.Ban() | verbs.Unban():
                await tenants.inviting.withdraw(room, verb.person.id)
                if tenants.seat(room) is not None:
                    await tenants.change(room, partial(_put_out, verb, people=tenants.people))
            case verbs.SetRole():
                await self._give_role(room, verb)
            case _:
                raise SendRejected("Nobody on this network can do that.")
        return None

    def _who_takes_back(self, verb: verbs.Unreact | verbs.Retract) -> str:
        """Who said it does so with their own client, also where another asks; else who may. Raises SendRejected."""
        tenants, speaker = self.tenants, self.tenants.user(verb.speaker)
        if verb.said_by is None:
            return speaker
        author = tenants.user(Person(id=verb.said_by, name=""))
        if tenants.seat(verb.chat, author) is not None:
            return author
        reader = tenants.seat(verb.chat)
        needed = (
            Capability.DELETE_OTHER_REACTION
            if isinstance(verb, verbs.Unreact)
            else Capability.DELETE_OTHER_MESSAGE
        )
        if reader is not None:
            for user in (speaker, reader.user):
                if reader.state.may(user, needed):
                    return user
        raise SendRejected("That room does not let anybody here take back what others said.")

    async def _describe(self, room: ChatId, **fields: str) -> None:
        """Change some of the room's metadata (its component 0x0023). Raises SendRejected."""
        clean = {field: _clean(words) for field, words in fields.items()}

        def anew(seat: Seat) -> RoomMetadata:
            return msgspec.structs.replace(seat.state.metadata or RoomMetadata(room), **clean)

        seat = self.tenants.seat(room)
        if seat is None or anew(seat) != seat.state.metadata:
            await self.tenants.change(room, lambda seat: seat.describe(anew(seat)))

    async def _show(self, room: ChatId, picture: File | None) -> None:
        """The room's picture lies at an address of ours (7.6: "an https URI"), and an earlier one no more."""
        seat = self.tenants.seat(room)
        before = seat.state.metadata.avatar if seat is not None and seat.state.metadata is not None else ""
        address = ""
        if picture is not None:
            address = await self._assets.show(picture, self.speaking.token(room, picture))
        try:
            with self.tenants.showing(room, address):
                await self._describe(room, avatar=address)
        except SendRejected:
            if address != before:
                await self._assets.hide(address)
            raise
        if address != before:
            await self._assets.hide(before)

    async def _give_role(self, room: ChatId, verb: verbs.SetRole) -> None:
        """Of the room's own roles the one that is nearest (room-policy 4). Raises SendRejected."""
        tenants = self.tenants
        user = tenants.user(verb.person) if verb.shown else verb.person.id
        if verb.shown and verb.role > Role.NONE and tenants.role(room, user) == NOBODY:
            await tenants.membership.sit_down(room, user)
        seat = tenants.seat(room)
        now = tenants.role(room, user)
        if seat is None or now in (NOBODY, BANNED):
            return
        usual = presets.role_of_ours(seat.state) if verb.shown else now
        role = role_for(seat.state, user, verb.role, by=seat.user, usual=usual)
        if role is None:
            raise SendRejected("That room has no such role, or does not let the bridge give it.")
        if role != now:
            people = tenants.people
            await tenants.change(room, lambda seat: seat.give_role(user, role, people))


def _put_out(
    verb: verbs.Kick | verbs.Ban | verbs.Unban, seat: Seat, *, people: People
) -> CommitBundle | None:
    """What puts somebody out of the room, or lets them in again; None where they are so already."""
    user, role = verb.person.id, seat.state.role_of(verb.person.id)
    match verb:
        case verbs.Ban():
            if role == NOBODY:  # who has left cannot come back
                if not uris.is_user(user):
                    raise SendRejected("That is nobody who could be banned on this network.")
                return seat.add(user, (), BANNED)
            return seat.give_role(user, BANNED, people) if role != BANNED else None
        case verbs.Unban():
            return seat.remove(user, people) if role == BANNED else None
        case verbs.Kick():
            return seat.remove(user, people) if role not in (NOBODY, BANNED) else None


def capabilities(can: frozenset[type[VerbBase]], *, speakers: bool) -> Capabilities:
    """What one chat carries."""
    return Capabilities(
        verbs=can,
        styles=STYLES,
        kinds=frozenset({Kind.TEXT, Kind.EMOTE, Kind.NOTICE}),
        speakers=speakers,
        replies=True,
        threads=True,
        files=True,
        idempotent=True,
        max_bytes=MAX_BYTES,
        protection=Protection.BRIDGE,
    )


def _clean(words: str) -> str:
    return words.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
