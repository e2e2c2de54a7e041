"""Whatever a bridge sends, the fake answers like a homeserver and never with a bug of its own."""

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgekit.testing.homeserver import FakeHomeserver, Namespace, Namespaces, Registration
from bridgekit.testing.homeserver.http import Request

BOT, ANN = "@bot:hs.test", "@_bk_ann:hs.test"
KEYS = (
    "type username inhibit_login user_id reason room_id redacts membership displayname avatar_url typing timeout "
    "presence visibility preset room_alias_name room_version creation_content initial_state invite name topic "
    "is_direct content power_level_content_override users events state_default users_default events_default ban "
    "kick join_rule allow alias alt_aliases m.relates_to event_id rel_type key new_version transaction_id m.read "
    "m.fully_read thread_id additional_creators state_key"
).split()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from(
        ["", "x", "join", "leave", "ban", "invite", "public", "12", "11", "restricted", BOT, ANN]
    )
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=7)
TYPES = [
    "m.room.message",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.canonical_alias",
]
TYPES += ["m.room.create", "m.room.redaction", "m.room.history_visibility", "m.room.tombstone", "m.room.name"]
PATHS = st.sampled_from(
    [
        ("POST", "createRoom"),
        ("POST", "register"),
        ("POST", "join/{room}"),
        ("POST", "rooms/{room}/invite"),
        ("POST", "rooms/{room}/kick"),
        ("POST", "rooms/{room}/ban"),
        ("POST", "rooms/{room}/unban"),
        ("POST", "rooms/{room}/leave"),
        ("POST", "rooms/{room}/upgrade"),
        ("POST", "rooms/{room}/read_markers"),
        ("POST", "rooms/{room}/receipt/m.read/{event}"),
        ("PUT", "rooms/{room}/send/{type}/{any}"),
        ("PUT", "rooms/{room}/redact/{event}/{any}"),
        ("PUT", "rooms/{room}/state/{type}"),
        ("PUT", "rooms/{room}/state/{type}/{user}"),
        ("PUT", "rooms/{room}/typing/{user}"),
        ("GET", "rooms/{room}/messages"),
        ("GET", "rooms/{room}/relations/{event}"),
        ("GET", "rooms/{room}/members"),
        ("GET", "rooms/{room}/joined_members"),
        ("PUT", "profile/{user}/{any}"),
        ("PUT", "profile/{user}/displayname"),
        ("PUT", "directory/room/%23_bk_x:hs.test"),
        ("DELETE", "directory/room/%23_bk_x:hs.test"),
        ("PUT", "directory/list/room/{room}"),
        ("PUT", "presence/{user}/status"),
        ("PUT", "devices/{any}"),
    ]
)
CALLS = st.lists(
    st.tuples(
        PATHS,
        BODIES,
        st.sampled_from(["", BOT, ANN]),
        st.sampled_from(TYPES),
        st.text(min_size=1, max_size=4),
        st.dictionaries(
            st.sampled_from(["from", "limit", "dir", "filter", "ts", "format"]),
            st.text(max_size=6),
            max_size=2,
        ),
    ),
    min_size=1,
    max_size=25,
)


@given(CALLS)
@settings(max_examples=60, deadline=None)
def test_no_call_finds_a_bug(calls: list[Any]) -> None:
    asyncio.run(_make(calls))


async def _make(calls: list[Any]) -> None:
    users = (Namespace(regex="@_bk_.*"),)
    spaces = Namespaces(users=users, aliases=(Namespace(regex="#_bk_.*"),))
    registration = Registration(
        id="b", as_token="as", hs_token="hs", sender_localpart="bot", namespaces=spaces
    )
    async with FakeHomeserver(registration) as hs:
        hs.world.register(ANN)
        room = hs.world.create_room(BOT, {"preset": "public_chat"}).room_id
        for (method, pattern), body, user, type, anything, query in calls:
            words = {
                "room": room,
                "event": hs.world.stream[-1].event_id,
                "user": ANN,
                "type": type,
                "any": anything,
            }
            path = pattern.format(**{key: quote(value, safe="") for key, value in words.items()})
            named = {**query, **({"user_id": user} if user else {})}
            query_string = "&".join(f"{key}={quote(value)}" for key, value in named.items())
            headers = [(b"Authorization", b"Bearer as")]
            content = msgspec.json.encode(body)
            answer = hs.app(
                Request(method, f"/_matrix/client/v3/{path}", query_string, headers, content, True)
            )
            response = answer if isinstance(answer, bytes) else await answer
            assert response.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), (method, path, body, hs.crashes)
