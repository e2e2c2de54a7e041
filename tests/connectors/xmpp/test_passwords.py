"""What a login costs: SCRAM as in RFC 7677, its rounds, and the certificates."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from slixmpp.util.sasl.client import MECHANISMS, SASLCancelled

from bridgekit.contract.errors import Disconnected
from connectors.xmpp import stream, tls
from connectors.xmpp.scram import MOST_ROUNDS, Scram, install
from connectors.xmpp.testing.certificate import write_certificate

SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=%d"


def asked(name: str, rounds: int) -> Any:
    """The client's answer where the server asks for so many rounds; the exchange of RFC 7677, 3."""
    install()
    mechanism = MECHANISMS[name]
    assert mechanism is Scram
    settings = dict.fromkeys(mechanism.security, False)
    mech = mechanism(
        name,
        {"username": b"user", "password": b"pencil", "authzid": b"", "channel_binding": b""},
        settings | {"encrypted": True, "binding_proposed": True},
    )
    mech.process_1(b"")
    mech.cnonce = b"rOprNGfwEbeRWgbNEkqO"
    mech.client_first_message_bare = b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    return mech.process_2(SERVER_FIRST % rounds)


def test_the_proof_is_that_of_the_rfc() -> None:
    proof = b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert asked("SCRAM-SHA-256", 4096).endswith(proof)


def test_a_server_that_asks_for_rounds_without_end_gets_none() -> None:
    for rounds in (10**12, MOST_ROUNDS + 1, 0, -1):
        with pytest.raises(SASLCancelled):
            asked("SCRAM-SHA-256", rounds)


def test_a_hash_that_gives_no_password_is_not_gone_on_with() -> None:
    with pytest.raises(SASLCancelled):
        asked("SCRAM-SHA-ke_128", 4096)


def test_certificates_are_read_once_and_again_when_their_file_has_changed(tmp_path: Path) -> None:
    file, _ = write_certificate(tmp_path, "chat.example")
    first = tls.context(file)
    assert tls.context(file) is first
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.check_hostname
    assert tls.context() is not first
    os.utime(file, (1, 1))
    assert tls.context(file) is not first


async def test_a_file_of_authorities_that_is_none_or_gone_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(Disconnected, match="tls_ca_file is no use: No such file"):
        tls.context(file)
    file.write_text("no certificate")
    with pytest.raises(Disconnected, match="tls_ca_file"):
        async with stream.client("a@b.example", "pw", host="127.0.0.1", port=1, direct=False, ca_file=file):
            pass
