"""matrix-nio in encrypted rooms that are bridged to a real ircd: fifty ghosts, restarts, a new device, a file."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from bridgekit.testing.nio_client import NioClient, nio_client
from connectors.irc.testing.person import IrcPerson, irc_person
from tests.runtime.running import until
from tests.scenarios.encryption.home import linked
from tests.scenarios.encryption.lab import NETWORK, STALLED, Lab

ONES = 50


async def read(lab: Lab, who: NioClient, room: str, said: list[tuple[IrcPerson, str]]) -> None:
    """Return when she has read each of these words of each of their ghosts, once, from a device that is vouched for."""
    for person, words in said:
        await who.until(lambda p=person, w=words: w in who.said_by(room, lab.ghost(p.nick)), 120)  # type: ignore[misc]
    for person, words in said:
        (event,) = [e for e in who.events if (e.sender, e.body) == (lab.ghost(person.nick), words)]
        assert event.decrypted
        assert await who.is_vouched_for(event)
    assert who.unread == []


@pytest.mark.timeout(400)
async def test_every_message_of_fifty_is_read_through_restarts_a_kill_and_on_a_new_device(
    lab: Lab, tmp_path: Path
) -> None:
    account = await lab.synapse.register(lab.new("nina"))
    channel = f"#{lab.new('nio')}"
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as hers:
        nina = await hers.enter_async_context(nio_client(lab.synapse, account, tmp_path / "first"))
        room = await linked(nina, lab.bridge.bot, NETWORK, channel)
        people = [
            await stack.enter_async_context(irc_person(lab.ngircd.port, lab.new("n"), channel))
            for _ in range(ONES)
        ]
        await asyncio.gather(*(person.say(channel, "at once") for person in people))
        await read(lab, nina, room, [(person, "at once") for person in people])
        bob, *_ = people
        twenty = [f"{number} of twenty" for number in range(20)]
        await asyncio.gather(*(nina.say(room, words) for words in twenty))
        heard = [await bob.sees(lambda h: "of twenty" in h.words, 60) for _ in twenty]
        assert sorted(h.words.partition("> ")[2] for h in heard) == sorted(twenty)

        async with lab.altered(STALLED):
            waiting = lab.count("to_device")
            nina.client.invalidate_outbound_session(room)
            await nina.say(room, "the first with this key")
            await until(lambda: lab.count("to_device") > waiting, 30)
            assert not bob.seen.left(lambda h: "the first with this key" in h.words)
            lab.bridge.kill()
            await nina.say(room, "are you dead?")
        for words in ("the first with this key", "are you dead?"):
            await bob.sees(lambda h, w=words: w in h.words, 90)  # type: ignore[misc]
        await bob.say(channel, "after the bridge")
        await read(lab, nina, room, [(bob, "after the bridge")])
        await lab.synapse.restart()
        await bob.say(channel, "after the homeserver")
        await read(lab, nina, room, [(bob, "after the homeserver")])

        await lab.bridge.stop()
        lab.forget_devices(lab.bridge.bot)
        await lab.bridge.start()
        await until(lambda: lab.device(lab.bridge.bot), 30)
        device = lab.device(lab.bridge.bot)
        await nina.until(lambda: device in nina.client.device_store[lab.bridge.bot], 60)
        await nina.say(room, "who are you now?")
        await bob.sees(lambda h: "who are you now?" in h.words, 90)

        second = nio_client(lab.synapse, account, tmp_path / "second", other=nina)
        again = await stack.enter_async_context(second)
        await hers.aclose()
        await nina.call("POST", "/logout", {})
        await again.say(room, "from my new device")
        await bob.sees(lambda h: "from my new device" in h.words, 90)
        late = await stack.enter_async_context(irc_person(lab.ngircd.port, lab.new("late"), channel))
        for person in (bob, late):
            await person.say(channel, "to the new one")
        await again.until(lambda: "to the new one" in again.said_by(room, lab.ghost(late.nick)), 90)
        again.unread.clear()  # what was said before it was there
        await bob.say(channel, "that is all")
        await read(
            lab, again, room, [(bob, "to the new one"), (late, "to the new one"), (bob, "that is all")]
        )


async def test_what_is_said_in_other_forms_stands_nowhere_in_clear_either(lab: Lab, tmp_path: Path) -> None:
    """Formatted, edited, answered, too long for the network, and in a file."""
    account = await lab.synapse.register(lab.new("nina"))
    channel = f"#{lab.new('leak')}"
    async with (
        nio_client(lab.synapse, account, tmp_path / "nio") as nina,
        irc_person(lab.ngircd.port, lab.new("n"), channel) as bob,
    ):
        room = await linked(nina, lab.bridge.bot, NETWORK, channel)
        html = {"format": "org.matrix.custom.html", "formatted_body": "<b>quixotic vermilion</b>"}
        event = await nina.say(room, "quixotic vermilion", **html)
        await bob.sees(lambda h: "quixotic vermilion" in h.words)
        edit = {
            "m.new_content": {"msgtype": "m.text", "body": "obsidian harpsichord"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event},
        }
        await nina.say(room, "* obsidian harpsichord", **edit)
        await bob.sees(lambda h: "obsidian harpsichord" in h.words)
        reply = {"m.relates_to": {"m.in_reply_to": {"event_id": event}}}
        await nina.say(room, "marzipan isotherms", **reply)
        await bob.sees(lambda h: "marzipan isotherms" in h.words)
        await nina.say(room, "\n".join(f"saxophone lacquer {line}" for line in range(100)))
        await nina.share(room, b"velveteen tarmac " * 100, "zirconium-junket.txt", "text/plain")
        await nina.until(lambda: any("Not delivered" in said for said in nina.said_by(room, lab.bridge.bot)))
        await nina.say(room, "is that all?")
        await bob.sees(lambda h: "is that all?" in h.words)
        planted = [
            "quixotic vermilion",
            "obsidian harpsichord",
            "marzipan isotherms",
            "saxophone lacquer",
            "velveteen tarmac",
            "zirconium-junket",
            "is that all?",
        ]
        found = await lab.where(*planted, channel)
        assert [(place, words) for place, words in found if words in planted] == []
        assert {words for _, words in found} == {channel}, "the search finds what must be there"
        assert lab.remembered(*planted, room) == [room]
