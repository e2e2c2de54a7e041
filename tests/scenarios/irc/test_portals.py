"""Rooms and channels are linked and taken apart, by command, by alias and by invitation; modes are known."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from bridgekit.testing.servers.synapse import HomeserverRefused
from tests.scenarios.irc.lab import LABEL, MODERN, PLAIN, RELAY, Lab, until
from tests.scenarios.irc.test_people import arrived, gone, online, op


async def test_the_bot_explains_itself_when_it_is_asked_in(lab: Lab):
    async with lab.person() as alice:
        room = await alice.create_room(preset="private_chat", invite=[lab.bot])
        greeting = await lab.answer(alice, room)
        assert "!bridge help" in greeting.body
        assert "!bridge link" in await lab.command(alice, room, "help")
        networks = await lab.command(alice, room, "networks")
        assert networks.splitlines() == [
            "plain: Plain (IRC), ready; private conversations with anybody",
            "modern: Modern (IRC), ready; private conversations with anybody",
            "careful: Careful (IRC), ready; private conversations with people of linked chats",
        ]
        direct = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
        assert "Every word here is a command" in (await lab.answer(alice, direct)).body
        await alice.say(direct, "help")
        assert "!bridge link" in (await lab.answer(alice, direct)).body


async def test_a_link_is_labelled_shown_and_taken_apart(lab: Lab, network: str):
    channel = lab.new("#link")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        notice = await bob.sees(lambda h: h.kind == "notice" and h.target == channel, what="the notice")
        assert (room in notice.words, alice.id in notice.words) == (True, True)
        ghost = lab.ghost(network, bob.nick)
        await arrived(alice, room, ghost)
        key = f"org.bridgekit://{network}/{channel}"
        label = await alice.state(room, "m.bridge", key)
        assert label["channel"] == {"id": channel, "displayname": channel}
        assert label["network"]["displayname"] == LABEL[network]
        assert (await lab.command(alice, room, "status")).startswith(f"{channel} on {LABEL[network]}: open")
        assert "no longer linked" in await lab.command(alice, room, f"unlink {network} {channel}")
        await gone(alice, room, ghost)
        assert await alice.state(room, "m.bridge", key) == {}
        await bob.sees(lambda h: h.kind == "part" and h.nick == RELAY[network], what="the relay leaving")
        await alice.say(room, "to myself")
        await lab.command(alice, room, "status")
        assert bob.said("to myself") == 0


async def test_only_who_may_change_the_room_may_link_and_unlink_it(lab: Lab):
    channel = lab.new("#power")
    async with lab.person() as alice, lab.person("mallory") as mallory, lab.peer(PLAIN, "bob", channel):
        room = await lab.room(alice)
        await mallory.join(room)
        await lab.answer(mallory, room)  # the greeting, which was there before
        assert "You need power level 50" in await lab.command(mallory, room, f"link plain {channel}")
        await lab.answer(alice, room)  # she reads it as well
        await lab.link(alice, room, PLAIN, channel)
        await lab.answer(mallory, room)
        assert "You need power level 50" in await lab.command(mallory, room, f"unlink plain {channel}")
        assert (await lab.command(mallory, room, "status")).startswith(f"{channel} on Plain: open")


async def test_a_channel_has_one_room(lab: Lab):
    channel = lab.new("#one")
    async with lab.person() as alice, lab.peer(PLAIN, "bob", channel):
        await lab.linked(alice, PLAIN, channel)
        other = await lab.room(alice)
        answer = await lab.command(alice, other, f"link plain {channel}")
        assert answer == f"{channel} is linked to another room already: unlink it there first."


async def test_what_keeps_the_bridge_out_of_a_channel_is_said_in_a_sentence(lab: Lab, network: str):
    async with lab.person() as alice, lab.peer(network, "bob") as bob:
        room = await lab.room(alice)
        for mode, words in {"+i": "invite", "+k geheim": "key", "+b *!*@*": "ban"}.items():
            channel = lab.new("#shut")
            await bob.join(channel)
            bob.mode(channel, mode)
            await bob.sees(lambda h: h.kind == "mode" and h.arguments[0] == mode.split()[0], what="the mode")  # noqa: B023
            answer = await lab.command(alice, room, f"link {network} {channel}")
            assert words in answer, answer
            assert channel in answer
        assert "is not a chat that can be linked" in await lab.command(
            alice, room, f"link {network} nochannel"
        )
        assert "There is no network" in await lab.command(alice, room, "link nowhere #x")


async def test_a_channel_with_a_key_is_linked_with_it(lab: Lab, network: str):
    """translation.md IRC 8: the key of a +k channel is kept. In the room it does not stay."""
    async with lab.person() as alice, lab.peer(network, "bob") as bob:
        room, channel = await lab.room(alice), lab.new("#shut")
        await bob.join(channel)
        bob.mode(channel, "+k geheim")
        await bob.sees(lambda h: h.kind == "mode" and h.arguments[0] == "+k", what="the mode")
        assert "needs a key" in await lab.command(alice, room, f"link {network} {channel} password=falsch")
        assert "is now linked" in await lab.command(alice, room, f"link {network} {channel} password=geheim")
        history = await alice.call("GET", f"/rooms/{quote(room, safe='')}/messages?dir=b&limit=50")
        assert "needs a key" in str(history)
        assert "geheim" not in str(history)


async def test_an_alias_makes_the_portal(lab: Lab, network: str):
    """And its room is that very channel's: InspIRCd says CASEMAPPING=rfc1459, and takes #~ and #^ for two."""
    channel = lab.new("#Alias[~]")
    async with lab.person() as alice, lab.person("carol") as carol, lab.peer(network, "bob", channel) as bob:
        alias = f"#_bk_{network}_{channel}:{lab.synapse.server_name}"
        room = await alice.join(alias)
        assert await carol.join(alias) == room
        await alice.say(room, "by alias")
        await bob.reads(f"<{alice.name}> by alias")
        bob.say(channel, "welcome")
        await carol.reads(room, "welcome")
        assert (await alice.state(room, "m.room.history_visibility"))["history_visibility"] == "shared"
        assert (await alice.state(room, "m.room.name"))["name"] == f"{channel} ({LABEL[network]})"


