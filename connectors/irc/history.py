"""What was said while we were not there: CHATHISTORY, page after page, from the last thing that we saw."""

from __future__ import annotations

import asyncio
from datetime import datetime

from bridgekit.contract.errors import Disconnected, SendRejected
from bridgekit.contract.facts import Message
from bridgekit.contract.ids import MessageId
from connectors.irc.compose import OutLine, Urgency
from connectors.irc.deliveries import Deliveries
from connectors.irc.explain import explain
from connectors.irc.stamps import is_real, stamp
from connectors.irc.state import State
from connectors.irc.translate import HistoryEnd
from connectors.irc.wire import Line

PAGE = 100
SECONDS = 30.0
"""A page that takes longer will not come."""


def moment(text: str) -> int:
    """Milliseconds since the epoch of a server-time tag, 0 where it is none."""
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
    except ValueError:
        return 0


class History:
    """Asks one connection for history; what comes is read, and emitted, as replayed messages by the session."""

    def __init__(self, state: State, deliveries: Deliveries) -> None:
        self._state = state
        self._deliveries = deliveries
        self._waiting: dict[str, asyncio.Future[HistoryEnd]] = {}
        self._last: dict[str, MessageId] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def offered(self) -> bool:
        """Whether this server keeps any."""
        return "draft/chathistory" in self._state.caps or "chathistory" in self._state.caps

    async def fetch(self, target: str, *, since: int, limit: int) -> int:
        """Ask for at most `limit` messages to `target`, all since `since` (ms) or the last ones if that is 0.

        Returns how many came. Raises SendRejected where the server will not, Disconnected where it is gone.
        """
        if not self.offered:
            raise SendRejected("This IRC server keeps no history.")
        key = self._state.fold(target)
        page = min(PAGE, self._state.support.chathistory or PAGE)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not since:
                return (await self._page(key, ("LATEST", target, "*", str(min(limit, page))))).count
            got, after = 0, since - 1  # what was seen already is known by its id
            bound = f"timestamp={stamp(after)}"
            while got < limit:
                want = min(page, limit - got)
                self._last.pop(key, None)
                end = await self._page(key, ("AFTER", target, bound, str(want)))
                got += end.count
                last = moment(end.last)
                if end.count < want or last < after:
                    break
                if self._by_id and (id := self._last.get(key)) is not None:
                    bound = f"msgid={id}"
                else:  # others may have spoken in the same millisecond: read twice rather than not at all
                    if last == after:
                        break
                    bound, after = f"timestamp={stamp(last - 1 if last - 1 > after else last)}", last
            return got

    def read(self, message: Message) -> None:
        """A message of the past was read: the next page begins behind it."""
        if self._waiting and is_real(message.id):
            self._last[self._state.fold(message.chat)] = message.id

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
