"""Any fact, any context and any capabilities, for properties of what decides."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from bridgekit.contract import facts, verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, File, Kind, Member, Person, Role
from bridgekit.contract.policy import Visibility
from bridgekit.contract.text import Span, Style, Text
from bridgekit.core.degrade import Aids
from bridgekit.core.ghosts import Namespace
from bridgekit.core.membership import Mode
from bridgekit.core.model import Context, Known, Permission, SideView, matrix_side

NAMESPACE = Namespace("_bk_", "example.org")
ROOM = ChatId("!room:example.org")
MATRIX_SIDE = matrix_side(ROOM)
PEOPLE = [PersonId(p) for p in ("ada", "bob", "@ann:example.org", "@_bk_ircnet_ada:example.org", "Ada_[x]")]
MESSAGES = [MessageId(m) for m in ("m1", "m2", "$e1", "m3")]
NETWORKS = [NetworkId(n) for n in ("ircnet", "parrot")]
OTHER_SIDES = [
    PortalKey(NETWORKS[0], ChatId("#a")),
    PortalKey(NETWORKS[0], ChatId("#b")),
    PortalKey(NETWORKS[1], ChatId("#a")),
    PortalKey(NETWORKS[1], ChatId("ada"), LoginId("login-1")),
]

words = st.text(max_size=60) | st.sampled_from(
    [
        "",
        "hello",
        "!bridge help",
        "!bridgehead",
        "one\ntwo\r\nthree\rfour",
        "\ud800",
        "\u202eevil",
        "a\n" * 40,
    ]
)
moments = st.integers(0, 2**45)
logins = st.none() | st.sampled_from([LoginId("login-1"), LoginId("login-2")])


@st.composite
def texts(draw: st.DrawFn) -> Text:
    body = draw(words)
    if not body:
        return Text("")
    spans = []
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body) - 1))
        end = draw(st.integers(start + 1, len(body)))
        style = draw(st.sampled_from(Style))
        value = draw(st.none() | st.sampled_from(["https://example.org/", "#ff0000", *PEOPLE]))
        spans.append(Span(start, end, style, value))
    return Text(body, tuple(spans))


files = st.builds(
    File,
    uri=st.sampled_from(["mxc://example.org/abc", "https://example.org/a.png"]),
    name=st.sampled_from(["a.png", "päper.pdf"]),
    size=st.sampled_from([0, 12, 12_345, 12_345_678]),
)
contents = st.builds(Content, text=texts(), kind=st.sampled_from(Kind), file=st.none() | files)
names = st.sampled_from(["Ada", "Bob", "", "e\u0301", "Eve\n<Ada> hi", "x" * 300, "\u202eadA"])
people = st.builds(
    Person,
    id=st.sampled_from(PEOPLE) | st.text(min_size=1, max_size=300).map(PersonId),
    name=names,
    bot=st.booleans(),
)
_OPTIONAL = {"reply_to", "thread", "id", "own", "actor"}


def _field(name: str, fact: type[Any]) -> st.SearchStrategy[Any]:
    found: dict[str, st.SearchStrategy[Any]] = {
        "chat": st.just(ChatId("#a")),
        "at": moments,
        "since": moments,
        "until": moments,
        "sender": people,
        "person": people,
        "actor": people,
        "id": st.sampled_from(MESSAGES),
        "target": st.sampled_from(MESSAGES),
        "reply_to": st.sampled_from(MESSAGES),
        "thread": st.sampled_from(MESSAGES),
        "content": contents,
        "own": st.sampled_from([LoginId("login-1"), LoginId("login-2")]),
        "key": st.sampled_from(["👍", "", "k" * 200]),
        "change": st.sampled_from(facts.Change),
        "role": st.sampled_from(Role),
        "visibility": st.just(Visibility()),
        "members": st.lists(st.builds(Member, person=people, role=st.sampled_from(Role)), max_size=5).map(
            tuple
        ),
        "shifts": st.lists(
            st.builds(facts.Shift, people, st.sampled_from(Role), st.sampled_from(Role)), max_size=3
        ).map(tuple),
    }
    if name in found:
        given = (name, fact) in (("id", facts.Message), ("actor", facts.RolesGiven))
        optional = name in _OPTIONAL and not given
        return st.none() | found[name] if optional else found[name]
    if name in ("private", "replayed", "split", "active", "final"):
        return st.booleans()
    return words


def _facts_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: _field(name, kind) for name in kind.__struct_fields__})


fact_types: tuple[type[Any], ...] = get_args(facts.Fact)
some_facts: st.SearchStrategy[facts.Fact] = st.one_of(*(_facts_of(kind) for kind in fact_types))

known_messages = st.dictionaries(
    st.sampled_from(MESSAGES),
    st.builds(
        Known,
        number=st.integers(1, 2**62),
        origin=st.sampled_from([MATRIX_SIDE, *OTHER_SIDES]),
        sender=st.sampled_from(PEOPLE),
        author=names,
        words=words,
        at=moments,
        reaction=st.sampled_from(["", "👍"]),
        parent=st.integers(0, 5),
    ),
)


def _side(key: PortalKey) -> st.SearchStrategy[SideView]:
    return st.builds(
        SideView,
        key=st.just(key),
        label=st.just(str(key.network).title()),
        open=st.booleans() if key.network != MATRIX else st.just(True),
        reason=st.sampled_from(["", "The channel is closed to the bridge."]),
        grants=st.booleans(),
        logins=st.dictionaries(
            st.sampled_from(PEOPLE), st.sampled_from([LoginId("login-1"), LoginId("login-2")]), max_size=2
        ),
    )


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    keys = draw(st.lists(st.sampled_from(OTHER_SIDES), unique=True, max_size=4))
    sides = [draw(_side(key)) for key in [MATRIX_SIDE, *keys]]
    return Context(
        number=draw(st.integers(1, 2**62)),
        origin=draw(st.sampled_from([MATRIX_SIDE, *keys])),
        sides=tuple(sides),
        namespace=NAMESPACE,
        known=draw(known_messages),
        owner=draw(st.none() | st.sampled_from(PEOPLE)),
        management=draw(st.booleans()),
        permission=draw(st.sampled_from(Permission)),
        puppets=draw(st.booleans()),
        made=draw(st.booleans()),
        mode=draw(st.sampled_from(Mode)),
        is_user=lambda who: who == "@ann:example.org",
        present=draw(st.frozensets(st.sampled_from(PEOPLE))),
        counterpart=lambda person, origin, side: PersonId(f"@_bk_{side.network}_{person}:example.org"),
        owner_of=lambda login: PersonId("@ann:example.org") if login == "login-1" else None,
    )


verb_types: tuple[type[Any], ...] = get_args(verbs.Verb)
capabilities = st.builds(
    Capabilities,
    verbs=st.frozensets(st.sampled_from(verb_types)),
    styles=st.frozensets(st.sampled_from(Style)),
    kinds=st.frozensets(st.sampled_from(Kind)).map(lambda kinds: kinds | {Kind.TEXT}),
    speakers=st.booleans(),
    replies=st.booleans(),
    threads=st.booleans(),
    files=st.booleans(),
    max_bytes=st.sampled_from([0, 40, 400, 4000]),
    max_lines=st.sampled_from([0, 1, 6]),
)
aids = st.builds(
    Aids,
    label=st.just("Example"),
    now=moments,
    text_link=st.sampled_from(["", "https://b.example/t/abc"]),
    file_link=st.sampled_from(["", "https://b.example/f/abc"]),
    before=words,
    about=words,
)
