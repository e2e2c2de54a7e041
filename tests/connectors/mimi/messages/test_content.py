"""MIMI content: octets, ids, and all that must be refused (draft-ietf-mimi-content-08)."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.messages.content import decode, encode, message_id
from connectors.mimi.messages.parts import (
    Disposition,
    Expiry,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    Semantics,
    SinglePart,
)
from connectors.mimi.messages.plausible import belongs, weigh
from tests.connectors.mimi.reading import ALICE, BOB, ROOM, Example, content, examples, messages

EXAMPLES = examples()
HELLO = SinglePart(content_type="text/plain;charset=utf-8", content=b"hello")
NOW = 1_790_000_000_000


def raw(
    *, salt=bytes(16), replaces=None, topic=b"", expires=None, reply=None, extensions=b"\xa0", part=None
) -> bytes:
    """The octets of a message out of any values, also of wrong ones."""
    part = [1, "", 1, "text/plain", b"x"] if part is None else part
    fields = [salt, replaces, topic, expires, reply]
    octets: list[bytes] = [b"\x87", *map(cbor2.dumps, fields), extensions, cbor2.dumps(part)]
    return b"".join(octets)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_working_groups_examples_are_read_and_written_octet_for_octet(example: Example):
    read = decode(example.octets)
    assert encode(read) == example.octets
    assert read.sender_uri is not None
    assert read.room_uri == ROOM
    id = message_id(example.octets, salt=read.salt, sender_uri=read.sender_uri, room_uri=ROOM)
    assert id == example.id


def test_there_are_fourteen_examples():
    assert len(EXAMPLES) == 14


def test_an_id_is_the_hash_of_lengths_names_octets_and_salt():
    salt = bytes(range(16))
    expected = hashlib.sha256(
        b"\x00\x20" + ALICE.encode() + b"\x00\x25" + ROOM.encode() + b"octets" + salt
    ).digest()
    assert message_id(b"octets", salt=salt, sender_uri=ALICE, room_uri=ROOM) == b"\x01" + expected[:31]


def test_an_attachment_says_where_it_lies_and_how_to_open_it():
    assert decode(EXAMPLES["attachment"].octets).part == ExternalPart(
        disposition=Disposition.ATTACHMENT,
        language="en",
        content_type="video/mp4",
        url="https://example.com/storage/8ksB4bSrrRE.mp4",
        size=708234961,
        encryption=1,
        key=bytes.fromhex("21399320958a6f4c745dde670d95e0d8"),
        nonce=bytes.fromhex("c86cf2c33f21527d1dd76f5b"),
        hash_algorithm=1,
        content_hash=bytes.fromhex("9ab17a8cf0890baaae7ee016c7312fcc080ba46498389458ee44f0276e783163"),
        description="2 hours of key signing video",
        filename="bigfile.mp4",
    )


def test_an_expiring_message_says_when():
    assert decode(EXAMPLES["expiring"].octets).expires == Expiry(relative=False, seconds=1644390004)


def test_a_delete_replaces_with_nothing():
    deleted = decode(EXAMPLES["delete"].octets)
    assert deleted.part == NullPart(disposition=Disposition.RENDER)
    assert deleted.replaces == EXAMPLES["reply"].id
    assert deleted.in_reply_to == EXAMPLES["original"].id


@settings(deadline=None)
@given(messages)
def test_what_is_encoded_is_decoded_to_the_same(message: MimiContent):
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_any_octets_raise_nothing_but_peer_misbehaved(octets: bytes):
    with pytest.raises(PeerMisbehaved):
        decode(b"\x86" + octets)
    with suppress(PeerMisbehaved):
        decode(b"\x87\x50" + bytes(16) + octets)


@given(st.sampled_from(sorted(EXAMPLES)), st.integers(0, 2000), st.integers(0, 255), st.integers(0, 3))
def test_a_damaged_message_raises_nothing_but_peer_misbehaved(name: str, at: int, octet: int, how: int):
    octets = EXAMPLES[name].octets
    at %= len(octets)
    damaged = {
        0: octets[:at] + bytes((octet,)) + octets[at + 1 :],
        1: octets[:at],
        2: octets[:at] + bytes((octet,)) + octets[at:],
        3: octets[:at] + octets[at + 1 :],
    }[how]
    try:
        read = decode(damaged)
    except PeerMisbehaved:
        return
    assert encode(read) == damaged


def nested(depth: int) -> Part:
    return (
        HELLO if depth == 1 else MultiPart(semantics=Semantics.PROCESS_ALL, parts=(HELLO, nested(depth - 1)))
    )


def many(count: int) -> Part:
    """`count` parts, itself counted."""
    return MultiPart(semantics=Semantics.PROCESS_ALL, parts=(HELLO,) * (count - 1))


def test_four_levels_of_parts_are_the_most():
    assert decode(encode(content(nested(4)))).part == nested(4)
    with pytest.raises(ValueError, match="nested too deeply"):
        encode(content(nested(5)))


def test_parts_nested_a_hundred_times_are_refused():
    part: object = [1, "", 1, "text/plain", b"x"]
    for _ in range(100):
        part = [1, "", 3, 2, [part, [1, "", 0]]]
    with pytest.raises(PeerMisbehaved, match="nested too deeply"):
        decode(raw(part=part))


def test_1024_parts_are_the_most():
    assert decode(encode(content(many(1024)))).part == many(1024)
    with pytest.raises(ValueError, match="too many parts"):
        encode(content(many(1025)))


REFUSED: dict[str, tuple[bytes, str]] = {
    "a topic over 4096 octets": (raw(topic=bytes(4097)), "topic id is too long"),
    "a message over a megabyte": (raw(part=[1, "", 1, "", bytes(1024 * 1024)]), "too large"),
    "an id of another hash": (raw(replaces=b"\x02" + bytes(31)), "unknown hash"),
    "a reply to an id of another hash": (raw(reply=b"\x07" + bytes(31)), "unknown hash"),
    "a short id": (raw(replaces=b"\x01" + bytes(30)), "wrong size"),
    "unknown part semantics": (raw(part=[1, "", 3, 3, [[1, "", 0], [1, "", 0]]]), "unknown way"),
    "a multipart of one part": (raw(part=[1, "", 3, 0, [[1, "", 0]]]), "unknown form"),
    "an unknown cardinality": (raw(part=[1, "", 4]), "unknown form"),
    "a disposition over 255": (raw(part=[256, "", 0]), "where a number belongs"),
    "a boolean for a number": (raw(part=[True, "", 0]), "where a number belongs"),
    "an expiry of three": (raw(expires=[True, 1, 2]), "unknown way"),
    "an expiry over 32 bits": (raw(expires=[True, 2**32]), "where a number belongs"),
    "a salt of 15 octets": (raw(salt=bytes(15)), "wrong size"),
    "text for octets": (raw(topic="topic"), "where octets belong"),
    "something behind the end": (raw() + b"\x00", "behind its end"),
    "no message": (b"", "not MIMI content"),
    "a longer array": (b"\x88" + raw()[1:] + b"\xf6", "not MIMI content"),
    "an array without an end": (b"\x9f" + raw()[1:] + b"\xff", "not MIMI content"),
    "text without an end": (raw().replace(b"\x6atext/plain", b"\x7f\x6atext/plain\xff"), "indefinite"),
    "a long form of a short length": (raw().replace(b"\x6atext/plain", b"\x78\x0atext/plain"), "shortest form"),
    "text that is not UTF-8": (raw().replace(b"text/plain", b"text/pla\xff\xff"), "not UTF-8"),
    "a tag in a part": (raw(part=[1, "", 1, cbor2.CBORTag(32, "x"), b""]), "a tag"),
    "extension keys out of order": (raw(extensions=b"\xa2\x04\xf6\x03\xf6"), "not in order"),
    "RFC 7049's order": (raw(extensions=b"\xa2\x20\xf6\x18\x30\xf6"), "not in order"),
    "an extension key twice": (raw(extensions=b"\xa2\x03\xf6\x03\xf6"), "key twice"),
    "the reserved extension key": (raw(extensions=b"\xa1\x00\xf6"), "key that none may have"),
    "an empty extension key": (raw(extensions=b"\xa1\x60\xf6"), "key that none may have"),
    "an extension key of 256 octets": (
        raw(extensions=b"\xa1\x79\x01\x00" + b"k" * 256 + b"\xf6"),
        "key that none may have",
    ),
    "octets as an extension key": (raw(extensions=b"\xa1\x41k\xf6"), "key that none may have"),
    "an extension key over 2**53": (raw(extensions=b"\xa1\x1b\x00\x20" + bytes(6) + b"\xf6"), "too large"),
    "one below -(2**53)": (raw(extensions=b"\xa1\x3b\x00\x1f" + b"\xff" * 6 + b"\xf6"), "too large"),
    "a boolean as an inner key": (raw(extensions=b"\xa1\x03\xa1\xf4\xf6"), "type that none may have"),
    "an extension of five levels": (raw(extensions=b"\xa1\x03\x81\x81\x81\x81\x01"), "nested too deeply"),
    "a sender that is no text": (raw(extensions=b"\xa1\x01\x02"), "where text belongs"),
    "a NaN of another form": (raw(extensions=b"\xa1\x03\xf9\x7e\x01"), "shortest form"),
    "a double that a half could be": (raw(extensions=b"\xa1\x03\xfb\x3f\xf0" + bytes(6)), "shortest form"),
    "a big number that is not big": (raw(extensions=b"\xa1\x03\xc2\x41\x05"), "shortest form"),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "why"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_be_sent_is_refused(octets: bytes, why: str):
    with pytest.raises(PeerMisbehaved, match=why):
        decode(octets)


def test_the_drafts_extensions_of_four_levels_are_kept_unopened():
    value = bytes.fromhex("8282421234d820726874 74703a2f2f6578616d706c652e636f6d".replace(" ", ""))
    inner = b"\x81" + value[:1] + value[2:]
    assert decode(raw(extensions=b"\xa1\x19\x01\x00" + inner)).extensions == {256: inner}


def test_a_tag_that_a_library_would_act_on_stays_octets():
    expression = b"\xd8\x23\x69" + b"(a+)+$bcd"  # RFC 8949 3.4.5.3: a regular expression
    assert decode(raw(extensions=b"\xa1\x20" + expression)).extensions == {-1: expression}


def test_an_unknown_disposition_and_an_unknown_type_are_no_offence():
    part = SinglePart(disposition=200, language="tlh", content_type="application/vnd.x", content=b"\0")
    assert decode(encode(content(part))).part == part


def test_a_message_of_the_future_is_refused():
    weigh(content(HELLO), accepted=NOW + 60_000, now=NOW)
    with pytest.raises(PeerMisbehaved, match="in the future"):
        weigh(content(HELLO), accepted=NOW + 6 * 60_000, now=NOW)


def test_a_message_from_before_its_room_is_refused():
    weigh(content(HELLO), accepted=NOW, now=NOW, room_since=NOW)
    with pytest.raises(PeerMisbehaved, match="older than its room"):
        weigh(content(HELLO), accepted=NOW - 1, now=NOW, room_since=NOW)
    with pytest.raises(PeerMisbehaved, match="older than its room"):
        weigh(content(HELLO), accepted=1, now=NOW)


@pytest.mark.parametrize(
    ("expiry", "fine"),
    [
        (Expiry(relative=True, seconds=60), True),
        (Expiry(relative=True, seconds=367 * 86400), False),
        (Expiry(relative=False, seconds=NOW // 1000 + 60), True),
        (Expiry(relative=False, seconds=NOW // 1000 - 60), True),
        (Expiry(relative=False, seconds=NOW // 1000 + 367 * 86400), False),
        (Expiry(relative=False, seconds=NOW // 1000 - 367 * 86400), False),
    ],
)
def test_an_expiry_over_a_year_away_is_refused(expiry: Expiry, fine: bool):
    message = content(HELLO, expires=expiry)
    if fine:
        weigh(message, accepted=NOW, now=NOW)
    else:
        with pytest.raises(PeerMisbehaved, match="more than a year"):
            weigh(message, accepted=NOW, now=NOW)


def test_a_message_is_of_the_sender_and_room_that_it_names():
    belongs(content(HELLO), sender_uri=ALICE, room_uri=ROOM)
    belongs(content(HELLO, extensions={}), sender_uri=BOB, room_uri=ROOM)
    with pytest.raises(PeerMisbehaved, match="another sender"):
        belongs(content(HELLO), sender_uri=BOB, room_uri=ROOM)
    with pytest.raises(PeerMisbehaved, match="another room"):
        belongs(content(HELLO), sender_uri=ALICE, room_uri=ROOM + "2")


def test_a_key_is_in_no_representation():
    part = decode(EXAMPLES["attachment"].octets).part
    assert repr(part) == "ExternalPart(content_type='video/mp4', size=708234961)"
