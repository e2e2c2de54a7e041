"""The ledger: every way in which messages go wrong is told apart."""

import pytest

from bridgekit.testing.ledger import Ledger, Marker, Report, find_marker, marker


def said(ledger: Ledger, *ids: str, room: str = "") -> None:
    for id in ids:
        found = find_marker(id)
        assert found is not None
        ledger.sent(id, f"u{found.speaker}", found.seq, at=float(found.seq), room=room)


def heard(ledger: Ledger, *ids: str, start: float = 10.0) -> None:
    for number, id in enumerate(ids):
        found = find_marker(id)
        assert found is not None
        ledger.received(id, f"u{found.speaker}", found.seq, start + number)


A = [marker(1, number) for number in range(4)]
B = [marker(2, number) for number in range(4)]


def test_a_marker_is_found_in_any_text() -> None:
    assert marker(3, 123) == "s03-000123"
    assert find_marker("<b>s03-000123</b> hello") == Marker("s03-000123", 3, 123)
    assert find_marker("* s123-1234567!") == Marker("s123-1234567", 123, 1234567)
    assert find_marker("xs03-000123") is None
    assert find_marker("nothing") is None


def test_what_arrives_once_and_in_order_is_clean() -> None:
    ledger = Ledger()
    said(ledger, A[0], B[0], A[1], B[1])
    heard(ledger, A[0], B[0], A[1], B[1])
    report = ledger.report()
    assert report.clean
    assert (report.sent, report.arrived, report.unexplained, report.late_within_room) == (4, 4, 0, 0)
    assert (report.p50, report.worst) == (11.0, 12.0)
    assert report.examples == {}


def test_a_lost_message_is_unexplained_unless_it_was_reported() -> None:
    ledger = Ledger()
    said(ledger, *A)
    heard(ledger, A[0])
    ledger.uncertain(A[1])
    ledger.failed(A[2])
    report = ledger.report()
    assert (report.lost, report.accounted, report.unexplained) == (3, 2, 1)
    assert ledger.missing() == [A[3]]
    assert not report.clean


def test_a_doubled_message_is_unexplained_unless_it_was_uncertain() -> None:
    ledger = Ledger()
    said(ledger, *A)
    heard(ledger, A[0], A[0], A[0], A[1], A[1], A[2], A[3])
    ledger.uncertain(A[1])
    report = ledger.report()
    assert (report.doubled, report.accounted, report.unexplained, report.arrived) == (3, 1, 1, 4)
    assert report.late_within_sender == 0, "a second copy is no lateness"


def test_lateness_is_told_apart_within_the_sender_and_within_the_room() -> None:
    ledger = Ledger()
    said(ledger, A[0], B[0], A[1], B[1])
    heard(ledger, B[0], A[0], B[1], A[1])
    assert (ledger.report().late_within_sender, ledger.report().late_within_room) == (0, 2)
    ledger = Ledger()
    said(ledger, A[0], A[1], A[2])
    heard(ledger, A[2], A[0], A[1])
    assert (ledger.report().late_within_sender, ledger.report().late_within_room) == (2, 2)


def test_rooms_do_not_make_each_other_late() -> None:
    ledger = Ledger()
    said(ledger, A[0], room="one")
    said(ledger, B[0], room="two")
    heard(ledger, B[0], A[0])
    assert ledger.report().late_within_room == 0


def test_arrivals_are_judged_by_their_time_and_not_by_the_order_of_telling() -> None:
    ledger = Ledger()
    said(ledger, A[0], A[1])
    heard(ledger, A[1], start=20.0)
    heard(ledger, A[0], start=10.0)
    assert ledger.report().late_within_sender == 0


def test_strangers_and_wrong_names_are_unexplained() -> None:
    ledger = Ledger()
    said(ledger, A[0])
    ledger.received(A[0], "somebody else", 0, 1.0)
    ledger.received("s09-000009", "u9", 9, 2.0)
    report = ledger.report()
    assert (report.strangers, report.misattributed, report.unexplained) == (1, 1, 2)


def test_what_was_reported_as_failed_must_not_arrive() -> None:
    ledger = Ledger()
    said(ledger, A[0])
    heard(ledger, A[0])
    ledger.failed(A[0])
    assert ledger.report().unexplained == 1


def test_an_id_is_sent_once() -> None:
    ledger = Ledger()
    said(ledger, A[0])
    with pytest.raises(ValueError, match="s01-000000"):
        said(ledger, A[0])


def test_a_report_reads_as_a_sentence() -> None:
    ledger = Ledger()
    said(ledger, *A)
    heard(ledger, A[0], A[1], A[1])
    assert str(ledger.report()).splitlines() == [
        "sent 4, arrived 2: lost 2, doubled 1, of these accounted for 0; strangers 0, misattributed 0; "
        "late within sender 0, within room 0; unexplained 3",
        "latency p50 10000.0 ms, p99 10000.0 ms, worst 10000.0 ms",
        "doubled: s01-000001",
        "lost: s01-000002, s01-000003",
    ]
    assert isinstance(ledger.report(), Report)
