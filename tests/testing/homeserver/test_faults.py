"""Faults on purpose: each kind, where it strikes, and that the same seed strikes the same calls."""

import asyncio
import time

import aiohttp
import pytest

from bridgekit.testing.homeserver import Delay, Drop, Fail, FakeHomeserver, RateLimit
from bridgekit.testing.homeserver.faults import Faults
from tests.testing.homeserver.conftest import ANN, FELT, Client


async def test_a_rate_limit_says_when_to_come_back_in_body_and_header(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    hs.fault("PUT */send/*", RateLimit(retry_after_ms=1500), times=1)
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer as-token"}) as session:
        url = f"{hs.url}/_matrix/client/v3/rooms/{room}/send/m.room.message/1"
        async with session.put(url, json={"body": "x"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "2")
            answer = await response.json()
            assert (answer["errcode"], answer["retry_after_ms"]) == ("M_LIMIT_EXCEEDED", 1500)
    assert hs.messages(room) == []
    await api.send(room, "later", "1")


async def test_an_answer_can_be_lost_before_or_after_the_effect(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    hs.fault("PUT */send/*", Drop(), times=FELT)
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.send(room, "never happened", "1", user=ANN)
    hs.fault("PUT */send/*", Drop(after_effect=True), times=FELT)
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.send(room, "happened", "2", user=ANN)
    assert [event.body for event in hs.messages(room)] == ["happened"]
    await api.send(room, "happened", "2", user=ANN)
    assert [event.body for event in hs.messages(room)] == ["happened"], "the transaction id is known"


async def test_a_502_may_hide_a_success(hs: FakeHomeserver, api: Client, room: str) -> None:
    hs.fault("PUT */send/*", Fail(status=502), times=1)
    hs.fault("PUT */send/*", Fail(status=504, after_effect=True), times=1, skip=1)
    await api.send(room, "no", "1", expect=502)
    await api.send(room, "yes", "2", expect=504)
    assert [event.body for event in hs.messages(room)] == ["yes"]


async def test_a_delay_delays_only_what_it_names(hs: FakeHomeserver, api: Client, room: str) -> None:
    rule = hs.fault("PUT */send/*", Delay(seconds=1.0), user=ANN)
    began = time.monotonic()
    ann = asyncio.create_task(api.send(room, "ann is slow", "1", user=ANN))
    while not rule.hits:  # noqa: ASYNC110 - a rule has no event of its own
        await asyncio.sleep(0)
    await api.send(room, "the bot is quick", "2")
    await ann
    assert time.monotonic() - began >= 1.0
    hs.heal(rule)
    await api.send(room, "healed", "3", user=ANN)
    assert rule.hits == 1
    assert [e.body for e in hs.messages(room)] == ["the bot is quick", "ann is slow", "healed"]


async def test_delayed_calls_wait_side_by_side(hs: FakeHomeserver, api: Client, room: str) -> None:
    hs.fault("PUT */send/*", Delay(seconds=1.0))
    began = time.monotonic()
    await asyncio.gather(*(api.send(room, "x", str(number)) for number in range(20)))
    assert time.monotonic() - began < 10  # one after the other: 20


def test_the_same_seed_strikes_the_same_calls() -> None:
    def strikes(seed: int, *others: str) -> list[bool]:
        faults = Faults(seed)
        faults.add("PUT */send/*", Drop(), p=0.3)
        for other in others:
            faults.add(other, Delay(seconds=0.0, up_to=1.0), p=0.5)
        return [
            (found := faults.draw("PUT", f"/x/send/{number}")) is not None and found.end is not None
            for number in range(200)
        ]

    assert strikes(1) == strikes(1)
    assert strikes(1) == strikes(1, "*"), "another rule does not change what this one does"
    assert strikes(1) != strikes(2)
    assert 30 < sum(strikes(1)) < 90


def test_waits_add_up_and_the_first_bad_end_wins() -> None:
    faults = Faults()
    faults.add("*", Delay(seconds=0.5))
    faults.add("GET *", Delay(seconds=0.25, after_effect=True))
    faults.add("*", Fail(status=503))
    faults.add("*", Drop())
    found = faults.draw("GET", "/x")
    assert found is not None
    assert (found.before, found.after, found.end) == (0.5, 0.25, Fail(status=503))
    assert Faults().draw("GET", "/x") is None


async def test_pipelined_requests_are_answered_in_order(hs: FakeHomeserver, api: Client, room: str) -> None:
    """RFC 9112 9.3.2: a server sends its answers in the order of the requests, however late the first is."""
    hs.fault("* */send/m.room.message/0", Delay(seconds=0.05))
    reader, writer = await asyncio.open_connection("127.0.0.1", hs.port)
    body = b'{"body":"x"}'
    for number in range(3):
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}"
        head = f"PUT {path} HTTP/1.1\r\nAuthorization: Bearer as-token\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
    ids: list[bytes] = []
    async with asyncio.timeout(5):
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            ids.append((await reader.readuntil(b"}"))[13:-2])
    writer.close()
    await writer.wait_closed()
    assert [event.event_id.encode() for event in hs.messages(room)] == ids


async def test_what_is_not_http_is_shown_the_door(hs: FakeHomeserver) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hs.port)
    writer.write(b"NICK bridgekit\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()
