"""The public listener's files and long texts, for whoever holds a signed link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
import structlog
from aiohttp import web

from bridgekit.contract.errors import (
    BridgeError,
    EncryptionError,
    HomeserverUnavailable,
    MatrixForbidden,
    MatrixRateLimited,
    MatrixRefused,
    PeerMisbehaved,
)
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.attachments import opening
from bridgekit.matrix.fetch import FetchRefused, RemoteFile, read_head
from bridgekit.matrix.links import (
    MEDIA_PATH,
    TEXT_PATH,
    Expired,
    FileClaim,
    Forged,
    Links,
    MediaClaim,
    SealedClaim,
    TextClaim,
)
from bridgekit.matrix.ranges import Unsatisfiable, part_of
from bridgekit.matrix.unredacted import Unredacted, said_in

log = structlog.get_logger(__name__)


class Sealed(Protocol):
    """Encrypted rooms whose people have agreed to links."""

    def holds(self, room: ChatId, agreement: int) -> bool:
        """Whether a room's agreement stands, now."""
        ...

    async def content(self, room: ChatId, event_id: MessageId, since: int) -> dict[str, Any]:
        """What an event says in clear; {} where it says nothing (any more); `since` as in `links.FileClaim`. Raises
        BridgeError."""
        ...


class Withdrawn(Exception):
    """The agreement by which a link was made was taken back."""


