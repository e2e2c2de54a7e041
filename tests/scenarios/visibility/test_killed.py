"""What is held when the bridge is killed is still held afterwards, and has its end: on real servers."""

from __future__ import annotations

import re

from bridgekit.testing.person import Person
from tests.scenarios.visibility.place import PLAIN, Place, code_for, place

CHANNEL = "#killed"


async def killed(here: Place) -> None:
    """SIGKILL, and a new start on what is on disk."""
    here.bridge.kill()
    await here.bridge.start()


async def bodies(alice: Person, room: str, *wanted: str) -> list[str]:
    """The words among `wanted` that stand in the room, in order."""
    return [e.body for e in alice.seen.all if e.room == room and e.body in wanted]


async def test_what_a_pause_and_a_quarantine_hold_outlives_sigkill_and_is_shown_in_order() -> None:
    """The room is more open than the channel agreed to, and the bot may not close it; a stranger waits for a nod."""
    async with place(shield={"quarantine": "everybody"}) as here:
        bob = await here.operator(PLAIN, "bob", CHANNEL)
        eve = await here.operator(PLAIN, "eve", CHANNEL)  # who came second is no operator
        alice = await here.person("alice")
        bot = here.bridge.bot
        room = await alice.create_room(
            preset="public_chat",
            invite=[bot],
            power_level_content_override={
                "users": {bot: 50},
                "events": {"m.room.history_visibility": 100, "m.room.power_levels": 100},
            },
        )
        await alice.sees(room, lambda e: e.sender == bot and e.kind == "m.notice", what="the bot")
        await alice.say(room, f"!bridge link {PLAIN} {CHANNEL}")
        bob.say(f"{PLAIN}bridge", f"{await code_for(bob)} yes")
        await alice.sees(room, lambda e: "are held back" in e.body, what="why nothing passes")
        bobs, eves = [f"bob {n}" for n in range(5)], [f"eve {n}" for n in range(3)]
        for line in bobs:
            bob.say(CHANNEL, line)
        for line in eves:
            eve.say(CHANNEL, line)
        held = await holds(alice, room, at_least=8)
        await killed(here)
        # Where the start took its time, the word about how long nobody listened is held as well.
        assert await holds(alice, room, at_least=held) in (held, held + 1)

        levels = await alice.state(room, "m.room.power_levels")
        levels["users"][bot] = 100
        await alice.set_state(room, "m.room.power_levels", levels)
        await alice.reads(room, bobs[-1], 40)
        await alice.sees(room, lambda e: f"{eve.nick} is new in {CHANNEL}" in e.body, what="the question")
        await killed(here)
        await alice.say(room, "!bridge strangers")
        await alice.sees(room, lambda e: f"{eve.nick} (3 messages)" in e.body, what="who waits")
        await alice.say(room, f"!bridge accept {eve.nick}")
        await alice.reads(room, eves[-1], 40)
        assert await bodies(alice, room, *bobs, *eves) == [*bobs, *eves]


async def holds(alice: Person, room: str, *, at_least: int) -> int:
    """How much the bridge says it holds (who comes and goes counts too), once all that was said has come in."""
    held = 0
    for _ in range(20):
        await alice.say(room, "!bridge status")
        answer = await alice.sees(room, lambda e: f"{CHANNEL} on" in e.body, what="the status")
        found = re.search(r"(\d+) messages from", answer.body)
        held = int(found[1]) if found else 0
        if held >= at_least:
            return held
    raise AssertionError(f"{held} are held, not {at_least}")
