"""After a reconnect: what was missed in each channel is fetched, and what is said meanwhile waits behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from bridgekit.contract.errors import RemoteError, SendRejected
from bridgekit.contract.facts import Fact, Message, Missed
from bridgekit.contract.ids import ChatId
from connectors.irc.connection import Connection
from connectors.irc.gap import Gaps
from connectors.irc.history import History
from connectors.irc.memory import Memory
from connectors.irc.protocol.state import State
from connectors.irc.words.hearing import Echo

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
        bouncer: Callable[[], bool],
        log: structlog.typing.FilteringBoundLogger,
        offer: Callable[[Fact], object],
        chat: Callable[[str], ChatId],
        now: Callable[[], int],
    ) -> None:
        self._state = state
        self._history = history
        self._memory = memory
        self._connection = connection
        self._limit = limit
        self._bouncer = bouncer
        self._log = log
        self._offer = offer
        self._chat = chat
        self._now = now
        self._gaps = Gaps()
        self._away_since = memory.present  # before this connection
        self._entered: set[ChatId] = set()

    def came(self, channel: str, chat: ChatId) -> Coroutine[None, None, None] | None:
        """We are in the channel: what fetches that which was missed there, if anything was."""
        again, first = self._memory.seen(chat), chat not in self._entered
        self._entered.add(chat)
        if not again:
            self._memory.begin(chat)
        elif self._limit and self._history.offered:
            self._gaps.begin(chat)
            return self._fill(channel, chat)
        elif first and not self._bouncer():
            self._tell_of_absence(channel, chat)
        return None

    def _tell_of_absence(self, channel: str, chat: ChatId) -> None:
        """The server keeps nothing that could be read later: say between when nobody listened."""
        since, now = max(self._away_since, self._memory.seen(chat)), self._now()
        if self._away_since:
            why = f"The bridge was away from {channel} for {spelled((now - since) // 1000)}."
            self._offer(Missed(chat=chat, at=now, since=since, until=now, reason=why))

    def echoed(self, echo: Echo, *, past: str) -> None:
        """Our own words were heard, or come from the history of `past`."""
        if self._gaps and (channel := self._state.channel(echo.target)) is not None:
            chat = self._chat(channel.name)
            if not past:
                self._gaps.note_own(chat, echo.id)
            elif self._gaps.was_live(chat, echo.id):
                self._history.met(past)

    def passed(self, fact: Fact) -> None:
        """Words of our own went by, which nobody is told: what came before them need not be fetched again."""
        if not isinstance(fact, Message) or fact.private:
            return
        if fact.replayed or not self._gaps.is_open(fact.chat):
            self._memory.keep_seen(fact.chat, fact.at)

    def turn(self, fact: Fact, *, past: str) -> Fact | None:
        """The fact to tell now, None where this one waits until what was missed in its channel has been told, or was
        told. `past`: it comes from the history of that target."""
        if not self._gaps:
            return fact
        if past and isinstance(fact, Message) and self._gaps.was_live(fact.chat, fact.id):
            self._history.met(past)
        told = self._gaps.turn(fact, past=bool(past))
        if told is None and self._gaps.full(fact.chat):
            self._log.warning("irc_gap_given_up", chat=fact.chat)
            self._close(fact.chat)
        return told

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
                    fetched_most = f"The bridge fetches {self._limit} messages of what it missed in {channel}"
                    why = f"{fetched_most}: there may be more."
            break
        if self._connection.alive:
            self._close(chat, why)


def spelled(seconds: int) -> str:
    """How long something took, for people: two of its units at most."""
    units = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
    words: list[str] = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count or words:
            words.append(f"{count} {name}{'' if count == 1 else 's'}" if count else "")
        if len(words) == 2:
            break
    return " and ".join(filter(None, words)) or "a moment"
