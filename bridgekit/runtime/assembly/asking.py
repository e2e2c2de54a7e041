"""What people and admins can ask of the bridge."""

from __future__ import annotations

from bridgekit.runtime.commands.accounts import AccountCommands
from bridgekit.runtime.commands.bot import Bot
from bridgekit.runtime.commands.devices import DeviceCommands
from bridgekit.runtime.commands.links import LinkCommands
from bridgekit.runtime.commands.meeting import Meeting
from bridgekit.runtime.commands.overview import OverviewCommands
from bridgekit.runtime.commands.puppets import PuppetCommands
from bridgekit.runtime.commands.reports import ReportCommands
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.commands.strangers import StrangerCommands
from bridgekit.runtime.consequences import Consequences
from bridgekit.runtime.desk import Desk
from bridgekit.runtime.networks.reports import Reports
from bridgekit.runtime.parts import Parts
from bridgekit.runtime.people.erasure import Erasure


def assemble(parts: Parts, consequences: Consequences) -> None:
    rights = Rights(parts.client, parts.registry, parts.portals, permission=parts.permission)
    parts.meeting = Meeting(
        parts.portals,
        parts.registry,
        parts.accounts,
        label=parts.label,
        permitted=rights.need_power,
        spend=rights.spend,
    )
    parts.reports = Reports(
        parts.store,
        tell=lambda words: parts.management.tell_all(parts.config.admins(), words),
        came=parts.metrics.report,
        label=parts.label,
    )
    parts.commands = Bot(
        parts.client,
        parts.portals,
        parts.registry,
        parts.manifests,
        rights=rights,
        commands=_commands(parts, consequences, rights),
        exposures=parts.exposures,
        consenting=parts.consenting,
        titles=parts.titles,
        me=parts.me,
        label=parts.label,
        silence=lambda room, who: parts.rooms.silence(room, who),
    )
    parts.erasure = Erasure(
        parts.client,
        parts.store,
        parts.registry,
        parts.ghosts,
        parts.accounts,
        parts.namespace,
        bot=parts.me,
        optouts=lambda: parts.consenting.optouts,
        unlink=lambda side, why: parts.portals.unlink(side, reason=why),
        forget=consequences.forget,
        describe=parts.opening.described_anew,
        unknown=lambda room, number: parts.rooms.forget(room, number),
        label=parts.label,
        lasting=parts.links.lasting * 1000,
        networks=parts.networks,
        account=parts.crowds.account,
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
        parts.meeting,
        parts.reports,
        parts.metrics,
        obstacle=consequences.obstacle,
        turned_away=lambda network: parts.directs.turned_away[network],
        devices=lambda: parts.engine.machines.names,
        fingerprints=parts.engine.machines.fingerprints,
        permission=parts.permission,
        is_ours=parts.is_ours,
        label=parts.label,
    )


def _commands(parts: Parts, consequences: Consequences, rights: Rights) -> dict[str, Command]:
    overview = OverviewCommands(
        rights,
        parts.registry,
        parts.accounts,
        parts.manifests,
        parts.remains,
        parts.directs,
        parts.protecting,
        parts.consenting,
        parts.readers,
        parts.shields,
        held=parts.holding.count,
        obstacle=consequences.obstacle,
        label=parts.label,
    )
    links = LinkCommands(
        rights,
        parts.registry,
        parts.portals,
        parts.remains,
        parts.protecting,
        parts.consenting,
        label=parts.label,
    )
    strangers = StrangerCommands(rights, parts.registry, parts.shields)
    accounts = AccountCommands(
        rights,
        parts.client,
        parts.registry,
        parts.portals,
        parts.making,
        parts.accounts,
        parts.manifests,
        parts.remains,
        parts.directs,
        label=parts.label,
    )
    devices = DeviceCommands(
        rights,
        parts.registry,
        parts.accounts.sessions,
        me=parts.me,
        label=parts.label,
        fingerprints=parts.engine.machines.fingerprints,
    )
    puppets = PuppetCommands(
        rights,
        parts.registry,
        parts.engine.puppets,
        offered=parts.config.appservice.double_puppets,
        server=parts.config.homeserver.server_name,
    )
    reports = ReportCommands(rights, parts.registry, parts.reports, label=parts.label)
    families = overview, links, strangers, accounts, devices, puppets, reports, parts.meeting
    return {name: command for family in families for name, command in family.commands.items()}
