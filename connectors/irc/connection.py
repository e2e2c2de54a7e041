"""One socket to an IRC server: opened with the address, the certificate check and the ident it needs, read in lines."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from bridgekit.contract.errors import Disconnected, LoginRejected
from connectors.irc.config import Server
from connectors.irc.ident import IdentServer

CHUNK = 1 << 14
"""Bytes read at once: some 200 messages, so that a burst costs few turns of the loop and yet none of 50 ms."""
MAX_UNFINISHED = 1 << 15
CONNECT_SECONDS = 30.0
_IP_FREEBIND = 15  # linux/in.h: bind to an address of a routed prefix that no interface has

_UNTRUSTED = "Nothing is sent to a server that cannot prove who it is: its administrator must be told."


class Connection:
    """Lines in, bytes out. `heard_at` is the loop's time when the last bytes came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, encoding: str) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = b""
        self._encoding = encoding
        self._loop = asyncio.get_running_loop()
        self.secure = writer.get_extra_info("ssl_object") is not None
        self.heard_at = self._loop.time()
        self.closing = False

    async def lines(self) -> list[bytes]:
        """The next lines, at least one, without their ends, in UTF-8 wherever it can be made out.

        Raises Disconnected at the end.
        """
        while True:
            try:
                data = await self._reader.read(CHUNK)
            except OSError as error:
                raise Disconnected(f"The connection to the IRC server broke: {_words(error)}.") from error
            if not data:
                raise Disconnected("The IRC server closed the connection.")
            self.heard_at = self._loop.time()
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
        """Hand bytes to the kernel, now or soon; does nothing once the connection is going down."""
        if not self.closing:
            self._writer.write(data)

    @property
    def lost(self) -> bool:
        """True when nothing written now could arrive."""
        return self.closing or self._writer.is_closing()

    async def close(self, farewell: bytes = b"") -> None:
        """Say `farewell` and go; takes two seconds at most."""
        if self.closing:
            return
        if farewell and not self._writer.is_closing():
            self._writer.write(farewell)
        self.closing = True
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(2):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()


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

    Raises Disconnected where there is no connection to be had, LoginRejected where our own certificate is no use.
    """
    try:
        context = server.context()
    except OSError as error:
        raise LoginRejected(f"The TLS files for {server.address} cannot be used: {_words(error)}.") from error
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
                reader, writer = await asyncio.open_connection(
                    sock=sock, ssl=context, server_hostname=server.host if context else None, limit=1 << 18
                )
        except ssl.SSLCertVerificationError as error:
            raise Disconnected(
                f"The certificate of {server.address} is not to be trusted ({error.verify_message}). {_UNTRUSTED}",
                retry_after=300.0,
            ) from error
        except TimeoutError as error:
            raise Disconnected(f"{server.address} does not answer.", retry_after=10.0) from error
        except OSError as error:
            raise Disconnected(f"{server.address} cannot be reached: {_words(error)}.") from error
        connection = Connection(reader, writer, encoding=encoding)
        try:
            yield connection
        finally:
            await connection.close()


async def _dial(server: Server, local: str | None) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if local and ":" in local else socket.AF_INET if local else socket.AF_UNSPEC
    found = await loop.getaddrinfo(server.host, server.port, family=family, type=socket.SOCK_STREAM)
    last: OSError = OSError(f"{server.host} has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if local:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
                sock.bind((local, 0))
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


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
