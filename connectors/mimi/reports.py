"""Reports of abuse in rooms of ours (draft-ietf-mimi-protocol-06 5.9): on disk until the admins read of them."""

from __future__ import annotations

import asyncio

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected
from connectors.mimi.wire.users import AbuseReport

PREFIX = "report/"
MOST = 100
"""Reports that wait: who reports more is told to come again."""
AT_ONCE = 10
NOTE = 300
"""Characters of a reporter's words that are shown."""
PAUSE = 60.0
"""Seconds between two notices."""


class Reported(msgspec.Struct, frozen=True, array_like=True):
    """Nothing of what was said; `note` are the reporter's own words."""

    room: str
    by: str
    abuser: str
    messages: int
    proven: int
    note: str


class Reports:
    """`take` keeps one, and `run` is to be a task of its owner's."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._more = asyncio.Event()

    async def take(self, room: str, report: AbuseReport, proven: int) -> None:
        """It is on disk when this returns. Raises Disconnected where too many wait."""
        waiting = await self._host.items(PREFIX)
        if len(waiting) >= MOST:
            raise Disconnected("Too many reports wait to be read.", retry_after=PAUSE)
        self._host.log.warning("abuse_reported", room=room, messages=len(report.messages), proven=proven)
        number = 1 + max((int(key.removeprefix(PREFIX)) for key in waiting), default=0)
        note = report.note[:NOTE]
        kept = Reported(
            room, report.reporting_user, report.alleged_abuser, len(report.messages), proven, note
        )
        await self._host.put(f"{PREFIX}{number:012d}", msgspec.msgpack.encode(kept))
        self._more.set()

    async def run(self) -> None:
        """Tell the admins, until cancelled; where nobody can be told now, again later."""
        while True:
            self._more.clear()
            waiting = sorted((await self._host.items(PREFIX)).items())[:AT_ONCE]
            if not waiting:
                await self._more.wait()
                continue
            found = [msgspec.msgpack.decode(raw, type=Reported) for _, raw in waiting]
            try:
                await self._host.tell_admins("\n".join(map(told, found)))
            except BridgeError as problem:
                self._host.log.info("report_not_told", why=problem.notice[:200])
            else:
                await self._host.put_all(dict.fromkeys(key for key, _ in waiting))
            await asyncio.sleep(PAUSE)


def told(report: Reported) -> str:
    """One report in a sentence."""
    by = report.by or "somebody who does not say who they are"
    proof = f"{report.messages} messages shown, {report.proven} of them proven to be theirs"
    note = f": “{' '.join(report.note.split())}”" if report.note.strip() else ""
    return f"{by} reports abuse by {report.abuser} in {report.room} ({proof}){note}"
