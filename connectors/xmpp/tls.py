"""The certificates that XMPP servers are checked against, read once for all connections."""

from __future__ import annotations

import ssl
import time
from functools import lru_cache
from pathlib import Path

from bridgekit.contract.errors import Disconnected

AGAIN = 3600
"""Seconds after which they are read again: a system's list changes under a bridge that runs for years."""


def context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context that checks names and certificates, against the system's authorities and those in `ca_file`.

    Reading the system's takes a while, in which the event loop stands still. Raises Disconnected where the file cannot
    be read: it may be there again when the connection is tried next.
    """
    try:
        changed = ca_file.stat().st_mtime_ns if ca_file is not None else 0
        return _read(ca_file, changed, int(time.monotonic() // AGAIN))
    except OSError as error:  # ssl.SSLError is one
        raise Disconnected(f"The file of tls_ca_file is no use: {error.strerror or error}.") from None


@lru_cache(maxsize=16)
def _read(ca_file: Path | None, changed: int, hour: int) -> ssl.SSLContext:
    found = ssl.create_default_context()
    if ca_file is not None:
        found.load_verify_locations(cafile=ca_file)
    return found
