"""The plan: one fact and its context in, the verbs for every other side out."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from bridgekit.contract import facts, verbs
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import MATRIX, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Member, Person, Quote, Role
from bridgekit.contract.text import Style, plain
from bridgekit.contract.verbs import Verb
from bridgekit.core import wording
from bridgekit.core.commands import command_in
from bridgekit.core.membership import shows_departures
from bridgekit.core.model import (
    NOTHING,
    RELAY,
    Action,
    Context,
    Known,
    Permission,
    Plan,
    SideView,
)
from bridgekit.core.moderation import about_puppet
from bridgekit.core.protection import barred, may_not_reach, speaking
from bridgekit.core.roomnames import chat_name
from bridgekit.core.roster import arrival, is_nobodys_ghost, roles, roster

PENDING = MessageId("")
"""Stands in a verb for the id that the side has given, or will give, to the message of `Action.target`."""

STRANGER = "You are not allowed to use this bridge: ask its admin."
FORGOTTEN = "The bridge does not know that message: it was sent before the link was made."
NOT_YOURS = "Only the sender of a message can change it."

Make = Callable[[SideView, Person | None], Verb]
"""A verb for one side, done in the name of a speaker (None: the acting account is the person itself)."""


def plan(context: Context, fact: Fact) -> Plan:
    """Decide what `fact` means for every other side of its room. Pure; raises nothing."""
    if (barred := _barred(context, fact)) is not None:
        return barred
    match fact:
        case facts.Message():
            return _message(context, fact)
        case facts.Edit():
            return _edit(context, fact)
        case facts.Reaction():
            return _reaction(context, fact)
        case facts.Unreaction():
            return _unreaction(context, fact)
        case facts.Retraction():
            return _retraction(context, fact)
        case facts.Membership():
            return _membership(context, fact)
        case facts.Profile():
            return _profile(context, fact)
        case facts.Roster():
            return roster(context, fact)
        case facts.RoleChange():
            return _role_change(context, fact)
        case facts.RolesGiven():
            return _roles_given(context, fact)
        case facts.Topic():
            return _topic(context, fact)
        case facts.ChatName():
            return _name(context, fact)
        case facts.ChatAvatar():
            return _avatar(context, fact)
        case facts.Typing(sender=sender, active=active):
            shown = _everywhere(
                context, sender, lambda s, who: verbs.SetTyping(chat=s.key.chat, speaker=who, active=active)
            )
            return Plan(actions=shown.actions)  # nobody need be told that their typing was not seen
        case facts.Receipt():
            return _receipt(context, fact)
        case facts.Missed():
            return _missed(context, fact)
        case (
            facts.ChatVisibility()
            | facts.Invitation()
            | facts.ChatOpened()
            | facts.ChatClosed()
            | facts.Resync()
        ):
            return NOTHING  # about the link itself: the runtime keeps them, the other sides need not know
        case _:
            assert_never(fact)


def _barred(context: Context, fact: Fact) -> Plan | None:
    """What becomes of it where a Matrix user may not do it: words are refused with a sentence, the rest without."""
    if context.barred:
        # Who is barred is not shown; who was shown already may go, and take back what they said.
        gone = isinstance(fact, facts.Retraction) or (
            isinstance(fact, facts.Membership) and fact.change in (Change.LEAVE, Change.KICK, Change.BAN)
        )
        said = isinstance(fact, facts.Message | facts.Edit | facts.Reaction)
        return None if gone else Plan(refused=context.barred) if said else NOTHING
    if context.origin.network != MATRIX or (
        context.owner is None and context.permission is not Permission.NONE
    ):
        return None
    doer: Person | None = next(
        (who for name in ("sender", "actor", "person") if (who := getattr(fact, name, None)) is not None),
        None,
    )
    if context.permission is Permission.NONE:
        why = STRANGER
    elif doer is not None and doer.id != context.owner:
        why = f"This conversation belongs to {context.owner}: nobody else can be heard in it."
    else:
        return None
    return Plan(refused=why) if isinstance(fact, facts.Message | facts.Edit | facts.Reaction) else NOTHING


# Who acts, and where ----------------------------------------------------------------------------------------


def _others(context: Context) -> list[SideView]:
    return [s for s in context.sides if s.key != context.origin]


def _acting(
    context: Context, side: SideView, sender: Person, own: LoginId | None = None
) -> tuple[str, Person | None]:
    """The lane, and the speaker to show, for what `sender` did on the origin side and `side` shall see."""
    origin = context.origin
    if side.key.network == MATRIX:
        if context.puppets and (owner := _owner(context, side, sender, own)) is not None:
            return owner, None
        return context.namespace.mxid(origin.network, sender.id), sender
    if origin.network == MATRIX:
        login = side.logins.get(sender.id)
        return (RELAY, sender) if login is None else (login, None)
    # From one network to another the relay speaks, and says where the person is.
    label = next((s.label for s in context.sides if s.key == origin), origin.network)
    return RELAY, Person(id=sender.id, name=f"{sender.name}/{label}", bot=sender.bot)


def _owner(context: Context, side: SideView, sender: Person, own: LoginId | None) -> PersonId | None:
    """The Matrix user whose own account did it: by the fact's word, or because the account is theirs now.

    Edits and reactions say nothing of accounts, and must be done by whoever said the message.
    """
    if own is not None:
        return context.owner_of(own)
    who = context.counterpart(sender.id, context.origin, side.key)
    return None if who is None or context.namespace.is_ours(who) else who


def _everywhere(
    context: Context,
    sender: Person,
    make: Make,
    *,
    own: LoginId | None = None,
    target: int = 0,
    reply: int = 0,
    thread: int = 0,
    takes_back: bool = False,
) -> Plan:
    """The same happening on every other open side; of those that are not open, the sender reads why.

    What is sealed goes to no weaker side without an agreement, save for what only `takes_back`.
    """
    actions: list[Action] = []
    closed: list[str] = []
    matrix, origin = context.sides[0], speaking(context.sides, context.origin)
    for side in context.sides:
        if side is origin:
            continue
        if not side.open:
            closed.append(side.reason or f"{side.label} is not linked now.")
            continue
        if origin.protection > side.protection and not takes_back and (why := barred(matrix, origin, side)):
            closed.append(why)
            continue
        actor, speaker = _acting(context, side, sender, own)
        verb = make(side, speaker)
        actions.append(
            Action(side=side.key, actor=actor, verb=verb, target=target, reply=reply, thread=thread)
        )
    return Plan(actions=tuple(actions), refused=" ".join(closed))


def _on_matrix(context: Context, person: Person, make: Callable[[SideView], Verb]) -> Plan:
    """Something that a ghost does in the Matrix room."""
    for side in _others(context):
        if side.key.network == MATRIX and side.open:
            actor, _ = _acting(context, side, person)
            return Plan(actions=(Action(side=side.key, actor=actor, verb=make(side)),))
    return NOTHING


def _translated(context: Context, content: Content, side: SideView) -> Content:
    """The content with the people whom it mentions as `side` knows them."""
    spans = content.text.spans
    if not spans or not any(s.style is Style.MENTION for s in spans):
        return content
    text = content.text.map_values(
        Style.MENTION, lambda who: context.counterpart(PersonId(who), context.origin, side.key)
    )
    return Content(text=text, kind=content.kind, file=content.file)


# What was said ----------------------------------------------------------------------------------------------


def _message(context: Context, fact: facts.Message) -> Plan:
    # What a network replays was answered when it was said.
    if not fact.replayed and (words := command_in(fact.content)) is not None:
        return Plan(command=words)
    if context.management and fact.content.kind is Kind.TEXT and fact.content.text:
        return Plan(command=fact.content.text.body)
    replied = context.known.get(fact.reply_to) if fact.reply_to else None
    thread = context.known.get(fact.thread) if fact.thread else None
    return _everywhere(
        context,
        fact.sender,
        lambda side, speaker: verbs.PostMessage(
            chat=side.key.chat,
            speaker=speaker,
            content=_translated(context, fact.content, side),
            key=f"{context.number:x}",
            at=fact.at,
            reply=_quoted(context, replied, side),
        ),
        own=fact.own,
        reply=replied.number if replied else 0,
        thread=thread.number if thread else 0,
    )


def _quoted(context: Context, replied: Known | None, side: SideView) -> Quote | None:
    """What is answered, as `side` may see it: without its words where they may not go there themselves."""
    if replied is None:
        return None
    hidden = may_not_reach(context.sides, replied.origin, replied.protection, side)
    return Quote(author=replied.author, words="" if hidden else replied.words, at=replied.at)


def _edit(context: Context, fact: facts.Edit) -> Plan:
    known = context.known.get(fact.target)
    if known is None and context.origin.network == MATRIX:
        return Plan(refused=FORGOTTEN)
    if known is None:
        # Nothing is lost: words that correct a message from before the link are said as their own.
        return _message(
            context,
            facts.Message(
                chat=fact.chat,
                at=fact.at,
                private=fact.private,
                sender=fact.sender,
                id=fact.id or MessageId(f"edit:{context.number:x}"),
                content=fact.content,
            ),
        )
    if known.sender != fact.sender.id:
        return Plan(refused=NOT_YOURS)
    return _everywhere(
        context,
        fact.sender,
        lambda side, speaker: verbs.EditMessage(
            chat=side.key.chat,
            speaker=speaker,
            target=PENDING,
            content=_translated(context, fact.content, side),
            key=f"{context.number:x}",
        ),
        target=known.number,
    )


def _reaction(context: Context, fact: facts.Reaction) -> Plan:
    known = context.known.get(fact.target)
    if known is None:
        return Plan(refused=FORGOTTEN)
    return _everywhere(
        context,
        fact.sender,
        lambda side, speaker: verbs.React(
            chat=side.key.chat,
            speaker=speaker,
            target=PENDING,
            reaction=fact.key,
            key=f"{context.number:x}",
        ),
        target=known.number,
    )


def _unreaction(context: Context, fact: facts.Unreaction) -> Plan:
    """`context.known[fact.target]` is the *reaction*, where the bridge knows it."""
    known = context.known.get(fact.target)
    if known is None or not known.reaction or known.sender != fact.sender.id:
        return NOTHING
    return _take_back_reaction(context, fact.sender, known)


def _take_back_reaction(context: Context, sender: Person, known: Known) -> Plan:
    return _everywhere(
        context,
        sender,
        lambda side, speaker: verbs.Unreact(
            chat=side.key.chat,
            speaker=speaker,
            target=PENDING,
            reaction=known.reaction,
            key=f"{context.number:x}",
            said_by=_other(known, sender),
        ),
        target=known.number,
        takes_back=True,
    )


def _retraction(context: Context, fact: facts.Retraction) -> Plan:
    known = context.known.get(fact.target)
    if known is None:
        return NOTHING  # what never crossed need not be taken back elsewhere
    if fact.own and known.sender != fact.sender.id:
        return Plan(refused=NOT_YOURS)
    if known.reaction:
        return _take_back_reaction(context, fact.sender, known)
    return _everywhere(
        context,
        fact.sender,
        lambda side, speaker: verbs.Retract(
            chat=side.key.chat,
            speaker=speaker,
            target=PENDING,
            reason=fact.reason,
            key=f"{context.number:x}",
            said_by=_other(known, fact.sender),
        ),
        target=known.number,
        takes_back=True,
    )


def _other(known: Known, sender: Person) -> PersonId | None:
    """Whose it is, where it is not the sender's own."""
    return known.sender if known.sender != sender.id else None


