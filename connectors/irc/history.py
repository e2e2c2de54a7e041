"""What was said while we were not there: CHATHISTORY, page after page, from the last thing that we saw."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from bridgekit.contract.errors import Disconnected, SendRejected
from connectors.irc.deliveries import Deliveries
from connectors.irc.protocol.stamps import stamp
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import Line
from connectors.irc.words.compose import OutLine, Urgency
from connectors.irc.words.explain import explain
from connectors.irc.words.translate import HistoryEnd

PAGE = 100
PAGES = 1000
"""A server that always has one more is not asked for ever."""
SECONDS = 30.0
"""A page that takes longer will not come."""


def moment(text: str) -> int:
    """Milliseconds since the epoch of a server-time tag, 0 where it is none."""
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
    except ValueError:
        return 0


@dataclass(slots=True)
class Fetched:
    """What a fetch brought: how many messages were handed on, and whether that is all there is.

    `met`: the page has something that was heard live, so all that came behind it was as well.
    """

    told: int = 0
    complete: bool = True
    met: bool = False


class History:
    """Asks one connection for history; what comes is read, and emitted, as replayed messages by the session."""

    def __init__(self, state: State, deliveries: Deliveries) -> None:
        self._state = state
        self._deliveries = deliveries
        self._waiting: dict[str, asyncio.Future[HistoryEnd]] = {}
        self._fetched: dict[str, Fetched] = {}  # by the fetches that are under way
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def offered(self) -> bool:
        """Whether this server keeps any."""
        return "draft/chathistory" in self._state.caps or "chathistory" in self._state.caps

    async def fetch(self, target: str, *, since: int, limit: int) -> Fetched:
        """Ask for what was said to `target` since `since` (ms), or for the last `limit` messages if that is 0.

        Since a time, pages are asked for until `limit` messages were handed on: what nobody is told, because we
        said it ourselves, uses up nothing of that. Raises SendRejected where the server will not, Disconnected
        where it is gone.
        """
        if not self.offered:
            raise SendRejected("This IRC server keeps no history.")
        key = self._state.fold(target)
        page = min(PAGE, self._state.support.chathistory or PAGE)
        async with self._locks.setdefault(key, asyncio.Lock()):
            fetched = self._fetched[key] = Fetched()
            try:
                if not since:
                    await self._page(key, ("LATEST", target, "*", str(min(limit, page))))
                else:
                    await self._pages(key, target, since=since, limit=limit, page=page)
            finally:
                del self._fetched[key]
            return fetched

    async def _pages(self, key: str, target: str, *, since: int, limit: int, page: int) -> None:
        fetched, after = self._fetched[key], since - 1  # what was seen already is known by its id
        bound, asked = f"timestamp={stamp(after)}", set[str]()
        stuck = False
        while fetched.told < limit and len(asked) < PAGES:
            wanted = page if stuck else min(page, limit - fetched.told)
            end = await self._page(key, ("AFTER", target, bound, str(wanted)))
            asked.add(bound)
            last, short = moment(end.last), end.count < wanted
            if fetched.met or not end.count or (short and last <= since):
                return  # a short page alone proves nothing: a server may give less than it has
            if self._by_id and end.last_id:
                bound, after = f"msgid={end.last_id}", last
            elif (
                last > after
            ):  # others may have spoken in the same millisecond: read twice rather than not at all
                bound, after = f"timestamp={stamp(last - 1 if last - 1 > after else last)}", last
            if bound not in asked:
                continue
            if short:
                return
            if stuck or wanted == page:
                break  # more in one moment than a page holds, or a server that turns in a circle
            stuck = True  # a whole page may reach beyond the moment
        fetched.complete = False

    def met(self, target: str) -> None:
        """The history of `target` has come to something that was heard live."""
        if (fetched := self._fetched.get(self._state.fold(target))) is not None:
            fetched.met = True

    def told(self, target: str) -> None:
        """A message of the history of `target` was handed on."""
        if (fetched := self._fetched.get(self._state.fold(target))) is not None:
            fetched.told += 1

    @property
    def _by_id(self) -> bool:
        return "msgid" in self._state.support.tokens.get("MSGREFTYPES", "")

    def ended(self, end: HistoryEnd) -> None:
        """A batch of history is over."""
        waiting = self._waiting.get(self._state.fold(end.target))
        if waiting is not None and not waiting.done():
            waiting.set_result(end)

    def refused(self, line: Line) -> None:
        """FAIL CHATHISTORY."""
        for key, waiting in self._waiting.items():
            if not waiting.done() and any(self._state.fold(p) == key for p in line.params):
                waiting.set_exception(SendRejected(explain(line)))

    async def _page(self, key: str, params: tuple[str, ...]) -> HistoryEnd:
        waiting: asyncio.Future[HistoryEnd] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        try:
            # Before WHO, behind what people say; how long it waits for its turn is no matter of the server's
            await self._deliveries.deliver(
                [OutLine(command="CHATHISTORY", params=params, urgency=Urgency.TALK)]
            )
            async with asyncio.timeout(SECONDS):
                return await waiting
        except TimeoutError as error:
            raise Disconnected("The IRC server did not answer a question about history.") from error
        finally:
            self._waiting.pop(key, None)
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # it was told by the delivery already
