"""The lattice of exposure: what each mode and each consent allow, and what is done about a room that is above."""

from typing import Any

import msgspec
import pytest

from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.core import wording
from bridgekit.core.corrections import (
    ALIAS_TYPE,
    GUEST_TYPE,
    HISTORY_TYPE,
    JOIN_TYPE,
    List,
    Pause,
    Power,
    Room,
    SetState,
    corrections,
    heeded,
    may_open,
    openings,
    power_of,
    room_of,
)
from bridgekit.core.exposure import (
    CEILING,
    OPEN,
    SECRET,
    Bound,
    JoinRule,
    LinkView,
    allowed,
    bound_of,
    until_heard,
)
from bridgekit.core.scopes import Consent, Policy, Scope
from bridgekit.core.steady import CALM, Steady, calmed, heard

NOW = 1_700_000_000_000
PARROT = NetworkId("parrot")
A = PortalKey(PARROT, ChatId("#a"))
B = PortalKey(NetworkId("crow"), ChatId("#b"))
EVERYTHING = frozenset(Scope)
WIDE = Visibility(exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, known=True, detail="+n")
WORLD = Visibility(exposure=Exposure.WORLD_READABLE, entry=Entry.OPEN, listed=True, known=True)
SECRET_MODE = Visibility(exposure=Exposure.JOINED, entry=Entry.OPEN, listed=False, known=True, detail="+s")
INVITE_MODE = Visibility(exposure=Exposure.JOINED, entry=Entry.INVITE, listed=True, known=True, detail="+i")
KNOCK_MODE = Visibility(exposure=Exposure.JOINED, entry=Entry.KNOCK, listed=True, known=True, detail="+r")
FULL = Power()
NONE = Power(level=0)


def consent(*scopes: Scope, side: PortalKey = A, until: int = 0, ended: int = 0) -> Consent:
    return Consent(
        id=1,
        side=side,
        scopes=frozenset(scopes),
        person=PersonId("olga"),
        name="Olga",
        at=NOW,
        wording="",
        until=until,
        ended=ended,
    )


def view(
    visibility: Visibility = WIDE,
    *consents: Consent,
    key: PortalKey = A,
    policy: Policy = Policy.REQUIRED,
    ceiling: Bound = OPEN,
) -> LinkView:
    return LinkView(
        key=key,
        name=str(key.chat),
        label="Parrot",
        visibility=visibility,
        policy=policy,
        consents=consents,
        ceiling=ceiling,
    )


def settings_of(link: LinkView) -> tuple[str, str, str, bool, bool, bool]:
    room = allowed(OPEN, [link], NOW, made=True)
    return (
        room.history_visibility,
        room.join_rule,
        room.guest_access,
        room.listed,
        room.alias,
        room.media,
    )


# What is allowed --------------------------------------------------------------------------------------------


def test_a_link_without_consent_may_not_pass_anything():
    room = allowed(OPEN, [view()], NOW, made=True)
    assert not room.may_pass(A)
    assert [c.reason for c in room.closed] == [wording.waits_for_consent("#a", "Parrot")]
    assert room.bound == SECRET


def test_a_link_that_its_own_room_has_taken_back_waits_for_that_room():
    no = msgspec.structs.replace(consent(Scope.BRIDGE), granted=False, by_matrix=True)
    room = allowed(OPEN, [view(WIDE, no)], NOW, made=True)
    assert [c.reason for c in room.closed] == [wording.waits_for_a_wish("#a", "Parrot")]


def test_other_consents_are_worth_nothing_without_the_first():
    assert bound_of(view(WIDE, consent(Scope.HISTORY, Scope.PUBLIC, Scope.MEDIA)), NOW) is None


