"""The state of a room, and how updates change it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.people import Role as Standing
from bridgekit.contract.policy import Entry, Exposure
from connectors.mimi.service import presets
from connectors.mimi.service.room import BANNED, changed, merge, read, standing, visibility
from connectors.mimi.wire import components, mls, policies
from connectors.mimi.wire.components import (
    Component,
    Participant,
    ParticipantUpdate,
    RoleChange,
    RoomMetadata,
)

ALICE, BOB, CAROL = "mimi://a.example/u/alice", "mimi://b.example/u/bob", "mimi://c.example/u/carol"
URI = "mimi://a.example/r/club"
AGENT = components.FrankingAgent(b"key", mls.BasicCredential(b"mimi://a.example"))
TWO = (Participant(ALICE, 4), Participant(BOB, 2))


def made(**more: object) -> dict[int, bytes]:
    return presets.app_data(creator=ALICE, metadata=RoomMetadata(URI, name="Club"), agent=AGENT, **more)  # type: ignore[arg-type]


def test_a_room_of_ours_is_read_as_it_was_made():
    room = read(made())
    assert room.participants == (Participant(ALICE, presets.ADMIN),)
    assert room.metadata == RoomMetadata(URI, name="Club")
    assert sorted(room.roles) == [0, 1, 2, 3, 4, 5]
    assert room.takes_part == [ALICE]


def test_a_direct_room_is_settled():
    room = read(made(other=BOB))
    assert room.base.fixed_membership
    assert room.takes_part == [ALICE, BOB]
    assert visibility(room).entry is Entry.INVITE


def test_a_room_is_as_visible_as_its_policy_says():
    hidden, listed = visibility(read(made())), visibility(read(made(discoverable=True)))
    assert (hidden.exposure, hidden.entry, hidden.listed, hidden.known) == (
        Exposure.JOINED,
        Entry.INVITE,
        False,
        True,
    )
    assert (listed.entry, listed.listed, listed.moderated) == (Entry.OPEN, True, False)


def test_without_roles_nothing_is_known_of_a_room():
    assert not visibility(read({})).known


def test_shared_history_reaches_later_joiners():
    history = policies.HISTORY_POLICY.encode(policies.HistoryOptional((4,), True, 3600))
    assert visibility(read(made() | {Component.CHAT_HISTORY_POLICY: history})).exposure is Exposure.SHARED


def test_roles_stand_in_the_bridges_order():
    roles = read(made()).roles
    assert [standing(roles[index]) for index in (1, 2, 3, 4)] == [
        Standing.NONE,
        Standing.VOICE,
        Standing.ADMIN,
        Standing.OWNER,
    ]
    assert standing(None) is Standing.NONE


def test_changes_come_first_then_removals_then_what_is_added():
    update = ParticipantUpdate((RoleChange(1, 3),), (0,), (Participant(CAROL, 2),))
    assert changed(TWO, [update]) == (Participant(BOB, 3), Participant(CAROL, 2))


@pytest.mark.parametrize(
    "updates",
    [
        [ParticipantUpdate(removed=(2,))],
        [ParticipantUpdate(removed=(0, 0))],
        [ParticipantUpdate(changed=(RoleChange(0, 2),), removed=(0,))],
        [ParticipantUpdate(removed=(1,)), ParticipantUpdate(changed=(RoleChange(1, 3),))],
        [ParticipantUpdate(added=(Participant(BOB, 2),))],
        [ParticipantUpdate(removed=(1,), added=(Participant(BOB, 2),))],
        [ParticipantUpdate(added=(Participant(CAROL, 0),))],
        [ParticipantUpdate(added=(Participant(CAROL, 2), Participant(CAROL, 3)))],
    ],
)
def test_a_commit_changes_a_participant_once_and_only_one_who_is_there(updates: list[ParticipantUpdate]):
    with pytest.raises(PeerMisbehaved):
        changed(TWO, updates)


def test_two_updates_of_one_commit_mean_the_list_before_it():
    first, second = ParticipantUpdate(removed=(0,)), ParticipantUpdate(changed=(RoleChange(1, 3),))
    assert changed(TWO, [first, second]) == changed(TWO, [second, first]) == (Participant(BOB, 3),)


def test_components_are_merged_each_in_its_own_way():
    listed = components.PARTICIPANT_LIST.encode(TWO)
    update = components.PARTICIPANT_UPDATE.encode(ParticipantUpdate(removed=(0,)))
    assert merge(Component.PARTICIPANT_LIST, listed, [update]) == components.PARTICIPANT_LIST.encode(TWO[1:])
    links = policies.JOIN_LINKS_UPDATE.encode(policies.JoinLinksUpdate((0,), (b"new",)))
    assert merge(Component.JOIN_LINKS, policies.JOIN_LINKS.encode((b"old", b"kept")), [links]) == (
        policies.JOIN_LINKS.encode((b"kept", b"new"))
    )
    metadata = components.ROOM_METADATA.encode(RoomMetadata(URI, name="New"))
    assert merge(Component.ROOM_METADATA, b"", [metadata]) == metadata
    assert merge(0x8001, None, [b"1", b"2"]) == b"2"
    assert merge(0x8001, b"1", [None]) is None


@pytest.mark.parametrize(
    ("component", "updates"),
    [
        (Component.ROOM_METADATA, [b"rubbish"]),
        (Component.ROOM_METADATA, [components.ROOM_METADATA.encode(RoomMetadata(URI))] * 2),
        (Component.ROLES_LIST, [b"\x01"]),
        (Component.PARTICIPANT_LIST, [b""]),
        (Component.CONTENT_MEDIA_TYPES, [b"\xff"]),  # nobody could read a message there any more
        (0x8001, [None, b"1"]),
        (0x8001, [None, None]),
    ],
)
def test_an_update_that_is_none_makes_the_commit_invalid(component: int, updates: list[bytes | None]):
    with pytest.raises(PeerMisbehaved):
        merge(component, None, updates)


def test_a_list_that_names_somebody_twice_is_refused():
    twice = components.PARTICIPANT_LIST.encode((TWO[0], TWO[0]))
    with pytest.raises(PeerMisbehaved, match="twice"):
        read({Component.PARTICIPANT_LIST: twice})
    roles = policies.ROLES.encode((policies.Role(2, "a"), policies.Role(2, "b")))
    with pytest.raises(PeerMisbehaved, match="twice"):
        read({Component.ROLES_LIST: roles})


@given(
    st.sampled_from([int(c) for c in Component]), st.none() | st.binary(max_size=40), st.binary(max_size=40)
)
def test_any_update_raises_nothing_but_peer_misbehaved(component: int, current: bytes | None, update: bytes):
    try:
        merge(component, current, [update])
        read({component: update})
    except PeerMisbehaved:
        return


def test_the_banned_do_not_take_part():
    banned = components.PARTICIPANT_LIST.encode((Participant(ALICE, 4), Participant(BOB, BANNED)))
    assert read(made() | {Component.PARTICIPANT_LIST: banned}).takes_part == [ALICE]
