"""Sessions: connected, kept alive, restarted with backoff and jitter, and left alone where a login is no use."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from enum import StrEnum

import structlog

from bridgekit.contract.connector import Emit, Network, Session
from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, RemoteError, SendRejected
from bridgekit.contract.ids import ChatId, LoginId, NetworkId
from bridgekit.contract.people import Login
from bridgekit.contract.verbs import Join, Leave, Sent, Verb

log = structlog.get_logger(__name__)

FIRST_WAIT = 1.0
LONGEST_WAIT = 300.0
STEADY = 60.0
"""A session that lasted this long (s) starts its backoff anew."""
LONGEST_STAY = 86_400.0
"""A login that was rejected and may be of use later is asked about once in this time (s) at last."""


class State(StrEnum):
    CONNECTING = "connecting"
    READY = "ready"
    WAITING = "waiting"  # for the next try
    REJECTED = "rejected"  # nobody waits for it, whether or not it is tried again
    STOPPED = "stopped"


class Supervised:
    """One login (None: the relay) of one network, for as long as the bridge wants it."""

    def __init__(
        self,
        id: NetworkId,
        network: Network,
        login: Login | None,
        emit: Emit,
        changed: Callable[[Supervised], None],
        *,
        dice: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.id = id
        self.login = login
        self.state = State.CONNECTING
        self.reason = ""
        self.banned = False  # its network has banned it
        self.is_final = True  # where it is rejected: nobody tries again
        self.reconnects = 0
        self.joined: set[ChatId] = set()  # the chats that this session was told to enter
        self.session: Session | None = None
        self.given_up = False  # somebody waited for it in vain since it was last there
        self._doors: dict[ChatId, asyncio.Lock] = {}
        self._left: set[ChatId] = set()  # by its owner, while it could not go itself
        self._network = network
        self._emit = emit
        self._changed = changed
        self._dice = dice or random.Random()
        self._sleep = sleep
        self._ready_at = math.inf
        self._settled = asyncio.Event()  # ready or rejected
        self._lost = asyncio.Event()

    @property
    def name(self) -> LoginId | None:
        return self.login.id if self.login else None

    async def run(self) -> None:
        """Hold the session until cancelled; returns where the login was rejected for good."""
        wait, refusals = FIRST_WAIT, 0
        loop = asyncio.get_running_loop()
        while True:
            self._ready_at = math.inf  # the time that a connection takes does not make it steady
            retry: Disconnected | LoginRejected
            try:
                await self._once()
                retry = Disconnected("The session ended.")
            except (Disconnected, LoginRejected) as error:
                retry = error
            except Exception as error:
                log.exception("session_fault", network=self.id, kind=type(error).__name__)
                retry = Disconnected("The connector has a fault; the log says more.")
            self.session = None
            self.joined.clear()
            self._doors.clear()
            self._settled.clear()
            if loop.time() - self._ready_at > STEADY:
                wait, refusals = FIRST_WAIT, 0
            if isinstance(retry, LoginRejected):
                pause = self._rejected(retry, refusals)
                if pause is None:
                    return
                refusals += 1
            else:
                pause = max(retry.retry_after or 0.0, wait * self._dice.uniform(0.5, 1.0))
                wait = min(wait * 2, LONGEST_WAIT)
                self.reconnects += 1
                self._set(State.WAITING, retry.notice)
                log.warning("session_lost", network=self.id, retry_in=round(pause, 1), reason=retry.notice)
            await self._sleep(pause)

    def _rejected(self, error: LoginRejected, refusals: int) -> float | None:
        """Seconds until it is tried again, twice as long each time; None: for good.

        Everybody hears of it at once, and nobody of the tries: until one goes well, it stays rejected.
        """
        pause = None
        if error.retry_after is not None:
            doubled = error.retry_after * 2.0 ** min(refusals, 16)
            pause = min(doubled, LONGEST_STAY) * self._dice.uniform(1.0, 1.5)
        self.banned, self.is_final = isinstance(error, LoginBanned), pause is None
        log.error(
            "session_rejected",
            network=self.id,
            own=self.login is not None,
            reason=error.notice,
            retry_in=round(pause) if pause is not None else None,
        )
        self._set(State.REJECTED, error.notice)
        self._settled.set()
        return pause

    async def _once(self) -> None:
        if self.state is not State.REJECTED:
            self._set(State.CONNECTING, "")
        self._lost.clear()
        async with self._network.connect(self.login) as session:
            self.session = session
            self._ready_at = asyncio.get_running_loop().time()
            self.banned = False
            self._set(State.READY, "")
            self._settled.set()
            log.info("session_ready", network=self.id, own=self.login is not None)
            reader = asyncio.create_task(session.run(self._emit), name=f"{self.id} reader")
            lost = asyncio.create_task(self._lost.wait(), name=f"{self.id} watch")
            going = asyncio.create_task(self._go(session), name=f"{self.id} leaving")
            try:
                await asyncio.wait({reader, lost}, return_when=asyncio.FIRST_COMPLETED)
                if reader.done():
                    await reader
            finally:
                self.session = None
                for task in (reader, lost, going):
                    task.cancel()
                await asyncio.gather(reader, lost, going, return_exceptions=True)

    def leave_later(self, chat: ChatId) -> None:
        """Its owner has left a shared chat while it could not: it goes when it is back, unless it was sent in again."""
        self._left.add(chat)

    async def _go(self, session: Session) -> None:
        for chat in list(self._left):
            try:
                await self.perform(Leave(chat=chat), session)
            except RemoteError as error:
                log.info("account_did_not_leave", network=self.id, reason=error.notice)
                continue
            self._left.discard(chat)

    def _set(self, state: State, reason: str) -> None:
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            self._changed(self)

    async def ready(self) -> Session:
        """The session, as soon as there is one. Raises LoginRejected where there will be none."""
        while True:
            if self.session is not None:
                return self.session
            if self.state is State.REJECTED:
                raise LoginRejected(self.reason)
            if self.state is State.STOPPED:
                raise LoginRejected("The account was taken away from the bridge.")
            self._settled.clear()
            await self._settled.wait()

    async def enter(self, chat: ChatId, session: Session) -> None:
        """Be in a shared chat before anything is said there: the first who asks goes, the others wait for that.

        Raises RemoteError. Where the relay is not let in, it is not asked again: it says why to whoever speaks.
        """
        self._left.discard(chat)
        if chat in self.joined:
            return
        async with self._doors.setdefault(chat, asyncio.Lock()):
            if chat in self.joined:
                return
            try:
                await self.perform(Join(chat=chat), session)
            except SendRejected:
                if self.login is not None:
                    raise
            self.joined.add(chat)

    async def perform(self, verb: Verb, session: Session | None = None) -> Sent | None:
        """Let the session do one verb, once there is one. Raises RemoteError; Disconnected means try again.

        With `session`, it is that one or none: what was meant for a connection that is gone must not overtake, on
        the next one, what has to be said again.
        """
        if session is None:
            session = await self.ready()
        elif session is not self.session:
            raise Disconnected("The connection was lost before this was sent.")
        try:
            return await session.perform(verb)
        except Disconnected:
            task = asyncio.current_task()
            if self.session is session and not (task is not None and task.cancelling()):  # it was withdrawn
                self.session = None  # nobody else runs into it; the supervisor starts the next one
                self._lost.set()
            raise

    def stop(self) -> None:
        """Nobody waits for this session any more."""
        self.session = None
        self._set(State.STOPPED, "")
        self._settled.set()