@pytest.mark.parametrize(
    ("visibility", "scopes", "expected"),
    [
        (WIDE, {Scope.BRIDGE}, ("joined", "public", "forbidden", False, True, False)),
        (WIDE, {Scope.BRIDGE, Scope.MEDIA}, ("joined", "public", "forbidden", False, True, True)),
        (WIDE, {Scope.BRIDGE, Scope.HISTORY}, ("shared", "public", "forbidden", False, True, False)),
        (WIDE, EVERYTHING, ("shared", "public", "forbidden", True, True, True)),
        (WORLD, EVERYTHING, ("world_readable", "public", "can_join", True, True, True)),
        (WORLD, {Scope.BRIDGE, Scope.HISTORY}, ("shared", "public", "forbidden", False, True, False)),
        (SECRET_MODE, EVERYTHING, ("joined", "invite", "forbidden", False, False, True)),
        (INVITE_MODE, EVERYTHING, ("joined", "invite", "forbidden", True, True, True)),
        (KNOCK_MODE, EVERYTHING, ("joined", "knock", "forbidden", True, True, True)),
        (Visibility(), EVERYTHING, ("joined", "invite", "forbidden", False, False, True)),
    ],
)
def test_what_the_modes_and_the_consents_allow(visibility: Visibility, scopes: set[Scope], expected: object):
    assert settings_of(view(visibility, consent(*scopes))) == expected


def test_unknown_counts_as_secret_whatever_else_is_said():
    rumour = Visibility(exposure=Exposure.WORLD_READABLE, entry=Entry.OPEN, listed=True, known=False)
    room = allowed(OPEN, [view(rumour, consent(*Scope))], NOW, made=True)
    assert room.bound == Bound(history=Exposure.PRESENT, media=True)


def test_by_default_the_admin_lets_nobody_show_anything_to_the_world():
    link = view(WORLD, consent(*Scope), ceiling=CEILING)
    assert allowed(OPEN, [link], NOW, made=True).history_visibility == "shared"


def test_the_admins_ceiling_holds_against_every_consent():
    link = view(
        WIDE, consent(*Scope), ceiling=Bound(history=Exposure.INVITED, join=JoinRule.RESTRICTED, media=True)
    )
    assert settings_of(link) == ("invited", "restricted", "forbidden", False, False, True)


def test_the_most_secret_link_counts_for_all():
    links = [view(WIDE, consent(*Scope)), view(SECRET_MODE, consent(*Scope, side=B), key=B)]
    room = allowed(OPEN, links, NOW, made=True)
    assert (room.history_visibility, room.join_rule, room.listed) == ("joined", "invite", False)


def test_a_link_that_waits_for_consent_does_not_close_the_room_of_the_others():
    links = [view(WIDE, consent(*Scope)), view(SECRET_MODE, key=B)]
    room = allowed(OPEN, links, NOW, made=True)
    assert room.history_visibility == "shared"
    assert room.may_pass(A)
    assert not room.may_pass(B)


def test_what_the_rooms_own_people_want_is_never_exceeded():
    room = allowed(
        Bound(history=Exposure.INVITED, join=JoinRule.KNOCK), [view(WORLD, consent(*Scope))], NOW, made=False
    )
    assert (room.history_visibility, room.join_rule, room.listed) == ("invited", "knock", False)


@pytest.mark.parametrize("when", [NOW, NOW + 1])
def test_a_consent_that_has_run_out_or_ended_does_not_count(when: int):
    assert bound_of(view(WIDE, consent(*Scope, until=NOW)), when) is None
    assert bound_of(view(WIDE, consent(*Scope, ended=1)), when) is None
    assert bound_of(view(WIDE, consent(*Scope, until=NOW + 2)), when) is not None


def test_what_is_implied_without_asking_never_shows_the_world_anything():
    announced = bound_of(view(WORLD, policy=Policy.ANNOUNCED), NOW)
    own = bound_of(view(WORLD, policy=Policy.OFF), NOW)
    assert announced is not None
    assert own is not None
    assert (announced.history, announced.listed) == (Exposure.JOINED, False)
    assert (own.history, own.listed) == (Exposure.SHARED, False)


def test_a_direct_conversation_needs_no_consent_and_lets_nobody_else_in():
    link = view(WORLD, key=PortalKey(PARROT, ChatId("olga"), LoginId("login-1")))
    assert settings_of(link) == ("shared", "invite", "can_join", False, False, True)


# The room as it is --------------------------------------------------------------------------------------------


def test_a_room_is_read_from_its_state():
    state: dict[str, dict[str, Any]] = {
        HISTORY_TYPE: {"history_visibility": "invited"},
        JOIN_TYPE: {
            "join_rule": "knock_restricted",
            "allow": [{"type": "m.room_membership", "room_id": "!s:x"}, 5, {"room_id": 5}],
        },
        GUEST_TYPE: {"guest_access": "can_join"},
        ALIAS_TYPE: {"alias": "#a:example.org"},
    }
    assert room_of(state, listed=True, version="6") == Room(
        history=Exposure.INVITED,
        join=JoinRule.RESTRICTED,
        guests=True,
        listed=True,
        alias=True,
        allow=("!s:x",),
        ajar=("!s:x",),
        knocking=False,
    )


