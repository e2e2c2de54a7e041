"""Devices of people's own users: made where they ask for one, used once their own identity has signed it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nio.crypto import OlmDevice
from nio.crypto.sas import SasState

from bridgekit.contract.errors import MatrixForbidden
from bridgekit.contract.facts import Edit
from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.sas import MAC
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.clock import now as now_ms
from bridgekit.runtime.encryption.standins import GONE
from tests.matrix.crypto.test_sas import Peer
from tests.runtime.fake_network import TALK, Town, person, says
from tests.runtime.running import BOT, World, by, emptied, ghost, said, town_world, until
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import linked, running

GHOST = ghost("own-alice")


class Owner:
    """Alice with her own account in the town, in an encrypted room with Carol, and a direct room with the bot."""

    def __init__(self, place: World, town: Town, bridge: Bridge, alice: SecretClient, room: str) -> None:
        self.place = place
        self.town = town
        self.bridge = bridge
        self.alice = alice
        self.room = room
        self.login = LoginId("")
        self.carol = alice

    @property
    def device(self) -> str:
        """The device that the bridge has of her; "" where it has none."""
        return self.bridge.engine.machines.names.get(self.alice.id, "")

    async def commands(self, words: str, answer: str) -> None:
        """Say it where only the bot hears it, and read an answer with these words."""
        room = await self.alice.human.create_room(preset="trusted_private_chat", is_direct=True, invite=[BOT])
        await said(self.place, lambda e: e.room_id == room and by(BOT, "I am a bridge")(e))
        await self.alice.human.send(room, words)
        await said(self.place, lambda e: e.room_id == room and by(BOT, answer)(e))

    async def says_elsewhere(self, words: str, *, as_user: str, **more: Any) -> None:
        """She says it in the town; everybody reads it as said by `as_user`, and nobody else says it."""
        self.town.emit(says("alice", words, sender=person("own-alice"), own=self.login, **more))
        for reader in (self.alice, self.carol):
            await until(partial(self._has_read, reader, words, as_user))
        other = GHOST if as_user == self.alice.id else self.alice.id
        assert not self._has_read(self.carol, words, other)

    def _has_read(self, reader: SecretClient, words: str, user: str) -> bool:
        return words in reader.words_readable(self.room, user)

    async def verifies(self) -> None:
        """Her client signs the device, and whoever is interested has heard of it."""
        self.alice.vouch_for(self.device)
        await self.place.homeserver.settled()


@asynccontextmanager
async def owner(place: World, town: Town) -> AsyncIterator[Owner]:
    async with running(place) as bridge:
        alice, room = await linked(place)
        now = Owner(place, town, bridge, alice, room)
        now.carol = SecretClient(place.homeserver, place.homeserver.user("carol"))
        await now.carol.human.join(room)
        now.login = await bridge.accounts.open(NetworkId("town"), alice.id)
        await until(lambda: now.login in town.sessions)
        yield now


async def test_a_device_is_used_once_its_owners_identity_has_signed_it(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        keys = place.homeserver.keys
        identity = dict(keys.identities[now.alice.id])
        await now.commands("puppet on", "There is a session BK")
        assert set(place.homeserver.app.devices[now.alice.id]) == {now.alice.machine.device, now.device}
        await now.says_elsewhere("before", as_user=GHOST)
        await now.commands("puppet", "waits to be verified")
        await now.verifies()
        await now.says_elsewhere("after", as_user=now.alice.id)
        await now.commands("puppet", "Your device here is verified")
        assert keys.identities[now.alice.id] == identity
        assert place.homeserver.messages(now.room) == []
        await emptied(now.bridge)
        assert town.said() == [], "what she said there does not come back"
        assert place.homeserver.unknown_calls == []


async def test_nobody_can_begin_to_send_the_device_anything(tmp_path: Path) -> None:
    """It only sends: there is no one-time key, and no fallback key, to encrypt a room's key for it with."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        await now.verifies()
        await now.says_elsewhere("hello", as_user=now.alice.id)
        wanted: dict[str, dict[str, str]] = {now.alice.id: {now.device: "signed_curve25519"}}
        assert place.homeserver.keys.claim(wanted)["one_time_keys"] == {}


