"""What the plan sees of a room, and what it decides: plain values, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from enum import StrEnum

import msgspec

from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, PersonId, PortalKey
from bridgekit.contract.people import Person, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import Verb
from bridgekit.core.ghosts import Namespace
from bridgekit.core.membership import Mode, Urgency


def matrix_side(room: ChatId) -> PortalKey:
    """The Matrix side of a room, addressed like any other chat."""
    return PortalKey(MATRIX, room)


class Permission(StrEnum):
    """What the admin lets a Matrix user do."""

    NONE = "none"  # not even relayed
    RELAY = "relay"
    USER = "user"  # may log in, start conversations and link rooms they administer
    ADMIN = "admin"


class Toward(StrEnum):
    """Which way words go when their encryption ends at the bridge."""

    LINK = "link"  # out of an encrypted room, to a link that gives less
    ROOM = "room"  # out of an encrypted chat, into a room that gives less, and to whatever that is linked to
    UNKNOWN = ""  # an older version of the bridge has not kept it


class Downgrade(msgspec.Struct, frozen=True, kw_only=True):
    """What may be lost on a link: that way, and down to that protection."""

    toward: Toward
    least: Protection

    def covers(self, toward: Toward, protection: Protection) -> bool:
        """Whether words may go that way, to a side that gives no more than that."""
        return toward is self.toward and protection >= self.least


class SideView(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a room. `logins` are the Matrix users who speak there with their own account."""

    key: PortalKey
    label: str  # what people call the network
    open: bool = True
    reason: str = ""  # why it is not open: a sentence
    logins: Mapping[PersonId, LoginId] = {}
    grants: bool = False  # roles that are given in Matrix are given there too
    name: str = ""  # what people call the chat
    protection: Protection = Protection.TRANSPORT
    agreed: Downgrade | None = (
        None  # what somebody of the room agreed to lose on this link: core/protection.py
    )


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A message that crossed before: `number` is the bridge's own id for all its copies."""

    number: int
    origin: PortalKey
    sender: PersonId
    author: str = ""
    words: str = ""
    at: int = 0
    protection: Protection = Protection.CLEAR  # what its origin gave when it was said, where that is known
    reaction: str = ""  # not empty: it is a reaction with this key
    parent: int = 0  # to this message


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """All that planning one fact may know. `sides` holds the Matrix side first, then every link."""

    number: int  # the fact's own number, and its message's
    origin: PortalKey
    sides: tuple[SideView, ...]
    namespace: Namespace
    known: Mapping[MessageId, Known] = {}
    owner: PersonId | None = None  # a direct chat belongs to this Matrix user
    made: bool = False  # the bridge made the room
    barred: str = ""  # why nothing that the origin's person does is passed on: a policy list
    management: bool = False  # a room with the bot alone: every word is a command
    permission: Permission = Permission.USER  # of the sender, where the fact comes from Matrix
    puppets: bool = False  # double puppeting is on: an owner's own words may carry their own name
    present: Set[PersonId] = frozenset()  # ghosts (user ids) in the Matrix room
    mode: Mode = Mode.GRADUAL  # whose ghosts are wanted there, of the origin's people
    # Whether the ghost of somebody stays though they are not in the origin chat (any more); `read`: as a roster says.
    remains: Callable[[PersonId, bool], bool] = lambda *_: False
    # All of the bridge's own accounts on the origin's network; None: not known, each person is looked up.
    own: Set[PersonId] | None = None
    # Whether a ghost (user id) shows another name than its person has now.
    misnamed: Callable[[PersonId, Person], bool] = lambda *_: False
    was_here: Callable[[PersonId], bool] = lambda _: False  # whether a ghost (user id) was made before
    counterpart: Callable[[PersonId, PortalKey, PortalKey], PersonId | None] = lambda *_: None
    # Whether a Matrix user is one of those with accounts of their own, and not the bridge itself.
    is_user: Callable[[PersonId], bool] = lambda _: False
    owner_of: Callable[[LoginId], PersonId | None] = lambda _: None


RELAY = LoginId("")
"""The lane of the bridge's own account on a network."""


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One verb for one side, in the lane of one acting identity.

    `target`, `reply` and `thread` are numbers of messages whose id on that side is filled in when the verb is
    performed, because the copy may still be on its way. 0 is none.
    """

    side: PortalKey
    actor: str  # a user id on the Matrix side, a LoginId elsewhere
    verb: Verb
    target: int = 0
    reply: int = 0
    thread: int = 0


class Arrival(msgspec.Struct, frozen=True):
    """A ghost that is to be let into the Matrix room when there is time."""

    ghost: PersonId
    person: Person
    urgency: Urgency


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from one fact. `refused` is a sentence for the sender, about all sides or about those that no
    action is for; `command` are words for the bot. `unsaid`: nothing of what the fact says may be kept or quoted.
    `arrivals` and `roles` (by ghost) are for the Matrix room, and may be thousands: nobody waits for them, and the
    next roster says them again."""

    actions: tuple[Action, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    roles: Mapping[PersonId, Role] = {}
    refused: str = ""
    command: str | None = None
    unsaid: bool = False


NOTHING = Plan()
