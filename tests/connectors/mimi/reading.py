"""The working group's example messages, and generated ones."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from hypothesis import strategies as st

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
    origin,
)

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "mimi"
ALICE = "mimi://example.com/u/alice-smith"
BOB = "mimi://example.com/u/bob-jones"
CATHY = "mimi://example.com/u/cathy-washington"
ROOM = "mimi://example.com/r/engineering_team"


class Example(msgspec.Struct, frozen=True):
    """One of the examples of draft-ietf-mimi-content, with its id."""

    name: str
    id: bytes
    octets: bytes


def examples() -> dict[str, Example]:
    raw = json.loads((VECTORS / "content.json").read_text())["messages"]
    return {
        each["name"]: Example(each["name"], bytes.fromhex(each["id"]), bytes.fromhex(each["octets"]))
        for each in raw
    }


def status_report() -> bytes:
    return bytes.fromhex(json.loads((VECTORS / "status.json").read_text())["octets"])


def content(part: Part, **more: object) -> MimiContent:
    """A message of Alice's with `part` in it."""
    base = MimiContent(salt=bytes(16), part=part, extensions=origin(ALICE, ROOM))
    return msgspec.structs.replace(base, **more)


_DISPOSITIONS = st.one_of(st.sampled_from([int(d) for d in Disposition]), st.integers(0, 255))
_SINGLE = st.builds(
    SinglePart,
    disposition=_DISPOSITIONS,
    language=st.sampled_from(["", "en", "de,fr"]),
    content_type=st.text(max_size=12),
    content=st.binary(max_size=12),
)
_LEAF: st.SearchStrategy[Part] = st.one_of(
    _SINGLE,
    st.builds(NullPart, disposition=_DISPOSITIONS),
    st.builds(
        ExternalPart,
        disposition=_DISPOSITIONS,
        content_type=st.text(max_size=8),
        url=st.text(max_size=8),
        expires=st.integers(0, 2**32 - 1),
        size=st.integers(0, 2**64 - 1),
        encryption=st.integers(0, 2**16 - 1),
        key=st.binary(max_size=16),
        hash_algorithm=st.integers(0, 255),
        filename=st.text(max_size=8),
    ),
)


def parts(depth: int = 4) -> st.SearchStrategy[Part]:
    """Parts of all kinds, nested `depth` levels deep at most."""
    if depth == 1:
        return _LEAF
    return st.one_of(
        _LEAF,
        st.builds(
            MultiPart,
            semantics=st.sampled_from(Semantics),
            parts=st.lists(parts(depth - 1), min_size=2, max_size=3).map(tuple),
        ),
    )


_IDS = st.none() | st.binary(min_size=31, max_size=31).map(lambda rest: b"\x01" + rest)
messages = st.builds(
    MimiContent,
    salt=st.binary(min_size=16, max_size=16),
    part=parts(),
    replaces=_IDS,
    topic=st.binary(max_size=40),
    expires=st.none() | st.builds(Expiry, st.booleans(), st.integers(0, 2**32 - 1)),
    in_reply_to=_IDS,
    extensions=st.dictionaries(
        st.one_of(st.integers(-(2**53) + 1, -1), st.integers(3, 2**53 - 1), st.text(min_size=1, max_size=20)),
        st.sampled_from([b"\xf6", b"\x01", b"\x82\x01\x02", b"\xd8\x20\x61a", b"\xa1\x41x\xf9\x3c\x00"]),
        max_size=4,
    ),
)
