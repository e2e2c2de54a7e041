"""What strangers' stanzas broke in here: counted, and told of in the log without a word of what they say."""

from __future__ import annotations

from pathlib import PurePath

import structlog


class Troubles:
    """Of one network. A stanza that nobody can read costs itself, and nothing that comes behind it."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self.count = 0
        self._log = log

    def met(self, error: Exception | str) -> None:
        """One more; `error` is the exception, or what `place` made of it."""
        self.count += 1
        why = error if isinstance(error, str) else place(error)
        self._log.error("xmpp_stanza_broke_us", why=why, count=self.count)


def place(error: Exception) -> str:
    """The kind of an exception and the line that raised it: its own words may quote a body."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" at {PurePath(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at is not None else ""
    return f"{type(error).__name__}{where}"