@pytest.mark.parametrize(
    ("network", "mode"), [(PLAIN, "+s"), (PLAIN, "+i"), (MODERN, "+s"), (MODERN, "+i"), (MODERN, "+p")]
)
async def test_a_channel_that_is_not_open_to_everybody_gets_no_portal_by_alias(
    lab: Lab, network: str, mode: str
):
    channel = lab.new("#closed")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        bob.mode(channel, mode)
        await bob.sees(lambda h: h.kind == "mode" and mode in h.arguments, what="the mode")
        with pytest.raises(HomeserverRefused):
            await alice.join(f"#_bk_{network}_{channel}:{lab.synapse.server_name}")
        if mode != "+i":  # it had to go in to learn of the mode
            await bob.sees(lambda h: h.kind == "part" and h.nick == RELAY[network], what="the relay leaving")
        assert RELAY[network] not in {nick.lstrip("@") for nick in await bob.names(channel)}


async def test_a_mode_is_known_as_soon_as_it_is_set(lab: Lab, network: str):
    channel = lab.new("#secret")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        bob.mode(channel, "+s")
        await bob.sees(lambda h: h.kind == "mode" and "+s" in h.arguments, what="the mode")
        bob.say(channel, "now it is secret")
        await alice.reads(room, "now it is secret")
        assert "now only its members can read it" in (await lab.answer(alice, room)).body
        assert (await alice.state(room, "m.room.history_visibility"))["history_visibility"] == "joined"
        assert (await alice.state(room, "m.room.join_rules"))["join_rule"] == "invite"
        status = await lab.command(alice, room, "status")
        modes = status.partition("modes ")[2].split()[0]
        assert modes.startswith("+")
        assert "s" in modes


async def test_topics_cross_both_ways(lab: Lab, network: str):
    channel = lab.new("#topic")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        await op(lab, network, bob, channel)
        bob.topic(channel, "from IRC: ünïcode")
        event = await alice.sees(room, lambda e: e.type == "m.room.topic", what="the topic")
        assert event.content["topic"] == "from IRC: ünïcode"
        await asyncio.sleep(2)  # InspIRCd refuses two changes of a topic within a second, and says so (437)
        await alice.set_state(room, "m.room.topic", {"topic": "from Matrix"})
        heard = await bob.sees(
            lambda h: h.kind == "topic" and h.target == channel and h.nick == RELAY[network], what="it"
        )
        assert heard.words == "from Matrix"


async def test_a_topic_reaches_each_network_once_and_nobody_new_comes_for_it(lab: Lab):
    channels = {PLAIN: lab.new("#once"), MODERN: lab.new("#once")}
    async with (
        lab.person() as alice,
        lab.peer(PLAIN, "paul", channels[PLAIN]) as paul,
        lab.peer(MODERN, "mary", channels[MODERN]) as mary,
    ):
        room = await lab.linked(alice, PLAIN, channels[PLAIN])
        await lab.link(alice, room, MODERN, channels[MODERN])
        await op(lab, PLAIN, paul, channels[PLAIN])
        await op(lab, MODERN, mary, channels[MODERN])
        await alice.set_state(room, "m.room.topic", {"topic": "for all of us"})
        for peer in (paul, mary):
            await peer.sees(lambda h: (h.kind, h.words) == ("topic", "for all of us"), what="the topic")
        # Words each way: what an echo had set off would have come before them.
        paul.say(channels[PLAIN], "seen here")
        await mary.reads(f"<{paul.nick}/Plain> seen here")
        mary.say(channels[MODERN], "and here")
        await paul.reads(f"<{mary.nick}/Modern> and here")
        for peer in (paul, mary):
            assert [h.words for h in peer.seen.all if h.kind == "topic"] == ["for all of us"]
        relays = {lab.ghost(network, RELAY[network]) for network in (PLAIN, MODERN)}
        assert relays & (await alice.members(room)).keys() == set()


