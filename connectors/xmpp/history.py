"""The archive (XEP-0313): pages of what a room said, asked for by its reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple
from xml.etree.ElementTree import Element

from connectors.xmpp.stanzas import compose, heard, wire
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.jids import bare
from connectors.xmpp.stanzas.wire import find, words
from connectors.xmpp.stream import Refused, Stream, new_id

PAGE = 100


class Archived(NamedTuple):
    """The archive's id (in a room: the stanza-id), when (ms), the message, and what it says."""

    id: str
    at: int
    message: Element
    said: Heard

    @classmethod
    def of(cls, id: str, at: int, message: Element) -> Archived:
        """It is read here, once."""
        return cls(id, at, message, heard.read(message, stamp=at))


class History:
    """Asks archives, and collects what comes."""

    def __init__(self, stream: Stream, now: Callable[[], int]) -> None:
        self._stream = stream
        self._now = now
        self._collecting: dict[tuple[str, str], list[Archived]] = {}

    def took(self, stanza: Element) -> bool:
        """Whether the message is a page's content; who was not asked is not believed (XEP-0313, 7)."""
        result = find(stanza, wire.MAM, "result")
        if result is None:
            return False
        page = self._collecting.get((bare(stanza.get("from", "")), result.get("queryid", "")))
        forwarded = find(result, wire.FORWARD, "forwarded")
        if page is None or forwarded is None:
            return True
        message = wire.core(forwarded, "message")
        delay = find(forwarded, wire.DELAY, "delay")
        if message is not None and result.get("id") and delay is not None:
            at = heard.clamped(wire.moment(delay.get("stamp", "")), self._now())
            page.append(Archived.of(result.get("id", ""), at, message))
        return True

    async def after(self, archive: str, reader: str, last: str) -> AsyncIterator[list[Archived]]:
        """What came after `last`, oldest first, page by page. Raises Refused where it knows no such message."""
        async for page in self._on(archive, reader, last):
            yield page

    async def since(self, archive: str, reader: str, at: int) -> AsyncIterator[list[Archived]]:
        """What was said from `at` (ms) on, likewise."""
        async for page in self._on(archive, reader, "", since=wire.stamp(at)):
            yield page

    async def _on(
        self, archive: str, reader: str, last: str, *, since: str = ""
    ) -> AsyncIterator[list[Archived]]:
        """Until it says that this is all, or nothing new comes: there are archives that begin again and again."""
        asked, told = set[str](), set[str]()
        while last not in asked:
            asked.add(last)
            page, end = await self._page(archive, reader, since=since, after=last)
            if page and told.issuperset(one.id for one in page):
                return
            yield page
            if not end:
                return
            last, told = end, {one.id for one in page}

    async def last(self, archive: str, reader: str, most: int) -> list[Archived]:
        """The last `most`, oldest first."""
        found: list[Archived] = []
        before = ""
        while len(found) < most:
            page, end = await self._page(archive, reader, before=before, most=min(PAGE, most - len(found)))
            if found and page and page[0].id == before:
                break
            found = page + found
            if not end or not page:
                break
            before = page[0].id
        return found

    async def _page(
        self,
        archive: str,
        reader: str,
        *,
        after: str = "",
        before: str | None = None,
        since: str = "",
        most: int = PAGE,
    ) -> tuple[list[Archived], str]:
        """A page, and behind which message the next one begins; "" where this was all."""
        query = new_id()
        page: list[Archived] = []
        self._collecting[archive, query] = page
        try:
            payload = compose.archive(query, after=after, before=before, since=since, most=most)
            answer = await self._stream.ask(compose.ask(archive, reader, new_id(), payload, kind="set"))
        finally:
            del self._collecting[archive, query]
        fin = find(answer, wire.MAM, "fin")
        if fin is None or fin.get("complete") in ("true", "1"):
            return page, ""
        # XEP-0059, 2.1: <last/> is the last of the page, also where none of it could be read.
        end = words(find(find(fin, wire.RSM, "set"), wire.RSM, "last"))
        return page, end or (page[-1].id if page else "")


def is_gone(refused: Refused) -> bool:
    """Whether the archive says that it does not know the message that was named (XEP-0059, 3.1)."""
    return wire.core(refused.stanza, "error") is not None and "item-not-found" in {
        wire.local(one) for error in refused.stanza for one in error
    }
