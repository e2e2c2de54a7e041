"""The HTTP face of a provider: who asks, what they may send, how it is answered.

draft-ietf-mimi-protocol-06 4.1 and 5.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, NotAllowed, PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.service.assets import Assets
from connectors.mimi.service.peers import DIRECTORY_PATH, MAX_BODY, MEDIA_TYPE, Endpoint, directory
from connectors.mimi.service.provider import NoSuchRoom, Provider
from connectors.mimi.service.punctual import Punctual
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.rooms import UnknownProtocol
from connectors.mimi.wire.users import KeyMaterialResponse, UserCode

BASE = "/v1"
FILES = f"{BASE}/files/"
BODY_WITHIN = 30.0
TLS_WITHIN = 15.0
REPORTS, REPORTS_AT_ONCE = 1 / 60, 20
"""Reports of abuse that one peer may send: so many a second, after so many at once. People read each."""
QUESTIONS, QUESTIONS_AT_ONCE = 1.0, 200
"""Requests for consent, and their cancellations, of one peer."""
SAME_QUESTIONS, SAME_QUESTIONS_AT_ONCE = 1 / 60, 30
"""Of these for one user, whether they are there or not: each may be an invitation that somebody reads."""
AT_ONCE = 32
"""Requests of one peer."""
PEERS = 1000
"""Whose rates are remembered at once."""

_FROM = re.compile(r"\s*mimi@([^\s@<>\"]+)\s*", re.IGNORECASE)

Handler = Callable[[web.Request, str, str, bytes], Awaitable[web.StreamResponse]]
"""(the request, the peer's domain, whom or what it is about, the body)"""


class Rates:
    """A bucket of tokens for each peer: `burst` requests at once, then `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, peer: str, now: float) -> float:
        """Take a token: 0, or how many seconds there will be none."""
        level, at = self._levels.pop(peer, (self._burst, now))
        while len(self._levels) >= PEERS:
            del self._levels[next(iter(self._levels))]  # it has asked for nothing for the longest time
        level = min(self._burst, level + (now - at) * self._rate)
        if level < 1:
            self._levels[peer] = (level, now)
            return (1 - level) / self._rate
        self._levels[peer] = (level - 1, now)
        return 0.0


class Server:
    """Serves one provider. `base` is the address that the directory names, as `https://host:port`."""

    def __init__(
        self,
        provider: Provider,
        host: Host,
        *,
        base: str,
        assets: Assets,
        claims: Rates | None = None,
        punctual: Punctual | None = None,
    ) -> None:
        self._provider = provider
        self._host = host
        self._base = base.rstrip("/") + BASE
        self._busy: Counter[str] = Counter()
        self._claims = claims or Rates(rate=10, burst=200)
        self._reports = Rates(rate=REPORTS, burst=REPORTS_AT_ONCE)
        self._questions = Rates(rate=QUESTIONS, burst=QUESTIONS_AT_ONCE)
        self._same_questions = Rates(rate=SAME_QUESTIONS, burst=SAME_QUESTIONS_AT_ONCE)
        self._assets = assets
        self._punctual = punctual or Punctual()

    @asynccontextmanager
    async def listening(self, sock: socket.socket, context: ssl.SSLContext) -> AsyncIterator[None]:
        """Serve on `sock` while the block lasts, under a context that asks for certificates (`Credentials.server`)."""
        # What is packed is not unpacked: a body is as long as it says, and as what a peer has to send for it.
        runner = web.AppRunner(self._app(), shutdown_timeout=1.0, auto_decompress=False)
        await runner.setup()
        made = runner.server
        assert made is not None
        try:
            served = await asyncio.get_running_loop().create_server(
                lambda: self._punctual.protocol(made),
                sock=sock,
                ssl=context,
                ssl_handshake_timeout=TLS_WITHIN,
            )
            try:
                yield
            finally:
                served.close()
        finally:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._punctual.middleware])
        app.router.add_get(DIRECTORY_PATH, self._directory)
        for endpoint, handler in {
            Endpoint.KEY_MATERIAL: self._key_material,
            Endpoint.UPDATE: self._update,
            Endpoint.NOTIFY: self._notify,
            Endpoint.SUBMIT_MESSAGE: self._submit,
            Endpoint.GROUP_INFO: self._group_info,
            Endpoint.REQUEST_CONSENT: self._request_consent,
            Endpoint.UPDATE_CONSENT: self._update_consent,
            Endpoint.IDENTIFIER_QUERY: self._identifier_query,
            Endpoint.REPORT_ABUSE: self._report_abuse,
        }.items():
            app.router.add_post(f"{BASE}/{endpoint}/{{target}}", self._guarded(handler))
        download = self._guarded(self._proxy_download)
        app.router.add_get(f"{BASE}/{Endpoint.PROXY_DOWNLOAD}/{{target}}", download)
        app.router.add_get(f"{FILES}{{token}}", self._asset)
        return app

    # Who asks -----------------------------------------------------------------------------------------------

    async def _directory(self, request: web.Request) -> web.Response:
        self._provider.outbox.alive(self._check(request))
        return web.Response(body=msgspec.json.encode(directory(self._base)), content_type="application/json")

    def _check(self, request: web.Request) -> str:
        """The peer's domain: what it says and what its certificate says, which must be one."""
        host = request.host.partition(":")[0].lower()  # 4.1: the port does not count
        if host != self._provider.domain:
            raise web.HTTPMisdirectedRequest(text=f"This is {self._provider.domain}.")
        found = _FROM.fullmatch(request.headers.get("From", ""))
        if found is None:
            raise web.HTTPForbidden(text="From does not name a provider: mimi@your.domain")
        source = found[1].lower()
        certificate = request.get_extra_info("peercert") or {}
        names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
        if not any(_matches(name.lower(), source) for name in names):
            self._host.log.warning("peer_misnamed", says=source[:100], certificate=names[:5])
            raise web.HTTPForbidden(text="From names another provider than the certificate.")
        return source

    def _guarded(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            source = self._check(request)
            self._provider.outbox.alive(source)
            if self._busy[source] >= AT_ONCE:
                return _later(503, 1)
            self._busy[source] += 1
            try:
                return await self._answer(handler, request, source)
            finally:
                self._busy[source] -= 1
                if not self._busy[source]:
                    del self._busy[source]

        return guarded

    async def _answer(self, handler: Handler, request: web.Request, source: str) -> web.StreamResponse:
        if "Content-Encoding" in request.headers:
            return web.Response(status=415, text="A body is sent as it is, without a Content-Encoding.")
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408, text="The body did not come within half a minute.")
        except (web.RequestPayloadError, ConnectionError):
            return web.Response(status=400, text="The body broke off.")
        target = request.match_info["target"]
        try:
            return await handler(request, source, target, body)
        except NoSuchRoom as problem:
            return web.Response(status=404, text=problem.notice)
        except NotAllowed as problem:
            return web.Response(status=403, text=problem.notice)
        except PeerMisbehaved as problem:
            self._host.log.info("peer_misbehaved", peer=source, why=problem.notice[:200])
            return web.Response(status=400, text=problem.notice)
        except BridgeError as problem:
            return _later(503, problem.retry_after or 4.0, problem.notice)

    # What is asked ------------------------------------------------------------------------------------------

    async def _key_material(
        self, request: web.Request, source: str, target: str, body: bytes
    ) -> web.Response:
        if wait := self._claims.wait(source, self._host.now()):
            return _later(429, wait)
        uris.parse(target, uris.Thing.USER)
        try:
            asked = users.KEY_MATERIAL_REQUEST.decode(body)
        except UnknownProtocol:
            answer = KeyMaterialResponse(UserCode.INCOMPATIBLE_PROTOCOL, target)
        else:
            if asked.target_user != target:
                raise PeerMisbehaved("The address and the body name two users.")
            answer = await self._provider.key_material(asked, source)
        return _body(users.KEY_MATERIAL_RESPONSE.encode(answer))

    async def _update(self, request: web.Request, source: str, target: str, body: bytes) -> web.Response:
        answer = await self._provider.update(target, rooms.UPDATE_REQUEST.decode(body), source)
        return _body(rooms.UPDATE_RESPONSE.encode(answer))

    async def _submit(self, request: web.Request, source: str, target: str, body: bytes) -> web.Response:
        answer = await self._provider.submit(target, rooms.SUBMIT_REQUEST.decode(body), source)
        return _body(rooms.SUBMIT_RESPONSE.encode(answer))

    async def _notify(self, request: web.Request, source: str, target: str, body: bytes) -> web.Response:
        await self._provider.notify(target, body, source)
        return web.Response(status=201)

    async def _group_info(self, request: web.Request, source: str, target: str, body: bytes) -> web.Response:
        answer = await self._provider.group_info(target, rooms.GROUP_INFO_REQUEST.decode(body), source)
        return _body(rooms.GROUP_INFO_RESPONSE.encode(answer))

    async def _request_consent(
        self, request: web.Request, source: str, target: str, body: bytes
    ) -> web.Response:
        entry = users.CONSENT_ENTRY.decode(body)
        if target not in (entry.target, self._provider.domain):
            raise PeerMisbehaved("The address and the body name two users.")
        now = self._host.now()
        if wait := self._questions.wait(source, now) or self._same_questions.wait(
            f"{source} {entry.target}", now
        ):
            return _later(429, wait)
        await self._provider.consent(entry, asked=True, source=source)
        return web.Response(status=201)

    async def _update_consent(
        self, request: web.Request, source: str, target: str, body: bytes
    ) -> web.Response:
        entry = users.CONSENT_ENTRY.decode(body)
        if target not in (entry.requester, self._provider.domain):
            raise PeerMisbehaved("The address and the body name two users.")
        await self._provider.consent(entry, asked=False, source=source)
        return web.Response(status=201)

    async def _identifier_query(
        self, request: web.Request, source: str, target: str, body: bytes
    ) -> web.Response:
        if target not in (self._provider.domain, f"mimi://{self._provider.domain}"):
            raise NotAllowed("This provider answers for its own users only.")
        if wait := self._claims.wait(source, self._host.now()):
            return _later(429, wait)
        answer = await self._provider.find(users.IDENTIFIER_REQUEST.decode(body))
        return _body(users.IDENTIFIER_RESPONSE.encode(answer))

    async def _report_abuse(
        self, request: web.Request, source: str, target: str, body: bytes
    ) -> web.Response:
        if wait := self._reports.wait(source, self._host.now()):
            return _later(429, wait)
        await self._provider.report(target, users.ABUSE_REPORT.decode(body), source)
        return web.Response(status=201)

    async def _proxy_download(
        self, request: web.Request, source: str, target: str, body: bytes
    ) -> web.StreamResponse:
        async with self._assets.fetch(target) as (size, chunks):
            return await _streamed(request, size, chunks)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        """A file of one of our users. Whoever knows its address may have it: it is sealed, and the address no guess."""
        try:
            async with self._assets.serve(request.match_info["token"]) as (size, chunks):
                return await _streamed(request, size, chunks)
        except BridgeError as problem:
            return web.Response(status=404, text=problem.notice)


def _matches(pattern: str, domain: str) -> bool:
    """RFC 6125 6.4: the same name, or one label under a star at the very left."""
    if pattern.startswith("*."):
        return domain.partition(".")[2] == pattern[2:] and "." in pattern[2:]
    return pattern == domain


async def _streamed(
    request: web.Request, size: int | None, chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": MEDIA_TYPE})
    response.content_length = size
    first = await anext(chunks, b"")  # before the headers: what cannot be had is no file of 200
    await response.prepare(request)
    await response.write(first)
    async for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


def _body(octets: bytes) -> web.Response:
    return web.Response(body=octets, content_type=MEDIA_TYPE)


def _later(status: int, seconds: float, why: str = "") -> web.Response:
    return web.Response(status=status, text=why, headers={"Retry-After": str(max(1, round(seconds + 0.5)))})
