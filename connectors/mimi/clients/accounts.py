"""Accounts: Matrix users who are reached from other providers under their own names, and their direct rooms.

Who opens a direct room asks for the other's consent first (draft-ietf-mimi-protocol-06 5.7), without naming a room: so
who is asked knows that it is about talking with them. Where they agree, the other's clients are added.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, SendRejected, SendUncertain
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Person
from connectors.mimi.clients import telling
from connectors.mimi.clients.directs import Directs
from connectors.mimi.clients.errands import Errands
from connectors.mimi.clients.hubs import AwaitsConsent, Hubs
from connectors.mimi.clients.inviting import Inviting
from connectors.mimi.clients.membership import Membership
from connectors.mimi.clients.packages import Packages
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seats import Seats
from connectors.mimi.service.consent import Scope
from connectors.mimi.service.provider import Provider
from connectors.mimi.service.room import Room
from connectors.mimi.service.searching import Findable, Listed
from connectors.mimi.wire.users import CONSENT_ENTRY, ConsentEntry, ConsentOperation

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
WELCOME = 20.0
"""Seconds in which who has asked brings in who agrees; shorter than somebody waits for a link."""
INVITED = "invited/"
"""Into which shared rooms a user of ours was asked, and has been told so; by whom."""
TOLD = (
    facts.Message,
    facts.Edit,
    facts.Reaction,
    facts.Unreaction,
    facts.Retraction,
    facts.Receipt,
    facts.Missed,
    facts.ChatClosed,
    facts.ChatOpened,
)
"""What is told of a direct room: who is in it, is settled."""
LEFT = "They have left this conversation. Begin a new one with them to ask whether they want to talk again."
ANSWERS = "answer/"
"""What a user of ours has decided, and the other's provider has not heard yet."""


