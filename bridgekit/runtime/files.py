"""Files of a network as Matrix files: fetched and stored once, and never in the way of a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from bridgekit.contract.errors import HomeserverUnavailable
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import File
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.attachments import Sealing, opening
from bridgekit.matrix.fetch import FetchRefused, RemoteFile, fetch_remote
from bridgekit.matrix.sniff import HEAD_BYTES, sniff

LIMIT = 50 * 1024 * 1024
"""Bytes."""
SECONDS = 30.0
"""A file that takes longer than this to be brought is linked instead: what was said after it waits."""

Fetch = Callable[[str, int], AbstractAsyncContextManager[RemoteFile]]


class Files:
    """What `fetch` may reach, stored with the homeserver."""

    def __init__(self, client: MatrixClient, fetch: Fetch = fetch_remote) -> None:
        self._client = client
        self._fetch = fetch

    async def bring(
        self, file: File, user: PersonId | None, *, limit: int = LIMIT, only: str = "", sealed: bool = False
    ) -> File:
        """The file as a Matrix file, stored as `user`'s; one that is there already comes back as it is.

        `limit` is in bytes; `only` is what its type must start with; `sealed`: it is stored encrypted, and its key
        is in what comes back. Raises FetchRefused with a sentence where
        it cannot or must not be fetched, MatrixRefused where the homeserver does not take it.
        """
        if file.uri.startswith("mxc://"):
            return file
        try:
            async with asyncio.timeout(SECONDS), self._fetch(file.uri, limit) as remote:
                clear, mime, length = remote.chunks(), remote.mime, remote.size
                if file.key is not None:
                    clear, mime = await _opened(clear, file)
                    length = None  # what comes out is shorter
                if not mime.startswith(only):
                    raise FetchRefused(f"The file is not what it should be ({mime}).")
                sealing = Sealing() if sealed else None
                if sealing is None:
                    mxc = await self._client.upload(clear, mime=mime, name=file.name, user=user)
                else:
                    chunks = sealing.through(clear)
                    mxc = await self._client.upload(
                        chunks, mime="application/octet-stream", size=length, user=user
                    )
        except TimeoutError:
            raise FetchRefused("The file could not be fetched (no answer in time).") from None
        except HomeserverUnavailable as error:
            raise FetchRefused(error.notice) from error
        size = file.size or length or 0
        key = sealing.key() if sealing is not None else None
        return msgspec.structs.replace(file, uri=mxc, mime=mime, size=size, key=key)


async def _opened(chunks: AsyncIterator[bytes], file: File) -> tuple[AsyncIterator[bytes], str]:
    """The bytes of a file that its network keeps encrypted, in clear, and their type. Raises MatrixRefused."""
    clear = opening(chunks, file.key or b"")
    head = b""
    async for piece in clear:
        head += piece
        if len(head) >= HEAD_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        if head:
            yield head
        async for piece in clear:
            yield piece

    return whole(), sniff(head, file.mime)
