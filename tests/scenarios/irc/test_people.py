"""Who is who: ghosts come and go, are renamed, thrown out, written to; Matrix users speak with nicks of their own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from bridgekit.testing.person import Person
from tests.scenarios.irc.lab import LABEL, MODERN, PLAIN, RELAY, Lab
from tests.scenarios.irc.peer import Peer


async def gone(person: Person, room: str, ghost: str) -> str:
    """Wait until the ghost has left; the reason."""
    event = await person.sees(
        room,
        lambda e: e.type == "m.room.member" and e.state_key == ghost and e.content["membership"] != "join",
        what=f"{ghost} leaving",
    )
    return str(event.content.get("reason", ""))


async def arrived(person: Person, room: str, ghost: str) -> str:
    """Wait until the ghost has joined; its name."""
    event = await person.sees(
        room,
        lambda e: e.type == "m.room.member" and e.state_key == ghost and e.content["membership"] == "join",
        what=f"{ghost} joining",
    )
    return str(event.content.get("displayname", ""))


async def op(lab: Lab, network: str, owner: Peer, channel: str) -> None:
    """The channel's founder makes the relay an operator."""
    owner.mode(channel, f"+o {RELAY[network]}")
    await owner.sees(lambda h: h.kind == "mode" and "+o" in h.arguments, what="the op")


async def test_who_is_in_the_channel_is_in_the_room_and_leaves_with_it(lab: Lab, network: str):
    channel = lab.new("#who")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        assert await arrived(alice, room, lab.ghost(network, bob.nick)) == f"{bob.nick} ({LABEL[network]})"
        async with lab.peer(network, "carol", channel) as carol:
            ghost = lab.ghost(network, carol.nick)
            assert await arrived(alice, room, ghost) == f"{carol.nick} ({LABEL[network]})"
            carol.quit("good night")
        assert "good night" in await gone(alice, room, ghost)
        bob.part(channel, "lunch")
        assert "lunch" in await gone(alice, room, lab.ghost(network, bob.nick))


async def test_a_nick_change_is_a_rename_of_the_same_ghost(lab: Lab, network: str):
    channel = lab.new("#nick")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        ghost = lab.ghost(network, bob.nick)
        await arrived(alice, room, ghost)
        await bob.rename(lab.new("robert"))
        assert await arrived(alice, room, ghost) == f"{bob.nick} ({LABEL[network]})"
        bob.say(channel, "it is still me")
        read = await alice.reads(room, "it is still me")
        assert (read.sender, read.name) == (ghost, f"{bob.nick} ({LABEL[network]})")


async def test_a_kick_on_irc_takes_the_ghost_out_and_says_who_did_it(lab: Lab, network: str):
    channel = lab.new("#kick")
    async with (
        lab.person() as alice,
        lab.peer(network, "bob", channel) as bob,
        lab.peer(network, "eve", channel) as eve,
    ):
        room = await lab.linked(alice, network, channel)
        ghost = lab.ghost(network, eve.nick)
        await arrived(alice, room, ghost)
        bob.kick(channel, eve.nick, "be nice")
        assert await gone(alice, room, ghost) == f"kicked by {bob.nick}: be nice"


async def test_a_kick_and_a_ban_in_the_room_are_done_on_irc(lab: Lab, network: str):
    channel = lab.new("#mod")
    async with (
        lab.person() as alice,
        lab.peer(network, "bob", channel) as bob,
        lab.peer(network, "eve", channel) as eve,
    ):
        room = await lab.linked(alice, network, channel)
        await op(lab, network, bob, channel)
        ghost = lab.ghost(network, eve.nick)
        await arrived(alice, room, ghost)
        await alice.kick(room, ghost, "spam")
        kick = await bob.sees(lambda h: h.kind == "kick" and h.words == eve.nick, what="the kick")
        assert (kick.nick, kick.target) == (RELAY[network], channel)
        assert "spam" in kick.arguments[1]
        await eve.join(channel)
        await arrived(alice, room, ghost)
        await alice.ban(room, ghost, "enough")
        ban = await bob.sees(lambda h: h.kind == "mode" and "+b" in h.arguments, what="the ban")
        assert ban.nick == RELAY[network]
        await bob.sees(lambda h: h.kind == "kick" and h.words == eve.nick, what="the kick after it")


