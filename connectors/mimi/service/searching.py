"""Who is found by what (draft-ietf-mimi-protocol-06 5.8). Pure.

The draft's three people: Xavier is found by parts of his name, Yolanda by her exact handle, and Zach by nobody. Who
says nothing is Zach.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from bridgekit.contract.errors import PeerMisbehaved, SendRejected
from connectors.mimi import uris
from connectors.mimi.uris import Thing
from connectors.mimi.wire import users
from connectors.mimi.wire.users import IdentifierRequest, IdentifierResponse, QueryCode, UserProfile

FINDABLE = "findable"
"""The field of a login that says so."""
LEAST = 3
"""Characters of a part of a name: with fewer one could read everybody out, letter by letter."""
MOST = 10
"""Answers to one query; who fits with more is to be named more exactly."""


class Findable(StrEnum):
    """By what a user lets themselves be found."""

    NO = "no"
    HANDLE = "handle"
    NAME = "name"


class Listed(msgspec.Struct, frozen=True):
    """One who lets themselves be found. `user` is their URI; their name is the only thing that can be searched."""

    user: str
    findable: Findable

    @property
    def name(self) -> str:
        """`bob:hs.example`."""
        return uris.parse(self.user).name


def answer(request: IdentifierRequest, people: Iterable[Listed]) -> IdentifierResponse:
    """All elements of the query must match; who is not `Findable.NAME` is found by exact elements alone."""
    for query in request.queries:
        match query:
            case users.Handle() | users.Nick():
                pass
            case users.PartialName() | users.WholeProfile():
                if len(query.value.strip()) < LEAST:
                    return IdentifierResponse(QueryCode.AMBIGUOUS)
            case _:
                return IdentifierResponse(QueryCode.UNSUPPORTED_FIELD)
    found = [one.user for one in people if all(_fits(query, one) for query in request.queries)]
    if not found:
        return IdentifierResponse(QueryCode.NOT_FOUND)
    if len(found) > MOST:
        return IdentifierResponse(QueryCode.AMBIGUOUS)
    return IdentifierResponse(
        QueryCode.SUCCESS, tuple(found), profiles=tuple(UserProfile(user) for user in found)
    )


def _fits(query: users.Query, one: Listed) -> bool:
    local = one.name.partition(":")[0]
    match query:
        case users.Handle():
            return one.findable is not Findable.NO and query.value in (one.user, f"@{one.name}")
        case users.Nick():
            return one.findable is not Findable.NO and query.value in (one.name, local)
        case users.PartialName() | users.WholeProfile():
            return one.findable is Findable.NAME and query.value.strip().casefold() in local.casefold()
        case _:
            return False


def asked(words: str) -> tuple[str, list[IdentifierRequest]]:
    """Whose provider is asked, and what, until something is found: `bob@b.example`, `b.example bob`, a user's URI.

    Raises SendRejected for what names no provider.
    """
    text = words.strip()
    if text.startswith("mimi://"):
        try:
            domain = uris.parse(text, Thing.USER).domain
        except PeerMisbehaved:
            raise SendRejected("That is no address of a user.") from None
        return domain, [IdentifierRequest((users.Handle(text),))]
    name, at, domain = text.rpartition("@")
    if not at:
        domain, _, name = text.partition(" ")
    name, domain = name.strip().removeprefix("@"), domain.strip().lower()
    if not name or not uris.is_domain(domain):
        raise SendRejected("Say whom you look for, and with which provider: bob@b.example")
    return domain, [
        IdentifierRequest((users.Nick(name),)),
        *([IdentifierRequest((users.PartialName(name),))] if len(name) >= LEAST else []),
    ]
