"""matrix-js-sdk, the library of Element, in encrypted rooms that are bridged to IRC.

Every message of every ghost is read with nothing to warn of, in the default mode and in the one that excludes insecure
devices (MSC4153).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import pytest

from tests.runtime.running import until
from tests.scenarios.encryption.js_client import driver
from tests.scenarios.encryption.lab import STALLED, Lab, answered, gathering

BEFORE_THE_DEVICE = "HISTORICAL_MESSAGE_NO_KEY_BACKUP"
"""Why a new device does not show what was said before it was there."""
UNSIGNED = "import bridgekit.matrix.crypto.machine as m; m.Machine.identity = lambda self: {}"


@pytest.mark.parametrize("strict", [False, True], ids=["default mode", "insecure devices excluded"])
async def test_two_people_talk_in_a_room_of_their_own(lab: Lab, tmp_path: Path, strict: bool) -> None:
    async with driver(tmp_path) as process:
        account = await lab.synapse.register(lab.new("dora"))
        dora = await process.login(lab.synapse, account, strict=strict)
        async with lab.somebody("bob") as bob:
            ghost = lab.ghost(bob.nick)
            room = await dora.create(ghost, preset="trusted_private_chat", is_direct=True)
            await dora.knows(ghost, lab.bridge.bot)
            await answered(lab, dora, room, "nothing crosses until")
            await dora.say(room, "!bridge agree")
            await answered(lab, dora, room, "has agreed")
            await dora.say(room, "only for you")
            heard = await bob.reads("only for you", target=bob.nick, seconds=60)
            await bob.say(heard.nick, "and only for you")
            (shown,) = await dora.reads(room, "and only for you")
            assert shown.sender == ghost
            assert [s for s in await dora.read(room) if not s.is_trusted] == []


@pytest.mark.timeout(400)
async def test_everything_that_fifty_ghosts_say_is_read(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc(*["p"] * 50) as people:
        for person in people:
            await person.say(here.channel, f"{person.nick} is here")
        await here.everybody_reads(*(f"{person.nick} is here" for person in people), seconds=120)
        twenty = [f"at once {n}" for n in range(20)]
        await here.alice.say(here.room, *twenty)
        heard = [await people[0].sees(lambda h: "at once" in h.words, 60) for _ in twenty]
        assert sorted(h.words.partition("> ")[2] for h in heard) == sorted(twenty)
        for person, words in zip(people, twenty, strict=False):
            await person.say(here.channel, f"answer to {words}")
        await here.everybody_reads(*(f"answer to {words}" for words in twenty))
        assert await here.flaws() == []


@pytest.mark.timeout(400)
async def test_a_ghost_that_is_first_needed_a_thousand_messages_late_is_read(
    lab: Lab, tmp_path: Path
) -> None:
    """700 of somebody's poor client, in clear and before there is a link, for the sake of Synapse; 300 of ghosts."""
    async with gathering(lab, tmp_path, after=700) as here, here.on_irc(*["early"] * 5) as people:
        said = [f"{number} of {person.nick}" for number in range(60) for person in people]
        for number in range(60):
            for person in people:
                await person.say(here.channel, f"{number} of {person.nick}")
        await here.everybody_reads(*said, seconds=240)
        async with here.newcomer("late") as late:
            await late.say(here.channel, "am I too late?")
            (shown,) = await here.alice.reads(here.room, "am I too late?")
            assert shown.is_trusted
            await here.carol.knows(lab.ghost(late.nick))
            await late.say(here.channel, "no, I am not")
            await here.everybody_reads("no, I am not")
            await here.carol.reopen(here.room)
            assert await here.flaws() == []


async def test_the_first_word_of_every_new_ghost_is_read_when_it_comes(lab: Lab, tmp_path: Path) -> None:
    """Nobody opens the room a second time: some speak as they enter, some a while after that, before or behind the
    moment at which they are made ready, and many at once."""
    async with gathering(lab, tmp_path) as here, contextlib.AsyncExitStack() as stack:
        people = [await stack.enter_async_context(lab.somebody("new")) for _ in range(30)]
        said = {person: f"the first word of {person.nick}" for person in people}
        for tenths, person in enumerate(people[:12], start=-3):
            await person.send("JOIN", here.channel)
            await asyncio.sleep(0.1 * max(0, tenths))
            await person.say(here.channel, said[person])
            await here.everybody_reads(said[person])
        for person in people[12:]:
            await person.send("JOIN", here.channel)
            await person.say(here.channel, said[person])
        await here.everybody_reads(*said.values(), seconds=120)
        assert await here.flaws() == []


