"""What a fact means for the other sides of its room."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from bridgekit.contract import facts, verbs
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, File, Kind, Member, Person, Quote, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import Style, Text, plain, styled
from bridgekit.core.membership import Mode, Urgency
from bridgekit.core.model import (
    NOTHING,
    RELAY,
    Action,
    Arrival,
    Context,
    Known,
    Permission,
    Plan,
    SideView,
)
from bridgekit.core.plan import FORGOTTEN, NOT_YOURS, PENDING, STRANGER, plan
from tests.core.strategies import MATRIX_SIDE, NAMESPACE, ROOM, contexts, some_facts

CHANNEL = PortalKey(NetworkId("ircnet"), ChatId("#a"))
PARROT = PortalKey(NetworkId("parrot"), ChatId("#b"))
ANN = Person(id=PersonId("@ann:example.org"), name="Ann")
ADA = Person(id=PersonId("ada"), name="Ada")
ADAS_GHOST = "@_bk_ircnet_ada:example.org"
ANNS_LOGIN = LoginId("login-ann")
MATRIX = SideView(key=MATRIX_SIDE, label="Matrix")


def side(key: PortalKey, **more: Any) -> SideView:
    return SideView(key=key, label=str(key.network).title(), **more)


def context(origin: PortalKey, *sides: SideView, **more: Any) -> Context:
    return Context(number=0xABC, origin=origin, sides=(MATRIX, *sides), namespace=NAMESPACE, **more)


def message(chat: ChatId, sender: Person, words: str | Text = "hello", **more: Any) -> facts.Message:
    text = plain(words) if isinstance(words, str) else words
    return facts.Message(
        chat=chat, at=5, sender=sender, id=MessageId("m1"), content=Content(text=text), **more
    )


FROM_MATRIX = message(ROOM, ANN)
FROM_CHANNEL = message(CHANNEL.chat, ADA)


# What was said ----------------------------------------------------------------------------------------------


def test_what_is_said_in_a_channel_is_said_by_its_ghost():
    assert plan(context(CHANNEL, side(CHANNEL)), FROM_CHANNEL) == Plan(
        actions=(
            Action(
                side=MATRIX_SIDE,
                actor=ADAS_GHOST,
                verb=verbs.PostMessage(
                    chat=ROOM, speaker=ADA, content=Content(text=plain("hello")), key="abc", at=5
                ),
            ),
        )
    )


def test_a_matrix_user_without_an_account_is_relayed_by_name():
    assert plan(context(MATRIX_SIDE, side(CHANNEL)), FROM_MATRIX) == Plan(
        actions=(
            Action(
                side=CHANNEL,
                actor=RELAY,
                verb=verbs.PostMessage(
                    chat=CHANNEL.chat, speaker=ANN, content=Content(text=plain("hello")), key="abc", at=5
                ),
            ),
        )
    )


def test_a_matrix_user_with_an_account_speaks_with_it():
    decided = plan(context(MATRIX_SIDE, side(CHANNEL, logins={ANN.id: ANNS_LOGIN})), FROM_MATRIX)
    (action,) = decided.actions
    assert (action.actor, action.verb.speaker) == (ANNS_LOGIN, None)


def test_one_room_with_three_sides_passes_everything_on_to_the_other_two():
    decided = plan(context(CHANNEL, side(CHANNEL), side(PARROT)), FROM_CHANNEL)
    assert [(a.side, a.actor) for a in decided.actions] == [(MATRIX_SIDE, ADAS_GHOST), (PARROT, RELAY)]


def test_from_network_to_network_the_relay_says_where_the_person_is():
    decided = plan(context(CHANNEL, side(CHANNEL), side(PARROT)), FROM_CHANNEL)
    assert decided.actions[1].verb.speaker == Person(id=ADA.id, name="Ada/Ircnet")


def test_ones_own_words_from_elsewhere_carry_ones_own_name_where_double_puppeting_is_on():
    own = message(CHANNEL.chat, ADA, own=ANNS_LOGIN)
    around = context(CHANNEL, side(CHANNEL), puppets=True, owner_of={ANNS_LOGIN: ANN.id}.get)
    (action,) = plan(around, own).actions
    assert (action.actor, action.verb.speaker) == (ANN.id, None)


def test_ones_own_words_from_elsewhere_are_a_ghosts_where_double_puppeting_is_off():
    own = message(CHANNEL.chat, ADA, own=ANNS_LOGIN)
    (action,) = plan(context(CHANNEL, side(CHANNEL), owner_of={ANNS_LOGIN: ANN.id}.get), own).actions
    assert action.actor == ADAS_GHOST


def test_a_mention_is_translated_to_whom_each_side_knows():
    words = styled("Ada", Style.MENTION, ADAS_GHOST)
    around = context(
        MATRIX_SIDE,
        side(CHANNEL),
        side(PARROT),
        counterpart=lambda who, origin, to: PersonId("ada") if to == CHANNEL else None,
    )
    here, there = plan(around, message(ROOM, ANN, words)).actions
    assert isinstance(here.verb, verbs.PostMessage)
    assert isinstance(there.verb, verbs.PostMessage)
    assert here.verb.content.text == styled("Ada", Style.MENTION, "ada")
    assert there.verb.content.text == plain("Ada")


# Replies ----------------------------------------------------------------------------------------------------

HEARD = Known(number=7, origin=CHANNEL, sender=ADA.id, author="Ada", words="what?", at=3)
REPLY = message(ROOM, ANN, reply_to=MessageId("$e1"))


def test_a_reply_crosses_networks_by_number_and_with_words_to_quote():
    """The message answered came from one network; the other has its own copy, with its own id."""
    around = context(MATRIX_SIDE, side(CHANNEL), side(PARROT), known={MessageId("$e1"): HEARD})
    decided = plan(around, REPLY)
    assert [a.side for a in decided.actions] == [CHANNEL, PARROT]
    for action in decided.actions:
        assert action.reply == 7
        assert isinstance(action.verb, verbs.PostMessage)
        assert action.verb.reply == Quote(author="Ada", words="what?", at=3)


def test_a_reply_to_an_unknown_message_is_said_without_one():
    (action,) = plan(context(MATRIX_SIDE, side(CHANNEL)), REPLY).actions
    assert (action.reply, getattr(action.verb, "reply", None)) == (0, None)


def test_a_thread_is_named_by_its_number():
    around = context(MATRIX_SIDE, side(CHANNEL), known={MessageId("$e1"): HEARD})
    (action,) = plan(around, message(ROOM, ANN, thread=MessageId("$e1"))).actions
    assert action.thread == 7


# Edits, reactions, and what is taken back --------------------------------------------------------------------


def edit(chat: ChatId, sender: Person) -> facts.Edit:
    return facts.Edit(
        chat=chat, at=9, sender=sender, target=MessageId("$e1"), content=Content(text=plain("better"))
    )


def said_by(sender: Person, **more: Any) -> dict[MessageId, Known]:
    return {MessageId("$e1"): Known(number=7, origin=MATRIX_SIDE, sender=sender.id, **more)}


def test_an_edit_by_its_sender_goes_everywhere():
    around = context(MATRIX_SIDE, side(CHANNEL), known=said_by(ANN))
    assert plan(around, edit(ROOM, ANN)).actions == (
        Action(
            side=CHANNEL,
            actor=RELAY,
            target=7,
            verb=verbs.EditMessage(
                chat=CHANNEL.chat,
                speaker=ANN,
                target=PENDING,
                content=Content(text=plain("better")),
                key="abc",
            ),
        ),
    )


def test_an_edit_by_somebody_else_is_refused():
    """Matrix checks it itself; a network may not, and its word is not taken for it."""
    eve = Person(id=PersonId("@eve:example.org"), name="Eve")
    assert plan(context(MATRIX_SIDE, side(CHANNEL), known=said_by(ANN)), edit(ROOM, eve)) == Plan(
        refused=NOT_YOURS
    )
    assert plan(context(CHANNEL, side(CHANNEL), known=said_by(ANN)), edit(CHANNEL.chat, ADA)) == Plan(
        refused=NOT_YOURS
    )


def test_an_edit_of_what_the_bridge_does_not_know_is_refused_on_matrix():
    assert plan(context(MATRIX_SIDE, side(CHANNEL)), edit(ROOM, ANN)) == Plan(refused=FORGOTTEN)


def test_an_edit_of_what_the_bridge_does_not_know_is_said_anew_from_a_network():
    (action,) = plan(context(CHANNEL, side(CHANNEL)), edit(CHANNEL.chat, ADA)).actions
    assert isinstance(action.verb, verbs.PostMessage)
    assert action.verb.content.text == plain("better")


def test_a_reaction_names_its_message_by_number():
    fact = facts.Reaction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1"), key="👍")
    (action,) = plan(context(MATRIX_SIDE, side(CHANNEL), known=said_by(ADA)), fact).actions
    assert action.target == 7
    assert action.verb == verbs.React(
        chat=CHANNEL.chat, speaker=ANN, target=PENDING, reaction="👍", key="abc"
    )


def test_a_reaction_is_taken_back_by_who_gave_it():
    fact = facts.Unreaction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1"), key="👍")
    known = said_by(ANN, reaction="👍", parent=3)
    (action,) = plan(context(MATRIX_SIDE, side(CHANNEL), known=known), fact).actions
    assert action.target == 7
    assert isinstance(action.verb, verbs.Unreact)
    assert action.verb.reaction == "👍"


def test_nobody_takes_back_the_reaction_of_another():
    fact = facts.Unreaction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1"), key="👍")
    around = context(MATRIX_SIDE, side(CHANNEL), known=said_by(ADA, reaction="👍", parent=3))
    assert plan(around, fact) == NOTHING


def test_a_redacted_reaction_is_an_unreaction_and_a_redacted_message_a_retraction():
    fact = facts.Retraction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1"), reason="typo")
    (gone,) = plan(context(MATRIX_SIDE, side(CHANNEL), known=said_by(ANN)), fact).actions
    assert gone.verb == verbs.Retract(
        chat=CHANNEL.chat, speaker=ANN, target=PENDING, reason="typo", key="abc"
    )
    known = said_by(ANN, reaction="👍", parent=3)
    (unreacted,) = plan(context(MATRIX_SIDE, side(CHANNEL), known=known), fact).actions
    assert isinstance(unreacted.verb, verbs.Unreact)


def test_who_takes_back_what_another_said_is_told_apart_from_them():
    fact = facts.Retraction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1"))
    for known in (said_by(ADA), said_by(ADA, reaction="👍", parent=3)):
        (gone,) = plan(context(MATRIX_SIDE, side(CHANNEL), known=known), fact).actions
        assert isinstance(gone.verb, verbs.Retract | verbs.Unreact)
        assert (gone.verb.speaker, gone.verb.said_by) == (ANN, ADA.id)


# Who may ----------------------------------------------------------------------------------------------------


def test_somebody_who_may_not_use_the_bridge_reads_why():
    around = context(MATRIX_SIDE, side(CHANNEL), permission=Permission.NONE)
    assert plan(around, FROM_MATRIX) == Plan(refused=STRANGER)


QUIET = [
    facts.Typing(chat=ROOM, at=1, sender=ANN, active=True),
    facts.Receipt(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1")),
    facts.Retraction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1")),
    facts.Unreaction(chat=ROOM, at=1, sender=ANN, target=MessageId("$e1"), key="👍"),
    facts.Topic(chat=ROOM, at=1, actor=ANN, topic="mine now"),
    facts.ChatName(chat=ROOM, at=1, actor=ANN, name="mine now"),
    facts.ChatAvatar(chat=ROOM, at=1, actor=ANN, avatar=None),
]


@pytest.mark.parametrize("fact", QUIET, ids=lambda fact: type(fact).__name__)
def test_nothing_at_all_is_relayed_for_somebody_who_may_not_use_the_bridge(fact: Fact):
    """What they type, read and take back is no more theirs to send than what they say."""
    around = context(
        MATRIX_SIDE, side(CHANNEL), permission=Permission.NONE, known=said_by(ANN, reaction="👍")
    )
    assert plan(around, fact).actions == ()


@pytest.mark.parametrize("fact", QUIET, ids=lambda fact: type(fact).__name__)
def test_a_direct_conversation_is_its_owners_alone(fact: Fact):
    around = context(
        MATRIX_SIDE, side(CHANNEL), owner=PersonId("@bob:example.org"), known=said_by(ANN, reaction="👍")
    )
    assert plan(around, fact).actions == ()
    assert "@bob:example.org" in plan(around, FROM_MATRIX).refused


def test_the_invitation_that_began_a_direct_conversation_is_not_asked_of_the_network():
    ghost = Person(id=PersonId(ADAS_GHOST), name="Ada")
    invited = facts.Membership(chat=ROOM, at=5, person=ghost, change=Change.INVITE, actor=ANN)
    assert len(plan(context(MATRIX_SIDE, side(CHANNEL)), invited).actions) == 1
    assert plan(context(MATRIX_SIDE, side(CHANNEL), owner=ANN.id), invited) == NOTHING


@pytest.mark.parametrize(
    "fact",
    [
        facts.Membership(chat=CHANNEL.chat, at=5, person=ADA, change=Change.JOIN),
        facts.Roster(chat=CHANNEL.chat, at=5, members=(Member(person=ADA, role=Role.ADMIN),)),
        facts.RoleChange(chat=CHANNEL.chat, at=5, person=ADA, role=Role.ADMIN),
        facts.Profile(chat=CHANNEL.chat, at=5, person=ADA),
    ],
)
@pytest.mark.parametrize("who", [ANN.id, "@bridgebot:example.org"])
def test_a_matrix_users_own_account_and_the_bridges_have_no_ghost(fact: Fact, who: str):
    around = context(CHANNEL, side(CHANNEL), counterpart=lambda *_: PersonId(who))
    assert plan(around, fact) == NOTHING
    assert plan(context(CHANNEL, side(CHANNEL)), fact) != NOTHING


def test_who_signs_in_as_somebody_who_was_there_before_is_no_ghost_any_more():
    """The roster of the next connection takes the ghost out of the room."""
    around = context(
        CHANNEL,
        side(CHANNEL),
        counterpart=lambda *_: ANN.id,
        present=frozenset({PersonId(ADAS_GHOST)}),
    )
    fact = facts.Roster(chat=CHANNEL.chat, at=5, members=(Member(person=ADA),))
    (action,) = plan(around, fact).actions
    assert (action.actor, type(action.verb)) == (ADAS_GHOST, verbs.Leave)


def test_the_owner_is_heard_in_their_direct_conversation():
    assert len(plan(context(MATRIX_SIDE, side(CHANNEL), owner=ANN.id), FROM_MATRIX).actions) == 1


# Closed sides -----------------------------------------------------------------------------------------------


def test_where_every_side_is_closed_the_sender_reads_why():
    around = context(MATRIX_SIDE, side(CHANNEL, open=False, reason="The channel is full."))
    assert plan(around, FROM_MATRIX) == Plan(refused="The channel is full.")
    assert plan(context(MATRIX_SIDE, side(CHANNEL, open=False)), FROM_MATRIX).refused == (
        "Ircnet is not linked now."
    )


def test_a_closed_side_does_not_keep_the_others_from_hearing_it():
    decided = plan(context(MATRIX_SIDE, side(CHANNEL, open=False), side(PARROT)), FROM_MATRIX)
    assert [a.side for a in decided.actions] == [PARROT]
    assert decided.refused == "Ircnet is not linked now."


def test_nobody_is_told_that_their_typing_was_not_seen():
    typing = facts.Typing(chat=ROOM, at=1, sender=ANN, active=True)
    assert plan(context(MATRIX_SIDE, side(CHANNEL, open=False)), typing) == NOTHING


def test_a_room_without_links_is_not_talked_about():
    assert plan(context(MATRIX_SIDE), FROM_MATRIX) == NOTHING


# Commands ---------------------------------------------------------------------------------------------------


def test_a_command_is_for_the_bot_and_for_nobody_else():
    assert plan(context(MATRIX_SIDE, side(CHANNEL)), message(ROOM, ANN, "!bridge link #a")) == Plan(
        command="link #a"
    )


def test_in_a_management_room_every_word_is_a_command():
    assert plan(context(MATRIX_SIDE, management=True), message(ROOM, ANN, "status")) == Plan(command="status")


def test_a_command_in_replayed_history_is_not_obeyed_again():
    """What a network replays after a reconnect was answered when it was said."""
    decided = plan(context(CHANNEL, side(CHANNEL)), message(CHANNEL.chat, ADA, "!bridge help", replayed=True))
    assert decided.command is None


# Who is there -----------------------------------------------------------------------------------------------


def came(change: Change, person: Person = ADA, **more: Any) -> facts.Membership:
    return facts.Membership(chat=CHANNEL.chat, at=1, person=person, change=change, **more)


PRESENT = frozenset({PersonId(ADAS_GHOST)})


def test_who_joins_a_channel_joins_the_room():
    decided = plan(context(CHANNEL, side(CHANNEL)), came(Change.JOIN))
    assert decided == Plan(arrivals=(Arrival(PersonId(ADAS_GHOST), ADA, Urgency.REST),))


@pytest.mark.parametrize("mode", [Mode.ACTIVE, Mode.NONE])
def test_where_only_speakers_are_shown_nobody_comes_silently(mode: Mode):
    around = context(CHANNEL, side(CHANNEL), mode=mode)
    assert plan(around, came(Change.JOIN)) == NOTHING
    roster = facts.Roster(chat=CHANNEL.chat, at=1, members=(Member(person=ADA),))
    assert plan(around, roster) == NOTHING


def test_where_no_coming_and_going_is_shown_who_left_stays_and_who_was_put_out_does_not():
    around = context(CHANNEL, side(CHANNEL), mode=Mode.NONE, present=PRESENT)
    assert plan(around, came(Change.LEAVE)) == NOTHING
    assert plan(around, facts.Roster(chat=CHANNEL.chat, at=1, members=())) == NOTHING
    assert len(plan(around, came(Change.BAN)).actions) == 1


def test_a_ghost_stays_while_its_person_is_in_another_chat_of_the_room():
    around = context(CHANNEL, side(CHANNEL), present=PRESENT, remains=lambda who, read: who == ADA.id)
    assert plan(around, came(Change.LEAVE)) == NOTHING
    assert plan(around, facts.Roster(chat=CHANNEL.chat, at=1, members=())) == NOTHING


def test_a_roster_renames_who_has_another_name_by_now():
    around = context(CHANNEL, side(CHANNEL), present=PRESENT, misnamed=lambda ghost, who: who.name != "Bob")
    (action,) = plan(around, facts.Roster(chat=CHANNEL.chat, at=1, members=(Member(person=ADA),))).actions
    assert action == Action(
        side=MATRIX_SIDE, actor=ADAS_GHOST, verb=verbs.ShowProfile(chat=ROOM, speaker=ADA)
    )


def test_a_new_name_on_matrix_is_shown_where_the_relay_speaks_for_its_owner():
    around = context(MATRIX_SIDE, side(CHANNEL), side(PARROT, logins={ANN.id: ANNS_LOGIN}))
    decided = plan(around, facts.Profile(chat=ROOM, at=1, person=ANN, previous="Anna"))
    shown = verbs.ShowProfile(chat=CHANNEL.chat, speaker=ANN)
    assert decided.actions == (Action(side=CHANNEL, actor=RELAY, verb=shown),)


def test_of_a_roster_operators_come_first_and_who_was_here_before_comes_before_strangers():
    names = {"op": Role.MODERATOR, "voice": Role.VOICE, "old": Role.NONE, "new": Role.NONE}
    people = {name: Person(id=PersonId(name), name=name) for name in names}
    members = tuple(Member(person=people[name], role=role) for name, role in names.items())
    around = context(CHANNEL, side(CHANNEL), was_here=lambda ghost: "_old" in ghost)
    decided = plan(around, facts.Roster(chat=CHANNEL.chat, at=1, members=members))
    assert [(a.person.name, a.urgency) for a in decided.arrivals] == [
        ("op", Urgency.OPERATOR),
        ("voice", Urgency.VOICED),
        ("old", Urgency.RECENT),
        ("new", Urgency.REST),
    ]
    assert decided.actions == ()


def test_who_is_kicked_leaves_the_room_and_it_says_by_whom():
    fact = came(Change.KICK, actor=Person(id=PersonId("op"), name="Op"), reason="flood")
    (action,) = plan(context(CHANNEL, side(CHANNEL), present=PRESENT), fact).actions
    assert action.verb == verbs.Leave(chat=ROOM, speaker=ADA, reason="kicked by Op: flood")


def test_somebody_without_a_login_whom_a_network_puts_out_is_put_out_of_the_room():
    olga = Person(id=PersonId("op"), name="Op")
    fact = facts.Membership(
        chat=CHANNEL.chat, at=1, person=ADA, change=Change.KICK, actor=olga, reason="spam", stands_for=ANN.id
    )
    (action,) = plan(context(CHANNEL, side(CHANNEL), is_user=lambda who: who == ANN.id), fact).actions
    assert isinstance(action.verb, verbs.Kick)
    assert (action.side, action.verb.person.id) == (MATRIX_SIDE, ANN.id)


@pytest.mark.parametrize(("made", "given"), [(True, {ANN.id: Role.MODERATOR}), (False, {})])
def test_a_role_that_a_network_gives_to_who_is_only_shown_there_is_a_power_where_the_room_is_the_chats(
    made: bool, given: dict[PersonId, Role]
):
    fact = facts.RoleChange(chat=CHANNEL.chat, at=1, person=ADA, role=Role.MODERATOR, stands_for=ANN.id)
    around = context(CHANNEL, side(CHANNEL), made=made, is_user=lambda who: who == ANN.id)
    assert plan(around, fact) == Plan(roles=given)


@pytest.mark.parametrize("change", [Change.LEAVE, Change.KICK, Change.BAN])
def test_who_goes_without_an_account_is_shown_in_the_chats_no_more(change: Change):
    around = context(MATRIX_SIDE, side(CHANNEL, logins={ANN.id: ANNS_LOGIN}), side(PARROT))
    assert [(a.actor, a.verb) for a in plan(around, came(change, ANN)).actions] == [
        (ANNS_LOGIN, verbs.Leave(chat=CHANNEL.chat)),
        (RELAY, verbs.Depart(chat=PARROT.chat, speaker=ANN)),
    ]


def test_a_role_for_who_has_no_account_there_is_given_where_matrix_gives_roles():
    bob = Person(id=PersonId("@bob:example.org"), name="Bob")

    def given(before: Role, after: Role, **more: Any) -> list[Any]:
        fact = facts.RolesGiven(chat=ROOM, at=1, actor=bob, shifts=(facts.Shift(ANN, before, after),))
        around = context(MATRIX_SIDE, side(CHANNEL), side(PARROT, grants=True), **more)
        return [(a.side, a.verb) for a in plan(around, fact).actions]

    verb = verbs.SetRole(chat=PARROT.chat, speaker=bob, person=ANN, role=Role.MODERATOR, shown=True)
    assert given(Role.NONE, Role.MODERATOR) == [(PARROT, verb)]
    assert given(Role.NONE, Role.MODERATOR, owner=bob.id) == []
    assert given(Role.NONE, Role.MUTED) == [], "the relay alone speaks for them, and it is told nothing"


EVE = Person(id=PersonId("eve"), name="Eve")


def test_what_is_only_ones_own_to_take_back_is_not_taken_back_by_another():
    fact = facts.Retraction(chat=CHANNEL.chat, at=1, sender=EVE, target=MessageId("$e1"), own=True)
    decided = plan(context(CHANNEL, side(CHANNEL), known=said_by(ADA)), fact)
    assert decided.actions == ()
    mine = facts.Retraction(chat=CHANNEL.chat, at=1, sender=ADA, target=MessageId("$e1"), own=True)
    assert plan(context(CHANNEL, side(CHANNEL), known=said_by(ADA)), mine).actions != ()


def test_a_netsplit_makes_nobody_leave():
    around = context(CHANNEL, side(CHANNEL), present=PRESENT)
    assert plan(around, came(Change.LEAVE, split=True)) == NOTHING


def test_a_ghost_that_is_not_there_does_not_leave():
    assert plan(context(CHANNEL, side(CHANNEL)), came(Change.LEAVE)) == NOTHING


def test_kicking_a_ghost_asks_its_network_to_kick_the_person():
    fact = facts.Membership(
        chat=ROOM,
        at=1,
        person=Person(id=PersonId(ADAS_GHOST), name="Ada"),
        change=Change.KICK,
        actor=ANN,
        reason="spam",
    )
    decided = plan(context(MATRIX_SIDE, side(CHANNEL), side(PARROT)), fact)
    assert decided.actions == (
        Action(
            side=CHANNEL,
            actor=RELAY,
            verb=verbs.Kick(chat=CHANNEL.chat, speaker=ANN, person=ADA, reason="spam"),
        ),
    )


def test_an_account_follows_its_matrix_user_in_and_out():
    around = context(MATRIX_SIDE, side(CHANNEL, logins={ANN.id: ANNS_LOGIN}))
    followed = [
        (action.actor, type(action.verb).__name__)
        for change in (Change.JOIN, Change.LEAVE, Change.BAN)
        for action in plan(around, came(change, ANN)).actions
    ]
    assert followed == [(ANNS_LOGIN, "Join"), (ANNS_LOGIN, "Leave"), (ANNS_LOGIN, "Leave")]


def test_a_roster_lets_those_go_who_are_not_in_it_and_lets_those_in_who_are():
    gone = PersonId("@_bk_ircnet_bob:example.org")
    elsewhere = PersonId("@_bk_parrot_bob:example.org")
    fact = facts.Roster(chat=CHANNEL.chat, at=1, members=(Member(person=ADA, role=Role.MODERATOR),))
    decided = plan(context(CHANNEL, side(CHANNEL), present=frozenset({gone, elsewhere})), fact)
    assert [(a.actor, type(a.verb)) for a in decided.actions] == [(gone, verbs.Leave)]
    assert decided.arrivals == (Arrival(PersonId(ADAS_GHOST), ADA, Urgency.OPERATOR),)
    assert decided.roles == {ADAS_GHOST: Role.MODERATOR}


def test_a_topic_that_was_only_read_goes_to_the_room_alone():
    read = facts.Topic(chat=CHANNEL.chat, at=1, topic="news")
    decided = plan(context(CHANNEL, side(CHANNEL), side(PARROT), made=True), read)
    assert [(a.side, a.verb) for a in decided.actions] == [
        (MATRIX_SIDE, verbs.SetTopic(chat=ROOM, topic="news"))
    ]


def test_a_room_that_people_made_keeps_the_topic_that_they_gave_it():
    read = facts.Topic(chat=CHANNEL.chat, at=1, topic="news")
    assert plan(context(CHANNEL, side(CHANNEL)), read) == NOTHING


def test_what_never_crossed_need_not_be_taken_back():
    fact = facts.Retraction(chat=ROOM, at=1, sender=ANN, target=MessageId("$unknown"))
    assert plan(context(MATRIX_SIDE, side(CHANNEL)), fact) == NOTHING


def test_a_topic_that_somebody_set_goes_everywhere():
    fact = facts.Topic(chat=CHANNEL.chat, at=1, topic="news", actor=ADA)
    decided = plan(context(CHANNEL, side(CHANNEL), side(PARROT)), fact)
    assert [a.side for a in decided.actions] == [MATRIX_SIDE, PARROT]


def test_the_echo_of_a_topic_brings_no_ghost_of_the_bridge_and_goes_to_no_other_network():
    bridge = Person(id=PersonId("bridge"), name="bridge")
    fact = facts.Topic(chat=CHANNEL.chat, at=1, topic="news", actor=bridge)
    around = context(CHANNEL, side(CHANNEL), side(PARROT), counterpart=lambda *_: ANN.id)
    assert [(a.side, a.actor, a.verb) for a in plan(around, fact).actions] == [
        (MATRIX_SIDE, "", verbs.SetTopic(chat=ROOM, topic="news"))
    ]


def test_a_room_that_was_made_for_a_chat_is_called_as_that_is_and_no_other_chat_is():
    read = facts.ChatName(chat=CHANNEL.chat, at=1, name="The Den")
    around = context(CHANNEL, side(CHANNEL), side(PARROT), made=True)
    assert [(a.side, a.actor, a.verb) for a in plan(around, read).actions] == [
        (MATRIX_SIDE, "", verbs.SetName(chat=ROOM, name="The Den"))
    ]
    later = facts.ChatName(chat=PARROT.chat, at=1, name="The Cage")
    assert plan(context(PARROT, side(CHANNEL), side(PARROT), made=True), later) == NOTHING


@pytest.mark.parametrize("actor", [None, ADA])
def test_a_room_that_people_made_keeps_the_name_that_they_gave_it(actor: Person | None):
    renamed = facts.ChatName(chat=CHANNEL.chat, at=1, name="The Den", actor=actor)
    assert plan(context(CHANNEL, side(CHANNEL), side(PARROT)), renamed) == NOTHING


def test_what_a_matrix_user_calls_a_room_its_chats_are_called():
    renamed = facts.ChatName(chat=ROOM, at=1, name="Our  Den", actor=ANN)
    around = context(MATRIX_SIDE, side(CHANNEL, logins={ANN.id: ANNS_LOGIN}), side(PARROT))
    assert [(a.actor, a.verb) for a in plan(around, renamed).actions] == [
        (ANNS_LOGIN, verbs.SetName(chat=CHANNEL.chat, name="Our Den")),
        (RELAY, verbs.SetName(chat=PARROT.chat, speaker=ANN, name="Our Den")),
    ]


def test_what_the_bridge_puts_behind_a_name_goes_to_no_chat():
    renamed = facts.ChatName(chat=ROOM, at=1, name="Our Den (Ircnet)", actor=ANN)
    for made, name in ((True, "Our Den"), (False, "Our Den (Ircnet)")):
        around = context(MATRIX_SIDE, side(CHANNEL), side(PARROT), made=made)
        assert [a.verb for a in plan(around, renamed).actions] == [
            verbs.SetName(chat=key.chat, speaker=ANN, name=name) for key in (CHANNEL, PARROT)
        ]


def test_no_name_is_no_name_for_a_chat_and_a_conversation_of_two_is_called_by_its_person():
    for name, more in (("", {}), (" \u200b\n", {}), ("My friend", {"owner": ANN.id})):
        renamed = facts.ChatName(chat=ROOM, at=1, name=name, actor=ANN)
        assert plan(context(MATRIX_SIDE, side(CHANNEL), made=True, **more), renamed) == NOTHING


FACE = File(uri="https://a.example/face.png", name="avatar")


@pytest.mark.parametrize("avatar", [FACE, None])
def test_a_room_that_was_made_for_a_chat_looks_as_that_does_and_no_other_chat_does(avatar: File | None):
    shown = facts.ChatAvatar(chat=CHANNEL.chat, at=1, avatar=avatar)
    around = context(CHANNEL, side(CHANNEL), side(PARROT), made=True)
    assert [(a.side, a.actor, a.verb) for a in plan(around, shown).actions] == [
        (MATRIX_SIDE, "", verbs.SetAvatar(chat=ROOM, avatar=avatar))
    ]
    assert plan(context(CHANNEL, side(CHANNEL), side(PARROT)), shown) == NOTHING, "people made the room"
    later = facts.ChatAvatar(chat=PARROT.chat, at=1, avatar=avatar)
    assert plan(context(PARROT, side(CHANNEL), side(PARROT), made=True), later) == NOTHING


def test_as_a_matrix_user_lets_a_room_look_its_chats_do_and_a_conversation_of_two_looks_as_its_person():
    shown = facts.ChatAvatar(chat=ROOM, at=1, avatar=FACE, actor=ANN)
    around = context(MATRIX_SIDE, side(CHANNEL, logins={ANN.id: ANNS_LOGIN}), side(PARROT))
    assert [(a.actor, a.verb) for a in plan(around, shown).actions] == [
        (ANNS_LOGIN, verbs.SetAvatar(chat=CHANNEL.chat, avatar=FACE)),
        (RELAY, verbs.SetAvatar(chat=PARROT.chat, speaker=ANN, avatar=FACE)),
    ]
    assert plan(context(MATRIX_SIDE, side(CHANNEL), made=True, owner=ANN.id), shown) == NOTHING


def test_how_an_encrypted_room_looks_goes_where_its_words_may():
    """Homeservers can read it as it is; the people of a chat that is not encrypted still need not."""
    sealed = msgspec.structs.replace(MATRIX, protection=Protection.BRIDGE)
    around = context(MATRIX_SIDE, side(CHANNEL), side(PARROT, protection=Protection.BRIDGE))
    around = msgspec.structs.replace(around, sides=(sealed, *around.sides[1:]))
    decided = plan(around, facts.ChatAvatar(chat=ROOM, at=1, avatar=FACE, actor=ANN))
    assert [action.side for action in decided.actions] == [PARROT]
    assert "nothing crosses until a moderator here agrees" in decided.refused


def test_a_new_name_is_a_rename_of_the_same_ghost_and_a_matrix_users_own_business():
    renamed = facts.Profile(chat=CHANNEL.chat, at=1, person=ADA, previous="Adele")
    (action,) = plan(context(CHANNEL, side(CHANNEL)), renamed).actions
    assert action == Action(
        side=MATRIX_SIDE, actor=ADAS_GHOST, verb=verbs.ShowProfile(chat=ROOM, speaker=ADA)
    )
    theirs = facts.Profile(chat=ROOM, at=1, person=ANN, previous="Anna")
    assert plan(context(MATRIX_SIDE, side(CHANNEL, logins={ANN.id: ANNS_LOGIN})), theirs) == NOTHING


# What holds for every fact ----------------------------------------------------------------------------------


@given(contexts(), some_facts)
def test_a_plan_is_made_for_anything_and_the_same_one_again(around: Context, fact: Fact):
    assert plan(around, fact) == plan(around, fact)


@given(contexts(), some_facts)
def test_nothing_goes_back_nothing_goes_to_a_closed_side_and_only_known_messages_are_named(
    around: Context, fact: Fact
):
    others = {s.key for s in around.sides if s.open} - {around.origin}
    numbers = {k.number for k in around.known.values()} | {0}
    for action in plan(around, fact).actions:
        assert action.side in others
        assert action.verb.chat == action.side.chat
        assert {action.target, action.reply, action.thread} <= numbers


@given(contexts(), some_facts)
def test_a_command_comes_alone_and_a_refusal_is_a_sentence(around: Context, fact: Fact):
    decided = plan(around, fact)
    assert decided.command is None or (not decided.actions and not decided.refused)
    if decided.refused and decided.actions:
        assert any(not side.open for side in around.sides)
        assert not isinstance(fact, facts.FLEETING)
    if decided.command is not None:
        assert isinstance(fact, facts.Message | facts.Edit)
        assert fact.content.kind is Kind.TEXT
    if decided.refused:
        assert decided.refused[0].isupper()
        assert decided.refused.endswith(".")
