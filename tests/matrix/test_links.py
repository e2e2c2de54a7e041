"""Signed links: what they name comes back, whatever is changed does not, and they end."""

import struct
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.links import (
    MEDIA_PATH,
    Expired,
    FileClaim,
    Forged,
    Links,
    MediaClaim,
    SealedClaim,
    TextClaim,
    _base,
    file_name,
    parse_mxc,
)

KEY = b"k" * 32
DAY = 86400
START = 1_700_000_000.0
MXC = "mxc://hs.test:8448/AbC_-9"


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock) -> Links:
    return Links("https://bridge.example/", KEY, DAY, now=clock)


def parts(link: str | None, kind: str) -> list[str]:
    assert link is not None
    head, _, tail = link.partition(f"/_bridgekit/{kind}/")
    assert head == "https://bridge.example"
    return tail.split("/")


def test_a_media_link_names_its_file_until_it_ends(links, clock):
    token, name = parts(links.media(MXC, "cat.png"), "media")
    assert name == "cat.png"
    assert links.open(token, "cat.png") == MediaClaim(MXC)
    clock.now += DAY - 1
    assert links.open(token, "cat.png") == MediaClaim(MXC)
    clock.now += 3601
    with pytest.raises(Expired):
        links.open(token, "cat.png")


@pytest.mark.parametrize(("lifetime", "later"), [(30, 1), (600, 25), (7 * DAY, 3600)])
def test_a_link_ends_when_it_was_said_to(clock, lifetime, later):
    """`public.expires: 30s` is half a minute, not the rest of the hour."""
    links = Links("https://bridge.example", KEY, lifetime, now=clock)
    token, _ = parts(links.media(MXC, "a"), "media")
    clock.now += lifetime - 1
    assert links.open(token, "a") == MediaClaim(MXC)
    clock.now += 1 + later
    with pytest.raises(Expired):
        links.open(token, "a")


def test_a_link_of_an_earlier_version_ends_at_its_hour(links, clock):
    hour = int(START) // 3600 + 1
    claim = struct.pack(">cI", b"m", hour) + MXC.removeprefix("mxc://").encode()
    token = _base(claim + links._mac(claim, "a"))
    assert links.open(token, "a") == MediaClaim(MXC)
    clock.now = hour * 3600.0
    with pytest.raises(Expired):
        links.open(token, "a")


@pytest.mark.parametrize(
    ("room", "event_id"),
    [
        ("!abc:hs.test", "$" + "Az09_-" * 7 + "A"),
        ("!" + "Az09_-" * 7 + "A", "$" + "w" * 42 + "E"),
        ("!abc:hs.test", "$old:hs.test"),
        ("!abc:hs.test", "$" + "x" * 43),  # not canonical base64: its last bits say nothing, and must stay
    ],
)
def test_a_text_link_names_its_event_and_fits_into_a_line_of_chat(links, room, event_id):
    link = links.text(ChatId(room), MessageId(event_id))
    (token,) = parts(link, "text")
    assert links.open(token) == TextClaim(ChatId(room), MessageId(event_id))
    assert len(link) <= 200


@pytest.mark.parametrize("event_id", ["$" + "Az09_-" * 7 + "A", "$old:hs.test"])
def test_a_link_to_the_file_of_an_event_names_the_event(links, event_id):
    claim = FileClaim(ChatId("!abc:hs.test"), MessageId(event_id))
    token, name = parts(links.file(claim.room, claim.event_id, "cat.png"), "media")
    assert links.open(token, name) == claim
    with pytest.raises(Forged):
        links.open(token, "dog.png")


@pytest.mark.parametrize("event_id", ["$" + "Az09_-" * 7 + "A", "$old:hs.test"])
def test_a_link_into_an_encrypted_room_names_its_event_and_its_agreement_and_no_key(links, event_id):
    room, event = ChatId("!" + "Az09_-" * 7 + "A"), MessageId(event_id)
    claim = SealedClaim(room, event, 2**62 + 7)
    link = links.sealed_text(room, event, claim.agreement)
    assert links.open(*parts(link, "text")) == claim
    assert len(link) <= 220
    token, name = parts(links.sealed_media(room, event, claim.agreement, "cat.png"), "media")
    assert links.open(token, name) == claim
    with pytest.raises(Forged):
        links.open(token, "dog.png")