def _missed(context: Context, fact: facts.Missed) -> Plan:
    """Every other side reads, from the bridge itself, what it will not read."""
    words = plain(wording.missed(fact.reason, fact.since, fact.until))
    content = Content(text=words, kind=Kind.NOTICE)
    return Plan(
        actions=tuple(
            Action(
                side=side.key,
                actor=RELAY,
                verb=verbs.PostMessage(
                    chat=side.key.chat, content=content, key=f"{context.number:x}", at=fact.until
                ),
            )
            for side in _others(context)
            if side.open
        )
    )


def _receipt(context: Context, fact: facts.Receipt) -> Plan:
    known = context.known.get(fact.target)
    if known is None:
        return NOTHING
    shown = _everywhere(
        context,
        fact.sender,
        lambda side, speaker: verbs.MarkRead(chat=side.key.chat, speaker=speaker, target=PENDING),
        target=known.number,
    )
    return Plan(actions=shown.actions)


# Who is there -----------------------------------------------------------------------------------------------


def _membership(context: Context, fact: facts.Membership) -> Plan:
    if context.origin.network == MATRIX:
        return _matrix_membership(context, fact)
    if fact.stands_for is not None or is_nobodys_ghost(context, fact.person):
        return _about_puppet(context, fact)
    match fact.change:
        case Change.JOIN:
            found = arrival(context, fact.person, Role.NONE)
            return Plan(arrivals=(found,)) if found is not None else NOTHING
        case Change.LEAVE if not shows_departures(context.mode):
            return NOTHING
        case Change.LEAVE | Change.KICK | Change.BAN:
            ghost = context.namespace.mxid(context.origin.network, fact.person.id)
            if ghost not in context.present or fact.split or context.remains(fact.person.id, False):
                return NOTHING
            reason = fact.reason
            if fact.actor is not None:
                deed = "banned" if fact.change is Change.BAN else "kicked"
                reason = f"{deed} by {fact.actor.name}" + (f": {reason}" if reason else "")
            return _on_matrix(
                context,
                fact.person,
                lambda s: verbs.Leave(chat=s.key.chat, speaker=fact.person, reason=reason),
            )
        case Change.UNBAN | Change.INVITE:
            return NOTHING
        case _:
            assert_never(fact.change)


