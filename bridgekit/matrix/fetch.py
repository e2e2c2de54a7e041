"""Fetching a file from an address that a stranger gave us, without letting it point at our own network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager


class RemoteFile:
    """An open remote file."""

    mime: str  # by its first bytes; the server's word where they tell nothing
    name: str
    size: int | None

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes. Raises FetchRefused past the limit."""
        raise NotImplementedError


def fetch_remote(
    url: str, limit: int, *, allow_private: bool = False
) -> AbstractAsyncContextManager[RemoteFile]:
    """Open `url` (http or https), at most `limit` bytes. Raises FetchRefused with a sentence."""
    raise NotImplementedError
