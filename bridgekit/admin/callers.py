"""Who may ask the admin listener for more than health and metrics: whoever holds the bridge's key."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

PURPOSE = "admin"
"""What the key is derived for (`SealingKey.derive`) that a caller shows, in hex, as its bearer token."""
PREFIX = "/api/v1"
"""Where their calls are."""
LARGEST = 64 * 1024
"""Bytes of a request's body."""


def guarded(token: str) -> web.Application:
    """An application that answers 401 to everybody without the token."""

    @web.middleware
    async def known_callers_only(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), token.encode()):
            return answered({"error": "This needs the token that belongs to the bridge's key."}, 401)
        return await handler(request)

    return web.Application(middlewares=[known_callers_only], client_max_size=LARGEST)


def answered(answer: object, status: int = 200) -> web.Response:
    """The answer as JSON that nobody may keep."""
    return web.Response(
        body=msgspec.json.encode(answer),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
