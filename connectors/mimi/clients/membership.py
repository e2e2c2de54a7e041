"""How the clients hosted here come into rooms and leave them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, SendRejected, SendUncertain
from connectors.mimi import uris
from connectors.mimi.clients.commits import Commits
from connectors.mimi.clients.directs import Directs
from connectors.mimi.clients.hearing import Hearing
from connectors.mimi.clients.hubs import Hubs
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.seats import Seats
from connectors.mimi.clients.turns import Stale, Turns
from connectors.mimi.mls import MemberEngine, Signer
from connectors.mimi.service import presets
from connectors.mimi.service.provider import Provider
from connectors.mimi.wire import rooms
from connectors.mimi.wire.components import FrankingAgent, RoomMetadata
from connectors.mimi.wire.mls import CREDENTIAL, MemberSender, PublicMessage, SelfRemove
from connectors.mimi.wire.rooms import ProposalFanout

TOO_QUICK = "The room changes so quickly that nobody can get in; try again later."
TOO_QUICK_TO_LEAVE = "The room changes so quickly that nobody can leave; try again later."


class Membership:
    """`hub` is the key that our rooms name as their hub's; `tidy` has somebody commit what is proposed in a room."""

    def __init__(
        self,
        *,
        host: Host,
        engine: MemberEngine,
        provider: Provider,
        hubs: Hubs,
        hub: Signer,
        open_rooms: bool,
        directs: Directs,
        readers: Readers,
        seats: Seats,
        turns: Turns,
        commits: Commits,
        hearing: Hearing,
        tidy: Callable[[str], None],
    ) -> None:
        self._host = host
        self._engine = engine
        self._provider = provider
        self._hubs = hubs
        self._hub = hub
        self._open_rooms = open_rooms
        self._directs = directs
        self._readers = readers
        self._seats = seats
        self._turns = turns
        self._commits = commits
        self._hearing = hearing
        self._tidy = tidy

    async def enter(self, room: str, code: bytes = b"") -> None:
        """Take the reader's seat: make the room where it is ours and new, join it from outside where it is not.

        `code` is a join code of the room, if somebody gave one; it is kept. Raises SendRejected.
        """
        if code:
            await self._host.put(f"code/{room}", code)

        async def entered() -> None:
            self._hearing.opened(room, await self._entered(room))

        await self._turns.take(room, entered, TOO_QUICK)

    async def _entered(self, room: str) -> Seat:
        """The room is locked. Raises Stale."""
        seat = self._readers.seat(room)
        if seat is not None:
            # Where that cannot be done now, what the hub tells next will show.
            with contextlib.suppress(Stale, Disconnected, SendUncertain):
                await self._commits.settle(room)
            self._tidy(room)
            return seat
        if self._hubs.is_ours(room) and not self._provider.has_room(room):
            return await self._make(room)
        return await self._commits.join(room, self._readers.of(room))

    async def greet(self, room: str) -> None:
        """Let the room's hub know that we are back."""
        try:
            await self._hubs.greet(room)
        except BridgeError as problem:
            self._host.log.info("hub_away", room=room, why=problem.notice[:200])

    async def _make(self, room: str) -> Seat:
        user, direct = self._readers.of(room), self._directs.of(room)
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

    async def sit_down(self, room: str, user: str) -> None:
        """Let somebody of another side have their seat before they say anything. Raises SendRejected."""

        async def seated() -> None:
            await self._commits.settle(room)
            await self._commits.seated(room, user)

        await self._turns.take(room, seated, TOO_QUICK)

    async def stand_up(self, room: str, user: str) -> None:
        """Let somebody of another side leave the room, with their client. Raises SendRejected."""
        seat = self._seats.get(user, room)
        if seat is not None and user != self._readers.of(room) and not seat.state.base.fixed_membership:
            await self.part(room, user)

    async def part(self, room: str, user: str) -> None:
        """Leave for good, also who reads the room. Raises SendRejected, Disconnected, SendUncertain."""
        await self._turns.take(room, partial(self._let_go, room, user), TOO_QUICK_TO_LEAVE)
        self._tidy(room)

    async def leave(self, room: str) -> None:
        """Give the bridge's own seat up; its provider's other clients go with it, as their people leave.

        A hub that does not let one of them go has been told; that client has no keys there any more.
        """
        for seat in sorted(self._seats.in_room(room), key=lambda seat: seat.user == self._readers.of(room)):
            if seat.group.active and not seat.state.base.fixed_membership:
                try:
                    await self._turns.take(room, partial(self._let_go, room, seat.user), TOO_QUICK_TO_LEAVE)
                except SendRejected as problem:
                    self._host.log.warning("not_let_go", room=room, why=problem.notice[:200])
            async with self._turns.lock(room):
                await self._seats.forget(seat.user, room)
        await self._readers.forget(room)

    async def _let_go(self, room: str, user: str) -> None:
        """Propose it to the hub, and forget the seat if that took it. The room is locked. Raises Stale."""
        await self._commits.settle(room)
        seat = self._seats.get(user, room)
        if seat is None:
            return
        # By a copy: whoever is not let go has proposed nothing that their next commit would have to cover.
        bundle = Seat(self._engine, self._seats.copy(seat), user=user, room_uri=room).leave()
        answer = await self._hubs.update(room, bundle)
        if isinstance(answer, rooms.Updated):
            waiting = [ProposalFanout(answer.accepted, bundle.message, bundle.more)]
        else:
            waiting = await self._waiting(room, seat, answer)
        self._commits.left.add((user, room))
        await self._seats.forget(user, room)
        # The hub tells a provider nothing of its own; somebody has to commit it (RFC 9420 12.1.2).
        for proposed in waiting:
            await self._hearing.all_hear(room, proposed, but=user)

    async def _waiting(self, room: str, seat: Seat, refused: rooms.UpdateResponse) -> list[ProposalFanout]:
        """What waits there to be committed, if the leave is among it: the hub took it, and its answer was lost.

        Raises Stale where it is to be proposed again, SendRejected where the hub does not let them go.
        """
        if isinstance(refused, rooms.WrongEpoch):
            raise Stale
        try:
            found = await self._hubs.group_info(room, self._seats.known(seat.user))
        except SendRejected:
            raise Stale from None  # they were put out, which the hub is about to tell
        waiting = [
            ProposalFanout(each.accepted, each.message)
            for each in found.pending
            if isinstance(each.message, PublicMessage)
        ]
        if any(_is_leave(each.message, seat.group.leaf) for each in waiting):
            return waiting
        if isinstance(refused, rooms.InvalidProposal):
            raise Stale  # until what it contradicts is committed
        raise SendRejected(f"The room's provider refuses that: {refused.description or 'not allowed'}")


def _is_leave(message: PublicMessage, leaf: int) -> bool:
    return isinstance(message.content, SelfRemove) and message.sender == MemberSender(leaf)