def _about_puppet(context: Context, fact: facts.Membership) -> Plan:
    """Who is put out of the chat is put out of the room: their Matrix user would read on unseen."""
    side = next((s for s in context.sides if s.key.network == MATRIX), None)
    owner = fact.stands_for
    if owner is None and side is not None:
        owner = context.counterpart(fact.person.id, context.origin, side.key)
    if side is None or owner is None or not context.is_user(owner) or not owner.startswith("@"):
        return NOTHING
    label = next((s.label for s in context.sides if s.key == context.origin), context.origin.network)
    verb = about_puppet(fact, owner, side.key.chat, label)
    if verb is None:
        return NOTHING
    actions = [Action(side=side.key, actor="", verb=verb)]
    if fact.change is Change.BAN:
        for origin in context.sides:
            if origin.key == context.origin and (login := origin.logins.get(owner)) is not None:
                leave = verbs.Leave(chat=origin.key.chat, reason=fact.reason)
                actions.append(Action(side=origin.key, actor=login, verb=leave))
    return Plan(actions=tuple(actions))


def _matrix_membership(context: Context, fact: facts.Membership) -> Plan:
    """A Matrix user's own account follows them, and so does what the relay shows of them; what is done to a ghost is
    asked of its network, or refused where nothing passes."""
    actions: list[Action] = []
    refused: list[str] = []
    ghost = context.namespace.parse(fact.person.id)
    gone = fact.change in (Change.LEAVE, Change.KICK, Change.BAN)
    for side in _others(context):
        login = side.logins.get(fact.person.id)
        if (
            login is not None and gone
        ):  # wherever the link stands: nobody is seen there who is not here any more
            leave = verbs.Leave(chat=side.key.chat, reason=fact.reason)
            actions.append(Action(side=side.key, actor=login, verb=leave))
        elif login is not None and side.open and fact.change is Change.JOIN:
            actions.append(Action(side=side.key, actor=login, verb=verbs.Join(chat=side.key.chat)))
        elif ghost is None and side.open and gone and context.owner is None:
            depart = verbs.Depart(chat=side.key.chat, speaker=fact.person, reason=fact.reason)
            actions.append(Action(side=side.key, actor=RELAY, verb=depart))
        elif ghost is not None and ghost[0] == side.key.network and fact.actor is not None:
            person = Person(id=ghost[1], name=fact.person.name)
            verb = _asked_of_network(fact, side, person)
            if isinstance(verb, verbs.Invite) and context.owner is not None:
                verb = None  # into a direct conversation a ghost is asked here alone: that began it
            if verb is not None and side.open:
                actions.append(Action(side=side.key, actor=side.logins.get(fact.actor.id, RELAY), verb=verb))
            elif verb is not None:
                refused.append(_not_there(side))
    return Plan(actions=tuple(actions), refused="; ".join(refused))


