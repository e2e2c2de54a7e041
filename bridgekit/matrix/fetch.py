"""Fetching a file from an address that a stranger gave us, without letting it point at our own network.

The address is looked at where it counts: each address that a name resolves to, and again the one that the socket
is about to be connected to; so a name that resolves to something else a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from bridgekit.contract.addresses import is_public
from bridgekit.contract.errors import BridgeError
from bridgekit.matrix.links import file_name
from bridgekit.matrix.sniff import HEAD_BYTES, sniff

REDIRECTS = 5
PIECE = 64 * 1024
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
WHOLE_SECONDS = 300.0


class FetchRefused(BridgeError):
    """The file cannot or must not be fetched; `notice` says why."""


class RemoteFile:
    """An open remote file: its type, a name for it, its size in bytes where the server says (None: unknown)."""

    def __init__(self, mime: str, name: str, size: int | None, chunks: AsyncIterator[bytes]) -> None:
        self.mime = mime
        self.name = name
        self.size = size
        self._chunks = chunks

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, once. Raises FetchRefused past the limit and when they end early."""
        return self._chunks


@asynccontextmanager
async def fetch_remote(url: str, limit: int, *, allow_private: bool = False) -> AsyncIterator[RemoteFile]:
    """Open `url` (http or https), at most `limit` bytes. Raises FetchRefused with a sentence.

    Redirects are followed, five at most, and each is looked at like the first address.
    """
    try:
        async with (
            asyncio.timeout(WHOLE_SECONDS),
            aiohttp.ClientSession(
                connector=_connector(allow_private),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
                ),
                headers={"User-Agent": "bridgekit", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            ) as session,
            _follow(session, url, allow_private) as response,
        ):
            yield await _opened(response, limit)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(found := _refusal_within(error), FetchRefused):
            raise found from None
        why = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        raise FetchRefused(f"The file could not be fetched ({why}).") from error


@asynccontextmanager
async def _follow(
    session: aiohttp.ClientSession, url: str, allow_private: bool
) -> AsyncIterator[aiohttp.ClientResponse]:
    address = URL(url)
    for _ in range(REDIRECTS + 1):
        if address.scheme not in ("http", "https") or not address.host:
            raise FetchRefused("Only files at http and https addresses can be fetched.")
        if address.user is not None or address.password is not None:
            raise FetchRefused("An address with a password in it is not fetched.")
        if not allow_private and _is_ip(address.host) and not is_public(address.host):
            raise _private()
        async with session.get(address, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
                address = address.join(URL(response.headers["Location"]))
                continue
            if response.status != 200:
                raise FetchRefused(f"The file could not be fetched (its server says {response.status}).")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchRefused("The file could not be fetched (its server packs it unasked).")
            yield response
            return
    raise FetchRefused("The file could not be fetched (its address leads in circles).")


async def _opened(response: aiohttp.ClientResponse, limit: int) -> RemoteFile:
    return await read_head(
        response.content.iter_chunked(PIECE),
        claimed=response.content_type,
        name=_name(response),
        size=response.content_length,
        limit=limit,
    )


async def read_head(
    pieces: AsyncIterator[bytes], *, claimed: str, name: str, size: int | None, limit: int
) -> RemoteFile:
    """A file whose bytes come piece by piece; its type is what they look like. `size` is None where it is unknown.

    Raises FetchRefused past `limit` bytes, also later, out of the chunks.
    """
    if size is not None and size > limit:
        raise _too_large(limit)
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break

    async def chunks() -> AsyncIterator[bytes]:
        count = len(head)
        if count > limit:
            raise _too_large(limit)
        if head:
            yield head
        async for piece in pieces:
            count += len(piece)
            if count > limit:
                raise _too_large(limit)
            yield piece

    return RemoteFile(sniff(head[:HEAD_BYTES], claimed), name, size, chunks())


def _name(response: aiohttp.ClientResponse) -> str:
    given = response.content_disposition.filename if response.content_disposition else None
    return file_name(given or unquote(response.url.raw_path.rpartition("/")[2]))


def _connector(allow_private: bool) -> aiohttp.TCPConnector:
    if allow_private:
        return aiohttp.TCPConnector(resolver=ThreadedResolver())

    def guarded(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, address = info
        if not is_public(str(address[0])):
            raise _private()
        return socket.socket(family, kind, proto)

    return aiohttp.TCPConnector(resolver=_PublicOnly(), socket_factory=guarded)


class _PublicOnly(AbstractResolver):
    """Names that resolve to the Internet at large; one private address among several is refused with them all."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(result["host"]) for result in found):
            raise _private()
        return found

    async def close(self) -> None:
        await self._inner.close()


def _is_ip(host: str) -> bool:
    return re.fullmatch(r"[0-9.]+|.*:.*", host) is not None


def _private() -> FetchRefused:
    return FetchRefused("This address leads into a private network and is not fetched.")


def _too_large(limit: int) -> FetchRefused:
    return FetchRefused(f"The file is larger than {limit // (1024 * 1024) or 1} MiB and was not fetched.")


def _refusal_within(error: BaseException) -> BaseException | None:
    """The FetchRefused that a library wrapped."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, FetchRefused):
        seen = seen.__cause__ or seen.__context__
    return seen
