"""What strangers' stanzas broke in here: counted, and told of in the log without a word of what they say."""

from __future__ import annotations

import structlog

from connectors.xmpp.stanzas.heard import place


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
