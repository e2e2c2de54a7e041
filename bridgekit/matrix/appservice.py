"""The application service API: what the homeserver sends in, on disk before it is answered.

Application Service API v1.12; transactions, queries, third-party lookups, ping (MSC2659), ephemeral events
(MSC2409), to-device messages and device changes (MSC2409, MSC3202), under stable, unstable and legacy paths.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.transactions import Encryption, NotATransaction, RawEvent, parse

log = structlog.get_logger(__name__)

MAX_BODY = 50 * 1024 * 1024
REMEMBERED = 10_000
"""Transactions that are known without asking the disk."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Ping(msgspec.Struct):
    transaction_id: str | None = None


_ping = msgspec.json.Decoder(_Ping).decode


class Receiver(Protocol):
    """Who takes what the homeserver sends."""

    async def seen(self, txn: str) -> bool:
        """Whether `accept` succeeded for this transaction earlier, also before a restart.

        `txn` is made from the homeserver's id and the events (`Transaction.key`), for ids come again.
        """
        ...

    def is_own(self, event: RawEvent) -> bool:
        """Whether the bot or a ghost did it: the echo of a call of ours, from which nothing follows, ever.

        Such events are not handed to `accept`, and a transaction of nothing else is not remembered.
        """
        ...

    async def accept(self, txn: str, events: list[RawEvent], encryption: Encryption) -> None:
        """Keep the transaction's key and content, in order; on disk when it returns. Raise to have it sent again."""
        ...

    def failed(self) -> None:
        """A transaction was not answered with 200: the homeserver believes us away, and sends it again."""
        ...

    def state(self, event: RawEvent) -> None:
        """A state event, of ours or of others; before `accept`, and told again when the transaction comes again."""
        ...

    def keys(self, encryption: Encryption, rooms: set[ChatId], *, bare: bool) -> None:
        """What a transaction with events of `rooms` says of devices and keys, apart from to-device events; also when
        it comes again. `bare`: it holds nothing but events, and perhaps once held more."""
        ...

    def malformed(self, raw: bytes, why: str) -> None:
        """An event of this transaction that is none; called before `accept`."""
        ...

    def ephemeral(self, events: list[bytes]) -> None:
        """Typing, receipts and presence, each as JSON; after `accept`, and lost with the process."""
        ...

    async def has_user(self, user: PersonId) -> bool:
        """Whether there is such a ghost; it may be made now."""
        ...

    async def has_alias(self, alias: str) -> bool:
        """Whether there is such a portal; its room and alias must exist before True is returned."""
        ...

    async def protocol(self, protocol: str) -> dict[str, Any] | None:
        """The third-party protocol's description, None where it is not ours."""
        ...

    async def third_party_users(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Look people up: by the protocol's fields, or by `userid` where `protocol` is None."""
        ...

    async def third_party_locations(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Look chats up: by the protocol's fields, or by `alias` where `protocol` is None."""
        ...

    def pinged(self, txn_id: str | None) -> None:
        """The homeserver reached us because we asked it to."""
        ...


class Appservice:
    """The routes of one application service, authorised by `hs_token`.

    Transactions are taken one after the other, in the order in which they are whole; so a transaction that is
    delivered twice at once waits for itself and is then a duplicate. `turn` is held meanwhile.
    """

    def __init__(
        self, hs_token: str, receiver: Receiver, *, max_body: int = MAX_BODY, turn: asyncio.Lock | None = None
    ) -> None:
        if not hs_token:
            raise ValueError("the hs_token is empty")
        self._token = hs_token.encode()
        self._receiver = receiver
        self._max_body = max_body
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._turn = turn or asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """Every route, for `app.add_routes`: stable, unstable and legacy paths."""
        routes: list[web.RouteDef] = []
        for prefix in ("/_matrix/app/v1", ""):  # "": before v1 had a prefix
            routes += [
                web.put(f"{prefix}/transactions/{{txn_id}}", self._authorised(self._transaction)),
                web.get(f"{prefix}/users/{{user}}", self._authorised(self._user)),
                web.get(f"{prefix}/rooms/{{alias}}", self._authorised(self._alias)),
            ]
        for prefix in ("/_matrix/app/v1/thirdparty", "/_matrix/app/unstable/thirdparty"):
            routes += [
                web.get(f"{prefix}/protocol/{{protocol}}", self._authorised(self._protocol)),
                web.get(f"{prefix}/user/{{protocol}}", self._authorised(self._third_party_users)),
                web.get(f"{prefix}/user", self._authorised(self._third_party_users)),
                web.get(f"{prefix}/location/{{protocol}}", self._authorised(self._third_party_locations)),
                web.get(f"{prefix}/location", self._authorised(self._third_party_locations)),
            ]
        for path in ("/_matrix/app/v1/ping", "/_matrix/app/unstable/fi.mau.msc2659/ping"):
            routes.append(web.post(path, self._authorised(self._ping)))
        # Application Service API, "Unknown routes".
        routes.append(web.route("*", "/_matrix/app/{tail:.*}", self._authorised(self._unknown)))
        return routes

    # what comes in

    async def _transaction(self, request: web.Request) -> web.Response:
        done = False
        try:
            answer = await self._taken(request)
            done = answer.status == 200
            return answer
        finally:
            if not done:
                self._receiver.failed()

    async def _taken(self, request: web.Request) -> web.Response:
        txn_id = request.match_info["txn_id"]
        body = await self._body(request)
        if body is None:
            return self._too_large()
        try:
            transaction = parse(body)
        except NotATransaction as error:
            return _refused(400, error.errcode, str(error))
        events = [event for event in transaction.events if not self._receiver.is_own(event)]
        for event in transaction.events:
            if event.state_key is not None:
                self._receiver.state(event)
        rooms = {event.room_id for event in transaction.events}
        if events or transaction.encryption.lasts or transaction.malformed:
            key = transaction.key(txn_id)
            async with self._turn:
                if key in self._recent or await self._receiver.seen(key):
                    self._remember(key)
                    self._receiver.keys(transaction.encryption, rooms, bare=transaction.is_bare)
                    return _done()
                for raw, why in transaction.malformed:
                    log.warning("malformed_event", txn_id=txn_id, why=why, size=len(raw))
                    self._receiver.malformed(raw, why)
                await self._receiver.accept(key, events, transaction.encryption)
                self._remember(key)
        self._receiver.keys(transaction.encryption, rooms, bare=transaction.is_bare)
        if transaction.ephemeral:
            self._receiver.ephemeral(transaction.ephemeral)
        return _done()

    async def _ping(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if body is None:
            return self._too_large()
        try:
            self._receiver.pinged(_ping(body or b"{}").transaction_id)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _refused(400, "M_NOT_JSON", "not a ping")
        return _done()

    # what is asked

    async def _user(self, request: web.Request) -> web.Response:
        known = await self._receiver.has_user(PersonId(request.match_info["user"]))
        return _done() if known else _not_found("no such user")

    async def _alias(self, request: web.Request) -> web.Response:
        known = await self._receiver.has_alias(request.match_info["alias"])
        return _done() if known else _not_found("no such room")

    async def _protocol(self, request: web.Request) -> web.Response:
        described = await self._receiver.protocol(request.match_info["protocol"])
        return _not_found("no such protocol") if described is None else _done(described)

    async def _third_party_users(self, request: web.Request) -> web.Response:
        fields = _fields(request)
        return _done(await self._receiver.third_party_users(request.match_info.get("protocol"), fields))

    async def _third_party_locations(self, request: web.Request) -> web.Response:
        fields = _fields(request)
        return _done(await self._receiver.third_party_locations(request.match_info.get("protocol"), fields))

    async def _unknown(self, request: web.Request) -> web.Response:
        return _refused(404, "M_UNRECOGNIZED", "no such call")

    # within

    def _authorised(self, handler: Handler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            refusal = self._check(request)
            if refusal is not None:
                return refusal
            try:
                return await handler(request)
            except web.HTTPException:
                raise
            except Exception:
                # The homeserver tries a transaction again, and tells the user of a failed query.
                log.exception("appservice_call_failed", route=getattr(handler, "__name__", ""))
                return _refused(500, "M_UNKNOWN", "the bridge failed; its log says why")

        return checked

    def _check(self, request: web.Request) -> web.Response | None:
        """Application Service API, "Authorization": the header, and the query for homeservers before v1.4."""
        given: list[str] = []
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer":
                return _refused(401, "M_MISSING_TOKEN", "the Authorization header is no Bearer token")
            given.append(token.strip())
        if request.query_string and "access_token" in request.query_string:
            given += request.query.getall("access_token", [])
        if not given:
            return _refused(401, "M_MISSING_TOKEN", "no token")
        good = True
        for token in given:  # all of them, so that the time tells nothing
            good &= hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)
        return None if good else _refused(403, "M_FORBIDDEN", "not the homeserver's token")

    async def _body(self, request: web.Request) -> bytes | None:
        """The whole body; None where it is larger than allowed (a compressed one counts unpacked)."""
        if (request.content_length or 0) > self._max_body:
            return None
        pieces: list[bytes] = []
        size = 0
        while piece := await request.content.readany():
            pieces.append(piece)
            size += len(piece)
            if size > self._max_body:
                return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _too_large(self) -> web.Response:
        return _refused(413, "M_TOO_LARGE", f"a body may have {self._max_body} bytes")

    def _remember(self, key: str) -> None:
        self._recent[key] = None
        self._recent.move_to_end(key)
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)


def _fields(request: web.Request) -> dict[str, str]:
    return {key: value for key, value in request.query.items() if key != "access_token"}


def _done(answer: Any = None) -> web.Response:
    body = b"{}" if answer is None else msgspec.json.encode(answer)
    return web.Response(body=body, content_type="application/json")


def _not_found(why: str) -> web.Response:
    return _refused(404, "M_NOT_FOUND", why)


def _refused(status: int, errcode: str, why: str) -> web.Response:
    body = msgspec.json.encode({"errcode": errcode, "error": why})
    return web.Response(status=status, body=body, content_type="application/json")


__all__ = ["MAX_BODY", "Appservice", "Encryption", "RawEvent", "Receiver"]
