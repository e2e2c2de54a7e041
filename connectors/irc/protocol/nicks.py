"""Which nick a puppet wants, and which it takes when that one is not to be had."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from hashlib import blake2b
from itertools import count

from connectors.irc.protocol.state import State

# RFC 2812 2.3.1: letters, digits, the specials and "-"; neither a digit nor "-" at the beginning
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_SPECIAL = frozenset("[]\\`_^{|}")
_LATER = frozenset("0123456789-")
_ALLOWED = _LETTERS | _SPECIAL | _LATER
# What NFKD does not take apart
_SPELLED = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"}
)


def clean_nick(name: str) -> str:
    """`name` in the letters that every server allows in a nick; "" where nothing is left.

    Accents go, spaces and dots become "_", what has no likeness falls away.
    """
    spelled = unicodedata.normalize("NFKD", name.translate(_SPELLED))
    out = "".join("_" if c in " ._" else c for c in spelled if c in _ALLOWED or c in " .").strip("_")
    return f"_{out}" if out[:1] in _LATER else out


def wanted_nick(name: str, state: State, *, suffix: str = "") -> str:
    """A nick that servers accept, made of a display name or user id: never empty, at most NICKLEN with `suffix`.

    The same name gives the same nick at any time; a user id `@alice:example.org` counts as its `alice`.
    """
    if name.startswith("@") and ":" in name:
        name = name[1:].partition(":")[0]
    ending = "".join(c for c in suffix if c in _ALLOWED)
    room = max(1, state.support.nicklen - len(ending))
    stem = clean_nick(name)
    if not any(c in _LETTERS for c in stem):
        stem = _hashed(name)  # of a name in letters that IRC has not
    return (stem[:room] + ending)[: state.support.nicklen]


def next_nick(wanted: str, tried: Collection[str], state: State) -> str:
    """The nick to try after 432, 433, 436 or 437 for `tried`: stable, never one that was tried, within NICKLEN.

    `wanted` itself, `wanted_`, `wanted__`, `wanted2` ... `wanted9`, then nicks made of a hash; there is always one.
    """
    taken = {state.fold(nick) for nick in tried}
    limit = state.support.nicklen
    for ending in ("", "_", "__", *map(str, range(2, 10))):
        nick = wanted[: max(1, limit - len(ending))] + ending
        if nick and len(nick) <= limit and state.fold(nick) not in taken:
            return nick
    for number in count():
        nick = _hashed(f"{wanted}\0{number}")[:limit]
        if state.fold(nick) not in taken:
            return nick
        if number > 10_000:  # with a NICKLEN of one or two there may be none left
            break
    return wanted[:limit] or "m"


def speaker_nick(name: str, separator: str, limit: int = 32) -> str:
    """A nick for RELAYMSG: `name` cleaned, with the separator and what stands after it; at most `limit`."""
    tail = f"{separator}m"
    stem = clean_nick(name)
    if not any(c in _LETTERS for c in stem):
        stem = _hashed(name)
    return stem[: max(1, limit - len(tail))] + tail


def _hashed(name: str) -> str:
    return "m" + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
