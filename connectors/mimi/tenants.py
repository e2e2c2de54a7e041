"""The clients that the bridge hosts: one for each person of another side, and its own; what they do in rooms.

Whatever changes a seat is stored before anybody else hears of it; facts go out before that, so that a crash between
the two repeats them (their ids deduplicate) and loses none. A commit is kept before it is put to the hub, so that
its fate can be found out by whoever comes after a crash: by the hub's GroupInfo, or by what the hub tells next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, PeerMisbehaved, SendRejected, SendUncertain
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Person
from connectors.mimi import attachment, content, presets, searching, status, telling, uris
from connectors.mimi.accounts import Account
from connectors.mimi.directs import Directs, found_in
from connectors.mimi.expiring import Expiring
from connectors.mimi.hubs import AwaitsConsent, Hubs, Unavailable, state_in
from connectors.mimi.mls import MemberEngine, Signer
from connectors.mimi.packages import Packages
from connectors.mimi.peers import Peers
from connectors.mimi.people import People
from connectors.mimi.plausible import belongs, weigh
from connectors.mimi.provider import Provider
from connectors.mimi.room import BANNED, NOBODY, Capability, entry
from connectors.mimi.seat import Changed, Heard, Proposed, Said, Seat
from connectors.mimi.seats import Asked, Seats
from connectors.mimi.threads import Threads
from connectors.mimi.translate import Received, receipts, to_facts
from connectors.mimi.uris import Thing
from connectors.mimi.wire import rooms
from connectors.mimi.wire.components import FrankingAgent, MediaType, RoomMetadata
from connectors.mimi.wire.mls import CREDENTIAL, MLS_MESSAGE, GroupContext, GroupInfo, PublicMessage
from connectors.mimi.wire.rooms import CommitBundle, CommitFanout, Fanout, ProposalFanout, WelcomeFanout
from connectors.mimi.wire.users import (
    AbuseReport,
    ConsentEntry,
    ConsentOperation,
    IdentifierRequest,
    IdentifierResponse,
    UserCode,
)

Chore = Callable[[], Coroutine[Any, Any, None]]

BRIDGE = "bridge"
GUEST = "guest/"
"""Who of ours reads a room for all of us, because they were invited and the bridge was not."""
WANTED = "wanted/"
"""Who was invited and had not agreed to be, by user and room: ASKED, or AGREED since."""
ASKED, AGREED = b"asked", b"agreed"
TRIES = 40
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
SOON, LATER = 0.1, 2.0
"""Seconds until a refused epoch is tried again, first and at most: what the hub said meanwhile must be heard first."""


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
        self.directs = Directs(domain, host)
        self.reading = asyncio.Event()
        self.threads = Threads(host)
        self._expiring = Expiring(host)
        self._host = host
        self._engine = engine
        self._peers = peers
        self._hub = hub
        self._open_rooms = open_rooms
        self._provider: Provider
        self._hubs: Hubs
        self._seats = Seats(domain, host, engine)
        self._packages = Packages(host, engine, self._seats)
        self._accounts: dict[str, Account] = {}
        self._guests: dict[str, str] = {}
        self._inviting: dict[str, asyncio.Lock] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._left: set[tuple[str, str]] = set()
        self._chores: asyncio.Queue[Chore] = asyncio.Queue()

    async def load(self, provider: Provider) -> None:
        """Take up what is stored."""
        self._provider = provider
        self._hubs = Hubs(self.domain, provider, self._peers, self._engine)
        await self.directs.load()
        for key, raw in (await self._host.items(GUEST)).items():
            self._guests[key.removeprefix(GUEST)] = raw.decode()
        await self._seats.load(provider.people)
        await self._packages.load()

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

    def account(self, user: str) -> Account:
        """A Matrix user who is reached from elsewhere, connected or not."""
        if user not in self._accounts:
            self._accounts[user] = Account(
                user,
                host=self._host,
                rooms=self,
                directs=self.directs,
                packages=self._packages,
                provider=self._provider,
                hubs=self._hubs,
            )
        return self._accounts[user]

    def reader(self, room: str) -> str:
        """Whose client here reads the room and makes its commits: the bridge's own, else that of who was invited.

        In a direct room that is its user.
        """
        direct = self.directs.of(room)
        if direct is not None:
            return direct.user
        if room in self._guests and self._seats.get(self.bridge, room) is None:
            return self._guests[room]
        return self.bridge

    def is_unread(self, room: str, user: str) -> bool:
        """Whether a user here was brought into a shared room that nobody here reads."""
        return self.directs.of(room) is None and self.seat(room) is None and self.seat(room, user) is not None

    async def read_by(self, room: str, user: str) -> None:
        """From now on a user's own client reads the room, where the bridge's is not: they said so."""
        await self._host.put(f"{GUEST}{room}", user.encode())
        self._guests[room] = user

    @property
    def people(self) -> People:
        """Whose client is whose."""
        return self._provider.people

    def seat(self, room: str, user: str | None = None) -> Seat | None:
        """A seat that is still taken; the reader's, without a user."""
        return self._seats.get(user or self.reader(room), room)

    def role(self, room: str, user: str) -> int:
        """Somebody's role in a room; NOBODY where there is none, or we are not there."""
        seat = self.seat(room)
        return NOBODY if seat is None else seat.state.role_of(user)

    def carries(self, room: str, kind: MediaType) -> bool:
        """Whether the room tells that type of message apart from others."""
        seat = self.seat(room)
        return seat is not None and kind.type in seat.media_types

    def speaks_for_others(self, room: str) -> bool:
        """Whether people of other sides can have seats of their own in the room."""
        seat = self.seat(room)
        if seat is None:
            return uris.parse(room).domain == self.domain
        return seat.state.may(self.bridge, Capability.ADD_PARTICIPANT) or entry(seat.state) is not None

    # Rooms --------------------------------------------------------------------------------------------------

    async def enter(self, room: str, code: bytes = b"") -> None:
        """Take the bridge's own seat: make the room where it is ours and new, join it from outside where it is not.

        `code` is a join code of the room, if somebody gave one; it is kept. Raises SendRejected.
        """
        if code:
            await self._host.put(f"code/{room}", code)
        soon = SOON
        for _ in range(TRIES):
            async with self._lock(room):
                try:
                    seat = await self._entered(room)
                except _Stale:
                    pass
                else:
                    self._tell(*telling.opened(seat.state, room, at=self._now(), domain=self.domain))
                    return
            await asyncio.sleep(soon)
            soon = min(soon * 1.5, LATER)
        raise SendRejected("The room changes so quickly that nobody can get in; try again later.")

    async def _entered(self, room: str) -> Seat:
        """The room is locked. Raises _Stale."""
        seat = self.seat(room)
        if seat is not None:
            # Where that cannot be done now, what the hub tells next will show.
            with contextlib.suppress(_Stale, Disconnected, SendUncertain):
                await self._settle(room)
            self._chores.put_nowait(partial(self._tidy, room))
            return seat
        if self._hubs.is_ours(room) and not self._provider.has_room(room):
            return await self._make(room)
        return await self._join(room, self.reader(room))

    async def greet(self, room: str) -> None:
        """Let the room's hub know that we are back."""
        try:
            await self._hubs.greet(room)
        except BridgeError as problem:
            self._host.log.info("hub_away", room=room, why=problem.notice[:200])

    async def _make(self, room: str) -> Seat:
        user, direct = self.reader(room), self.directs.of(room)
        identity = await self._seats.identity(user)
        app_data = presets.app_data(
            creator=user,
            metadata=RoomMetadata(room, name="" if direct else uris.parse(room).name),
            agent=FrankingAgent(self._hub.signature_key, CREDENTIAL.decode(self._hub.credential)),
            other=None if direct is None else direct.other,
            discoverable=self._open_rooms and direct is None,
        )
        seat = Seat.create(
            self._engine,
            identity,
            user=user,
            room_uri=room,
            app_data=app_data,
            hub=(self._hub.signature_key, self._hub.credential),
        )
        await self._provider.make_room(room, seat.group.group_info(), seat.group.ratchet_tree())
        await self._seats.take(seat)
        return seat

    async def _join(self, room: str, user: str) -> Seat:
        """By an external commit, as a participant or by an open door. The room is locked. Raises _Stale."""
        identity = await self._seats.identity(user)
        code = await self._host.get(f"code/{room}")
        found = await self._hubs.group_info(room, identity, code=code)
        own = self.seat(room)
        if own is not None and own.group.epoch != found.group_info.context.epoch:
            raise _Stale  # a commit that we made ahead of what we have heard would be missing there for ever
        foreseen = await self._foreseen(room, found.pending)
        state = state_in(found)
        role = None if state.role_of(user) not in (NOBODY, BANNED) else entry(state, code)
        seat, commit = Seat.join_external(self._engine, identity, found, user=user, room_uri=room, role=role)
        # What the seat keeps now is what it is if the hub takes the commit.
        records = {name: value for name, value in seat.take_changes().items() if value is not None}
        octets = MLS_MESSAGE.encode(commit.message)
        if own is not None:
            await self._seats.asking(room, Asked(user, commit.message.epoch, octets, records), *foreseen)
        answer = await self._put(room, commit)
        if answer is None:
            joined = self.seat(room, user)
            if joined is None:
                raise _Stale
            return joined
        if not isinstance(answer, rooms.Updated):
            await self._seats.keep(more=self._seats.answered(room))
            if isinstance(answer, rooms.NotAllowed) and (user, room) not in self._left:
                raise SendRejected(f"The room does not let us in: {answer.description or 'not allowed'}")
            raise _Stale  # or our leaving waits for somebody's commit
        await self._taken(room, Asked(user, commit.message.epoch, octets, records), answer.accepted)
        self._left.discard((user, room))
        taken = self.seat(room, user)
        if taken is None:
            raise _Stale
        return taken

    async def _foreseen(self, room: str, pending: Sequence[rooms.PendingProposal]) -> list[Seat]:
        """Those of us who now know what waits to be committed, to be kept.

        An external commit covers leaves that the hub may not have told us of yet. Who has not heard of them cannot
        follow it, and not even check its leaf, which goes to the first free place (RFC 9420 7.3, 12.4.3.2).
        """
        changed: list[Seat] = []
        for each in pending:
            if isinstance(each.message, PublicMessage):
                changed += (await self._take_in(room, ProposalFanout(each.accepted, each.message), but=""))[0]
        return changed

    async def _seated(self, room: str, user: str) -> Seat:
        """The seat of somebody of another side, taken if need be. The room is locked. Raises _Stale."""
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

    async def sit_down(self, room: str, user: str) -> None:
        """Let somebody of another side have their seat before they say anything. Raises SendRejected."""
        soon = SOON
        for _ in range(TRIES):
            async with self._lock(room):
                try:
                    await self._settle(room)
                    await self._seated(room, user)
                except _Stale:
                    pass
                else:
                    return
            await asyncio.sleep(soon)
            soon = min(soon * 1.5, LATER)
        raise SendRejected("The room changes so quickly that nobody can get in; try again later.")

    async def stand_up(self, room: str, user: str) -> None:
        """Let somebody of another side leave the room, with their client."""
        async with self._lock(room):
            seat = self.seat(room, user)
            if seat is None or user == self.reader(room) or seat.state.base.fixed_membership:
                return
            bundle = seat.leave()
            answer = await self._hubs.update(room, bundle)
            self._left.add((user, room))
            await self._seats.forget(user, room)
            if isinstance(answer, rooms.Updated):
                # The hub tells a provider nothing of its own; somebody has to commit it (RFC 9420 12.1.2).
                await self._all_hear(
                    room, ProposalFanout(answer.accepted, bundle.message, bundle.more), but=user
                )
                self._chores.put_nowait(partial(self._tidy, room))

    async def leave(self, room: str) -> None:
        """Give the bridge's own seat up; its provider's other clients go with it, as their people leave."""
        async with self._lock(room):
            for each in self._seats.in_room(room):
                seat = self.seat(room, each.user)
                if seat is not None and not seat.state.base.fixed_membership:
                    await self._hubs.update(room, seat.leave())
                    self._left.add((seat.user, room))
                await self._seats.forget(each.user, room)
            if self._guests.pop(room, None) is not None:
                await self._host.put(f"{GUEST}{room}", None)

    # Saying -------------------------------------------------------------------------------------------------

    async def say(self, room: str, user: str, kind: MediaType, inner: bytes, salt: bytes) -> None:
        """An application message of one of our clients; while its hub is away, wait for it.

        What may have arrived is said again: it is the same message, with the same id, which nobody takes twice
        (draft-ietf-mimi-content-08 9.1). Raises SendRejected.
        """
        wait, soon, tries = FIRST_WAIT, SOON, TRIES
        while tries:
            try:
                response = await self._say_once(room, user, kind, inner, salt)
            except (Disconnected, SendUncertain) as problem:
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
                case rooms.EpochTooOld() | None:
                    await asyncio.sleep(soon)
                    soon = min(soon * 1.5, LATER)
        raise SendRejected("The room changes so quickly that nothing can be said there; try again later.")

    async def _say_once(
        self, room: str, user: str, kind: MediaType, inner: bytes, salt: bytes
    ) -> rooms.SubmitResponse | None:
        """The hub's answer; None where the room was in another epoch meanwhile."""
        async with self._lock(room):
            try:
                await self._settle(room)
                seat = await self._seated(room, user)
                if seat.group.pending_proposals:
                    # RFC 9420 12.4: what was proposed is committed before anything else is said.
                    await self._commit(room, Seat.tidy)
            except _Stale:
                return None
            request = seat.say(seat.framed(kind, inner), salt)
            await self._seats.keep(seat)
        return await self._hubs.submit(room, request)

    async def change(self, room: str, make: Callable[[Seat], CommitBundle]) -> None:
        """A commit of the bridge's own client. Raises SendRejected."""
        soon = SOON
        for _ in range(TRIES):
            async with self._lock(room):
                if self.seat(room) is None:
                    raise SendRejected("The bridge is not in that room.")
                try:
                    await self._settle(room)
                    return await self._commit(room, make)
                except _Stale:
                    pass
            await asyncio.sleep(soon)
            soon = min(soon * 1.5, LATER)
        raise SendRejected("The room changes so quickly that nothing can be changed there; try again later.")

    async def invite(self, room: str, person: str) -> None:
        """Add a user of another provider, with all their clients; who is there already stays.

        Raises AwaitsConsent where they were asked now, SendRejected.
        """
        async with self._inviting.setdefault(room, asyncio.Lock()):
            seat = self.seat(room)
            if seat is not None and seat.leaves(person, self.people):
                return
            await self._invite(room, self.reader(room), person)

    async def _invite(self, room: str, inviter: str, person: str) -> None:
        identity = await self._seats.identity(inviter)
        try:
            packages = await self._hubs.key_packages(room, inviter, identity, person)
        except Unavailable as unavailable:
            if unavailable.code not in (UserCode.NO_CONSENT, UserCode.NO_CONSENT_FOR_THIS_ROOM):
                raise
            await self._host.put(_wanted(person, room), ASKED)
            scope = room if self.directs.of(room) is None else None
            await self._hubs.request_consent(ConsentEntry(ConsentOperation.REQUEST, inviter, person, scope))
            raise AwaitsConsent from None
        await self.change(
            room,
            lambda seat: seat.add(
                person, packages, presets.MEMBER if seat.state.role_of(person) == NOBODY else None
            ),
        )

    # Commits ------------------------------------------------------------------------------------------------

    async def _commit(self, room: str, make: Callable[[Seat], CommitBundle]) -> None:
        """By the bridge's own client. The room is locked. Raises _Stale where it was made for another epoch."""
        seat = self.seat(room)
        if seat is None:
            raise SendRejected("The bridge is not in that room.")
        bundle = make(seat)
        asked = Asked(seat.user, seat.group.epoch, MLS_MESSAGE.encode(bundle.message))
        await self._seats.asking(room, asked, seat)
        answer = await self._put(room, bundle)
        if answer is None:
            if room in self._seats.asked or seat.group.epoch == asked.epoch:
                raise _Stale
            return
        if not isinstance(answer, rooms.Updated):
            seat.refused()
            await self._seats.keep(seat, more=self._seats.answered(room))
            if isinstance(answer, rooms.WrongEpoch | rooms.InvalidProposal):
                raise _Stale
            raise SendRejected(f"The room's provider refuses that: {answer.description or 'not allowed'}")
        await self._taken(room, asked, answer.accepted)

    async def _put(self, room: str, bundle: CommitBundle) -> rooms.UpdateResponse | None:
        """What the hub answers. None: it may have heard and did not answer, and now it is settled, if it can be."""
        try:
            return await self._hubs.update(room, bundle)
        except SendUncertain:
            pass
        except BridgeError:
            await self._dropped(room)
            raise
        await self._settle(room)
        return None

    async def _settle(self, room: str) -> None:
        """Find out whether the hub took the commit that it has not answered. The room is locked.

        Raises _Stale where that cannot be told yet: the room went on, and the next that the hub tells will show.
        """
        asked = self._seats.asked.get(room)
        if asked is None:
            return
        found = await self._hubs.group_info(room, await self._seats.identity(self.reader(room)))
        context = found.group_info.context
        if context.epoch > asked.epoch + 1:
            raise _Stale
        if context.epoch == asked.epoch + 1 and self._would_be(room, asked) == context:
            await self._taken(room, asked, self._now())
        else:
            await self._dropped(room)

    def _would_be(self, room: str, asked: Asked) -> GroupContext | None:
        """What the group is if that commit counts."""
        seat = self.seat(room)
        if seat is None:
            return None
        group = self._seats.copy(seat)
        try:
            if asked.seat is None:
                group.merge_commit()
            else:
                Seat(self._engine, group, user=seat.user, room_uri=room).hear(_fanned(asked, 0), self.people)
        except self._engine.MlsError:
            return None  # another's commit was heard meanwhile
        info = MLS_MESSAGE.decode(group.group_info())
        assert isinstance(info, GroupInfo)
        return info.context

    async def _taken(self, room: str, asked: Asked, accepted: int) -> None:
        """The hub took that commit, and tells a provider nothing of its own: from now on all of us are in its epoch."""
        own = self.seat(room)
        if asked.seat is None and own is not None:
            before = own.state
            own.accepted()
            self._told_changes(room, Changed(client="", before=before, after=own.state, accepted=accepted))
        changed, _ = await self._take_in(room, _fanned(asked, accepted), but=asked.user)
        # All of it together: whoever comes after a crash finds all of us in one epoch.
        more = self._seats.answered(room)
        if asked.seat is not None:
            more |= self._seats.sit(asked.user, room, asked.seat)
        elif own is not None:
            changed.append(own)
        await self._seats.keep(*changed, more=more)
        if own is not None and own.group.active and own.group.epoch <= asked.epoch:
            await self._sit_down_anew(room, own)

    async def _dropped(self, room: str) -> None:
        """The hub did not take it."""
        asked, own = self._seats.asked.get(room), self.seat(room)
        if asked is None:
            return
        if asked.seat is None and own is not None and own.group.commit_pending:
            own.refused()
        await self._seats.keep(*([] if own is None else [own]), more=self._seats.answered(room))

    # Local: what the hub tells ------------------------------------------------------------------------------

    async def heard(self, room: str, fanouts: Sequence[Fanout]) -> None:
        await self._ready_to_hear(room)
        async with self._lock(room):
            for fanout in fanouts:
                if isinstance(fanout, WelcomeFanout):
                    await self._welcomed(room, fanout)
                else:
                    await self._shown(room, fanout)
                    await self._caught_up(room, fanout)
                    if await self._all_hear(room, fanout, but=""):
                        self._chores.put_nowait(partial(self._tidy, room))

    async def _ready_to_hear(self, room: str) -> None:
        """What is told now is told to somebody. Raises Disconnected where a direct room's user is not connected."""
        direct = self.directs.of(room)
        if direct is None:
            await self.reading.wait()
        elif not self.account(direct.user).listens:
            raise Disconnected("Their account is not connected now.")

    async def _welcomed(self, room: str, fanout: WelcomeFanout) -> None:
        """Somebody here was brought into a room elsewhere. The room is locked."""
        try:
            opened = self._packages.open(room, fanout)
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.warning("welcome_not_opened", room=room, why=type(problem).__name__)
            return
        if opened is None:
            return
        seat, rows = opened
        direct = found_in(seat.state, room, seat.user)
        more = dict(rows) | ({} if direct is None else self.directs.take(direct))
        await self._seats.take(seat, more=more)
        self._chores.put_nowait(partial(self._packages.publish, seat.user, self._provider))
        if direct is not None:
            self.account(seat.user).heard_of(direct.other, agrees=True)
        else:
            self.account(seat.user).brought_into(room, seat.state)

    async def _shown(self, room: str, fanout: Fanout) -> None:
        """What the hub tells shows what became of our commit: another's in its epoch, or the epoch that it makes."""
        asked = self._seats.asked.get(room)
        if asked is None or isinstance(fanout, WelcomeFanout):
            return
        if fanout.message.epoch > asked.epoch:
            await self._taken(room, asked, fanout.accepted)
        elif isinstance(fanout, CommitFanout) and fanout.message.epoch == asked.epoch:
            await self._dropped(room)

    async def _caught_up(self, room: str, fanout: Fanout) -> None:
        """Where the hub has given up to tell us of commits, sit down anew, and say that words are missing."""
        own = self.seat(room)
        if own is None or isinstance(fanout, WelcomeFanout) or fanout.message.epoch <= own.group.epoch:
            return
        await self._sit_down_anew(room, own)

    async def _sit_down_anew(self, room: str, own: Seat) -> None:
        self._host.log.warning("room_rejoined", room=room, epoch=own.group.epoch)
        for seat in self._seats.in_room(room):
            await self._seats.forget(seat.user, room)
        try:
            await self._join(room, own.user)
        except (BridgeError, _Stale) as problem:
            self._host.log.error("room_lost", room=room, why=type(problem).__name__)
        reason = "This provider missed changes of the room, so what was said in between could not be read."
        self._tell(facts.Missed(chat=ChatId(room), at=self._now(), since=0, until=self._now(), reason=reason))

    async def _all_hear(self, room: str, fanout: Fanout, *, but: str) -> bool:
        """Each of our clients takes it in; what it means is told once. True where something is proposed."""
        changed, proposed = await self._take_in(room, fanout, but=but)
        await self._seats.keep(*changed)
        return proposed

    async def _take_in(self, room: str, fanout: Fanout, *, but: str) -> tuple[list[Seat], bool]:
        """The seats that are to be kept."""
        proposed, reader = False, self.reader(room)
        changed: list[Seat] = []
        for seat in self._seats.in_room(room):
            if seat.user == but or not seat.group.active:
                continue
            said = isinstance(fanout, rooms.ApplicationFanout)
            if said and seat.user != reader:
                continue  # only one of us needs to read
            try:
                heard = seat.hear(fanout, self.people)
            except (BridgeError, self._engine.MlsError) as problem:
                if seat.user == reader:
                    self._host.log.info(
                        "unreadable",
                        room=room,
                        why=type(problem).__name__,
                        epoch=getattr(fanout.message, "epoch", None),
                        ours=seat.group.epoch,
                    )
                elif isinstance(fanout, CommitFanout) and seat.group.epoch < fanout.message.epoch:
                    # It missed something. It sits down anew when it has something to say.
                    await self._seats.forget(seat.user, room)
                continue
            if seat.user == reader:
                await self._translate(room, heard)
                proposed |= any(isinstance(each, Proposed) for each in heard)
            changed.append(seat)
        return changed, proposed

    async def work(self) -> None:
        """Do what follows from what others told, until cancelled.

        Not where it is heard: the hub may have more to tell first, and tells nothing until it is answered.
        """
        for key, raw in (await self._host.items(WANTED)).items():
            if raw == AGREED:
                self._chores.put_nowait(partial(self._bring_in, key))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._expiring.run(self._tell), name="mimi expiring")
            while True:
                chore = await self._chores.get()
                group.create_task(chore(), name="mimi chore")

    async def _tidy(self, room: str) -> None:
        """Commit what others proposed; if somebody else was quicker, that is as good."""
        seat = self.seat(room)
        if seat is None or not seat.group.pending_proposals:
            return
        try:
            await self.change(room, Seat.tidy)
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.info("not_committed", room=room, why=type(problem).__name__)

    async def asked(self, entry: ConsentEntry) -> None:
        """Who is asked for their consent is told of it; whom we asked has answered: who agrees is brought in."""
        match entry.operation:
            case ConsentOperation.REQUEST:
                await self.account(entry.target).asked(entry)
            case ConsentOperation.GRANT | ConsentOperation.REVOKE:
                await self._answered(entry, agrees=entry.operation is ConsentOperation.GRANT)
            case ConsentOperation.CANCEL:
                pass

    async def _answered(self, entry: ConsentEntry, *, agrees: bool) -> None:
        for key in await self._host.items(f"{WANTED}{entry.target} "):
            room = key.removeprefix(WANTED).partition(" ")[2]
            if self.reader(room) != entry.requester or entry.room not in (None, room):
                continue
            await self._host.put(key, AGREED if agrees else None)
            if agrees:
                self._chores.put_nowait(partial(self._bring_in, key))
            elif self.directs.of(room) is not None:
                self.account(entry.requester).heard_of(entry.target, agrees=False)

    async def _bring_in(self, key: str) -> None:
        person, _, room = key.removeprefix(WANTED).partition(" ")
        try:
            await self.invite(room, person)
        except Disconnected:
            return  # asked again at the next start
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.info("not_brought_in", room=room, why=type(problem).__name__)
        await self._host.put(key, None)
        if (direct := self.directs.of(room)) is not None:
            self.account(direct.user).heard_of(person, agrees=True)

    async def find(self, request: IdentifierRequest) -> IdentifierResponse:
        people = [listed for account in self._accounts.values() if (listed := account.listed) is not None]
        return searching.answer(request, people)

    async def search(self, words: str) -> list[Person]:
        """Users of other providers who let themselves be found by these words. Raises SendRejected."""
        domain, requests = searching.asked(words)
        for request in requests:
            found = await self._hubs.find(domain, request)
            theirs = [uri for uri in found.uris if uris.is_user(uri) and telling.is_of(uri, domain)]
            if theirs:
                return [telling.person(uri) for uri in theirs[: searching.MOST]]
        return []

    async def reported(self, room: str, report: AbuseReport, proven: int) -> None:
        self._host.log.warning("abuse_reported", room=room, messages=len(report.messages), proven=proven)

    # Facts --------------------------------------------------------------------------------------------------

    async def _translate(self, room: str, heard: Sequence[Heard]) -> None:
        for each in heard:
            if isinstance(each, Changed):
                self._told_changes(room, each)
            elif isinstance(each, Said):
                try:
                    self._tell(*await self._said(room, each))
                except PeerMisbehaved as problem:
                    self._host.log.info("message_refused", room=room, why=problem.notice[:200])

    async def _said(self, room: str, said: Said) -> list[Fact]:
        user = self.people.user_of(said.client.encode())
        seat = self.seat(room)
        if telling.is_of(user, self.domain) or seat is None:
            return []
        chat, sender = ChatId(room), telling.person(user)
        kind, data = seat.unframed(said.data)
        if kind == status.MEDIA_TYPE:
            reports = status.decode(data)
            return receipts(reports, chat=chat, sender=sender, at=said.accepted, private=False)
        message = content.decode(data)
        belongs(message, sender_uri=user, room_uri=room)
        weigh(message, accepted=said.accepted, now=self._now())
        id = content.message_id(data, salt=message.salt, sender_uri=user, room_uri=room)
        if not await self._expiring.note(message, id=id, room=room, user=user):
            return []
        thread = await self.threads.root(room, message.topic, id)
        received = Received(id=id, content=message, chat=chat, sender=sender, at=said.accepted, thread=thread)
        return [self._with_way(room, fact) for fact in to_facts(received)]

    def _with_way(self, room: str, fact: Fact) -> Fact:
        """A file comes by the room's hub, and is opened here."""
        if not isinstance(fact, facts.Message | facts.Edit) or fact.content.file is None:
            return fact
        file = attachment.by_way_of(fact.content.file, self._host.network, uris.parse(room).domain)
        return msgspec.structs.replace(fact, content=msgspec.structs.replace(fact.content, file=file))

    def _told_changes(self, room: str, changed: Changed) -> None:
        self._tell(
            *telling.changes(changed.before, changed.after, room, at=changed.accepted, domain=self.domain)
        )

    def _tell(self, *found: Fact) -> None:
        for fact in found:
            if (direct := self.directs.of(fact.chat)) is not None:
                self.account(direct.user).tell(direct.other, fact)
            elif self.emit is not None:
                self.emit(fact)

    def _lock(self, room: str) -> asyncio.Lock:
        return self._locks.setdefault(room, asyncio.Lock())

    def _now(self) -> int:
        return int(self._host.now() * 1000)


def _wanted(person: str, room: str) -> str:
    return f"{WANTED}{person} {room}"


class _Stale(Exception):
    """The room is in another epoch than was thought; what the hub said meanwhile must be heard first."""


def _fanned(asked: Asked, accepted: int) -> CommitFanout:
    message = MLS_MESSAGE.decode(asked.message)
    assert isinstance(message, PublicMessage)
    return CommitFanout(accepted, message)
