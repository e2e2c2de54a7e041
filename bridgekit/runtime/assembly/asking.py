"""What people and admins can ask of the bridge."""

from __future__ import annotations

from bridgekit.runtime.bot import Bot
from bridgekit.runtime.consequences import Consequences
from bridgekit.runtime.desk import Desk
from bridgekit.runtime.erasure import Erasure
from bridgekit.runtime.parts import Parts


def assemble(parts: Parts, consequences: Consequences) -> None:
    parts.commands = Bot(
        parts.client,
        parts.portals,
        parts.making,
        parts.registry,
        parts.accounts,
        parts.manifests,
        parts.remains,
        parts.protecting,
        parts.directs,
        exposures=parts.exposures,
        consenting=parts.consenting,
        titles=parts.titles,
        readers=parts.readers,
        shields=parts.shields,
        held=parts.holding.count,
        obstacle=consequences.obstacle,
        me=parts.me,
        label=parts.label,
        permission=parts.permission,
        silence=lambda room, who: parts.rooms.silence(room, who),
        fingerprints=parts.engine.machines.fingerprints,
        sessions=parts.accounts.sessions,
    )
    parts.erasure = Erasure(
        parts.client,
        parts.store,
        parts.registry,
        parts.ghosts,
        parts.accounts,
        parts.portals,
        parts.namespace,
        bot=parts.me,
        optouts=lambda: parts.consenting.optouts,
        forget=consequences.forget,
        label=parts.label,
        spawn=parts.spawn,
    )
    parts.desk = Desk(
        parts.registry,
        parts.accounts,
        parts.networks,
        parts.manifests,
        parts.portals,
        parts.protecting,
        parts.exposures,
        parts.consenting,
        parts.holding,
        parts.erasure,
        parts.commands.meeting,
        parts.metrics,
        obstacle=consequences.obstacle,
        turned_away=lambda network: parts.directs.turned_away[network],
        devices=lambda: parts.engine.machines.names,
        fingerprints=parts.engine.machines.fingerprints,
        permission=parts.permission,
        is_ours=parts.is_ours,
        label=parts.label,
    )
