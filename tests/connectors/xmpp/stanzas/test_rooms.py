"""Presences of a room (XEP-0045) become facts; status codes mean what they say."""

from __future__ import annotations

import pytest

from bridgekit.contract import facts
from bridgekit.contract.facts import Change
from bridgekit.contract.people import Person, Role
from bridgekit.contract.policy import Entry, Exposure, Visibility
from connectors.xmpp.stanzas import compose, disco, wire
from connectors.xmpp.stanzas.rooms import role_of
from tests.connectors.xmpp.reading import BASIC, ME, MODERN, ROOM, Reader

FEATURES = frozenset({wire.MUC, "muc_open", "muc_public", "muc_unsecured"})


def change(found: list[facts.Fact]) -> tuple[Change, str, str | None]:
    (fact,) = found
    assert isinstance(fact, facts.Membership)
    return fact.change, fact.reason, fact.actor.name if fact.actor else None


def test_who_is_there_before_ourselves_is_the_roster():
    """XEP-0045, 7.2.2: "the service MUST first send the complete list of existing occupants", ourselves last."""
    reader = Reader()
    reader.room.left()
    assert reader.enter("firstwitch", affiliation="owner", role="moderator", occupant="a") == []
    assert reader.enter("secondwitch", occupant="b") == []
    opened, roster = reader.enter("bridge", codes="<status code='110'/>")
    assert isinstance(opened, facts.ChatOpened)
    assert isinstance(roster, facts.Roster)
    assert [(m.person.name, m.role) for m in roster.members] == [
        ("firstwitch", Role.OWNER),
        ("secondwitch", Role.NONE),
    ]


def test_a_newcomer_joins_and_brings_their_role():
    joined, role = Reader().enter("hecate", affiliation="admin", role="moderator", occupant="h")
    assert isinstance(joined, facts.Membership)
    assert isinstance(role, facts.RoleChange)
    assert (joined.change, joined.person.name, role.role) == (Change.JOIN, "hecate", Role.ADMIN)


def test_a_change_of_nick_is_a_new_name_of_the_same_person():
    """XEP-0045, 7.6: 303 with the new nick in <item/>, then presence under it."""
    reader = Reader()
    reader.enter("oldhag", occupant="o")
    (profile,) = reader.go(
        "oldhag", "<item affiliation='none' nick='newhag' role='participant'/>", "<status code='303'/>"
    )
    assert isinstance(profile, facts.Profile)
    assert (profile.person.name, profile.previous) == ("newhag", "oldhag")
    assert reader.enter("newhag", occupant="o") == []
    assert reader.room.nick_of(profile.person.id) == "newhag"


def test_a_kick_a_ban_and_a_loss_of_membership_are_told_apart():
    """XEP-0045, 15.6.2: 301 banned, 307 kicked, 321 affiliation change, 322 members-only, 332 shutdown."""
    reader = Reader()
    by = "<actor nick='Fluellen'/><reason>Avaunt!</reason>"
    for nick in ("a", "b", "c", "d", "e", "f"):
        reader.enter(nick, occupant=nick)
    kick = reader.go("a", f"<item affiliation='none' role='none'>{by}</item>", "<status code='307'/>")
    ban = reader.go("b", f"<item affiliation='outcast' role='none'>{by}</item>", "<status code='301'/>")
    lost = reader.go("c", "", "<status code='321'/>")
    closed = reader.go("d", "", "<status code='322'/>")
    assert change(kick) == (Change.KICK, "Avaunt!", "Fluellen")
    assert change(ban) == (Change.BAN, "Avaunt!", "Fluellen")
    assert change(lost) == (Change.KICK, "the room is for members only", None)
    assert change(closed) == (Change.KICK, "the room is for members only", None)
    left = reader.go("e", more="<status>gone where the goblins go</status>")
    assert change(left) == (Change.LEAVE, "gone where the goblins go", None)
    assert change(reader.go("f", "", "<status code='332'/>")) == (Change.LEAVE, "", None)


def test_a_technical_failure_is_not_a_kick():
    """XEP-0045, 9.1.1: 333 "because of an error reply", with 307 beside it."""
    reader = Reader()
    reader.enter("thirdwitch", occupant="t")
    gone = reader.go("thirdwitch", "", "<status code='307'/><status code='333'/>")
    assert change(gone) == (Change.LEAVE, "lost the connection", None)


