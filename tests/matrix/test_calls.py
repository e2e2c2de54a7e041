"""Each call, once, against a homeserver that checks."""

import asyncio

import pytest

from bridgekit.contract.errors import HomeserverUnavailable, MatrixForbidden, MatrixRateLimited, MatrixRefused
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.shapes import Versions
from bridgekit.testing.homeserver import Drop, Fail, RateLimit
from tests.matrix.homeservers import (
    BOT,
    GHOST,
    answer,
    client_of,
    make_ghost,
    one_room,
    read_request,
    scripted,
)


async def test_people_are_made_named_and_shown():
    async with one_room() as (hs, client, _):
        await client.register("_bk_anna")  # again: no error
        with pytest.raises(MatrixRefused) as caught:
            await client.register("outside")
        assert caught.value.errcode == "M_EXCLUSIVE"
        await client.set_displayname("Anna é", user=GHOST)
        await client.set_avatar_url("mxc://hs.test/a", user=GHOST)
        assert await client.profile(GHOST) == {"displayname": "Anna é", "avatar_url": "mxc://hs.test/a"}
        assert await client.profile(PersonId("@nobody:hs.test")) is None
        assert (await client.whoami()).user_id == BOT
        assert (await client.whoami(user=GHOST)).user_id == GHOST
        assert hs.unknown_calls == []


async def test_memberships_come_and_go():
    async with one_room() as (hs, client, room):
        await client.register("_bk_bert")
        bert = PersonId("@_bk_bert:hs.test")
        await client.invite(room, bert, reason="come")
        assert hs.members(room)[bert] == "invite"
        assert await client.join(room, user=bert) == room
        assert await client.join(room, user=bert) == room
        assert set(await client.joined_members(room)) == {BOT, GHOST, bert}
        assert await client.joined_rooms(user=bert) == [room]
        await client.leave(room, reason="bye", user=bert)
        await client.forget(room, user=bert)
        await client.join(room, user=bert)
        await client.kick(room, bert, reason="out")
        assert hs.members(room)[bert] == "leave"
        await client.ban(room, bert)
        with pytest.raises(MatrixForbidden):
            await client.join(room, user=bert)
        assert [event["state_key"] for event in await client.members(room, membership="ban")] == [bert]
        await client.unban(room, bert)
        await client.join(room, user=bert)
        assert hs.unknown_calls == []


async def test_state_and_the_timeline_are_written_and_read():
    async with one_room() as (hs, client, room):
        first = await client.put_state(room, "m.room.topic", {"topic": "a"})
        await client.put_state(room, "org.x/y", {"k": 1}, state_key="libera://#a/b c")
        assert await client.state(room, "m.room.topic") == {"topic": "a"}
        assert await client.state(room, "org.x/y", "libera://#a/b c") == {"k": 1}
        assert await client.state(room, "org.nothing") is None
        assert "m.room.create" in {event["type"] for event in await client.room_state(room)}
        sent = await client.send(
            room, "m.room.message", {"msgtype": "m.text", "body": "hi"}, txn="1", user=GHOST
        )
        event = await client.event(room, sent)
        assert event is not None
        assert event["sender"] == GHOST
        assert await client.event(room, MessageId("$nothing")) is None
        page = await client.messages(room, limit=3)
        assert page.chunk[0]["event_id"] == sent
        older = await client.messages(room, start=page.end, limit=100)
        assert first in {e["event_id"] for e in page.chunk + older.chunk}
        redaction = await client.redact(room, sent, txn="r1", reason="why")
        assert await client.redact(room, sent, txn="r1", reason="why") == redaction
        assert hs.messages(room)[0].content == {}
        await client.typing(room, True, user=GHOST)
        await client.typing(room, False, user=GHOST)
        await client.receipt(room, sent, user=GHOST)
        assert hs.unknown_calls == []


async def test_the_directory_is_kept():
    async with one_room() as (hs, client, room):
        alias = "#_bk_testnet_#chan é/x:hs.test"
        assert await client.resolve_alias(alias) is None
        await client.put_alias(alias, room)
        assert await client.resolve_alias(alias) == (room, ["hs.test"])
        with pytest.raises(MatrixRefused):
            await client.put_alias(alias, room)
        await client.delete_alias(alias)
        await client.delete_alias(alias)
        assert await client.resolve_alias(alias) is None
        await client.set_directory_visibility(room, True)
        await client.set_directory_visibility(room, False)
        assert hs.unknown_calls == []


