"""A whole bridge over the fake homeserver and the echo network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.errors import ConfigError
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.testing.homeserver import Delay, Drop
from connectors.echo.connector import EchoConfig
from tests.runtime.fake_network import Town
from tests.runtime.running import (
    BOT,
    ECHO,
    SERVER,
    by,
    emptied,
    has_fate,
    invited,
    is_echo,
    linked,
    said,
    town_world,
    until,
    world,
)


async def test_what_is_said_comes_back_and_its_sender_reads_its_fate(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        event = await alice.send(room, "hello")
        echo = await said(place, is_echo("hello"))
        assert (echo.room_id, echo.sender) == (room, ECHO)
        fate = await said(place, has_fate(event))
        assert fate.content["status"] == "SUCCESS"
        assert place.homeserver.unknown_calls == []
        await emptied(bridge)
        assert await bridge.store.inbox.parked() == []


async def test_edits_reactions_and_redactions_find_their_message(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send(room, "the quick brown fox")
        await said(place, is_echo("the quick brown fox"))
        await alice.edit(room, event, "the quick red fox")
        await said(place, is_echo("s/brown/red/"))
        await alice.react(room, event, "👍")
        await said(place, lambda e: e.sender == ECHO and "reacted 👍" in e.body)
        await alice.redact(room, event)
        await said(place, lambda e: e.sender == BOT and "cannot take messages back" in e.body)


async def test_two_networks_share_one_room(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        place.networks["parrot"] = {"connector": "echo", "config": EchoConfig(times=1), "name": "Parrots"}
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "!bridge link parrot #cage")
            await said(place, lambda e: e.sender == BOT and "#cage on Parrots" in e.body)
            assert len(bridge.registry.links_of(ChatId(room))) == 2
            await alice.send(room, "hello")
            # Each echo is a bot's message to the other network, and is not echoed there again.
            await said(place, lambda e: e.sender == ECHO and e.body == "hello")
            await said(place, lambda e: e.sender == f"@_bk_parrot_echo:{SERVER}" and e.body == "hello")
            await asyncio.sleep(0.3)
            assert len([e for e in place.homeserver.messages(room) if e.body == "hello"]) == 3


async def test_a_bridge_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        async with place.bridge():
            alice, room = await linked(place)
        await alice.send(room, "while you were out")
        async with place.bridge() as bridge:
            await said(place, is_echo("while you were out"))
            assert [link.name for link in bridge.registry.links_of(ChatId(room))] == ["#talk"]


async def test_a_lost_answer_is_no_second_message(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "first")
        await said(place, is_echo("first"))
        place.homeserver.fault("PUT */send/m.room.message/*", Drop(after_effect=True), times=1)
        await alice.send(room, "second")
        await said(place, is_echo("second"))
        await asyncio.sleep(0.3)
        assert [e.body for e in place.homeserver.messages(room) if e.sender == ECHO] == ["first", "second"]


async def test_many_messages_of_one_sender_keep_their_order(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice, room = await linked(place)
        place.homeserver.fault("PUT */send/*", Delay(seconds=0.002, up_to=0.004))
        lines = [f"line {n}" for n in range(100)]
        for line in lines:
            await alice.send(room, line)
        await said(place, is_echo("line 99"), 30)
        assert [e.body for e in place.homeserver.messages(room) if e.sender == ECHO] == lines


async def test_an_encrypted_message_has_a_visible_fate(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send(
            room, {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}, "m.room.encrypted"
        )
        fate = await said(place, has_fate(event))
        assert fate.content["status"] == "FAIL_PERMANENT"
        await said(
            place, by(BOT, "Not delivered: Your client has encrypted this, and this room is not encrypted")
        )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"msgtype": "m.text"}, "a message without a body"),
        ({"msgtype": "m.text", "body": {"much": 1}}, "a message without a body"),
        ({"msgtype": "m.image", "body": "cat.png"}, "a file that is not on a homeserver"),
        (
            {"msgtype": "m.video", "body": "cat", "url": "https://x.org/cat"},
            "a file that is not on a homeserver",
        ),
    ],
)
async def test_what_nobody_can_read_is_told_its_sender_and_its_neighbours_go_on(
    tmp_path: Path, content: dict[str, object], why: str
) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "before")
        event = await alice.send(room, content)
        reaction = await alice.send(room, {"m.relates_to": "everything"}, "m.reaction")
        await alice.send(room, "after")
        await said(place, is_echo("after"))
        for failed in (event, reaction):
            assert (await said(place, has_fate(failed))).content["status"] == "FAIL_PERMANENT"
        await said(place, lambda e: e.sender == BOT and "Not delivered" in e.body and why in e.body)
        assert [e.body for e in place.homeserver.messages(room) if e.sender == ECHO] == ["before", "after"]
        await until(lambda: bridge.rooms.depth()[0] == 0)
        assert await bridge.store.inbox.parked() == []


async def test_votes_and_calls_get_their_fate_and_the_room_reads_why_once(tmp_path: Path) -> None:
    vote = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$poll"}, "m.selections": ["2"]}
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        sent = [await alice.send(room, vote, "m.poll.response") for _ in range(3)]
        sent.append(await alice.send(room, {"call_id": "1"}, "m.call.invite"))
        candidates = await alice.send(room, {"call_id": "1", "candidates": []}, "m.call.candidates")
        await alice.send(room, "after")
        await said(place, is_echo("after"))
        for event in sent:
            status = await said(place, has_fate(event))
            assert status.content["status"] == "FAIL_PERMANENT"
            assert "not passed on" in status.content["message"]
        await until(lambda: bridge.rooms.depth()[0] == 0)
        told = [e.body for e in place.homeserver.messages(room) if "not passed on" in e.body]
        assert sorted(told) == [
            "⚠ Not delivered: Calls are not passed on: nobody's phone rang on the other side.",
            "⚠ Not delivered: Votes are not passed on: write your answer, and the other side reads it.",
        ]
        assert not any(has_fate(candidates)(e) for e in place.homeserver.timeline(room))


async def test_blanks_are_refused_and_not_told_delivered(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send(room, " \n ")
        status = await said(place, has_fate(event))
        assert status.content["status"] == "FAIL_PERMANENT"
        assert status.content["message"] == "There is nothing in it but blanks, and nothing was sent."


async def test_a_lone_surrogate_costs_nobody_their_words(tmp_path: Path) -> None:
    r"""A transaction as a lenient homeserver would send it: `\ud800` alone in a string, and NaN for a number."""
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)

        def event(body: str, number: int, more: str = "0") -> str:
            return (
                f'{{"type":"m.room.message","room_id":"{room}","sender":"{alice.id}","event_id":"$odd{number}",'
                f'"origin_server_ts":{number},"content":{{"msgtype":"m.text","body":"{body}","x":{more}}}}}'
            )

        events = [event("one", 1), event(r"two \ud800!", 2), event("three", 3, "NaN"), event("four", 4)]
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer hs-secret"}) as session,
            session.put(
                f"http://{bridge.address}/_matrix/app/v1/transactions/odd",
                data=f'{{"events":[{",".join(events)}]}}',
            ) as answer,
        ):
            assert answer.status == 200
        await said(place, is_echo("four"))
        heard = [e.body for e in place.homeserver.messages(room) if e.sender == ECHO]
        assert heard == ["one", "two \ufffd!", "three", "four"]


async def test_linking_needs_power_in_the_room(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        room = await invited(place, place.homeserver.user("alice"))
        bob = place.homeserver.user("bob")
        await bob.join(room)
        await bob.send(room, "!bridge link echo #talk")
        await said(place, lambda e: e.sender == BOT and "power level 50" in e.body)
        assert bridge.registry.links == {}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            "echo talk",
            ["talk is not a chat that can be linked", "One looks like #anything.", "power level 50"],
        ),
        ("eco #talk", ["There is no network called eco", "power level 50"]),
        ("echo talk please", ["Say `!bridge link <network> <chat>`", "talk is not a chat", "power level 50"]),
    ],
)
async def test_all_that_is_wrong_with_a_link_is_told_at_once(
    tmp_path: Path, words: str, why: list[str]
) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        room = await invited(place, place.homeserver.user("alice"))
        bob = place.homeserver.user("bob")
        await bob.join(room)
        await bob.send(room, f"!bridge link {words}")
        answer = await said(place, lambda e: e.room_id == room and e.sender == BOT and why[0] in e.body)
        assert [part for part in why if part not in answer.body] == []
        assert bridge.registry.links == {}


async def test_a_password_in_the_wrong_place_is_not_said_again(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!bridge link echo password=secret")
        answer = await said(
            place, lambda e: e.room_id == room and e.sender == BOT and "Say `!bridge" in e.body
        )
        assert "secret" not in answer.body


async def test_a_link_is_taken_apart_again(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "hello")
        await said(place, is_echo("hello"))
        await alice.send(room, "!bridge unlink")
        await said(place, lambda e: e.sender == BOT and "no longer linked" in e.body)
        await said(place, lambda e: e.state_key == ECHO and e.content.get("membership") == "leave")
        assert bridge.registry.links == {}
        assert place.homeserver.state(room, "m.bridge", "org.bridgekit://echo/#talk") == {}


async def test_a_room_that_is_replaced_takes_the_bridge_along(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "hello")
        await said(place, is_echo("hello"))
        new = await alice.upgrade(room, "11")
        await said(
            place,
            lambda e: e.room_id == new and e.state_key == BOT and e.content.get("membership") == "join",
            10,
        )
        await until(lambda: bridge.registry.links_of(ChatId(new)))
        await alice.send(new, "anybody here?")
        echo = await said(place, is_echo("anybody here?"))
        assert echo.room_id == new


async def test_inviting_a_ghost_starts_a_direct_chat_with_ones_own_account(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ECHO])
        await said(
            place,
            lambda e: e.room_id == room and e.state_key == ECHO and e.content.get("membership") == "join",
        )
        await until(lambda: bridge.registry.links_of(ChatId(room)))
        await alice.send(room, "just us")
        echo = await said(place, is_echo("just us"))
        assert echo.room_id == room
        assert list(bridge.registry.logins_on(NetworkId("echo"))) == [f"@alice:{SERVER}"]


async def test_who_asks_one_person_into_two_rooms_at_once_is_heard_in_one_and_told_in_the_other(
    tmp_path: Path,
) -> None:
    """Both were joined once and one was linked: what was said in the other went nowhere, without a word."""
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        rooms = [
            await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ECHO])
            for _ in range(2)
        ]
        left = await said(
            place,
            lambda e: e.room_id in rooms and e.state_key == ECHO and e.content.get("membership") == "leave",
        )
        assert left.content["reason"] == "You have this conversation already, in another room."
        [kept] = [room for room in rooms if room != left.room_id]
        await until(lambda: bridge.registry.links_of(ChatId(kept)))
        assert bridge.registry.links_of(ChatId(left.room_id)) == []
        await alice.send(kept, "just us")
        assert (await said(place, is_echo("just us"))).room_id == kept


@pytest.mark.parametrize("nobody", ["#room", "a b", "two\nlines"])
async def test_a_ghost_of_somebody_who_cannot_be_is_never_a_direct_chat(tmp_path: Path, nobody: str) -> None:
    """The user id of a ghost that is called as a channel is called would be a person whom the network reads as that."""
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        ghost = Namespace("_bk_", SERVER).mxid(NetworkId("town"), PersonId(nobody))
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
        left = await said(
            place,
            lambda e: e.room_id == room and e.state_key == ghost and e.content.get("membership") == "leave",
        )
        assert left.content["reason"] == "Nobody on Town can be called so."
        assert bridge.registry.links_of(ChatId(room)) == []
        assert bridge.registry.logins == {}


async def test_a_direct_room_with_the_bot_takes_plain_words_as_commands(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True)
        await alice.invite(room, BOT, is_direct=True)
        await said(place, lambda e: e.room_id == room and e.sender == BOT and "Every word here" in e.body)
        await alice.send(room, "networks")
        await said(place, lambda e: e.room_id == room and e.sender == BOT and "echo (Echo), ready" in e.body)
        await alice.send(room, "dance")
        await said(place, lambda e: e.room_id == room and e.sender == BOT and "no command dance" in e.body)


@pytest.mark.parametrize("status_events", ["all", "problems"])
async def test_who_sends_is_told_as_much_as_the_config_says(tmp_path: Path, status_events: str) -> None:
    async with world(tmp_path) as place:
        place.more["messages"] = {"status_events": status_events}
        async with place.bridge():
            alice, room = await linked(place)
            event = await alice.send(room, "hello")
            await said(place, is_echo("hello"))
            if status_events == "all":
                await said(place, has_fate(event))
            await asyncio.sleep(0.3)
            told = [e for e in place.homeserver.timeline(room) if has_fate(event)(e)]
            assert len(told) == (1 if status_events == "all" else 0)


async def test_who_may_not_use_the_bridge_moves_no_ghost(tmp_path: Path) -> None:
    async with world(tmp_path) as place:
        place.more["permissions"] = {f"@alice:{SERVER}": "admin", "*": "relay"}
        async with place.bridge() as bridge:
            mallory = place.homeserver.user("mallory")
            room = await mallory.create_room(preset="trusted_private_chat", is_direct=True, invite=[ECHO])
            await said(
                place,
                lambda e: e.room_id == room and e.state_key == ECHO and e.content["membership"] == "leave",
            )
            assert bridge.registry.logins == {}


async def test_a_homeserver_that_does_not_know_the_bridge_loses_nothing(tmp_path: Path) -> None:
    """As one that was started without the registration: M_UNKNOWN_TOKEN for everything."""
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        place.homeserver.know_appservices(False)
        await alice.send(room, "who are you?")
        await until(lambda: not bridge.client.available)
        place.homeserver.know_appservices(True)
        await said(place, is_echo("who are you?"))
        assert bridge.client.available


async def test_what_waits_when_a_link_ends_is_not_said_any_more(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "first")
        await said(place, is_echo("first"))
        place.homeserver.fault("PUT */send/m.room.message/*", Delay(seconds=0.3), times=3)
        for n in range(5):
            await alice.send(room, f"late {n}")
        await alice.send(room, "!bridge unlink")
        await said(place, lambda e: e.sender == BOT and "no longer linked" in e.body)
        await until(lambda: not bridge.ghosts.present(ChatId(room)))
        await asyncio.sleep(4)
        assert place.homeserver.members(room)[ECHO] == "leave"


async def test_a_key_that_is_lost_is_not_replaced_by_one_that_opens_nothing(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place:
        async with place.bridge() as bridge:
            key = bridge.config.store.key_file
        kept = key.rename(tmp_path / "kept.key")
        with pytest.raises(ConfigError, match="sealed with another key"):
            async with place.bridge():
                pass
        assert not key.exists()
        kept.rename(key)
        async with place.bridge():
            pass
