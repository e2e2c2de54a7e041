"""Message status reports (draft-mahy-mimi-message-status-01)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.messages.status import Report, Status, decode, encode
from tests.connectors.mimi.reading import examples, status_report

ID = b"\x01" + bytes(31)


def test_the_drafts_example_is_read_and_written_octet_for_octet():
    ids = {name: example.id for name, example in examples().items()}
    reports = decode(status_report())
    assert reports == [
        Report(ids["original"], Status.READ),
        Report(ids["reply"], Status.READ),
        Report(ids["mention"], Status.UNREAD),
        Report(ids["expiring"], Status.EXPIRED),
    ]
    assert encode(reports) == status_report()


def test_a_status_of_the_future_is_kept():
    assert decode(encode([Report(ID, 200)])) == [Report(ID, 200)]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x01",
        b"\x81\x01",
        b"\x81\x82\x41\x01\x02",
        b"\x81\x82\x58\x20" + ID + b"\xf5",
        b"\x81\x82\x58\x20" + ID + b"\x19\x01\x00",
        b"\x81\x82\x58\x20\x02" + bytes(31) + b"\x02",
        b"\x80\x00",
        b"\x9f\xff",
    ],
)
def test_what_is_no_report_is_refused(octets: bytes):
    with pytest.raises(PeerMisbehaved):
        decode(octets)


@given(st.binary(max_size=80))
def test_any_octets_raise_nothing_but_peer_misbehaved(octets: bytes):
    try:
        reports = decode(octets)
    except PeerMisbehaved:
        return
    assert encode(reports) == octets