async def test_a_kick_that_the_relay_may_not_do_is_reported(lab: Lab, network: str):
    channel = lab.new("#nomod")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        ghost = lab.ghost(network, bob.nick)
        await arrived(alice, room, ghost)
        await alice.kick(room, ghost, "mine now")
        answer = await lab.answer(alice, room)
        assert answer.body.startswith("⚠ ")
        assert channel in answer.body
        bob.say(channel, "I am still here")
        await alice.reads(room, "I am still here")


async def test_a_direct_message_crosses_both_ways_with_the_users_own_nick(lab: Lab, network: str):
    async with lab.person() as alice, lab.peer(network, "bob") as bob:
        ghost = lab.ghost(network, bob.nick)
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
        await arrived(alice, room, ghost)
        await alice.say(room, "only for you")
        heard = await bob.reads("only for you", target=bob.nick)
        assert heard.nick == f"{alice.name}[m]"
        bob.say(heard.nick, "and only for you")
        assert (await alice.reads(room, "and only for you")).sender == ghost
        bob.me(heard.nick, "smiles")
        assert (await alice.reads(room, "smiles")).kind == "m.emote"


async def test_a_direct_message_begun_on_irc_invites_its_receiver(lab: Lab, network: str):
    async with lab.person() as alice, lab.person("zoe") as zoe, lab.peer(network, "bob") as bob:
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
        await lab.answer(alice, room)
        await alice.say(room, f"login {network}")
        await lab.answer(alice, room)
        nick = f"{alice.name}[m]"
        await online(bob, nick)
        bob.say(nick, "are you there?")
        private, _ = await alice.invitation()
        await alice.join(private)
        read = await alice.reads(private, "are you there?")
        assert read.sender == lab.ghost(network, bob.nick)
        assert sorted(await alice.members(private)) == sorted([alice.id, lab.bot, read.sender])
        await alice.say(private, "I am")
        assert (await bob.reads("I am", target=bob.nick)).nick == nick
        assert zoe.invitations.all == []


async def online(peer: Peer, nick: str) -> None:
    """Wait until somebody is on the network."""
    async with asyncio.timeout(60):
        while "nosuchnick" in await peer.whois(nick):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_own_nick_and_relay_stand_side_by_side_and_nothing_is_doubled(lab: Lab, network: str):
    channel = lab.new("#side")
    async with (
        lab.person("alice") as alice,
        lab.person("carol") as carol,
        lab.peer(network, "bob", channel) as bob,
    ):
        room = await lab.linked(alice, network, channel)
        await carol.join(room)
        await lab.command(alice, room, f"login {network} nick={alice.name}")
        await online(bob, alice.name)
        await alice.say(room, "with my own nick")
        await bob.reads("with my own nick", target=channel, nick=alice.name)
        await carol.say(room, "through the relay")
        await bob.reads(f"<{carol.name}> through the relay", nick=RELAY[network])
        bob.say(channel, f"{alice.name}: hello to you")
        await alice.reads(room, f"{alice.name}: hello to you")
        assert bob.said("with my own nick") == 1
        said = [e.sender for e in carol.seen.all if "with my own nick" in e.body]
        assert said == [alice.id]
        members = await alice.members(room)
        assert lab.ghost(network, alice.name) not in members
        assert lab.ghost(network, RELAY[network]) not in members


async def test_an_edit_a_reply_and_a_reaction_carry_the_users_own_nick(lab: Lab):
    channel = lab.new("#own")
    async with lab.person() as alice, lab.peer(MODERN, "bob", channel) as bob:
        room = await lab.linked(alice, MODERN, channel)
        await lab.command(alice, room, f"login modern nick={alice.name}")
        await online(bob, alice.name)
        event = await alice.say(room, "the meating is at five")
        said = await bob.reads("the meating is at five", nick=alice.name)
        await alice.edit(room, event, "the meeting is at five")
        await bob.reads("s/meating/meeting/", nick=alice.name)
        bob.raw(f"@+draft/reply={said.tags['msgid']} PRIVMSG {channel} :at five?")
        asked = await alice.reads(room, "at five?")
        assert asked.relates["m.in_reply_to"]["event_id"] == event
        await alice.reply(room, asked.id, "yes")
        answer = await bob.reads(f"{bob.nick}: yes", nick=alice.name)
        assert answer.tags["+draft/reply"]
        reaction = await alice.react(room, asked.id, "👍")
        tag = await bob.sees(lambda h: h.kind == "tagmsg" and h.nick == alice.name, what="the reaction")
        assert (tag.tags["+draft/react"], tag.tags["+draft/reply"]) == ("👍", answer.tags["+draft/reply"])
        await alice.redact(room, reaction)
        tag = await bob.sees(lambda h: h.kind == "tagmsg" and "+draft/unreact" in h.tags, what="the unreact")
        assert tag.tags["+draft/unreact"] == "👍"


async def test_a_user_signs_in_with_sasl_and_their_account_tag_is_on_what_they_say(lab: Lab):
    account, password = lab.new("account"), "correct horse"
    await lab.inspircd.register_account(account, password.replace(" ", "-"))
    channel = lab.new("#sasl")
    async with lab.person() as alice, lab.peer(MODERN, "bob", channel) as bob:
        room = await lab.linked(alice, MODERN, channel)
        words = f"!bridge login modern nick={account} password={password.replace(' ', '-')}"
        secret = await alice.say(room, words)
        await alice.sees(room, lambda e: e.type == "m.room.redaction" and e.redacts == secret, what="hiding")
        await lab.answer(alice, room)
        await online(bob, account)
        await alice.say(room, "signed in")
        heard = await bob.reads("signed in", nick=account)
        assert heard.tags["account"] == account
        status = await lab.command(alice, room, "status")
        assert f"Your account on {LABEL[MODERN]}: ready" in status


async def test_a_wrong_password_is_told_and_nothing_is_said_unidentified(lab: Lab):
    account = lab.new("account")
    await lab.inspircd.register_account(account, "right-password")
    channel = lab.new("#wrong")
    async with lab.person() as alice, lab.peer(MODERN, "bob", channel) as bob:
        room = await lab.linked(alice, MODERN, channel)
        await lab.command(alice, room, f"login modern nick={account} password=wrong-password")
        management, _ = await alice.invitation()
        await alice.join(management)
        told = await lab.answer(alice, management)
        assert told.body.startswith(f"Your account on {LABEL[MODERN]} cannot be used")
        await alice.say(room, "still through the relay")
        await bob.reads(f"<{alice.name}> still through the relay", nick=RELAY[MODERN])


async def test_the_account_is_the_identity_where_the_network_tells_it(lab: Lab):
    """A stranger who takes the nick of somebody with an account is somebody else."""
    account = lab.new("owner")
    await lab.inspircd.register_account(account, "a-password")
    channel = lab.new("#account")
    async with lab.person() as alice, lab.peer(MODERN, "bob", channel) as bob:
        room = await lab.linked(alice, MODERN, channel)
        bob.say("NickServ", f"IDENTIFY {account} a-password")
        await bob.sees(lambda h: "identified" in h.words, what="NickServ")
        bob.say(channel, "I have an account")
        first = (await alice.reads(room, "I have an account")).sender
        old = bob.nick
        await bob.rename(lab.new("elsewhere"))
        async with lab.peer(MODERN, "eve", channel) as eve:
            await eve.rename(old)
            eve.say(channel, "I have only the nick")
            assert (await alice.reads(room, "I have only the nick")).sender != first
        bob.say(channel, "it is me")
        assert (await alice.reads(room, "it is me")).sender == first


async def test_a_logout_takes_the_nick_off_the_network(lab: Lab):
    async with lab.person() as alice, lab.peer(PLAIN, "bob") as bob:
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
        await lab.answer(alice, room)
        await alice.say(room, "login plain")
        await lab.answer(alice, room)
        await online(bob, f"{alice.name}[m]")
        await alice.say(room, "logout plain")
        assert "taken away" in (await lab.answer(alice, room)).body
        async with asyncio.timeout(60):
            while "nosuchnick" not in await bob.whois(f"{alice.name}[m]"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_a_nick_that_is_taken_gets_an_ending_and_is_won_back(lab: Lab):
    channel = lab.new("#taken")
    async with lab.person() as alice, lab.peer(PLAIN, "bob", channel) as bob:
        room = await lab.linked(alice, PLAIN, channel)
        async with lab.peer(PLAIN, "squatter", channel) as squatter:
            await lab.command(alice, room, f"login plain nick={squatter.nick}")
            await alice.say(room, "it is me")
            heard = await bob.reads("it is me", target=channel)
            assert heard.nick != squatter.nick
            assert heard.nick.startswith(squatter.nick)
        await bob.sees(lambda h: h.kind == "nick" and h.target == squatter.nick, what="the nick")
        await alice.say(room, "my own nick")
        await bob.reads("my own nick", nick=squatter.nick)


async def test_a_direct_message_to_somebody_who_has_gone_is_refused_with_a_sentence(lab: Lab, network: str):
    async with lab.person() as alice:
        async with lab.peer(network, "bob") as bob:
            ghost = lab.ghost(network, bob.nick)
            room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
            await arrived(alice, room, ghost)
            await alice.say(room, "are you there?")
            await bob.reads("are you there?", target=bob.nick)
        await asyncio.sleep(0.2)
        event = await alice.say(room, "where are you?")
        fate = await lab.fate(alice, room, event)
        assert fate["status"] == "FAIL_PERMANENT"
        assert bob.nick in (await lab.answer(alice, room)).body


async def test_who_leaves_the_room_leaves_the_channel_with_their_own_nick(lab: Lab):
    channel = lab.new("#leave")
    async with lab.person() as alice, lab.person("carol") as carol, lab.peer(PLAIN, "bob", channel) as bob:
        room = await lab.linked(alice, PLAIN, channel)
        await carol.join(room)
        await lab.command(carol, room, f"login plain nick={carol.name}")
        await online(bob, carol.name)
        await carol.say(room, "I am here")
        await bob.reads("I am here", nick=carol.name)
        await carol.leave(room)
        await bob.sees(lambda h: h.kind == "part" and h.nick == carol.name, what="carol leaving")


async def test_an_own_nick_that_is_banned_is_told_why_it_is_not_heard(lab: Lab, network: str):
    channel = lab.new("#banned")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        await lab.command(alice, room, f"login {network} nick={alice.name}")
        await alice.say(room, "one")
        await bob.reads("one", nick=alice.name)
        bob.mode(channel, f"+b {alice.name}!*@*")
        await bob.sees(lambda h: h.kind == "part" and h.nick == alice.name, what="her leaving")
        told = (await lab.answer(alice, room)).body  # it is her room: nobody can ban her there
        assert told.startswith(f"⚠ {alice.name} is banned in {LABEL[network]}, but not everywhere.")
        event = await alice.say(room, "two")
        assert (await lab.fate(alice, room, event))["status"] == "FAIL_PERMANENT"
        assert channel in (await lab.answer(alice, room)).body
        assert bob.said("two") == 0  # neither with her own nick nor through the relay, behind the ban


async def test_a_conversation_is_begun_by_command(lab: Lab):
    async with lab.person() as alice, lab.peer(PLAIN, "bob") as bob:
        direct = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
        await lab.answer(alice, direct)
        await alice.say(direct, f"chat plain {bob.nick}")
        assert "login plain" in (await lab.answer(alice, direct)).body
        await alice.say(direct, "login plain")
        await lab.answer(alice, direct)
        await alice.say(direct, f"chat plain {bob.nick}")
        assert "You are invited" in (await lab.answer(alice, direct)).body
        room, _ = await alice.invitation()
        await alice.join(room)
        await alice.say(room, "by command")
        await bob.reads("by command", target=bob.nick)


async def test_forty_people_are_there_and_the_first_message_does_not_wait_for_them(lab: Lab):
    channel = lab.new("#crowd")
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(lab.person())
        crowd = [await stack.enter_async_context(lab.peer(PLAIN, "crowd", channel)) for _ in range(40)]
        room = await lab.linked(alice, PLAIN, channel)
        crowd[-1].say(channel, "we are many")
        await alice.reads(room, "we are many")
        ghosts = {lab.ghost(PLAIN, one.nick) for one in crowd}
        async with asyncio.timeout(60):
            while not ghosts <= (await alice.members(room)).keys():  # noqa: ASYNC110
                await asyncio.sleep(0.2)
