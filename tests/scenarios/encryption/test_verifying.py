"""matrix-js-sdk verifies the bot and a ghost, as Element does: by a QR code that it scans, and by emoji; and the device
with which the bridge speaks for its user."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nio.crypto.attachments import decrypt_attachment

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.matrix.crypto.puppets import Puppets, Standing
from bridgekit.testing.servers.synapse import Synapse
from connectors.irc.testing.person import IrcPerson
from tests.matrix.crypto.qr_reader import scanned
from tests.runtime.fake_network import person, says
from tests.runtime.running import until
from tests.scenarios.encryption.home import home
from tests.scenarios.encryption.js_client import JsClient, Shown, driver
from tests.scenarios.encryption.lab import Gathering, Lab, gathering

METHODS = ("m.sas.v1", "m.qr_code.show.v1")


async def opened(lab: Lab, who: JsClient, file: dict[str, Any]) -> bytes:
    """An encrypted file of a message, in clear."""
    address = f"{lab.synapse.base_url}/_matrix/client/v1/media/download/{file['url'].removeprefix('mxc://')}"
    headers = {"Authorization": f"Bearer {who.account.access_token}"}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.get(address, headers=headers) as answer,
    ):
        sealed = await answer.read()
    clear: bytes = decrypt_attachment(sealed, file["key"]["k"], file["hashes"]["sha256"], file["iv"])
    return clear


async def test_bot_and_ghost_are_verified_by_codes_that_a_client_scans(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        ghost = lab.ghost(bob.nick)
        await bob.say(here.channel, "is it me?")
        await here.everybody_reads("is it me?")
        for ours in (lab.bridge.bot, ghost):
            await here.carol.knows(ours)
            assert await here.carol.asks_to_verify(here.room, ours, *METHODS) == list(METHODS)
            shown = await here.carol.picture(here.room, ours)
            code = scanned(await opened(lab, here.carol, shown["file"]))
            assert not await here.carol.has_verified(ours)
            await here.carol.scan(code)
            await here.carol.comes_to_trust(ours)
        assert await here.flaws() == []
        assert not bob.seen.left(lambda h: "Scan this" in h.words), "nothing of it is anybody else's business"


async def test_bot_and_ghost_are_verified_by_emoji_in_the_room_and_in_none(lab: Lab, tmp_path: Path) -> None:
    """Alice asks in the room, where the emoji stand; Carol asks their devices, and they stand in the bridge's log."""
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await bob.say(here.channel, "it is me")
        await here.everybody_reads("it is me")
        for ours in (lab.ghost(bob.nick), lab.bridge.bot):
            await by_emoji_in_the_room(here, ours, bob)
            await by_emoji_in_the_log(here, ours)
        assert await here.flaws() == []


async def by_emoji_in_the_room(here: Gathering, ours: str, bob: IrcPerson) -> None:
    await here.alice.asks_to_verify(here.room, ours, *METHODS)
    emoji = " ".join(await here.alice.compare())
    await here.alice.until(
        here.room, lambda shown: [s for s in shown if s.sender == ours and emoji in s.body], bool
    )
    assert not await here.alice.has_verified(ours)
    await here.alice.confirm()
    await here.alice.comes_to_trust(ours)
    assert not bob.seen.left(lambda h: emoji in h.words), "nothing of it is anybody else's business"


async def by_emoji_in_the_log(here: Gathering, ours: str) -> None:
    await here.carol.knows(ours)
    named = await here.carol.asks_to_verify_device(ours, here.lab.device(ours), *METHODS)
    assert named == ["m.sas.v1"], "there is no place to show a code"
    emoji = " ".join(await here.carol.compare())
    await until(lambda: (ours, emoji) in logged(here.lab), 60)
    assert not await here.carol.has_verified(ours)
    await here.carol.confirm()
    await here.carol.comes_to_trust(ours)


