"""The same over TLS: trusted certificates pass, others are a sentence."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from bridgekit.contract.errors import HomeserverUnavailable
from bridgekit.matrix.client import MatrixClient
from tests.matrix.homeservers import BACKOFF, BOT


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hs.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "hs.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


def application() -> web.Application:
    async def sent(request: web.Request) -> web.Response:
        return web.json_response({"event_id": "$" + request.match_info["txn"]})

    async def stored(request: web.Request) -> web.Response:
        return web.json_response({"content_uri": f"mxc://x/{len(await request.read())}"})

    app = web.Application()
    app.add_routes(
        [
            web.put("/hs/_matrix/client/v3/rooms/{room}/send/{type}/{txn}", sent),
            web.post("/hs/_matrix/media/v3/upload", stored),
        ]
    )
    return app


async def test_calls_and_files_go_through_tls_below_a_path(certificate):
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=certificate)
    server = TestServer(application(), scheme="https")
    await server.start_server(ssl=served)
    try:
        url = f"https://127.0.0.1:{server.port}/hs/"
        async with MatrixClient(url, "t", bot=BOT, tls=trusted, backoff=BACKOFF) as client:
            for n in range(3):
                assert await client.send("!r:x", "m.x", {"n": n}, txn=f"{n}") == f"${n}"  # type: ignore[arg-type]
            assert await client.upload(b"abc", "text/plain") == "mxc://x/3"
        async with MatrixClient(url, "t", bot=BOT, backoff=BACKOFF) as client:
            with (
                capture_logs() as logs,
                pytest.raises(HomeserverUnavailable, match=r"(?i)certificate") as caught,
            ):
                await client.send("!r:x", "m.x", {}, txn="1", patient=False)  # type: ignore[arg-type]
            assert caught.value.certain
        (lost,) = [line for line in logs if line["event"] == "homeserver_lost"]
        assert "certificate" in lost["reason"].lower(), "an admin reads why, and not only that"
    finally:
        await server.close()
