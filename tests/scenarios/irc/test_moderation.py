"""Who may do what, who is put out or kept quiet, who is barred by a list, who is forgotten: on real servers."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import quote

from bridgekit.testing.person import Person
from connectors.irc.testing.inspircd import OPERATOR
from tests.scenarios.irc.lab import BANS, LABEL, MODERN, Lab
from tests.scenarios.irc.peer import Peer
from tests.scenarios.irc.test_people import arrived, gone, online, op

LEVELS = "m.room.power_levels"
RULE = "m.policy.rule.user"


async def level(alice: Person, room: str, user: str, wanted: int | None) -> None:
    """Wait until somebody has that level, or (None) none of their own."""
    await alice.sees(
        room,
        lambda e: e.type == LEVELS and e.content["users"].get(user) == wanted,
        what=f"the level {wanted} of {user}",
    )


async def member(alice: Person, room: str, user: str, membership: str) -> str:
    """Wait for a membership; the reason."""
    event = await alice.sees(
        room,
        lambda e: e.state_key == user and e.content.get("membership") == membership,
        what=f"{membership} of {user}",
    )
    return str(event.content.get("reason", ""))


async def mode(peer: Peer, change: str) -> str:
    """Wait for a mode change in a channel; all its arguments."""
    heard = await peer.sees(lambda h: h.kind == "mode" and h.words.startswith(change), what=change)
    return " ".join(heard.arguments)


async def test_prefixes_are_power_levels_and_go_with_them(lab: Lab, network: str):
    channel = lab.new("#roles")
    async with (
        lab.person() as alice,
        lab.peer(network, "bob", channel) as bob,
        lab.peer(network, "carol", channel) as carol,
    ):
        room = await lab.linked(alice, network, channel)
        await level(alice, room, lab.ghost(network, bob.nick), 50)
        ghost = lab.ghost(network, carol.nick)
        for change, wanted in (("+v", 10), ("+o", 50), ("-o", 10), ("-v", None)):
            bob.mode(channel, f"{change} {carol.nick}")
            await level(alice, room, ghost, wanted)


async def test_a_ban_holds_on_both_sides_and_ends_on_both(lab: Lab, network: str):
    channel = lab.new("#ban")
    async with (
        lab.person() as alice,
        lab.person("zoe") as zoe,
        lab.peer(network, "bob", channel) as bob,
        lab.peer(network, "eve", channel) as eve,
    ):
        room = await lab.linked(alice, network, channel)
        await op(lab, network, bob, channel)
        ghost = lab.ghost(network, eve.nick)
        await arrived(alice, room, ghost)
        await alice.ban(room, ghost, "enough")
        mask = (await mode(bob, "+b")).split()[1]
        await alice.call("POST", f"/rooms/{quote(room, safe='')}/unban", {"user_id": ghost})
        assert (await mode(bob, "-b")).split()[1] == mask

        await zoe.join(room)
        await lab.command(zoe, room, f"login {network} nick={zoe.name}")
        await online(bob, zoe.name)
        await zoe.say(room, "hello")
        await bob.reads("hello", nick=zoe.name)
        bob.mode(channel, f"+b {zoe.name}!*@*")
        assert f"by {bob.nick} on {LABEL[network]}" in await member(alice, room, zoe.id, "ban")
        bob.mode(channel, f"-b {zoe.name}!*@*")
        await member(alice, room, zoe.id, "leave")


async def test_who_is_muted_on_one_side_is_muted_on_the_other_and_speaks_again(lab: Lab):
    """InspIRCd's muteban: +b m:mask."""
    channel = lab.new("#mute")
    async with (
        lab.person() as alice,
        lab.peer(MODERN, "bob", channel) as bob,
        lab.peer(MODERN, "eve", channel) as eve,
    ):
        room = await lab.linked(alice, MODERN, channel)
        await op(lab, MODERN, bob, channel)
        ghost = lab.ghost(MODERN, eve.nick)
        await arrived(alice, room, ghost)
        await level(alice, room, lab.ghost(MODERN, bob.nick), 50)
        levels = await alice.state(room, LEVELS)
        await alice.set_state(room, LEVELS, {**levels, "users": {**levels["users"], ghost: -1}})
        mask = (await mode(bob, "+b")).split()[1]
        assert mask.startswith("m:")
        eve.say(channel, "unheard")
        await eve.sees(lambda h: h.kind == "cannotsendtochan", what="the refusal")
        await alice.set_state(room, LEVELS, levels)
        assert (await mode(bob, "-b")).split()[1] == mask
        eve.say(channel, "heard again")
        await alice.reads(room, "heard again")

        bob.mode(channel, f"+b m:{eve.nick}!*@*")
        await level(alice, room, ghost, -1)
        bob.mode(channel, f"-b m:{eve.nick}!*@*")
        eve.say(channel, "before that is written")
        await alice.reads(room, "before that is written")
        await level(alice, room, ghost, None)
        assert bob.said("unheard") == 0


