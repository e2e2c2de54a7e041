"""Every body and component: examples octet for octet, there and back, and damaged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.wire import components, mls, policies, rooms, users
from connectors.mimi.wire.rooms import UnknownProtocol
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.tls import Codec
from tests.connectors.mimi.wire.generating import values

CODECS: dict[str, Codec[Any]] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": codec
    for module in (mls, components, rooms, users, policies)
    for name, codec in vars(module).items()
    if isinstance(codec, Codec) and name.isupper() and not name.startswith("_") and len(name) > 4
}
ALICE, BOB = "mimi://a.example/u/alice", "mimi://b.example/u/bob"
PRIVATE = mls.PrivateMessage(b"g", 3, mls.ContentType.APPLICATION, b"", b"sd", b"ct")
PRIVATE_OCTETS = "0001 0002 01 67 0000000000000003 01 00 02 7364 02 6374"
SELF_REMOVE = mls.PublicMessage(b"g", 3, mls.MemberSender(1), b"", mls.SelfRemove(), b"s", None, b"m")
SELF_REMOVE_OCTETS = "0001 0001 01 67 0000000000000003 01 00000001 00 02 000a 01 73 01 6d"


def octets(text: str) -> bytes:
    """Hex with spaces, and text in quotes."""
    out = bytearray()
    for index, piece in enumerate(text.split('"')):
        out += piece.encode() if index % 2 else bytes.fromhex(piece)
    return bytes(out)


EXAMPLES: list[tuple[Codec[Any], Any, str]] = [
    # Another implementer's reading of the drafts.
    (rooms.SUBMIT_RESPONSE, rooms.Accepted(0x0102030405060708, None), "0100 0102030405060708 00"),
    (rooms.SUBMIT_RESPONSE, rooms.Refused(), "0101"),
    (rooms.SUBMIT_RESPONSE, rooms.EpochTooOld(42), "0102 000000000000002a"),
    (rooms.UPDATE_RESPONSE, rooms.Updated("", 0x0102030405060708), "00 00 0102030405060708"),
    (users.IDENTIFIER_RESPONSE, users.IdentifierResponse(users.QueryCode.NOT_FOUND), "01000000"),
    (
        users.CONSENT_ENTRY,
        users.ConsentEntry(users.ConsentOperation.REQUEST, ALICE, BOB),
        f'01 18 "{ALICE}" 16 "{BOB}" 00 00',
    ),
    (
        components.PARTICIPANT_UPDATE,
        components.ParticipantUpdate(added=(components.Participant("mimi://h/u/a", 2),)),
        "0000110c6d696d693a2f2f682f752f6100000002",
    ),
    (components.PARTICIPANT_UPDATE, components.ParticipantUpdate(removed=(0,)), "00040000000000"),
    (
        components.PARTICIPANT_UPDATE,
        components.ParticipantUpdate(changed=(components.RoleChange(0, 3),)),
        "0800000000000000030000",
    ),
    # Our own.
    (rooms.UPDATE_RESPONSE, rooms.WrongEpoch("late", 9), '01 04 "late" 0000000000000009'),
    (rooms.UPDATE_RESPONSE, rooms.NotAllowed(""), "0200"),
    (rooms.UPDATE_RESPONSE, rooms.InvalidProposal("", (b"ab",)), "03 00 03 02 6162"),
    (mls.MLS_MESSAGE, PRIVATE, PRIVATE_OCTETS),
    (mls.MLS_MESSAGE, SELF_REMOVE, SELF_REMOVE_OCTETS),
    (
        mls.PROPOSAL,
        mls.AppDataUpdate(0x22, mls.ComponentUpdate(b"u")),
        "0008 0022 01 01 75",
    ),
    (mls.PROPOSAL, mls.AppDataUpdate(0x22, mls.ComponentRemoval()), "0008 0022 02"),
    (rooms.SUBMIT_REQUEST, rooms.SubmitRequest(PRIVATE, BOB), f'01 {PRIVATE_OCTETS} 16 "{BOB}"'),
    (
        rooms.FANOUTS,
        (rooms.ApplicationFanout(5, PRIVATE, None), rooms.ProposalFanout(6, SELF_REMOVE, (SELF_REMOVE,))),
        f"0000000000000005 {PRIVATE_OCTETS} 00 0000000000000006 {SELF_REMOVE_OCTETS} 1b {SELF_REMOVE_OCTETS}",
    ),
    (rooms.UPDATE_REQUEST, rooms.ProposalBundle(SELF_REMOVE), f"{SELF_REMOVE_OCTETS} 00"),
    (rooms.TREE_OPTION, rooms.TreeOfService(), "04"),
    (rooms.GROUP_INFO_OPTION, rooms.PartialGroupInfo(0, (), b"s"), "02 00 00 0173"),
    (rooms.GROUP_INFO_RESPONSE, rooms.NoSuchRoom(b"r"), "01 0172 03"),
    (
        users.IDENTIFIER_REQUEST,
        users.IdentifierRequest((users.Nick("bob"), users.OidcClaim("a", "b"))),
        "0a 02 03 626f62 07 0161 0162 00",
    ),
    (
        components.APPLICATION_FRAMING,
        components.ApplicationFraming(
            components.MediaType("text/plain", (components.Parameter("charset", "UTF-8"),)), b"x"
        ),
        '0a "text/plain" 0e 07 "charset" 05 "UTF-8" 01 78',
    ),
    (policies.STATUS_NOTIFICATION_POLICY, policies.StatusNotificationPolicy(), "0000"),
    (policies.BASE_ROOM_POLICY, policies.BaseRoomPolicy(max_users=2), "00 00 00 01 00 01 00000002 00 01 00 00"),
    (policies.HISTORY_POLICY, policies.Forbidden(), "02"),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "value", "text"), EXAMPLES)
def test_examples_are_read_and_written_octet_for_octet(codec: Codec[Any], value: Any, text: str):
    assert codec.encode(value).hex() == octets(text).hex()
    assert codec.decode(octets(text)) == value


@pytest.mark.parametrize("name", CODECS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_what_is_written_is_read_back_and_damage_is_told(name: str, data: st.DataObject):
    codec = CODECS[name]
    value = data.draw(values(codec))
    written = codec.encode(value)
    assert codec.decode(written) == value
    if not written:
        return
    at = data.draw(st.integers(0, len(written) - 1))
    for damaged in (
        written[:at],
        written + b"\x00",
        written[:at] + bytes((written[at] ^ 1 << at % 8,)) + written[at + 1 :],
        written[:at] + written[at + 1 :],
    ):
        try:
            read = codec.decode(damaged)
        except PeerMisbehaved:
            continue
        assert codec.encode(read) == damaged


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=120))
def test_any_octets_raise_nothing_but_peer_misbehaved(name: str, raw: bytes):
    try:
        read = CODECS[name].decode(raw)
    except PeerMisbehaved:
        return
    assert CODECS[name].encode(read) == raw


def test_all_bodies_of_the_protocol_are_there():
    assert {
        "users.KEY_MATERIAL_REQUEST",
        "users.KEY_MATERIAL_RESPONSE",
        "rooms.UPDATE_REQUEST",
        "rooms.UPDATE_RESPONSE",
        "rooms.SUBMIT_REQUEST",
        "rooms.SUBMIT_RESPONSE",
        "rooms.FANOUTS",
        "rooms.GROUP_INFO_REQUEST",
        "rooms.GROUP_INFO_RESPONSE",
        "rooms.GROUP_INFO_AND_TREE",
        "users.CONSENT_ENTRY",
        "users.IDENTIFIER_REQUEST",
        "users.IDENTIFIER_RESPONSE",
        "users.ABUSE_REPORT",
    } <= set(CODECS)


@pytest.mark.parametrize(
    "codec", [users.KEY_MATERIAL_REQUEST, rooms.SUBMIT_REQUEST, rooms.GROUP_INFO_REQUEST]
)
def test_another_end_to_end_protocol_is_told_apart_from_rubbish(codec: Codec[Any]):
    with pytest.raises(UnknownProtocol):
        codec.decode(b"\x02" + bytes(20))


def test_another_version_of_mls_is_refused():
    with pytest.raises(PeerMisbehaved, match="version of MLS"):
        mls.MLS_MESSAGE.decode(octets("0002" + PRIVATE_OCTETS[4:]))


@pytest.mark.parametrize("kind", [2, 3])
def test_a_private_handshake_is_no_application_message(kind: int):
    handshake = mls.MLS_MESSAGE.encode(mls.PrivateMessage(b"g", 3, mls.ContentType(kind), b"", b"", b""))
    with pytest.raises(PeerMisbehaved, match="something else than an application message"):
        rooms.SUBMIT_REQUEST.decode(b"\x01" + handshake + b"\x00")
    with pytest.raises(PeerMisbehaved, match="not fanned out"):
        rooms.FANOUTS.decode(bytes(8) + handshake + b"\x00")
    with pytest.raises(PeerMisbehaved, match="no public handshake"):
        rooms.UPDATE_REQUEST.decode(handshake + b"\x00")


def test_public_application_data_is_refused():
    """RFC 9420 6.2: application messages are never sent as PublicMessage."""
    with pytest.raises(PeerMisbehaved, match="no handshake"):
        mls.MLS_MESSAGE.decode(octets("0001 0001 01 67 0000000000000003 01 00000001 00 01 0161 0173 016d"))


def test_components_are_sorted_and_there_once():
    for raw in ("06 0002 00 0001 00", "06 0001 00 0001 00"):
        with pytest.raises(PeerMisbehaved, match="not in order"):
            components.SAFE_AAD.decode(octets(raw))


def test_a_signature_is_over_all_the_rest():
    request = rooms.GroupInfoRequest(1, b"key", mls.BasicCredential(b"id"), b"hpke", b"code", b"signature")
    signed = rooms.GROUP_INFO_REQUEST.encode(request)
    assert to_be_signed(request) == signed[: -len(b"signature") - 1]
    claim = users.KeyMaterialRequest(
        ALICE, BOB, "", (1,), mls.RequiredCapabilities((), (), ()), b"key", mls.BasicCredential(b"id"), b"s"
    )
    assert to_be_signed(claim) == users.KEY_MATERIAL_REQUEST.encode(claim)[:-2]
