"""Files to and from the homeserver's media store, streamed and never whole in memory."""

from __future__ import annotations

import re
import ssl
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

import aiohttp
import msgspec

from bridgekit.contract.errors import BridgeError, HomeserverUnavailable, MatrixRefused
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.answers import named
from bridgekit.matrix.links import parse_mxc
from bridgekit.matrix.transport import Homeserver
from bridgekit.matrix.wire import Answer

PIECE = 64 * 1024
SPOOL = 1024 * 1024
"""A file of unknown size waits on disk from this many bytes on: a homeserver wants to know the length first."""
SECONDS = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_MIME = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.-]+)*", re.ASCII)


class _Uploaded(msgspec.Struct):
    content_uri: str


_uploaded = msgspec.json.Decoder(_Uploaded).decode


class Download:
    """An open file: its type and its size in bytes (None: unknown), as the homeserver says, and its bytes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.mime = response.content_type
        self.size = response.content_length
        self._response = response

    async def chunks(self, size: int = PIECE) -> AsyncIterator[bytes]:
        """The bytes, in pieces of at most `size`. Raises HomeserverUnavailable when they end early."""
        try:
            async for piece in self._response.content.iter_chunked(size):
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _broken(error) from error


class Transfer:
    """Uploads and downloads of one appservice. They are never repeated here: the stream is gone."""

    def __init__(
        self,
        homeserver: Homeserver,
        url: str,
        as_token: str,
        *,
        session: aiohttp.ClientSession | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._homeserver = homeserver
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {as_token}"}
        self._session, self._own = session, session is None
        self._tls = tls
        self._old = False  # the homeserver has no authenticated media (before v1.11)

    async def close(self) -> None:
        """Close the session, if it was made here."""
        if self._own and self._session is not None:
            await self._session.close()
            self._session = None

    async def upload(
        self,
        stream: AsyncIterable[bytes] | bytes,
        mime: str,
        name: str,
        *,
        size: int | None,
        user: PersonId | None,
    ) -> str:
        """See MatrixClient.upload."""
        query = {"filename": name} if name else {}
        if user is not None:
            query["user_id"] = user
        if isinstance(stream, bytes):
            return await self._upload(stream, len(stream), mime, query, user)
        if size is not None:
            return await self._upload(_Sized(stream, size), size, mime, query, user)
        # Synapse refuses an upload that does not say its length.
        with tempfile.SpooledTemporaryFile(max_size=SPOOL) as file:
            async for piece in stream:
                file.write(piece)
            size = file.tell()
            file.seek(0)
            return await self._upload(_Sized(_pieces(cast(BinaryIO, file)), size), size, mime, query, user)

    @asynccontextmanager
    async def download(
        self, mxc: str, *, user: PersonId | None, thumbnail: int = 0
    ) -> AsyncIterator[Download]:
        """See MatrixClient.download."""
        address = parse_mxc(mxc)
        if address is None:
            raise MatrixRefused("This is no Matrix file.", errcode="M_INVALID_PARAM")
        query: dict[str, str] = {"user_id": user} if user is not None else {}
        if thumbnail:
            query |= {"width": str(thumbnail), "height": str(thumbnail), "method": "crop"}
        kind = "thumbnail" if thumbnail else "download"
        if not self._old:
            path = f"/_matrix/client/v1/media/{kind}/{address.server}/{address.id}"
            try:
                async with self._exchange("GET", path, query, user) as response:
                    yield Download(response)
                    return
            except MatrixRefused as error:
                if error.errcode != "M_UNRECOGNIZED":
                    raise
                self._old = True
        path = f"/_matrix/media/v3/{kind}/{address.server}/{address.id}"
        async with self._exchange("GET", path, query, user) as response:
            yield Download(response)

    async def _upload(
        self, data: _Sized | bytes, size: int, mime: str, query: dict[str, str], user: PersonId | None
    ) -> str:
        headers = {
            "Content-Type": mime if _MIME.fullmatch(mime) else "application/octet-stream",
            "Content-Length": str(size),
        }
        path = "/_matrix/media/v3/upload"
        async with self._exchange("POST", path, query, user, data=data, headers=headers) as response:
            try:
                body = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _broken(error) from error
            try:
                return _uploaded(body).content_uri
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise named(_answer(response, body)) from None

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        user: PersonId | None,
        *,
        data: _Sized | bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, open while the block lasts. What goes wrong within the block is not looked at here."""
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        gate = self._homeserver.gate
        epoch = await gate.enter(user, patient=False)
        ok: bool | None = None
        try:
            response = await self._session.request(
                method,
                self._url + path,
                params=query,
                data=data,
                headers={**self._headers, **(headers or {})},
                timeout=SECONDS,
                ssl=self._tls or True,
            )
            if response.status != 200:
                async with response:
                    error = named(_answer(response, await response.content.read(PIECE)))
                ok = not isinstance(error, HomeserverUnavailable)
                raise error
            ok = True
        except (aiohttp.ClientError, TimeoutError) as reason:
            if isinstance(data, _Sized) and data.trouble is not None:
                raise data.trouble from None  # not the homeserver's fault
            ok = False
            raise _broken(reason) from reason
        finally:
            gate.leave(epoch, ok)
        async with response:
            yield response


class _Sized:
    """A stream of exactly `size` bytes: never a file that is cut off without a word. `trouble` is what ended it."""

    def __init__(self, stream: AsyncIterable[bytes], size: int) -> None:
        self._stream = stream
        self._left = size
        self.trouble: BridgeError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                self._left -= len(piece)
                if self._left < 0:
                    break
                yield piece
            if self._left:
                raise MatrixRefused(
                    "The file has not the size that it was said to have.", errcode="M_INVALID_PARAM"
                )
        except BridgeError as trouble:
            self.trouble = trouble
            raise


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    return Answer(response.status, list(response.raw_headers), body)


def _broken(error: Exception) -> HomeserverUnavailable:
    return HomeserverUnavailable(
        f"The file did not get through to or from the homeserver ({type(error).__name__}); try again later."
    )


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
