"""The sending side: which events go to the appservice, in which transactions, and what happens when it fails."""

import asyncio

import aiohttp
import pytest

from bridgekit.testing.homeserver import Delay, Drop, Fail, FakeHomeserver, Refused, Registration, Repeat
from tests.testing.homeserver.conftest import ANN, Appservice, Client

TRANSACTIONS = "PUT /_matrix/app/v1/transactions/*"


async def test_events_arrive_in_order_one_transaction_at_a_time_in_batches(
    hs: FakeHomeserver, appservice: Appservice, room: str
) -> None:
    await hs.settled()
    appservice.slowness = 0.01
    texts = [f"m{number}" for number in range(350)]
    for text in texts:
        await hs.user("alice").send(room, text)
    await hs.settled()
    assert appservice.texts() == texts
    assert appservice.most_at_once == 1
    assert max(len(body["events"]) for _, body in appservice.transactions) == 100
    assert appservice.tokens == {"Bearer hs-token"}
    ids = [txn for txn, _ in appservice.transactions]
    assert len(set(ids)) == len(ids)


async def test_only_what_concerns_the_appservice_is_delivered(
    hs: FakeHomeserver, appservice: Appservice, api: Client
) -> None:
    bob = hs.user("bob")
    room = await bob.create_room(preset="public_chat")
    await bob.send(room, "nobody of yours is here")
    await bob.invite(room, ANN)
    await bob.send(room, "an invitation is no membership")
    await api.ghost("ann")
    await api("POST", f"join/{room}", {}, user=ANN)
    await bob.send(room, "now you hear me")
    await api("POST", f"rooms/{room}/leave", {}, user=ANN)
    await bob.send(room, "and no more")
    await hs.settled()
    assert appservice.texts() == ["now you hear me"]
    memberships = [event["content"]["membership"] for event in appservice.events if "state_key" in event]
    assert memberships == ["invite", "join", "leave"]


async def test_an_alias_of_the_namespace_makes_the_room_interesting(
    hs: FakeHomeserver, appservice: Appservice, api: Client
) -> None:
    bob = hs.user("bob")
    room = await bob.create_room(preset="public_chat")
    await api("PUT", "directory/room/%23_bk_lobby:hs.test", {"room_id": room})
    await bob.send(room, "found by alias")
    await hs.settled()
    assert appservice.texts() == ["found by alias"]


async def test_an_invitation_of_a_ghost_comes_with_stripped_state_after_a_user_query(
    hs: FakeHomeserver, appservice: Appservice
) -> None:
    await hs.user("bob").create_room(name="den", invite=[ANN])
    await hs.settled()
    assert appservice.asked == [ANN]
    (invitation,) = appservice.events
    names = [event for event in invitation["unsigned"]["invite_room_state"] if event["type"] == "m.room.name"]
    assert names[0]["content"] == {"name": "den"}


async def test_joining_an_unknown_alias_asks_the_appservice_to_make_the_room(
    hs: FakeHomeserver, appservice: Appservice, api: Client
) -> None:
    async def make(alias: str) -> bool:
        await api(
            "POST", "createRoom", {"preset": "public_chat", "room_alias_name": alias[1:].partition(":")[0]}
        )
        return True

    appservice.on_alias = make
    room = await hs.user("bob").join("#_bk_libera_#chan:hs.test")
    assert appservice.asked == ["#_bk_libera_#chan:hs.test"]
    assert "@bob:hs.test" in hs.joined(room)
    with pytest.raises(Refused, match="404"):
        await hs.user("bob").join("#elsewhere:hs.test")


async def test_typing_and_receipts_come_as_ephemeral(
    hs: FakeHomeserver, appservice: Appservice, api: Client, room: str
) -> None:
    alice = hs.user("alice")
    said = await alice.send(room, "x")
    await alice.typing(room, seconds=0.05)
    await alice.read(room, said)
    await asyncio.sleep(0.1)
    await api("PUT", f"rooms/{room}/typing/{ANN}", {"typing": True, "timeout": 30000}, user=ANN)
    await api("PUT", f"rooms/{room}/typing/{ANN}", {"typing": False}, user=ANN)
    await api("POST", f"rooms/{room}/receipt/m.read/{said}", {}, user=ANN)
    await api("POST", f"rooms/{room}/read_markers", {"m.fully_read": said, "m.read": said}, user=ANN)
    await hs.settled()
    typing = [edu["content"]["user_ids"] for edu in appservice.ephemeral if edu["type"] == "m.typing"]
    assert typing == [["@alice:hs.test"], [], [ANN], []]
    readers = [
        reader
        for edu in appservice.ephemeral
        if edu["type"] == "m.receipt"
        for reader in edu["content"][said]["m.read"]
    ]
    assert readers == ["@alice:hs.test", ANN, ANN]


