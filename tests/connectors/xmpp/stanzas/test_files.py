"""Files by address, read and written; and places for uploads, which a hostile server may choose."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import msgspec
import pytest
from aiohttp import web

from bridgekit.contract.errors import SendRejected
from bridgekit.contract.people import File
from bridgekit.testing.host import FakeHost
from connectors.xmpp.stanzas import files, heard, wire
from connectors.xmpp.testing.certificate import write_certificate
from connectors.xmpp.upload import Upload
from tests.connectors.xmpp.reading import stanza

SUMMIT = (
    "<file-sharing xmlns='urn:xmpp:sfs:0' disposition='inline'><file xmlns='urn:xmpp:file:metadata:0'>"
    "<media-type>image/jpeg</media-type><name>{name}</name><size>3032449</size><dimensions>4096x2160</dimensions>"
    "<length>63000</length><desc>Photo from the summit.</desc></file><sources>"
    "<url-data xmlns='http://jabber.org/protocol/url-data' target='{url}'/></sources></file-sharing>"
)
URL = "https://download.montague.lit/4a771ac1-f0b2-4a4a-9700-f2a26fa2bb67/summit.jpg"


def test_a_shared_file_says_what_it_is():
    """XEP-0447, 3.1 with XEP-0446, 2: media-type, name, size in bytes, dimensions in pixels, length in ms."""
    heard = stanza(f"<message>{SUMMIT.format(name='summit.jpg', url=URL)}<body>Photo: {URL}</body></message>")
    (shared,) = heard.files
    assert shared.file == File(
        uri=URL, name="summit.jpg", mime="image/jpeg", size=3032449, width=4096, height=2160, duration=63000
    )
    assert shared.about == "Photo from the summit."
    assert heard.text is not None
    assert heard.text.body == ""


def test_the_same_file_said_twice_is_one_file():
    """XEP-0447, 3.1: "adding a XEP-0066 x-oob reference is RECOMMENDED for compatibility"."""
    oob = f"<x xmlns='jabber:x:oob'><url>{URL}</url></x>"
    heard = stanza(f"<message>{SUMMIT.format(name='a.jpg', url=URL)}<body>{URL}</body>{oob}</message>")
    assert [one.file.name for one in heard.files] == ["a.jpg"]


@pytest.mark.parametrize(
    "url",
    [
        "http://plain.example/a",
        "file:///etc/passwd",
        "ftp://x/y",
        "https://x/ y",
        "",
        "https://x/" + "y" * 5000,
    ],
)
def test_a_source_without_tls_is_ignored(url: str):
    """XEP-0447, 5: without a hash "clients MUST ignore any sources that use unsecure protocols"."""
    assert stanza(f"<message>{SUMMIT.format(name='a', url=url)}</message>").files == ()


@pytest.mark.parametrize(
    ("name", "kept"),
    [("../../etc/passwd", ".._.._etc_passwd"), ("a\\b", "a_b"), ("", "summit.jpg"), ("x" * 500, "x" * 120)],
)
def test_a_name_leads_nowhere(name: str, kept: str):
    """XEP-0446, 4: "/etc/passwd" or "../../private.txt"."""
    (shared,) = stanza(f"<message>{SUMMIT.format(name=name, url=URL)}</message>").files
    assert shared.file.name == kept


def test_numbers_that_are_none_are_unknown():
    xml = (
        SUMMIT.format(name="a", url=URL)
        .replace("3032449", "²")
        .replace("4096x2160", "wide")
        .replace("63000", "-1")
    )
    (shared,) = stanza(f"<message>{xml}</message>").files
    assert (shared.file.size, shared.file.width, shared.file.height, shared.file.duration) == (0, 0, 0, 0)


def test_a_file_that_we_share_is_read_as_it_was():
    file = File(uri="mxc://a/b", name="cat.png", mime="image/png", size=5, width=3, height=2)
    message = Element(f"{{{wire.CLIENT}}}message")
    files.attach(message, URL, file)
    (shared,) = files.read(message)
    assert shared.file == File(uri=URL, name="cat.png", mime="image/png", size=5, width=3, height=2)
    assert message.findtext(f"{{{wire.CLIENT}}}body") == URL


def test_a_file_to_be_shown_on_request_only_is_a_spoiler():
    """XEP-0382, 3: the hint may be empty."""
    for hint in ("the end", ""):
        message = Element(f"{{{wire.CLIENT}}}message")
        files.attach(message, URL, File(uri="mxc://a/b", name="cat.png", spoiler=hint))
        assert heard.read(message, stamp=0).spoiler == hint


class Slots:
    """A stream whose server gives one slot."""

    def __init__(self, put: str, get: str = URL, headers: str = "") -> None:
        self._slot = (
            f"<iq xmlns='jabber:client'><slot xmlns='{wire.UPLOAD}'><put url='{put}'>{headers}</put>"
            f"<get url='{get}'/></slot></iq>"
        )

    async def ask(self, iq: Element, seconds: float = 0) -> Element:
        return fromstring(self._slot)


FILE = File(uri="mxc://a/b", name="a.txt", mime="text/plain", size=3)


def upload(slots: Any, *, trusted: bool, ca_file: Path | None = None) -> Upload:
    host = FakeHost()
    host.media["mxc://a/b"] = b"abc"
    found = Upload(slots, host, trusted=trusted, ca_file=ca_file)
    found.service = "upload.montague.tld"
    return found


@pytest.mark.parametrize(
    "put",
    [
        "http://upload.montague.tld/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1:8008/_synapse/admin",
        "https://[::ffff:192.168.0.1]/",
        "https://user:pass@example.org/",
        "gopher://example.org/",
        "https://",
        "https://[bad",
    ],
)
async def test_a_strangers_server_cannot_point_an_upload_into_our_network(put: str):
    """XEP-0363, 5: both URLs "MUST be https"; where they lead is the server's choice, so it is looked at."""
    with pytest.raises(SendRejected, match="gave no place"):
        await upload(Slots(put), trusted=False).put(FILE, "me@example.org/x")


