"""Fates: what became of a message, told to the person who sent it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog

from bridgekit.contract import facts
from bridgekit.contract.errors import EncryptionError, MatrixError
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.sending import SOURCE
from bridgekit.matrix.translate import Encrypted, Unreadable
from bridgekit.runtime.cases import Case, Fate
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

STATUS = "com.beeper.message_send_status"
SPOKEN = (facts.Message, facts.Edit, facts.Reaction, Encrypted, Unreadable)
"""What its sender expects to arrive."""
RECEIPT_DELAY = 0.5
"""Seconds."""


class Fates:
    """Reports to Matrix senders: as `com.beeper.message_send_status`, and in words where something went wrong."""

    def __init__(self, client: MatrixClient, bot: PersonId, *, every: bool, spawn: Spawn) -> None:
        self._client = client
        self._bot = bot
        self.every = every
        self._spawn = spawn
        self._newest: dict[ChatId, MessageId] = {}

    def concerns(self, case: Case) -> bool:
        """Whether somebody waits for this fate."""
        if case.event is None:
            return False
        problem = any(o.fate is not Fate.DELIVERED for o in case.outcomes)
        if isinstance(case.fact, SPOKEN):
            return problem or self.every or case.told
        return problem and any(o.notice for o in case.outcomes)

    async def report(self, room: ChatId, case: Case) -> None:
        """Tell the sender. What the room does not let the bot say is logged; nothing is raised."""
        if case.event is None:
            return
        failed = [o for o in case.outcomes if o.fate is Fate.FAILED and o.notice]
        uncertain = [o for o in case.outcomes if o.fate is Fate.UNCERTAIN]
        silent = any(o.fate is Fate.FAILED and not o.notice for o in case.outcomes)
        notices = list(dict.fromkeys(o.notice for o in failed + uncertain))
        # The words first: whoever sends them finds out whether the room is encrypted, and what the status may say.
        if notices and not all(o.told for o in failed + uncertain if o.notice):
            await _where_allowed(self._say(room, case, case.event, " ".join(notices), failed=bool(failed)))
        elif not silent:
            self._read(room, case.event)
        if isinstance(case.fact, SPOKEN):
            status = self._status(room, case, notices, failed=bool(failed), uncertain=bool(uncertain))
            await _where_allowed(status)

    async def pending(self, room: ChatId, case: Case, network: NetworkId, why: str) -> None:
        """Show the sender's client that it is not the end yet, and why. What the room does not allow is logged."""
        content: dict[str, Any] = {
            "network": network,
            "m.relates_to": {"rel_type": "m.reference", "event_id": case.event},
            "status": "PENDING",
        }
        if not self._client.may_be_encrypted(room):
            content["message"] = why
        txn = f"bk.{case.number:x}.pending"
        await _where_allowed(
            self._client.send(room, STATUS, content, txn=txn, user=self._bot, since=case.accepted)
        )

    def _read(self, room: ChatId, event: MessageId) -> None:
        """The bot has read up to what it delivered last: one receipt for all that crossed within a moment."""
        if room not in self._newest:
            self._spawn(self._receipt(room))
        self._newest[room] = event

    async def _receipt(self, room: ChatId) -> None:
        await asyncio.sleep(RECEIPT_DELAY)
        event = self._newest.pop(room)
        try:
            await self._client.receipt(room, event)
        except MatrixError as error:
            log.info("receipt_refused", reason=error.notice)

    async def _status(
        self, room: ChatId, case: Case, notices: list[str], *, failed: bool, uncertain: bool
    ) -> None:
        if not notices and not self.every and not case.told:
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
            if not self._client.may_be_encrypted(room):  # this event goes in clear; the notice does not
                content["message"] = " ".join(notices)
        await self._report(room, STATUS, case, content)

    async def _say(self, room: ChatId, case: Case, event: MessageId, words: str, *, failed: bool) -> None:
        lead = "Not delivered" if failed else "Perhaps not delivered"
        if failed and any(o.fate is Fate.DELIVERED for o in case.outcomes):
            lead = "Not delivered everywhere"
        body = f"⚠ {lead}: {words}"
        if not isinstance(case.fact, SPOKEN):
            body = f"⚠ {words}"
        content = {
            "msgtype": "m.notice",
            "body": body,
            "m.mentions": {},
            "m.relates_to": {"m.in_reply_to": {"event_id": event}},
        }
        await self._report(room, "m.room.message", case, content)

    async def _report(self, room: ChatId, type: str, case: Case, content: dict[str, Any]) -> None:
        """Once: an earlier run that told it in other words, and could not write that down, is found in the room."""
        txn = _txn(case, content)
        source = content[SOURCE] = f"bk.{case.number:x}.{'last' if case.told else 'first'}.{type}"
        await self._client.send(
            room,
            type,
            content,
            txn=txn,
            user=self._bot,
            source=source,
            since=case.accepted,
            recovering=case.recovering,
        )


async def _where_allowed(report: Coroutine[Any, Any, object]) -> None:
    try:
        await report
    except (MatrixError, EncryptionError) as error:
        log.warning("status_refused", reason=error.notice)


def _txn(case: Case, content: dict[str, Any]) -> str:
    """The id of a report: said again after a crash it is the same one, and with other words another."""
    digest = hashlib.blake2s(msgspec.json.encode(content, order="sorted"), digest_size=6).hexdigest()
    return f"bk.{case.number:x}.{digest}"
