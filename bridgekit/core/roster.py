"""A list of everybody in a chat, which may be thousands: whose ghosts come, go, are renamed, and have which role."""

from __future__ import annotations

from collections.abc import Iterable

from bridgekit.contract import facts, verbs
from bridgekit.contract.ids import MATRIX, PersonId
from bridgekit.contract.people import Member, Person, Role
from bridgekit.core.membership import shows_departures, urgency, wanted
from bridgekit.core.model import NOTHING, Action, Arrival, Context, Plan


def roster(context: Context, fact: facts.Roster) -> Plan:
    """Whoever is not named has left; whoever is named joins when there is time."""
    network = context.origin.network
    matrix = next((s for s in context.sides if s.key.network == MATRIX), None)
    if network == MATRIX or matrix is None or not matrix.open:
        return NOTHING
    there: dict[PersonId, PersonId] = {}  # the ghosts that are in the room, by person
    hashed: set[PersonId] = set()  # and those whose names do not tell who they are
    for ghost in context.present:
        parsed = context.namespace.parse(ghost)
        if parsed is None:
            hashed.add(ghost)
        elif parsed[0] == network:
            there[parsed[1]] = ghost
    own: list[Member] = []
    arrivals: list[Arrival] = []
    actions: list[Action] = []
    given: dict[PersonId, Role] = {}
    named: set[PersonId] = set()
    for member in fact.members:
        person = member.person
        if (context.own is None or person.id in context.own) and is_nobodys_ghost(context, person):
            own.append(member)
            continue
        present = there.get(person.id)
        if present is None and hashed and (ghost := context.namespace.mxid(network, person.id)) in hashed:
            present = ghost
        if present is None:
            if (coming := arrival(context, person, member.role)) is not None:
                arrivals.append(coming)
            if member.role:
                given[context.namespace.mxid(network, person.id)] = member.role
            continue
        named.add(person.id)
        given[present] = member.role  # who is in the room may have had another one until now
        if context.misnamed(present, person):
            shown = verbs.ShowProfile(chat=matrix.key.chat, speaker=person)
            actions.append(Action(side=matrix.key, actor=present, verb=shown))
    if shows_departures(context.mode):
        owners = {member.person.id for member in own}
        for gone in sorted(there.keys() - named):
            if gone in owners or not context.remains(gone, True):
                leave = verbs.Leave(chat=matrix.key.chat, speaker=Person(id=gone, name=gone))
                actions.append(Action(side=matrix.key, actor=there[gone], verb=leave))
    return Plan(actions=tuple(actions), arrivals=tuple(arrivals), roles={**given, **roles(context, own)})


def is_nobodys_ghost(context: Context, person: Person) -> bool:
    """Whether somebody on a network is the bridge or a Matrix user's own account: they are in the room themselves."""
    matrix = next((s.key for s in context.sides if s.key.network == MATRIX), None)
    who = context.counterpart(person.id, context.origin, matrix) if matrix is not None else None
    return who is not None and not context.namespace.is_ours(who)


def arrival(context: Context, person: Person, role: Role) -> Arrival | None:
    """A ghost for somebody who is in the chat and has said nothing now; None where it is not wanted, or there."""
    ghost = context.namespace.mxid(context.origin.network, person.id)
    if ghost in context.present or not wanted(context.mode, speaks=False):
        return None
    return Arrival(ghost, person, urgency(role, spoke=context.was_here(ghost)))


def roles(context: Context, members: Iterable[Member]) -> dict[PersonId, Role]:
    """Who has which role in the Matrix room: ghosts always, Matrix users where the chat is what the room is for."""
    matrix = next((s for s in context.sides if s.key.network == MATRIX and s.open), None)
    if matrix is None:
        return {}
    found = {}
    for member in members:
        who = context.counterpart(member.person.id, context.origin, matrix.key)
        if who is None or context.namespace.is_ours(who):
            who = context.namespace.mxid(context.origin.network, member.person.id)
        elif not context.made:
            continue  # whose room it is gives the powers in it
        found[who] = member.role
    return found
