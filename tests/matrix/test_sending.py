"""Sends: there once, whatever happens to answers, transaction ids and the homeserver."""

import asyncio
import time
from typing import Any

import pytest

from bridgekit.contract.errors import HomeserverUnavailable, MatrixForbidden, MatrixRateLimited
from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.matrix.sending import SOURCE
from bridgekit.matrix.transport import AT_ONCE
from bridgekit.matrix.wire import Answer
from bridgekit.testing.homeserver import Delay, Drop, Fail, FakeHomeserver, RateLimit
from tests.matrix.homeservers import (
    BACKOFF,
    GHOST,
    answer,
    client_of,
    make_ghost,
    one_room,
    read_request,
    scripted,
)

SEND = "PUT */send/*"
SCAN = "GET rooms/*/messages"


def text(body: str, source: str | None = None) -> dict[str, Any]:
    content = {"msgtype": "m.text", "body": body}
    return content if source is None else {**content, SOURCE: source}


def bodies(hs: FakeHomeserver, room: str) -> list[str]:
    return [str(event.body) for event in hs.messages(room)]


async def test_a_message_is_sent_as_the_ghost_and_its_id_comes_back():
    async with one_room() as (hs, client, room):
        sent = await client.send(room, "m.room.message", text("hi", "s1"), txn="t1", user=GHOST, source="s1")
        (event,) = hs.messages(room)
        assert (event.event_id, event.sender, event.body) == (sent, GHOST, "hi")
        assert hs.unknown_calls == []


async def test_a_message_bears_the_time_at_which_it_was_said():
    """Application Service API, "Timestamp massaging"."""
    async with one_room() as (hs, client, room):
        await client.send(room, "m.room.message", text("hi"), txn="t1", user=GHOST, at=1_600_000_000_123)
        assert hs.messages(room)[0].origin_server_ts == 1_600_000_000_123


async def test_a_message_that_is_ready_waits_for_what_must_come_before_it():
    async with one_room() as (hs, client, room):
        gate = asyncio.Event()

        async def opened() -> None:
            await gate.wait()

        sending = asyncio.create_task(
            client.send(room, "m.room.message", text("hi"), txn="t1", user=GHOST, after=opened)
        )
        await asyncio.sleep(0.05)
        assert bodies(hs, room) == []
        gate.set()
        await sending
        assert bodies(hs, room) == ["hi"]


async def test_names_with_every_character_go_through_the_path_unharmed():
    async with one_room() as (hs, client, room):
        ghost = await make_ghost(client, room, "_bk_a=2fb./+x")
        txn = "libera/#chan ?&=%é\n"
        await client.send(room, "org.x y/ü", {"k": "v"}, txn=txn, user=ghost)
        event = hs.timeline(room)[-1]
        assert (event.type, event.sender) == ("org.x y/ü", ghost)
        assert hs.unknown_calls == []


@pytest.mark.parametrize(
    "fault",
    [Drop(after_effect=True), Fail(status=504, after_effect=True), Fail(status=500, after_effect=True)],
)
async def test_an_answer_lost_after_the_effect_leaves_one_event_even_where_the_txn_id_is_forgotten(fault):
    async with one_room() as (hs, client, room):
        hs.fault(SEND, fault, times=1)
        sending = asyncio.create_task(
            client.send(room, "m.room.message", text("hi", "s1"), txn="t1", user=GHOST, source="s1")
        )
        await hs.wait_for(lambda event: event.body == "hi")
        hs.forget_txns()
        sent = await sending
        assert [event.event_id for event in hs.messages(room)] == [sent]


@pytest.mark.parametrize("fault", [Drop(), Fail(status=503), Fail(status=500)])
async def test_a_try_without_effect_is_repeated_and_leaves_one_event(fault):
    async with one_room() as (hs, client, room):
        rule = hs.fault(SEND, fault, times=3)
        await client.send(room, "m.room.message", text("hi", "s1"), txn="t1", user=GHOST, source="s1")
        assert bodies(hs, room) == ["hi"]
        assert rule.hits == 3


async def test_an_impatient_send_raises_and_says_whether_it_may_have_arrived():
    async with one_room() as (hs, client, room):
        hs.fault(SEND, Drop(after_effect=True), times=1)
        with pytest.raises(HomeserverUnavailable) as caught:
            await client.send(room, "m.room.message", text("hi"), txn="t1", user=GHOST, patient=False)
        assert not caught.value.certain
        await hs.pause()
        with pytest.raises(HomeserverUnavailable) as caught:
            await client.send(room, "m.room.message", text("ho"), txn="t2", user=GHOST, patient=False)
        assert caught.value.certain


