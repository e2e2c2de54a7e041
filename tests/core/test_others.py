"""Rooms that another bridge has linked to the same chat."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.ids import PersonId
from bridgekit.core import wording
from bridgekit.core.others import BRIDGE_TYPES, bridged_already

ME = PersonId("@bot:example.org")
OTHER = "@otherbot:example.org"
NAMES = frozenset({"#lobby"})


def member(user: str, membership: str = "join") -> dict[str, Any]:
    return {"type": "m.room.member", "state_key": user, "sender": user, "content": {"membership": membership}}


def bridge(bot: str = OTHER, chat: str = "#Lobby", type: str = "m.bridge") -> dict[str, Any]:
    return {
        "type": type,
        "state_key": "x",
        "sender": bot,
        "content": {"bridgebot": bot, "channel": {"id": chat}},
    }


@pytest.mark.parametrize("type", sorted(BRIDGE_TYPES))
def test_a_room_that_another_bridge_has_linked_to_the_chat_is_refused_with_a_reason(type: str):
    state = [member(OTHER), bridge(type=type)]
    assert bridged_already(state, ME, names=NAMES) == wording.bridged_already("#Lobby", OTHER)


@pytest.mark.parametrize(
    "state",
    [
        [],
        [bridge()],
        [member(OTHER, "leave"), bridge()],
        [member(ME), bridge(ME)],
        [member(OTHER), bridge(chat="#elsewhere")],
        [member(OTHER), {"type": "m.bridge", "state_key": "x", "sender": OTHER, "content": {}}],
    ],
)
def test_a_bridge_that_is_gone_or_ours_or_elsewhere_is_no_reason(state: list[dict[str, Any]]):
    assert bridged_already(state, ME, names=NAMES) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("type state_key sender content".split()),
            st.sampled_from([*BRIDGE_TYPES, OTHER, None, 5, {}, {"channel": 5}, {"channel": {"id": 5}}]),
        )
    )
)
def test_whatever_stands_in_a_room_it_is_read(state: list[dict[str, Any]]):
    assert bridged_already(state, ME, names=NAMES) is None
