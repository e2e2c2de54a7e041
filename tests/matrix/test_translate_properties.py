"""Whatever a stranger sends as an event: it is a fact, or nothing, or the peer's fault."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix import translate
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable

ROOM = ChatId("!room:example.org")
ALICE = PersonId("@alice:example.org")
BOB = PersonId("@bob:example.org")
NAMES = {ALICE: "Alice", BOB: "Bob"}
MXC = "mxc://example.org/abc"

Json = dict[str, Any]


def names(room: ChatId, user: PersonId) -> str:
    return NAMES.get(user, "")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(
    "m.room.message m.sticker m.reaction m.room.redaction m.room.member m.room.topic m.room.name m.room.avatar "
    "m.poll.start org.matrix.msc3381.poll.start m.room.power_levels m.room.encrypted".split()
)
STRINGS = st.sampled_from(
    [
        "",
        "x",
        "> <@a:b> x\n\ny",
        ALICE,
        "$e",
        MXC,
        "m.text",
        "m.image",
        "m.location",
        "geo:1,2",
        "m.replace",
        "m.thread",
        "join",
        "leave",
        "org.matrix.custom.html",
        '<a href="https://matrix.to/#/@a:b">x',
    ]
)
FIELDS = (
    "msgtype body format formatted_body filename url file info geo_uri m.relates_to m.mentions m.new_content rel_type "
    "event_id key is_falling_back m.in_reply_to user_ids membership displayname avatar_url reason topic m.topic m.text "
    "redacts name mimetype size w h duration prev_content redacted_because m.read ts"
).split()
CONTENT = st.recursive(
    STRINGS | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "type": TYPES,
            "room_id": st.just(ROOM),
            "sender": st.just(ALICE) | st.just(BOB),
            "event_id": st.just("$e"),
            "origin_server_ts": st.just(1) | JSON,
            "content": st.dictionaries(st.sampled_from(FIELDS), CONTENT, max_size=6) | CONTENT,
        },
        optional={"state_key": st.none() | st.just(BOB) | JSON, "unsigned": CONTENT, "redacts": JSON},
    )
    | JSON
)
@example(
    {
        "type": "m.room.message",
        "content": {"body": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": "$"}},
    }
)
def test_any_json_is_a_fact_or_nothing_or_the_peers_fault(raw: object) -> None:
    """A fuzz test. A fact must also survive the way to disk and back."""
    try:
        found = translate.fact(json.dumps(raw).encode(), names)
    except PeerMisbehaved:
        return
    if found is not None and not isinstance(found, StateChanged | Encrypted | Unreadable):
        assert facts.decode(facts.encode(found)) == found


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_the_peers_fault_at_worst(raw: bytes) -> None:
    assert translate.ephemeral(raw, {}) == []
    translate.event_id(raw)
    with pytest.raises(PeerMisbehaved):
        translate.fact(raw, names)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["m.typing", "m.receipt"]),
            "room_id": st.just(ROOM) | JSON,
            "content": CONTENT,
        },
    )
)
def test_any_ephemeral_json_is_facts_or_nothing(raw: object) -> None:
    for found in translate.ephemeral(json.dumps(raw).encode(), {}):
        assert facts.decode(facts.encode(found)) == found
