"""Files to XMPP: a slot of the server's upload service (XEP-0363), filled as the bytes come from Matrix."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import aiohttp
from aiohttp.connector import AddrInfoType
from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from bridgekit.contract.addresses import is_public
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import RemoteError, SendRejected
from bridgekit.contract.filekeys import TAG_BYTES
from bridgekit.contract.people import File
from connectors.xmpp import tls
from connectors.xmpp.stanzas import compose, disco, explain, wire
from connectors.xmpp.stanzas.files import KEY_BYTES, sealed_address
from connectors.xmpp.stanzas.jids import domain
from connectors.xmpp.stanzas.wire import children, find, make, words
from connectors.xmpp.stream import Refused, Stream, new_id

_HEADERS = {"authorization": "Authorization", "cookie": "Cookie", "expires": "Expires"}
"""XEP-0363, 5: no other header of a slot may be sent."""
UPLOAD_SECONDS = 300.0
IV_BYTES = 12


class Upload:
    """The upload service of our server, if it has one."""

    def __init__(self, stream: Stream, host: Host, *, trusted: bool, ca_file: Path | None = None) -> None:
        """`trusted`: the operator chose this server; a stranger's may not point us at our own network. `ca_file`: whom
        it may have its certificate from, besides the CAs of the system."""
        self._trusted = trusted
        self._tls = tls.context(ca_file if trusted else None)
        self._stream = stream
        self._host = host
        self.service = ""
        self.largest = 0

    async def find(self, me: str, server: str) -> None:
        """Look for it among what the server offers (XEP-0363, 4)."""
        try:
            items = await self._stream.ask(
                compose.ask(server, me, new_id(), make("query", wire.DISCO_ITEMS)), seconds=10.0
            )
        except (Refused, TimeoutError, RemoteError):
            return
        query = find(items, wire.DISCO_ITEMS, "query")
        for item in children(query, wire.DISCO_ITEMS, "item")[:20]:
            jid = item.get("jid", "")
            if not jid or domain(jid) == domain(me):
                continue
            try:
                answer = await self._stream.ask(
                    compose.ask(jid, me, new_id(), make("query", wire.DISCO_INFO)), seconds=5.0
                )
            except (Refused, TimeoutError, RemoteError):
                continue
            about = disco.read(answer)
            if wire.UPLOAD in about.features:
                self.service = jid
                size = about.fields.get("max-file-size", "")
                self.largest = int(size) if size.isascii() and size.isdigit() else 0
                return

    async def put_sealed(self, file: File, me: str) -> str:
        """Upload it encrypted under a key of its own; its `aesgcm` address. Raises SendRejected, MatrixError."""
        if not file.size or (self.largest and file.size + TAG_BYTES > self.largest):
            raise SendRejected(
                f"The file {file.name} was not sent: the XMPP server does not take one of its size."
            )
        # XEP-0454, 4: what it is called says as little as possible.
        suffix = file.name.rpartition(".")[2] if "." in file.name else ""
        name = new_id() + (f".{suffix}" if suffix.isascii() and suffix.isalnum() and len(suffix) < 6 else "")
        hidden = File(uri=file.uri, name=name, size=file.size + TAG_BYTES, key=file.key)
        try:
            put, get, headers = await self._slot_for(hidden, me)
        except Refused as refused:
            why = explain.condition(refused.stanza)[1] or "the server refused it"
            raise SendRejected(f"The file {file.name} was not sent: {why}.") from None
        except TimeoutError:
            raise SendRejected(f"The file {file.name} was not sent: the server does not answer.") from None
        secret, iv = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(IV_BYTES)
        await self._send(hidden, put, headers, seal=Cipher(AES(secret), GCM(iv)).encryptor())
        return sealed_address(get, iv, secret)

    async def put(self, file: File, me: str) -> str:
        """Upload a Matrix file; its URL. Raises SendRejected, MatrixError."""
        if not file.size:
            return self._link(file, "its size is not known")
        if self.largest and file.size > self.largest:
            return self._link(file, f"the server takes no more than {self.largest} bytes")
        try:
            put, get, headers = await self._slot_for(file, me)
        except Refused as refused:
            return self._link(file, explain.condition(refused.stanza)[1] or "the server refused it")
        except TimeoutError:
            return self._link(file, "the server does not answer")
        await self._send(file, put, headers)
        return get

    async def _slot_for(self, file: File, me: str) -> tuple[str, str, dict[str, str]]:
        request = make(
            "request",
            wire.UPLOAD,
            filename=file.name.replace("/", "_")[:120] or "file",
            size=str(file.size),
            content_type=file.mime,
        )
        request.set("content-type", request.attrib.pop("content_type", "application/octet-stream"))
        answer = await self._stream.ask(compose.ask(self.service, me, new_id(), request))
        return _slot(answer, trusted=self._trusted)

    async def _send(
        self, file: File, url: str, headers: dict[str, str], *, seal: AEADEncryptionContext | None = None
    ) -> None:
        headers = headers | {"Content-Type": file.mime, "Content-Length": str(file.size)}
        timeout = aiohttp.ClientTimeout(UPLOAD_SECONDS)
        connector = aiohttp.TCPConnector(
            ssl=self._tls, socket_factory=None if self._trusted else _public_only
        )
        try:
            async with (
                self._host.open_media(file) as chunks,
                aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session,
                session.put(
                    url,
                    data=chunks if seal is None else _sealed(chunks, seal),
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                if response.status not in (200, 201, 204):
                    raise SendRejected(f"The XMPP server did not take the file (HTTP {response.status}).")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SendRejected("The file could not be uploaded to the XMPP server.") from error

    def _link(self, file: File, why: str) -> str:
        """An address of the bridge's own, where the file cannot be uploaded."""
        if not file.link:
            reasons = f"{why}, and {file.linkless}" if file.linkless else why
            raise SendRejected(f"The file {file.name} was not sent: {reasons}.")
        return file.link


async def _sealed(chunks: AsyncIterator[bytes], seal: AEADEncryptionContext) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield seal.update(chunk)
    yield seal.finalize() + seal.tag


def _slot(answer: Element, *, trusted: bool) -> tuple[str, str, dict[str, str]]:
    """Where to put it, where it can be had, and headers. Raises SendRejected."""
    slot = find(answer, wire.UPLOAD, "slot")
    put, get = find(slot, wire.UPLOAD, "put"), find(slot, wire.UPLOAD, "get")
    urls = [one.get("url", "") for one in (put, get) if one is not None]
    if len(urls) != 2 or not all(_is_place(url, trusted=trusted) for url in urls):
        raise SendRejected("The XMPP server gave no place for the file.")
    headers = {}
    for one in children(put, wire.UPLOAD, "header"):
        name = _HEADERS.get(one.get("name", "").lower())
        if name is not None:
            headers[name] = wire.line(words(one))
    return urls[0], urls[1], headers


def _is_place(url: str, *, trusted: bool) -> bool:
    """XEP-0363, 5: "MUST be https"; a server of the operator's own may be without, on the same machine say."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or not url.isprintable() or parts.username is not None:
        return False
    if trusted:
        return parts.scheme in ("https", "http")
    return parts.scheme == "https" and (not _IP.fullmatch(host) or is_public(host))


_IP = re.compile(r"[0-9.]+|.*:.*")


def _public_only(info: AddrInfoType) -> socket.socket:
    """The last look, at the address that is about to be connected to. Raises OSError."""
    family, kind, proto, _, address = info
    if not is_public(str(address[0])):
        raise OSError("the address leads into a private network")
    return socket.socket(family, kind, proto)