def _not_there(side: SideView) -> str:
    """Why what is done to people here is not done on a side through which nothing passes."""
    return f"{side.label}: {side.reason or 'it is not linked now.'}"


def _asked_of_network(fact: facts.Membership, side: SideView, person: Person) -> Verb | None:
    chat, who = side.key.chat, fact.actor
    match fact.change:
        case Change.KICK:
            return verbs.Kick(chat=chat, speaker=who, person=person, reason=fact.reason)
        case Change.BAN:
            return verbs.Ban(chat=chat, speaker=who, person=person, reason=fact.reason)
        case Change.UNBAN:
            return verbs.Unban(chat=chat, speaker=who, person=person, reason=fact.reason)
        case Change.INVITE:
            return verbs.Invite(chat=chat, speaker=who, person=person, reason=fact.reason)
        case Change.JOIN | Change.LEAVE:
            return None
        case _:
            assert_never(fact.change)


def _profile(context: Context, fact: facts.Profile) -> Plan:
    """A new name is a rename of the same ghost; a Matrix user's name is shown wherever the relay shows speakers, and
    theirs to give to accounts of their own."""
    if is_nobodys_ghost(context, fact.person):
        return NOTHING
    if context.origin.network != MATRIX:
        return _on_matrix(
            context, fact.person, lambda s: verbs.ShowProfile(chat=s.key.chat, speaker=fact.person)
        )
    return Plan(
        actions=tuple(
            Action(
                side=side.key, actor=RELAY, verb=verbs.ShowProfile(chat=side.key.chat, speaker=fact.person)
            )
            for side in _others(context)
            if side.open and fact.person.id not in side.logins
        )
    )


