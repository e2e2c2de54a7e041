"""Links that look like another address than the one that they lead to (draft-ietf-mimi-content 9.6)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"(?:https?://)?[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}(?::\d+)?(?:/\S*)?", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


def deceives(words: str, target: str) -> bool:
    """Whether `words` read like a web address and lead elsewhere, or no longer through https."""
    if not _ADDRESS.fullmatch(words := words.strip()):
        return False
    shown = words if "://" in words else f"https://{words}"
    try:
        seen, real = _place(shown), _place(target)
    except ValueError:
        return True
    downgraded = "://" in words and seen[0] == "https" != real[0]
    return downgraded or seen[1:] != real[1:]


def _place(address: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(address)
    # With the usual port, http and https are the same place: what counts is told by the scheme.
    port = None if parts.port == _PORTS.get(parts.scheme) else parts.port
    rest = f"{parts.path or '/'}?{parts.query}#{parts.fragment}"
    return parts.scheme.lower(), parts.hostname, port, rest
