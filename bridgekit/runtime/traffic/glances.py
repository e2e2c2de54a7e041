"""What came encrypted and has to wait is looked into at once: it may ask to stop what it waits behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bridgekit.contract import facts
from bridgekit.contract.ids import MATRIX
from bridgekit.core.commands import command_in
from bridgekit.matrix.translate import Encrypted
from bridgekit.runtime.cases import Case
from bridgekit.runtime.traffic.around import Surroundings


class Glances:
    """Into one room's cases, in the order in which they came; nothing follows but that one is not kept waiting."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._unseen: deque[tuple[Case, Callable[[Case], None]]] = deque()
        self._looking = False

    def at(self, case: Case, urgent: Callable[[Case], None]) -> None:
        """Look into a case soon; `urgent` is given it, opened, where it asks to stop."""
        self._unseen.append((case, urgent))
        if not self._looking:
            self._looking = True
            self._around.spawn(self._look())

    async def _look(self) -> None:
        try:
            while self._unseen:
                case, urgent = self._unseen.popleft()
                if not isinstance(case.fact, Encrypted):
                    continue
                fact = await self._around.glance(case.fact)
                if isinstance(fact, facts.Message) and _is_stop(fact) and isinstance(case.fact, Encrypted):
                    case.fact, case.opened = fact, True
                    urgent(case)
        finally:
            self._looking = False


def stops(case: Case) -> bool:
    """Whether it asks to stop what waits: it must not wait behind that."""
    return case.origin.network == MATRIX and isinstance(case.fact, facts.Message) and _is_stop(case.fact)


def _is_stop(said: facts.Message) -> bool:
    """Whether it is `!bridge stop`."""
    return (command_in(said.content) or "").lower() == "stop"
