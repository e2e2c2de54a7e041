"""What the clients hosted here take in of what hubs tell, and what of it the bridge hears as facts.

Facts go out before the seats are stored, so that a crash between the two repeats them (their ids deduplicate) and loses
none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, PeerMisbehaved
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from connectors.mimi import uris
from connectors.mimi.clients import telling
from connectors.mimi.clients.directs import Directs
from connectors.mimi.clients.expiring import Expiring
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seat import Changed, Heard, Proposed, Said, Seat
from connectors.mimi.clients.seats import Seats
from connectors.mimi.clients.threads import Threads
from connectors.mimi.messages import attachment, content, status
from connectors.mimi.messages.parts import Disposition, MimiContent, NullPart
from connectors.mimi.messages.plausible import belongs, weigh
from connectors.mimi.mls import MemberEngine
from connectors.mimi.service.room import Capability, Room
from connectors.mimi.translate import Received, receipts, to_facts
from connectors.mimi.wire import rooms
from connectors.mimi.wire.mls import PublicMessage
from connectors.mimi.wire.rooms import CommitFanout, Fanout, ProposalFanout


class Owner(Protocol):
    """Whoever is told of a direct room."""

    def tell(self, other: str, fact: Fact) -> None: ...
    def left_by(self, other: str) -> None: ...


class Hearing:
    """`emit` is the bridge, while it listens; `owner` says who is told of a user's direct rooms."""

    def __init__(
        self,
        home: telling.Home,
        *,
        host: Host,
        engine: MemberEngine,
        seats: Seats,
        readers: Readers,
        directs: Directs,
        threads: Threads,
        expiring: Expiring,
        owner: Callable[[str], Owner],
    ) -> None:
        self.emit: Callable[[Fact], None] | None = None
        self.showing: dict[str, str] = {}  # by room: the picture that we are giving it just now
        self._home = home
        self._host = host
        self._engine = engine
        self._seats = seats
        self._readers = readers
        self._directs = directs
        self._threads = threads
        self._expiring = expiring
        self._owner = owner

    async def all_hear(self, room: str, fanout: Fanout, *, but: str) -> bool:
        """Each of our clients takes it in; what it means is told once. True where something is proposed."""
        changed, proposed = await self.take_in(room, fanout, but=but)
        await self._seats.keep(*changed)
        return proposed

    async def take_in(self, room: str, fanout: Fanout, *, but: str) -> tuple[list[Seat], bool]:
        """The seats that are to be kept."""
        proposed, reader = False, self._readers.of(room)
        if not self._vouched(room, fanout):
            return [], False
        changed: list[Seat] = []
        for seat in self._seats.in_room(room):
            if seat.user == but or not seat.group.active:
                continue
            said = isinstance(fanout, rooms.ApplicationFanout)
            if said and seat.user != reader:
                continue  # only one of us needs to read
            alone = self.alone(seat)
            try:
                heard = seat.hear(fanout, self._seats.people)
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
                await self._translate(room, heard, alone=alone)
                proposed |= any(isinstance(each, Proposed) for each in heard)
            changed.append(seat)
        return changed, proposed

    def _vouched(self, room: str, fanout: Fanout) -> bool:
        """False where it brings somebody under the name of a user of ours who is none: nobody here follows that."""
        messages: tuple[object, ...] = ()
        if isinstance(fanout, ProposalFanout):
            messages = (fanout.message, *fanout.more)
        elif isinstance(fanout, CommitFanout):
            messages = (fanout.message, *fanout.replaced)
        try:
            for message in messages:
                if isinstance(message, PublicMessage):
                    self._seats.vouch_for(message)
        except PeerMisbehaved as problem:
            self._host.log.warning("impersonated", room=room, why=problem.notice[:200])
            return False
        return True

    # Facts --------------------------------------------------------------------------------------------------

    async def _translate(self, room: str, heard: Sequence[Heard], *, alone: bool) -> None:
        for each in heard:
            if isinstance(each, Changed):
                self.changed(room, each, alone=alone)
            elif isinstance(each, Said):
                try:
                    self.tell(*await self._said(room, each))
                except PeerMisbehaved as problem:
                    self._host.log.info("message_refused", room=room, why=problem.notice[:200])

    async def _said(self, room: str, said: Said) -> list[Fact]:
        user = self._seats.people.user_of(said.client.encode())
        seat = self._readers.seat(room)
        if telling.is_of(user, self._home.domain) or seat is None:
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
        thread = await self._threads.root(room, message.topic, id)
        received = Received(
            id=id,
            content=message,
            chat=chat,
            sender=sender,
            at=said.accepted,
            thread=thread,
            moderates=_moderates(message, seat.state, user),
        )
        return [self._with_way(room, fact) for fact in to_facts(received)]

    def _with_way(self, room: str, fact: Fact) -> Fact:
        """A file comes by the room's hub, and is opened here."""
        if not isinstance(fact, facts.Message | facts.Edit) or fact.content.file is None:
            return fact
        file = attachment.by_way_of(fact.content.file, self._host.network, uris.parse(room).domain)
        return msgspec.structs.replace(fact, content=msgspec.structs.replace(fact.content, file=file))

    def alone(self, seat: Seat) -> bool:
        """Whether that is a direct room's, where the other is not."""
        direct = self._directs.of(seat.room_uri)
        return direct is not None and not seat.leaves(direct.other, self._seats.people)

    def opened(self, room: str, seat: Seat) -> None:
        """Somebody of ours has come in: what the room is, is told."""
        self.tell(*telling.opened(seat.state, room, at=self._now(), home=self._home))

    def changed(self, room: str, changed: Changed, *, alone: bool) -> None:
        """The room is in its next epoch: what has become of it is told. `alone`: so it was before, too."""
        told = telling.changes(
            changed.before,
            changed.after,
            room,
            at=changed.accepted,
            home=self._home,
            by=self._seats.people.user_of(changed.client.encode()) if changed.client else "",
            seated={seat.user for seat in self._seats.in_room(room)},
            showing=self.showing.get(room),
        )
        self.tell(*told)
        direct, seat = self._directs.of(room), self._readers.seat(room)
        if direct is not None and seat is not None and self.alone(seat) and not alone:
            self._owner(direct.user).left_by(direct.other)

    def tell(self, *found: Fact) -> None:
        for fact in found:
            if (direct := self._directs.of(fact.chat)) is not None:
                self._owner(direct.user).tell(direct.other, fact)
            elif self.emit is not None:
                self.emit(fact)

    def _now(self) -> int:
        return int(self._host.now() * 1000)


def _moderates(message: MimiContent, state: Room, user: str) -> bool:
    """Whether it takes something back for its sender, whoever said that (content 9.3, room-policy 10.2)."""
    match message.part:
        case NullPart(disposition=Disposition.REACTION):
            return state.may(user, Capability.DELETE_OTHER_REACTION)
        case NullPart():
            return state.may(user, Capability.DELETE_OTHER_MESSAGE)
        case _:
            return False
