"""The bridge's client of its homeserver (Client-Server API v1.12), as its bot or as any of its users."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import msgspec

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.calls import CS, Calls
from bridgekit.matrix.crypto.contents import Sealed
from bridgekit.matrix.sending import Sending
from bridgekit.matrix.shapes import Identity, Json, Ping, Versions
from bridgekit.matrix.transfer import Download, Transfer
from bridgekit.matrix.transport import BACKOFF, SECONDS, Homeserver, Metrics, Outdated, quoted

NO_SUCH_DEVICE = "M_UNKNOWN_DEVICE"
"""Of a device that an appservice speaks with (MSC4326): somebody has signed it out."""
_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(Json).decode


class Cipher(Protocol):
    """Who knows which rooms are encrypted, and seals what goes there."""

    def is_clear(self, room: ChatId, type: str) -> bool:
        """Whether an event of that type certainly goes out as it is."""
        ...

    async def is_encrypted(self, room: ChatId, user: PersonId) -> bool:
        """Whether the room is encrypted; `user`, who is in it, asks the homeserver where that is not known."""
        ...

    async def seal(self, room: ChatId, type: str, content: Json, user: PersonId) -> Sealed | None:
        """What is sent instead; None where it goes out as it is. Raises BridgeError where it must not be sent."""
        ...

    def lost(self, user: PersonId) -> None:
        """The homeserver does not know the device any more with which the user speaks."""
        ...


class MatrixClient(Calls):
    """One appservice's calls, its sends and its files. Every call takes `user=`, whom it is made as; None is the bot.

    `url` is the homeserver's address; `session` is what files travel through, made on demand; `backoff` is the
    first and the longest wait (seconds) while the homeserver is away. `client.patient`
    makes the calls of `Calls` patient, over the same connections.
    """

    def __init__(
        self,
        url: str,
        as_token: str,
        *,
        bot: PersonId,
        session: aiohttp.ClientSession | None = None,
        metrics: Metrics | None = None,
        tls: ssl.SSLContext | None = None,
        connections: int = 64,
        backoff: tuple[float, float] = BACKOFF,
    ) -> None:
        homeserver = Homeserver(
            url, as_token, metrics=metrics, tls=tls, connections=connections, backoff=backoff
        )
        super().__init__(homeserver, bot)
        self.server_name = bot.partition(":")[2]
        self.patient = Calls(self.homeserver, bot, patient=True)
        self.cipher: Cipher | None = None
        self._sending = Sending(self.homeserver)
        self._transfer = Transfer(self.homeserver, url, as_token, session=session, tls=tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        self.homeserver.close()
        await self._transfer.close()

    @property
    def available(self) -> bool:
        """Whether the homeserver answers and knows us, as far as the last calls can tell."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """What is wrong with the homeserver, as far as the last calls can tell, as a sentence; "" for nothing."""
        if not self.homeserver.gate.available:
            return "The homeserver does not answer."
        return self.homeserver.refused

    def may_be_encrypted(self, room: ChatId) -> bool:
        """Whether the room is encrypted, or nothing is known of it."""
        return self.cipher is not None and not self.cipher.is_clear(room, "m.room.message")

    async def is_encrypted(self, room: ChatId, user: PersonId) -> bool:
        """Whether the room is encrypted; `user`, who is in it, asks where that is not known."""
        return self.may_be_encrypted(room) and (
            self.cipher is not None and await self.cipher.is_encrypted(room, user)
        )

    async def send(
        self,
        room: ChatId,
        type: str,
        content: Mapping[str, Any] | bytes,
        *,
        txn: str,
        user: PersonId | None = None,
        at: int | None = None,
        source: str | None = None,
        since: int = 0,
        recovering: bool = False,
        patient: bool = True,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> MessageId:
        """Send one event and return its id; patient unless told otherwise.

        `content` is an object or its JSON. `txn` must be the same at every try and never serve two users. `at`
        (ms) is the time that the event shall bear. Where the caller put `source` into the content as
        `org.bridgekit.source`, an answer that was lost, or `recovering=True` (a try before a crash may have
        arrived), leads to a look at what the room has had since `since` (ms, when it may first have been sent;
        0 is unknown) before anything is sent again. Into an encrypted room nothing goes in clear: `cipher` seals it
        with the sender's own device. `after` is what the event waits for once it is ready to go.
        """
        send = partial(
            self._sending.send,
            room,
            txn=txn,
            at=at,
            source=source,
            since=since,
            recovering=recovering,
            patient=patient,
        )
        cipher = self.cipher
        if cipher is None:
            return await send(type, _json(content), user=user, device=None, after=after, still=None)
        if after is not None and not cipher.is_clear(room, type):
            await after()  # what is sealed goes at once
            after = None
        is_anew = False
        while True:
            try:
                if cipher.is_clear(room, type):
                    return await self._send_clear(cipher, send, room, type, _json(content), user, after)
                plain = _object(content) if isinstance(content, bytes) else dict(content)
                return await self._send_sealed(cipher, send, room, type, plain, user or self.bot)
            except Outdated:
                after = None  # that is over
            except MatrixRefused as error:
                if error.errcode != NO_SUCH_DEVICE or is_anew:
                    raise
                cipher.lost(user or self.bot)
                is_anew = True

    async def _send_clear(
        self,
        cipher: Cipher,
        send: Callable[..., Awaitable[MessageId]],
        room: ChatId,
        type: str,
        content: bytes,
        user: PersonId | None,
        after: Callable[[], Awaitable[None]] | None,
    ) -> MessageId:
        """Raises Outdated where the room has become encrypted while the event waited for its turn."""

        def still() -> bool:
            return cipher.is_clear(room, type)

        return await send(type, content, user=user, device=None, after=after, still=still)

    async def _send_sealed(
        self,
        cipher: Cipher,
        send: Callable[..., Awaitable[MessageId]],
        room: ChatId,
        type: str,
        content: Json,
        user: PersonId,
    ) -> MessageId:
        sealed = await cipher.seal(room, type, content, user)
        if sealed is None:
            return await self._send_clear(cipher, send, room, type, _encode(content), user, None)
        return await send(
            sealed.type, _encode(sealed.content), user=user, device=sealed.device, after=None, still=None
        )

    async def find_sent(
        self, room: ChatId, sources: Collection[str], since: int = 0, *, user: PersonId | None = None
    ) -> dict[str, MessageId]:
        """Which of `sources` stand in the room's recent events, and as what.

        Reads back as the bot (as `user`, where the bot may not read) to five minutes before `since` (ms), at
        most 500 events where `since` is 0 and 50,000 where it is known. Waits for the homeserver.
        """
        return await self._sending.find(room, sources, since, user=user)

    async def whoami(self, *, user: PersonId | None = None, timeout: float = SECONDS) -> Identity:
        """Whom the homeserver takes us for; an answer that does not come within `timeout` seconds is lost."""
        decode = msgspec.json.Decoder(Identity).decode
        path = f"{CS}/account/whoami"
        return await self._call("whoami", "GET", path, None, decode, user=user, timeout=timeout)

    # the homeserver

    async def versions(self) -> Versions:
        """What it can do."""
        decode = msgspec.json.Decoder(Versions).decode
        return await self._call("versions", "GET", "/_matrix/client/versions", None, decode)

    async def ping(self, appservice_id: str, *, txn: str = "") -> float:
        """Have the homeserver call us (MSC2659); returns the seconds that took it.

        It also ends the homeserver's own waiting after we were away.
        """
        path = f"/_matrix/client/v1/appservice/{quoted(appservice_id)}/ping"
        body = {"transaction_id": txn} if txn else {}
        return (
            await self._call("ping", "POST", path, body, msgspec.json.Decoder(Ping).decode)
        ).duration_ms / 1000

    # files

    async def upload(
        self,
        stream: AsyncIterable[bytes] | bytes,
        mime: str,
        name: str = "",
        *,
        size: int | None = None,
        user: PersonId | None = None,
    ) -> str:
        """Store a file; returns its mxc:// address. `size` (bytes) is sent along where it is known."""
        return await self._transfer.upload(stream, mime, name, size=size, user=user)

    def download(
        self, mxc: str, *, user: PersonId | None = None, thumbnail: int = 0
    ) -> AbstractAsyncContextManager[Download]:
        """Open a file; the bytes are `async for chunk in download.chunks()` while the block lasts. `thumbnail`: a
        small copy of a picture, cropped to about so many pixels each way."""
        return self._transfer.download(mxc, user=user, thumbnail=thumbnail)


def _json(content: Mapping[str, Any] | bytes) -> bytes:
    return content if isinstance(content, bytes) else _encode(content)
