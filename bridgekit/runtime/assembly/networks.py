"""The networks, and what is done on them."""

from __future__ import annotations

from bridgekit.runtime.consequences import Consequences
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.loops import Loops
from bridgekit.runtime.gates.underway import UnderWay
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.networks.host import NetworkHost
from bridgekit.runtime.parts import Parts
from bridgekit.runtime.traffic.performing import Performing


def assemble(parts: Parts, consequences: Consequences) -> None:
    parts.accounts = Accounts(
        parts.networks,
        parts.manifests,
        parts.registry,
        emit=lambda network, login, fact: parts.rooms.remote(network, login, fact),
        changed=consequences.session_changed,
        parted=consequences.parted,
        label=parts.label,
    )
    parts.protecting = Protecting(
        parts.store,
        parts.registry,
        parts.client,
        parts.accounts.sessions,
        is_encrypted=parts.engine.knows_encrypted,
        learn=parts.engine.is_encrypted,
        label=parts.label,
        say=lambda room, words: parts.portals.say(room, words),
        describe=lambda link: parts.opening.describe(link),
        moved=lambda side: parts.passage.changed(side),
        has_links=parts.links.are_public,
        spawn=parts.spawn,
    )
    parts.loops = Loops(
        parts.registry,
        label=parts.label,
        say=lambda room, words: parts.portals.say(room, words),
        spawn=parts.spawn,
    )
    parts.under_way = UnderWay()
    parts.performing = Performing(
        store=parts.store,
        registry=parts.registry,
        ghosts=parts.ghosts,
        matrix=parts.matrix,
        sessions=parts.accounts.sessions,
        links=parts.links,
        namespace=parts.namespace,
        bot=parts.me,
        label=parts.label,
        permission=parts.permission,
        members=parts.members,
        mode=parts.rules.mode,
        grants=parts.rules.grants,
        policies=parts.policies,
        puppets=parts.config.appservice.double_puppets,
        is_encrypted=parts.engine.knows_encrypted,
        protecting=parts.protecting,
        saying=parts.loops.saying,
        said=parts.loops.said,
        cleared=lambda side: side in parts.exposures.cleared,
        passes=lambda side: parts.exposures.passes(side),
        goes_back=lambda case: parts.passage.goes_back(case),
        replaced=lambda room: parts.upgrades.successor(room),
        is_replaced=lambda room: parts.upgrades.is_replaced(room),
        under_way=parts.under_way,
        unwelcome=lambda link: parts.directs.closed(link),
        erasure=lambda user: parts.erasure.erasure_of(user),
    )
    for id, section in parts.config.networks.items():
        connector = parts.connectors[section.connector]
        host = NetworkHost(
            id,
            store=parts.store,
            client=parts.client,
            registry=parts.registry,
            owner_on=parts.performing.owner_on,
            routes=parts.routes,
            openers=parts.openers,
            file_report=lambda network, report: parts.reports.file(network, report),
        )
        parts.manifests[id] = connector.manifest
        parts.networks[id] = connector.network(section.config, host)
    parts.rules.read(parts.config)