async def test_an_upgraded_room_is_followed_both_ways():
    async with one_room() as (hs, client, room):
        assert await client.successor(room) is None
        assert await client.replacer(room) is None
        assert await client.predecessor(room) is None
        alice = hs.user("alice")
        old = ChatId(await alice.create_room(preset="public_chat"))
        await client.join(old)
        new = ChatId(await alice.upgrade(old, "11"))
        await client.join(new)
        assert await client.successor(old) == new
        assert await client.replacer(old) == alice.id
        assert await client.predecessor(new) == old


@pytest.mark.parametrize(
    ("versions", "version", "enough"),
    [
        (["v1.1", "v1.12"], (1, 11), True),
        (["v1.9"], (1, 11), False),
        (["r0.6.1"], (1, 1), False),
        ([], (1, 1), False),
        (["v2.0"], (1, 11), True),
        (["vx.y"], (1, 1), False),
    ],
)
def test_versions_are_compared_as_numbers(versions, version, enough):
    assert Versions(versions=versions).at_least(*version) is enough


async def test_a_patient_call_goes_through_an_outage_and_a_rate_limit():
    async with one_room() as (hs, client, room):
        hs.fault("PUT */state/*", RateLimit(retry_after_ms=30), times=1)
        hs.fault("PUT */state/*", Fail(status=502), times=2, skip=1)
        with pytest.raises(MatrixRateLimited):
            await client.put_state(room, "m.room.topic", {"topic": "a"})
        await client.patient.put_state(room, "m.room.topic", {"topic": "b"})
        await hs.pause()
        waiting = asyncio.create_task(client.patient.put_state(room, "m.room.topic", {"topic": "c"}))
        await asyncio.sleep(0.05)
        with pytest.raises(HomeserverUnavailable):
            await client.put_state(room, "m.room.topic", {"topic": "d"})
        await hs.resume()
        await waiting
        assert hs.state(room, "m.room.topic") == {"topic": "c"}


async def test_a_room_whose_making_may_have_succeeded_is_not_made_again():
    async with one_room() as (hs, client, _):
        hs.fault("POST */createRoom", Drop(after_effect=True), times=1)
        with pytest.raises(HomeserverUnavailable) as caught:
            await client.patient.create_room(preset="public_chat")
        assert not caught.value.certain


class Counting:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.changes: list[bool] = []

    def answered(self, call: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((call, status))

    def homeserver(self, available: bool) -> None:
        self.changes.append(available)


async def test_calls_and_outages_are_counted():
    async with one_room() as (hs, _, room):
        counting = Counting()
        async with MatrixClient(
            hs.url, "as-secret", bot=BOT, metrics=counting, backoff=(0.01, 0.02)
        ) as client:
            await client.send(room, "m.x", {}, txn="1", user=GHOST)
            await hs.pause()
            sending = asyncio.create_task(client.send(room, "m.x", {}, txn="2", user=GHOST))
            while counting.changes != [True, False]:  # noqa: ASYNC110 - one lost answer is no outage yet
                await asyncio.sleep(0.01)
            await hs.resume()
            await sending
        assert counting.calls[0] == ("send", 200)
        assert counting.calls[-1] == ("send", 200)
        assert ("send", 0) in counting.calls
        assert counting.changes == [True, False, True]


async def test_two_hundred_joins_at_once_all_succeed():
    async with one_room() as (hs, client, room):
        await asyncio.gather(*(make_ghost(client, room, f"_bk_{n}") for n in range(200)))
        assert len(hs.joined(room)) == 202


async def test_a_join_that_another_server_lets_fail_keeps_nobody_else_waiting():
    """Synapse answers 502 with a JSON body when a federated join fails; it is well itself."""

    async def talk(reader, writer):
        while True:
            failed = b"/join/" in await read_request(reader)
            error = b'{"errcode":"M_UNKNOWN","error":"Failed to make_join via any server"}'
            writer.write(answer(error, "502 Bad Gateway") if failed else answer())

    async with scripted(talk) as url, client_of(url) as client:
        for _ in range(5):
            with pytest.raises(HomeserverUnavailable):
                await client.join("#far:away.test")
        with pytest.raises(HomeserverUnavailable, match="Failed to make_join"):
            await client.patient.join(
                "#far:away.test"
            )  # patience ends: the other server may be gone for ever
        assert client.available
        await client.set_displayname("x")
