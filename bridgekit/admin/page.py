"""The dashboard: a page of three files, served as they are; it asks `/api/v1` with the token that its reader has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

_PAGE = {
    "/": ("index.html", "text/html"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/dashboard.css": ("dashboard.css", "text/css"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing of anybody else is loaded, and nobody frames it."""


def routes() -> list[web.RouteDef]:
    """The page at `/`, with its script and its style."""
    folder = files("bridgekit.admin") / "dashboard"
    return [web.get(path, _serve((folder / name).read_bytes(), kind)) for path, (name, kind) in _PAGE.items()]


def _serve(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)

    return serve