def test_a_room_without_state_has_what_the_specification_says():
    """Client-Server API: "the default history visibility is shared", "invite" and no guests."""
    assert room_of({}, listed=False) == Room(history=Exposure.SHARED, join=JoinRule.INVITE)


@pytest.mark.parametrize("junk", [5, None, [], {}, "everybody", "JOINED"])
def test_what_cannot_be_read_counts_as_the_most_open(junk: object):
    state = {HISTORY_TYPE: {"history_visibility": junk}, JOIN_TYPE: {"join_rule": junk, "allow": junk}}
    room = room_of(state, listed=False)
    assert (room.history, room.join) == (Exposure.WORLD_READABLE, JoinRule.PUBLIC)


@pytest.mark.parametrize(
    ("content", "may"),
    [
        ({"users": {"@bot:x": 100}}, True),
        ({"users": {"@bot:x": 100}, "events": {HISTORY_TYPE: 101}}, False),
        ({"users": {"@bot:x": 40}}, False),
        ({"users": {"@bot:x": 40}, "state_default": 30}, True),
        ({"users": {"@bot:x": "100"}, "state_default": "50"}, True),
        ({"users": {"@bot:x": True}}, False),
        ({"users": [], "events": 5, "users_default": 60}, True),
        ({}, False),
        (None, False),
    ],
)
def test_the_bots_power_is_read_from_the_power_levels(content: dict[str, object] | None, may: bool):
    assert power_of(content, "@bot:x").may(HISTORY_TYPE) is may


def test_the_creator_of_a_room_of_version_12_may_do_everything():
    assert power_of({"events": {HISTORY_TYPE: 100}}, "@bot:x", created=True).may(HISTORY_TYPE)


# Corrections --------------------------------------------------------------------------------------------------

AJAR = allowed(OPEN, [view(SECRET_MODE, consent(*Scope))], NOW, made=True)
GAPING = Room(
    history=Exposure.WORLD_READABLE,
    join=JoinRule.PUBLIC,
    guests=True,
    listed=True,
    alias=True,
    allow=("!s:x",),
)


def test_all_that_is_above_is_put_back():
    assert corrections(GAPING, AJAR, FULL) == (
        SetState(HISTORY_TYPE, {"history_visibility": "joined"}),
        SetState(JOIN_TYPE, {"join_rule": "invite"}),
        SetState(GUEST_TYPE, {"guest_access": "forbidden"}),
        List(public=False),
        SetState(ALIAS_TYPE, {}),
    )


def test_a_room_within_its_bound_is_left_alone():
    room = Room(history=Exposure.JOINED, join=JoinRule.INVITE)
    assert corrections(room, AJAR, NONE) == ()
    assert corrections(room, allowed(OPEN, [], NOW, made=True), NONE) == ()


def test_where_the_bot_has_no_power_the_link_pauses_and_says_why_and_how_to_mend_it():
    room = Room(history=Exposure.WORLD_READABLE, join=JoinRule.PUBLIC)
    (pause,) = corrections(room, AJAR, NONE)
    assert pause == Pause(
        A,
        "Messages from #a on Parrot are held back: in this Matrix room the whole world can read it without joining "
        "and everybody can join, and that is more than the chat allows.",
        "Somebody with power in the Matrix room has to set m.room.history_visibility to joined and set "
        "m.room.join_rules to invite, or give the bridge the power to do it.",
    )


def test_only_the_link_that_is_exposed_pauses():
    links = [view(SECRET_MODE, consent(*Scope)), view(WORLD, consent(*Scope, side=B), key=B)]
    room = Room(history=Exposure.WORLD_READABLE, join=JoinRule.PUBLIC)
    (pause,) = corrections(room, allowed(OPEN, links, NOW, made=False), NONE)
    assert isinstance(pause, Pause)
    assert pause.link == A


