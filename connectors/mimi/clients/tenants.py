"""The clients that the bridge hosts: one for each person of another side, and its own; what they do in rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, SendRejected, SendUncertain
from bridgekit.contract.facts import Fact
from bridgekit.contract.people import Person
from connectors.mimi import uris
from connectors.mimi.clients import telling
from connectors.mimi.clients.accounts import Account
from connectors.mimi.clients.commits import Commits
from connectors.mimi.clients.directs import Directs, found_in
from connectors.mimi.clients.errands import Errands
from connectors.mimi.clients.expiring import Expiring
from connectors.mimi.clients.hearing import Hearing
from connectors.mimi.clients.hubs import Hubs
from connectors.mimi.clients.inviting import Inviting
from connectors.mimi.clients.membership import Membership
from connectors.mimi.clients.packages import Packages
from connectors.mimi.clients.parting import Parting
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.seats import Seats
from connectors.mimi.clients.threads import Threads
from connectors.mimi.clients.turns import LATER, SOON, TRIES, Stale, Turns
from connectors.mimi.mls import MemberEngine, Signer
from connectors.mimi.reports import to_report
from connectors.mimi.service import searching
from connectors.mimi.service.peers import Peers
from connectors.mimi.service.people import People
from connectors.mimi.service.provider import Provider
from connectors.mimi.service.room import NOBODY, Capability, entry
from connectors.mimi.uris import Thing
from connectors.mimi.wire import rooms
from connectors.mimi.wire.components import MediaType
from connectors.mimi.wire.rooms import CommitBundle, Fanout, WelcomeFanout
from connectors.mimi.wire.users import (
    AbuseReport,
    ConsentEntry,
    ConsentOperation,
    IdentifierRequest,
    IdentifierResponse,
)

BRIDGE = "bridge"
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


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
        files: str,
        open_rooms: bool = False,
    ) -> None:
        """`files` is what the addresses of our files begin with."""
        self.domain = domain
        self.bridge = str(uris.Uri(domain, Thing.USER, BRIDGE))
        self.directs = Directs(domain, host)
        self.reading = asyncio.Event()
        self.threads = Threads(host)
        self.membership: Membership
        self.inviting: Inviting
        self.parting: Parting
        self._expiring = Expiring(host)
        self._host = host
        self._engine = engine
        self._peers = peers
        self._hub = hub
        self._open_rooms = open_rooms
        self._provider: Provider
        self._hubs: Hubs
        self._commits: Commits
        self._seats = Seats(domain, host, engine)
        self._readers = Readers(self.bridge, host, self.directs, self._seats)
        self._packages = Packages(host, engine, self._seats)
        self._accounts: dict[str, Account] = {}
        self._turns = Turns()
        self._errands = Errands(host.log)
        self._hearing = Hearing(
            telling.Home(host.network, domain, files),
            host=host,
            engine=engine,
            seats=self._seats,
            readers=self._readers,
            directs=self.directs,
            threads=self.threads,
            expiring=self._expiring,
            owner=self.account,
        )

    async def load(self, provider: Provider) -> None:
        """Take up what is stored."""
        await self.threads.load()
        self._provider = provider
        self._hubs = Hubs(self.domain, provider, self._peers, self._engine)
        self._commits = Commits(
            self._host,
            self._engine,
            self._seats,
            self._readers,
            self._hubs,
            self._hearing,
            lambda room: self._errands.later(partial(self._come_back, room)),
        )
        self.membership = Membership(
            host=self._host,
            engine=self._engine,
            provider=provider,
            hubs=self._hubs,
            hub=self._hub,
            open_rooms=self._open_rooms,
            directs=self.directs,
            readers=self._readers,
            seats=self._seats,
            turns=self._turns,
            commits=self._commits,
            hearing=self._hearing,
            tidy=lambda room: self._errands.later(partial(self._tidy, room)),
        )
        self.inviting = Inviting(
            self._host,
            self._engine,
            hubs=self._hubs,
            seats=self._seats,
            readers=self._readers,
            directs=self.directs,
            sit_down=self.membership.sit_down,
            change=self.change,
            later=self._errands.later,
            asker=self.account,
        )
        self.parting = Parting(
            self._host,
            self._engine,
            seats=self._seats,
            readers=self._readers,
            directs=self.directs,
            packages=self._packages,
            provider=provider,
            hubs=self._hubs,
            membership=self.membership,
            inviting=self.inviting,
            account=self.account,
            later=self._errands.later,
        )
        await self.directs.load()
        await self._readers.load()
        await self._seats.load(provider.people)
        await self._packages.load()
        await self.parting.load()

    def listen(self, emit: Callable[[Fact], None] | None) -> None:
        """Tell the bridge what is heard in shared rooms; None: nobody listens there any more."""
        self._hearing.emit = emit
        if emit is None:
            self.reading.clear()

    # Who is hosted ------------------------------------------------------------------------------------------

    def user(self, speaker: Person | None) -> str:
        """The URI of a person of another side here; without a speaker, the bridge's own."""
        if speaker is None:
            return self.bridge
        uri = uris.hosted(self.domain, speaker.id)
        if len(uri) > uris.MAX_OCTETS - 64:
            raise SendRejected("That name is too long for this network.")
        return uri

    def account(self, user: str) -> Account:
        """A Matrix user who is reached from elsewhere, connected or not."""
        if user not in self._accounts:
            self._accounts[user] = Account(
                user,
                host=self._host,
                seats=self._seats,
                readers=self._readers,
                membership=self.membership,
                inviting=self.inviting,
                directs=self.directs,
                packages=self._packages,
                provider=self._provider,
                hubs=self._hubs,
            )
        return self._accounts[user]

    @property
    def people(self) -> People:
        """Whose client is whose."""
        return self._provider.people

    def seat(self, room: str, user: str | None = None) -> Seat | None:
        """A seat that is still taken; the reader's, without a user."""
        return self._seats.get(user or self._readers.of(room), room)

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
                await asyncio.sleep(max(wait, problem.retry_after or 0.0))
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
        async with self._turns.lock(room):
            try:
                await self._commits.settle(room)
                seat = await self._commits.seated(room, user)
                if seat.group.pending_proposals:
                    # RFC 9420 12.4: what was proposed is committed before anything else is said.
                    await self._commits.commit(room, Seat.tidy)
            except Stale:
                return None
            request = seat.say(seat.framed(kind, inner), salt)
            await self._seats.keep(seat)
        return await self._hubs.submit(room, request)

    async def change(self, room: str, make: Callable[[Seat], CommitBundle | None]) -> None:
        """A commit of the reader's client; `make` gives None where the room is so already. Raises SendRejected."""

        async def changed() -> None:
            await self._commits.settle(room)
            await self._commits.commit(room, make)

        refusal = "The room changes so quickly that nothing can be changed there; try again later."
        await self._turns.take(room, changed, refusal)

    @contextmanager
    def showing(self, room: str, picture: str) -> Iterator[None]:
        """While this lasts, nobody is told that the room has that picture: it is given on the bridge's behalf."""
        self._hearing.showing[room] = picture
        try:
            yield
        finally:
            self._hearing.showing.pop(room, None)

    # Local: what the hub tells ------------------------------------------------------------------------------

    async def heard(self, room: str, fanouts: Sequence[Fanout]) -> None:
        await self._ready_to_hear(room)
        async with self._turns.lock(room):
            for fanout in fanouts:
                if isinstance(fanout, WelcomeFanout):
                    await self._welcomed(room, fanout)
                else:
                    await self._commits.shown(room, fanout)
                    await self._commits.caught_up(room, fanout)
                    if await self._hearing.all_hear(room, fanout, but=""):
                        self._errands.later(partial(self._tidy, room))
                    await self._commits.followed(room, fanout)

    async def _ready_to_hear(self, room: str) -> None:
        """What is told now is told to somebody. Raises Disconnected where a direct room's user is not connected."""
        direct = self.directs.of(room)
        account = None if direct is None else self.account(direct.user)
        if account is None:
            await self.reading.wait()
        elif not (account.listens or account.leaving):
            raise Disconnected("Their account is not connected now.")

    async def _welcomed(self, room: str, fanout: WelcomeFanout) -> None:
        """Somebody here was brought into a room elsewhere. The room is locked."""
        try:
            opened = self._packages.open(room, fanout)
            if opened is not None:
                self._seats.vouch_for_all(opened[0].group)
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.warning("welcome_not_opened", room=room, why=type(problem).__name__)
            return
        if opened is None:
            return
        seat, rows = opened
        direct = found_in(seat.state, room, seat.user)
        more = dict(rows) | ({} if direct is None else self.directs.take(direct))
        await self._seats.take(seat, more=more)
        self._errands.later(partial(self._packages.refill, seat.user, self._provider))
        if direct is not None:
            self.account(seat.user).heard_of(direct.other, agrees=True)
        else:
            self.account(seat.user).brought_into(room, seat.state)

    async def work(self) -> None:
        """Do what follows from what others told, until cancelled.

        Not where it is heard: the hub may have more to tell first, and tells nothing until it is answered.
        """
        await self.inviting.resume()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._expiring.run(self._hearing.tell), name="mimi expiring")
            group.create_task(self._packages.keep_fresh(self._provider), name="mimi key packages")
            await self._errands.run()

    async def _come_back(self, room: str) -> None:
        """Enter a room again that had to be given up; while its hub is away, wait for it."""
        wait = FIRST_WAIT
        while self.directs.of(room) is not None or room in await self._host.chats():
            try:
                await self.membership.enter(room)
            except (Disconnected, SendUncertain) as problem:
                await asyncio.sleep(max(wait, problem.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            except BridgeError as problem:
                self._host.log.error("room_lost", room=room, why=problem.notice[:200])
            self._commits.missed(room)
            break
        self._commits.returning.discard(room)

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
                await self.inviting.answered(entry, agrees=entry.operation is ConsentOperation.GRANT)
            case ConsentOperation.CANCEL:
                await self.account(entry.target).asked_no_more(entry)

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
        at = int(self._host.now() * 1000)
        await self._host.report(to_report(room, report, proven=proven, domain=self.domain, at=at))