async def test_recovering_finds_what_an_earlier_life_sent_and_sends_what_it_did_not():
    async with one_room() as (hs, client, room):
        first = await client.send(room, "m.room.message", text("a", "s1"), txn="t1", user=GHOST, source="s1")
        hs.forget_txns()
        async with client_of(hs.url) as next_life:
            again = [
                await next_life.send(
                    room,
                    "m.room.message",
                    text(body, source),
                    txn=txn,
                    user=GHOST,
                    source=source,
                    recovering=True,
                )
                for body, source, txn in (("a", "s1", "t1"), ("b", "s2", "t2"))
            ]
        assert again[0] == first
        assert bodies(hs, room) == ["a", "b"]
        assert hs.calls[SCAN] == 1


async def test_fifty_sends_that_recover_at_once_share_one_look_at_the_room():
    async with one_room() as (hs, client, room):
        for n in range(0, 50, 2):
            await client.send(room, "m.room.message", text(f"{n}", f"s{n}"), txn=f"t{n}", user=GHOST)
        hs.forget_txns()
        async with client_of(hs.url) as next_life, asyncio.TaskGroup() as group:
            for n in range(50):
                send = next_life.send(
                    room,
                    "m.room.message",
                    text(f"{n}", f"s{n}"),
                    txn=f"t{n}",
                    user=GHOST,
                    source=f"s{n}",
                    since=1_000 + n,
                    recovering=True,
                )
                group.create_task(send)
        assert sorted(map(int, bodies(hs, room))) == list(range(50))
        assert hs.calls[SCAN] == 1


async def test_a_homeserver_that_restarts_under_many_sends_has_each_of_them_once():
    """Synapse forgets transaction ids when it goes down; the answers of that moment are lost as well."""
    async with one_room() as (hs, client, room):
        ghosts = [await make_ghost(client, room, f"_bk_g{n}") for n in range(10)]

        async def talk(ghost: PersonId) -> None:
            for n in range(30):
                source = f"{ghost}/{n}"
                await client.send(
                    room,
                    "m.room.message",
                    text(source, source),
                    txn=source,
                    user=ghost,
                    source=source,
                    since=1,
                )

        hs.fault(SEND, Drop(after_effect=True), p=0.05)
        hs.fault(SEND, Drop(), p=0.05)
        async with asyncio.TaskGroup() as group:
            for ghost in ghosts:
                group.create_task(talk(ghost))
            for _ in range(3):
                await asyncio.sleep(0.1)
                await hs.restart(down=0.05)
        said = bodies(hs, room)
        assert len(said) == len(set(said)) == 300
        for ghost in ghosts:
            assert [body for body in said if body.startswith(ghost)] == [f"{ghost}/{n}" for n in range(30)]


async def test_an_outage_of_two_hundred_callers_is_probed_one_at_a_time_and_loses_nothing():
    async with one_room() as (hs, client, room):
        probes = hs.calls["GET versions"]
        await hs.pause()
        async with asyncio.TaskGroup() as group:
            for n in range(200):
                group.create_task(
                    client.send(room, "m.room.message", text(f"{n}"), txn=f"t{n}", user=GHOST, source=f"s{n}")
                )
            while client.available:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert not client.available
            await hs.resume()
        assert sorted(map(int, bodies(hs, room))) == list(range(200))
        assert hs.calls["GET versions"] - probes == 1
        assert hs.calls[SCAN] <= 2  # nothing was sent into the outage but what was under way


async def test_a_rate_limited_send_waits_as_long_as_it_is_told_to_while_others_go_on():
    async with one_room() as (hs, client, room):
        bert = await make_ghost(client, room, "_bk_bert")
        loop = asyncio.get_running_loop()
        limited = hs.fault(SEND, RateLimit(retry_after_ms=2000), times=1, user=GHOST)
        start = loop.time()
        slow = asyncio.create_task(client.send(room, "m.room.message", text("slow"), txn="a", user=GHOST))
        while not limited.hits:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await client.send(room, "m.room.message", text("quick"), txn="b", user=bert)
        assert not slow.done()
        with pytest.raises(MatrixRateLimited):
            await client.send(room, "m.room.message", text("no"), txn="c", user=GHOST, patient=False)
        await slow
        assert loop.time() - start >= 2
        assert bodies(hs, room) == ["quick", "slow"]


async def test_a_send_that_is_forbidden_raises_at_once():
    async with one_room() as (_, client, room):
        await client.register("_bk_stranger")
        stranger = PersonId("@_bk_stranger:hs.test")
        with pytest.raises(MatrixForbidden) as caught:
            await client.send(room, "m.room.message", text("hi"), txn="t", user=stranger, source="s")
        assert caught.value.certain
        assert caught.value.notice.endswith(".")


async def test_the_look_back_ends_at_events_from_before_the_first_try_but_not_at_ours_with_old_times():
    async with one_room() as (hs, client, room):
        alice = hs.user("alice")
        await alice.join(room)
        for n in range(150):
            await alice.send(room, f"old {n}")
        mine = await client.send(room, "m.room.message", text("a", "s1"), txn="t1", user=GHOST)
        # Replayed history bears its own old times, and lies after the wanted event.
        for n in range(150):
            await client.send(
                room, "m.room.message", text("r", f"h{n}"), txn=f"h{n}", user=GHOST, at=1_000 + n
            )
        now = hs.messages(room)[0].origin_server_ts
        assert await client.find_sent(room, {"s1", "nothing"}, since=now) == {"s1": mine}
        before = hs.calls[SCAN]
        assert await client.find_sent(room, {"nothing"}, since=now + 3_600_000) == {}
        assert hs.calls[SCAN] - before == 2  # a page of ours tells nothing; the next is an hour too old


