"""Kicks and bans across sides: what each side did about one, and what people have to know where a side did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from bridgekit.contract import verbs
from bridgekit.contract.facts import Change, Membership
from bridgekit.contract.ids import ChatId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.contract.verbs import Verb
from bridgekit.core import wording

Deed = verbs.Kick | verbs.Ban | verbs.Unban


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one side did. `why` is the sentence with which it refused, "" where it did it. Without a `label`, `why` says
    itself of which sides it is."""

    side: PortalKey
    label: str
    why: str = ""


def past(deed: Deed) -> str:
    """What became of the person, in words."""
    match deed:
        case verbs.Kick():
            return "put out"
        case verbs.Ban():
            return "banned"
        case verbs.Unban():
            return "let in again"
        case _:
            assert_never(deed)


def told(deed: Deed, who: str, origin: str, results: Sequence[Result]) -> str:
    """The notice for the room where the deed was done; "" where every side did the same."""
    lacking = [(r.label, r.why) for r in results if r.why]
    if not lacking:
        return ""
    done = [origin, *(r.label for r in results if not r.why)]
    return wording.one_sided(past(deed), who, done, lacking)


def roles_told(who: Sequence[str], results: Sequence[Result]) -> str:
    """The notice for the room where roles were given or taken; "" where every side did the same."""
    lacking = [(r.label, r.why) for r in results if r.why]
    return wording.roles_one_sided(who, list(dict.fromkeys(lacking))) if lacking else ""


def about_puppet(fact: Membership, owner: PersonId, room: ChatId, label: str) -> Verb | None:
    """What a network's kick, ban or unban of a Matrix user's own account means in the Matrix room.

    They would read on unseen, so whoever is put out there is put out here, with the reason and the name of who did
    it; None for anything else.
    """
    if fact.actor is None and fact.change not in (Change.BAN, Change.UNBAN):
        return None  # they left by themselves: the presence gate sees to that
    by = f"{fact.actor.name} on {label}" if fact.actor is not None else label
    reason = f"by {by}: {fact.reason}" if fact.reason else f"by {by}"
    person = Person(id=owner, name=owner)
    match fact.change:
        case Change.KICK:
            return verbs.Kick(chat=room, person=person, reason=reason)
        case Change.BAN:
            return verbs.Ban(chat=room, person=person, reason=reason)
        case Change.UNBAN:
            return verbs.Unban(chat=room, person=person, reason=reason)
        case Change.JOIN | Change.LEAVE | Change.INVITE:
            return None
        case _:
            assert_never(fact.change)
