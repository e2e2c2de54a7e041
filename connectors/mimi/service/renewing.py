"""Our certificate, where it is renewed while we run: whoever connects from then on is shown the new one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import structlog

from connectors.mimi.service.peers import Credentials

EVERY = 60.0
"""Seconds between two looks at the files."""


class Renewing:
    """Keeps `contexts` at what the files of `credentials` hold. Raises OSError where those are not there."""

    def __init__(
        self,
        credentials: Credentials,
        contexts: Sequence[ssl.SSLContext],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._credentials = credentials
        self._contexts = contexts
        self._log = log
        self._taken = self._refused = credentials.state()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.look()

    def look(self) -> None:
        """Take what is new; a certificate that is no use, or not with its own key, changes nothing."""
        files = self._credentials
        state: object = None
        try:
            state = files.state()
            if state == self._taken:
                return
            files.server()  # a context that has been given a certificate without its key has neither
            for context in self._contexts:
                context.load_cert_chain(files.certificate, files.key)
        except OSError as error:  # ssl.SSLError is one
            if state != self._refused:
                self._log.warning("certificate_not_renewed", reason=files.why(error))
            self._refused = state
            return
        self._taken = self._refused = state
        self._log.info("certificate_renewed")