def logged(lab: Lab) -> list[tuple[str, str]]:
    """What the bridge has logged to be compared, with whom it is of."""
    lines = [json.loads(line) for line in lab.bridge.log.read_text().splitlines() if line.startswith("{")]
    return [(line["user"], line["shown"]) for line in lines if line["event"] == "verification_string"]


@pytest.mark.timeout(240)
async def test_a_puppets_device_is_verified_by_its_owner_and_believed_by_others(
    synapse: Synapse, tmp_path: Path
) -> None:
    """Decision 0016: until Alice has verified it her ghost speaks, and then she does, without a shield; Carol excludes
    insecure devices."""
    place = await home(synapse, tmp_path, "alice", "carol", double_puppets=True)
    async with place.bridge() as bridge, driver(tmp_path) as process:
        alice = await process.login(synapse, place.accounts["alice"])
        carol = await process.login(synapse, place.accounts["carol"], strict=True)

        async def told(room: str, words: str) -> None:
            await reads(alice, room, place.bot, words)

        direct = await alice.create(place.bot, preset="trusted_private_chat", is_direct=True)
        await told(direct, "I am a bridge")
        room = await alice.create(place.bot, power_level_content_override={"users": {place.bot: 100}})
        await told(room, "I am a bridge")
        await alice.say(room, "!bridge link town #talk")
        await told(room, "now linked")
        await alice.say(room, "!bridge agree town #talk")
        await told(room, "has agreed")
        await alice.invite(room, carol.id)
        await carol.join(room)
        login = await bridge.accounts.open(NetworkId("town"), PersonId(alice.id))
        await until(lambda: login in place.town.sessions, 60)

        async def elsewhere(words: str, sender: str) -> None:
            """Alice says it in town: both clients show it as said by `sender`, and warn of nothing."""
            place.town.emit(says("alice", words, sender=person("phone"), own=login))
            for reader in (alice, carol):
                (shown,) = await reads(reader, room, sender, words)
                assert shown.is_trusted, shown

        identity = await identity_of(synapse, alice)
        await alice.say(direct, "puppet on")
        await told(direct, "There is a session BK")
        device = bridge.engine.machines.names[PersonId(alice.id)]
        await elsewhere("from my phone", place.ghost("phone"))
        await alice.has_heard_of(alice.id, device)
        assert await alice.asks_to_verify_device(alice.id, device, *METHODS) == ["m.sas.v1"]
        emoji = " ".join(await alice.compare())
        await told(direct, emoji)
        await alice.confirm()
        await carol.knows_device(alice.id, device)
        await signed(bridge.engine.puppets, PersonId(alice.id))
        await elsewhere("in my own name", alice.id)
        assert await identity_of(synapse, alice) == identity
        await alice.say(direct, "puppet off")
        await told(direct, "is signed out")
        token = alice.account.access_token
        left = await synapse.request("GET", "/_matrix/client/v3/devices", token=token)
        assert device not in [one["device_id"] for one in left["devices"]]
        await elsewhere("by my ghost again", place.ghost("phone"))
        assert place.town.said() == [], "what she said there does not come back"


async def signed(puppets: Puppets, user: PersonId) -> None:
    """Return once the bridge has heard that its device of somebody is signed: the news comes with a transaction."""
    async with asyncio.timeout(60):
        while await puppets.standing(user) is not Standing.SIGNED:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.05)


async def identity_of(synapse: Synapse, who: JsClient) -> dict[str, Any]:
    """Somebody's cross-signing keys, as the homeserver gives them out."""
    body: dict[str, Any] = {"device_keys": {who.id: []}}
    token = who.account.access_token
    found = await synapse.request("POST", "/_matrix/client/v3/keys/query", body, token=token)
    return {kind: found[kind][who.id] for kind in ("master_keys", "self_signing_keys", "user_signing_keys")}


async def reads(reader: JsClient, room: str, sender: str, words: str) -> list[Shown]:
    """What somebody said with these words in it, once it is there."""
    return await reader.until(
        room, lambda all: [s for s in all if s.sender == sender and words in s.body], bool
    )
