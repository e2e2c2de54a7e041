"""After a reconnect: what was missed in each channel is fetched, and what is said meanwhile waits behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from bridgekit.contract.errors import RemoteError, SendRejected
from bridgekit.contract.facts import Fact, Message, Missed
from bridgekit.contract.ids import ChatId
from connectors.irc.batches import HISTORY
from connectors.irc.connection import Connection
from connectors.irc.gap import Gaps
from connectors.irc.history import History
from connectors.irc.memory import Memory
from connectors.irc.state import State
from connectors.irc.wire import Line

TRIES = 3


class CatchUp:
    """The gaps of the relay's connection. `offer` takes each fact that need not wait any longer."""

    def __init__(
        self,
        state: State,
        history: History,
        memory: Memory,
        connection: Connection,
        *,
        limit: int,
        log: structlog.typing.FilteringBoundLogger,
        offer: Callable[[Fact], object],
        now: Callable[[], int],
    ) -> None:
        self._state = state
        self._history = history
        self._memory = memory
        self._connection = connection
        self._limit = limit
        self._log = log
        self._offer = offer
        self._now = now
        self._gaps = Gaps()

    def came(self, channel: str) -> Coroutine[None, None, None] | None:
        """We are in the channel: what fetches that which was missed there, if anything was."""
        chat = ChatId(self._state.fold(channel))
        if not self._memory.seen(chat):
            self._memory.begin(chat)
        elif self._limit and self._history.offered:
            self._gaps.begin(chat)
            return self._fill(channel, chat)
        return None

    def passed(self, fact: Fact) -> None:
        """Words of our own went by, which nobody is told: what came before them need not be fetched again."""
        if not isinstance(fact, Message) or fact.private:
            return
        if fact.replayed or not self._gaps.is_open(fact.chat):
            self._memory.keep_seen(fact.chat, fact.at)

    def waits(self, line: Line | None, fact: Fact) -> bool:
        """Whether the fact waits until what was missed in its channel has been told."""
        if not self._gaps:
            return False
        past = isinstance(fact, Message) and fact.replayed
        if line is not None and "batch" in line.tags and (batch := self._state.batches.of(line)) is not None:
            past = past or batch.within(HISTORY) is not None
        if not self._gaps.holds(fact, past=past):
            return False
        if self._gaps.full(fact.chat):
            self._log.warning("irc_gap_given_up", chat=fact.chat)
            self._close(fact.chat)
        return True

    def _close(self, chat: ChatId, why: str = "") -> None:
        """What was missed is told, as far as it could be had: `why` not all of it could."""
        waiting = self._gaps.end(chat)
        if why:
            since, now = self._memory.seen(chat), self._now()
            until = min((fact.at for fact in waiting), default=now)
            self._offer(Missed(chat=chat, at=now, since=since, until=max(since, until), reason=why))
            self._memory.keep_seen(chat, until)  # it was said to be missing, so nobody asks for it again
        for fact in waiting:
            self._offer(fact)

    async def _fill(self, channel: str, chat: ChatId) -> None:
        why = ""
        for _ in range(TRIES):
            try:
                fetched = await self._history.fetch(channel, since=self._memory.seen(chat), limit=self._limit)
            except RemoteError as error:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError from error  # a delivery that is cancelled raises its fate instead
                if not self._connection.alive:
                    return  # what waits was not told to anybody: the next connection begins where this one did
                self._log.warning("irc_history_missing", chat=chat, reason=error.notice)
                why = f"The bridge was not in {channel} for a while. {error.notice}"
                if not isinstance(error, SendRejected):  # no answer in time
                    continue
            else:
                why = ""
                if not fetched.complete:
                    self._log.warning("irc_history_cut", chat=chat, limit=self._limit)
                    why = f"More was said in {channel} than the bridge fetches ({self._limit} messages)."
            break
        if self._connection.alive:
            self._close(chat, why)
