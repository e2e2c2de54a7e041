"""Ghosts' user ids and portals' aliases are exact inverses, no two networks meet, and names cannot deceive."""

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.core.ghosts import MAX_BYTES, Namespace, display_name

NAMESPACE = Namespace("_bk_", "example.org")
NETWORKS = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True).map(NetworkId)
PEOPLE = st.text(min_size=1, max_size=40).map(PersonId)


@settings(deadline=None)
@given(NETWORKS, PEOPLE)
@example(NetworkId("irc"), PersonId("Alice_[away]"))
@example(NetworkId("irc"), PersonId("\udcff"))  # a byte that was no UTF-8, as Python keeps it
@example(NetworkId("irc"), PersonId("_"))
@example(NetworkId("irc"), PersonId("=41"))
def test_a_ghost_is_parsed_back_to_its_person(network: NetworkId, person: PersonId) -> None:
    mxid = NAMESPACE.mxid(network, person)
    assert NAMESPACE.is_ours(mxid)
    assert len(mxid) <= MAX_BYTES
    assert re.fullmatch(r"@[a-z0-9._=/-]+:example\.org", mxid)
    if "=-" not in mxid:
        assert NAMESPACE.parse(mxid) == (network, person)


@settings(deadline=None)
@given(NETWORKS, PEOPLE, NETWORKS, PEOPLE)
@example(NetworkId("a"), PersonId("b_c"), NetworkId("a-b"), PersonId("c"))
@example(NetworkId("a"), PersonId("b_c"), NetworkId("a"), PersonId("b__c"))
@example(NetworkId("a"), PersonId("x" * 300), NetworkId("a"), PersonId("x" * 301))
def test_two_people_never_share_a_ghost(
    network: NetworkId, person: PersonId, other_network: NetworkId, other: PersonId
) -> None:
    assume((network, person) != (other_network, other))
    assert NAMESPACE.mxid(network, person) != NAMESPACE.mxid(other_network, other)


@settings(deadline=None)
@given(
    st.from_regex(
        r"@_bk_[a-z0-9-]{1,4}_([a-z0-9._=/-]|=[0-9a-f]{2}|_[a-z_]){0,12}:example\.org", fullmatch=True
    )
)
@example("@_bk_irc_=61:example.org")
@example("@_bk_irc_=-abc:example.org")
@example("@_bk_irc_=ff:example.org")
@example("@_bk_irc_:example.org")
@example("@_bk_1rc_x:example.org")
def test_what_is_parsed_is_written_the_same_way_again(mxid: str) -> None:
    """So nobody can make a second user id for a person by writing it in another way."""
    parsed = NAMESPACE.parse(mxid)
    assert parsed is None or NAMESPACE.mxid(*parsed) == mxid


def test_ids_read_as_the_specification_maps_them() -> None:
    """Appendices, "Mapping from other character sets"."""
    assert (
        NAMESPACE.mxid(NetworkId("libera"), PersonId("Alice_[m]"))
        == "@_bk_libera__alice__=5bm=5d:example.org"
    )
    assert (
        NAMESPACE.mxid(NetworkId("xmpp"), PersonId("é@x.org/r")) == "@_bk_xmpp_=c3=a9=40x.org/r:example.org"
    )


@pytest.mark.parametrize("character", ["x", "X", "_", "é", "=", "👍"])
def test_an_id_too_long_for_matrix_keeps_its_beginning_and_ends_in_a_hash(character: str) -> None:
    person = PersonId("ann" + character * 300)
    mxid = NAMESPACE.mxid(NetworkId("irc"), person)
    assert len(mxid) <= MAX_BYTES
    assert re.fullmatch(r"@_bk_irc_ann(x|_x|__|=c3|=a9|=3d|=[0-9a-f]{2})*=-[a-z2-7]{26}:example\.org", mxid)
    assert NAMESPACE.is_ours(mxid)
    assert NAMESPACE.parse(mxid) is None
    assert mxid != NAMESPACE.mxid(NetworkId("irc"), PersonId(person + character))


@pytest.mark.parametrize(
    "mxid",
    [
        "",
        "@alice:example.org",
        "@_bk_irc_alice:other.org",
        "@_bk_irc:example.org",
        "_bk_irc_alice:example.org",
        "@_bk_",
    ],
)
def test_other_users_are_not_ghosts(mxid: str) -> None:
    assert NAMESPACE.parse(mxid) is None


@settings(deadline=None)
@given(NETWORKS, st.text(min_size=1, max_size=40))
@example(NetworkId("libera"), "#a:b=c d")
def test_an_alias_is_parsed_back_to_its_chat(network: NetworkId, name: str) -> None:
    alias = NAMESPACE.alias(network, name)
    assert len(alias.encode()) <= MAX_BYTES
    assert alias.count(":") == 1
    if "=-" not in alias:
        assert NAMESPACE.parse_alias(alias) == (network, name)


def test_an_alias_is_what_people_would_type() -> None:
    assert NAMESPACE.alias(NetworkId("libera"), "#bridgekit_dev") == "#_bk_libera_#bridgekit_dev:example.org"
    assert NAMESPACE.parse_alias("#_bk_libera_#bridgekit_dev:example.org") == ("libera", "#bridgekit_dev")
    assert NAMESPACE.parse_alias("#_bk_libera_:example.org") is None
    assert NAMESPACE.parse_alias("#_bk_libera_=ff:example.org") is None
    assert NAMESPACE.parse_alias("#chat:example.org") is None


@pytest.mark.parametrize("network", ["", "a_b", "A", "1a", "a" * 33])
def test_what_is_no_network_has_no_ghosts(network: str) -> None:
    with pytest.raises(ValueError, match="not a network"):
        NAMESPACE.mxid(NetworkId(network), PersonId("x"))


def test_a_server_name_that_leaves_no_room_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no room"):
        Namespace("_bk_", "x" * 200)


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=20))
def test_a_display_name_always_shows_the_network_and_nothing_unseen(name: str, id: str) -> None:
    found = display_name("{name} ({network})", name=name, network="Libera", id=id)
    assert found.endswith(" (Libera)")
    assert 0 < len(found) <= 100
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\u200e\u200f\ufeff]", found)


def test_a_display_name_is_cleaned_and_cut_between_graphemes() -> None:
    def named(name: str) -> str:
        return display_name("{name} ({network})", name=name, network="Net", id="the-id")

    assert named("Ann\u202egnirts\n\tX") == "Anngnirts X (Net)"
    assert named("\u200b") == "the-id (Net)"
    assert named("{network}") == "{network} (Net)"
    assert named("👨‍👩‍👧‍👦") == "👨‍👩‍👧‍👦 (Net)"
    assert named("a" * 90 + "👨‍👩‍👧‍👦") == "a" * 90 + "… (Net)"
    assert display_name("{id} on {network}", name="Ann", network="Net", id="ann") == "ann on Net"
