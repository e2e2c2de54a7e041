"""How facts come in, are planned, and are told of."""

from __future__ import annotations

from bridgekit.config import StatusEvents
from bridgekit.core.optout import unspoken
from bridgekit.runtime.encryption.secrecy import Secrecy
from bridgekit.runtime.intake.arrivals import Arrivals
from bridgekit.runtime.intake.overdue import Overdue
from bridgekit.runtime.intake.reception import Reception
from bridgekit.runtime.linking.invitations import Invitations
from bridgekit.runtime.parts import Parts
from bridgekit.runtime.people.names import Names
from bridgekit.runtime.traffic.doorstep import Doorstep
from bridgekit.runtime.traffic.fates import Fates
from bridgekit.runtime.traffic.pending import Pending
from bridgekit.runtime.traffic.rooms import Rooms
from bridgekit.runtime.traffic.surroundings import RoomSurroundings
from bridgekit.runtime.traffic.withdrawn import Withdrawn


def assemble(parts: Parts) -> None:
    parts.fates = Fates(
        parts.client,
        parts.me,
        every=parts.config.messages.status_events is StatusEvents.ALL,
        spawn=parts.spawn,
    )
    parts.pending = Pending(
        parts.store, parts.accounts.sessions, parts.fates, parts.portals, label=parts.label, spawn=parts.spawn
    )
    parts.names = Names(parts.client)
    parts.secrecy = Secrecy(
        parts.engine,
        parts.names,
        parts.portals.say,
        trust=parts.config.encryption.trust,
        present=parts.ghosts.present,
        spawn=parts.spawn,
    )
    parts.around = RoomSurroundings(
        client=parts.client,
        store=parts.store,
        registry=parts.registry,
        accounts=parts.accounts,
        networks=parts.networks,
        ghosts=parts.ghosts,
        names=parts.names,
        performing=parts.performing,
        portals=parts.portals,
        invitations=Invitations(
            parts.client,
            parts.registry,
            parts.ghosts,
            parts.making,
            parts.management,
            parts.standing,
            parts.upgrades,
            parts.namespace,
            me=parts.me,
            greet=parts.commands.greet,
            permission=parts.permission,
            spawn=parts.spawn,
        ),
        directs=parts.directs,
        standing=parts.standing,
        upgrades=parts.upgrades,
        powers=parts.powers,
        protecting=parts.protecting,
        members=parts.members,
        joins=parts.joins,
        policies=parts.policies,
        bot=parts.commands,
        passage=parts.passage,
        shields=parts.shields,
        exposures=parts.exposures,
        erased=lambda who, number: parts.erasure.is_unwanted(who, number),
        readers=parts.readers,
        optouts=lambda: parts.consenting.optouts,
        omission=parts.config.messages.omission,
        fates=parts.fates,
        pending=parts.pending,
        metrics=parts.metrics,
        namespace=parts.namespace,
        secrecy=parts.secrecy,
        withdrawn=Withdrawn(parts.client, ghost_in=lambda room: next(iter(parts.ghosts.present(room)), None)),
        loops=parts.loops,
        me=parts.me,
        permission=parts.permission,
        label=parts.label,
        spawn=parts.spawn,
    )
    parts.doorstep = Doorstep(parts.portals, me=parts.me, label=parts.label, spawn=parts.spawn)
    parts.rooms = Rooms(
        parts.store,
        parts.registry,
        parts.around,
        names=parts.names,
        unlinked=parts.making.unlinked,
        invitation=parts.owners.invited,
        overhear=parts.doorstep.overhear,
        hear=parts.passage.hear,
        kept=lambda network, fact: unspoken(fact, network, parts.consenting.optouts.covers),
        passes=parts.passage.lets,
        verification=parts.engine.verifying.in_room,  # clients on matrix-js-sdk say these things in clear
        spawn=parts.spawn,
    )
    parts.arrivals = Arrivals()
    parts.reception = Reception(
        parts.store,
        parts.rooms,
        parts.registry,
        parts.portals,
        parts.making,
        parts.ghosts,
        parts.namespace,
        parts.manifests,
        parts.engine,
        parts.arrivals,
        bot=parts.me,
        label=parts.label,
        search=parts.meeting.search,
        puppets=parts.config.appservice.double_puppets,
        is_echo=parts.echoes.is_one,
        glimpsed=parts.exposures.glimpsed,
        titled=parts.titles.heard,
        pinged=parts.addressee.pinged,
        outcome=parts.metrics.transaction,
        parked=parts.metrics.parked,
        spawn=parts.spawn,
    )
    parts.overdue = Overdue(
        parts.arrivals,
        parts.client,
        parts.store,
        parts.registry,
        parts.ghosts,
        bot=parts.me,
        is_own=parts.reception.is_own,
        take_in=parts.reception.take_in,
        counted=parts.metrics.overdue,
    )