class _NoFile(Exception):
    """The event holds none (any more)."""


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

    `limit` bounds one file in bytes. `unredacted` reads events as the bot sees them. `sealed` opens what was said in
    encrypted rooms, None: nothing of that is shown.
    """

    def __init__(
        self,
        links: Links,
        client: MatrixClient,
        *,
        limit: int = 100 * 1024 * 1024,
        unredacted: Unredacted | None = None,
        sealed: Sealed | None = None,
    ) -> None:
        self._links = links
        self._client = client
        self._limit = limit
        self._unredacted = unredacted or Unredacted(client)
        self._sealed = sealed

    def routes(self) -> list[web.RouteDef]:
        """Every route, for `app.add_routes`."""
        return [
            web.get(MEDIA_PATH + "/{token}/{name}", self._media),
            web.get(TEXT_PATH + "/{token}", self._text),
        ]

    async def _media(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        try:
            claim = self._links.open(request.match_info["token"], name)
            if isinstance(claim, TextClaim):
                raise Forged
            if isinstance(claim, SealedClaim):
                async with self._unsealed(claim, name) as file:
                    return await self._stream(request, file, name, claim)
            mxc = claim.mxc if isinstance(claim, MediaClaim) else await self._file_of(claim)
            async with self._client.download(mxc) as download:
                file = RemoteFile(download.mime, name, download.size, download.chunks())
                return await self._stream(request, file, name)
        except _REFUSALS as error:
            return _refusal(error)

    async def _file_of(self, claim: FileClaim) -> str:
        """Where the file of an event is; an edit may leave it to the message that it edits. Raises BridgeError,
        _NoFile."""
        for event in await self._unredacted.events(claim.room, claim.event_id, claim.since):
            if isinstance(mxc := said_in(event).get("url"), str):
                return mxc
        raise _NoFile

    @asynccontextmanager
    async def _unsealed(self, claim: SealedClaim, name: str) -> AsyncIterator[RemoteFile]:
        """The file of an encrypted event in clear. Raises Withdrawn, BridgeError, _NoFile."""
        content = await self._content(claim)
        found = content.get("file")
        file: dict[str, Any] = found if isinstance(found, dict) else {}
        uri = file.get("url") or content.get("url")
        if not isinstance(uri, str):
            raise _NoFile
        info = content.get("info")
        claimed = info.get("mimetype") if isinstance(info, dict) else None
        async with self._client.download(uri) as download:
            chunks = download.chunks()
            clear = opening(chunks, msgspec.json.encode(file)) if file else chunks
            mime = claimed if isinstance(claimed, str) else download.mime
            yield await read_head(clear, claimed=mime, name=name, size=download.size, limit=self._limit)

    async def _content(self, claim: SealedClaim) -> dict[str, Any]:
        self._check(claim)
        assert self._sealed is not None
        content = await self._sealed.content(claim.room, claim.event_id, claim.since)
        self._check(claim)
        edited = content.get("m.new_content")
        return edited if isinstance(edited, dict) else content

    def _check(self, claim: SealedClaim | None) -> None:
        """Raise Withdrawn where what was agreed to does not hold any more."""
        if claim is None:
            return
        if self._sealed is None or not self._sealed.holds(claim.room, claim.agreement):
            raise Withdrawn

    async def _stream(
        self, request: web.Request, file: RemoteFile, name: str, claim: SealedClaim | None = None
    ) -> web.StreamResponse:
        if file.size is not None and file.size > self._limit:
            return _plain(413, "This file is too large to be shown here.")
        try:
            part = _part(request, file.size)
        except Unsatisfiable:
            answer = _plain(416, "This file has no such part.")
            answer.headers["Content-Range"] = f"bytes */{file.size}"
            return answer
        response = web.StreamResponse(status=200 if part is None else 206, headers=SAFE)
        response.content_type = file.mime
        if file.mime.startswith("text/"):
            response.charset = "utf-8"
        response.headers["Content-Disposition"] = _disposition(file.mime in INLINE, name)
        # What can be taken back is kept by nobody on the way.
        kept = "private, max-age=3600, immutable" if claim is None else "private, no-store"
        response.headers["Cache-Control"] = kept
        response.headers["Accept-Ranges"] = "none" if file.size is None else "bytes"
        if part is not None:
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{file.size}"
        response.content_length = file.size if part is None else len(part)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await self._pass_on(response, file, part, claim)
            await response.write_eof()
        except (HomeserverUnavailable, MatrixRefused, FetchRefused, Withdrawn) as error:
            # The head is out; only an end in the middle tells the reader that this is not all of it.
            log.warning("public_file_cut", why=type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _pass_on(
        self, response: web.StreamResponse, file: RemoteFile, part: range | None, claim: SealedClaim | None
    ) -> None:
        """Write the file, or a part of it: what stands before it is read all the same, homeservers know no ranges.

        The last bytes wait until the file has ended well: of an encrypted one only its end says whether it is sound,
        so that is read to its end.
        """
        read, held = 0, b""
        async for piece in file.chunks():
            self._check(claim)
            start, read = read, read + len(piece)
            if read > self._limit:
                raise HomeserverUnavailable("too large")
            if part is not None:
                piece = piece[max(0, part.start - start) : max(0, part.stop - start)]
            if piece:
                await response.write(held)
                held = piece
            if part is not None and claim is None and read >= part.stop:
                break
        self._check(claim)
        await response.write(held)

    async def _text(self, request: web.Request) -> web.StreamResponse:
        try:
            claim = self._links.open(request.match_info["token"])
            if isinstance(claim, MediaClaim | FileClaim):
                raise Forged
            if isinstance(claim, SealedClaim):
                words = _body_of(await self._content(claim))
            else:
                events = await self._unredacted.events(claim.room, claim.event_id, claim.since)
                words = _body_of(said_in(events[0])) if events else None
        except _REFUSALS as error:
            return _refusal(error)
        if words is None:
            return _plain(404, "This message is no longer there.")
        return _plain(200, words, kept=isinstance(claim, TextClaim))


def _part(request: web.Request, size: int | None) -> range | None:
    """The part that is asked for, None for all of it. Raises Unsatisfiable."""
    # RFC 9110 14.2: of GET only; 13.1.5: these files have no validator that If-Range could match.
    if size is None or request.method != "GET" or "If-Range" in request.headers:
        return None
    return part_of(size, request.headers.get("Range"))


def _body_of(content: dict[str, Any]) -> str | None:
    body = content.get("body")
    return body if isinstance(body, str) else None


_REFUSALS = (Forged, Expired, Withdrawn, _NoFile, BridgeError)


def _disposition(inline: bool, name: str) -> str:
    """RFC 6266 with the whole name as RFC 8187 has it."""
    ascii_name = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def _refusal(error: Exception) -> web.Response:
    match error:
        case Expired():
            return _plain(410, "This link has expired.")
        case Withdrawn():
            return _plain(410, "This link was withdrawn.")
        case _NoFile():
            return _plain(404, "This file is no longer there.")
        case Forged():
            return _plain(404, "There is nothing here.")
        case HomeserverUnavailable() | MatrixRateLimited():
            answer = _plain(503, "The file store does not answer; try again in a moment.")
            answer.headers["Retry-After"] = str(max(1, round(error.retry_after or 1)))
            return answer
        case MatrixForbidden() | EncryptionError() | PeerMisbehaved():
            return _plain(404, "There is nothing here.")
        case FetchRefused():
            return _plain(413, "This file is too large to be shown here.")
        case MatrixRefused(status=404):
            return _plain(404, "This file is no longer there.")
        case _:
            return _plain(502, "The file store refused it.")


def _plain(status: int, text: str, *, kept: bool = True) -> web.Response:
    lasts = status == 200 and kept
    headers = {**SAFE, "Cache-Control": "private, max-age=60" if lasts else "private, no-store"}
    return web.Response(status=status, text=text, headers=headers, content_type="text/plain", charset="utf-8")
