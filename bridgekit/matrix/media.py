"""The public listener's files and long texts, for whoever holds a signed link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.links import Links

ReadText = Callable[[ChatId, MessageId], Awaitable[str | None]]


class PublicMedia:
    """GET and HEAD /_bridgekit/media/{token}/{name}, GET /_bridgekit/text/{token}."""

    def __init__(
        self,
        links: Links,
        client: MatrixClient,
        *,
        limit: int = 100 * 1024 * 1024,
        read_text: ReadText | None = None,
    ) -> None:
        raise NotImplementedError

    def routes(self) -> list[web.RouteDef]:
        """Every route, for `app.add_routes`."""
        raise NotImplementedError
