"""Commands about reports of abuse, for admins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core import wording
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.networks.reports import Reports
from bridgekit.runtime.registry import Registry

SHOWN = 20


class ReportCommands:
    """What is open, and what an admin has dealt with."""

    def __init__(
        self, rights: Rights, registry: Registry, reports: Reports, *, label: Callable[[NetworkId], str]
    ) -> None:
        self._rights = rights
        self._registry = registry
        self._reports = reports
        self._label = label

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {"reports": self._show}

    async def _show(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        if not self._rights.is_admin(sender):
            raise NotAllowed("Only an admin of this bridge can do that.")
        portal = self._registry.portals.get(room)
        if portal is None or portal.kind != "management":
            raise NotAllowed(wording.REPORTS_ALONE)
        match words:
            case []:
                filed = self._reports.open
                lines = [
                    wording.abuse_report(f.number, self._label(f.network), f.report) for f in filed[:SHOWN]
                ]
                return wording.abuse_reports(lines, more=max(0, len(filed) - SHOWN))
            case ["done", number] if number.isascii() and number.isdigit() and len(number) < 16:
                await self._reports.settle(int(number))
                return wording.report_settled(int(number))
            case _:
                raise NotAllowed("Say `!bridge reports`, or `!bridge reports done <number>`.")
