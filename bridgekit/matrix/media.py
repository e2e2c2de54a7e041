"""The public listener's files and long texts, for whoever holds a signed link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import structlog
from aiohttp import web

from bridgekit.contract.errors import (
    HomeserverUnavailable,
    MatrixError,
    MatrixForbidden,
    MatrixRateLimited,
    MatrixRefused,
)
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.links import MEDIA_PATH, TEXT_PATH, Expired, Forged, Links, MediaClaim, TextClaim

log = structlog.get_logger(__name__)

ReadText = Callable[[ChatId, MessageId], Awaitable[str | None]]
"""The words of an event for the public, None where there are none (any more)."""

# Client-Server API, "Serving inline content", less what is nothing to look at.
INLINE = frozenset(
    "text/plain image/jpeg image/gif image/png image/apng image/webp image/avif video/mp4 video/webm video/ogg "
    "video/quicktime audio/mp4 audio/webm audio/aac audio/mpeg audio/ogg audio/wave audio/wav audio/x-wav "
    "audio/x-pn-wav audio/flac audio/x-flac".split()
)
SAFE = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; script-src 'none'; style-src 'unsafe-inline'; media-src 'self'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}


class PublicMedia:
    """GET and HEAD /_bridgekit/media/{token}/{name} and /_bridgekit/text/{token}.

    `limit` bounds one file in bytes. `read_text` is what shows an event's words; by default the bot reads the
    event and shows its body.
    """

    def __init__(
        self,
        links: Links,
        client: MatrixClient,
        *,
        limit: int = 100 * 1024 * 1024,
        read_text: ReadText | None = None,
    ) -> None:
        self._links = links
        self._client = client
        self._limit = limit
        self._read_text = read_text or self._body

    def routes(self) -> list[web.RouteDef]:
        """Every route, for `app.add_routes`."""
        return [
            web.get(MEDIA_PATH + "/{token}/{name}", self._media),
            web.get(TEXT_PATH + "/{token}", self._text),
        ]

    async def _media(self, request: web.Request) -> web.StreamResponse:
        try:
            claim = self._links.open(request.match_info["token"], request.match_info["name"])
            if not isinstance(claim, MediaClaim):
                raise Forged
            return await self._stream(request, claim.mxc, request.match_info["name"])
        except (Forged, Expired, MatrixError) as error:
            return _refusal(error)

    async def _stream(self, request: web.Request, mxc: str, name: str) -> web.StreamResponse:
        async with self._client.download(mxc) as file:
            if file.size is not None and file.size > self._limit:
                return _plain(413, "This file is too large to be shown here.")
            inline = file.mime in INLINE
            response = web.StreamResponse(headers=SAFE)
            response.content_type = file.mime
            if file.mime.startswith("text/"):
                response.charset = "utf-8"
            response.headers["Content-Disposition"] = _disposition(inline, name)
            response.headers["Cache-Control"] = "private, max-age=3600, immutable"
            response.content_length = file.size
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            sent = 0
            try:
                async for piece in file.chunks():
                    sent += len(piece)
                    if sent > self._limit:
                        raise HomeserverUnavailable("too large")
                    await response.write(piece)
                await response.write_eof()
            except HomeserverUnavailable:
                # The head is out; only an end in the middle tells the reader that this is not the whole file.
                log.warning("public_file_cut", sent=sent)
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _text(self, request: web.Request) -> web.StreamResponse:
        try:
            claim = self._links.open(request.match_info["token"])
            if not isinstance(claim, TextClaim):
                raise Forged
            words = await self._read_text(claim.room, claim.event_id)
        except (Forged, Expired, MatrixError) as error:
            return _refusal(error)
        return _plain(404, "This message is no longer there.") if words is None else _plain(200, words)

    async def _body(self, room: ChatId, event_id: MessageId) -> str | None:
        event = await self._client.event(room, event_id)
        content = (event or {}).get("content")
        if isinstance(content, dict) and isinstance(content.get("m.new_content"), dict):
            content = content["m.new_content"]
        body = content.get("body") if isinstance(content, dict) else None
        return body if isinstance(body, str) else None


def _disposition(inline: bool, name: str) -> str:
    """RFC 6266 with the whole name as RFC 8187 has it."""
    ascii_name = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _refusal(error: Exception) -> web.Response:
    match error:
        case Expired():
            return _plain(410, "This link has expired.")
        case Forged():
            return _plain(404, "There is nothing here.")
        case HomeserverUnavailable() | MatrixRateLimited():
            answer = _plain(503, "The file store does not answer; try again in a moment.")
            answer.headers["Retry-After"] = str(max(1, round(error.retry_after or 1)))
            return answer
        case MatrixForbidden():
            return _plain(404, "There is nothing here.")
        case MatrixRefused(status=404):
            return _plain(404, "This file is no longer there.")
        case _:
            return _plain(502, "The file store refused it.")


def _plain(status: int, text: str) -> web.Response:
    headers = {**SAFE, "Cache-Control": "private, no-store" if status != 200 else "private, max-age=60"}
    return web.Response(status=status, text=text, headers=headers, content_type="text/plain", charset="utf-8")
