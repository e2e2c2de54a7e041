"""The guard in a running bridge: what is encrypted ends where somebody agreed to that, as things are at that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.devices import Device
from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import Verb
from bridgekit.core import degrade
from bridgekit.matrix.crypto import engine
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.encryption.secrecy import IN_CLEAR, NOT_ENCRYPTED
from bridgekit.testing.homeserver import Human
from tests.runtime import running as clear
from tests.runtime.encryption.test_protecting import label_of, opened_with, unagreed
from tests.runtime.fake_network import TALK, Town, TownSession, person, says
from tests.runtime.running import BOT, World, by, ghost, has_fate, membership, said, town_world, until
from tests.runtime.secret_client import ENCRYPTION, SecretClient
from tests.runtime.secret_rooms import Scene, linked, running, scene

BOB = ghost("bob")


async def fate_of(place: World, event: str) -> str:
    fate = await said(place, has_fate(event), 60)
    return str(fate.content["status"])


# What is not known any more ----------------------------------------------------------------------------------


async def put_out(place: World, human: Human, room: str) -> None:
    """Alice shows the bridge and all its ghosts the door."""
    for who in place.homeserver.joined(room):
        if who != human.id:
            await human.kick(room, who)


async def test_a_room_that_was_clear_is_looked_at_again_when_the_bridge_comes_back(tmp_path: Path) -> None:
    """Encryption was switched on while nobody of the bridge was there to hear of it."""
    town = Town()
    async with town_world(tmp_path, town) as place, running(place):
        human, room = await clear.linked(place, "#talk", power=50)
        alice = SecretClient(place.homeserver, human)
        town.emit(says("Bob", "in clear"))
        await said(place, by(BOB, "in clear"))
        await human.send(room, "!bridge unlink town #talk")
        await until(lambda: label_of(place, room) == {})
        await put_out(place, human, room)
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        await place.homeserver.settled()
        await human.invite(room, BOT)
        await until(lambda: BOT in place.homeserver.joined(room))
        await alice.say(room, "!bridge link town #talk")
        await until(lambda: label_of(place, room).get("matrix") == "bridge")
        assert await fate_of(place, await alice.say(room, "nobody has agreed")) != "SUCCESS"
        await alice.say(room, "!bridge agree town #talk")
        await until(lambda: any("has agreed" in words for words in alice.words(room, BOT)))
        town.emit(says("Bob", "sealed"))
        await until(lambda: alice.words(room, BOB) == ["sealed"])
        assert [e.body for e in place.homeserver.messages(room) if e.sender == BOB] == ["in clear"]
        assert town.said() == []


async def test_what_somebody_encrypts_in_a_room_taken_for_clear_makes_the_bridge_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, running(place) as bridge:
        human, room = await clear.linked(place, "#talk")
        alice = SecretClient(place.homeserver, human)
        await until(lambda: label_of(place, room).get("matrix") == "transport")
        assert await fate_of(place, await alice.say(room, "the room is not encrypted")) == "FAIL_PERMANENT"
        await said(place, by(BOT, NOT_ENCRYPTED))
        monkeypatch.setattr(bridge.engine, "heard", lambda event: None)  # the bridge is never told
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        assert await fate_of(place, await alice.say(room, "now it is")) == "FAIL_PERMANENT"
        await until(lambda: label_of(place, room).get("matrix") == "bridge")
        assert town.said() == []


# What has changed on the way ---------------------------------------------------------------------------------


async def bridged_all_the_way(now: Scene) -> None:
    opened_with(now.town, Protection.BRIDGE)
    await until(lambda: label_of(now.place, now.room).get("protection") == "bridge")


async def test_what_waited_for_a_network_is_not_said_there_in_clear(tmp_path: Path) -> None:
    async with unagreed(tmp_path) as now:
        await bridged_all_the_way(now)
        await now.alice.say(now.room, "sealed all the way")
        await now.town.until(lambda: now.town.said())
        now.town.cut()
        waits = await now.alice.say(now.room, "said while the network was away")
        await until(lambda: now.bridge.rooms.depth()[0] == 1)
        now.town.can = msgspec.structs.replace(now.town.can, protection=Protection.CLEAR)
        now.town.mend()
        assert await fate_of(now.place, waits) == "FAIL_PERMANENT"
        await until(lambda: label_of(now.place, now.room).get("protection") == "clear")
        assert now.town.said() == ["<alice> sealed all the way"]


class SlowTown:
    """Nothing that holds `word` is said until `go` is set."""

    def __init__(self, town: Town, word: str) -> None:
        self._word = word
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        town.behave = self._behave

    async def _behave(self, login: LoginId | None, verb: Verb) -> None:
        if self._word in str(verb):
            self.begun.set()
            await self.go.wait()


async def test_what_waits_behind_something_slow_is_not_said_where_it_may_not_be_any_more(
    tmp_path: Path,
) -> None:
    async with unagreed(tmp_path) as now:
        await bridged_all_the_way(now)
        slow = SlowTown(now.town, "first")
        await now.alice.say(now.room, "first")
        waits = await now.alice.say(now.room, "second")
        await slow.begun.wait()
        await until(lambda: now.bridge.rooms.depth()[0] == 2)
        opened_with(now.town, Protection.CLEAR)
        await until(lambda: label_of(now.place, now.room).get("protection") == "clear")
        slow.go.set()
        assert await fate_of(now.place, waits) == "FAIL_PERMANENT"
        assert now.town.said() == ["<alice> first"]
        await until(lambda: any("nothing crosses until" in w for w in now.alice.words(now.room, BOT)))


async def test_what_waits_is_not_said_after_the_agreement_was_taken_back(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        slow = SlowTown(now.town, "first")
        await now.alice.say(now.room, "first")
        waits = await now.alice.say(now.room, "second")
        await slow.begun.wait()
        await until(lambda: now.bridge.rooms.depth()[0] == 2)
        await now.alice.say(now.room, "!bridge disagree town #talk")
        await until(lambda: any("Taken back." in w for w in now.alice.words(now.room, BOT)))
        slow.go.set()
        assert await fate_of(now.place, waits) == "FAIL_PERMANENT"
        assert now.town.said() == ["<alice> first"]


# What was agreed to ------------------------------------------------------------------------------------------


async def agreed(now: Scene) -> None:
    await now.alice.say(now.room, "!bridge agree town #talk")
    await until(lambda: any("has agreed" in words for words in now.alice.words(now.room, BOT)))


async def test_who_agreed_that_servers_read_it_has_not_agreed_that_everybody_does(tmp_path: Path) -> None:
    async with unagreed(tmp_path) as now:
        opened_with(now.town, Protection.TRANSPORT)
        await until(lambda: label_of(now.place, now.room).get("protection") == "transport")
        await agreed(now)
        await now.alice.say(now.room, "for the servers")
        await now.town.until(lambda: now.town.said())
        opened_with(now.town, Protection.CLEAR)
        await until(lambda: label_of(now.place, now.room).get("protection") == "clear")
        assert label_of(now.place, now.room)["links"][0]["agreed"] is False
        assert await fate_of(now.place, await now.alice.say(now.room, "and for all?")) == "FAIL_PERMANENT"
        await now.alice.say(now.room, "!bridge agree town #talk")
        await until(lambda: label_of(now.place, now.room)["links"][0]["agreed"] is True)
        await now.alice.say(now.room, "for all")
        await now.town.until(lambda: now.town.said()[-1] == "<alice> for all")
        assert now.town.said() == ["<alice> for the servers", "<alice> for all"]
        first, second = await now.bridge.store.agreements.all()
        assert first.ended
        assert not second.ended


async def test_who_agreed_that_a_chat_is_shown_here_has_not_agreed_that_the_room_is_shown_there(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, running(place):
        human, room = await clear.linked(place, "#talk")
        alice = SecretClient(place.homeserver, human)
        opened_with(town, Protection.BRIDGE)
        await until(lambda: (label_of(place, room).get("links") or [{}])[0].get("protection") == "bridge")
        await human.send(room, "!bridge agree town #talk")
        await said(place, by(BOT, "has agreed"))
        town.emit(says("Bob", "sealed in town"))
        await said(place, by(BOB, "sealed in town"))
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        await until(lambda: label_of(place, room).get("protection") == "bridge")
        opened_with(town, Protection.CLEAR)
        await until(lambda: label_of(place, room).get("protection") == "clear")
        assert await fate_of(place, await alice.say(room, "nobody agreed to this")) == "FAIL_PERMANENT"
        assert town.said() == []


async def test_an_agreement_of_an_older_version_is_asked_for_again(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            (kept,) = await bridge.store.agreements.all()
            to = msgspec.structs.replace(kept.to, toward="", least=Protection.END_TO_END)
            await bridge.store.commit(bridge.store.agreements.put(msgspec.structs.replace(kept, to=to)))
        async with running(place):
            assert await fate_of(place, await alice.say(room, "and now?")) == "FAIL_PERMANENT"
            await until(lambda: label_of(place, room)["links"][0]["agreed"] is False)
            await until(lambda: any("nothing crosses until" in w for w in alice.words(room, BOT)))
            assert town.said() == []


# What words of others say --------------------------------------------------------------------------------------


async def two_chats(now: Scene) -> str:
    """#talk is agreed to, #market is not; what #talk calls Alice's secret, which it alone has heard."""
    now.town.can = msgspec.structs.replace(
        now.town.can, replies=False, verbs=now.town.can.verbs - {verbs.React, verbs.Unreact}
    )
    await agreed(now)
    await now.alice.say(now.room, "!bridge link town #market")
    await until(lambda: len(label_of(now.place, now.room).get("links", [])) == 2)
    await now.alice.say(now.room, "the secret of alice")
    await now.town.until(lambda: now.town.said())
    return next(deed.id for deed in now.town.deeds if "secret of alice" in str(deed.verb))


