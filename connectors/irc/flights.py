"""Lines on their way and the messages that they make up: what is known of each, and the fate that follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bridgekit.contract.errors import BridgeError, SendRejected, SendUncertain
from bridgekit.contract.ids import MessageId
from bridgekit.contract.verbs import Sent
from connectors.irc.flood import Ticket
from connectors.irc.protocol.wire import Line
from connectors.irc.words.compose import OutLine
from connectors.irc.words.explain import explain

LOST = (
    "The connection to IRC was lost before the server confirmed the message: it may or may not have arrived."
)
UNSENT = "The connection to IRC was lost before the message was sent."
STOPPED = "It was stopped before the server confirmed it: it may or may not have arrived."
PART = "Only a part of the message was sent."
_TALK = frozenset({"PRIVMSG", "NOTICE", "TAGMSG", "RELAYMSG"})
_OF_TALK = frozenset("404 407 412 413 414 415 531 716".split())
"""Numerics that answer words and nothing else (RFC 2812 3.3.1, and what servers added)."""
_NOT_OF_TALK = frozenset("441 442 443 467 471 472 473 474 475 476 478 482 501 502".split())
"""Numerics about entering a channel, its modes and its operators (RFC 2812 5.2): words are never answered so."""

_UNRELAYED = ("RELAYMSG", "PRIVS_NEEDED")


class NotRelayed(SendRejected):
    """We may not speak in others' names there (RELAYMSG); nothing was said."""


class Flight:
    """One line (or one batch of lines) on its way."""

    __slots__ = (
        "command",
        "delivery",
        "echoed",
        "id",
        "label",
        "names",
        "refusal",
        "serial",
        "settled",
        "talks",
        "text",
        "ticket",
        "unsent",
    )

    def __init__(self, delivery: Delivery, group: Sequence[OutLine], fold: Callable[[str], str]) -> None:
        line, said = group[0], [line for line in group if line.command in _TALK]
        self.delivery = delivery
        self.command = line.command
        self.talks = bool(said)
        self.text = _words(said)
        self.names = {fold(p) for p in (said[0].params[:1] if said else line.params)}
        self.echoed = line.echoed
        self.label = ""
        self.serial = 0  # of the PING that was written behind it; 0 before that
        self.settled = False
        self.id: MessageId | None = None
        self.refusal: Line | None = None
        self.ticket: Ticket | None = None
        self.unsent = False  # its turn came when the connection was gone

    @property
    def written(self) -> bool:
        """Bytes may have left."""
        if self.unsent:
            return False
        return self.ticket is None or self.ticket.done  # no ticket yet: being written at this moment

    def concerns(self, line: Line, fold: Callable[[str], str]) -> bool:
        """Whether the error `line` may be the answer to this."""
        if line.command == "FAIL":
            return line.param(0) == self.command
        if line.command in (_NOT_OF_TALK if self.talks else _OF_TALK):
            return False
        return line.param(1) == self.command or any(fold(p) in self.names for p in line.params[1:-1])


def _words(said: Sequence[OutLine]) -> str:
    """What the lines say together, as it comes back."""
    parts: list[str] = []
    for line in said:
        if len(line.params) > 1:
            parts += ["\n"] * bool(parts and "draft/multiline-concat" not in line.tags)
            parts.append(line.params[-1])
    return "".join(parts)


class Delivery:
    """One verb on its way: all its lines, and its fate."""

    __slots__ = ("doubt", "fate", "flights", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self.flights: list[Flight] = []
        self.doubt: Line | None = None
        self.fate: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()

    def conclude(self) -> None:
        """Decide, once every line has an answer."""
        if self.fate.done() or not all(f.settled for f in self.flights):
            return
        refused = [f.refusal for f in self.flights if f.refusal is not None]
        if self.doubt is not None:
            self.fate.set_exception(
                SendUncertain(
                    f"The server refused one of the last messages, and it is not clear which: {explain(self.doubt)}"
                )
            )
        elif refused and len(refused) == len(self.flights):
            kind = NotRelayed if refused[0].params[:2] == _UNRELAYED else SendRejected
            self.fate.set_exception(kind(explain(refused[0])))
        elif refused:
            self.fate.set_exception(SendUncertain(f"{PART} {explain(refused[0])}"))
        else:
            ids = [f.id for f in self.flights if f.id is not None]
            lines = len(self.flights)
            self.fate.set_result(
                Sent(
                    id=ids[0] if ids else None,
                    more=tuple(ids[1:]),
                    note=f"sent as {lines} lines" if lines > 1 else "",
                )
            )

    def fail(self, unsent: BridgeError, uncertain: BridgeError) -> None:
        """Decide now, without further answers."""
        if not self.fate.done():
            self.fate.set_exception(uncertain if any(f.written for f in self.flights) else unsent)


def is_refusal(line: Line) -> bool:
    """Whether the line may say that something was not done."""
    return (
        line.command == "FAIL"
        or (len(line.command) == 3 and line.command[0] in "45" and line.command.isdecimal())
        or (line.command in {"716", "742", "972", "974", "415", "477"})
    )


def groups(lines: Sequence[OutLine]) -> list[list[OutLine]]:
    """The lines, with those that must not be parted together."""
    groups: list[list[OutLine]] = []
    for line in lines:
        if line.glued and groups:
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups
