"""Private conversations on a network where nothing is said of them: strangers are kept apart, in both directions."""

from __future__ import annotations

from tests.scenarios.irc.lab import CAREFUL, RELAY, Lab
from tests.scenarios.irc.test_people import arrived, online

NOT_TAKEN = (
    "This was not passed on to Matrix: by this bridge people there are written to by those who are in a linked chat "
    "with them."
)


async def test_strangers_write_to_each_other_on_neither_side(lab: Lab):
    async with lab.person() as alice, lab.peer(CAREFUL, "bob") as bob:
        ghost = lab.ghost(CAREFUL, bob.nick)
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
        declined = await alice.sees(
            room,
            lambda e: (
                e.type == "m.room.member" and e.state_key == ghost and e.content["membership"] == "leave"
            ),
            what="the ghost declining",
        )
        assert "private conversations are for people who share a linked chat" in declined.content["reason"]

        management = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
        await lab.answer(alice, management)
        await alice.say(management, f"login {CAREFUL} nick={alice.name}")
        await lab.answer(alice, management)
        await online(bob, alice.name)
        bob.say(alice.name, "buy this")
        await bob.reads(NOT_TAKEN, kind="notice", nick=alice.name)
        bob.say(alice.name, "and this")
        bob.say(RELAY[CAREFUL], "who are you?")  # answered after it, on the same server
        await bob.sees(lambda h: h.nick == RELAY[CAREFUL] and "a bridge between" in h.words)
        assert bob.said("This was not passed on") == 1
        assert alice.invitations.all == []


async def test_who_shares_a_channel_talks_until_they_block_and_after_they_take_it_back(lab: Lab):
    channel = lab.new("#met")
    async with lab.person() as alice, lab.peer(CAREFUL, "bob", channel) as bob:
        room = await lab.linked(alice, CAREFUL, channel)
        await lab.command(alice, room, f"login {CAREFUL} nick={alice.name}")
        await online(bob, alice.name)
        bob.say(channel, "hello everybody")
        ghost = (await alice.reads(room, "hello everybody")).sender
        bob.say(alice.name, "and hello to you")
        private, _ = await alice.invitation()
        await alice.join(private)
        assert (await alice.reads(private, "and hello to you")).sender == ghost
        await alice.say(private, "hello, Bob")
        await bob.reads("hello, Bob", target=bob.nick, nick=alice.name)

        bob.say(alice.name, "!block")
        await bob.sees(lambda h: h.kind == "notice" and f"From now on {alice.id} cannot write" in h.words)
        event = await alice.say(private, "are you cross?")
        fate = await lab.fate(alice, private, event)
        assert fate["status"] == "FAIL_PERMANENT"
        assert fate["message"] == f"{bob.nick} does not take private messages from you."
        bob.say(alice.name, "!unblock")
        await bob.sees(lambda h: h.kind == "notice" and f"{alice.id} can write to you" in h.words)
        await alice.say(private, "thank you")
        await bob.reads("thank you", target=bob.nick, nick=alice.name)
        assert bob.said("are you cross?") == 0
        assert all(not e.body.startswith("!") for e in alice.seen.all if e.sender == ghost)


async def test_a_conversation_goes_on_when_the_channel_is_not_shared_any_more(lab: Lab):
    channel = lab.new("#left")
    async with lab.person() as alice, lab.peer(CAREFUL, "bob", channel) as bob:
        room = await lab.linked(alice, CAREFUL, channel)
        bob.say(channel, "hello everybody")
        ghost = (await alice.reads(room, "hello everybody")).sender
        private = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
        await arrived(alice, private, ghost)
        await lab.command(alice, room, f"unlink {CAREFUL} {channel}")
        await alice.say(private, "still there?")
        heard = await bob.reads("still there?", target=bob.nick)
        bob.say(heard.nick, "I am")
        assert (await alice.reads(private, "I am")).sender == ghost