def _role_change(context: Context, fact: facts.RoleChange) -> Plan:
    if (who := fact.stands_for) is not None:
        # As for who has an account there: whose room it is gives the powers in it.
        matters = context.made and context.is_user(who) and who.startswith("@")
        return Plan(roles={who: fact.role}) if matters else NOTHING
    return Plan(roles=roles(context, [Member(person=fact.person, role=fact.role)]))


def _roles_given(context: Context, fact: facts.RolesGiven) -> Plan:
    """Roles given in Matrix: who is muted, or no longer, is so everywhere; the rest where that is configured."""
    if context.origin.network != MATRIX:
        return NOTHING  # a network tells its changes one by one, as they are
    actions: list[Action] = []
    refused: list[str] = []
    for shift in fact.shifts:
        for side in _others(context):
            verb = _given_there(context, shift, side, fact.actor)
            if verb is not None and side.open:
                actions.append(Action(side=side.key, actor=side.logins.get(fact.actor.id, RELAY), verb=verb))
            elif isinstance(verb, verbs.SetRole):
                refused.append(_not_there(side))
    return Plan(actions=tuple(actions), refused="; ".join(dict.fromkeys(refused)))


def _given_there(context: Context, shift: facts.Shift, side: SideView, actor: Person) -> Verb | None:
    """What one shift of roles is on a side; nothing for who is nobody there."""
    chat, name = side.key.chat, shift.person.name
    ghost = context.namespace.parse(shift.person.id)
    if ghost is not None:
        person = ghost[1] if ghost[0] == side.key.network else None
    else:
        person = context.counterpart(shift.person.id, context.origin, side.key)
    if person is not None:
        if not (side.grants or Role.MUTED in (shift.before, shift.after)):
            return None
        role = shift.after if side.grants or shift.after is Role.MUTED else Role.NONE
        return verbs.SetRole(chat=chat, speaker=actor, person=Person(id=person, name=name), role=role)
    spoken_for = ghost is None and shift.person.id not in side.logins and context.owner is None
    # Whoever is muted here says nothing there either: the relay alone speaks for them.
    before, after = max(shift.before, Role.NONE), max(shift.after, Role.NONE)
    if not (spoken_for and side.grants) or before is after:
        return None
    return verbs.SetRole(chat=chat, speaker=actor, person=shift.person, role=after, shown=True)


