"""Names of providers, users, clients, rooms and groups: mimi URIs (draft-ietf-mimi-protocol-06 3)."""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import quote, unquote_to_bytes

import msgspec

from bridgekit.contract.errors import PeerMisbehaved

MAX_OCTETS = 1024  # ours: a message id counts them in 16 bits, and a stored key should be short

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_URI = re.compile(r"mimi://([^/?#]+)(?:/([udrg])/([^?#]+))?")
_NAME = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_MATRIX = re.compile(r"[a-z0-9._=/+-]+:[A-Za-z0-9.:\[\]-]+")
_SAFE = "!$&'()*+,;=:@/"


class Thing(StrEnum):
    """What a URI names: the letter that stands in its path."""

    PROVIDER = ""
    USER = "u"
    CLIENT = "d"
    ROOM = "r"
    GROUP = "g"


class Uri(msgspec.Struct, frozen=True):
    """A URI taken apart. `domain` is lower case, `name` is decoded (empty for a provider)."""

    domain: str
    thing: Thing
    name: str

    def __str__(self) -> str:
        if self.thing is Thing.PROVIDER:
            return f"mimi://{self.domain}"
        return f"mimi://{self.domain}/{self.thing}/{quote(self.name, safe=_SAFE)}"


def parse(uri: str, *things: Thing) -> Uri:
    """Take `uri` apart; it must name one of `things`, if any are given. Raises PeerMisbehaved.

    Two URIs are the same name where they are the same octets, because a message id hashes them as they stand: so
    nobody writes one anew from its parts and compares that.
    """
    found = _URI.fullmatch(uri) if len(uri) <= MAX_OCTETS else None
    if found is None:
        raise PeerMisbehaved("The other side named something by what is not a mimi URI.")
    domain, letter, path = found[1].lower(), found[2] or "", found[3] or ""
    if not is_domain(domain) or (path and not _NAME.fullmatch(path)):
        raise PeerMisbehaved("The other side named something by a mimi URI with impossible characters.")
    try:
        parsed = Uri(domain, Thing(letter), unquote_to_bytes(path).decode())
    except UnicodeDecodeError:
        raise PeerMisbehaved("The other side named something by a mimi URI that is not UTF-8.") from None
    if things and parsed.thing not in things:
        raise PeerMisbehaved("The other side named one kind of thing where another belongs.")
    return parsed


def is_domain(name: str) -> bool:
    """Whether `name` can be a provider's domain: lower-case host name, without a port."""
    return _HOST.fullmatch(name) is not None


def is_user(uri: str) -> bool:
    """Whether `uri` names a user: what makes a link a mention (draft-ietf-mimi-content 5.4)."""
    try:
        parse(uri, Thing.USER)
    except PeerMisbehaved:
        return False
    return True


def hosts(uri: str) -> str | None:
    """The Matrix user whom `hosted` called so; None for anybody else."""
    name = parse(uri, Thing.USER).name
    return f"@{name}" if _MATRIX.fullmatch(name) else None


def hosted(domain: str, name: str) -> str:
    """What somebody of another network is called at our provider; `name` is theirs there."""
    clean = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in name)
    return str(Uri(domain, Thing.USER, clean.lstrip("@/") or "_"))
