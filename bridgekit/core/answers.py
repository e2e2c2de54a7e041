"""What people answer and command about consent: codes and words, read from messages."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from enum import StrEnum

import msgspec

from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Content, Kind
from bridgekit.core.scopes import Scope

CODE_BYTES = 5
"""Forty bits of dice for a code: with five tries an hour nobody guesses one."""
_CODE = re.compile(r"(?<![\w-])bk-([a-z2-7]{4})-?([a-z2-7]{4})(?![\w-])", re.IGNORECASE)
_SPACE = re.compile(r"[\s,;.!]+")
_YES = frozenset({"yes", "agree", "grant", "ok"})
_SCOPES = {scope.value: scope for scope in Scope}
_NO = frozenset({"no", "refuse", "never"})


class Word(StrEnum):
    """A command about consent that anybody may try to give."""

    GRANT = "grant"
    REVOKE = "revoke"
    OPTOUT = "optout"
    OPTIN = "optin"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A message with a code. `scopes` is None for a bare yes, empty for a no; `clear` is False for neither."""

    code: str
    scopes: frozenset[Scope] | None = None
    clear: bool = True


class NodWord(msgspec.Struct, frozen=True):
    """`!bridge accept <who>` or `!bridge reject <who>`."""

    accepts: bool
    who: str


def code_of(dice: bytes) -> str:
    """The code that `CODE_BYTES` random bytes make: `bk-xxxx-xxxx`."""
    if len(dice) != CODE_BYTES:
        raise ValueError(f"a code is made of {CODE_BYTES} bytes")
    letters = base64.b32encode(dice).decode().lower()
    return f"bk-{letters[:4]}-{letters[4:]}"


def digest(code: str, person: PersonId) -> str:
    """What is kept of a code: good for that person alone, and of no use to who reads the database."""
    return hashlib.sha256(f"{code}\0{person}".encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two digests are the same, in constant time."""
    return hmac.compare_digest(one, other)


def answer_in(content: Content) -> Answer | None:
    """The answer in a message; None where there is no code in it, or more than one."""
    if content.kind is Kind.NOTICE:  # a machine said it
        return None
    body = content.text.body[:500]
    found = _CODE.findall(body)
    if len(found) != 1:
        return None
    code = f"bk-{found[0][0]}-{found[0][1]}".lower()
    words = [word for word in _SPACE.split(_CODE.sub(" ", body).lower()) if word]
    scopes = frozenset(_SCOPES[word] for word in words if word in _SCOPES)
    meant = [word for word in words if word in _YES or word in _NO or word in _SCOPES]
    if len(meant) != len(words) or not words or (_NO & set(words) and len(words) > 1):
        return Answer(code=code, clear=False)
    if words[0] in _NO:
        return Answer(code=code, scopes=frozenset())
    return Answer(code=code, scopes=scopes | {Scope.BRIDGE} if scopes else None)


def nod_in(content: Content) -> NodWord | None:
    """What somebody in a chat says about a stranger, and nothing else in the message."""
    body = content.text.body
    if not body.startswith("!") or content.kind is not Kind.TEXT or len(body) > 500:
        return None
    match body.split(maxsplit=2):
        case [mark, word, who] if mark.lower() == "!bridge" and word.lower() in ("accept", "reject"):
            return NodWord(word.lower() == "accept", who.strip())
        case _:
            return None


def word_in(content: Content) -> Word | None:
    """`!bridge grant`, `!bridge revoke`, `!optout` or `!optin`, and nothing else in the message."""
    body = content.text.body
    if not body.startswith("!") or content.kind is not Kind.TEXT or len(body) > 50:
        return None
    match body.lower().split():
        case ["!optout"] | ["!bridge", "optout"]:
            return Word.OPTOUT
        case ["!optin"] | ["!bridge", "optin"]:
            return Word.OPTIN
        case ["!bridge", "grant"]:
            return Word.GRANT
        case ["!bridge", "revoke"]:
            return Word.REVOKE
        case _:
            return None
