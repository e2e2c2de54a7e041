"""One socket to an IRC server: opened with the address, the certificate check and the ident it needs, read in lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import zip_longest
from typing import cast

from bridgekit.contract.errors import Disconnected
from connectors.irc.config import Server
from connectors.irc.ident import IdentServer

SLICE = 1 << 14
"""Bytes worked through before the loop gets its turn: some 150 messages, 5 ms; a read may bring 256 KiB."""
MAX_BUFFERED = 1 << 18
MAX_UNFINISHED = 1 << 15
CONNECT_SECONDS = 30.0
ADDRESS_SECONDS = 5.0
"""For one address of a server while there are others: a route may swallow all that is sent there."""
RENEWED_SECONDS = 60.0
"""Until our own certificate's files are read again where they were no use."""
_IP_FREEBIND = 15  # linux/in.h: bind to an address of a routed prefix that no interface has

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Resolved = tuple[socket.AddressFamily, socket.SocketKind, int, str, Address]
"""What getaddrinfo(3) says of one address."""

_UNTRUSTED = "Nothing is sent to a server that cannot prove who it is: its administrator must be told."


class _Wire(asyncio.Protocol):
    """Keeps what came until it is asked for, also when the connection broke behind it: the last words matter most."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.heard_at = self.loop.time()
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.lost = False
        self.error: Exception | None = None
        self.transport: asyncio.Transport | None = None
        self.paused = False
        self._waiter: asyncio.Future[None] | None = None
        self.gone: asyncio.Future[None] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        self.chunks.append(data)
        self.size += len(data)
        if self.size > MAX_BUFFERED and not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.heard_at = self.loop.time()  # TCP tells the end behind all that was said before it
        self.lost = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.error = error
        if not self.gone.done():
            self.gone.set_result(None)
        self._wake()

    async def take(self) -> bytes:
        """What has come; b"" at the end."""
        while not self.chunks and not self.lost:
            self._waiter = self.loop.create_future()
            await self._waiter
        if not self.chunks:
            return b""
        data = self.chunks[0]
        if len(data) > SLICE:
            data, self.chunks[0] = data[:SLICE], data[SLICE:]
        else:
            self.chunks.popleft()
        self.size -= len(data)
        if self.paused and self.size < MAX_BUFFERED // 2 and self.transport is not None and not self.lost:
            self.paused = False
            self.transport.resume_reading()
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection:
    """Lines in, bytes out."""

    def __init__(self, wire: _Wire, *, encoding: str) -> None:
        if wire.transport is None:
            raise ValueError("not connected")
        self._wire = wire
        self._transport = wire.transport
        self._rest = b""
        self._encoding = encoding
        self.secure = wire.transport.get_extra_info("ssl_object") is not None
        self.closing = False

    @property
    def heard_at(self) -> float:
        """The loop's time up to which everything came that was sent: when the last bytes did, or the end."""
        return self._wire.heard_at

    @property
    def alive(self) -> bool:
        """Whether neither end has gone, as far as is known."""
        return not self.closing and not self._wire.lost and not self._transport.is_closing()

    async def lines(self) -> list[bytes]:
        """The next lines, at least one, without their ends, in UTF-8 wherever it can be made out.

        Raises Disconnected at the end.
        """
        while True:
            data = await self._wire.take()
            if not data:
                if isinstance(self._wire.error, OSError):
                    raise Disconnected(f"The connection to the IRC server broke: {_words(self._wire.error)}.")
                raise Disconnected("The IRC server closed the connection.")
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            if len(self._rest) > MAX_UNFINISHED:
                raise Disconnected("The IRC server sends a line without an end.", retry_after=60.0)
            if lines:
                return lines if data.isascii() else [self._utf8(line) for line in lines]

    def _utf8(self, line: bytes) -> bytes:
        if line.isascii():
            return line
        try:
            line.decode()
        except UnicodeDecodeError:
            return line.decode(self._encoding, "replace").encode()
        return line

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, now or soon; does nothing once either end has gone."""
        if self.alive:  # uvloop raises where asyncio's own transports keep silent
            self._transport.write(data)

    async def close(self, farewell: bytes = b"") -> None:
        """Say `farewell` and go; takes two seconds at most."""
        if self.closing:
            return
        if farewell and not self._transport.is_closing():
            self._transport.write(farewell)
        self.closing = True
        self._transport.close()
        try:
            async with asyncio.timeout(2):
                await asyncio.shield(self._wire.gone)
        except TimeoutError:
            self._transport.abort()


@contextlib.asynccontextmanager
async def opened(
    server: Server,
    *,
    encoding: str,
    local: str | None = None,
    ident: IdentServer | None = None,
    user: str = "",
) -> AsyncIterator[Connection]:
    """A connection to `server`, from the address `local` if given, known to `ident` as `user` from its first packet.

    Raises Disconnected where there is no connection to be had.
    """
    try:
        context = server.context()
    except OSError as error:
        words = f"The TLS files for {server.address} cannot be used: {_words(error)}."
        raise Disconnected(words, retry_after=RENEWED_SECONDS) from error  # they may be being renewed
    ports: tuple[int, int] | None = None
    with contextlib.ExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                with ident.opening() if ident else contextlib.nullcontext():
                    sock = await _dial(server, local)
                    stack.callback(sock.close)
                    if ident:
                        ports = (sock.getsockname()[1], sock.getpeername()[1])
                        ident.announce(*ports, user)
                        stack.callback(ident.forget, *ports)
                _, wire = await asyncio.get_running_loop().create_connection(
                    _Wire, sock=sock, ssl=context, server_hostname=server.host if context else None
                )
        except ssl.SSLCertVerificationError as error:
            raise Disconnected(
                f"The certificate of {server.address} is not to be trusted ({error.verify_message}). {_UNTRUSTED}",
                retry_after=300.0,
            ) from error
        except TimeoutError as error:
            raise Disconnected(f"{server.address} does not answer{_to(local)}.", retry_after=10.0) from error
        except OSError as error:
            raise Disconnected(f"{server.address} cannot be reached: {_words(error)}{_to(local)}.") from error
        connection = Connection(wire, encoding=encoding)
        try:
            yield connection
        finally:
            await connection.close()


async def _dial(server: Server, local: str | None) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if local and ":" in local else socket.AF_INET if local else socket.AF_UNSPEC
    found = await loop.getaddrinfo(server.host, server.port, family=family, type=socket.SOCK_STREAM)
    last: OSError = OSError(f"{server.host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(_by_turns(found), 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if local:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
                sock.bind((local, 0))
            async with asyncio.timeout(ADDRESS_SECONDS if number < len(found) else None):
                await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last


def _by_turns(found: Sequence[Resolved]) -> list[Resolved]:
    """IPv6 and IPv4 in turn (RFC 8305, 4), the one first that the resolver prefers."""
    preferred = [one for one in found if one[0] == found[0][0]]
    others = [one for one in found if one[0] != found[0][0]]
    return [one for pair in zip_longest(preferred, others) for one in pair if one is not None]


def _to(local: str | None) -> str:
    """What to look at where a connection comes from an address of its own."""
    return f" (to {local}: the server needs IPv6, and that network a route to this machine)" if local else ""


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
