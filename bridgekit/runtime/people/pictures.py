"""Pictures of ghosts: fetched and stored once, set in the background, and never in the way of a message."""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import File
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.files import Files
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

LIMIT = 10 * 1024 * 1024
"""Bytes of a picture."""
PAUSE = 3600.0
"""Seconds until a picture that could not be had is tried again."""
REMEMBERED = 1000
"""Pictures that were stored last. Those that some ghost shows are found by that ghost, too."""


class Pictures:
    """What ghosts look like."""

    def __init__(
        self,
        client: MatrixClient,
        ghosts: Ghosts,
        files: Files,
        *,
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._ghosts = ghosts
        self._files = files
        self._spawn = spawn
        self._wanted: dict[PersonId, File] = {}  # being fetched now
        self._failed: dict[str, float] = {}  # by address: when it may be tried again
        self._stored: dict[str, str] = {}  # mxc by address
        self._locks: dict[str, asyncio.Lock] = {}

    def show(self, mxid: PersonId, picture: File) -> None:
        """Let the ghost look like that, soon. A ghost that does not exist is not made for it."""
        ghost = self._ghosts.row(mxid)
        if ghost is None or ghost.avatar_source == picture.uri or mxid in self._wanted:
            return
        if self._failed.get(picture.uri, 0.0) > time.monotonic():
            return
        self._wanted[mxid] = picture
        self._spawn(self._set(mxid, picture))

    async def _set(self, mxid: PersonId, picture: File) -> None:
        source = picture.uri
        try:
            mxc = await self._mxc(picture)
            await self._client.set_avatar_url(mxc, user=mxid)
        except BridgeError as error:
            self._failed = {uri: at for uri, at in self._failed.items() if at > time.monotonic()}
            self._failed[source] = time.monotonic() + PAUSE
            log.info("picture_not_shown", kind=type(error).__name__)
        else:
            if (ghost := self._ghosts.row(mxid)) is not None:
                self._ghosts.keep(msgspec.structs.replace(ghost, avatar=mxc, avatar_source=source))
        finally:
            del self._wanted[mxid]

    async def _mxc(self, picture: File) -> str:
        """The picture as a Matrix file. Ghosts that look alike share one."""
        source = picture.uri
        lock = self._locks.setdefault(source, asyncio.Lock())
        try:
            async with lock:
                found = self._stored.get(source) or self._ghosts.picture_from(source)
                if not found:
                    found = (await self._files.bring(picture, None, limit=LIMIT, only="image/")).uri
                    self._stored[source] = found
                    if len(self._stored) > REMEMBERED:
                        del self._stored[next(iter(self._stored))]
                return found
        finally:
            if not lock.locked():
                self._locks.pop(source, None)
