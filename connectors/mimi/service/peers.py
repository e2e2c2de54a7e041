"""Other providers, over HTTPS with certificates on both sides (draft-ietf-mimi-protocol-06 4.1 and 5.1)."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from errno import errorcode
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from bridgekit.contract.errors import Disconnected, PeerMisbehaved, RemoteError, SendUncertain
from connectors.mimi import uris
from connectors.mimi.service.resolving import Resolver

DIRECTORY_PATH = "/.well-known/mimi-protocol-directory"
DIRECTORY_KEPT = 3600.0
DIRECTORIES, MAX_DIRECTORY = 1000, 64 * 1024
"""How many are remembered, and how large (octets) one may be."""
MAX_BODY = MAX_ANSWER = 8 * 1024 * 1024
"""Octets of a request, and of what is answered."""
TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
DOWNLOAD_TIMEOUT = aiohttp.ClientTimeout(total=300, connect=10, sock_read=30)
PIECE = 64 * 1024
MEDIA_TYPE = "application/octet-stream"
BUSY = (408, 429, 503)
"""Answers of those who can do it later."""


PAUSES = 1000
"""How many are remembered."""


class Endpoint(StrEnum):
    """The names in the directory, each with the variable of its template."""

    KEY_MATERIAL = "keyMaterial"
    UPDATE = "update"
    NOTIFY = "notify"
    SUBMIT_MESSAGE = "submitMessage"
    GROUP_INFO = "groupInfo"
    REQUEST_CONSENT = "requestConsent"
    UPDATE_CONSENT = "updateConsent"
    IDENTIFIER_QUERY = "identifierQuery"
    REPORT_ABUSE = "reportAbuse"
    PROXY_DOWNLOAD = "proxyDownload"

    @property
    def variable(self) -> str:
        """What stands in braces."""
        return _VARIABLES.get(self, "roomId")


_VARIABLES = {
    Endpoint.KEY_MATERIAL: "targetUser",
    Endpoint.REQUEST_CONSENT: "targetUser",
    Endpoint.UPDATE_CONSENT: "requesterUser",
    Endpoint.IDENTIFIER_QUERY: "domain",
    Endpoint.PROXY_DOWNLOAD: "downloadUrl",
}


def directory(base: str) -> dict[str, str]:
    """Our own directory document. `base` is where the endpoints are, without a slash at its end."""
    return {endpoint: f"{base}/{endpoint}/{{{endpoint.variable}}}" for endpoint in Endpoint}


class Credentials(msgspec.Struct, frozen=True):
    """PEM files: our certificate (which names our domain), its key, and whom we trust; None: the system's."""

    certificate: Path
    key: Path
    authorities: Path | None = None

    def client(self) -> ssl.SSLContext:
        """For calling others."""
        context = ssl.create_default_context(cafile=self.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self) -> ssl.SSLContext:
        """For being called: who shows no certificate does not get in."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate, self.key)
        return context

    def state(self) -> object:
        """Another one once the certificate or its key has been written anew. Raises OSError."""
        found = [path.stat() for path in (self.certificate, self.key)]
        return [(file.st_ino, file.st_mtime_ns, file.st_size) for file in found]

    @staticmethod
    def why(error: OSError) -> str:
        """What is wrong with the files, in words for people."""
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        return (reason or type(error).__name__).replace("_", " ").lower()


class Answer(msgspec.Struct, frozen=True):
    """What a peer answered. `retry_after` in seconds, where it says."""

    status: int
    body: bytes
    retry_after: float | None = None


class Peers:
    """The way to other providers. `addresses` says where a domain is to be reached, where it is not at itself.

    `context` is what they are called with.
    """

    def __init__(
        self, domain: str, credentials: Credentials, addresses: Mapping[str, str] | None = None
    ) -> None:
        self._domain = domain
        self._credentials = credentials
        self.context = credentials.client()
        self._addresses: Mapping[str, str] = {} if addresses is None else addresses
        self._session: aiohttp.ClientSession | None = None
        self._pauses: dict[tuple[str, Endpoint], float] = {}
        self._directories: dict[str, tuple[float, dict[str, str]]] = {}

    async def __aenter__(self) -> Peers:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Resolver(self._addresses)),
            timeout=TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "bridgekit"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, domain: str, endpoint: Endpoint, target: str, body: bytes) -> Answer:
        """Call an endpoint of a peer about `target`. Raises Disconnected, SendUncertain and PeerMisbehaved.

        Who has said when to come again (Retry-After, RFC 9110 10.2.3) is left alone until then: Disconnected.
        """
        return await self._ask("POST", domain, endpoint, target, body)

    async def get(self, domain: str, endpoint: Endpoint, target: str) -> Answer:
        """The same without a body."""
        return await self._ask("GET", domain, endpoint, target, None)

    async def _ask(
        self, method: str, domain: str, endpoint: Endpoint, target: str, body: bytes | None
    ) -> Answer:
        loop = asyncio.get_running_loop()
        left = self._pauses.get((domain, endpoint), 0.0) - loop.time()
        if left > 0:
            raise Disconnected(f"{domain} has asked to be left alone for a while.", retry_after=left)
        answer = await self._call(method, domain, await self._url(domain, endpoint, target), body)
        if answer.retry_after and answer.status in BUSY:
            self._pauses = {key: until for key, until in self._pauses.items() if until > loop.time()}
            while len(self._pauses) >= PAUSES:
                del self._pauses[next(iter(self._pauses))]
            self._pauses[domain, endpoint] = loop.time() + answer.retry_after
        return answer

    @asynccontextmanager
    async def download(self, hub: str, address: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The octets at an address, fetched by a hub (5.10.2). Raises RemoteError; of how many there are the caller
        has to take care."""
        url = await self._url(hub, Endpoint.PROXY_DOWNLOAD, address)
        if self._session is None:
            raise RuntimeError("peers are called within `async with`")
        try:
            async with self._session.get(
                url,
                headers=self._headers(hub),
                ssl=self.context,
                server_hostname=hub,
                allow_redirects=False,
                timeout=DOWNLOAD_TIMEOUT,
            ) as response:
                if response.status != 200:
                    raise RemoteError(f"The file cannot be fetched ({hub} says {response.status}).")
                yield response.content.iter_chunked(PIECE)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RemoteError(f"The file cannot be fetched from {hub} ({type(error).__name__}).") from error

    def outside(self) -> aiohttp.TCPConnector:
        """The way to servers of files: ours is shown there as well, where it is asked for."""
        context = ssl.create_default_context()
        if self._credentials.authorities is not None:
            context.load_verify_locations(self._credentials.authorities)
        context.load_cert_chain(self._credentials.certificate, self._credentials.key)
        return aiohttp.TCPConnector(
            resolver=Resolver(self._addresses, public_only=True), ssl=context, force_close=True
        )

    def _headers(self, domain: str) -> dict[str, str]:
        return {"From": f"mimi@{self._domain}", "Host": domain}

    async def directory(self, domain: str) -> dict[str, str]:
        """The peer's URL templates. Raises Disconnected and PeerMisbehaved."""
        now = asyncio.get_running_loop().time()
        kept = self._directories.get(domain)
        if kept is not None and now - kept[0] < DIRECTORY_KEPT:
            return kept[1]
        if not uris.is_domain(domain):
            raise PeerMisbehaved("A provider has a name that is no domain.")
        base = self._addresses.get(domain, f"https://{domain}")
        answer = await self._call("GET", domain, URL(base + DIRECTORY_PATH), None)
        if len(answer.body) > MAX_DIRECTORY:
            raise PeerMisbehaved(f"{domain} has a directory that is longer than anybody needs.")
        if answer.status != 200:
            raise Disconnected(f"{domain} does not say where its endpoints are (HTTP {answer.status}).")
        try:
            told = msgspec.json.decode(answer.body, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise PeerMisbehaved(f"{domain} has a directory that cannot be read.") from None
        found = {name: place for name, place in told.items() if isinstance(place, str)}
        self._directories.pop(domain, None)
        while len(self._directories) >= DIRECTORIES:
            del self._directories[next(iter(self._directories))]
        self._directories[domain] = (now, found)
        return found

    async def _url(self, domain: str, endpoint: Endpoint, target: str) -> URL:
        template = (await self.directory(domain)).get(endpoint)
        if template is None or not template.startswith("https://"):
            raise PeerMisbehaved(f"{domain} has no {endpoint} endpoint.")
        address = template.replace(f"{{{endpoint.variable}}}", quote(target, safe=""))
        try:
            url = URL(address, encoded=True)
            leads_somewhere = bool(url.host and url.port)
        except ValueError:
            leads_somewhere = False
        if not leads_somewhere:
            raise PeerMisbehaved(f"The address of {domain}'s {endpoint} endpoint is none.")
        return url

    async def _call(self, method: str, domain: str, url: URL, body: bytes | None) -> Answer:
        if self._session is None:
            raise RuntimeError("peers are called within `async with`")
        headers = self._headers(domain)
        if body is not None:
            headers["Content-Type"] = MEDIA_TYPE
        try:
            async with self._session.request(
                method,
                url,
                data=None if body is None else io.BytesIO(body),
                headers=headers,
                ssl=self.context,
                # Wherever it is reached, its certificate is for the provider's domain (RFC 6125).
                server_hostname=domain,
                allow_redirects=False,
            ) as response:
                answer = await response.content.read(MAX_ANSWER + 1)
                while len(answer) <= MAX_ANSWER and (more := await response.content.read(MAX_ANSWER)):
                    answer += more
                if len(answer) > MAX_ANSWER:
                    raise PeerMisbehaved(f"{domain} answers with more than anybody needs.")
                return Answer(response.status, answer, _seconds(response.headers.get("Retry-After")))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._directories.pop(domain, None)
            why = _why(error)
            if method == "POST" and not isinstance(error, aiohttp.ClientConnectorError):
                raise SendUncertain(f"{domain} did not answer ({why}): it may have heard.") from error
            raise Disconnected(f"{domain} cannot be reached ({why}).") from error


def _why(error: Exception) -> str:
    """Why a call failed, in words for people."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorCertificateError():
            problem = error.certificate_error
            told = problem.verify_message if isinstance(problem, ssl.SSLCertVerificationError) else problem
            return f"its certificate is not accepted: {told}"
        case aiohttp.ClientConnectorDNSError():
            return "its name leads to no address"
        case aiohttp.ClientConnectorError(errno=int(number)) if number in errorcode:
            return os.strerror(number).lower()
        case ssl.SSLError(reason=str(reason)):
            return reason.replace("_", " ").lower()
        case aiohttp.ServerDisconnectedError():
            return "it has closed the connection"
        case _:
            return type(error).__name__


def _seconds(value: str | None) -> float | None:
    """Retry-After (RFC 9110 10.2.3) in seconds, a day at most; a date is a guess of the peer's clock, so a minute."""
    if value is None:
        return None
    return min(float(value), 86400.0) if value.isascii() and value.isdigit() else 60.0
