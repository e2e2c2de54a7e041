"""SASL exchanges against the vectors of their RFCs, and against servers that cheat."""

import base64

import pytest

from bridgekit.contract.errors import PeerMisbehaved
from connectors.irc.protocol.sasl import Assembler, External, Plain, ScramSha256, chunks, saslprep

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> ScramSha256:
    return ScramSha256("user", "pencil", NONCE)


def test_scram_sha_256_speaks_the_example_of_rfc_7677():
    exchange = scram()
    assert exchange.respond(b"") == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert exchange.respond(SERVER_FIRST) == CLIENT_FINAL
    assert not exchange.complete
    assert exchange.respond(SERVER_FINAL) == b""
    assert exchange.complete


def test_a_server_that_does_not_know_the_password_is_found_out():
    exchange = scram()
    exchange.respond(b"")
    exchange.respond(SERVER_FIRST)
    with pytest.raises(PeerMisbehaved, match="does not know our password"):
        exchange.respond(b"v=" + base64.b64encode(b"x" * 32))
    assert not exchange.complete


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"\xff\xfe",
        b"r=somebodyelse,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",  # nothing added
        b"r=rOprNGfwEbeRWgbNEkqOx,s=???,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000000000",
        b"m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    ],
)
def test_a_crooked_scram_challenge_is_refused(challenge):
    exchange = scram()
    exchange.respond(b"")
    with pytest.raises(PeerMisbehaved):
        exchange.respond(challenge)


@pytest.mark.parametrize("last", [b"", b"e=invalid-proof", b"v=???", b"v="])
def test_a_crooked_scram_end_is_refused(last):
    exchange = scram()
    exchange.respond(b"")
    exchange.respond(SERVER_FIRST)
    with pytest.raises(PeerMisbehaved):
        exchange.respond(last)


def test_scram_escapes_commas_and_equals_signs_in_the_account():
    assert ScramSha256("a=b,c", "x", "n").respond(b"") == b"n,,n=a=3Db=2Cc,r=n"


def test_plain_is_the_message_of_rfc_4616():
    assert Plain("tim", "tanstaaftanstaaf").respond(b"") == b"tim\0tim\0tanstaaftanstaaf"


def test_plain_refuses_nul():
    with pytest.raises(ValueError):
        Plain("tim", "a\0b")


def test_external_may_leave_the_identity_to_the_certificate():
    assert External().respond(b"") == b""
    assert External("tim").respond(b"") == b"tim"


@pytest.mark.parametrize(
    ("raw", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX")],
)
def test_saslprep_gives_the_examples_of_rfc_4013(raw, prepared):
    assert saslprep(raw) == prepared


@pytest.mark.parametrize("raw", ["\u0007", "\u0627\u0031", "a\n"])
def test_saslprep_refuses_what_rfc_4013_refuses(raw):
    with pytest.raises(ValueError):
        saslprep(raw)


@pytest.mark.parametrize(
    ("length", "sizes"),
    [(0, [1]), (1, [4]), (299, [400]), (300, [400, 1]), (301, [400, 4]), (600, [400, 400, 1])],
)
def test_messages_are_cut_at_400_bytes_and_an_exact_fit_is_followed_by_a_plus(length, sizes):
    """IRCv3 sasl: a last chunk of exactly 400 bytes is followed by an empty one, sent as `+`."""
    sent = chunks(b"x" * length)
    if length == 299:
        sizes = [400, 1]
    assert [len(c) for c in sent] == sizes
    assembler = Assembler()
    results = [assembler.feed(c) for c in sent]
    assert results[-1] == b"x" * length
    assert results[:-1] == [None] * (len(sent) - 1)


@pytest.mark.parametrize("chunk", ["not base64!", "x" * 401, "====="])
def test_a_crooked_chunk_is_refused(chunk):
    with pytest.raises(PeerMisbehaved):
        Assembler().feed(chunk)


def test_an_endless_message_is_refused():
    assembler = Assembler()
    for _ in range(40):
        assembler.feed("A" * 400)
    with pytest.raises(PeerMisbehaved):
        assembler.feed("A" * 400)
