"""Commits of the clients hosted here, also those by which they join from outside, and what became of each.

A commit is kept before it is put to the hub, so that its fate can be found out by whoever comes after a crash: by the
hub's GroupInfo, or by what the hub tells next. Whatever changes a seat is stored before anybody else hears of it. Every
call here is made with the room locked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, PeerMisbehaved, SendRejected, SendUncertain
from bridgekit.contract.ids import ChatId
from connectors.mimi.clients.hearing import Hearing
from connectors.mimi.clients.hubs import Hubs, state_in
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seat import Changed, Seat
from connectors.mimi.clients.seats import Asked, Seats
from connectors.mimi.clients.turns import Stale
from connectors.mimi.mls import MemberEngine
from connectors.mimi.service import presets
from connectors.mimi.service.room import BANNED, NOBODY, Capability, entry
from connectors.mimi.wire import rooms
from connectors.mimi.wire.mls import MLS_MESSAGE, GroupContext, GroupInfo, PublicMessage
from connectors.mimi.wire.rooms import CommitBundle, CommitFanout, Fanout, ProposalFanout, WelcomeFanout


class Commits:
    """`left` are those, by user and room, whose leaving waits for somebody's commit.

    `returning` are rooms that had to be given up and are to be entered again, which `come_back` is to do.
    """

    def __init__(
        self,
        host: Host,
        engine: MemberEngine,
        seats: Seats,
        readers: Readers,
        hubs: Hubs,
        hearing: Hearing,
        come_back: Callable[[str], None],
    ) -> None:
        self.left: set[tuple[str, str]] = set()
        self.returning: set[str] = set()
        self._come_back = come_back
        self._host = host
        self._engine = engine
        self._seats = seats
        self._readers = readers
        self._hubs = hubs
        self._hearing = hearing

    async def commit(self, room: str, make: Callable[[Seat], CommitBundle | None]) -> None:
        """By the bridge's own client; None where nothing is to be done. The room is locked.

        Raises Stale where it was made for another epoch, or had to wait for what was proposed before.
        """
        seat = self._own(room)
        try:
            bundle = make(seat)
        except (self._engine.MlsError, PeerMisbehaved) as problem:
            if make is not Seat.tidy and seat.group.pending_proposals:
                # A commit covers what waits, and cannot do the same once more (RFC 9420 12.2, protocol 7.5).
                await self.commit(room, Seat.tidy)
                raise Stale from None
            raise SendRejected(f"The room cannot be changed so now: {problem}"[:300]) from None
        if bundle is None:
            return
        asked = Asked(seat.user, seat.group.epoch, MLS_MESSAGE.encode(bundle.message))
        await self._seats.asking(room, asked, seat)
        answer = await self._put(room, bundle)
        if answer is None:
            if room in self._seats.asked or seat.group.epoch == asked.epoch:
                raise Stale
            return
        if not isinstance(answer, rooms.Updated):
            seat.refused()
            await self._seats.keep(seat, more=self._seats.answered(room))
            if isinstance(answer, rooms.WrongEpoch | rooms.InvalidProposal):
                raise Stale
            raise SendRejected(f"The room's provider refuses that: {answer.description or 'not allowed'}")
        await self._taken(room, asked, answer.accepted)

    def _own(self, room: str) -> Seat:
        """The reader's. Raises SendRejected, and Stale where it is to be taken again."""
        seat = self._readers.seat(room)
        if seat is not None:
            return seat
        if room in self.returning:
            raise Stale
        raise SendRejected("The bridge is not in that room.")

    async def _put(self, room: str, bundle: CommitBundle) -> rooms.UpdateResponse | None:
        """What the hub answers. None: it may have heard and did not answer, and now it is settled, if it can be."""
        try:
            return await self._hubs.update(room, bundle)
        except SendUncertain:
            pass
        except BridgeError:
            await self._dropped(room)
            raise
        await self.settle(room)
        return None

    # Coming in ----------------------------------------------------------------------------------------------

    async def join(self, room: str, user: str) -> Seat:
        """By an external commit, as a participant or by an open door. The room is locked. Raises Stale."""
        identity = await self._seats.identity(user)
        code = await self._host.get(f"code/{room}")
        found = await self._hubs.group_info(room, identity, code=code)
        own = self._readers.seat(room)
        if own is not None and own.group.epoch != found.group_info.context.epoch:
            raise Stale  # a commit that we made ahead of what we have heard would be missing there for ever
        foreseen = await self._foreseen(room, found.pending)
        state = state_in(found)
        role = None if state.role_of(user) not in (NOBODY, BANNED) else entry(state, code)
        try:
            seat, commit = Seat.join_external(
                self._engine, identity, found, user=user, room_uri=room, role=role
            )
        except (self._engine.MlsError, PeerMisbehaved):
            raise SendRejected("The room's provider gave a group that cannot be joined.") from None
        if not self._hubs.is_ours(room):
            self._vouch_for_all(seat)
        # What the seat keeps now is what it is if the hub takes the commit.
        records = {name: value for name, value in seat.take_changes().items() if value is not None}
        octets = MLS_MESSAGE.encode(commit.message)
        if own is not None:
            await self._seats.asking(room, Asked(user, commit.message.epoch, octets, records), *foreseen)
        answer = await self._put(room, commit)
        if answer is None:
            joined = self._seats.get(user, room)
            if joined is None:
                raise Stale
            return joined
        if not isinstance(answer, rooms.Updated):
            await self._seats.keep(more=self._seats.answered(room))
            if isinstance(answer, rooms.NotAllowed) and (user, room) not in self.left:
                raise SendRejected(f"The room does not let us in: {answer.description or 'not allowed'}")
            raise Stale  # or our leaving waits for somebody's commit
        await self._taken(room, Asked(user, commit.message.epoch, octets, records), answer.accepted)
        self.left.discard((user, room))
        taken = self._seats.get(user, room)
        if taken is None:
            raise Stale
        return taken

    def _vouch_for_all(self, seat: Seat) -> None:
        try:
            self._seats.vouch_for_all(seat.group)
        except PeerMisbehaved as problem:
            raise SendRejected(problem.notice) from None

    async def _foreseen(self, room: str, pending: Sequence[rooms.PendingProposal]) -> list[Seat]:
        """Those of us who now know what waits to be committed, to be kept.

        An external commit covers leaves that the hub may not have told us of yet. Who has not heard of them cannot
        follow it, and not even check its leaf, which goes to the first free place (RFC 9420 7.3, 12.4.3.2).
        """
        changed: list[Seat] = []
        for each in pending:
            if isinstance(each.message, PublicMessage):
                changed += (
                    await self._hearing.take_in(room, ProposalFanout(each.accepted, each.message), but="")
                )[0]
        return changed

    async def seated(self, room: str, user: str) -> Seat:
        """The seat of somebody of another side, taken if need be. The room is locked. Raises Stale."""
        seat = self._seats.get(user, room)
        if seat is not None:
            return seat
        own = self._own(room)
        if own.state.role_of(user) == BANNED:
            raise SendRejected("You are banned from that room.")
        if own.state.role_of(user) == NOBODY and own.state.may(
            self._readers.bridge, Capability.ADD_PARTICIPANT
        ):
            await self.commit(room, lambda seat: seat.add(user, (), presets.role_of_ours(seat.state)))
        return await self.join(room, user)

    # What became of a commit --------------------------------------------------------------------------------

    async def settle(self, room: str) -> None:
        """Find out whether the hub took the commit that it has not answered. The room is locked.

        Raises Stale where that cannot be told yet: the room went on, and the next that the hub tells will show.
        """
        asked = self._seats.asked.get(room)
        if asked is None:
            return
        found = await self._hubs.group_info(room, await self._seats.identity(self._readers.of(room)))
        context = found.group_info.context
        if context.epoch > asked.epoch + 1:
            raise Stale
        if context.epoch == asked.epoch + 1 and self._would_be(room, asked) == context:
            await self._taken(room, asked, self._now())
        else:
            await self._dropped(room)

    def _would_be(self, room: str, asked: Asked) -> GroupContext | None:
        """What the group is if that commit counts."""
        seat = self._readers.seat(room)
        if seat is None:
            return None
        group = self._seats.copy(seat)
        try:
            if asked.seat is None:
                group.merge_commit()
            else:
                Seat(self._engine, group, user=seat.user, room_uri=room).hear(
                    _fanned(asked, 0), self._seats.people
                )
        except self._engine.MlsError:
            return None  # another's commit was heard meanwhile
        info = MLS_MESSAGE.decode(group.group_info())
        assert isinstance(info, GroupInfo)
        return info.context

    async def _taken(self, room: str, asked: Asked, accepted: int) -> None:
        """The hub took that commit, and tells a provider nothing of its own: from now on all of us are in its epoch."""
        own = self._readers.seat(room)
        if asked.seat is None and own is not None:
            before, alone = own.state, self._hearing.alone(own)
            own.accepted()
            changes = Changed(client="", before=before, after=own.state, accepted=accepted)
            self._hearing.changed(room, changes, alone=alone)
        changed, _ = await self._hearing.take_in(room, _fanned(asked, accepted), but=asked.user)
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
        asked, own = self._seats.asked.get(room), self._readers.seat(room)
        if asked is None:
            return
        if asked.seat is None and own is not None and own.group.commit_pending:
            own.refused()
        await self._seats.keep(*([] if own is None else [own]), more=self._seats.answered(room))

    async def shown(self, room: str, fanout: Fanout) -> None:
        """What the hub tells shows what became of our commit: another's in its epoch, or the epoch that it makes."""
        asked = self._seats.asked.get(room)
        if asked is None or isinstance(fanout, WelcomeFanout):
            return
        if fanout.message.epoch > asked.epoch:
            await self._taken(room, asked, fanout.accepted)
        elif isinstance(fanout, CommitFanout) and fanout.message.epoch == asked.epoch:
            await self._dropped(room)

    async def caught_up(self, room: str, fanout: Fanout) -> None:
        """Where the hub has given up to tell us of commits, sit down anew, and say that words are missing."""
        own = self._readers.seat(room)
        if own is None or isinstance(fanout, WelcomeFanout) or fanout.message.epoch <= own.group.epoch:
            return
        await self._sit_down_anew(room, own)

    async def followed(self, room: str, fanout: Fanout) -> None:
        """A commit was heard. Where it could not be followed, sit down anew: the hub is in its epoch all the same.

        A hub can verify neither a confirmation tag nor the secrets of a path (RFC 9420 6.1, 7.6).
        """
        own = self._readers.seat(room)
        if own is None or not isinstance(fanout, CommitFanout) or fanout.message.epoch != own.group.epoch:
            return
        await self._sit_down_anew(room, own)

    async def _sit_down_anew(self, room: str, own: Seat) -> None:
        self._host.log.warning("room_rejoined", room=room, epoch=own.group.epoch)
        for seat in self._seats.in_room(room):
            await self._seats.forget(seat.user, room)
        try:
            self._hearing.opened(room, await self.join(room, own.user))
        except (Stale, Disconnected, SendUncertain):
            self.returning.add(room)
            self._come_back(room)
            return
        except BridgeError as problem:
            self._host.log.error("room_lost", room=room, why=problem.notice[:200])
        self.missed(room)

    def missed(self, room: str) -> None:
        """Say that words are missing from before now."""
        reason = "This provider missed changes of the room, so what was said in between could not be read."
        self._hearing.tell(
            facts.Missed(chat=ChatId(room), at=self._now(), since=0, until=self._now(), reason=reason)
        )

    def _now(self) -> int:
        return int(self._host.now() * 1000)


def _fanned(asked: Asked, accepted: int) -> CommitFanout:
    message = MLS_MESSAGE.decode(asked.message)
    assert isinstance(message, PublicMessage)
    return CommitFanout(accepted, message)
