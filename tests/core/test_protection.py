"""The lattice of protection: labels, and what needs an agreement."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract import facts, verbs
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Person
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import plain
from bridgekit.core.model import Context, Downgrade, Known, SideView, Toward, matrix_side
from bridgekit.core.plan import plan
from bridgekit.core.protection import (
    SEALED,
    Label,
    Part,
    covered,
    downgrade,
    falls,
    matrix_protection,
    needs_agreement,
    question,
)
from tests.core.strategies import MATRIX_SIDE, NAMESPACE, OTHER_SIDES, ROOM

CLEAR, TRANSPORT, BRIDGE, END_TO_END = Protection
TALK = PortalKey(NetworkId("town"), ChatId("#talk"))
HALL = PortalKey(NetworkId("city"), ChatId("#hall"))
AGREED = Downgrade(toward=Toward.LINK, least=CLEAR)


def part(protection: Protection, key: PortalKey = TALK, label: str = "Town", *, agreed: bool = False) -> Part:
    return Part(key=key, name=key.chat, label=label, protection=protection, agreed=agreed)


def test_a_room_is_as_protected_as_its_weakest_side():
    label = Label(matrix=BRIDGE, parts=(part(TRANSPORT), part(CLEAR, HALL, "City")))
    assert label.protection is CLEAR
    assert Label(matrix=TRANSPORT, parts=(part(BRIDGE),)).protection is TRANSPORT
    assert Label(matrix=BRIDGE, parts=()).protection is BRIDGE


def test_the_label_says_in_plain_words_who_reads_what():
    label = Label(matrix=BRIDGE, parts=(part(CLEAR),))
    assert label.words == (
        "Messages in this room are encrypted up to the bridge. Town sends them in clear over the network."
    )
    both = Label(matrix=TRANSPORT, parts=(part(CLEAR), part(CLEAR, HALL, "City")))
    assert both.words.endswith("Town and City send them in clear over the network.")


def test_files_under_addresses_are_protected_on_the_wire_only_and_the_label_says_so():
    label = Label(matrix=BRIDGE, parts=(part(BRIDGE),), files=True)
    assert label.protection is TRANSPORT
    assert label.content["files"] == "linked"
    assert label.words.endswith(
        "Whoever has the address of a file or a long message can open it, until it ends."
    )
    assert "files" not in Label(matrix=BRIDGE, parts=(part(BRIDGE),)).content


def test_the_label_is_state_that_a_client_can_read():
    label = Label(matrix=BRIDGE, parts=(part(TRANSPORT, agreed=True), part(BRIDGE, HALL, "City")))
    assert label.content == {
        "protection": "transport",
        "matrix": "bridge",
        "links": [
            {"network": "town", "chat": "#talk", "protection": "transport", "agreed": True},
            {"network": "city", "chat": "#hall", "protection": "bridge"},
        ],
    }


@pytest.mark.parametrize("encrypted", [True, False])
def test_the_matrix_side_is_sealed_where_the_room_is_encrypted(encrypted: bool):
    assert (matrix_protection(encrypted=encrypted) >= SEALED) is encrypted


def test_who_agrees_reads_what_is_lost():
    assert question(BRIDGE, part(CLEAR)) == (
        "What is said in this room, encrypted up to the bridge, may be passed on to #talk on Town: "
        "Town sends it in clear over the network."
    )
    assert "may be shown in this room, which is not encrypted" in question(TRANSPORT, part(BRIDGE))


def test_an_agreement_covers_its_own_direction_and_no_lower_protection_than_it_names():
    to_servers = downgrade(BRIDGE, TRANSPORT, [])
    assert to_servers == Downgrade(toward=Toward.LINK, least=TRANSPORT)
    assert covered(BRIDGE, to_servers, TRANSPORT)
    assert not covered(BRIDGE, to_servers, CLEAR)
    assert not covered(TRANSPORT, to_servers, TRANSPORT)
    into_the_room = downgrade(TRANSPORT, BRIDGE, [TRANSPORT])
    assert into_the_room == Downgrade(toward=Toward.ROOM, least=TRANSPORT)
    assert not covered(BRIDGE, into_the_room, TRANSPORT)
    assert not covered(TRANSPORT, into_the_room, CLEAR)
    assert downgrade(TRANSPORT, BRIDGE, [CLEAR]).least is CLEAR


def test_an_agreement_of_which_too_little_is_known_covers_nothing():
    unknown = Downgrade(toward=Toward.UNKNOWN, least=END_TO_END)
    assert not any(covered(matrix, unknown, link) for matrix in Protection for link in Protection)


def said(context: Context, origin: PortalKey) -> facts.Message:
    return facts.Message(
        chat=origin.chat,
        at=1,
        sender=Person(id=PersonId("ada"), name="Ada"),
        id=MessageId("m1"),
        content=Content(text=plain("secret")),
    )


sides = st.builds(
    SideView,
    key=st.sampled_from(OTHER_SIDES[:3]),
    label=st.just("Town"),
    name=st.just("#talk"),
    protection=st.sampled_from(Protection),
    agreed=st.none()
    | st.builds(Downgrade, toward=st.sampled_from(Toward), least=st.sampled_from(Protection)),
)


@given(
    encrypted=st.booleans(),
    links=st.lists(sides, min_size=1, max_size=3, unique_by=lambda side: side.key),
    which=st.integers(0, 3),
)
def test_what_is_sealed_goes_to_no_weaker_side_without_an_agreement(
    encrypted: bool, links: list[SideView], which: int
):
    matrix = SideView(
        key=MATRIX_SIDE, label="Matrix", protection=matrix_protection(encrypted=encrypted), name=str(ROOM)
    )
    everybody = (matrix, *links)
    origin = everybody[which % len(everybody)]
    context = Context(number=1, origin=origin.key, sides=everybody, namespace=NAMESPACE)
    decided = plan(context, said(context, origin.key))
    reached = {action.side for action in decided.actions if isinstance(action.verb, verbs.PostMessage)}
    for side in everybody:
        if side is origin:
            continue
        asked = side if encrypted else origin
        toward = Toward.LINK if encrypted else Toward.ROOM
        agreed = asked.agreed is not None and asked.agreed.covers(toward, side.protection)
        may = not falls(origin.protection, side.protection) or agreed
        assert (side.key in reached) is may
        if not may:
            assert asked is not matrix
            assert needs_agreement(matrix.protection, asked.protection)
            assert "!bridge agree" in decided.refused


def test_what_was_said_under_an_agreement_can_be_taken_back_after_its_end():
    matrix = SideView(key=matrix_side(ROOM), label="Matrix", protection=BRIDGE)
    link = SideView(key=TALK, label="Town", name="#talk", protection=CLEAR)
    known = Known(number=7, origin=matrix.key, sender=PersonId("@ada:example.org"))
    context = Context(
        number=8,
        origin=matrix.key,
        sides=(matrix, link),
        namespace=NAMESPACE,
        known={MessageId("$e1"): known},
    )
    ada = Person(id=PersonId("@ada:example.org"), name="Ada")
    gone = facts.Retraction(chat=ROOM, at=1, sender=ada, target=MessageId("$e1"))
    assert [action.side for action in plan(context, gone).actions] == [TALK]
    edit = facts.Edit(
        chat=ROOM, at=1, sender=ada, target=MessageId("$e1"), content=Content(text=plain("secret"))
    )
    assert plan(context, edit).actions == ()
    agreed = msgspec.structs.replace(context, sides=(matrix, msgspec.structs.replace(link, agreed=AGREED)))
    assert [action.side for action in plan(agreed, edit).actions] == [TALK]