def _topic(context: Context, fact: facts.Topic) -> Plan:
    """A topic that somebody set goes everywhere; one that was only read goes to the Matrix room.

    So does one that the bridge or a Matrix user's own account set: nearly always that is the echo of what the other
    sides have already, and their two echoes would chase each other.
    """
    told = fact.actor is not None
    if fact.actor is not None and not is_nobodys_ghost(context, fact.actor):
        return _everywhere(
            context,
            fact.actor,
            lambda s, who: verbs.SetTopic(chat=s.key.chat, speaker=who, topic=fact.topic),
        )
    matrix = next((s for s in _others(context) if s.key.network == MATRIX and s.open), None)
    if matrix is None or not (told or context.made):
        return NOTHING  # a room that people made keeps the topic that they gave it
    verb = verbs.SetTopic(chat=matrix.key.chat, topic=fact.topic)
    return Plan(actions=(Action(side=matrix.key, actor="", verb=verb),))


def _name(context: Context, fact: facts.ChatName) -> Plan:
    """What a room or a chat is called now. No chat is called as another network's is."""
    made_for = _made_for(context)
    name = chat_name(fact.name, made_for.label if made_for is not None else "")
    if not name:
        return NOTHING
    return _described(context, fact, lambda s, who: verbs.SetName(chat=s.key.chat, speaker=who, name=name))


def _avatar(context: Context, fact: facts.ChatAvatar) -> Plan:
    return _described(
        context, fact, lambda s, who: verbs.SetAvatar(chat=s.key.chat, speaker=who, avatar=fact.avatar)
    )


def _described(context: Context, fact: facts.ChatName | facts.ChatAvatar, make: Make) -> Plan:
    """A room that was made for a chat looks as that does; as a Matrix user lets a room look, its chats do.

    A room that people made stays as they made it, and of several links the first is what a room was made for. A
    conversation of two looks as its person does.
    """
    if context.owner is not None:
        return NOTHING
    if context.origin.network == MATRIX and fact.actor is not None:
        return _everywhere(context, fact.actor, make)
    made_for, matrix = _made_for(context), context.sides[0]
    if made_for is None or made_for.key != context.origin:
        return NOTHING
    return Plan(actions=(Action(side=matrix.key, actor="", verb=make(matrix, None)),))


def _made_for(context: Context) -> SideView | None:
    """The chat that the bridge made the room for."""
    return context.sides[1] if context.made and len(context.sides) > 1 else None
