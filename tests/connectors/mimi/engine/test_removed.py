"""Who was removed cannot read on, with the very keys that they had (RFC 9420 16.6; draft-ietf-mimi-protocol-06 7.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Person
from connectors.mimi.clients.seat import Said, Seat
from connectors.mimi.clients.tenants import Tenants
from connectors.mimi.mls import installed
from connectors.mimi.service.people import People
from connectors.mimi.wire.rooms import ApplicationFanout, CommitFanout, Fanout
from tests.connectors.mimi.engine.pair import ROOM, Pair

BEN = "mimi://b.example/u/ben:hs"


async def test_a_removed_member_reads_nothing_more_with_their_own_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All that the hub sends is tried on the seat that was theirs, before and after they hear of their removal."""
    told: list[Fanout] = []
    heard = Tenants.heard

    async def overheard(tenants: Tenants, room: str, fanouts: Sequence[Fanout]) -> None:
        if tenants.domain == "b.example":
            told.extend(fanouts)
        await heard(tenants, room, fanouts)

    monkeypatch.setattr(Tenants, "heard", overheard)
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.b.says("ben", "hello too")
        await pair.a.reads("hello too")
        await pair.a.says("ann", "all of you read this")
        await pair.b.reads("all of you read this")
        keys = dict(pair.b.kept)
        people = People()

        def bens() -> Seat:
            """As it was on disk when he was still in."""
            engine = installed()
            _, _, records = msgspec.msgpack.decode(
                keys[f"seat/{BEN} {ROOM}"], type=tuple[str, str, dict[str, bytes]]
            )
            identity = engine.restore_identity(keys[f"tenant/{BEN}"])
            return Seat(engine, engine.restore_group(identity, records), user=BEN, room_uri=ROOM)

        (before,) = [f for f in told if isinstance(f, ApplicationFanout)][-1:]
        (read,) = bens().hear(before, people)
        assert isinstance(read, Said), "with these keys he could read"

        told.clear()
        await pair.a.session.perform(verbs.Kick(chat=ROOM, person=Person(id=PersonId(BEN), name="ben")))
        await pair.a.says("ann", "without ben")
        await pair.b.reads("without ben")
        (removal,) = [f for f in told if isinstance(f, CommitFanout)][:1]
        secret = [f for f in told if isinstance(f, ApplicationFanout)]
        assert secret
        for each in secret:
            with pytest.raises(installed().MlsError):
                bens().hear(each, people)
        seat = bens()
        seat.hear(removal, people)
        assert not seat.group.active
        for each in secret:
            with pytest.raises(installed().MlsError):
                seat.hear(each, people)
        assert [f for f in pair.b.heard if isinstance(f, facts.Message)][
            -1
        ].content.text.body == "without ben"
