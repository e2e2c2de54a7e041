"""What became of what we said: every line is followed until the server shows that it took or refused it.

Where the server answers labels or sends our words back, that answer is the proof. Elsewhere one PING behind a batch
of lines is: a server handles a connection's lines in order, so at the PONG every refusal has arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from bridgekit.contract.errors import Disconnected, SendUncertain
from bridgekit.contract.verbs import Sent
from connectors.irc.flights import LOST, PART, STOPPED, UNSENT, Delivery, Flight, groups, is_refusal
from connectors.irc.flood import Flood, Priority, Ticket
from connectors.irc.protocol.changes import BatchEnded
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import Line, build
from connectors.irc.words.compose import OutLine
from connectors.irc.words.translate import Echo, Reading

PATIENCE = 3.0
"""Seconds after which an echo or a labelled answer is no longer waited for without a PING."""
PING_BY = 5.0
"""Seconds that the confirming PING may wait behind other lines under flood control."""
SOON = 0.05
"""Under flood control a PING costs a line: so long it waits for what else is about to be said."""
WARY = 60.0
"""For so long after a refusal, each message to that target gets a PING of its own, so that the next is told apart."""
LAST_WORD = 1.0
"""Seconds that who is stopped waits for the proof of what was written already."""
TOKEN = "bk-"


class Deliveries:
    """All that is on its way over one connection. `write` hands bytes to the socket, while it `is_open`."""

    def __init__(
        self,
        state: State,
        flood: Flood,
        write: Callable[[bytes], None],
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self._state = state
        self._flood = flood
        self._write = write
        self._is_open = is_open
        self._loop = asyncio.get_running_loop()
        self._alive: dict[Delivery, None] = {}
        self._written: deque[Flight] = deque()  # in the order of the wire, the settled ones not yet taken out
        self._labels: dict[str, Flight] = {}
        self._numbers = count(1)
        self._serials = count(1)
        self._serial = 0  # of the last PING
        self._answered = 0  # of the last PONG
        self._urgent = 0  # of the last PING that did not wait
        self._ping_timer: asyncio.TimerHandle | None = None
        self._patient = False  # the timer waits for another proof first
        self._ping_ticket: Ticket | None = None
        self._wary: dict[str, float] = {}
        self._closed = False

    @property
    def busy(self) -> bool:
        """Something waits for an answer, if only a PING."""
        return bool(self._written) or self._serial != self._answered

    async def deliver(self, lines: Sequence[OutLine]) -> Sent:
        """Write the lines in order and tell what became of them.

        Raises SendRejected, SendUncertain or Disconnected. Cancelled, it takes back what was not written yet, and
        raises Disconnected if that was everything and SendUncertain if it was a part; what was written whole gets
        its proof at once, or is uncertain after `LAST_WORD`.
        """
        if self._closed or not self._is_open():
            raise Disconnected(UNSENT)
        if not lines:
            return Sent()
        delivery = Delivery(self._state.fold(lines[0].params[0]) if lines[0].params else "")
        self._alive[delivery] = None
        labelled = "labeled-response" in self._state.caps
        for group in groups(lines):
            flight = Flight(delivery, group, self._state.fold)
            if labelled:
                flight.label = f"{next(self._numbers):x}"
            delivery.flights.append(flight)
            data = b"".join(line.encode(flight.label if i == 0 else "") for i, line in enumerate(group))
            flight.ticket = self._flood.submit(
                lambda flight=flight, data=data: self._go(flight, data),  # type: ignore[misc]
                Priority(int(group[0].urgency)),
                delivery.target,
                len(group),
            )
        try:
            return await delivery.fate
        except asyncio.CancelledError:
            parted = self._take_back(delivery)
            delivery.fate = self._loop.create_future()
            if not parted and not self._closed:
                self._ping_now()
                await asyncio.wait([delivery.fate], timeout=LAST_WORD)
                if delivery.fate.done():
                    return delivery.fate.result()
            delivery.fail(
                Disconnected("The message was withdrawn before it was sent."),
                SendUncertain(f"{PART} The rest was stopped." if parted else STOPPED),
            )
            error = delivery.fate.exception()
            assert error is not None
            raise error from None
        finally:
            self._alive.pop(delivery, None)

    def read(self, line: Line, reading: Reading) -> bool:
        """Look for answers in what was read; True if it was an echo of ours. For every line while `busy`."""
        ours = False
        for echo in reading.echoes:
            ours = self._echoed(echo) or ours
        if (
            line.tags
            and (label := line.tags.get("label") or self._batch_label(line))
            and label in self._labels
        ):
            flight = self._labels[label]
            if is_refusal(line):
                flight.refusal = line
            if line.command != "BATCH" and "batch" not in line.tags:
                self._settle(flight)
        elif line.command == "PONG":
            for param in line.params:
                if param.startswith(TOKEN):
                    self._ponged(param)
        elif is_refusal(line):
            self._refused(line)
        for change in reading.changes:
            if isinstance(change, BatchEnded) and (ended := self._labels.get(change.batch.label)) is not None:
                self._settle(ended)
        return ours

    def lost(self) -> None:
        """The connection is gone: everything gets its fate."""
        self._closed = True
        self._flood.close()
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        for delivery in list(self._alive):
            delivery.fail(Disconnected(UNSENT), SendUncertain(LOST))
        self._written.clear()
        self._labels.clear()

    # -- out

    def _go(self, flight: Flight, data: bytes) -> None:
        if not self._is_open():
            flight.unsent = True  # `lost` follows, when all that came before has been read
            return
        self._write(data)
        self._written.append(flight)
        if flight.label:
            self._labels[flight.label] = flight
        target = flight.delivery.target
        if self._wary and self._wary.get(target, 0.0) > self._loop.time():
            self._ping()
        else:
            self._ping_later(
                proof=bool(flight.label) or (flight.echoed and "echo-message" in self._state.caps)
            )

    def _ping_later(self, *, proof: bool) -> None:
        """Have a PING written behind what is written now; `proof` of another kind is expected."""
        if self._closed or (self._ping_timer is not None and (proof or not self._patient)):
            return
        if not proof and self._serial != self._answered:
            return  # one at a time: the next follows the PONG and covers more
        delay = PATIENCE if proof else 0.0 if self._flood.unlimited else SOON
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        self._patient = proof
        self._ping_timer = self._loop.call_later(delay, self._ping_turn, proof)

    def _ping_turn(self, proof: bool) -> None:
        if proof or self._flood.unlimited:
            self._ping_if_open()
            return
        self._ping_timer = self._loop.call_later(PING_BY, self._ping_if_open)
        self._ping_ticket = self._flood.submit(self._ping_if_open, Priority.BACKGROUND)

    def _ping_if_open(self) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None
        if self._ping_ticket is not None:
            self._ping_ticket.cancel()
            self._ping_ticket = None
        if not self._closed and any(not f.settled and not f.serial for f in self._written):
            self._ping()

    def _ping_now(self) -> None:
        """Ask before all that waits, unless the answer is on its way."""
        open_ones = [f for f in self._written if not f.settled]
        if all(0 < f.serial <= self._urgent for f in open_ones) and self._urgent > self._answered:
            return
        self._ping(Priority.URGENT)
        self._urgent = self._serial

    def _ping(self, priority: Priority = Priority.MODERATION) -> None:
        self._serial = next(self._serials)
        for flight in reversed(self._written):
            if flight.serial:
                break
            flight.serial = self._serial
        data = build("PING", f"{TOKEN}{self._serial}")
        self._flood.submit(lambda: self._write(data), priority)

    # -- in

    def _batch_label(self, line: Line) -> str:
        batch = self._state.batches.of(line)
        return batch.label if batch is not None else ""

    def _echoed(self, echo: Echo) -> bool:
        flight = self._labels.get(echo.label) if echo.label else None
        if flight is None:
            target = self._state.fold(echo.target)
            for other in self._written:
                if (
                    not other.settled
                    and other.command in (echo.command, "RELAYMSG", "BATCH")
                    and target in other.names
                    and other.text == echo.text
                ):
                    flight = other
                    break
        if flight is None or flight.settled:
            return False
        flight.id = echo.id or flight.id
        self._settle(flight)
        return True

    def _refused(self, line: Line) -> None:
        fold = self._state.fold
        open_ones = [
            f for f in self._written if not f.settled and f.refusal is None and f.concerns(line, fold)
        ]
        if not open_ones:
            return
        first = open_ones[0]
        first.refusal = line
        self._wary[first.delivery.target] = self._loop.time() + WARY
        echoing = first.echoed and "echo-message" in self._state.caps
        if echoing or len(open_ones) == 1:  # what went well before it would have come back by now
            self._settle(first)

    def _ponged(self, token: str) -> None:
        number = token[len(TOKEN) :]
        if not number.isdecimal():
            return
        self._answered = max(self._answered, int(number))
        due: list[Flight] = []
        while self._written and 0 < self._written[0].serial <= self._answered:
            flight = self._written.popleft()
            if not flight.settled:
                due.append(flight)
        for refusal in [f.refusal for f in due if f.refusal is not None]:
            rivals = [f for f in due if f.concerns(refusal, self._state.fold)]
            if not all(f.refusal is not None for f in rivals) and len({f.delivery for f in rivals}) > 1:
                for flight in rivals:
                    flight.delivery.doubt = flight.delivery.doubt or refusal
        for flight in due:
            self._settle(flight)
        if any(not f.serial and not f.settled for f in self._written):
            self._ping_later(proof=False)

    def _settle(self, flight: Flight) -> None:
        flight.settled = True
        if flight.label:
            self._labels.pop(flight.label, None)
        while self._written and self._written[0].settled:
            self._written.popleft()
        flight.delivery.conclude()

    def _take_back(self, delivery: Delivery) -> int:
        return sum(
            f.ticket.cancel() for f in delivery.flights if f.ticket is not None and not f.ticket.cancelled
        )
