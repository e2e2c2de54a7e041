"""People who mean harm: line ends, control characters, mark-up and names that want to be somebody else's."""

from __future__ import annotations

import pytest

from bridgekit.testing.servers.synapse import HomeserverRefused
from tests.scenarios.irc.lab import LABEL, MODERN, PLAIN, RELAY, Lab
from tests.scenarios.irc.test_people import arrived, op

EVIL = "eve\r\nQUIT :by injection\r\nPRIVMSG #other :x\x00\x07\x02"


async def test_no_field_from_matrix_can_end_a_line(lab: Lab, network: str):
    """RFC 2812 2.3: CR LF ends a message; a bridge that passes one on lets anybody send commands as it."""
    channel = lab.new("#inject")
    async with lab.person("eve") as eve, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(eve, network, channel)
        await op(lab, network, bob, channel)
        try:
            await eve.set_name(EVIL)
        except HomeserverRefused:
            await eve.set_name("eve\r\nQUIT :by injection")
        await eve.say(room, f"one{EVIL}two")
        await eve.say(room, "a\r\nQUIT :by injection\rPART #x\nNICK owned")
        await eve.say(room, "act\r\nQUIT :by injection", kind="m.emote")
        await eve.say(room, "html", html="a<br>QUIT :x<br>\r\nQUIT :y")
        await eve.set_state(room, "m.room.topic", {"topic": "topic\r\nQUIT :by injection"})
        event = await eve.say(room, "to be answered")
        await eve.edit(room, event, "edited\r\nQUIT :by injection")
        await eve.react(room, event, "👍\r\nQUIT :by injection")
        await eve.say(room, "the end")
        await bob.sees(lambda h: h.words.endswith("the end"), what="the end")
        assert [h for h in bob.seen.all if h.kind in ("quit", "part", "nick")] == []
        assert f"@{RELAY[network]}" in await bob.names(channel)
        said = [h.words for h in bob.seen.all if h.nick == RELAY[network] and h.kind in ("text", "emote")]
        leads = tuple(f"{sign}eve" for sign in ("<", "* "))
        assert [words for words in said if not words.startswith(leads)] == []


async def test_a_kick_reason_cannot_end_a_line(lab: Lab, network: str):
    channel = lab.new("#reason")
    async with lab.person("eve") as eve, lab.peer(network, "bob", channel) as bob:
        async with lab.peer(network, "carol", channel) as carol:
            room = await lab.linked(eve, network, channel)
            await op(lab, network, bob, channel)
            ghost = lab.ghost(network, carol.nick)
            await arrived(eve, room, ghost)
            await eve.kick(room, ghost, "bad\r\nQUIT :by injection")
            kick = await bob.sees(lambda h: h.kind == "kick" and h.words == carol.nick, what="the kick")
            assert "QUIT" in kick.arguments[1]
        await eve.say(room, "still here")
        await bob.sees(lambda h: h.words.endswith("still here"))


async def test_mark_up_from_irc_is_words_and_nobody_is_pinged(lab: Lab, network: str):
    channel = lab.new("#markup")
    async with lab.person() as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        evil = '<img src=x onerror=alert(1)> <a href="javascript:x">y</a> @room \x02<b>bold</b>\x02'
        bob.say(channel, evil)
        read = await alice.sees(room, lambda e: e.kind == "m.text" and "onerror" in e.body, what="the words")
        html = read.content["formatted_body"]
        assert "<img" not in html
        assert "<a " not in html
        assert "&lt;b&gt;bold&lt;/b&gt;" in html
        assert read.content["m.mentions"] == {}
        bob.topic(channel, "<script>topic</script>")
        topic = await alice.sees(room, lambda e: e.type == "m.room.topic", what="the topic")
        assert topic.content["topic"] == "<script>topic</script>"


async def test_a_nick_of_odd_characters_is_one_ghost_with_that_name(lab: Lab, network: str):
    channel = lab.new("#odd")
    async with lab.person() as alice, lab.peer(network, "[o]{d}|^_`-", channel, username="odd") as bob:
        room = await lab.linked(alice, network, channel)
        bob.say(channel, "my nick is odd")
        read = await alice.reads(room, "my nick is odd")
        assert read.name == f"{bob.nick} ({LABEL[network]})"
        private = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[read.sender])
        await arrived(alice, private, read.sender)
        await alice.say(private, "I found you")
        await bob.reads("I found you", target=bob.nick)


async def test_a_display_name_cannot_pass_for_somebody_elses_words(lab: Lab):
    """`<bob> yes` inside a name must not read as if bob had said it."""
    channel = lab.new("#forge")
    async with lab.person("eve") as eve, lab.peer(PLAIN, "bob", channel) as bob:
        room = await lab.linked(eve, PLAIN, channel)
        await eve.set_name("admin> I agree\n<eve")
        await eve.say(room, "really")
        heard = await bob.sees(lambda h: h.words.endswith("really"))
        assert "\n" not in heard.words
        assert heard.words.startswith("<")


@pytest.mark.parametrize("kind", ["ghost", "alias"])
async def test_what_no_network_could_have_is_refused(lab: Lab, kind: str):
    async with lab.person("eve") as eve:
        server = lab.synapse.server_name
        if kind == "alias":
            with pytest.raises(HomeserverRefused):
                await eve.join(f"#_bk_plain_#a=0d=0aQUIT:{server}")
        else:
            ghost = f"@_bk_modern_a=0d=0aquit:{server}"
            room = await eve.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
            await eve.say(room, "hello?")
            async with lab.peer(MODERN, "bob") as bob:
                found = await bob.whois(RELAY[MODERN])
                assert "nosuchnick" not in found
