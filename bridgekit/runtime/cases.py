"""A fact on its way: what it became on each side, and what is still open."""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MessageId, PersonId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.core.model import Known
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable
from bridgekit.store import StoreError

ABOUT_LINK = (facts.ChatVisibility, facts.ChatOpened, facts.ChatClosed, facts.Resync)
"""What is about the chat itself: the bridge hears it whether anything may pass or not."""
ABOUT_CROWD = (facts.Membership, facts.Profile, facts.Roster, facts.RoleChange, facts.RolesGiven)
"""Who is there, and as what: the bridge knows it by heart, and shows it when the link opens."""


class Fate(StrEnum):
    """How one action ended. There is no other end."""

    DELIVERED = "delivered"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


class Outcome(msgspec.Struct, frozen=True):
    """The fate of one action. `notice` says why, or what the sender should know; `told`: they have read it already,
    so their client shows it and the room hears no more of it."""

    side: PortalKey
    fate: Fate
    notice: str = ""
    told: bool = False


class Tracked:
    """One message and its copies, while people may still refer to it.

    `ids[side]` are the ids of its copy there, in order; `pending` has the sides where its fate is not known yet.
    """

    __slots__ = (
        "at",
        "author",
        "ids",
        "key",
        "number",
        "origin",
        "parent",
        "pending",
        "protection",
        "revisions",
        "reworded",
        "sender",
        "unsaid",
        "words",
        "written",
    )

    def __init__(
        self,
        number: int,
        origin: PortalKey,
        sender: PersonId,
        *,
        author: str = "",
        words: str = "",
        at: int = 0,
        key: str = "",
        parent: int = 0,
        protection: Protection = Protection.END_TO_END,
    ) -> None:
        self.number = number
        self.origin = origin
        self.sender = sender
        self.author = author
        self.words = words
        self.at = at
        self.key = key
        self.parent = parent
        self.protection = protection  # what its origin gave when it was said; unknown means secret
        self.ids: dict[PortalKey, tuple[MessageId, ...]] = {}
        # Each with the future of whoever waits for that: hardly anybody does.
        self.pending: dict[PortalKey, asyncio.Future[None] | None] | None = None
        self.unsaid: frozenset[PortalKey] = frozenset()  # sides that certainly have nothing of it
        self.revisions: dict[PortalKey, list[asyncio.Future[None]]] | None = (
            None  # its edits on their way to a side
        )
        self.reworded: dict[PortalKey, str] | None = None  # its words where it was edited before it was said
        self.written: asyncio.Future[None] | None = None  # done when its copies are on disk

    def known(self) -> Known:
        """What the plan may see of it."""
        return Known(
            number=self.number,
            origin=self.origin,
            sender=self.sender,
            author=self.author,
            words=self.words,
            at=self.at,
            protection=self.protection,
            reaction=self.key,
            parent=self.parent,
        )

    def words_on(self, side: PortalKey) -> str:
        """What it said on `side` when it came there."""
        return self.words if self.reworded is None else self.reworded.get(side, self.words)

    def reword(self, side: PortalKey, words: str) -> None:
        """It will be said on `side` in other words than those in which it was said first."""
        if self.reworded is None:
            self.reworded = {}
        self.reworded[side] = words

    def expect(self, side: PortalKey) -> None:
        """A copy is on its way to `side`."""
        if self.pending is None:
            self.pending = {}
        self.pending[side] = None

    def settle(self, side: PortalKey) -> None:
        """The copy's fate on `side` is known."""
        if self.pending is not None:
            waiter = self.pending.pop(side, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            if not self.pending:
                self.pending = None

    def revise(self, side: PortalKey) -> asyncio.Future[None]:
        """An edit of it is on its way to `side`, where it may become a message of its own; resolved with its fate."""
        if self.revisions is None:
            self.revisions = {}
        revised: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.revisions.setdefault(side, []).append(revised)
        return revised

    async def settled(self, side: PortalKey) -> None:
        """Return when every edit of it that is on its way to `side` has its fate."""
        if self.revisions is not None:
            for revised in self.revisions.pop(side, []):
                await asyncio.shield(revised)

    async def arrived(self, side: PortalKey) -> tuple[MessageId, ...]:
        """The ids of the copy on `side`, once its fate is known; empty if it has none."""
        if self.pending is not None and side in self.pending:
            waiter = self.pending[side]
            if waiter is None:
                waiter = self.pending[side] = asyncio.get_running_loop().create_future()
            await asyncio.shield(waiter)
        return self.ids.get(side, ())


class Case:
    """One fact from the inbox until all that follows from it has a fate."""

    __slots__ = (
        "accepted",
        "ahead",
        "durable",
        "event",
        "fact",
        "hides",
        "linked",
        "number",
        "open",
        "opened",
        "origin",
        "outcomes",
        "performed",
        "protection",
        "recovering",
        "released",
        "returns",
        "started",
        "told",
        "tracked",
        "written",
    )

    def __init__(
        self,
        number: int,
        origin: PortalKey,
        fact: Fact | StateChanged | Encrypted | Unreadable,
        *,
        durable: bool,
        recovering: bool = False,
        event: MessageId | None = None,
        accepted: int = 0,
        started: float = 0.0,
    ) -> None:
        self.number = number
        self.origin = origin
        self.fact = fact
        self.durable = durable  # it has a row in the inbox
        self.recovering = recovering  # read back after a restart: parts of it may be done
        self.ahead = False  # it amends what waits, and is planned right behind that
        self.released = False  # it was held back, and comes again
        self.hides = False  # it only takes out of the room what was said there: nothing has to be in its way
        self.returns = (
            False  # a part of it could not be done here: it is held back, and planned again elsewhere
        )
        self.accepted = accepted  # ms: nothing of it can have been sent before
        self.event = event  # the Matrix event whose sender reads the fate
        self.started = started
        self.protection = Protection.CLEAR  # what its origin gave when it was planned
        self.tracked: Tracked | None = None
        self.linked = False  # its own id is among the copies
        self.open = 0
        self.opened = False  # it came encrypted
        self.told = False  # its sender has been told something already, and it was not the end
        self.outcomes: list[Outcome] = []
        self.performed: dict[int, str] = {}
        self.written: asyncio.Future[None] | None = None  # done when it is on disk, where it was not yet

    async def kept(self) -> None:
        """Return when it is on disk. Where that failed, which is logged, it is at hand all the same."""
        if self.written is not None:
            with contextlib.suppress(StoreError):
                await self.written

    @property
    def called(self) -> MessageId | None:
        """How later facts of its side name what it says."""
        return self.event or getattr(self.fact, "id", None)

    @property
    def amends(self) -> MessageId | None:
        """The earlier message that it edits or takes back, as its side calls it."""
        if isinstance(self.fact, Encrypted):
            return self.fact.edits
        return amended(self.fact)


def amended(fact: object) -> MessageId | None:
    """The earlier message that a fact edits or takes back."""
    return fact.target if isinstance(fact, facts.Edit | facts.Retraction) else None
