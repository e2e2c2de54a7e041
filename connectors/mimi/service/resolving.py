"""Names to addresses: where the operator says a provider is, and else by DNS."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver


class Resolver(AbstractResolver):
    """`addresses` are base URLs by domain, as in the config. `public_only`: of all other names only addresses that are
    on the Internet at large count, because a peer's name may point anywhere."""

    def __init__(self, addresses: Mapping[str, str], *, public_only: bool = False) -> None:
        self._addresses = addresses
        self._public_only = public_only
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if (said := self._addresses.get(host)) is not None and (place := urlsplit(said).hostname):
            if place != host:
                return [{**each, "hostname": host} for each in await self._inner.resolve(place, port, family)]
            return await self._inner.resolve(host, port, family)
        try:
            found = await self._inner.resolve(host, port, family)
        except UnicodeError:  # RFC 1035 2.3.4: a label that is empty or too long
            raise OSError("no name of a host") from None
        if self._public_only and not all(ipaddress.ip_address(each["host"]).is_global for each in found):
            raise OSError("no public address")
        return found

    async def close(self) -> None:
        await self._inner.close()
