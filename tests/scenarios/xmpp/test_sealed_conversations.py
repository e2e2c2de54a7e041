"""What people say encrypted on both sides, in rooms and alone, words and files: it crosses, and no server reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridgekit.testing.nio_client import NioClient
from connectors.xmpp.testing.omemo_person import OmemoPerson, Words
from connectors.xmpp.testing.prosody import Prosody
from connectors.xmpp.testing.prosody import prosody as run_prosody
from tests.conftest import run_for_all_tests
from tests.scenarios.encryption.js_client import driver
from tests.scenarios.xmpp.lab import ACCOUNT, Lab, loopback_laboratory
from tests.scenarios.xmpp.sealed import pair, sealed

CONTROL = "nobody hides that"
FILE = b"minutes of the xylophone committee\n" * 400


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    """One whose files lie where XEP-0454 wants them: behind TLS."""
    yield from run_for_all_tests(lambda: run_prosody(tls_files=True))


@pytest.fixture(scope="module")
def lab(prosody: Prosody) -> Iterator[Lab]:
    yield from run_for_all_tests(lambda: loopback_laboratory(prosody))


def where(lab: Lab, *words: str) -> set[str]:
    """Which servers' folders (databases, logs, files) hold any of these in clear."""
    folders = {
        "prosody": lab.prosody.config.parent,
        "synapse": lab.synapse.folder,
        "bridge": lab.bridge.folder,
    }
    return {
        name
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    }


async def nothing_is_read(lab: Lab, alice: NioClient, *secrets: str) -> None:
    """No server holds what was said, not even when it has written all that it holds back; and the search finds."""
    plain = str((await alice.call("POST", "/createRoom", {"preset": "private_chat"}))["room_id"])
    content = {"msgtype": "m.text", "body": CONTROL}
    await alice.call("PUT", f"/rooms/{plain}/send/m.room.message/control", content)
    assert where(lab, CONTROL) == {"prosody", "synapse"}
    assert "bridge" in where(lab, alice.id)
    await lab.bridge.stop()
    assert where(lab, *secrets) == set()
    await lab.bridge.start()


async def bob_gets_the_file(bob: OmemoPerson) -> bytes:
    shared: Words = await bob.seen.take(lambda w: "aesgcm://" in w.body, 60, "the file")
    assert shared.sealed
    return await bob.open_file(shared.body)


async def test_in_a_room(lab: Lab, tmp_path: Path):
    """XEP-0384 and XEP-0454 on one side and Megolm on the other; the room is for members who see each other. Carol has
    matrix-js-sdk."""
    there, back = "xylographers quarrel in the archive", "zeppelins over quicksand"
    async with sealed(lab, tmp_path) as here, driver(tmp_path) as process:
        label = await here.label()
        assert label["protection"] == "bridge"
        assert label["links"] == [{"network": ACCOUNT, "chat": here.muc, "protection": "bridge"}]
        await here.alice.say(here.room, there)
        assert (await here.bob.reads(f"{here.prefix}{there}", seconds=60)).sealed
        await here.bob_says(back)
        await here.alice_reads(back)
        await here.alice.share(here.room, FILE, "minutes.txt", "text/plain")
        assert await bob_gets_the_file(here.bob) == FILE
        carol = await process.login(lab.synapse, await lab.synapse.register(lab.new("carol")))
        await here.alice.call("POST", f"/rooms/{here.room}/invite", {"user_id": carol.id})
        await carol.join(here.room)
        await here.bob.share(here.muc, FILE[::-1], "sun.txt", here.relay)
        shared = await here.alice_reads("sun.txt")
        assert await here.alice.open_file(shared) == FILE[::-1]
        assert await carol.opens(here.room, shared.sender) == FILE[::-1]
        here.bob.say_in_clear(here.muc, CONTROL, room=True)
        await here.alice_reads(f"(not encrypted) {CONTROL}")
        secrets = (there, back, FILE[:30].decode(), FILE[::-1][:30].decode())
        await nothing_is_read(lab, here.alice, *secrets)
        assert here.alice.unread == []


async def test_between_two(lab: Lab, tmp_path: Path):
    """Alice speaks with an account of her own, from a direct room that she has made encrypted, as clients do."""
    there, back = "zebras in the vestry", "quinces by the jarful"
    jid, password = await lab.account("alicesown")
    async with pair(lab, tmp_path) as two:
        alice, bob = two.alice, two.bob
        talk = await alice.encrypted_room(lab.bot)
        await two.answered(talk, "I am a bridge")
        await alice.say(talk, f"!bridge login {ACCOUNT} jid={jid} password={password}")
        await two.answered(talk, "is being signed in")
        room = await alice.encrypted_room(lab.bridge.ghost(ACCOUNT, bob.jid), is_direct=True)
        await alice.until(lambda: len(alice.client.rooms[room].users) == 3)  # the ghost, and the bot
        levels = {"users": {lab.bot: 100}}
        await alice.call("PUT", f"/rooms/{room}/state/m.room.power_levels/", levels)
        await alice.say(room, there)
        assert (await bob.reads(there, seconds=60)).sealed
        await bob.say(jid, back)
        await two.alice_reads(room, back)
        await alice.share(room, FILE, "minutes.txt", "text/plain")
        assert await bob_gets_the_file(bob) == FILE
        await bob.share(jid, FILE[::-1], "sun.txt")
        assert await alice.open_file(await two.alice_reads(room, "sun.txt")) == FILE[::-1]
        label = await two.label(room)
        assert (label["protection"], label["links"]) == (
            "bridge",
            [{"network": ACCOUNT, "chat": bob.jid, "protection": "bridge"}],
        )
        bob.say_in_clear(jid, CONTROL)
        await two.alice_reads(room, f"(not encrypted) {CONTROL}")
        secrets = (there, back, FILE[:30].decode(), FILE[::-1][:30].decode())
        await nothing_is_read(lab, alice, *secrets)
        assert alice.unread == []


async def test_who_writes_first_is_met_in_an_encrypted_room(lab: Lab, tmp_path: Path):
    """The room that the bridge makes for a conversation is encrypted where the conversation is."""
    jid, password = await lab.account("alicesown")
    async with pair(lab, tmp_path) as two:
        alice, bob = two.alice, two.bob
        talk = await alice.encrypted_room(lab.bot)
        await two.answered(talk, "I am a bridge")
        await alice.say(talk, f"!bridge login {ACCOUNT} jid={jid} password={password}")
        await bob.finds_device_of(jid)
        await bob.say(jid, "an iguana wishes to speak")
        await alice.until(lambda: alice.client.invited_rooms)
        (room,) = alice.client.invited_rooms
        await alice.client.join(room)
        await two.alice_reads(room, "an iguana wishes to speak")
        assert alice.client.rooms[room].encrypted
        await alice.say(room, "a walrus answers")
        assert (await bob.reads("a walrus answers", seconds=60)).sealed
