"""What a session sees to by the clock: that the server is alive, that the nick is the wanted one, that nobody idles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from connectors.irc.config import Idle, Puppets
from connectors.irc.protocol.changes import Change, Quit, Renamed
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import build

TICK = 5.0
PING_AFTER = 25.0
"""Seconds of silence after which the server is asked for a sign of life ..."""
DEAD_AFTER = 50.0
"""... and after which it is dead."""
REGAIN = 60.0
"""Seconds between two tries for the wanted nick where nobody was seen to give it up."""
REGAIN_AT_MOST = 6 * 3600.0
"""... where it was taken from us again each time, as services do that keep a nick for its owner."""
KEPT = 3600.0
"""Seconds after which a nick that was ours was not taken from us for having it."""
SETTLED = 300.0
"""Seconds after which whoever was there before a reconnect has come back, or is somebody else's name now."""

DAY = 86_400_000


class Sign(Enum):
    """What the pulse says."""

    ALIVE = "alive"
    ASK = "ask"
    DEAD = "dead"


class Pulse:
    """Watches for silence; every byte of the server is a sign of life."""

    def __init__(self) -> None:
        self._asked = 0.0

    def feel(self, now: float, heard_at: float) -> Sign:
        """ASK at most once in a silence's second half."""
        silent = now - heard_at
        if silent > DEAD_AFTER:
            return Sign.DEAD
        if silent > PING_AFTER and now - self._asked > DEAD_AFTER - PING_AFTER:
            self._asked = now
            return Sign.ASK
        return Sign.ALIVE


class WantedNick:
    """Wins the nick back: at once where its holder is seen to give it up, else by trying every now and then."""

    def __init__(self, nick: str, state: State, ask: Callable[[bytes], None]) -> None:
        self._nick = nick
        self._state = state
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._loop.time()
        self._wait = REGAIN
        self._taken = False  # from us, who were not known to the services

    def notice(self, change: Change) -> None:
        """Somebody was renamed or left."""
        match change:
            case Renamed(old=old, own=True) if self._state.fold(old) == self._state.fold(self._nick):
                self._lost()
            case Renamed(old=old, own=False) if self._is(old):
                self._try()
            case Quit(user=user) if self._is(user.nick):
                self._try()
            case _:
                pass

    @property
    def is_ours(self) -> bool:
        """Whether we are called as we want to be."""
        return self._state.is_me(self._nick)

    def identified(self) -> None:
        """We are known to the services now: it is not for them to take it away any more."""
        if self._taken and not self.is_ours:
            self._try()
        self._taken, self._wait = False, REGAIN

    def tick(self) -> None:
        """Try if it is time."""
        if not self.is_ours and self._loop.time() - self._asked_at > self._wait:
            self._try()

    def _is(self, nick: str) -> bool:
        return self._state.fold(nick) == self._state.fold(self._nick) and not self.is_ours

    def _lost(self) -> None:
        if self.is_ours:
            return  # only its letters are others
        now = self._loop.time()
        at_once = now - self._asked_at < KEPT
        self._wait = min(self._wait * 2, REGAIN_AT_MOST) if at_once else REGAIN
        self._taken, self._asked_at = True, now

    def _try(self) -> None:
        self._asked_at = self._loop.time()
        self._ask(build("NICK", self._nick))


def idles(config: Puppets, spoken: int, now: int) -> bool:
    """Whether a puppet whose owner last spoke at `spoken` (ms, 0: not known) is to leave its channels at `now`."""
    return config.idle is Idle.PART and bool(spoken) and now - spoken > config.idle_days * DAY