async def test_a_name_that_leads_into_our_network_is_noticed_when_it_is_connected_to():
    """`localhost` is no address, and resolves to one of this machine."""
    with pytest.raises(SendRejected, match="could not be uploaded"):
        await upload(Slots("https://localhost:1/x"), trusted=False).put(FILE, "me@example.org/x")


async def test_a_file_that_is_too_large_for_the_server_is_a_link():
    found = upload(Slots("https://upload.montague.tld/x"), trusted=True)
    found.largest = 2
    linked = msgspec.structs.replace(FILE, link="https://bridge.example/a.txt")
    assert await found.put(linked, "me@example.org/x") == "https://bridge.example/a.txt"
    refused = msgspec.structs.replace(FILE, linkless="nobody may link to it")
    with pytest.raises(SendRejected, match="takes no more than 2 bytes, and nobody may link to it"):
        await found.put(refused, "me@example.org/x")


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_ca_of_ones_own_server_is_believed_for_its_uploads_alone(tmp_path: Path, trusted: bool):
    """`tls_ca_file`: who runs a server under a CA of their own has its files behind that too."""
    certificate, key = write_certificate(tmp_path, "upload.montague.tld")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    stored: list[bytes] = []

    async def store(request: web.Request) -> web.Response:
        stored.append(await request.read())
        return web.Response(status=201)

    app = web.Application()
    app.add_routes([web.put("/x", store)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    try:
        found = upload(
            Slots(f"https://127.0.0.1:{port}/x"), trusted=True, ca_file=certificate if trusted else None
        )
        if trusted:
            assert await found.put(FILE, "me@example.org/x") == URL
        else:
            with pytest.raises(SendRejected, match="could not be uploaded"):
                await found.put(FILE, "me@example.org/x")
    finally:
        await runner.cleanup()
    assert stored == ([b"abc"] if trusted else [])
