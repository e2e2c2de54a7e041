"""Files of a network as Matrix files: fetched and stored once, and never in the way of a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from bridgekit.contract.connector import FileOpener
from bridgekit.contract.errors import HomeserverUnavailable, MatrixRateLimited, RemoteError
from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.contract.people import File
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.attachments import Sealing, opening
from bridgekit.matrix.fetch import FetchRefused, RemoteFile, fetch_remote, read_head

LIMIT = 50 * 1024 * 1024
"""Bytes."""
SECONDS = 30.0
"""A file that takes longer than this to be brought is linked instead: what was said after it waits."""

Fetch = Callable[[str, int], AbstractAsyncContextManager[RemoteFile]]


class Files:
    """What `fetch` may reach, or a network opens, stored with the homeserver."""

    def __init__(
        self,
        client: MatrixClient,
        fetch: Fetch = fetch_remote,
        openers: Mapping[NetworkId, FileOpener] | None = None,
    ) -> None:
        self._client = client
        self._fetch = fetch
        self._openers = openers if openers is not None else {}

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
            async with asyncio.timeout(SECONDS):
                while True:
                    try:
                        return await self._bring(file, user, limit, only, sealed=sealed)
                    except MatrixRateLimited as error:
                        await asyncio.sleep(error.retry_after or 1)
        except TimeoutError:
            raise FetchRefused("The file could not be fetched (no answer in time).") from None
        except (HomeserverUnavailable, RemoteError) as error:
            raise FetchRefused(error.notice) from error

    async def _bring(self, file: File, user: PersonId | None, limit: int, only: str, *, sealed: bool) -> File:
        async with self._opened(file, limit) as remote:
            if not remote.mime.startswith(only):
                raise FetchRefused(f"The file is not what it should be ({remote.mime}).")
            sealing = Sealing() if sealed else None
            if sealing is None:
                mxc = await self._client.upload(remote.chunks(), mime=remote.mime, name=file.name, user=user)
            else:
                chunks = sealing.through(remote.chunks())
                mxc = await self._client.upload(
                    chunks, mime="application/octet-stream", size=remote.size, user=user
                )
        size = file.size or remote.size or 0
        key = sealing.key() if sealing is not None else None
        return msgspec.structs.replace(file, uri=mxc, mime=remote.mime, size=size, key=key, via=None)

    @asynccontextmanager
    async def _opened(self, file: File, limit: int) -> AsyncIterator[RemoteFile]:
        if file.via is None:
            async with self._fetch(file.uri, limit) as remote:
                if file.key is None:
                    yield remote
                    return
                # It lies there encrypted: only what comes out of it says what it is.
                clear = opening(remote.chunks(), file.key)
                yield await read_head(clear, claimed=file.mime, name=file.name, size=None, limit=limit)
        elif (opener := self._openers.get(file.via)) is None:
            raise FetchRefused("The file is of a network that is not here any more.")
        else:
            async with opener(file) as chunks:
                yield await read_head(chunks, claimed=file.mime, name=file.name, size=None, limit=limit)
