"""Archives (XEP-0313) that do not page as they should: every gap has an end."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest

from connectors.xmpp.history import History
from connectors.xmpp.stanzas import wire
from tests.connectors.xmpp.reading import ROOM

Page = tuple[list[str], str]
"""The ids of a page, and what stands in <set/>."""


class Archive:
    """In the place of a stream: answers with one page after the other, and the last of them for ever."""

    def __init__(self, *pages: Page) -> None:
        self.pages = list(pages)
        self.asked: list[str] = []
        self.history = History(self, lambda: 10_000)  # type: ignore[arg-type]

    async def ask(self, iq: Element, seconds: float = 0) -> Element:
        query = wire.find(iq, wire.MAM, "query")
        assert query is not None
        page = wire.find(query, wire.RSM, "set")
        self.asked.append(wire.words(wire.find(page, wire.RSM, "after")))
        assert len(self.asked) < 20, "it is asked again and again"
        ids, rest = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        for id in ids:
            assert self.history.took(_result(query.get("queryid", ""), id))
        return fromstring(f"<iq><fin xmlns='{wire.MAM}'><set xmlns='{wire.RSM}'>{rest}</set></fin></iq>")

    async def after(self, last: str) -> list[str]:
        return [one.id async for page in self.history.after(ROOM, "me", last) for one in page]


def _result(query: str, id: str) -> Element:
    inside = f"<message xmlns='jabber:client' from='{ROOM}/eve'/>" if id.startswith("m") else ""
    return fromstring(
        f"<message from='{ROOM}'><result xmlns='{wire.MAM}' queryid='{query}' id='{id}'>"
        f"<forwarded xmlns='{wire.FORWARD}'><delay xmlns='{wire.DELAY}' stamp='1970-01-01T00:00:01Z'/>{inside}"
        "</forwarded></result></message>"
    )


@pytest.mark.parametrize(
    "pages",
    [
        [(["m1", "m2"], "")],  # it knows no <after/>
        [(["m1", "m2"], "<last>m2</last>")],
        [(["m2", "m1"], "<last>m1</last>"), (["m2"], "<last>m2</last>")],  # the newest come first
        [(["m1", "m2"], "<last>m2</last>"), ([], "<last>m2</last>")],
        [(["m1", "m2"], "<last>m0</last>")],
    ],
)
async def test_an_archive_that_begins_again_and_again_has_an_end(pages: list[Page]):
    """XEP-0313, 4.3: "complete" says that this was all; nobody has to say it."""
    assert sorted(set(await Archive(*pages).after("m0"))) == ["m1", "m2"]


async def test_a_page_of_which_nothing_can_be_read_is_not_the_last():
    """XEP-0059, 2.1: <last/> is the id of the last item in the page."""
    archive = Archive((["x1", "x2"], "<last>x2</last>"), (["m3"], "<last>m3</last>"), ([], ""))
    assert await archive.after("m0") == ["m3"]
    assert archive.asked == ["m0", "x2", "m3"]
