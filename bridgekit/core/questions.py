"""What the consent desk is told and what it decides: rules, questions, decisions. Values without behaviour."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bridgekit.contract.ids import PersonId, PortalKey
from bridgekit.contract.people import Person, Role
from bridgekit.core.rates import Rate
from bridgekit.core.scopes import Consent, Policy, Scope

HOUR = 3_600_000
DAY = 24 * HOUR

WANTED = frozenset({Scope.BRIDGE, Scope.MEDIA})
"""What a link asks for unless more is asked for."""
WITHDRAWN = "!bridge revoke, in the Matrix room"
"""The wording of a no of Matrix's side, for who asks later."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How the desk works; times are milliseconds. `operator` is the role from which on somebody speaks for a chat."""

    policy: Policy = Policy.REQUIRED
    operator: Role = Role.MODERATOR
    grace: int = 7 * DAY  # an operator may be without the role for this long
    renewal: int = 7 * DAY  # then another has this long to agree before the link closes
    code: int = 3 * DAY
    patience: int = DAY  # then a second operator is asked as well
    unanswered: int = 3  # so many questions without an answer, and nobody is asked again by itself
    refusal: int = 30 * DAY  # after a no, nobody is asked for this long
    questions: Rate = Rate(3, HOUR)  # in one chat
    personal: Rate = Rate(2, DAY)  # to one operator of one chat
    tries: Rate = Rate(5, HOUR)  # wrong codes of one person
    replies: Rate = Rate(6, 60_000)  # to one person


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for its answer. `digest` is all that is kept of its code."""

    id: int
    side: PortalKey
    person: PersonId
    name: str
    account: str
    scopes: frozenset[Scope]
    digest: str
    wording: str
    at: int
    expires: int


class Throw(msgspec.Struct, frozen=True):
    """One throw of the dice: an id that was never used, and a code (`answers.code_of`)."""

    id: int
    code: str


Dice = Callable[[], Throw]


class Say(msgspec.Struct, frozen=True):
    """Tell one person of the network in private."""

    person: Person
    words: str


class Announce(msgspec.Struct, frozen=True):
    """Tell the chat."""

    side: PortalKey
    words: str


class Inform(msgspec.Struct, frozen=True):
    """Tell the Matrix room of the link."""

    side: PortalKey
    words: str


class Keep(msgspec.Struct, frozen=True):
    """Write it down."""

    what: Consent | Ask


class Drop(msgspec.Struct, frozen=True):
    """The question is answered, or void: forget it."""

    id: int


class Weigh(msgspec.Struct, frozen=True):
    """The scopes of a chat have changed: compute what is allowed anew, and close at once what may not be open."""

    side: PortalKey
    scopes: frozenset[Scope]


class Note(msgspec.Struct, frozen=True):
    """An event for the log."""

    event: str
    side: PortalKey | None = None


Decision = Say | Announce | Inform | Keep | Drop | Weigh | Note
