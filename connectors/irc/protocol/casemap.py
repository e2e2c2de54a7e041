"""Which names are the same name: the casemappings of ISUPPORT CASEMAPPING, and UTF8MAPPING for names beyond ASCII."""

from __future__ import annotations

import string
import unicodedata
from functools import lru_cache

RFC1459 = "rfc1459"
RFC1459_STRICT = "rfc1459-strict"
ASCII = "ascii"
RFC8265 = "rfc8265"

_TABLES = {
    # RFC 2812 2.2: {}|^ are the lower case of []\~
    RFC1459: str.maketrans(string.ascii_uppercase + "[]\\~", string.ascii_lowercase + "{}|^"),
    # The letter of RFC 1459 2.2: ~ and ^ stay apart
    RFC1459_STRICT: str.maketrans(string.ascii_uppercase + "[]\\", string.ascii_lowercase + "{}|"),
    ASCII: str.maketrans(string.ascii_uppercase, string.ascii_lowercase),
}


def known(mapping: str) -> str:
    """The mapping itself, or rfc1459 where the server names one that nobody knows (rfc7613 included)."""
    return mapping if mapping in _TABLES or mapping == RFC8265 else RFC1459


def is_plain(name: str) -> bool:
    """Whether every casemapping of CASEMAPPING folds it alike."""
    return not any(c in "[]\\~" for c in name)


@lru_cache(maxsize=2048)  # a line asks a dozen times for the same few names
def fold(name: str, mapping: str = RFC1459) -> str:
    """The key of a nick or a channel: two names are one exactly if their keys are equal. Idempotent."""
    if mapping == RFC8265:
        return _lower(name)
    return name.translate(_TABLES.get(mapping, _TABLES[RFC1459]))


def _lower(name: str) -> str:
    """RFC 8265 3.3: the width mapping, lower case letter by letter (a final sigma stays what it is), and NFC."""
    if name.isascii():
        return name.lower()
    narrow = "".join(map(_narrow, name))
    lower = "".join(c.lower() for c in unicodedata.normalize("NFC", narrow))
    return unicodedata.normalize("NFC", lower)


def _narrow(character: str) -> str:
    """A full-width or half-width character as the one that it is a form of (RFC 8264 5.2.1)."""
    kind, _, code = unicodedata.decomposition(character).partition(" ")
    return chr(int(code, 16)) if kind in ("<wide>", "<narrow>") else character