def words_for(now: Scene, chat: str) -> list[str]:
    return [str(deed.verb) for deed in now.town.deeds if getattr(deed.verb, "chat", "") == chat]


async def test_an_answer_quotes_nothing_that_may_not_go_there_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degrade, "RECENT", -1)  # as if some minutes had gone by
    async with unagreed(tmp_path) as now:
        secret = await two_chats(now)
        now.town.emit(says("Bob", "I agree", reply_to=secret))
        await now.town.until(lambda: now.town.said("#market"))
        assert now.town.said("#market") == ["<Bob/Town> alice: I agree"]
        assert [words for words in words_for(now, "#market") if "secret of alice" in words] == []


async def test_a_reaction_in_words_quotes_nothing_that_may_not_go_there_itself(tmp_path: Path) -> None:
    async with unagreed(tmp_path) as now:
        secret = await two_chats(now)
        now.town.emit(
            facts.Reaction(
                chat=TALK, at=1, sender=person("Bob"), id=MessageId("r1"), target=MessageId(secret), key="👍"
            )
        )
        await now.town.until(lambda: now.town.said("#market"))
        assert now.town.said("#market") == ["* Bob/Town reacted 👍"]
        assert [words for words in words_for(now, "#market") if "secret of alice" in words] == []


@pytest.mark.parametrize(
    ("said_under", "shown"),
    [
        (Protection.BRIDGE, "<Carol/Town> Bob (Town): I agree"),
        (Protection.CLEAR, "<Carol/Town> “as we said” ← Bob (Town): I agree"),
    ],
)
async def test_what_protected_a_message_is_remembered_through_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_under: Protection, shown: str
) -> None:
    """#talk has become clear since: an answer there carries Bob's words into #market only where they were clear."""
    monkeypatch.setattr(degrade, "RECENT", -1)  # as if some minutes had gone by
    town = Town()
    town.can = msgspec.structs.replace(town.can, replies=False, protection=said_under)
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place, agree=said_under is Protection.CLEAR)
            now = Scene(place, town, bridge, alice, room)
            town.emit(says("Bob", "as we said", id="b1"))
            await until(lambda: alice.words(room, ghost("bob")) == ["as we said"])
            assert label_of(place, room)["protection"] == said_under.name.lower()
        town.can = msgspec.structs.replace(town.can, protection=Protection.CLEAR)
        async with running(place):
            await until(lambda: label_of(place, room)["protection"] == "clear")
            await alice.say(room, "!bridge agree town #talk")
            await alice.say(room, "!bridge link town #market")
            await until(lambda: len(label_of(place, room).get("links", [])) == 2)
            town.emit(says("Carol", "I agree", reply_to="b1"))
            await town.until(lambda: town.said("#market"))
            assert town.said("#market") == [shown]
            assert any("as we said" in words for words in words_for(now, "#market")) == (
                "as we said" in shown
            )