async def test_a_device_that_slept_reads_what_new_ghosts_said_meanwhile(lab: Lab, tmp_path: Path) -> None:
    """The strict one when it is opened again: it hears of message and identity at once, and does not try twice."""
    async with gathering(lab, tmp_path) as here:
        for reader in here.readers:
            await reader.sleep()
        async with here.newcomer("stranger") as stranger:
            devices = lab.count("megolm_out")
            await stranger.say(here.channel, "is nobody awake?")
            await until(lambda: lab.sent_by(lab.ghost(stranger.nick)), 30)
            assert lab.count("megolm_out") > devices
            for reader in here.readers:
                await reader.wake()
                await reader.knows(lab.ghost(stranger.nick))
            (shown,) = await here.alice.reads(here.room, "is nobody awake?")
            assert shown.is_trusted
            await here.carol.reopen(here.room)
            await here.everybody_reads("is nobody awake?")
            assert await here.flaws() == []


async def test_everything_is_read_through_restarts_and_on_a_new_device(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob", "rob") as (bob, rob):
        await bob.say(here.channel, "before")
        await here.everybody_reads("before")
        devices = lab.count("our_devices")

        await lab.bridge.restart()
        await bob.say(here.channel, "after the bridge")
        await here.everybody_reads("after the bridge")
        await here.alice.say(here.room, "the bridge is back")
        await bob.sees(lambda h: "the bridge is back" in h.words)

        await lab.synapse.restart()
        await rob.say(here.channel, "after the homeserver")
        await here.everybody_reads("after the homeserver", seconds=90)
        await here.alice.say(here.room, "it is back")
        await bob.sees(lambda h: "it is back" in h.words, 60)
        assert lab.count("our_devices") == devices, "nobody was given a second device"
        assert await here.flaws() == []

        before = here.readers
        here.alice, here.carol = [await here.again(reader) for reader in before]
        for reader, old in zip(here.readers, before, strict=True):
            await reader.join(here.room)
            await old.logout()
            await reader.knows(lab.ghost(bob.nick), lab.ghost(rob.nick))
        await bob.say(here.channel, "to your new devices")
        await rob.say(here.channel, "I, too")
        await here.everybody_reads("to your new devices", "I, too")
        for reader in here.readers:
            await reader.say(here.room, f"thank you both, says {reader.id}")
            await bob.sees(lambda h, who=reader.id: f"thank you both, says {who}" in h.words)  # type: ignore[misc]
        assert {shown.failure for shown in await here.flaws()} == {BEFORE_THE_DEVICE}


async def test_a_key_that_had_come_when_the_bridge_was_killed_is_used_after_it(
    lab: Lab, tmp_path: Path
) -> None:
    """SIGKILL between a to-device message, which is on disk, and its use: the process that dies never looks at them."""
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        async with lab.altered(STALLED):
            waiting = lab.count("to_device")
            await here.carol.say(here.room, "the first with this key")
            await until(lambda: lab.count("to_device") > waiting, 30)
            assert not bob.seen.left(lambda h: "the first with this key" in h.words)
            lab.bridge.kill()
        await bob.sees(lambda h: "the first with this key" in h.words, 60)
        await bob.say(here.channel, "I read you")
        await here.everybody_reads("I read you")
        assert await here.flaws() == []


async def test_the_room_goes_on_when_the_bot_has_a_new_identity(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await lab.bridge.stop()
        lab.forget_devices(lab.bridge.bot)
        await lab.bridge.start()
        await until(lambda: lab.device(lab.bridge.bot), 30)
        for reader in here.readers:
            await reader.knows_device(lab.bridge.bot, lab.device(lab.bridge.bot))
        await here.alice.say(here.room, "!bridge help")
        await answered(lab, here.alice, here.room, "I pass messages between")
        await here.carol.say(here.room, "who are you now?")
        await bob.sees(lambda h: "who are you now?" in h.words, 60)
        await bob.say(here.channel, "nobody else")
        await here.everybody_reads("nobody else")
        assert await here.flaws() == []


async def test_an_identity_that_somebody_gives_the_bot_while_it_runs_does_not_stay(
    lab: Lab, tmp_path: Path
) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await lab.usurp(lab.bridge.bot)
        foreign = await lab.master(lab.bridge.bot)
        async with asyncio.timeout(30):
            while await lab.master(lab.bridge.bot) == foreign:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        for reader in here.readers:
            await reader.knows_device(lab.bridge.bot, lab.device(lab.bridge.bot))
        await here.alice.say(here.room, "!bridge help")
        await answered(lab, here.alice, here.room, "I pass messages between")
        await here.carol.say(here.room, "is it you?")
        await bob.sees(lambda h: "is it you?" in h.words, 60)
        await bob.say(here.channel, "always was")
        await here.everybody_reads("always was")
        assert await here.flaws() == []


async def test_what_is_said_right_after_a_device_was_signed_out_by_an_admin_is_read(
    lab: Lab, tmp_path: Path
) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await bob.say(here.channel, "here I am")
        await here.everybody_reads("here I am")
        for ours in (lab.ghost(bob.nick), lab.bridge.bot):
            await lab.sign_out(ours)
            await bob.say(here.channel, f"it was of {ours}")
            await here.everybody_reads(f"it was of {ours}")
            await here.carol.say(here.room, f"I saw that of {ours}")
            await bob.sees(lambda h, whose=ours: f"I saw that of {whose}" in h.words, 60)  # type: ignore[misc]
        assert await here.flaws() == []


async def test_somebodys_new_identity_is_told_to_the_room_and_they_talk_on(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await here.alice.say(here.room, "this is my first one")
        await bob.sees(lambda h: "this is my first one" in h.words, 60)
        await here.alice.new_identity()
        await here.alice.say(here.room, "and this is my second")
        await bob.sees(lambda h: "and this is my second" in h.words, 60)
        notice = await answered(lab, here.carol, here.room, "has a new cryptographic identity")
        assert here.alice.id in notice.body
        await bob.say(here.channel, "I read you")
        await here.everybody_reads("I read you")
        assert await here.flaws() == []


async def test_a_ghost_without_an_identity_is_not_read_where_insecure_devices_are_excluded(
    lab: Lab, tmp_path: Path
) -> None:
    """The control: with self-signing off the other tests would fail."""
    async with gathering(lab, tmp_path) as here, lab.altered(UNSIGNED), here.newcomer("nobody") as nobody:
        await here.alice.until(
            here.room, lambda shown: [s for s in shown if "The bridge was away from" in s.body], bool
        )  # now it hears the channel again
        await nobody.say(here.channel, "who vouches for me?")
        ghost = lab.ghost(nobody.nick)
        (warned,) = await here.alice.reads(here.room, "who vouches for me?")
        assert (warned.shield, warned.why) == ("RED", "UNSIGNED_DEVICE")
        (refused,) = await here.carol.until(
            here.room, lambda shown: [s for s in shown if s.sender == ghost and not s.waiting], bool
        )
        assert refused.failure == "UNSIGNED_SENDER_DEVICE"
        await here.carol.reopen(here.room)
        assert len(await here.flaws()) == 2


async def test_a_bridge_without_an_identity_gets_no_keys_where_insecure_devices_are_excluded(
    lab: Lab, tmp_path: Path
) -> None:
    """The other half of the control: the strict client keeps its keys, and who wrote is told why it did not arrive."""
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await lab.bridge.stop()
        lab.forget_devices()
        async with lab.altered(UNSIGNED):
            await until(lambda: lab.device(lab.bridge.bot), 30)
            # While a homeserver repeats what it could not deliver, it loses what was meant for devices (catchup.py),
            # and so why a key does not come. That is over when the bot has had a key.
            await here.alice.has_heard_of(lab.bridge.bot, lab.device(lab.bridge.bot))
            await here.alice.say(here.room, "!bridge help")
            await answered(lab, here.alice, here.room, "I pass messages between")
            await here.carol.has_heard_of(lab.bridge.bot, lab.device(lab.bridge.bot))
            (event,) = await here.carol.say(here.room, "only for who is vouched for")
            told = await answered(lab, here.alice, here.room, "does not trust its device")
            assert (told.shield, told.why) == ("RED", "UNSIGNED_DEVICE")
            async with asyncio.timeout(30):
                while await here.carol.fates(here.room, event) != ["FAIL_PERMANENT"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        for user in (lab.bridge.bot, lab.ghost(bob.nick)):
            await until(partial(lab.device, user), 60)
            await here.carol.knows_device(user, lab.device(user))
        await here.carol.say(here.room, "now you are")
        await bob.sees(lambda h: "now you are" in h.words, 60)
        assert not bob.seen.left(lambda h: "only for who is vouched for" in h.words)


async def test_what_was_said_in_an_encrypted_room_stands_nowhere_in_clear(lab: Lab, tmp_path: Path) -> None:
    """Not in the bridge's database, its backup, log, metrics or API, not in the homeserver's database, logs or memory.

    What must be in each of them is found there by the same search.
    """
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        plants = ["xylographers quarrel", "zeppelins in quicksand"]
        in_clear, ghost = "halcyon ombudsman", lab.ghost(bob.nick)
        await here.alice.say(here.room, plants[0])
        await bob.sees(lambda h: plants[0] in h.words)
        await bob.say(here.channel, plants[1])
        await here.everybody_reads(plants[1])
        await here.says_in_clear(in_clear)
        await answered(lab, here.alice, here.room, "in clear")
        assert lab.remembered(*plants, in_clear) == [in_clear]
        logger = "synapse.appservice"
        controls = [here.channel, here.room, ghost, in_clear, logger]
        found = await lab.where(*plants, *controls)
        assert [place for place, words in found if words in plants] == []
        bridge, synapse = str(lab.bridge.folder), str(lab.synapse.folder)
        for place, control in (
            (f"{bridge}/bridge.db", here.channel),  # or in the -wal beside it, as below
            (f"{bridge}/backup.db", here.channel),
            (f"{bridge}/bridge.log", here.room),
            (f"{synapse}/homeserver.db", in_clear),
            (f"{synapse}/synapse.log", logger),
            ("/api/v1/rooms", here.channel),
            ("/api/v1/devices", ghost),
        ):
            assert any(where.startswith(place) and words == control for where, words in found), place
        assert not [place for place, words in found if words == in_clear and not place.startswith(synapse)]
