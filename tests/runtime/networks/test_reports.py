"""Reports of abuse are kept until an admin has dealt with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.errors import Disconnected, MatrixError, NotAllowed
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId
from bridgekit.contract.reports import AbuseReport
from bridgekit.runtime.networks import reports
from bridgekit.runtime.networks.reports import Reports
from bridgekit.store import SealingKey, Store
from tests.runtime.fake_network import TALK, now
from tests.runtime.running import BOT, by, said, until, world

TOWN = NetworkId("town")
ALICE, EVE = PersonId("@alice:hs.test"), PersonId("eve")
REPORT = AbuseReport(
    chat=TALK, at=now(), accused=EVE, reporter=ALICE, note="she\nis\u202e rude", messages=2, proven=1
)
LINE = (
    f"Report 1, Town: {ALICE} reports eve in {TALK} (2 messages shown, 1 proven to be theirs): “she is rude”"
)
HOW = "`!bridge reports done <number>` closes one that you have dealt with."


class Admins:
    """Who is told, while they can be."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.tries = 0
        self.there = True

    async def tell(self, words: str) -> None:
        self.tries += 1
        if not self.there:
            raise MatrixError("The homeserver is away.")
        self.told.append(words)


@asynccontextmanager
async def desk(folder: Path, admins: Admins | None = None) -> AsyncIterator[Reports]:
    """Reports over a store that outlives them; who is to be told is told where `admins` are given."""
    key = SealingKey.load_or_create(folder / "key")
    store = await Store.open(f"sqlite:///{folder / 'store.db'}", key)
    tell = (admins or Admins()).tell
    kept = Reports(store, tell=tell, came=lambda network: None, label=lambda network: "Town")
    await kept.load()
    telling = [asyncio.create_task(kept.keep_telling())] if admins is not None else []
    try:
        yield kept
    finally:
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await store.close()


async def test_it_is_told_once_and_stays_open_until_somebody_closes_it(tmp_path: Path):
    """Also over a restart; and no number is given twice."""
    admins = Admins()
    async with desk(tmp_path, admins) as kept:
        await kept.file(TOWN, REPORT)
        await until(lambda: kept.open[0].told)
    async with desk(tmp_path, admins) as kept:
        assert [filed.number for filed in kept.open] == [1]
        assert kept.counts() == {TOWN: 1}
        await kept.settle(1)
        with pytest.raises(NotAllowed, match="There is no open report 1"):
            await kept.settle(1)
        assert kept.open == []
    async with desk(tmp_path) as kept:
        await kept.file(TOWN, REPORT)
        assert [filed.number for filed in kept.open] == [2]
    assert admins.told == [f"Abuse was reported:\n{LINE}\n{HOW}"]


async def test_it_waits_until_somebody_could_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reports, "PAUSE", 0.0)
    admins = Admins()
    admins.there = False
    async with desk(tmp_path, admins) as kept:
        await kept.file(TOWN, REPORT)
        await until(lambda: admins.tries > 2)
        admins.there = True
        await until(lambda: admins.told)


async def test_what_comes_at_once_is_one_notice(tmp_path: Path):
    admins = Admins()
    async with desk(tmp_path) as kept:
        for _ in range(reports.AT_ONCE + 2):
            await kept.file(TOWN, REPORT)
    async with desk(tmp_path, admins):
        await until(lambda: admins.told)
    (notice,) = admins.told
    assert notice.splitlines()[1] == LINE
    assert notice.splitlines()[-2:] == ["There are 2 more.", HOW]


async def test_who_was_told_of_too_many_loses_the_oldest_and_nobody_loses_what_was_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reports, "MOST", 2)
    async with desk(tmp_path) as kept:
        await kept.file(TOWN, REPORT)
        await kept.file(TOWN, REPORT)
        with pytest.raises(Disconnected) as refused:
            await kept.file(TOWN, REPORT)
        assert (refused.value.retry_after or 0) > 0
        await kept.file(NetworkId("village"), REPORT)  # is another's business
    async with desk(tmp_path, Admins()) as kept:
        await until(lambda: all(filed.told for filed in kept.open))
        await kept.file(TOWN, REPORT)
        assert [filed.number for filed in kept.open] == [2, 3, 4]


async def test_what_is_old_and_was_told_is_forgotten(tmp_path: Path):
    old = msgspec.structs.replace(REPORT, at=REPORT.at - reports.KEEP_MS - 1)
    async with desk(tmp_path, Admins()) as kept:
        await kept.file(TOWN, old)
        await until(lambda: kept.open[0].told)
    async with desk(tmp_path, Admins()) as kept:
        await until(lambda: not kept.open)


@pytest.mark.parametrize(
    ("side", "person", "left"), [(TOWN, EVE, [2]), (MATRIX, ALICE, [2]), (NetworkId("village"), EVE, [1, 2])]
)
async def test_of_who_is_erased_nothing_is_kept(
    tmp_path: Path, side: NetworkId, person: PersonId, left: list[int]
):
    other = AbuseReport(chat=ChatId("#other"), at=now(), accused=PersonId("mallory"))
    async with desk(tmp_path) as kept:
        await kept.file(TOWN, REPORT)
        await kept.file(TOWN, other)
        await kept.erase(side, person)
        assert [filed.number for filed in kept.open] == left
    async with desk(tmp_path) as kept:
        assert [filed.number for filed in kept.open] == left


async def test_what_is_no_number_closes_nothing_and_is_told(tmp_path: Path):
    async with world(tmp_path) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True)
        await alice.invite(room, BOT, is_direct=True)
        await said(place, by(BOT, "Every word here is a command"))
        usage = by(BOT, "Say `!bridge reports`, or `!bridge reports done <number>`.")
        wrong = ["done", "done x", "done -1", "done \u0663", f"done {'9' * 5000}", "undo 1"]
        for words in wrong:
            await alice.send(room, f"reports {words}")
        await until(lambda: sum(map(usage, place.homeserver.messages(room))) == len(wrong))
        await alice.send(room, "reports done 7")
        await said(place, by(BOT, "There is no open report 7"))