async def test_who_stands_on_a_policy_list_is_heard_in_no_room_until_the_rule_is_gone(lab: Lab, network: str):
    channel = lab.new("#list")
    async with (
        Person(lab.synapse.base_url, lab.keeper) as keeper,
        lab.person() as alice,
        lab.peer(network, "bob", channel) as bob,
        lab.peer(network, "eve", channel) as eve,
    ):
        room, bans = await lab.linked(alice, network, channel), await keeper.join(BANS)
        ghost = lab.ghost(network, eve.nick)
        await arrived(alice, room, ghost)
        rule = {"entity": ghost, "recommendation": "m.ban", "reason": "spam"}
        await keeper.set_state(bans, RULE, rule, f"rule:{eve.nick}")
        assert "policy list" in await gone(alice, room, ghost)
        eve.say(channel, "buy this")
        bob.say(channel, "who was that?")
        await alice.reads(room, "who was that?")
        await keeper.set_state(bans, RULE, {}, f"rule:{eve.nick}")
        async with asyncio.timeout(60):
            while not [e for e in alice.seen.all if e.sender == ghost and e.body == "I am better now"]:
                eve.say(channel, "I am better now")
                await asyncio.sleep(0.5)
        assert not [e for e in alice.seen.all if "buy this" in e.body]


async def test_a_k_line_is_written_into_the_list(lab: Lab):
    channel = lab.new("#kline")
    async with (
        Person(lab.synapse.base_url, lab.keeper) as keeper,
        lab.person() as alice,
        lab.person("zoe") as zoe,
        lab.peer(MODERN, "bob", channel) as bob,
    ):
        room, bans = await lab.linked(alice, MODERN, channel), await keeper.join(BANS)
        await zoe.join(room)
        await lab.command(zoe, room, f"login {MODERN} nick={zoe.name}")
        await online(bob, zoe.name)
        bob.raw("OPER {} {}".format(*OPERATOR))
        await bob.sees(lambda h: h.kind == "youreoper", what="the operator's power")
        ident = (await bob.whois(zoe.name))["whoisuser"].arguments[1]
        bob.raw(f"KLINE {ident}@* 60 :spam")
        written = await keeper.sees(bans, lambda e: e.type == RULE and e.sender == lab.bot, what="the rule")
        assert (written.content["entity"], written.content["recommendation"]) == (zoe.id, "m.ban")
        assert written.content["reason"].startswith(f"Banned on {LABEL[MODERN]}: ")
        bob.raw(f"KLINE {ident}@*")
        await keeper.set_state(bans, RULE, {}, written.state_key or "")


async def erase(lab: Lab, user: str) -> str:
    """`bridgekit erase`; what it says."""
    run = "import sys; from bridgekit.cli import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", run, "erase", "-c", lab.bridge.path, "--user", user,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_who_is_erased_is_gone_from_the_homeserver_and_from_the_network(lab: Lab):
    channel = lab.new("#erase")
    async with (
        lab.person() as alice,
        lab.person("zoe") as zoe,
        lab.peer(MODERN, "bob", channel) as bob,
        lab.peer(MODERN, "eve", channel) as eve,
    ):
        room = await lab.linked(alice, MODERN, channel)
        ghost = lab.ghost(MODERN, eve.nick)
        for words in ("one", "two"):
            eve.say(channel, f"{words} of eve")
        bob.say(channel, "one of bob")
        said = [(await alice.reads(room, f"{words} of eve")).id for words in ("one", "two")]
        kept = (await alice.reads(room, "one of bob")).id
        report = await erase(lab, ghost)
        assert "2" in report
        path = f"/rooms/{quote(room, safe='')}/event/"
        for event in said:
            assert (await alice.call("GET", path + quote(event, safe="")))["content"] == {}
        assert (await alice.call("GET", path + quote(kept, safe="")))["content"]["body"] == "one of bob"
        assert ghost not in await alice.members(room)
        admin = f"/_synapse/admin/v2/users/{quote(ghost, safe='')}"
        row = await lab.synapse.request("GET", admin, token=lab.keeper.access_token)
        assert (row["deactivated"], row["displayname"] or "") == (True, "")
        eve.say(channel, "three of eve")
        bob.say(channel, "two of bob")
        await alice.reads(room, "two of bob")
        assert not [e for e in alice.seen.all if "three of eve" in e.body and e.sender == ghost]

        await zoe.join(room)
        await lab.command(zoe, room, f"login {MODERN} nick={zoe.name}")
        await online(bob, zoe.name)
        await zoe.say(room, "one of zoe")
        await bob.reads("one of zoe", nick=zoe.name)
        report = await erase(lab, zoe.id)
        assert f"1 messages can still be read on {LABEL[MODERN]}: it cannot take them back." in report
        async with asyncio.timeout(60):
            while "nosuchnick" not in await bob.whois(zoe.name):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
