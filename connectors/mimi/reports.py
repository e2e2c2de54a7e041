"""Reports of abuse in rooms of ours, in the bridge's words (draft-ietf-mimi-protocol-06 5.9). Pure."""

from __future__ import annotations

from bridgekit.contract import reports
from bridgekit.contract.ids import ChatId, PersonId
from connectors.mimi import uris
from connectors.mimi.clients import telling
from connectors.mimi.wire.users import AbuseReport


def to_report(room: str, report: AbuseReport, *, proven: int, domain: str, at: int) -> reports.AbuseReport:
    """`proven` is how many of the messages carry our own frank; a user of `domain` is who they are on Matrix.

    `at` is now, in ms. Nothing of what was said is in it.
    """
    return reports.AbuseReport(
        chat=ChatId(room),
        at=at,
        accused=_person(report.alleged_abuser, domain),
        reporter=_person(report.reporting_user, domain) if report.reporting_user else None,
        note=report.note,
        messages=len(report.messages),
        proven=proven,
    )


def _person(user: str, domain: str) -> PersonId:
    owner = uris.hosts(user) if telling.is_of(user, domain) else None
    return PersonId(owner or user)