def test_what_the_homeserver_refuses_is_as_if_there_were_no_power():
    room = Room(history=Exposure.WORLD_READABLE)
    (pause,) = corrections(room, AJAR, FULL, refused=frozenset({HISTORY_TYPE}))
    assert isinstance(pause, Pause)


def test_a_restricted_room_becomes_one_that_can_be_knocked_at():
    room = Room(history=Exposure.JOINED, join=JoinRule.RESTRICTED, allow=("!s:x",))
    knock = allowed(OPEN, [view(KNOCK_MODE, consent(*Scope))], NOW, made=True)
    assert corrections(room, knock, FULL) == (SetState(JOIN_TYPE, {"join_rule": "knock"}),)


def ajar(*allow: str) -> Room:
    """A room for the members of others, of which only "!closed:x" is known to let not everybody in."""
    named = [{"type": "m.room_membership", "room_id": room} for room in allow]
    content = {"join_rule": "restricted", "allow": named}
    shut = {HISTORY_TYPE: {"history_visibility": "joined"}}
    return room_of({JOIN_TYPE: content, **shut}, listed=False, closed=frozenset({"!closed:x"}))


RESTRICTED = allowed(
    OPEN, [view(WIDE, consent(*Scope), ceiling=Bound(join=JoinRule.RESTRICTED))], NOW, made=True
)


def test_a_room_for_the_members_of_one_that_anybody_enters_is_public():
    assert ajar("!open:x").exposed.join is JoinRule.PUBLIC
    assert ajar("!closed:x").exposed.join is JoinRule.RESTRICTED
    assert not may_open(ajar("!closed:x", "!open:x"), RESTRICTED, A)
    assert may_open(ajar("!closed:x"), RESTRICTED, A)
    assert corrections(ajar("!closed:x"), RESTRICTED, FULL) == ()
    named = [{"type": "m.room_membership", "room_id": "!closed:x"}]
    kept = SetState(JOIN_TYPE, {"join_rule": "restricted", "allow": named})
    assert corrections(ajar("!closed:x", "!open:x"), RESTRICTED, FULL) == (kept,)
    assert corrections(ajar("!open:x"), RESTRICTED, FULL) == (SetState(JOIN_TYPE, {"join_rule": "knock"}),)
    [pause] = corrections(ajar("!open:x"), RESTRICTED, NONE)
    assert isinstance(pause, Pause)


def test_where_anybody_may_come_in_a_room_for_the_members_of_others_is_left_as_it_is():
    """It is not opened to everybody for that either: its people want less."""
    wide = allowed(ajar("!open:x").shown, [view(WIDE, consent(*Scope))], NOW, made=False)
    assert corrections(ajar("!open:x"), wide, FULL) == ()
    assert openings(ajar("!open:x"), wide, FULL) == ()


def test_an_old_room_that_cannot_be_knocked_at_becomes_invite_only():
    room = Room(history=Exposure.JOINED, join=JoinRule.PUBLIC, knocking=False)
    knock = allowed(OPEN, [view(KNOCK_MODE, consent(*Scope))], NOW, made=True)
    assert corrections(room, knock, FULL) == (SetState(JOIN_TYPE, {"join_rule": "invite"}),)


def test_a_room_is_opened_as_far_as_allowed_and_no_further():
    room = Room(history=Exposure.JOINED, join=JoinRule.INVITE)
    wide = allowed(OPEN, [view(WIDE, consent(*Scope))], NOW, made=True)
    assert openings(room, wide, FULL) == (
        SetState(HISTORY_TYPE, {"history_visibility": "shared"}),
        SetState(JOIN_TYPE, {"join_rule": "public"}),
        List(public=True),
    )
    assert openings(room, AJAR, FULL) == ()
    assert openings(room, wide, NONE) == ()


