"""The steps of a case: single actions on their way through the lanes, and what turns one back."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Any

from bridgekit.contract.ids import MessageId, PortalKey
from bridgekit.contract.verbs import Leave
from bridgekit.core.model import Action
from bridgekit.runtime.cases import ABOUT_LINK, Case, Tracked
from bridgekit.runtime.traffic.lanes import Turn

TOLD = 0
"""The step, in the outbox, under which it stands that the sender was told what was not the end; no verb has it."""


class Elsewhere(Exception):
    """The room was replaced while this was on its way there: nothing was done, and it is to be done in the other."""


class GoesBack(Exception):
    """The link's gate was closed while this was on its way: nothing was done, and it waits with all that is held."""


class Step:
    """One action of a case, as it travels in a lane."""

    __slots__ = (
        "action",
        "actor",
        "begun",
        "case",
        "edits",
        "marked",
        "nth",
        "revises",
        "said_anew",
        "stopped",
        "task",
        "turn",
        "waits",
        "worded",
    )

    def __init__(self, case: Case, action: Action, nth: int = 1) -> None:
        self.case = case
        self.action = action
        self.actor = action.actor
        self.nth = nth  # of the actions for this side with a verb of this kind
        self.marked = False  # "sending" is on disk
        self.revises: tuple[Tracked, asyncio.Future[None]] | None = None  # what it is an edit of
        self.said_anew = False  # the edit became a message of its own
        self.turn: Turn | None = None  # while it is under way in a lane
        self.task: asyncio.Task[Any] | None = None  # that performs it, on a network
        self.worded = False  # what a network is given of it stands
        self.edits: tuple[Step, ...] = ()  # what came before that: it is said as the last of them has it
        self.begun = False  # a network has been given something of it
        self.waits = False  # until all is planned that may change it
        self.stopped = ""  # why it is not wanted any more, for its sender

    @property
    def index(self) -> int:
        """A number that is the same when the fact is planned again after a restart."""
        return zlib.crc32(f"{self.action.side}|{type(self.action.verb).__name__}|{self.nth}".encode())

    @property
    def event(self) -> MessageId | None:
        """The Matrix event that has its words."""
        return self.edits[-1].case.event if self.edits else self.case.event

    @property
    def shows(self) -> bool:
        """Whether something of what is said or done in a chat would be seen in the room."""
        if self.case.hides or isinstance(self.action.verb, Leave):
            return False
        return not isinstance(self.case.fact, ABOUT_LINK)


class Overtaken(Exception):
    """The way into the room was closed while something was got ready for it; nothing was sent."""


def source_of(number: int, side: PortalKey) -> str:
    """What marks a sent event so that it is found again after a crash: unique for message and side."""
    return f"{number:x}@{side.chat}" if side.receiver else f"{number:x}"


_NUMBERED = re.compile(r"([0-7]?[0-9a-f]{1,15})[@.]").match


def number_of(source: str) -> int:
    """The number of the fact that a sent event was made from; 0 for what is no source."""
    found = _NUMBERED(source)
    return int(found[1], 16) if found else 0
