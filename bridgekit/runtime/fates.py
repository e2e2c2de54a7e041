"""Fates: what became of a message, told to the person who sent it."""

from __future__ import annotations

from typing import Any

import structlog

from bridgekit.contract import facts
from bridgekit.contract.errors import MatrixError
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.cases import Case, Fate

log = structlog.get_logger(__name__)

STATUS = "com.beeper.message_send_status"


class Fates:
    """Reports to Matrix senders: as `com.beeper.message_send_status`, and in words where something went wrong."""

    def __init__(self, client: MatrixClient, bot: PersonId, *, every: bool) -> None:
        self._client = client
        self._bot = bot
        self.every = every

    def concerns(self, case: Case) -> bool:
        """Whether somebody waits for this fate."""
        if case.event is None:
            return False
        problem = any(o.fate is not Fate.DELIVERED for o in case.outcomes)
        if isinstance(case.fact, facts.Message | facts.Edit | facts.Reaction):
            return problem or self.every
        return problem and any(o.notice for o in case.outcomes)

    async def report(self, room: ChatId, case: Case) -> None:
        """Tell the sender. What the room does not let the bot say is logged; nothing is raised."""
        if case.event is None:
            return
        failed = [o for o in case.outcomes if o.fate is Fate.FAILED and o.notice]
        uncertain = [o for o in case.outcomes if o.fate is Fate.UNCERTAIN]
        silent = any(o.fate is Fate.FAILED and not o.notice for o in case.outcomes)
        notices = list(dict.fromkeys(o.notice for o in failed + uncertain))
        try:
            if isinstance(case.fact, facts.Message | facts.Edit | facts.Reaction):
                await self._status(room, case, notices, failed=bool(failed), uncertain=bool(uncertain))
            if notices:
                await self._say(room, case, case.event, " ".join(notices), failed=bool(failed))
            elif not silent:
                await self._client.receipt(room, case.event)
        except MatrixError as error:
            log.warning("status_refused", reason=error.notice)

    async def _status(
        self, room: ChatId, case: Case, notices: list[str], *, failed: bool, uncertain: bool
    ) -> None:
        if not notices and not self.every:
            return
        content: dict[str, Any] = {
            "network": "/".join(dict.fromkeys(str(o.side.network) for o in case.outcomes)),
            "m.relates_to": {"rel_type": "m.reference", "event_id": case.event},
            "status": "SUCCESS",
        }
        if notices:
            content["status"] = "FAIL_RETRIABLE" if uncertain and not failed else "FAIL_PERMANENT"
            content["reason"] = (
                "com.beeper.undecided" if uncertain and not failed else "com.beeper.bridge_error"
            )
            content["error"] = "uncertain" if uncertain and not failed else "failed"
            content["message"] = " ".join(notices)
        await self._client.send(
            room, STATUS, content, txn=f"bk.{case.number:x}.status", user=self._bot, since=case.accepted
        )

    async def _say(self, room: ChatId, case: Case, event: MessageId, words: str, *, failed: bool) -> None:
        lead = "Not delivered" if failed else "Perhaps not delivered"
        if failed and any(o.fate is Fate.DELIVERED for o in case.outcomes):
            lead = "Not delivered everywhere"
        body = f"⚠ {lead}: {words}"
        if not isinstance(case.fact, facts.Message | facts.Edit | facts.Reaction):
            body = f"⚠ {words}"
        content = {
            "msgtype": "m.notice",
            "body": body,
            "m.mentions": {},
            "m.relates_to": {"m.in_reply_to": {"event_id": event}},
        }
        await self._client.send(
            room,
            "m.room.message",
            content,
            txn=f"bk.{case.number:x}.notice",
            user=self._bot,
            since=case.accepted,
        )
