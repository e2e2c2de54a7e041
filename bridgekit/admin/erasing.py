"""`/erase` of the admin listener: who holds the bridge's key may have a person erased, and asks how it goes."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import PersonId

PURPOSE = "admin"
"""What the key is derived for (`SealingKey.derive`) that a caller shows, in hex, as its bearer token."""


class Wish(msgspec.Struct):
    """Whom to erase."""

    user: str


def application(
    token: str,
    ask: Callable[[PersonId], Awaitable[msgspec.Struct]],
    report: Callable[[PersonId], msgspec.Struct | None],
) -> web.Application:
    """POST {"user": "@..."} begins and answers 202 with the report; GET ?user=@... reads it again (404: none)."""
    read = msgspec.json.Decoder(Wish).decode

    @web.middleware
    async def known_callers_only(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), token.encode()):
            return _json({"error": "This needs the token that belongs to the bridge's key."}, 401)
        return await handler(request)

    async def begin(request: web.Request) -> web.Response:
        try:
            wish = read(await request.read())
            return _json(await ask(PersonId(wish.user)), 202)
        except msgspec.MsgspecError:
            return _json({"error": 'The body must be {"user": "@name:example.org"}.'}, 400)
        except NotAllowed as error:
            return _json({"error": error.notice}, 400)

    async def look(request: web.Request) -> web.Response:
        found = report(PersonId(request.query.get("user", "")))
        return _json({"error": "Nobody asked for that."}, 404) if found is None else _json(found, 200)

    app = web.Application(middlewares=[known_callers_only], client_max_size=4096)
    app.router.add_post("", begin)
    app.router.add_get("", look)
    return app


def _json(answer: object, status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