async def test_a_room_key_that_comes_to_the_device_opens_nothing(tmp_path: Path) -> None:
    """Whom it has written to can answer over the same session; what is in it is not the bridge's."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        await now.verifies()
        await now.says_elsewhere("hello", as_user=now.alice.id)
        (device,) = (d for d in now.carol.devices_of(now.alice.id) if d.id == now.device)
        now.carol.rotate(now.room)
        now.carol.share(now.room, [device])
        session = now.carol.sealed(now.room, {})["session_id"]
        withheld = {"room_id": now.room, "session_id": "any", "code": "m.unverified"}
        now.carol.send(now.alice.id, now.device, "m.room_key.withheld", withheld)
        # What comes to the bot after that is read.
        now.carol.rotate(now.room)
        now.carol.share(now.room, now.carol.devices_of(BOT))
        await now.carol.say(now.room, "hello, town", shared=False)
        await town.until(lambda: any("hello, town" in line for line in town.said()))
        keys = now.bridge.store.keys
        assert await keys.inbound(ChatId(now.room), session, now.carol.id) is None
        assert now.bridge.engine.incoming._withheld == {}
        await now.says_elsewhere("still there", as_user=now.alice.id)


async def test_the_owners_other_devices_are_read_and_given_keys_as_ever(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        await now.verifies()
        await now.says_elsewhere("from my phone", as_user=now.alice.id)
        await now.alice.say(now.room, "from my desk")
        await town.until(lambda: any("from my desk" in line for line in town.said()))
        town.emit(says("Bob", "hello, Alice"))
        await until(lambda: now.alice.words(now.room, ghost("bob")) == ["hello, Alice"])
        tablet = SecretClient(place.homeserver, now.alice.human, verified=False)
        tablet.vouched_for_by(now.alice)
        await place.homeserver.settled()
        town.emit(says("Bob", "and again"))
        await until(lambda: "and again" in tablet.words_readable(now.room, ghost("bob")))
        await now.says_elsewhere("read this", as_user=now.alice.id)
        assert "read this" in tablet.words_readable(now.room, now.alice.id)
        sent = place.homeserver.keys.queues.get((now.alice.id, now.device), [])
        assert [event for event in sent if event["sender"] not in (now.alice.id, now.carol.id)] == []


async def test_a_restart_keeps_the_device_and_makes_no_other(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place:
        async with owner(place, town) as now:
            await now.commands("puppet on", "There is a session BK")
            device = now.device
            await now.verifies()
            await now.says_elsewhere("before", as_user=now.alice.id)
            secrets = await now.bridge.store.keys.device(now.alice.id)
            assert secrets is not None
        stored = b"".join(
            path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("bridge.db")
        )
        assert secrets.secrets.account.encode() not in stored, "sealed at rest"
        async with running(place) as bridge:
            now.bridge = bridge
            await until(lambda: now.login in town.sessions)
            await now.says_elsewhere("after", as_user=now.alice.id)
            assert now.device == device
            assert set(place.homeserver.app.devices[now.alice.id]) == {now.alice.machine.device, device}
        events = [
            (e.content["session_id"], now.carol.position(e))
            for e in place.homeserver.timeline(now.room)
            if e.type == "m.room.encrypted" and e.content["device_id"] == device
        ]
        assert len(events) == len(set(events)) == 2, "no place of a ratchet is used twice"


async def test_switched_off_it_is_signed_out_and_forgotten(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        first = now.device
        await now.verifies()
        await now.says_elsewhere("one", as_user=now.alice.id)
        keys = now.bridge.store.keys
        session = await keys.outbound(ChatId(now.room), now.alice.id)
        assert session is not None
        await now.commands("puppet off", "is signed out, and its keys are forgotten")
        assert list(place.homeserver.app.devices[now.alice.id]) == [now.alice.machine.device]
        assert await keys.device(now.alice.id) is None
        assert await keys.olm(now.alice.id) == []
        assert await keys.outbound(ChatId(now.room), now.alice.id) is None
        await now.says_elsewhere("two", as_user=GHOST)
        await now.commands("puppet off", "You have no device here")
        await now.bridge.store.commit(keys.put_outbound(session))  # by what was under way
        await now.commands("puppet on", "There is a session BK")
        assert now.device not in ("", first)
        await now.verifies()
        await now.says_elsewhere("three", as_user=now.alice.id)
        later = await keys.outbound(ChatId(now.room), now.alice.id)
        assert later is not None
        assert later.session != session.session


@pytest.mark.parametrize("told", [True, False], ids=["told of it", "not told"])
async def test_a_device_that_its_owner_signed_out_is_forgotten(tmp_path: Path, told: bool) -> None:
    """In their own client: that is their word. Where the bridge has not heard of it, sending finds out."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        await now.verifies()
        await now.says_elsewhere("one", as_user=now.alice.id)
        keys = place.homeserver.keys
        del place.homeserver.app.devices[now.alice.id][now.device]
        if told:
            keys.forget(now.alice.id, now.device)
            await said(place, by(BOT, GONE))
        else:
            for table in (keys.devices, keys.one_time, keys.fallback):
                table.get(now.alice.id, {}).pop(now.device, None)
        await now.says_elsewhere("two", as_user=GHOST)
        await said(place, by(BOT, GONE))
        assert now.device == ""
        assert list(place.homeserver.app.devices[now.alice.id]) == [now.alice.machine.device]