@pytest.mark.parametrize("event_id", ["$" + "Az09_-" * 7 + "A", "$old:hs.test"])
def test_a_link_says_which_erasure_its_sender_had_behind_them(links, event_id):
    room, event, since = ChatId("!abc:hs.test"), MessageId(event_id), 2**62 + 1
    token, name = parts(links.file(room, event, "cat.png", since=since), "media")
    assert links.open(token, name) == FileClaim(room, event, since)
    assert links.open(*parts(links.text(room, event, since=since), "text")) == TextClaim(room, event, since)
    sealed = links.sealed_text(room, event, 7, since=since)
    assert links.open(*parts(sealed, "text")) == SealedClaim(room, event, 7, since)
    assert len(sealed) <= 230


def test_the_same_file_has_the_same_link_for_a_while(links, clock):
    first = links.media(MXC, "a")
    clock.now += 1
    assert links.media(MXC, "a") == first


def test_no_public_address_means_no_links():
    for base in (None, ""):
        links = Links(base, KEY, DAY, now=lambda: START)
        assert links.media(MXC, "a") is None
        assert links.text(ChatId("!r:x"), MessageId("$e")) is None
        assert links.sealed_text(ChatId("!r:x"), MessageId("$e"), 1) is None
        assert links.sealed_media(ChatId("!r:x"), MessageId("$e"), 1, "a") is None
        assert not links.are_public


@pytest.mark.parametrize(
    "mxc",
    [
        "",
        "https://x/y",
        "mxc://x",
        "mxc://x/",
        "mxc://x/../y",
        "mxc:///y",
        "mxc://x/y?z",
        "mxc://a b/y",
        "mxc://x/y\n",
    ],
)
def test_what_is_no_mxc_address_has_no_link(links, mxc):
    assert parse_mxc(mxc) is None
    assert links.media(mxc, "a") is None


def test_nothing_about_a_link_can_be_changed(links):
    token, _ = parts(links.media(MXC, "cat.png"), "media")
    (text,) = parts(links.text(ChatId("!r:x"), MessageId("$e")), "text")
    with pytest.raises(Forged):
        links.open(token, "cat.html")
    with pytest.raises(Forged):
        links.open(text, "cat.png")
    for at in range(len(token)):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(Forged):
            links.open(changed, "cat.png")
    for other in (token + "=", token + "A", token[:-1], token[4:], "", "=", "é"):
        with pytest.raises(Forged):
            links.open(other, "cat.png")
    with pytest.raises(Forged):
        Links("https://bridge.example", b"K" * 32, DAY, now=lambda: START).open(token, "cat.png")


@given(st.text(max_size=80))
def test_opening_raises_nothing_but_forged(token):
    with pytest.raises(Forged):
        Links("https://b", KEY, DAY, now=lambda: START).open(token, token)


@given(st.text(max_size=300))
def test_every_name_becomes_one_harmless_segment(name):
    safe = file_name(name)
    assert 0 < len(safe) <= 100
    assert not set(safe) & set("/\\\x00\r\n")
    assert safe not in (".", "..")
    safe.encode()


def test_a_long_name_keeps_its_ending():
    assert file_name("x" * 300 + ".jpeg") == "x" * 95 + ".jpeg"


@pytest.mark.parametrize(
    "name",
    ["x" * 100 + ".jpeg", "猫" * 90 + ".jpeg", "🐈 " * 50, "%" * 100],
    ids=["letters", "others", "pictures", "signs"],
)
def test_a_link_fits_one_line_whatever_the_file_is_called(name):
    """RFC 1459 2.3: 512 bytes, of which the sender, the command, the channel and a speaker's name need some 150."""
    links = Links("https://bridge.example.org", KEY, DAY, now=lambda: START)
    room, event = ChatId("!" + "r" * 43), MessageId("$" + "e" * 43)
    for link in (
        links.media("mxc://matrix.example.org/" + "m" * 24, name),
        links.sealed_media(room, event, 1, name),
        links.file(room, event, name),
    ):
        assert link is not None
        assert len(link) <= 300
        token, _, called = link.removeprefix(f"https://bridge.example.org{MEDIA_PATH}/").partition("/")
        links.open(token, unquote(called))
        assert unquote(called).startswith(name[:3])
        assert unquote(called).endswith(".jpeg") is name.endswith(".jpeg")


def test_a_short_key_is_refused():
    with pytest.raises(ValueError):
        Links("https://b", b"short", DAY, now=lambda: START)
