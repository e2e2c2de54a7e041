"""Fetches files of peers' users for other peers, and is no open proxy (draft-ietf-mimi-protocol-06 5.10.2).

An address counts where a peer keeps its files, by a room's asset policy or because it lies under the peer's own
domain; and whatever its name says, it must not be an address within our own network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from bridgekit.contract.errors import BridgeError, NotAllowed
from connectors.mimi import uris
from connectors.mimi.service.resolving import Resolver

MAX_OCTETS = 200 * 1024 * 1024
TIMEOUT = aiohttp.ClientTimeout(total=300, connect=10, sock_read=30)
PIECE = 64 * 1024


class Download:
    """An open file: its size in octets where the server says (None: unknown), and its octets, once."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.size = response.content_length
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises BridgeError past the limit."""
        seen = 0
        async for chunk in self._response.content.iter_chunked(PIECE):
            seen += len(chunk)
            if seen > MAX_OCTETS:
                raise BridgeError("The file is larger than any that is fetched here.")
            yield chunk


class Downloads:
    """`places` are the asset domains of today, `peers` the providers of today. `connector` makes the way out."""

    def __init__(
        self,
        places: Callable[[], Set[str]],
        peers: Callable[[], Set[str]],
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
    ) -> None:
        self._places = places
        self._peers = peers
        self._connector = connector or _public

    def check(self, address: str) -> URL:
        """The address, if it may be fetched. Raises NotAllowed."""
        try:
            url = URL(address)
        except ValueError:
            raise NotAllowed("That is no address.") from None
        host = (url.host or "").lower()
        if url.scheme != "https" or url.user is not None or not uris.is_domain(host) or _is_ip(host):
            raise NotAllowed("Only files at https addresses of providers are fetched.")
        under = any(host == peer or host.endswith(f".{peer}") for peer in self._peers())
        if not under and host not in self._places():
            raise NotAllowed("No provider of a room here keeps its files there.")
        return url

    @asynccontextmanager
    async def open(self, address: str) -> AsyncIterator[Download]:
        """Open a file. Raises NotAllowed and BridgeError."""
        url = self.check(address)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=self._connector(),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=TIMEOUT,
                    auto_decompress=False,
                    headers={"User-Agent": "bridgekit", "Accept-Encoding": "identity"},
                ) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise BridgeError(f"The file's server answers {response.status}.")
                if (response.content_length or 0) > MAX_OCTETS:
                    raise BridgeError("The file is larger than any that is fetched here.")
                yield Download(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BridgeError(f"The file's server cannot be reached ({type(error).__name__}).") from error


def _public() -> aiohttp.BaseConnector:
    return aiohttp.TCPConnector(resolver=Resolver({}, public_only=True), force_close=True)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