async def test_the_look_back_ends_after_five_hundred_events_where_the_time_is_unknown():
    async with one_room() as (hs, client, room):
        await client.send(room, "m.room.message", text("a", "s1"), txn="t1", user=GHOST)
        for n in range(520):
            await client.send(room, "m.room.message", text("x"), txn=f"x{n}", user=GHOST)
        assert await client.find_sent(room, ["s1"]) == {}
        assert hs.calls[SCAN] == 2


async def test_what_was_sent_is_found_behind_all_that_was_said_in_the_room_since():
    """A bridge that was killed, and killed again before it came that far, in a room where much is said."""
    async with one_room() as (hs, client, room):
        since = time.time_ns() // 1_000_000
        send: dict[str, Any] = {"txn": "t1", "user": GHOST, "source": "s1", "since": since}
        first = await client.send(room, "m.room.message", text("a", "s1"), **send)
        await hs.user("carl").join(room)
        await hs.chatter(room, ["carl"], 2500)
        hs.forget_txns()
        async with client_of(hs.url) as next_life:
            again = await next_life.send(room, "m.room.message", text("a", "s1"), **send, recovering=True)
        assert again == first
        assert hs.calls[SCAN] < 10


async def test_the_ghost_reads_where_the_bot_may_not():
    async with one_room() as (hs, client, _):
        await client.register("_bk_bert")
        bert = PersonId("@_bk_bert:hs.test")
        direct = await client.create_room(preset="private_chat", user=bert)
        sent = await client.send(direct, "m.room.message", text("a", "s1"), txn="t1", user=bert)
        hs.forget_txns()
        again = await client.send(
            direct, "m.room.message", text("a", "s1"), txn="t1", user=bert, source="s1", recovering=True
        )
        assert again == sent


async def test_what_a_proxy_says_in_html_is_trouble_and_not_an_answer():
    tries = 0

    async def talk(reader, writer):
        nonlocal tries
        while True:
            request = await read_request(reader)
            if b"/versions" in request:
                writer.write(answer(b'{"versions":["v1.12"]}'))
            elif b"/messages" in request:
                writer.write(answer(b'{"chunk":[]}'))
            else:
                tries += 1
                good = tries > 2
                writer.write(answer(b'{"event_id":"$e"}') if good else answer(b"<html>Sign in</html>"))

    async with scripted(talk) as url, client_of(url) as client:
        room = "!r:hs.test"
        assert await client.send(room, "m.x", {}, txn="t", source="s") == MessageId("$e")  # type: ignore[arg-type]
        assert tries == 3


async def test_a_cancelled_send_ends_at_once_also_while_the_homeserver_is_away():
    async with one_room() as (hs, client, room):
        await hs.pause()
        sending = asyncio.create_task(client.send(room, "m.room.message", text("hi"), txn="t", user=GHOST))
        await asyncio.sleep(BACKOFF[0] * 2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await hs.resume()
        await client.send(room, "m.room.message", text("ho"), txn="u", user=GHOST)
        assert bodies(hs, room) == ["ho"]


async def test_so_many_events_of_one_room_are_under_way_at_a_time_and_another_room_does_not_wait():
    """Synapse 1.163: a room's next event is built on the ten newest ends of its graph; who came in on another is
    refused."""
    async with one_room() as (hs, client, room), asyncio.TaskGroup() as group:
        other = await client.create_room(preset="public_chat")
        under_way = most = 0
        put = client.homeserver.pool.exchange

        async def counted(request: bytes, *, seconds: float) -> Answer:
            nonlocal under_way, most
            there = room.encode() in request
            under_way += there
            most = max(most, under_way)
            try:
                return await put(request, seconds=seconds)
            finally:
                under_way -= there

        client.homeserver.pool.exchange = counted  # type: ignore[method-assign]
        slow = hs.fault(SEND, Delay(seconds=30))
        for i in range(3 * AT_ONCE):
            group.create_task(client.send(room, "m.room.message", text(f"{i}"), txn=f"t{i}", user=GHOST))
        while slow.hits < AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        hs.heal(slow)
        await client.send(other, "m.room.message", text("elsewhere"), txn="elsewhere")
        assert (bodies(hs, other), bodies(hs, room), most) == (["elsewhere"], [], AT_ONCE)
        hs.drop_connections()  # each is sent again, in its turn
    assert sorted(bodies(hs, room), key=int) == [str(i) for i in range(3 * AT_ONCE)]
    assert most == AT_ONCE
