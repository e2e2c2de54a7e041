"""`bridgekit mimi keygen` and `directory`: certificates, and the first question to another provider."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bridgekit.contract.errors import BridgeError
from connectors.mimi import uris
from connectors.mimi.certificates import Authority
from connectors.mimi.service.peers import Credentials, Endpoint, Peers


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
        domain, ours = _host(given), words.domain.lower()
        if not uris.is_domain(domain):
            raise BridgeError(f"{words.peer} names no provider: say its domain, or https://its.domain")
        if words.address and not _host(words.address):
            raise BridgeError(f"{words.address} is no address: say https://host[:port]")
        if not uris.is_domain(ours):
            raise BridgeError(f"{words.domain} is no domain.")
        for path in (words.certificate, words.key, *filter(None, [words.authorities])):
            if not path.is_file():
                raise BridgeError(f"There is no file {path}.")
        credentials = Credentials(words.certificate, words.key, words.authorities)
        _try(credentials)
        return cls(domain, (words.address or given).rstrip("/"), ours, credentials)

    def peers(self) -> Peers:
        """The way there."""
        return Peers(self.domain, self.credentials, {self.peer: self.address})


def _host(url: str) -> str:
    """Of an https URL; empty for anything else."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # a number that a port can have, or none
    except ValueError:
        return ""
    return (parts.hostname or "").lower() if parts.scheme == "https" else ""


def _try(credentials: Credentials) -> None:
    """Raises BridgeError where the files are not what they should be."""
    try:
        credentials.client()
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            pair = f"{credentials.certificate} and {credentials.key}"
            raise BridgeError(f"{pair} do not belong together.") from None
        files = filter(None, [credentials.certificate, credentials.key, credentials.authorities])
        why = Credentials.why(error)
        raise BridgeError(f"{', '.join(map(str, files))} cannot be used: {why}.") from None


def keygen(domains: Sequence[str], folder: Path) -> int:
    """Write an authority, and a certificate and key for each domain, and say what they are."""
    for domain in domains:
        if not uris.is_domain(domain):
            raise BridgeError(f"{domain} is no domain in lower case.")
    if (folder / "authority.pem").exists():
        raise BridgeError(f"{folder / 'authority.pem'} is there already; nothing is overwritten.")
    try:
        authority = Authority(folder, now=datetime.datetime.now(datetime.UTC))
        issued = {domain: authority.issue(domain) for domain in domains}
    except OSError as error:
        raise BridgeError(f"Nothing can be written to {folder} ({Credentials.why(error)}).") from None
    print(f"{authority.path}  the authority, to be trusted by all (--authorities); its key is gone")
    for domain, made in issued.items():
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
