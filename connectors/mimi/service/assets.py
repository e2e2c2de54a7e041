"""Files of messages: ours as sealed assets that peers fetch, theirs fetched through the room's hub and opened.

draft-ietf-mimi-protocol-06 5.10; draft-ietf-mimi-content-08 4.5. Nothing is stored twice: an asset is sealed anew from
the Matrix file each time that it is fetched, under the one key that it has, and so always to the same octets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, NotAllowed, RemoteError
from bridgekit.contract.people import File
from connectors.mimi.messages import attachment
from connectors.mimi.messages.attachment import KEY, NONCE, Opening, Sealing
from connectors.mimi.messages.parts import ExternalPart
from connectors.mimi.service.downloads import MAX_OCTETS, Downloads
from connectors.mimi.service.peers import Peers

KEPT = 180 * 24 * 3600
"""Seconds for which a file can be fetched."""
SEED = 64
MAX_PICTURE = 10 * 1024 * 1024
"""Octets of a room's picture: as much as a bridge takes of one."""


class Asset(msgspec.Struct, frozen=True, array_like=True):
    """A file that peers may fetch; `size` is in octets, as it is given out, and `expires` in seconds since the epoch.

    Without a key it is given out in clear; where `expires` is 0, until somebody takes it away.
    """

    file: File
    key: bytes
    nonce: bytes
    size: int
    expires: int

    def has_expired(self, now: float) -> bool:
        return 0 < self.expires < now


class Assets:
    """`base` is what the addresses of our files begin with; `domain` is ours."""

    def __init__(self, domain: str, host: Host, *, base: str, peers: Peers, downloads: Downloads) -> None:
        self._domain = domain
        self._host = host
        self._base = base
        self._peers = peers
        self._downloads = downloads

    async def load(self) -> None:
        """Forget what has expired."""
        now = self._host.now()
        assets = {
            key: msgspec.msgpack.decode(raw, type=Asset)
            for key, raw in (await self._host.items("asset/")).items()
        }
        await self._host.put_all({key: None for key, asset in assets.items() if asset.has_expired(now)})

    # Ours ---------------------------------------------------------------------------------------------------

    async def offer(self, file: File, seed: bytes, *, description: str = "") -> ExternalPart:
        """The part that tells receivers of a Matrix file. `seed`: 64 octets that nobody can guess, for this file only.

        The file is read through once, for its hash. Raises MatrixError, RemoteError.
        """
        key, nonce, token = seed[:KEY], seed[KEY : KEY + NONCE], seed[KEY + NONCE : SEED].hex()
        sealing = Sealing(key, nonce)
        async for _ in self._sealed(file, sealing):
            pass
        expires = int(self._host.now()) + KEPT
        part = sealing.part(file, f"{self._base}{token}", description=description)
        part = msgspec.structs.replace(part, expires=expires)
        asset = Asset(file, key, nonce, part.size, expires)
        await self._host.put(f"asset/{token}", msgspec.msgpack.encode(asset))
        return part

    async def show(self, picture: File, token: bytes) -> str:
        """The address at which everybody who knows it sees a Matrix picture, until `hide`: there it lies in clear.

        `token`: octets that nobody can guess, for this picture only. Raises MatrixError, RemoteError.
        """
        size = 0
        async for chunk in self._plain(picture, MAX_PICTURE):
            size += len(chunk)
        asset = Asset(picture, b"", b"", size, 0)
        await self._host.put(f"asset/{token.hex()}", msgspec.msgpack.encode(asset))
        return f"{self._base}{token.hex()}"

    async def hide(self, address: str) -> None:
        """What `show` laid open is there no more; an address of somebody else's stays as it is."""
        if address.startswith(self._base):
            await self._host.put(f"asset/{address.removeprefix(self._base)}", None)

    async def _plain(self, file: File, limit: int) -> AsyncIterator[bytes]:
        seen = 0
        async with self._host.open_media(file) as chunks:
            async for chunk in chunks:
                seen += len(chunk)
                if seen > limit:
                    raise RemoteError("The file is larger than any that is sent to this network.")
                yield chunk

    async def _sealed(self, file: File, sealing: Sealing) -> AsyncIterator[bytes]:
        async for chunk in self._plain(file, MAX_OCTETS):
            yield sealing.update(chunk)
        yield sealing.finish()

    @asynccontextmanager
    async def serve(self, token: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """One of ours: how many octets, and the octets. Raises NotAllowed where there is none (any more)."""
        raw = await self._host.get(f"asset/{token}")
        asset = None if raw is None else msgspec.msgpack.decode(raw, type=Asset)
        if asset is None or asset.has_expired(self._host.now()):
            raise NotAllowed("There is no such file, or it is not kept any longer.")
        if asset.key:
            yield asset.size, self._sealed(asset.file, Sealing(asset.key, asset.nonce))
        else:
            yield asset.size, self._plain(asset.file, MAX_PICTURE)

    @asynccontextmanager
    async def fetch(self, address: str) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        """What lies at an address, of ours or of a peer's, as it lies there. Raises BridgeError."""
        if address.startswith(self._base):
            async with self.serve(address.removeprefix(self._base)) as (size, chunks):
                yield size, chunks
        else:
            async with self._downloads.open(address) as download:
                yield download.size, download.chunks()

    # Theirs -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self, file: File) -> AsyncIterator[AsyncIterator[bytes]]:
        """The octets of a file that somebody of another provider sent (`contract.connector.FileOpener`)."""
        seal = attachment.seal_of(file)
        try:
            if seal.hub in ("", self._domain):
                async with self.fetch(file.uri) as (_, chunks):
                    yield _open(chunks, Opening(seal))
            else:
                async with self._peers.download(seal.hub, file.uri) as chunks:
                    yield _open(chunks, Opening(seal))
        except RemoteError:
            raise
        except BridgeError as error:
            raise RemoteError(error.notice) from error


async def _open(chunks: AsyncIterator[bytes], opening: Opening) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > MAX_OCTETS:
            raise RemoteError("The file is larger than any that is fetched here.")
        yield opening.update(chunk)
    opening.finish()
