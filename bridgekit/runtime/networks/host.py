"""What a connector may ask of the bridge, for one network."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from aiohttp import web

from bridgekit.contract.connector import FileOpener
from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import File, Portrait
from bridgekit.contract.reports import AbuseReport
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.attachments import opening
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store

PORTRAIT_PIXELS, PORTRAIT_BYTES = 96, 128 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NetworkHost:
    """`bridgekit.contract.connector.Host` over the store, the Matrix client and the public listener."""

    def __init__(
        self,
        network: NetworkId,
        *,
        store: Store,
        client: MatrixClient,
        registry: Registry,
        owner_on: Callable[[NetworkId, PersonId], PersonId | None],
        routes: list[web.RouteDef],
        openers: dict[NetworkId, FileOpener],
        file_report: Callable[[NetworkId, AbuseReport], Awaitable[None]],
    ) -> None:
        self.network = network
        self.log = structlog.get_logger(f"connector.{network}", network=network)
        self._store = store
        self._client = client
        self._registry = registry
        self._owner_on = owner_on
        self._routes = routes
        self._openers = openers
        self._file_report = file_report

    def now(self) -> float:
        return time.time()

    async def get(self, key: str) -> bytes | None:
        return await self._store.kv.get(self.network, key)

    async def put(self, key: str, value: bytes | None) -> None:
        await self._store.commit(self._store.kv.put(self.network, key, value))

    def put_later(self, key: str, value: bytes | None) -> None:
        self._store.commit(self._store.kv.put(self.network, key, value))

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        await self._store.commit(
            *(self._store.kv.put(self.network, key, value) for key, value in values.items())
        )

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        return await self._store.kv.items(self.network, prefix)

    def walk(self, prefix: str = "") -> AsyncIterator[tuple[str, bytes]]:
        return self._store.kv.walk(self.network, prefix)

    async def report(self, report: AbuseReport) -> None:
        await self._file_report(self.network, report)

    def mount(self, method: str, path: str, handler: Handler) -> None:
        self._routes.append(web.route(method, f"/_bridgekit/network/{self.network}{path}", handler))

    def opens_files(self, opener: FileOpener) -> None:
        self._openers[self.network] = opener

    def open_media(self, file: File) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._stream(file)

    @asynccontextmanager
    async def _stream(self, file: File) -> AsyncIterator[AsyncIterator[bytes]]:
        if file.via is not None:
            async with self._openers[file.via](file) as chunks:
                yield chunks
            return
        async with self._client.download(file.uri) as download:
            chunks = download.chunks()
            yield chunks if file.key is None else opening(chunks, file.key)

    async def store_media(self, data: bytes, name: str, mime: str) -> File:
        uri = await self._client.upload(data, mime, name, size=len(data))
        return File(uri=uri, name=name, mime=mime, size=len(data))

    async def portrait(self, person: PersonId) -> Portrait:
        found = await self._client.profile(person) or {}
        name, mxc = found.get("displayname"), found.get("avatar_url")
        picture = await self._small(mxc) if isinstance(mxc, str) and mxc else b""
        return Portrait(name=name if isinstance(name, str) else "", picture=picture)

    async def _small(self, mxc: str) -> bytes:
        """A picture in the size in which people are shown; empty where it is none, or too large all the same."""
        try:
            async with self._client.download(mxc, thumbnail=PORTRAIT_PIXELS) as download:
                data = b""
                async for chunk in download.chunks():
                    data += chunk
                    if len(data) > PORTRAIT_BYTES:
                        return b""
        except MatrixRefused:
            return b""
        return data

    async def chats(self) -> list[ChatId]:
        return self._registry.shared_chats(self.network)

    def owner_of(self, person: PersonId) -> PersonId | None:
        return self._owner_on(self.network, person)