async def test_a_refused_transaction_comes_again_under_its_id(
    hs: FakeHomeserver, appservice: Appservice, room: str
) -> None:
    await hs.settled()
    appservice.status = 500
    await hs.user("alice").send(room, "one")
    while len(appservice.refused) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await hs.user("alice").send(room, "two")
    appservice.status = 200
    await hs.settled()
    assert appservice.texts() == ["one", "two"]
    assert len(set(appservice.refused)) == 1
    assert appservice.refused[0] in [txn for txn, _ in appservice.transactions]
    assert hs.stats()["bridge"]["retries"] == len(appservice.refused) >= 2


async def test_an_answer_that_is_lost_makes_the_transaction_come_twice(
    hs: FakeHomeserver, appservice: Appservice, room: str
) -> None:
    await hs.settled()
    hs.fault(TRANSACTIONS, Drop(after_effect=True), times=1)
    hs.fault(TRANSACTIONS, Fail(), times=1, skip=1)
    hs.fault(TRANSACTIONS, Delay(seconds=0.01))
    seen = len(appservice.transactions)
    await hs.user("alice").send(room, "twice")
    await hs.settled()
    (first, body), (second, again) = appservice.transactions[seen:]
    assert (first, body) == (second, again)


async def test_a_transaction_can_be_repeated_after_its_200_and_after_a_restart(
    hs: FakeHomeserver, appservice: Appservice, room: str
) -> None:
    await hs.settled()
    rule = hs.fault(TRANSACTIONS, Repeat(times=1), times=1)
    await hs.user("alice").send(room, "x")
    await hs.settled()
    assert appservice.texts() == ["x", "x"]
    assert rule.hits == 1
    await hs.restart(redeliver=1)
    assert appservice.texts() == ["x", "x", "x"]
    assert len({txn for txn, _ in appservice.transactions[-3:]}) == 1


async def test_while_it_is_down_nothing_goes_either_way_and_nothing_is_lost(
    hs: FakeHomeserver, appservice: Appservice, api: Client, room: str
) -> None:
    await hs.settled()
    await hs.pause()
    await hs.user("alice").send(room, "said in the dark")
    with pytest.raises(aiohttp.ClientConnectionError):
        await api("GET", "account/whoami")
    await asyncio.sleep(0.05)
    assert appservice.texts() == []
    port = hs.port
    await hs.resume()
    await hs.settled()
    assert appservice.texts() == ["said in the dark"]
    assert hs.port == port
    await api("GET", "account/whoami")


async def test_a_ping_goes_round_and_hurries_the_retries(
    registration: Registration, appservice: Appservice
) -> None:
    """MSC2659, and the lab's note: a ping makes a homeserver that backs off try again at once."""
    async with FakeHomeserver(registration, retry=(30.0, 60.0)) as hs, aiohttp.ClientSession() as session:
        api = Client(session, hs.url)
        appservice.status = 503
        room = await hs.user("alice").create_room(preset="public_chat")
        await api("POST", f"join/{room}", {})
        await appservice.has_refused.wait()
        appservice.status = 200
        path = "/_matrix/client/v1/appservice/bridge/ping"
        answer = await api("POST", path, {"transaction_id": "t1"})
        assert answer["duration_ms"] >= 0
        assert appservice.pings == [{"transaction_id": "t1"}]
        await hs.settled(timeout=2)
        await api.refused("M_FORBIDDEN", "POST", path.replace("bridge", "other"), {}, expect=403)


async def test_a_ping_says_what_is_wrong(registration: Registration) -> None:
    path = "/_matrix/client/v1/appservice/bridge/ping"
    for url, status, errcode in (
        (None, 400, "M_URL_NOT_SET"),
        ("http://127.0.0.1:9", 502, "M_CONNECTION_FAILED"),
    ):
        plain = registration.as_dict() | {"url": url}
        async with FakeHomeserver(plain) as hs, aiohttp.ClientSession() as session:
            await Client(session, hs.url).refused(errcode, "POST", path, {}, expect=status)