class Account:
    """One of them."""

    def __init__(
        self,
        user: str,
        *,
        host: Host,
        seats: Seats,
        readers: Readers,
        membership: Membership,
        inviting: Inviting,
        directs: Directs,
        packages: Packages,
        provider: Provider,
        hubs: Hubs,
    ) -> None:
        self.user = user
        self.leaving = False  # the account was taken away, and not every room is left yet
        self._host = host
        self._seats = seats
        self._readers = readers
        self._membership = membership
        self._inviting = inviting
        self._directs = directs
        self._packages = packages
        self._provider = provider
        self._hubs = hubs
        self._emit: Callable[[Fact], None] | None = None
        self._held: list[Fact] = []
        self._answered: dict[str, asyncio.Event] = {}
        self._granted: dict[
            str, float
        ] = {}  # whom just now, and until when they have time to bring us together
        self._refused: set[str] = set()
        self._brought: dict[str, asyncio.Event] = {}
        self._findable = Findable.NO
        self._sending: set[str] = set()
        self._opening: dict[str, asyncio.Lock] = {}
        self._errands = Errands(host.log)

    @property
    def listens(self) -> bool:
        """Whether what is said to them can be told now."""
        return self._emit is not None

    @property
    def listed(self) -> Listed | None:
        """As whom others find them now, if they do."""
        return Listed(self.user, self._findable) if self._emit is not None else None

    async def run(self, emit: Callable[[Fact], None], findable: Findable = Findable.NO) -> None:
        """Be reachable until cancelled: who asked is told of, and what was said is read."""
        self._findable = findable
        await self._packages.publish(self.user, self._provider)
        for direct in self._directs.of_user(self.user):
            if self._readers.seat(direct.room) is not None:
                try:
                    await self._membership.enter(direct.room)
                except BridgeError as problem:
                    self._host.log.warning("room_not_entered", room=direct.room, why=problem.notice[:200])
        self._emit = emit
        try:
            while self._held:
                emit(self._held.pop(0))
            for scope in self._provider.consents(self.user).waiting:
                await self._ask_owner(scope)
            for direct in self._directs.of_user(self.user):
                await self._membership.greet(direct.room)
            for key in await self._host.items(self._answer_key("")):
                self._errands.later(partial(self._send_answer, key))
            await self._errands.run()
        finally:
            self._emit = None

    def tell(self, other: str, fact: Fact) -> None:
        """Something of the direct room with `other`."""
        if self.leaving or not isinstance(fact, TOLD):
            return
        self._say(msgspec.structs.replace(fact, chat=ChatId(other), private=True))

    def _say(self, fact: Fact) -> None:
        if self._emit is None:
            self._held.append(fact)
        else:
            self._emit(fact)

    def left_by(self, other: str) -> None:
        """Who talked with them has gone: the owner reads so where they talked."""
        left = any(self._has(other, direct.room) for direct in self._directs.between(self.user, other))
        if not left:
            at = int(self._host.now() * 1000)
            self.tell(other, facts.ChatClosed(chat=ChatId(other), at=at, reason=LEFT))

    async def rows(self) -> dict[str, bytes | None]:
        """What is to be stored so that nothing is kept of what they were asked, and of what they answered."""
        kept = [*await self._host.items(self._answer_key("")), *await self._host.items(self._invited_key(""))]
        return dict.fromkeys(kept)

    # To ask others ------------------------------------------------------------------------------------------

    async def begin(self, other: str) -> None:
        """The owner wants to talk with `other`, or agrees to: answers who asked, and asks else. Raises SendRejected."""
        if not await self._answer(other, ConsentOperation.GRANT):
            self._errands.later(partial(self._try, other))

    async def _try(self, other: str) -> None:
        try:
            await self.together(other)
        except BridgeError as problem:  # whoever says something there reads why
            self._host.log.info("not_together", why=type(problem).__name__)

    async def together(self, other: str) -> str:
        """The room of the two, once both are in it; waits until the other has agreed. Raises SendRejected."""
        wait = FIRST_WAIT
        self._refused.discard(other)
        answered = self._answered.setdefault(other, asyncio.Event())
        while True:
            answered.clear()
            try:
                return await self._brought_together(other)
            except AwaitsConsent:
                await answered.wait()
                if other in self._refused:
                    raise SendRejected("They do not agree to talk with you.") from None
            except (Disconnected, SendUncertain) as problem:
                self._host.log.info("hub_away", why=problem.notice[:200])
                await asyncio.sleep(max(wait, problem.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)

    async def _brought_together(self, other: str) -> str:
        async with self._opening.setdefault(other, asyncio.Lock()):
            known = self._directs.between(self.user, other)
            for direct in known:
                if self._has(other, direct.room):
                    return direct.room
            if not known and await self._is_brought(other):
                return self._directs.between(self.user, other)[0].room
            direct = known[0] if known else await self._directs.make(self.user, other)
            await self._membership.enter(direct.room)
            await self._inviting.invite(direct.room, other)
            return direct.room

    async def _is_brought(self, other: str) -> bool:
        """Whether `other`, who asked and got a yes just now, has brought us together: one room is enough."""
        loop = asyncio.get_running_loop()
        left = self._granted.pop(other, 0.0) - loop.time()
        if left > 0:
            answered = self._answered.setdefault(other, asyncio.Event())
            answered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await answered.wait()
        return bool(self._directs.between(self.user, other))

    def heard_of(self, other: str, *, agrees: bool) -> None:
        """Whom we asked has answered, or has brought us together by themselves."""
        self._granted.pop(other, None)
        if agrees:
            self.tell(other, facts.ChatOpened(chat=ChatId(other), at=int(self._host.now() * 1000)))
        else:
            self._refused.add(other)
        if (answered := self._answered.get(other)) is not None:
            answered.set()

    # To be asked --------------------------------------------------------------------------------------------

    async def asked(self, entry: ConsentEntry) -> None:
        """Somebody asks for consent. Who had an answer already gets it again."""
        scope = Scope(entry.requester, entry.room)
        consents = self._provider.consents(self.user)
        if scope in consents.waiting:
            await self._ask_owner(scope)
            return
        known = dict(consents.entries).get(scope)
        if known is not None:
            await self._decided(scope, ConsentOperation.GRANT if known else ConsentOperation.REVOKE)

    async def asked_no_more(self, entry: ConsentEntry) -> None:
        """Somebody needs no answer any more: the owner, who may have been told that they ask, is told that."""
        asker, at = telling.person(entry.requester), int(self._host.now() * 1000)
        if entry.room is None:
            chat = ChatId(entry.requester)
            self._say(facts.Invitation(chat=chat, at=at, private=True, sender=asker, withdrawn=True))
            return
        key = self._invited_key(entry.room)
        others = any(scope.room == entry.room for scope in self._provider.consents(self.user).waiting)
        told = await self._host.get(key)
        if others or told != entry.requester.encode() or self._readers.is_unread(entry.room, self.user):
            return  # somebody still asks, or they are in it
        self._host.put_later(key, None)
        asker = Person(id=asker.id, name=entry.requester)
        self._say(
            facts.Invitation(chat=ChatId(entry.room), at=at, sender=asker, name=entry.room, withdrawn=True)
        )

    async def _ask_owner(self, scope: Scope) -> None:
        if scope.room is not None:
            await self._tell_invited(scope.room, scope.requester)
        elif self._emit is not None:
            asks = facts.Invitation(
                chat=ChatId(scope.requester),
                at=int(self._host.now() * 1000),
                private=True,
                sender=telling.person(scope.requester),
            )
            self._emit(asks)

    # To be asked into groups --------------------------------------------------------------------------------

    def is_invited(self, room: str) -> bool:
        """Whether somebody has asked them into a shared room, or brought them there, and nobody here reads it yet."""
        asked = any(
            scope.room == room and answer is not False
            for scope, answer in self._provider.consents(self.user).entries
        )
        return self._readers.is_unread(room, self.user) or (asked and self._readers.seat(room) is None)

    async def agree_to(self, room: str) -> None:
        """The owner wants to be in a room that they were asked into: waits for the Welcome. Raises SendRejected."""
        brought = self._brought.setdefault(room, asyncio.Event())
        for scope in self._provider.consents(self.user).waiting:
            if scope.room == room:
                await self._decided(scope, ConsentOperation.GRANT)
        try:
            async with asyncio.timeout(WELCOME):
                while self._seats.get(self.user, room) is None:
                    brought.clear()
                    await brought.wait()
        except TimeoutError:
            raise SendRejected(
                "You have agreed, and the room's provider has not let you in yet: try again in a while."
            ) from None
        await self._readers.read_by(room, self.user)

    async def decline(self, room: str) -> None:
        """The owner does not want to be there."""
        for scope in self._provider.consents(self.user).waiting:
            if scope.room == room:
                await self._decided(scope, ConsentOperation.REVOKE)
        if self._readers.is_unread(room, self.user):
            await self._membership.stand_up(room, self.user)
        await self._host.put(self._invited_key(room), None)

    def brought_into(self, room: str, state: Room) -> None:
        """Their client was added to a shared room: as they agreed, or because somebody may do so."""
        if (brought := self._brought.get(room)) is not None:
            brought.set()
        elif self._readers.is_unread(room, self.user):
            others = [user for user in state.takes_part if user != self.user] or [room]
            # Who did it stands nowhere; most likely somebody whom they let.
            agreed = {scope.requester for scope, yes in self._provider.consents(self.user).entries if yes}
            by = next((user for user in others if user in agreed), others[0])
            self._errands.later(partial(self._tell_invited, room, by))

    async def _tell_invited(self, room: str, by: str) -> None:
        """Once, however often it is asked; what is not told now is told when the owner connects."""
        if self._emit is None or await self._host.get(self._invited_key(room)) is not None:
            return
        inviter = Person(id=PersonId(by), name=by)
        at = int(self._host.now() * 1000)
        self._emit(facts.Invitation(chat=ChatId(room), at=at, sender=inviter, name=room))
        self._host.put_later(self._invited_key(room), by.encode())

    def _invited_key(self, room: str) -> str:
        return f"{INVITED}{self.user} {room}"

    # Answers ------------------------------------------------------------------------------------------------

    async def end(self, other: str) -> None:
        """The owner declines who asked; whom we asked and who has not answered need not any more."""
        if not await self._answer(other, ConsentOperation.REVOKE):
            for direct in self._directs.between(self.user, other):
                if not self._has(other, direct.room):
                    await self._inviting.withdraw(direct.room, other)

    def _has(self, other: str, room: str) -> bool:
        seat = self._readers.seat(room)
        return seat is not None and bool(seat.leaves(other, self._seats.people))

    async def _answer(self, other: str, operation: ConsentOperation) -> bool:
        """Answer whatever `other` has asked; False where nothing waits for an answer."""
        consents = self._provider.consents(self.user)
        waiting = [s for s in consents.waiting if s.requester == other and s.room is None]
        if waiting and operation is ConsentOperation.GRANT:
            self._granted[other] = asyncio.get_running_loop().time() + WELCOME
        for scope in waiting:
            await self._decided(scope, operation)
        return bool(waiting)

    async def _decided(self, scope: Scope, operation: ConsentOperation) -> None:
        entry = ConsentEntry(operation, scope.requester, self.user, scope.room)
        key = self._answer_key(f"{scope.requester} {scope.room or ''}")
        await self._host.put(key, CONSENT_ENTRY.encode(entry))
        await self._provider.agree(entry)
        self._errands.later(partial(self._send_answer, key))

    def _answer_key(self, whose: str) -> str:
        return f"{ANSWERS}{self.user} {whose}"

    async def _send_answer(self, key: str) -> None:
        """Until it is heard: the last one, where they asked again meanwhile."""
        if key in self._sending:
            return
        self._sending.add(key)
        try:
            await self._deliver(key)
        finally:
            self._sending.discard(key)

    async def _deliver(self, key: str) -> None:
        wait = FIRST_WAIT
        while (raw := await self._host.get(key)) is not None:
            try:
                await self._hubs.update_consent(CONSENT_ENTRY.decode(raw))
            except Disconnected as problem:
                await asyncio.sleep(max(wait, problem.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            except BridgeError as problem:
                self._host.log.info("answer_not_taken", why=type(problem).__name__)
            if await self._host.get(key) == raw:
                await self._host.put(key, None)