def test_a_room_opens_to_the_members_of_the_rooms_that_it_named():
    room = Room(history=Exposure.JOINED, allow=("!s:x",))
    wish = Bound(history=Exposure.JOINED, join=JoinRule.RESTRICTED)
    wide = allowed(wish, [view(WIDE, consent(*Scope))], NOW, made=False)
    assert openings(room, wide, FULL) == (
        SetState(
            JOIN_TYPE,
            {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": "!s:x"}]},
        ),
    )
    alone = Room(history=Exposure.JOINED)
    assert openings(alone, wide, FULL) == (SetState(JOIN_TYPE, {"join_rule": "knock"}),)


def test_a_wish_beyond_what_the_links_allow_is_forgotten():
    wide = allowed(OPEN, [view(WIDE, consent(Scope.BRIDGE, Scope.HISTORY))], NOW, made=False)
    wish = heeded(OPEN, GAPING.shown, wide)
    assert (wish.history, wish.join, wish.listed) == (Exposure.SHARED, JoinRule.PUBLIC, False)


def test_while_a_chat_is_unheard_a_room_is_no_more_open_than_it_was_left():
    left = Bound(history=Exposure.JOINED, join=JoinRule.RESTRICTED)
    decided = until_heard(allowed(OPEN, [], NOW, made=False), left, JoinRule.RESTRICTED)
    opened = Room(history=Exposure.SHARED, join=JoinRule.RESTRICTED, allow=("!s:x", "!t:x"), ajar=("!t:x",))
    assert corrections(opened, decided, FULL) == (
        SetState(HISTORY_TYPE, {"history_visibility": "joined"}),
        SetState(
            JOIN_TYPE,
            {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": "!s:x"}]},
        ),
    )
    was_ajar = until_heard(decided, left, JoinRule.PUBLIC)
    assert [c.type for c in corrections(opened, was_ajar, FULL) if isinstance(c, SetState)] == [HISTORY_TYPE]


def test_a_link_opens_only_into_a_room_that_is_within_its_bound():
    assert may_open(Room(history=Exposure.JOINED), AJAR, A)
    assert not may_open(Room(history=Exposure.SHARED), AJAR, A)
    assert not may_open(Room(history=Exposure.JOINED), AJAR, B)


# Steadying ----------------------------------------------------------------------------------------------------


def test_what_becomes_secret_counts_at_once_and_what_opens_only_when_it_was_calm():
    steady = heard(None, WIDE, NOW)
    assert steady.shown == WIDE
    steady = heard(steady, SECRET_MODE, NOW + 1)
    assert (steady.shown.exposure, steady.shown.listed) == (Exposure.JOINED, False)
    steady = heard(steady, WIDE, NOW + 2)
    assert steady.shown.exposure is Exposure.JOINED
    assert steady.due == NOW + 2 + CALM
    assert calmed(steady, NOW + 1 + CALM) == steady
    assert calmed(steady, NOW + 2 + CALM).shown == WIDE


def test_a_chat_that_ends_secret_is_calm_too_and_its_changes_are_forgotten() -> None:
    steady = heard(None, WIDE, NOW)
    assert (steady.due, steady.flickered) == (0, False)
    for n in range(3):
        steady = heard(steady, SECRET_MODE if n % 2 == 0 else WIDE, NOW + n)
    assert (steady.restless, steady.flips, steady.flickered) == (False, 3, True)
    assert steady.due == NOW + 2 + CALM
    assert calmed(steady, steady.due - 1) == steady
    calm = calmed(steady, steady.due)
    assert (calm.shown, calm.flips, calm.due) == (SECRET_MODE, 0, 0)


def test_to_close_and_to_open_again_is_no_flickering() -> None:
    steady = heard(heard(heard(None, WIDE, NOW), SECRET_MODE, NOW), WIDE, NOW)
    assert (steady.flips, steady.flickered) == (2, False)


def test_ten_thousand_mode_flips_in_a_minute_are_one_change_down_and_one_up():
    steady: Steady | None = heard(None, WIDE, NOW)
    seen = [WIDE]
    now = NOW
    for n in range(10_000):
        now += 6
        steady = heard(steady, SECRET_MODE if n % 2 == 0 else WIDE, now)
        steady = calmed(steady, now)
        if (steady.shown.exposure, steady.shown.listed) != (seen[-1].exposure, seen[-1].listed):
            seen.append(steady.shown)
    assert steady is not None
    assert steady.flips == 10_000
    steady = calmed(steady, now + CALM)
    seen.append(steady.shown)
    assert [v.exposure for v in seen] == [Exposure.SHARED, Exposure.JOINED, Exposure.SHARED]
    assert steady.flips == 0


def test_a_start_shows_what_the_network_says_first_and_nothing_before():
    assert heard(None, Visibility(), NOW).shown == Visibility()
    assert heard(heard(None, Visibility(), NOW), WIDE, NOW + 1).shown == WIDE