@pytest.mark.parametrize(
    ("code", "words", "final"),
    [
        ("301", "was banned from", True),
        ("307", "was kicked out of", False),
        ("332", "shuts down", False),
        ("333", "technical reasons", False),
        ("321", "members only", True),
    ],
)
def test_when_we_are_put_out_the_room_is_closed_with_the_reason(code: str, words: str, final: bool):
    reader = Reader()
    codes = f"<status code='110'/><status code='{code}'/>"
    (closed,) = reader.go("bridge", "", codes)
    assert isinstance(closed, facts.ChatClosed)
    assert words in closed.reason
    assert closed.final is final
    assert not reader.room.joined


def test_an_occupant_id_is_the_identity_whatever_the_nick():
    """XEP-0421, 3: "stable for the lifetime of the occupancy", and for who comes back."""
    reader = Reader()
    first, *_ = reader.enter("juliet", occupant="dd72603d")
    reader.go("juliet")
    again, *_ = reader.enter("capulet", occupant="dd72603d")
    other, *_ = reader.enter("juliet", occupant="c0ffee")
    assert isinstance(first, facts.Membership)
    assert isinstance(again, facts.Membership)
    assert isinstance(other, facts.Membership)
    assert first.person.id == again.person.id != other.person.id


def test_an_occupant_id_that_the_room_does_not_vouch_for_is_nothing():
    """XEP-0421, 4: without the feature anybody may put one in."""
    reader = Reader(BASIC)
    came, *_ = reader.enter("juliet", occupant="forged")
    assert isinstance(came, facts.Membership)
    assert came.person.id == f"{ROOM}/juliet"


def test_a_nick_that_somebody_left_by_renaming_is_not_the_same_person():
    reader = Reader(BASIC)
    reader.enter("ann")
    reader.go("ann", "<item affiliation='none' nick='bea' role='participant'/>", "<status code='303'/>")
    reader.enter("bea")
    came, *_ = reader.enter("ann")
    assert isinstance(came, facts.Membership)
    assert came.person.id == f"{ROOM}/ann~2"
    assert reader.room.occupants["bea"].person == f"{ROOM}/ann"


def test_a_real_address_stands_in_an_id_only_where_everybody_sees_it():
    """XEP-0045, 4.2: in a semi-anonymous room only moderators see addresses; the ghost's id is public."""
    hidden, *_ = Reader(MODERN).enter("juliet", occupant="j", jid="juliet@capulet.lit/balcony")
    shown, *_ = Reader(MODERN, nonanonymous=True).enter(
        "juliet", occupant="j", jid="juliet@capulet.lit/balcony"
    )
    assert isinstance(hidden, facts.Membership)
    assert isinstance(shown, facts.Membership)
    assert "capulet" not in hidden.person.id
    assert shown.person.id == "juliet@capulet.lit"


def test_our_own_occupants_are_nobody_to_tell_of():
    reader = Reader()
    reader.room.ours["alice"] = "alice@matrix.shakespeare.lit"
    assert reader.enter("alice", occupant="x") == []
    roster = reader.room.roster(1)
    assert isinstance(roster, facts.Roster)
    assert roster.members == ()
    assert reader.go("alice") == []
    assert reader.room.joined


def test_roles_are_what_every_network_calls_them():
    """owner 100, admin 75, moderator 50; a voice is what a visitor lacks where it is moderated."""
    assert role_of("owner", "moderator", moderated=False) is Role.OWNER
    assert role_of("admin", "moderator", moderated=False) is Role.ADMIN
    assert role_of("member", "moderator", moderated=False) is Role.MODERATOR
    assert role_of("member", "participant", moderated=False) is Role.NONE
    assert role_of("none", "participant", moderated=True) is Role.VOICE
    assert role_of("none", "visitor", moderated=True) is Role.NONE
    assert role_of("none", "visitor", moderated=False) is Role.MUTED


@pytest.mark.parametrize("moderated", [True, False])
@pytest.mark.parametrize("role", Role)
def test_what_a_role_asks_of_the_room_is_read_as_that_role_again(role: Role, moderated: bool):
    """Nobody speaks where they may not: a role that XMPP does not have becomes the next one that it has."""
    affiliation, asked = compose.roles(role, moderated=moderated)
    read = role_of(affiliation or "none", asked or "moderator", moderated=moderated)
    like = {Role.HALF_MODERATOR: Role.MODERATOR}
    if moderated:
        like[Role.MUTED] = Role.NONE  # who has no voice is muted there
    else:
        like[Role.VOICE] = Role.NONE  # everybody has one
    assert read is like.get(role, role)


