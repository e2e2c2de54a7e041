"""What decides whether words may pass."""

from __future__ import annotations

from bridgekit.contract.ids import NetworkId
from bridgekit.core.crowd import Crowds
from bridgekit.matrix.titles import Titles
from bridgekit.runtime.consequences import Consequences, drop
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.directs import Directs
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.holding import Holding
from bridgekit.runtime.gates.passage import Passage
from bridgekit.runtime.gates.readers import Readers
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.linking.backfill import backfill
from bridgekit.runtime.linking.opening import Opening
from bridgekit.runtime.linking.spaces import Spaces
from bridgekit.runtime.parts import Parts


def assemble(parts: Parts, consequences: Consequences) -> None:
    parts.crowds = Crowds()
    parts.opening = Opening(
        parts.client,
        parts.registry,
        parts.crowds,
        exposures=lambda: parts.exposures,
        consenting=lambda: parts.consenting,
        holding=lambda: parts.holding,
        readers=lambda: parts.readers,
        shields=lambda: parts.shields,
        protecting=parts.protecting,
        spaces=Spaces(
            parts.client,
            parts.registry,
            parts.namespace,
            bot=parts.me,
            label=parts.label,
            networks=frozenset(n for n, section in parts.config.networks.items() if section.space),
        ),
        bot=parts.me,
        label=parts.label,
        say=lambda room, words: parts.portals.say(room, words),
        announce=lambda side, words: parts.portals.announce(side, words),
        drop_aliases=lambda link: parts.portals.drop_aliases(link),
        history=lambda side: backfill(
            side, parts.config.messages.history, parts.registry, parts.accounts.sessions
        ),
        spawn=parts.spawn,
    )
    parts.titles = Titles(
        parts.client, changed=lambda room, title: parts.consenting.called(room, title), spawn=parts.spawn
    )
    parts.consenting = Consenting(
        parts.store,
        parts.registry,
        parts.crowds,
        parts.networks,
        parts.manifests,
        parts.accounts.sessions,
        policy=parts.rules.consent,
        label=parts.label,
        say=parts.opening.say,
        announce=parts.opening.announce,
        titles=parts.titles,
        weigh=consequences.scopes_changed,
        gone=consequences.opted_out,
        spawn=parts.spawn,
    )
    parts.directs = Directs(
        parts.client,
        parts.store,
        parts.registry,
        parts.ghosts,
        parts.crowds,
        parts.networks,
        parts.accounts.sessions,
        other_end=lambda network, chat: parts.portals.other_end(network, chat),
        policy=parts.rules.direct,
        optouts=lambda: parts.consenting.optouts,
        label=parts.label,
        tell=parts.consenting.tell,
        counted=parts.metrics.turned_away,
        spawn=parts.spawn,
    )
    parts.exposures = Exposures(
        parts.client,
        parts.registry,
        parts.store,
        bot=parts.me,
        network_of=lambda who: row.network if (row := parts.ghosts.row(who)) is not None else NetworkId(""),
        label=parts.label,
        policy=parts.consenting.policy,
        consents=parts.consenting.consents,
        ceiling=parts.rules.ceiling,
        doorkeeper=parts.opening,
        changed=lambda side: parts.passage.changed(side),
        under_way=parts.under_way,
        spawn=parts.spawn,
    )
    parts.ghosts.by_invitation = parts.exposures.wishes.is_by_invitation
    parts.readers = Readers(
        parts.client,
        parts.registry,
        parts.accounts,
        parts.networks,
        parts.crowds,
        rules=parts.rules.gate,
        permission=parts.permission,
        is_ours=parts.is_ours,
        label=parts.label,
        say=parts.opening.say,
        held=lambda side: parts.holding.count(side),
        changed=lambda side: parts.passage.changed(side),
        spawn=parts.spawn,
    )
    parts.holding = Holding(
        parts.store,
        revive=lambda side, row: parts.rooms.revive(side, row),
        resume=lambda side, cases: parts.rooms.resume(side, cases),
        ended=consequences.held_to_the_end,
        changed=lambda side: parts.passage.changed(side),
        spawn=parts.spawn,
    )
    parts.shields = Shields(
        parts.store,
        parts.registry,
        parts.crowds,
        rules=parts.rules.shield,
        holding=lambda: parts.holding,
        free=lambda side: side in parts.registry.links and parts.passage.held_by(side) is None,
        speaks_for=parts.consenting.speaks_for,
        say=parts.opening.say,
        announce=parts.opening.announce,
        tell=parts.consenting.tell,
        spawn=parts.spawn,
    )
    parts.passage = Passage(
        parts.registry,
        parts.crowds,
        exposures=parts.exposures,
        consenting=parts.consenting,
        directs=parts.directs,
        holding=parts.holding,
        readers=parts.readers,
        protecting=parts.protecting,
        shields=parts.shields,
        loops=parts.loops,
        replaced=consequences.replaced,
        explain=lambda side: parts.commands.explain(side),
        drop=lambda case: drop(parts.store, case),
        refuse=consequences.refused,
        end=consequences.ended,
        spawn=parts.spawn,
    )
