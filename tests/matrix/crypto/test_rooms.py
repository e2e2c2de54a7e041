"""When a session has had its day, and who needs its key."""

from __future__ import annotations

import pytest

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto.devices import Device
from bridgekit.matrix.crypto.rooms import HOUR_MS, WEEK_MS, Settings, has_lost, is_over, settings, without
from bridgekit.store.keys import Outbound, SharedWith

MEGOLM = "m.megolm.v1.aes-sha2"


def session(made: int = 0, sent: int = 0) -> Outbound:
    return Outbound(
        room=ChatId("!r:x"), sender=PersonId("@g:x"), session="s", pickle="", made=made, sent=sent
    )


def device(id: str = "A", key: str = "") -> Device:
    key = key or f"curve of {id}"
    return Device(user=PersonId("@ann:x"), id=id, curve25519=key, ed25519="ed", cross_signed=True)


def row(id: str = "A", position: int = 0, key: str = "") -> SharedWith:
    key = key or f"curve of {id}"
    return SharedWith(session="s", user=PersonId("@ann:x"), device=id, key=key, position=position)


@pytest.mark.parametrize(
    ("period", "messages", "found"),
    [
        (None, None, (WEEK_MS, 100)),
        (2 * HOUR_MS, 7, (2 * HOUR_MS, 7)),
        (1, 0, (HOUR_MS, 1)),
        ("1", True, (WEEK_MS, 100)),
        (10**15, 10**9, (52 * WEEK_MS, 10_000)),
    ],
)
def test_the_rooms_settings_count_within_bounds(
    period: object, messages: object, found: tuple[int, int]
) -> None:
    content = {"algorithm": MEGOLM, "rotation_period_ms": period, "rotation_period_msgs": messages}
    assert settings(content) == Settings(MEGOLM, *found)


def test_only_megolm_is_known() -> None:
    assert settings({"algorithm": MEGOLM}).supported
    assert not settings({}).supported
    assert not settings({"algorithm": ["x"]}).supported


def test_a_session_is_over_by_its_age_its_messages_or_a_clock_that_went_back() -> None:
    room = Settings(MEGOLM, 1000, 5)
    assert not is_over(session(made=100, sent=4), 1099, room)
    assert is_over(session(made=100), 1100, room)
    assert is_over(session(made=100, sent=5), 100, room)
    assert is_over(session(made=100), 99, room)


def test_whoever_has_the_key_and_may_not_read_on_ends_it() -> None:
    assert not has_lost([row("A")], [device("A"), device("B")])
    assert has_lost([row("A"), row("B")], [device("A")])
    assert has_lost([row("A")], [device("A", key="another")])
    assert not has_lost([row("B", position=-1)], [device("A")])  # it never had the key


def test_who_lacks_the_key_is_who_has_not_had_it() -> None:
    shared = [row("A"), row("B", position=-1)]
    everybody = [device("A"), device("B"), device("C")]
    assert without(shared, everybody, told=False) == [device("B"), device("C")]
    assert without(shared, everybody, told=True) == [device("C")]
