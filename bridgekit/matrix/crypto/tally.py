"""What encryption could not do, counted: for metrics, so by cause and never by whom."""

from __future__ import annotations

from collections import Counter


class Tally:
    """Counts since the start of this run."""

    def __init__(self) -> None:
        self.unread = Counter({"untrusted": 0, "unreadable": 0})
        """Messages that were not opened though their key was there."""
        self.missing = Counter({"silent": 0, "withheld": 0})
        """Sessions whose key did not come in time; `withheld`: their client says that it keeps it."""
        self.kept = Counter({"unverified": 0, "no_olm": 0})
        """Keys that were not given to a device."""
