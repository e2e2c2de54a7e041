"""Which words were said while a room was too open: by the setting that held when each was sent."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from bridgekit.contract.ids import PersonId
from bridgekit.contract.policy import Exposure
from bridgekit.core.corrections import exceeds
from bridgekit.core.exposed import LookBack
from bridgekit.core.exposure import OPEN, SECRET, Bound

GHOST, ALICE = "@_bk_town_bob:hs.test", "@alice:hs.test"
LEVELS = {
    "joined": Exposure.JOINED,
    "invited": Exposure.INVITED,
    "shared": Exposure.SHARED,
    "world_readable": Exposure.WORLD_READABLE,
}


def word(id: str, sender: str = GHOST) -> dict[str, Any]:
    return {"type": "m.room.message", "event_id": id, "sender": sender, "content": {"body": id}}


def setting(value: str, before: str | None = None) -> dict[str, Any]:
    event = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": value}}
    return {**event, "unsigned": {"prev_content": {"history_visibility": before}}} if before else event


def found(*oldest_first: dict[str, Any], bound: Exposure = Exposure.JOINED) -> list[str]:
    look_back = LookBack(bound, lambda who: bound if who == PersonId(GHOST) else None)
    look_back.read(reversed(oldest_first))
    if not look_back.done:
        look_back.end()
    return [str(one.event) for one in reversed(look_back.found)]


def test_what_was_said_between_the_opening_and_the_correction_is_found_and_nothing_else():
    timeline = (
        setting("joined", "shared"),
        word("before"),
        setting("world_readable", "joined"),
        word("one"),
        word("alice's own", ALICE),
        word("two"),
        setting("joined", "world_readable"),
        word("after"),
    )
    assert found(*timeline) == ["one", "two"]
    assert found(*timeline, bound=Exposure.WORLD_READABLE) == []


def test_a_room_that_was_opened_twice_before_it_was_closed_is_read_to_the_first_time():
    timeline = (
        setting("joined"),
        word("before"),
        setting("shared", "joined"),
        word("one"),
        setting("world_readable", "shared"),
        word("two"),
        setting("joined", "world_readable"),
    )
    assert found(*timeline) == ["one", "two"]


def test_a_homeserver_that_does_not_tell_what_was_before_is_read_further_back():
    timeline = (
        setting("joined"),
        word("before"),
        setting("world_readable"),
        word("one"),
        setting("joined"),
        word("after"),
    )
    assert found(*timeline) == ["one"]


def test_where_nothing_was_ever_set_the_room_was_shared():
    assert found(word("one")) == ["one"]
    assert found(word("one"), bound=Exposure.SHARED) == []


@given(
    st.lists(st.sampled_from([*LEVELS, "word"]), max_size=30),
    st.sampled_from(list(LEVELS.values())),
    st.booleans(),
)
@example(["joined", "word", "world_readable", "word", "joined", "word"], Exposure.JOINED, False)
@example(["invited", "word", "joined", "joined"], Exposure.JOINED, True)
@example(["shared", "word", "invited", "joined"], Exposure.INVITED, True)
def test_however_often_it_was_opened_and_closed_the_last_opening_is_found_whole(
    timeline: list[str], bound: Exposure, told: bool
):
    """Against the plain definition: each word's setting is the one before it; read back to where all was well."""
    events: list[dict[str, Any]] = []
    now = "joined"
    events.append(setting(now))
    over: list[str] = []
    for place, what in enumerate(timeline):
        if what == "word":
            events.append(word(f"w{place}"))
            if LEVELS[now] > bound:
                over.append(f"w{place}")
        else:
            events.append(setting(what, now if told else None))
            if LEVELS[now] <= bound < LEVELS[what]:
                over.clear()  # an opening: an earlier one was looked through when it was closed
            now = what
    got = found(*events, bound=bound)
    assert not set(got) - {e["event_id"] for e in events if "event_id" in e}
    if told and LEVELS[now] <= bound:
        assert set(got) >= set(over)
    for id in got:  # nothing is taken back that was sent while all was well
        place = int(id[1:])
        held = next((w for w in reversed(timeline[:place]) if w != "word"), "joined")
        assert LEVELS[held] > bound


def test_a_piece_of_state_exceeds_only_what_it_speaks_of():
    history = {"history_visibility": "world_readable"}
    assert exceeds("m.room.history_visibility", history, SECRET)
    assert not exceeds("m.room.history_visibility", history, OPEN)
    assert not exceeds("m.room.history_visibility", {"history_visibility": "joined"}, SECRET)
    assert exceeds("m.room.history_visibility", {}, SECRET)  # the specification: shared
    assert exceeds("m.room.history_visibility", {"history_visibility": ["?"]}, Bound(history=Exposure.SHARED))
    assert exceeds("m.room.join_rules", {"join_rule": "public"}, SECRET)
    assert exceeds("m.room.guest_access", {"guest_access": "can_join"}, SECRET)
    assert exceeds("m.room.canonical_alias", {"alias": "#a:hs.test"}, SECRET)
    assert not exceeds("m.room.power_levels", {"users_default": 100}, SECRET)