def test_a_visitor_is_muted_where_the_room_is_not_moderated_until_a_visitor_is_heard():
    reader = Reader()
    reader.enter("ann")
    assert reader.enter("ann", role="visitor")[-1:] == [
        facts.RoleChange(chat=reader.room.chat, at=1000, person=who(reader, "ann"), role=Role.MUTED)
    ]
    assert reader.room.spoke("bob", 2) == []
    assert reader.room.spoke("ann", 2) == [
        facts.RoleChange(chat=reader.room.chat, at=2, person=who(reader, "ann"), role=Role.NONE)
    ]
    assert reader.room.spoke("ann", 3) == []


def who(reader: Reader, nick: str) -> Person:
    return Person(id=reader.room.occupants[nick].person, name=nick)


@pytest.mark.parametrize(
    ("features", "entry", "listed", "exposure"),
    [
        (FEATURES | {wire.MAM}, Entry.OPEN, True, Exposure.SHARED),
        (FEATURES, Entry.OPEN, True, Exposure.JOINED),
        (FEATURES - {"muc_public"} | {"muc_hidden"}, Entry.OPEN, False, Exposure.JOINED),
        (FEATURES - {"muc_open"} | {"muc_membersonly"}, Entry.INVITE, True, Exposure.JOINED),
        (
            FEATURES - {"muc_unsecured"} | {"muc_passwordprotected"},
            Entry.INVITE,
            True,
            Exposure.JOINED,
        ),
    ],
)
def test_a_rooms_configuration_says_who_may_read(
    features: frozenset[str], entry: Entry, listed: bool, exposure: Exposure
):
    """XEP-0045, 6.4: muc_hidden, muc_membersonly, muc_passwordprotected ..."""
    found = disco.visibility(disco.About(features))
    assert (found.entry, found.listed, found.exposure, found.known) == (entry, listed, exposure, True)


def test_a_room_that_says_nothing_is_secret():
    assert disco.visibility(disco.About()) == Visibility()
    assert not disco.visibility(disco.About(frozenset({"muc_public"}))).known


@pytest.mark.parametrize("features", [BASIC, MODERN])
def test_ten_thousand_people_come_at_once(features: frozenset[str]):
    reader = Reader(features)
    reader.room.left()
    for i in range(10_000):
        assert reader.enter(f"witch{i}", occupant=f"o{i}") == []
    _, roster = reader.enter("bridge", codes="<status code='110'/>")
    assert isinstance(roster, facts.Roster)
    assert len({m.person.id for m in roster.members}) == 10_000


def test_a_presence_of_the_room_itself_is_nobodys():
    """XEP-0153 and XEP-0115 in what ejabberd says of a room: nobody comes, and we are not in yet."""
    reader = Reader()
    reader.room.left()
    reader.room.nick = ""
    assert reader.presence(f"<presence from='{ROOM}' to='{ME}'/>") == []
    assert not reader.room.joined
    reader.enter("firstwitch", occupant="a")
    _, roster = reader.enter("bridge", codes="<status code='110'/>")
    assert isinstance(roster, facts.Roster)
    assert [m.person.name for m in roster.members] == ["firstwitch"]
    assert reader.presence(f"<presence type='unavailable' from='{ROOM}' to='{ME}'/>") == []


@pytest.mark.parametrize("code", ["", "<status code='110'/>"])
def test_a_room_that_is_destroyed_says_where_it_goes_on(code: str):
    """XEP-0045, 10.9, example 204: no status code tells us that it is about ourselves."""
    reader = Reader()
    venue = "<destroy jid='coven@chat.shakespeare.lit'><reason>Macbeth doth come.</reason></destroy>"
    (closed,) = reader.go("bridge", f"<item affiliation='none' role='none'/>{venue}", code)
    assert isinstance(closed, facts.ChatClosed)
    assert "Macbeth doth come. It goes on in coven@chat.shakespeare.lit." in closed.reason
    assert (closed.final, reader.room.joined) == (True, False)
