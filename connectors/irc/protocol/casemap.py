"""Which names are the same name: the casemappings of ISUPPORT CASEMAPPING."""

from __future__ import annotations

import string
from functools import lru_cache

RFC1459 = "rfc1459"
RFC1459_STRICT = "rfc1459-strict"
ASCII = "ascii"

_TABLES = {
    # RFC 2812 2.2: {}|^ are the lower case of []\~
    RFC1459: str.maketrans(string.ascii_uppercase + "[]\\~", string.ascii_lowercase + "{}|^"),
    # The letter of RFC 1459 2.2: ~ and ^ stay apart
    RFC1459_STRICT: str.maketrans(string.ascii_uppercase + "[]\\", string.ascii_lowercase + "{}|"),
    ASCII: str.maketrans(string.ascii_uppercase, string.ascii_lowercase),
}


def known(mapping: str) -> str:
    """The mapping itself, or rfc1459 where the server names one that nobody knows (rfc7613 included)."""
    return mapping if mapping in _TABLES else RFC1459


def is_plain(name: str) -> bool:
    """Whether every casemapping folds it alike."""
    return not any(c in "[]\\~" for c in name)


@lru_cache(maxsize=2048)  # a line asks a dozen times for the same few names
def fold(name: str, mapping: str = RFC1459) -> str:
    """The key of a nick or a channel: two names are one exactly if their keys are equal. Idempotent."""
    return name.translate(_TABLES.get(mapping, _TABLES[RFC1459]))
