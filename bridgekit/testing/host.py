"""A host in memory: all that a connector may ask of the bridge, for tests of connectors, ours and third parties'."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import structlog
from aiohttp import web

from bridgekit.contract.connector import FileOpener
from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import File, Portrait
from bridgekit.contract.reports import AbuseReport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CHUNK = 1 << 16


class Mount(msgspec.Struct, frozen=True):
    """One route that the connector asked for; `path` is below the network's own prefix."""

    method: str
    path: str
    handler: Handler


class FakeHost:
    """`bridgekit.contract.connector.Host` without a bridge.

    `kept` is the key-value store: give the same one to two hosts to play a restart. `linked` are the shared chats,
    `media` bytes by URI, `owners` Matrix users by person, `portraits` how Matrix users look, `mounts` the routes that
    were asked for, `reports` what was reported to the admins. The clock is the wall's, until `set_clock` stops it; then
    `advance` moves it.
    """

    def __init__(
        self,
        network: str = "test",
        *,
        linked: Iterable[ChatId] = (),
        kept: dict[str, bytes] | None = None,
    ) -> None:
        self.network = NetworkId(network)
        self.log: structlog.typing.FilteringBoundLogger = structlog.get_logger("connector")
        self.kept: dict[str, bytes] = {} if kept is None else kept
        self.linked: list[ChatId] = list(linked)
        self.media: dict[str, bytes] = {}
        self.owners: dict[PersonId, PersonId] = {}
        self.portraits: dict[PersonId, Portrait] = {}
        self.mounts: list[Mount] = []
        self.reports: list[AbuseReport] = []
        self.opener: FileOpener | None = None
        self._clock: float | None = None

    def set_clock(self, at: float) -> None:
        """From now on it is `at` (seconds since the epoch) until `advance`."""
        self._clock = at

    def advance(self, seconds: float) -> None:
        """Let time pass on a clock that was set."""
        self._clock = self.now() + seconds

    def now(self) -> float:
        return time.time() if self._clock is None else self._clock

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def put(self, key: str, value: bytes | None) -> None:
        self.put_later(key, value)

    def put_later(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.kept.pop(key, None)
        else:
            self.kept[key] = value

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        for key, value in values.items():
            self.put_later(key, value)

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        return {key: value for key, value in self.kept.items() if key.startswith(prefix)}

    async def walk(self, prefix: str = "") -> AsyncIterator[tuple[str, bytes]]:
        for key in sorted(key for key in self.kept if key.startswith(prefix)):
            yield key, self.kept[key]

    def mount(self, method: str, path: str, handler: Handler) -> None:
        self.mounts.append(Mount(method, path, handler))

    def app(self) -> web.Application:
        """An application that serves what was mounted, without the network's prefix."""
        app = web.Application()
        app.add_routes([web.route(m.method, m.path, m.handler) for m in self.mounts])
        return app

    def opens_files(self, opener: FileOpener) -> None:
        self.opener = opener

    def open_media(self, file: File) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._stream(file)

    @asynccontextmanager
    async def _stream(self, file: File) -> AsyncIterator[AsyncIterator[bytes]]:
        found = self.media.get(file.uri)
        if found is None:
            raise MatrixRefused("The homeserver has no such file.", errcode="M_NOT_FOUND", status=404)
        yield _chunks(found)

    async def store_media(self, data: bytes, name: str, mime: str) -> File:
        uri = f"mxc://stored/{len(self.media) + 1}"
        self.media[uri] = data
        return File(uri=uri, name=name, mime=mime, size=len(data))

    async def portrait(self, person: PersonId) -> Portrait:
        return self.portraits.get(person, Portrait())

    async def chats(self) -> list[ChatId]:
        return list(self.linked)

    async def report(self, report: AbuseReport) -> None:
        self.reports.append(report)

    def owner_of(self, person: PersonId) -> PersonId | None:
        return self.owners.get(person)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), CHUNK):
        yield data[at : at + CHUNK]