async def test_a_new_identity_that_has_not_signed_it_closes_it_again(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        await now.verifies()
        await now.says_elsewhere("one", as_user=now.alice.id)
        now.alice.machine.renew_identity()
        place.homeserver.keys.upload_identity(now.alice.id, now.alice.machine.identity())
        now.alice.vouch_for(now.alice.machine.device)
        await place.homeserver.settled()
        town.emit(says("alice", "two", sender=person("own-alice"), own=now.login))
        await until(lambda: "two" in now.carol.words_readable(now.room, GHOST))
        await now.verifies()
        await now.says_elsewhere("three", as_user=now.alice.id)


async def test_an_edit_is_by_who_has_said_it_or_said_anew(tmp_path: Path) -> None:
    """Clients show no edit of another's message."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        alice = now.alice.id

        def contents(user: str) -> list[Any]:
            now.carol.collect()
            events = [e for e in place.homeserver.timeline(now.room) if e.sender == user]
            mine = [e for e in events if e.content.get("session_id") in now.carol.keys]
            return [now.carol.read(event)["content"] for event in mine]

        async def changes(id: str, words: str) -> None:
            change = Content(text=plain(words))
            me = person("own-alice")
            town.emit(Edit(chat=TALK, at=now_ms(), sender=me, target=MessageId(id), content=change))

        await now.commands("puppet on", "There is a session BK")
        await now.says_elsewhere("first", as_user=GHOST, id="m1")
        await now.verifies()
        await now.says_elsewhere("second", as_user=alice, id="m2")
        await changes("m1", "first, changed")
        await until(lambda: len(contents(GHOST)) == 2)
        assert contents(GHOST)[1]["m.new_content"]["body"] == "first, changed"
        await changes("m2", "second, changed")
        await until(lambda: len(contents(alice)) == 2)
        assert contents(alice)[1]["m.new_content"]["body"] == "second, changed"
        await now.commands("puppet off", "is signed out")
        await changes("m2", "second, changed again")
        await until(lambda: len(contents(GHOST)) == 3)
        assert (contents(GHOST)[2]["body"], "m.new_content" in contents(GHOST)[2]) == (
            "second, changed again",
            False,
        )


async def test_who_has_no_account_here_any_more_has_no_device_either(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        await now.commands("logout town", "was taken away from the bridge")
        assert list(place.homeserver.app.devices[now.alice.id]) == [now.alice.machine.device]
        assert await now.bridge.store.keys.device(now.alice.id) is None


async def test_what_cannot_be_signed_out_is_forgotten_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registration may not cover her any more."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")

        async def refuse(*_: object) -> None:
            raise MatrixForbidden("no", status=403)

        monkeypatch.setattr(KeyCalls, "remove_device", refuse)
        await now.commands("puppet off", "do that in a client of yours")
        assert now.device == ""


async def test_it_is_verified_by_its_owners_verified_clients_alone(tmp_path: Path) -> None:
    """A new login asks all devices to vouch for it, and takes the first that answers; others have no business here."""
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        newcomer = SecretClient(place.homeserver, now.alice.human, verified=False)
        await place.homeserver.settled()
        for client, name in ((newcomer, "n"), (now.carol, "c"), (now.alice, "a")):
            _ask(client, now.alice.id, now.device, name)
        await until(lambda: now.alice.answers() and now.alice.verification)
        await place.homeserver.settled()
        for other in (newcomer, now.carol):
            other.collect()
            assert other.verification == []
        ((type, ready),) = now.alice.verification
        assert (type, ready["methods"]) == ("m.key.verification.ready", ["m.sas.v1"])


async def test_its_owner_is_shown_the_emoji_in_private(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, double_puppets=True) as place, owner(place, town) as now:
        await now.commands("puppet on", "There is a session BK")
        alice, id = now.alice, now.device
        (device,) = (one for one in alice.devices_of(alice.id) if one.id == id)

        async def heard(kind: str) -> dict[str, Any]:
            def of_that_kind() -> list[dict[str, Any]]:
                alice.collect()
                return [content for type, content in alice.verification if type.endswith(f".{kind}")]

            await until(of_that_kind)
            return of_that_kind()[0]

        _ask(alice, alice.id, id, "t")
        await heard("ready")
        theirs = OlmDevice(alice.id, id, {"ed25519": device.ed25519, "curve25519": device.curve25519})
        peer = Peer(alice.id, alice.machine.device, alice.machine.ed25519, theirs, "t")
        start = {**peer.start_verification().content, "message_authentication_codes": [MAC]}
        alice.send(alice.id, id, "m.key.verification.start", start)
        await heard("accept")
        alice.send(alice.id, id, "m.key.verification.key", {"key": peer.pubkey, "transaction_id": "t"})
        peer.establish_sas((await heard("key"))["key"])
        peer.chosen_key_agreement, peer.chosen_mac_method = "curve25519-hkdf-sha256", MAC
        notice = await said(place, by(BOT, " ".join(peer.shown())))
        assert place.homeserver.members(notice.room_id).keys() == {BOT, alice.id}
        peer.state, peer.sas_accepted = SasState.key_received, True
        alice.send(alice.id, id, "m.key.verification.mac", dict(peer.get_mac().content))
        mac = (await heard("mac"))["mac"]
        assert set(mac) == {f"ed25519:{id}"}, "the bridge vouches for its device, and not for her identity"
        info = f"MATRIX_KEY_VERIFICATION_MAC{alice.id}{id}{alice.id}{alice.machine.device}t"
        peer.established_sas.verify_mac(device.ed25519, f"{info}ed25519:{id}", mac[f"ed25519:{id}"])
        await heard("done")


async def test_who_may_have_one(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, owner(place, town) as now:
        await now.commands("puppet on", "its admin would have to turn on")
        await now.commands("puppet maybe", "`!bridge puppet off`")
    town = Town()
    (tmp_path / "b").mkdir()
    async with town_world(tmp_path / "b", town, double_puppets=True) as place, running(place):
        alice, room = await linked(place)
        await alice.say(room, "!bridge puppet on")
        await until(lambda: any("no account of your own" in words for words in alice.words(room, BOT)))
        assert list(place.homeserver.app.devices[alice.id]) == [alice.machine.device]


def _ask(client: SecretClient, user: PersonId, device: str, transaction: str) -> None:
    content: dict[str, Any] = {
        "from_device": client.machine.device,
        "methods": ["m.sas.v1"],
        "timestamp": int(time.time() * 1000),
        "transaction_id": transaction,
    }
    client.send(user, device, "m.key.verification.request", content)
