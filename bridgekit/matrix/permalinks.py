"""Matrix links and which links are safe: matrix.to and matrix: URIs read and written, URL schemes allowed."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

# Client-Server API 11.2.1.1: the schemes that clients let through; matrix: is MSC2312.
_SAFE = re.compile(r"(?:https?|ftp)://\S+|(?:mailto|magnet|matrix):\S+", re.IGNORECASE)
_MATRIX_TO = re.compile(r"https?://matrix\.to/#/([^/?\s]+)(/[^?\s]+)?", re.IGNORECASE)
_MATRIX_URI = re.compile(r"matrix:(u|user|r|room|roomid)/([^/?\s]+)(/[^?\s]+)?", re.IGNORECASE)
_USER = re.compile(r"@[^:\s\x00-\x1f]*:[^\s\x00-\x1f/]+")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]")

MAX_USER_ID = 255
"""Bytes in a user id, with sigil and server (Appendices, "User Identifiers")."""


def is_user_id(value: str) -> bool:
    """Whether `value` has the shape of a user id; historical ones, with any characters, count."""
    return (
        value.startswith("@")
        and len(value) <= MAX_USER_ID
        and _USER.fullmatch(value) is not None
        and len(value.encode("utf-8", "replace")) <= MAX_USER_ID
    )


def safe(url: str) -> str | None:
    """`url`, trimmed, if a reader may be let click it; None for `javascript:` and all else that is not listed."""
    url = url.strip()
    if _CONTROL.search(url) or not _SAFE.fullmatch(url):
        return None
    return url


def named(url: str) -> str | None:
    """The user id, room id or alias that a matrix.to or matrix: link names.

    "" stands for a link into a room's timeline; None is any other link.
    """
    if match := _MATRIX_TO.match(url):
        return "" if match[2] and match[2] != "/" else unquote(match[1])
    if match := _MATRIX_URI.match(url):
        if match[3] and match[3] != "/":
            return ""
        sigil = {"u": "@", "user": "@", "r": "#", "room": "#", "roomid": "!"}[match[1].lower()]
        return sigil + unquote(match[2])
    return None


def to_user(user: str) -> str:
    """The matrix.to link of `user`."""
    return "https://matrix.to/#/" + quote(user, safe="@:!$&'()*+,;=-._~")
