"""One request to the homeserver: through the gate, over the wire, its failure named; repeated where that is right."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import structlog

from bridgekit.contract.errors import HomeserverUnavailable, MatrixError, MatrixRateLimited, MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.answers import ElsewhereUnavailable, named
from bridgekit.matrix.gate import FIRST_SECONDS, LONGEST_SECONDS, Gate
from bridgekit.matrix.turns import Turns
from bridgekit.matrix.wire import Answer, AnswerLost, NotSent, Pool

SECONDS = 60.0
PROBE_SECONDS = 10.0
AGENT = b"User-Agent: bridgekit\r\n"
BACKOFF = (FIRST_SECONDS, LONGEST_SECONDS)
AT_ONCE = 10
"""Events that are under way into one room. Each of them may fork the room's graph, and a homeserver builds on a few of
its ends only (Synapse 1.163: on the ten newest). Where the others hold that somebody has come in, they are refused
what they say (of 48 first words: none with 10 at once, 8 with 16, 32 with 32, and the ends stay for long)."""
T = TypeVar("T")


class Outdated(Exception):
    """What a call is about has become something else before it was made; it was not made, at least not again."""


decode_json = msgspec.json.Decoder().decode


_PLAIN = re.compile(r"[A-Za-z0-9!@:$~_.-]*").fullmatch


def quoted_once(part: str) -> str:
    """One segment of a path, or one value of a query, percent-encoded (RFC 3986)."""
    return part if _PLAIN(part) else quote(part, safe="!@:$~_-.")


quoted = lru_cache(maxsize=8192)(quoted_once)
"""The same, for what will be asked again."""


STRANGER = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"})
"""The homeserver does not know the registration (any more)."""

log = structlog.get_logger(__name__)


class Metrics(Protocol):
    """What is told of the calls; cheap, and never raises."""

    def answered(self, call: str, status: int, seconds: float) -> None:
        """One exchange is over; status 0 is no answer."""
        ...

    def homeserver(self, available: bool) -> None:
        """It was lost, or is back."""
        ...


class _Silent:
    def answered(self, call: str, status: int, seconds: float) -> None: ...

    def homeserver(self, available: bool) -> None: ...


def _nobody() -> None: ...


class Homeserver:
    """The homeserver at `url`, as one appservice sees it."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        metrics: Metrics | None = None,
        tls: ssl.SSLContext | None = None,
        connections: int = 64,
        backoff: tuple[float, float] = BACKOFF,
    ) -> None:
        if not token or not token.isascii() or any(c <= " " for c in token):
            raise ValueError("the as_token is empty or holds characters that no token has")
        self.pool = Pool(url, limit=connections, tls=tls)
        self.metrics: Metrics = metrics or _Silent()
        self.gate = Gate(self._probe, changed=self._changed, first=backoff[0], longest=backoff[1])
        self.on_back: Callable[[], None] = _nobody
        """Called when it answers again after it was away."""
        self.refused = ""  # why the homeserver takes us for a stranger, while it does
        self.heard = 0.0  # when it last did what it was asked for (the event loop's time)
        self._turns: Turns[ChatId] = Turns(AT_ONCE)
        self._backoff = backoff
        self._headers = b"Authorization: Bearer %s\r\n" % token.encode("ascii") + AGENT

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        decode: Callable[[bytes], T],
        user: PersonId | None = None,
        body: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        device: str | None = None,
        timeout: float = SECONDS,
        patient: bool = False,
        repeatable: bool = True,
        federates: bool = False,
        tries: int | None = None,
        look: Callable[[float], Awaitable[T | None]] | None = None,
        call: str = "",
        room: ChatId | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
        still: Callable[[], bool] | None = None,
    ) -> T:
        """Make a call and return its decoded answer.

        `path` is quoted; `user` and `device` are whom to act as (MSC4326); `room` is where an event comes of it:
        `AT_ONCE` of one room are under way, the others wait for their turn. `decode` raises msgspec.MsgspecError
        on an answer that is none. Raises MatrixError. A patient call waits and repeats while the homeserver is
        away or asks to slow down; but one that is not `repeatable` raises when it may have taken effect, one
        that `federates` raises at the third time that another server does not answer the homeserver, and one
        with `tries` when so many tries failed for what may be this call's own trouble. Where there is a `look`,
        it is asked before each repetition of what may have taken effect, with the time of the last failure (the
        event loop's); what it finds, if anything, is the answer. `after` is what the call waits for once it is all
        ready to go. `still` is asked at the last moment before each try: Outdated is raised where it says no.
        """
        request = self.pool.request(method, _target(path, user, device, query), self._headers, body)
        if after is not None:
            await after()
        delay, longest = self._backoff[0] / 2, self._backoff[1]
        unsure = False
        elsewhere = own = 0
        while True:
            try:
                return await self._once(request, decode, user, timeout, patient, call, room, still)
            except HomeserverUnavailable as error:
                elsewhere += isinstance(error, ElsewhereUnavailable)
                own += not error.certain
                enough = (federates and elsewhere >= 3) or own == tries
                if not patient or not (error.certain or repeatable) or enough:
                    raise
                failed = asyncio.get_running_loop().time()
                if not error.certain:
                    unsure = True
                    # The gate stays open for one call's own trouble (a 500 for this room): wait here, then.
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, longest)
                # Also after a try that did not leave: the one before it may have taken effect since the last look.
                if unsure and look is not None and (found := await look(failed)) is not None:
                    return found
            except MatrixRateLimited:
                if not patient:
                    raise
            except MatrixRefused as error:
                if not patient or error.errcode not in STRANGER:
                    raise
                # A homeserver that was started without the registration is as good as away: nothing is lost to it.
                await asyncio.sleep(delay)
                delay = min(delay * 2, longest)

    async def _once(
        self,
        request: bytes,
        decode: Callable[[bytes], T],
        user: PersonId | None,
        timeout: float,
        patient: bool,
        call: str,
        room: ChatId | None,
        still: Callable[[], bool] | None,
    ) -> T:
        gate = self.gate
        epoch = await gate.enter(user, patient=patient)
        ok: bool | None = None
        certain = False
        status = 0
        why = ""
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            if room is None:
                answer = await self.pool.exchange(request, seconds=timeout)
            else:
                if not self._turns.at_once(room):
                    await self._turns.take(room)
                    started = clock()
                try:
                    if still is not None and not still():
                        raise Outdated
                    answer = await self.pool.exchange(request, seconds=timeout)
                finally:
                    self._turns.give_back(room)
            status = answer.status
            if 200 <= status < 300:
                try:
                    result = decode(answer.body)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    raise named(answer) from None
                ok = True
                if self.refused or not self.heard:
                    self._known()
                self.heard = clock()
                return result
            error = named(answer)
            if isinstance(error, MatrixRefused) and error.errcode in STRANGER:
                self._estranged(error.notice)
            if isinstance(error, HomeserverUnavailable):
                # A proxy's 502 says that the homeserver is away; the homeserver's own, that somebody else is.
                ok = None if isinstance(error, ElsewhereUnavailable) else False
                certain = status in (502, 503, 504)
                why = f"HTTP status {status}"
            else:
                ok = True
                if isinstance(error, MatrixRateLimited):
                    seconds = error.retry_after or 1.0
                    gate.hold(user, seconds, everybody=b"M_LIMIT_EXCEEDED" not in answer.body)
            raise error
        except NotSent as reason:
            ok, certain, why = False, True, str(reason)
            raise _unreachable(str(reason), sent=False) from reason
        except AnswerLost as reason:
            ok, why = False, str(reason)
            raise _unreachable(str(reason), sent=True) from reason
        finally:
            gate.leave(epoch, ok, certain=certain, kind=call if status else "", why=why)
            self.metrics.answered(call, status, clock() - started)

    def _estranged(self, reason: str) -> None:
        if not self.refused:
            log.error("homeserver_does_not_know_us", reason=reason)
            self.metrics.homeserver(False)
        self.refused = reason

    def _known(self) -> None:
        self.metrics.homeserver(True)
        if self.refused:
            self.refused = ""
            log.info("homeserver_knows_us_again")
            self.on_back()

    def _changed(self, available: bool) -> None:
        self.metrics.homeserver(available and not self.refused)
        if available:
            self.on_back()

    async def _probe(self) -> bool:
        try:
            probe = self.pool.request("GET", "/_matrix/client/versions", AGENT, None)
            answer = await self.pool.exchange(probe, seconds=PROBE_SECONDS)
        except (NotSent, AnswerLost):
            return False
        return answer.status < 500 and answer.body.lstrip()[:1] == b"{"


def _target(path: str, user: PersonId | None, device: str | None, query: Mapping[str, Any] | None) -> str:
    if user is None and query is None:
        return path
    pairs = [f"user_id={quoted(user)}"] if user is not None else []
    if device is not None:
        pairs.append(f"device_id={quoted(device)}")
    if query:
        pairs.append(urlencode(query, doseq=True))
    return f"{path}?{'&'.join(pairs)}"


def _unreachable(why: str, *, sent: bool) -> MatrixError:
    error = HomeserverUnavailable(f"The homeserver does not answer ({why}); try again later.")
    error.certain = not sent
    return error


__all__ = ["SECONDS", "Answer", "Homeserver", "Metrics", "decode_json", "quoted", "quoted_once"]
