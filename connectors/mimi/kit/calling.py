"""`bridgekit mimi keygen` and `directory`: certificates, and the first question to another provider."""

from __future__ import annotations

import argparse
import asyncio
import datetime
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bridgekit.contract.errors import BridgeError
from connectors.mimi import uris
from connectors.mimi.certificates import Authority
from connectors.mimi.peers import Credentials, Endpoint, Peers


class Caller(msgspec.Struct, frozen=True):
    """Who asks whom: `peer` is their domain, `address` where they are reached."""

    peer: str
    address: str
    domain: str
    credentials: Credentials

    @classmethod
    def of(cls, words: argparse.Namespace) -> Caller:
        """From the command line. Raises BridgeError."""
        given = words.peer if "://" in words.peer else f"https://{words.peer}"
        parts = urlsplit(given)
        domain = (parts.hostname or "").lower()
        if parts.scheme != "https" or not uris.is_domain(domain):
            raise BridgeError(f"{words.peer} names no provider: say its domain, or https://its.domain")
        for path in (words.certificate, words.key, *filter(None, [words.authorities])):
            if not path.is_file():
                raise BridgeError(f"There is no file {path}.")
        credentials = Credentials(words.certificate, words.key, words.authorities)
        return cls(domain, (words.address or given).rstrip("/"), words.domain.lower(), credentials)

    def peers(self) -> Peers:
        """The way there."""
        return Peers(self.domain, self.credentials, {self.peer: self.address})


def keygen(domains: Sequence[str], folder: Path) -> int:
    """Write an authority, and a certificate and key for each domain, and say what they are."""
    for domain in domains:
        if not uris.is_domain(domain):
            raise BridgeError(f"{domain} is no domain in lower case.")
    if (folder / "authority.pem").exists():
        raise BridgeError(f"{folder / 'authority.pem'} is there already; nothing is overwritten.")
    authority = Authority(folder, now=datetime.datetime.now(datetime.UTC))
    print(f"{authority.path}  the authority, to be trusted by all (--authorities); its key is gone")
    for domain in domains:
        made = authority.issue(domain)
        print(f"{made.certificate}  certificate of {domain} (--certificate)")
        print(f"{made.key}  its key (--key)")
    return 0


def show_directory(caller: Caller) -> int:
    """Print the peer's endpoints; 1 where one is missing."""
    found = asyncio.run(_directory(caller))
    for endpoint in Endpoint:
        print(f"{endpoint:16} {found.get(endpoint, '(missing)')}")
    for name in sorted(set(found) - set(Endpoint)):
        print(f"{name:16} {found[name]}  (not in the draft)")
    return 0 if set(Endpoint) <= set(found) else 1


async def _directory(caller: Caller) -> dict[str, str]:
    async with caller.peers() as peers:
        return await peers.directory(caller.peer)
