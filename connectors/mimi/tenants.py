"""The clients that the bridge hosts: one for each person of another side, and its own; and their seats in rooms.

Group secrets are here and in `seat` only. Whatever changes a seat is stored before anybody else hears of it; facts go
out before that, so that a crash between the two repeats them (their ids deduplicate) and loses none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, NotAllowed, PeerMisbehaved, SendRejected
from bridgekit.contract.facts import Change, Fact, Membership
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Member, Person
from connectors.mimi import content, presets, status, uris
from connectors.mimi import room as state_of
from connectors.mimi.mls import MemberEngine, Signer
from connectors.mimi.peers import Endpoint, Peers
from connectors.mimi.people import People
from connectors.mimi.plausible import belongs, weigh
from connectors.mimi.provider import Provider
from connectors.mimi.room import BANNED, NOBODY, Capability, Room
from connectors.mimi.seat import Changed, Heard, Proposed, Said, Seat
from connectors.mimi.translate import Received, receipts, to_facts
from connectors.mimi.uris import Thing
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.components import (
    APP_DATA_DICTIONARY,
    ExtensionType,
    FrankingAgent,
    MediaType,
    RoomMetadata,
)
from connectors.mimi.wire.mls import AES128_X25519, CREDENTIAL, KeyPackage, RequiredCapabilities
from connectors.mimi.wire.rooms import CommitBundle, CommitFanout, Fanout, SubmitRequest, WelcomeFanout
from connectors.mimi.wire.tls import Codec
from connectors.mimi.wire.users import (
    AbuseReport,
    ClientMaterial,
    ConsentEntry,
    IdentifierRequest,
    IdentifierResponse,
    QueryCode,
)

BRIDGE = "bridge"
DEVICE = "bridge"
TRIES = 20
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
SOON = 0.1
"""Seconds until a refused epoch is tried again: what the hub said in between must be heard first."""

T = TypeVar("T")


class Tenants:
    """`provider.Local`, and what a session asks of the clients hosted here."""

    def __init__(
        self,
        domain: str,
        *,
        host: Host,
        engine: MemberEngine,
        peers: Peers,
        hub: Signer,
        open_rooms: bool = False,
    ) -> None:
        self.domain = domain
        self.bridge = str(uris.Uri(domain, Thing.USER, BRIDGE))
        self.emit: Callable[[Fact], None] | None = None
        self.reading = asyncio.Event()
        self._host = host
        self._engine = engine
        self._peers = peers
        self._hub = hub
        self._open_rooms = open_rooms
        self._provider: Provider
        self._identities: dict[str, Signer] = {}
        self._seats: dict[tuple[str, str], Seat] = {}
        self._records: dict[tuple[str, str], dict[str, bytes]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._left: set[tuple[str, str]] = set()

    async def load(self, provider: Provider) -> None:
        """Take up what is stored."""
        self._provider = provider
        for key, raw in (await self._host.items("tenant/")).items():
            self._identities[key.removeprefix("tenant/")] = self._engine.restore_identity(raw)
        for raw in (await self._host.items("seat/")).values():
            user, room, records = msgspec.msgpack.decode(raw, type=tuple[str, str, dict[str, bytes]])
            group = self._engine.restore_group(self._identities[user], records)
            self._seats[user, room] = Seat(self._engine, group, user=user, room_uri=room)
            self._records[user, room] = records

    # Who is hosted ------------------------------------------------------------------------------------------

    def user(self, speaker: Person | None) -> str:
        """The URI of a person of another side here; without a speaker, the bridge's own."""
        if speaker is None:
            return self.bridge
        name = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in speaker.id)
        uri = str(uris.Uri(self.domain, Thing.USER, name.lstrip("@/") or "_"))
        if len(uri) > uris.MAX_OCTETS - 64:
            raise SendRejected("That name is too long for this network.")
        return uri

    async def _identity(self, user: str) -> Signer:
        known = self._identities.get(user)
        if known is None:
            client = str(uris.Uri(self.domain, Thing.CLIENT, f"{uris.parse(user).name}/{DEVICE}"))
            known = self._engine.identity(client.encode())
            await self._host.put_all(
                {f"tenant/{user}": self._engine.export_identity(known), f"client/{client}": user.encode()}
            )
            self._provider.people.learn(client, user)
            known = self._identities.setdefault(user, known)
        return known

    @property
    def people(self) -> People:
        """Whose client is whose."""
        return self._provider.people

    def seat(self, room: str, user: str | None = None) -> Seat | None:
        """A seat that is still taken; the bridge's own, without a user."""
        seat = self._seats.get((user or self.bridge, room))
        return seat if seat is not None and seat.group.active else None

    def carries(self, room: str, kind: MediaType) -> bool:
        """Whether the room tells that type of message apart from others."""
        seat = self.seat(room)
        return seat is not None and kind.type in seat.media_types

    def speaks_for_others(self, room: str) -> bool:
        """Whether people of other sides can have seats of their own in the room."""
        seat = self.seat(room)
        if seat is None:
            return uris.parse(room).domain == self.domain
        return seat.state.may(self.bridge, Capability.ADD_PARTICIPANT) or _entry(seat.state) is not None

    # Rooms --------------------------------------------------------------------------------------------------

    async def enter(self, room: str) -> None:
        """Take the bridge's own seat: make the room where it is ours and new, join it from outside where it is not."""
        async with self._lock(room):
            if self.seat(room) is None:
                if uris.parse(room, Thing.ROOM).domain == self.domain and not self._provider.has_room(room):
                    await self._make(room)
                else:
                    await self._join(room, self.bridge)
        self._opened(room)

    async def _make(self, room: str) -> None:
        identity = await self._identity(self.bridge)
        app_data = presets.app_data(
            creator=self.bridge,
            metadata=RoomMetadata(room, name=uris.parse(room).name),
            agent=FrankingAgent(self._hub.signature_key, CREDENTIAL.decode(self._hub.credential)),
            discoverable=self._open_rooms,
        )
        seat = Seat.create(
            self._engine,
            identity,
            user=self.bridge,
            room_uri=room,
            app_data=app_data,
            hub=(self._hub.signature_key, self._hub.credential),
        )
        await self._provider.make_room(room, seat.group.group_info(), seat.group.ratchet_tree())
        await self._take(seat)

    async def _join(self, room: str, user: str) -> Seat:
        """By an external commit, as a participant or by an open door. The room is locked."""
        identity = await self._identity(user)
        for _ in range(TRIES):
            found = await self._group_info(room, identity)
            state = _state(found)
            role = None if state.role_of(user) not in (NOBODY, BANNED) else _entry(state)
            seat, commit = Seat.join_external(
                self._engine, identity, found, user=user, room_uri=room, role=role
            )
            answer = await self._ask_update(room, commit)
            match answer:
                case rooms.Updated():
                    await self._tell_others(room, commit, answer.accepted, but=user)
                    await self._take(seat)
                    self._left.discard((user, room))
                    return seat
                case rooms.WrongEpoch() | rooms.InvalidProposal():
                    await asyncio.sleep(SOON)
                case rooms.NotAllowed() if (user, room) in self._left:
                    await asyncio.sleep(SOON)  # our leaving waits for somebody's commit
                case rooms.NotAllowed():
                    raise SendRejected(f"The room does not let us in: {answer.description or 'not allowed'}")
        raise SendRejected("The room changes so quickly that nobody can get in; try again later.")

    async def _group_info(self, room: str, identity: Signer) -> rooms.GroupInfoAndTree:
        private, public = self._engine.sealing_key()
        request = rooms.GroupInfoRequest(
            AES128_X25519, identity.signature_key, CREDENTIAL.decode(identity.credential), public, None
        )
        signature = identity.sign("GroupInfoRequestTBS", rooms.to_be_signed(request))
        signed = msgspec.structs.replace(request, signature=signature)
        if uris.parse(room).domain == self.domain:
            given = await self._provider.group_info(room, signed, self.domain)
        else:
            body = rooms.GROUP_INFO_REQUEST.encode(signed)
            given = await self._post(room, Endpoint.GROUP_INFO, body, rooms.GROUP_INFO_RESPONSE)
        if isinstance(given, rooms.NoSuchRoom):
            raise SendRejected("There is no such room at that provider.")
        if isinstance(given, rooms.NotAuthorized):
            raise SendRejected(
                f"That room is joined by invitation only: ask somebody there to add {self.bridge}."
            )
        label = "GroupInfo and ratchet_tree encryption"
        opened = self._engine.unseal(given.cipher_suite, private, label, room.encode(), given.encrypted)
        return rooms.GROUP_INFO_AND_TREE.decode(opened)

    async def _seated(self, room: str, user: str) -> Seat:
        """The seat of somebody of another side, taken if need be. The room is locked."""
        seat = self.seat(room, user)
        if seat is not None:
            return seat
        own = self.seat(room)
        if own is None:
            raise SendRejected("The bridge is not in that room.")
        if own.state.role_of(user) == BANNED:
            raise SendRejected("You are banned from that room.")
        if own.state.role_of(user) == NOBODY and own.state.may(self.bridge, Capability.ADD_PARTICIPANT):
            await self._commit(room, lambda seat: seat.add(user, (), presets.MEMBER))
        return await self._join(room, user)

    def _opened(self, room: str) -> None:
        seat = self.seat(room)
        if seat is None:
            return
        state, now, chat = seat.state, self._now(), ChatId(room)
        metadata = state.metadata or RoomMetadata(room)
        self._tell(facts.ChatOpened(chat=chat, at=now, name=metadata.name, topic=metadata.subject))
        self._tell(facts.ChatVisibility(chat=chat, at=now, visibility=state_of.visibility(state)))
        members = tuple(
            Member(person=self.person(p.user), role=state_of.standing(state.roles.get(p.role)))
            for p in state.participants
            if p.role not in (NOBODY, BANNED) and not self._is_ours(p.user)
        )
        self._tell(facts.Roster(chat=chat, at=now, members=members))

    async def leave(self, room: str) -> None:
        """Give the bridge's own seat up; its provider's other clients go with it, as their people leave."""
        async with self._lock(room):
            for user, where in [key for key in self._seats if key[1] == room]:
                seat = self.seat(where, user)
                if seat is not None and not seat.state.base.fixed_membership:
                    await self._ask_update(room, seat.leave())
                    self._left.add((user, where))
                await self._forget(user, where)

    # Saying -------------------------------------------------------------------------------------------------

    async def say(self, room: str, user: str, kind: MediaType, inner: bytes, salt: bytes) -> None:
        """An application message of one of our clients; while its hub is away, wait for it.

        Raises SendRejected, and SendUncertain where the hub did not answer.
        """
        wait, tries = FIRST_WAIT, TRIES
        while tries:
            try:
                response = await self._say_once(room, user, kind, inner, salt)
            except Disconnected as problem:
                self._host.log.info("hub_away", room=room, why=problem.notice[:200])
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            tries -= 1
            match response:
                case rooms.Accepted():
                    return
                case rooms.Refused():
                    raise SendRejected("The room's provider does not let this be said there.")
                case rooms.EpochTooOld():
                    await asyncio.sleep(SOON)
        raise SendRejected("The room changes so quickly that nothing can be said there; try again later.")

    async def _say_once(
        self, room: str, user: str, kind: MediaType, inner: bytes, salt: bytes
    ) -> rooms.SubmitResponse:
        async with self._lock(room):
            seat = await self._seated(room, user)
            if seat.group.pending_proposals:
                # RFC 9420 12.4: what was proposed is committed before anything else is said.
                await self._commit(room, Seat.tidy)
            request = seat.say(seat.framed(kind, inner), salt)
            await self._keep(seat)
        return await self._ask_submit(room, request)

    async def change(self, room: str, make: Callable[[Seat], CommitBundle]) -> None:
        """A commit of the bridge's own client. Raises SendRejected."""
        async with self._lock(room):
            if self.seat(room) is None:
                raise SendRejected("The bridge is not in that room.")
            await self._commit(room, make)

    async def invite(self, room: str, person: str) -> None:
        """Add a user of another provider, with all their clients. Raises SendRejected."""
        packages = await self._claim(room, person)
        seat = self.seat(room)
        listed = seat is not None and seat.state.role_of(person) != NOBODY
        await self.change(room, lambda seat: seat.add(person, packages, None if listed else presets.MEMBER))

    async def _claim(self, room: str, person: str) -> list[KeyPackage]:
        try:
            uris.parse(person, Thing.USER)
        except PeerMisbehaved:
            raise SendRejected("That is nobody who could be invited on this network.") from None
        identity = await self._identity(self.bridge)
        request = users.KeyMaterialRequest(
            self.bridge,
            person,
            room,
            (AES128_X25519,),
            RequiredCapabilities((int(ExtensionType.APP_DATA_DICTIONARY),), (0x0008, 0x000A), ()),
            identity.signature_key,
            CREDENTIAL.decode(identity.credential),
        )
        signature = identity.sign("KeyMaterialRequestTBS", users.to_be_signed(request))
        signed = msgspec.structs.replace(request, signature=signature)
        if uris.parse(room).domain == self.domain:
            answer = await self._provider.key_material(signed, self.domain)
        else:
            answer = await self._post(
                room,
                Endpoint.KEY_MATERIAL,
                users.KEY_MATERIAL_REQUEST.encode(signed),
                users.KEY_MATERIAL_RESPONSE,
                person,
            )
        found = [c.key_package for c in answer.clients if isinstance(c, ClientMaterial)]
        if not found:
            raise SendRejected(f"They cannot be invited now ({answer.code.name.lower().replace('_', ' ')}).")
        return found

    async def _commit(self, room: str, make: Callable[[Seat], CommitBundle]) -> None:
        """The room is locked."""
        seat = self._seats[self.bridge, room]
        bundle = make(seat)
        await self._keep(seat)
        try:
            answer = await self._ask_update(room, bundle)
        except BridgeError:
            seat.refused()
            raise
        if not isinstance(answer, rooms.Updated):
            seat.refused()
            await self._keep(seat)
            raise SendRejected(
                f"The room's provider refuses that: {answer.description or 'the room has changed'}"
            )
        before = seat.state
        seat.accepted()
        await self._tell_others(room, bundle, answer.accepted, but=self.bridge)
        self._tell_changes(
            room, Changed(client="", before=before, after=seat.state, accepted=answer.accepted)
        )
        await self._keep(seat)

    async def _tell_others(self, room: str, bundle: CommitBundle, accepted: int, *, but: str) -> None:
        """Our other clients hear of a commit from us: the hub tells a provider nothing of its own."""
        await self._all_hear(room, CommitFanout(accepted, bundle.message), but=but)

    # The hub, ours or another -------------------------------------------------------------------------------

    async def _ask_update(self, room: str, bundle: rooms.UpdateRequest) -> rooms.UpdateResponse:
        if uris.parse(room).domain == self.domain:
            return await self._provider.update(room, bundle, self.domain)
        body = rooms.UPDATE_REQUEST.encode(bundle)
        return await self._post(room, Endpoint.UPDATE, body, rooms.UPDATE_RESPONSE)

    async def _ask_submit(self, room: str, request: SubmitRequest) -> rooms.SubmitResponse:
        if uris.parse(room).domain == self.domain:
            return await self._provider.submit(room, request, self.domain)
        body = rooms.SUBMIT_REQUEST.encode(request)
        return await self._post(room, Endpoint.SUBMIT_MESSAGE, body, rooms.SUBMIT_RESPONSE)

    async def _post(
        self, room: str, endpoint: Endpoint, body: bytes, codec: Codec[T], target: str | None = None
    ) -> T:
        answer = await self._peers.post(uris.parse(room).domain, endpoint, target or room, body)
        if answer.status != 200:
            raise SendRejected(f"The room's provider refuses that (HTTP {answer.status}).")
        return codec.decode(answer.body)

    # Local: what the hub tells ------------------------------------------------------------------------------

    async def heard(self, room: str, fanouts: Sequence[Fanout]) -> None:
        await self.reading.wait()
        tidy = False
        async with self._lock(room):
            for fanout in fanouts:
                if not isinstance(fanout, WelcomeFanout):
                    tidy |= await self._all_hear(room, fanout, but="")
        if tidy:
            await self._tidy(room)

    async def _all_hear(self, room: str, fanout: Fanout, *, but: str) -> bool:
        """Each of our clients takes it in; what it means is told once. True where something is proposed."""
        proposed = False
        for (user, where), seat in list(self._seats.items()):
            if where != room or user == but or not seat.group.active:
                continue
            said = isinstance(fanout, rooms.ApplicationFanout)
            if said and user != self.bridge:
                continue  # only one of us needs to read
            try:
                heard = seat.hear(fanout, self._provider.people)
            except (BridgeError, self._engine.MlsError) as problem:
                if user == self.bridge:
                    self._host.log.info("unreadable", room=room, why=type(problem).__name__)
                continue
            if user == self.bridge:
                self._translate(room, heard)
                proposed |= any(isinstance(each, Proposed) for each in heard)
            await self._keep(seat)
        return proposed

    async def _tidy(self, room: str) -> None:
        """Commit what others proposed; if somebody else was quicker, that is as good."""
        try:
            await self.change(room, Seat.tidy)
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.info("not_committed", room=room, why=type(problem).__name__)

    async def asked(self, entry: ConsentEntry) -> None:
        return None

    async def find(self, request: IdentifierRequest) -> IdentifierResponse:
        return IdentifierResponse(QueryCode.NOT_FOUND)

    async def reported(self, room: str, report: AbuseReport, proven: int) -> None:
        self._host.log.warning("abuse_reported", room=room, messages=len(report.messages), proven=proven)

    # Facts --------------------------------------------------------------------------------------------------

    def person(self, user: str) -> Person:
        """Somebody of another provider."""
        try:
            name = uris.parse(user).name
        except PeerMisbehaved:
            name = user
        return Person(id=PersonId(user), name=name.rpartition("/")[2] or user)

    def _is_ours(self, user: str) -> bool:
        return user.startswith(f"mimi://{self.domain}/")

    def _translate(self, room: str, heard: Sequence[Heard]) -> None:
        for each in heard:
            if isinstance(each, Changed):
                self._tell_changes(room, each)
            elif isinstance(each, Said):
                try:
                    for fact in self._said(room, each):
                        self._tell(fact)
                except PeerMisbehaved as problem:
                    self._host.log.info("message_refused", room=room, why=problem.notice[:200])

    def _said(self, room: str, said: Said) -> list[Fact]:
        user = self._provider.people.user_of(said.client.encode())
        if self._is_ours(user):
            return []
        chat, sender = ChatId(room), self.person(user)
        seat = self._seats[self.bridge, room]
        kind, data = seat.unframed(said.data)
        if kind == status.MEDIA_TYPE:
            reports = status.decode(data)
            return receipts(reports, chat=chat, sender=sender, at=said.accepted, private=False)
        message = content.decode(data)
        belongs(message, sender_uri=user, room_uri=room)
        weigh(message, accepted=said.accepted, now=self._now())
        id = content.message_id(data, salt=message.salt, sender_uri=user, room_uri=room)
        return to_facts(Received(id=id, content=message, chat=chat, sender=sender, at=said.accepted))

    def _tell_changes(self, room: str, changed: Changed) -> None:
        chat, at = ChatId(room), changed.accepted
        before = {p.user: p.role for p in changed.before.participants if not self._is_ours(p.user)}
        after = {p.user: p.role for p in changed.after.participants if not self._is_ours(p.user)}
        for user in before.keys() | after.keys():
            was, now = before.get(user, NOBODY), after.get(user, NOBODY)
            if was == now:
                continue
            change = (
                Change.BAN
                if now == BANNED
                else Change.UNBAN
                if was == BANNED and now == NOBODY
                else Change.JOIN
                if was in (NOBODY, BANNED)
                else Change.LEAVE
                if now == NOBODY
                else None
            )
            person = self.person(user)
            if change is not None:
                self._tell(Membership(chat=chat, at=at, person=person, change=change))
            if now not in (NOBODY, BANNED):
                role = state_of.standing(changed.after.roles.get(now))
                self._tell(facts.RoleChange(chat=chat, at=at, person=person, role=role))
        old = changed.before.metadata or RoomMetadata(room)
        new = changed.after.metadata or RoomMetadata(room)
        if old.subject != new.subject:
            self._tell(facts.Topic(chat=chat, at=at, topic=new.subject))
        seen = state_of.visibility(changed.after)
        if seen != state_of.visibility(changed.before):
            self._tell(facts.ChatVisibility(chat=chat, at=at, visibility=seen))

    def _tell(self, fact: Fact) -> None:
        if self.emit is not None:
            self.emit(fact)

    # Keeping ------------------------------------------------------------------------------------------------

    async def _take(self, seat: Seat) -> None:
        self._seats[seat.user, seat.room_uri] = seat
        self._records[seat.user, seat.room_uri] = {}
        await self._keep(seat)

    async def _keep(self, seat: Seat) -> None:
        """Store what changed in a seat."""
        changes: Mapping[str, bytes | None] = seat.take_changes()
        if not changes:
            return
        key = (seat.user, seat.room_uri)
        records = self._records.setdefault(key, {})
        for name, value in changes.items():
            if value is None:
                records.pop(name, None)
            else:
                records[name] = value
        await self._host.put_all({_key(*key): msgspec.msgpack.encode((*key, records))})

    async def _forget(self, user: str, room: str) -> None:
        self._seats.pop((user, room), None)
        self._records.pop((user, room), None)
        await self._host.put_all({_key(user, room): None})

    def _lock(self, room: str) -> asyncio.Lock:
        return self._locks.setdefault(room, asyncio.Lock())

    def _now(self) -> int:
        return int(self._host.now() * 1000)


def new_salt() -> bytes:
    """For one message."""
    return secrets.token_bytes(content.SALT)


def _key(user: str, room: str) -> str:
    return f"seat/{user} {room}"


def _entry(state: Room) -> int | None:
    """The role in which anybody may come in, None where the door is closed."""
    nobody = state.roles.get(NOBODY)
    if nobody is None or Capability.OPEN_JOIN not in nobody.capabilities:
        return None
    targets = [t for change in nobody.changes if change.source == NOBODY for t in change.targets]
    return next((target for target in targets if target not in (NOBODY, BANNED)), None)


def _state(found: rooms.GroupInfoAndTree) -> Room:
    """The state of a room that a GroupInfo tells of."""
    for extension in found.group_info.context.extensions:
        if extension.type == ExtensionType.APP_DATA_DICTIONARY:
            entries = APP_DATA_DICTIONARY.decode(extension.data)
            return state_of.read({entry.id: entry.data for entry in entries})
    raise NotAllowed("That group is no room: it says nothing of its participants.")