# What comes in clear -------------------------------------------------------------------------------------------


def edit_of(event: str, words: str) -> dict[str, object]:
    return {
        "msgtype": "m.text",
        "body": f"* {words}",
        "m.new_content": {"msgtype": "m.text", "body": words},
        "m.relates_to": {"rel_type": "m.replace", "event_id": event},
    }


async def test_what_is_sent_in_clear_into_an_encrypted_room_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    """A homeserver can write it in anybody's name, and a login that is not believed need only not encrypt."""
    async with scene(tmp_path) as now:
        sealed = await now.alice.say(now.room, "sealed")
        await now.town.until(lambda: now.town.said())
        mallory = now.place.homeserver.user("mallory")
        await mallory.join(now.room)
        for event in (
            await mallory.send(now.room, "of somebody without any device"),
            await now.alice.human.send(now.room, "in the name of alice"),
            await now.alice.human.send(now.room, edit_of(sealed, "forged")),
        ):
            assert await fate_of(now.place, event) == "FAIL_PERMANENT"
        assert now.town.said() == ["<alice> sealed"]
        assert not any("forged" in words for words in words_for(now, TALK))
        await until(lambda: any(IN_CLEAR in words for words in now.alice.words(now.room, BOT)))


async def test_reactions_and_redactions_come_in_clear_as_all_clients_send_them(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        sealed = await now.alice.say(now.room, "sealed")
        await now.town.until(lambda: now.town.said())
        relation = {"rel_type": "m.annotation", "event_id": sealed, "key": "👍"}
        await now.alice.human.send(now.room, {"m.relates_to": relation}, "m.reaction")
        await now.town.until(lambda: now.town.said()[1:] == ["* alice reacted 👍 to “sealed”"])
        await now.alice.human.redact(now.room, sealed)
        await now.town.until(lambda: now.town.done(verbs.Retract))


async def test_nobody_agrees_in_clear(tmp_path: Path) -> None:
    async with unagreed(tmp_path) as now:
        command = await now.alice.human.send(now.room, "!bridge agree town #talk")
        assert await fate_of(now.place, command) == "FAIL_PERMANENT"
        assert await now.bridge.store.agreements.all() == []


async def test_where_every_device_is_trusted_so_is_what_comes_in_clear(tmp_path: Path) -> None:
    async with scene(tmp_path, trust="all") as now:
        await now.alice.human.send(now.room, "in clear")
        await now.town.until(lambda: now.town.said() == ["<alice> in clear"])


# Rooms that the bridge makes -----------------------------------------------------------------------------------


async def direct_room(place: World, town: Town, bridge: Bridge) -> tuple[SecretClient, str]:
    """The room in which Bob's first direct message to Alice stands, once she is in it."""
    alice = SecretClient(place.homeserver, place.homeserver.user("alice"))
    login = await bridge.accounts.open(NetworkId("town"), alice.id)
    await until(lambda: login in town.sessions)
    town.emit(says("Bob", "hi Alice", chat="dm:bob", private=True), login=login)
    invited = await said(place, membership(alice.id, "invite"))
    await alice.human.join(invited.room_id)
    return alice, invited.room_id


async def test_the_room_of_an_encrypted_chat_is_made_encrypted(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, protection=Protection.BRIDGE)
    async with town_world(tmp_path, town, direct="anyone") as place, running(place) as bridge:
        await until(lambda: bridge.engine.works)
        alice, room = await direct_room(place, town, bridge)
        assert place.homeserver.state(room, "m.room.encryption") == ENCRYPTION
        await until(lambda: label_of(place, room).get("protection") == "bridge")
        await alice.say(room, "hi Bob")
        await town.until(lambda: "hi Bob" in town.said("dm:bob"))
        assert place.homeserver.messages(room) == []


async def test_devices_are_looked_for_before_the_room_of_a_chat_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether somebody has a device is known when the network was asked, and not at their first word."""
    town = Town()

    async def devices(session: TownSession, chat: ChatId) -> list[Device]:
        town.can = msgspec.structs.replace(town.can, protection=Protection.BRIDGE)
        return []

    monkeypatch.setattr(TownSession, "devices", devices, raising=False)
    monkeypatch.setattr(TownSession, "judge", devices, raising=False)
    async with town_world(tmp_path, town, direct="anyone") as place, running(place) as bridge:
        await until(lambda: bridge.engine.works)
        _, room = await direct_room(place, town, bridge)
        assert place.homeserver.state(room, "m.room.encryption") == ENCRYPTION


async def test_the_room_of_a_chat_that_is_not_encrypted_promises_nothing(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, running(place) as bridge:
        await until(lambda: bridge.engine.works)
        _, room = await direct_room(place, town, bridge)
        assert place.homeserver.state(room, "m.room.encryption") is None


async def test_a_bridge_that_gets_no_keys_makes_no_encrypted_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PROBE_SECONDS", 0.2)
    town = Town()
    town.can = msgspec.structs.replace(town.can, protection=Protection.BRIDGE)
    async with town_world(tmp_path, town, direct="anyone") as place:
        monkeypatch.setattr(place.homeserver.deliveries["bridgekit"], "on_to_device", lambda *_: None)
        async with running(place) as bridge:
            await until(lambda: bridge.engine.trouble)
            _, room = await direct_room(place, town, bridge)
            assert place.homeserver.state(room, "m.room.encryption") is None
