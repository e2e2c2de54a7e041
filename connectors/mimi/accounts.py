"""Accounts: Matrix users who are reached from other providers under their own names, and their direct rooms.

Who opens a direct room asks for the other's consent first (draft-ietf-mimi-protocol-06 5.7), without naming a room: so
who is asked knows that it is about talking with them. Where they agree, the other's clients are added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, SendRejected, SendUncertain
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from connectors.mimi import telling
from connectors.mimi.consent import Scope
from connectors.mimi.directs import Directs
from connectors.mimi.hubs import AwaitsConsent, Hubs
from connectors.mimi.packages import Packages
from connectors.mimi.people import People
from connectors.mimi.provider import Provider
from connectors.mimi.seat import Seat
from connectors.mimi.wire.users import CONSENT_ENTRY, ConsentEntry, ConsentOperation

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
TOLD = (
    facts.Message,
    facts.Edit,
    facts.Reaction,
    facts.Unreaction,
    facts.Retraction,
    facts.Receipt,
    facts.Missed,
)
"""What is told of a direct room: who is in it, is settled."""
ANSWERS = "answer/"
"""What a user of ours has decided, and the other's provider has not heard yet."""


class Rooms(Protocol):
    """What an account needs of the rooms that its client is in."""

    @property
    def people(self) -> People: ...
    def seat(self, room: str, user: str | None = None) -> Seat | None: ...
    async def enter(self, room: str) -> None: ...
    async def invite(self, room: str, person: str) -> None: ...
    async def greet(self, room: str) -> None: ...


class Account:
    """One of them."""

    def __init__(
        self,
        user: str,
        *,
        host: Host,
        rooms: Rooms,
        directs: Directs,
        packages: Packages,
        provider: Provider,
        hubs: Hubs,
    ) -> None:
        self.user = user
        self._host = host
        self._rooms = rooms
        self._directs = directs
        self._packages = packages
        self._provider = provider
        self._hubs = hubs
        self._emit: Callable[[Fact], None] | None = None
        self._held: list[Fact] = []
        self._answered: dict[str, asyncio.Event] = {}
        self._refused: set[str] = set()
        self._opening: dict[str, asyncio.Lock] = {}
        self._errands: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()

    @property
    def listens(self) -> bool:
        """Whether what is said to them can be told now."""
        return self._emit is not None

    async def run(self, emit: Callable[[Fact], None]) -> None:
        """Be reachable until cancelled: who asked is told of, and what was said is read."""
        await self._packages.publish(self.user, self._provider)
        for direct in self._directs.of_user(self.user):
            if self._rooms.seat(direct.room) is not None:
                try:
                    await self._rooms.enter(direct.room)
                except BridgeError as problem:
                    self._host.log.warning("room_not_entered", room=direct.room, why=problem.notice[:200])
        self._emit = emit
        try:
            while self._held:
                emit(self._held.pop(0))
            for scope in self._provider.consents(self.user).waiting:
                self._ask_owner(scope.requester)
            for direct in self._directs.of_user(self.user):
                await self._rooms.greet(direct.room)
            async with asyncio.TaskGroup() as group:
                for key, raw in (await self._host.items(self._answer_key(""))).items():
                    group.create_task(self._send_answer(key, CONSENT_ENTRY.decode(raw)), name="mimi answer")
                while True:
                    errand = await self._errands.get()
                    group.create_task(errand(), name="mimi errand")
        finally:
            self._emit = None

    def tell(self, other: str, fact: Fact) -> None:
        """Something of the direct room with `other`."""
        if not isinstance(fact, TOLD):
            return
        private = msgspec.structs.replace(fact, chat=ChatId(other), private=True)
        if self._emit is None:
            self._held.append(private)
        else:
            self._emit(private)

    # To ask others ------------------------------------------------------------------------------------------

    async def begin(self, other: str) -> None:
        """The owner wants to talk with `other`, or agrees to: answers who asked, and asks else. Raises SendRejected."""
        if not await self._answer(other, ConsentOperation.GRANT):
            self._errands.put_nowait(lambda: self._try(other))

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
            direct = known[0] if known else await self._directs.make(self.user, other)
            await self._rooms.enter(direct.room)
            await self._rooms.invite(direct.room, other)
            return direct.room

    def heard_of(self, other: str, *, agrees: bool) -> None:
        """Whom we asked has answered, or has brought us together by themselves."""
        if not agrees:
            self._refused.add(other)
        if (answered := self._answered.get(other)) is not None:
            answered.set()

    # To be asked --------------------------------------------------------------------------------------------

    async def asked(self, entry: ConsentEntry) -> None:
        """Somebody asks for consent. Who had an answer already gets it again."""
        scope = Scope(entry.requester, entry.room)
        consents = self._provider.consents(self.user)
        if scope in consents.waiting:
            self._ask_owner(entry.requester)
            return
        known = dict(consents.entries).get(scope)
        if known is not None:
            await self._decided(scope, ConsentOperation.GRANT if known else ConsentOperation.REVOKE)

    def _ask_owner(self, requester: str) -> None:
        if self._emit is not None:
            asks = facts.Invitation(
                chat=ChatId(requester),
                at=int(self._host.now() * 1000),
                private=True,
                sender=telling.person(requester),
            )
            self._emit(asks)

    async def end(self, other: str) -> None:
        """The owner declines who asked; whom we asked and who has not answered need not any more."""
        if not await self._answer(other, ConsentOperation.REVOKE):
            known = self._directs.between(self.user, other)
            if known and not any(self._has(other, direct.room) for direct in known):
                await self._hubs.request_consent(ConsentEntry(ConsentOperation.CANCEL, self.user, other))

    def _has(self, other: str, room: str) -> bool:
        seat = self._rooms.seat(room)
        return seat is not None and bool(seat.leaves(other, self._rooms.people))

    async def _answer(self, other: str, operation: ConsentOperation) -> bool:
        """Answer whatever `other` has asked; False where nothing waits for an answer."""
        waiting = [s for s in self._provider.consents(self.user).waiting if s.requester == other]
        for scope in waiting:
            await self._decided(scope, operation)
        return bool(waiting)

    async def _decided(self, scope: Scope, operation: ConsentOperation) -> None:
        entry = ConsentEntry(operation, scope.requester, self.user, scope.room)
        key = self._answer_key(f"{scope.requester} {scope.room or ''}")
        await self._host.put(key, CONSENT_ENTRY.encode(entry))
        await self._provider.agree(entry)
        self._errands.put_nowait(lambda: self._send_answer(key, entry))

    def _answer_key(self, whose: str) -> str:
        return f"{ANSWERS}{self.user} {whose}"

    async def _send_answer(self, key: str, entry: ConsentEntry) -> None:
        wait = FIRST_WAIT
        while True:
            try:
                await self._hubs.update_consent(entry)
            except Disconnected:
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            except BridgeError as problem:
                self._host.log.info("answer_not_taken", why=type(problem).__name__)
            await self._host.put(key, None)
            return