async def test_two_networks_meet_in_one_room(lab: Lab):
    channels = {PLAIN: lab.new("#both"), MODERN: lab.new("#both")}
    async with (
        lab.person() as alice,
        lab.peer(PLAIN, "paul", channels[PLAIN]) as paul,
        lab.peer(MODERN, "mary", channels[MODERN]) as mary,
    ):
        room = await lab.linked(alice, PLAIN, channels[PLAIN])
        await lab.link(alice, room, MODERN, channels[MODERN])
        paul.say(channels[PLAIN], "hello over there")
        read = await alice.reads(room, "hello over there")
        assert read.sender == lab.ghost(PLAIN, paul.nick)
        heard = await mary.reads(f"<{paul.nick}/Plain> hello over there", nick=RELAY[MODERN])
        mary.raw(f"@+draft/reply={heard.tags['msgid']} PRIVMSG {channels[MODERN]} :hello to you")
        await paul.reads(f"<{mary.nick}/Modern> {paul.nick}: hello to you", nick=RELAY[PLAIN])
        answer = await alice.reads(room, "hello to you")
        assert answer.sender == lab.ghost(MODERN, mary.nick)
        assert answer.relates["m.in_reply_to"]["event_id"] == read.id
        event = await alice.say(room, "I can here you both")
        await paul.reads(f"<{alice.name}> I can here you both")
        await mary.reads(f"<{alice.name}> I can here you both")
        await alice.edit(room, event, "I can hear you both")
        await paul.reads(f"<{alice.name}> s/here/hear/")
        await mary.reads(f"<{alice.name}> s/here/hear/")
        mary.raw(f"@+draft/react=❤;+draft/reply={heard.tags['msgid']} TAGMSG {channels[MODERN]}")
        await paul.reads(f"* {mary.nick}/Modern reacted ❤ to “hello over there”")
        reaction = await alice.sees(room, lambda e: e.type == "m.reaction", what="the reaction")
        assert reaction.relates["event_id"] == read.id
        assert [h.nick for h in paul.seen.all if h.words.endswith("> hello over there")] == []
        assert mary.said("hello to you") == 0
        status = await lab.command(alice, room, "status")
        assert [line.partition(":")[0] for line in status.splitlines()] == [
            f"{channels[PLAIN]} on Plain",
            f"{channels[MODERN]} on Modern",
        ]
        await lab.command(alice, room, f"unlink plain {channels[PLAIN]}")
        mary.say(channels[MODERN], "only the two of us now")
        await alice.reads(room, "only the two of us now")
        assert paul.said("only the two of us now") == 0


async def test_the_bot_explains_itself_on_irc(lab: Lab, network: str):
    channel = lab.new("#ask")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        bob.say(channel, "!bridge")
        heard = await bob.sees(lambda h: h.kind == "notice" and room in h.words and lab.bot in h.words)
        assert alice.id in heard.words


async def test_the_relay_that_is_kicked_says_so_in_the_room(lab: Lab, network: str):
    channel = lab.new("#out")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        bob.mode(channel, f"+b {RELAY[network]}!*@*")
        await bob.sees(lambda h: h.kind == "mode" and "+b" in h.arguments, what="the ban")
        bob.kick(channel, RELAY[network], "no bridges here")
        told = await lab.answer(alice, room)
        assert told.body.startswith(f"{channel} on {LABEL[network]}: ")
        event = await alice.say(room, "hello?")
        assert (await lab.fate(alice, room, event))["status"] == "FAIL_PERMANENT"


async def test_the_bridge_follows_a_room_that_is_replaced(lab: Lab):
    channel = lab.new("#upgrade")
    async with lab.person() as alice, lab.peer(PLAIN, "bob", channel) as bob:
        old = await lab.linked(alice, PLAIN, channel)
        answer = await alice.call("POST", f"/rooms/{old}/upgrade", {"new_version": "11"})
        new = answer["replacement_room"]
        await until(lambda: (new, lab.bot) in alice.names)
        await alice.say(new, "in the new room")
        await bob.reads(f"<{alice.name}> in the new room")
        bob.say(channel, "I see no difference")
        await alice.reads(new, "I see no difference")


async def test_an_invitation_from_irc_reaches_the_owner_of_the_nick(lab: Lab, network: str):
    channel = lab.new("#please")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        direct = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
        await lab.answer(alice, direct)
        await alice.say(direct, f"login {network} nick={alice.name}")
        await lab.answer(alice, direct)
        await online(bob, alice.name)
        bob.invite(alice.name, channel)
        told = await lab.answer(alice, direct)
        assert channel in told.body
        assert bob.nick in told.body
