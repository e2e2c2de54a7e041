"""Files to and from the homeserver's media store, streamed and never whole in memory."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager

import aiohttp

from bridgekit.contract.ids import PersonId
from bridgekit.matrix.transport import Homeserver


class Download:
    """An open file: what the homeserver says of it, and its bytes."""

    def __init__(self, mime: str, size: int | None, response: aiohttp.ClientResponse) -> None:
        self.mime = mime
        self.size = size
        self._response = response

    async def chunks(self, size: int = 65536) -> AsyncIterator[bytes]:
        """The bytes, in pieces of at most `size`. Raises HomeserverUnavailable when they end early."""
        raise NotImplementedError
        yield b""


class Transfer:
    """Uploads and downloads of one appservice."""

    def __init__(
        self,
        homeserver: Homeserver,
        url: str,
        as_token: str,
        *,
        session: aiohttp.ClientSession | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._homeserver = homeserver
        self._session = session

    async def close(self) -> None: ...

    async def upload(
        self,
        stream: AsyncIterable[bytes] | bytes,
        mime: str,
        name: str,
        *,
        size: int | None,
        user: PersonId | None,
    ) -> str:
        raise NotImplementedError

    def download(self, mxc: str, *, user: PersonId | None) -> AbstractAsyncContextManager[Download]:
        raise NotImplementedError
