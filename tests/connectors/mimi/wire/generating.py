"""Values for a codec, found by looking into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from connectors.mimi.wire import components, mls, rooms, tls, users

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def values(codec: tls.Codec[Any]) -> st.SearchStrategy[Any]:
    """Anything that `codec` can write."""
    for kind, make in _KINDS.items():
        if isinstance(codec, kind):
            return make(codec)
    raise TypeError(f"no values for {type(codec).__name__}")


def _struct(codec: tls._Struct[Any]) -> st.SearchStrategy[Any]:
    return st.builds(codec.kind, *[values(field) for _, field in codec.fields])


def _choice(codec: Any) -> st.SearchStrategy[Any]:
    return st.one_of([values(variant) for variant in codec._variants.values()])


def _vector(codec: tls._Vector[Any]) -> st.SearchStrategy[Any]:
    items = st.deferred(lambda: values(codec._item))
    return st.lists(items, min_size=codec._least, max_size=codec._least + 2).map(tuple)


def _public(codec: object) -> st.SearchStrategy[mls.PublicMessage]:
    return st.one_of(_handshakes(mls.PROPOSAL), _handshakes(mls.COMMIT))


def _handshakes(content: tls.Codec[Any]) -> st.SearchStrategy[mls.PublicMessage]:
    def build(sender: mls.Sender, body: Any, octets: bytes) -> mls.PublicMessage:
        commit, member = isinstance(body, mls.Commit), isinstance(sender, mls.MemberSender)
        return mls.PublicMessage(
            b"group", 7, sender, octets, body, b"s", b"c" if commit else None, octets if member else None
        )

    return st.builds(build, values(mls.SENDER), values(content), st.binary(max_size=70))


def _private() -> st.SearchStrategy[mls.PrivateMessage]:
    return values(mls.PRIVATE_MESSAGE).map(
        lambda m: mls.PrivateMessage(
            m.group_id, m.epoch, mls.ContentType.APPLICATION, m.authenticated_data, b"", b""
        )
    )


def _proposals() -> st.SearchStrategy[tuple[mls.PublicMessage, ...]]:
    return st.lists(_handshakes(mls.PROPOSAL), max_size=2).map(tuple)


def _update(codec: object) -> st.SearchStrategy[rooms.UpdateRequest]:
    return st.one_of(
        st.builds(
            rooms.CommitBundle,
            _handshakes(mls.COMMIT),
            st.none() | values(mls.WELCOME),
            values(rooms.GROUP_INFO_OPTION),
            values(rooms.TREE_OPTION),
        ),
        st.builds(rooms.ProposalBundle, _handshakes(mls.PROPOSAL), _proposals()),
    )


def _fanout(codec: object) -> st.SearchStrategy[rooms.Fanout]:
    times = st.integers(0, 2**64 - 1)
    return st.one_of(
        st.builds(rooms.ApplicationFanout, times, _private(), st.none() | values(rooms.FRANK)),
        st.builds(rooms.WelcomeFanout, times, values(mls.WELCOME), values(rooms.TREE_OPTION)),
        st.builds(rooms.ProposalFanout, times, _handshakes(mls.PROPOSAL), _proposals()),
        st.builds(rooms.CommitFanout, times, _handshakes(mls.COMMIT), _proposals()),
    )


def _consent(codec: object) -> st.SearchStrategy[users.ConsentEntry]:
    def build(
        operation: users.ConsentOperation, requester: str, room: str | None, packages: Any, more: Any
    ) -> users.ConsentEntry:
        granted = packages if operation is users.ConsentOperation.GRANT else ()
        return users.ConsentEntry(operation, requester, "mimi://b.example/u/bob", room, granted, more)

    return st.builds(
        build,
        st.sampled_from(users.ConsentOperation),
        _TEXT,
        st.none() | _TEXT,
        st.lists(values(mls.KEY_PACKAGE), max_size=2).map(tuple),
        values(components.APP_DATA_DICTIONARY),
    )


def _sorted(codec: object) -> st.SearchStrategy[tuple[components.ComponentData, ...]]:
    return st.dictionaries(st.integers(0, 2**16 - 1), st.binary(max_size=8), max_size=3).map(
        lambda found: tuple(components.ComponentData(*entry) for entry in sorted(found.items()))
    )


_KINDS: dict[type[Any], Callable[[Any], st.SearchStrategy[Any]]] = {
    tls._Number: lambda codec: st.integers(0, 256**codec._size - 1),
    tls._Bool: lambda codec: st.booleans(),
    tls._Enum: lambda codec: st.sampled_from(codec._kind),
    tls._Fixed: lambda codec: st.binary(min_size=codec._size, max_size=codec._size),
    tls._Opaque: lambda codec: st.binary(max_size=70),
    tls._Utf8: lambda codec: _TEXT,
    tls._Vector: _vector,
    tls._Optional: lambda codec: st.none() | values(codec._item),
    tls._Struct: _struct,
    tls._Choice: _choice,
    tls._LateChoice: _choice,
    tls._Prefixed: lambda codec: values(codec._item),
    tls._Many: lambda codec: st.lists(values(codec._item), min_size=1, max_size=2).map(tuple),
    mls._PublicMessage: _public,
    rooms._Presence: lambda codec: st.integers(0, 3),
    rooms._UpdateRequest: _update,
    rooms._Fanout: _fanout,
    rooms._Application: lambda codec: _private(),
    rooms._Proposals: lambda codec: _proposals(),
    users._ConsentEntry: _consent,
    components._Sorted: _sorted,
}
