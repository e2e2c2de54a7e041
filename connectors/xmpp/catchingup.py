"""The gap that an outage leaves in a room: what its archive tells of it (XEP-0313), before anything new is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from bridgekit.contract import facts
from bridgekit.contract.errors import RemoteError, SendUncertain
from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from connectors.xmpp.history import Archived, is_gone
from connectors.xmpp.stanzas import explain
from connectors.xmpp.stream import Refused
from connectors.xmpp.watch import Watch

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

CATCH_UPS = 3
"""Times that an archive is asked which does not answer."""
LEARNT = 50
"""Messages of a room whose names are learnt when it is entered."""


class CatchingUp:
    """Reads gaps for one session."""

    def __init__(self, session: XmppSession) -> None:
        self._session = session

    async def run(self, watch: Watch) -> None:
        """Read what was said since; nothing of ours is said until that is known, because it may be there already."""
        for attempt in range(CATCH_UPS):
            try:
                await self._read_gap(watch)
                watch.unreadable = False
                return
            except Refused as refused:
                why = explain.condition(refused.stanza)[0]
                break
            except TimeoutError:
                why = "it did not answer"
                await asyncio.sleep(attempt)
            except (RemoteError, SendUncertain):
                return  # the connection is gone, and the next one begins anew
            except Exception as error:  # what an archive tells is strangers' words
                self._session.network.troubles.met(error)
                why = "it tells what the bridge cannot read"
                break
        watch.unreadable = True
        self._session.network.host.log.warning("xmpp_gap_not_filled", reason=why)
        reason = f"the archive of {watch.room.jid} could not be read ({why})"
        self._session.tell(
            facts.Resync(chat=watch.room.chat, at=self._session.now(), since=watch.last_at, reason=reason)
        )

    async def _read_gap(self, watch: Watch) -> None:
        jid, last, at = watch.room.jid, watch.last, watch.last_at
        # The names of what was said just before: corrections, reactions and replies are about that.
        learnt = await self._session.history.last(jid, self._session.jid, LEARNT)
        if not watch.placed:  # whatever was said until now is not ours to tell
            watch.archived(learnt, quietly=True)
            watch.placed = watch.moved = True
            return
        known = next((i for i, one in enumerate(learnt) if one.id == last), None)
        if known is not None:
            watch.archived(learnt[: known + 1], quietly=True)
            async with self._session.sealing.page(watch, learnt[known + 1 :]) as page:
                self._filled(watch, watch.archived(page), 0)
            return
        try:
            await self._read_on(watch, self._session.history.after(jid, self._session.jid, last))
        except Refused as refused:
            if not is_gone(refused):
                raise
            # The archive begins behind what we know, or was made anew.
            await self._read_on(
                watch, self._session.history.since(jid, self._session.jid, at or self._session.now())
            )

    async def _read_on(self, watch: Watch, pages: AsyncIterator[list[Archived]]) -> None:
        count = skipped = 0
        async for page in pages:
            enough = count >= self._session.network.config.history
            async with self._session.sealing.page(watch, [] if enough else page) as opened:
                new = watch.archived(page if enough else opened, quietly=enough)
            count, skipped = (count, skipped + new) if enough else (count + new, skipped)
        self._filled(watch, count, skipped)

    def _filled(self, watch: Watch, count: int, skipped: int) -> None:
        if count:
            self._session.network.host.log.info("xmpp_gap_filled", messages=count, skipped=skipped)
        if skipped:
            words = f"{skipped} more messages were said here while the bridge was away; they are not shown."
            room = Person(id=PersonId(watch.room.jid), name=watch.room.name, bot=True)
            self._session.tell(
                facts.Message(
                    chat=watch.room.chat,
                    at=self._session.now(),
                    sender=room,
                    id=MessageId(f"skipped-{watch.last}"),
                    content=Content(text=plain(words), kind=Kind.NOTICE),
                )
            )
