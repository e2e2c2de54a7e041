"""The rooms, and how they come to be linked and move."""

from __future__ import annotations

from bridgekit.runtime.linking.clearing import Clearing
from bridgekit.runtime.linking.contacts import Contacts
from bridgekit.runtime.linking.making import Making
from bridgekit.runtime.linking.management import ManagementRooms
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.linking.remains import Remains
from bridgekit.runtime.linking.standing import StandingLinks
from bridgekit.runtime.linking.succession import Succession
from bridgekit.runtime.linking.upgrades import Upgrades
from bridgekit.runtime.networks.owners import Owners
from bridgekit.runtime.parts import Parts


def assemble(parts: Parts) -> None:
    parts.clearing = Clearing(
        parts.store,
        parts.registry,
        parts.ghosts,
        shows=lambda side: side in parts.exposures.cleared,
        spawn=parts.spawn,
    )
    parts.portals = Portals(
        parts.client,
        parts.registry,
        parts.ghosts,
        parts.accounts,
        parts.networks,
        parts.manifests,
        parts.namespace,
        bot=parts.me,
        label=parts.label,
        opening=lambda: parts.opening,
        joins=parts.joins,
        members=parts.members,
        clearing=parts.clearing,
        protecting=parts.protecting,
        spawn=parts.spawn,
    )
    parts.making = Making(
        parts.client,
        parts.store,
        parts.registry,
        parts.ghosts,
        parts.accounts,
        parts.portals,
        parts.networks,
        parts.namespace,
        bot=parts.me,
        label=parts.label,
        opening=lambda: parts.opening,
        exposures=lambda: parts.exposures,
        encrypts=lambda: parts.engine.works,
        directs=parts.directs,
        spawn=parts.spawn,
    )
    parts.management = ManagementRooms(parts.client, parts.registry, parts.portals.say)
    parts.succession = Succession(
        parts.client,
        parts.store,
        parts.registry,
        parts.ghosts,
        bot=parts.me,
        describe=parts.opening.describe,
        tell=parts.management.tell,
    )
    contacts = Contacts(
        parts.client,
        parts.registry,
        parts.accounts,
        parts.portals,
        parts.directs,
        direct=parts.making.direct,
        spawn=parts.spawn,
    )
    parts.owners = Owners(
        parts.registry,
        parts.networks,
        parts.metrics,
        tell=parts.management.tell,
        tell_admins=lambda words: parts.management.tell_all(parts.config.admins(), words),
        asked=contacts.asked,
        withdrawn=contacts.withdrawn,
        label=parts.label,
        spawn=parts.spawn,
        waits=parts.accounts.invited,
    )
    parts.standing = StandingLinks(
        parts.client, parts.store, parts.registry, parts.portals, bot=parts.me, spawn=parts.spawn
    )
    parts.remains = Remains(parts.store, parts.registry, parts.portals, parts.accounts, parts.networks)
    parts.upgrades = Upgrades(
        parts.client,
        parts.store,
        parts.registry,
        parts.joins,
        parts.members,
        parts.portals,
        bot=parts.me,
        changed=parts.passage.changed,
        doubt=parts.exposures.doubt,
        replaces=parts.exposures.replaces,
        settled=lambda room: parts.rooms.settled(room),
        moved=parts.opening.moved,
        emptied=parts.protecting.emptied,
        tell=parts.management.tell,
        spawn=parts.spawn,
    )
