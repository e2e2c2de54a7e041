"""A real Ergo: what IRCv3 has for replies, reactions, deletions, long messages and history; names beyond ASCII."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bridgekit.testing.person import Person
from bridgekit.testing.servers.synapse import HomeserverRefused
from connectors.irc.testing.ergo import Ergo
from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.testing.person import Heard, IrcPerson, irc_person
from tests.conftest import run_for_all_tests
from tests.scenarios.irc.lab import ERGO, LABEL, RELAY, Lab, laboratory, until
from tests.scenarios.irc.test_outages import read_by
from tests.scenarios.irc.test_people import arrived, online

CAPS = (
    *("account-tag", "batch", "draft/message-redaction", "draft/multiline", "echo-message", "message-tags"),
    "server-time",
)


@pytest.fixture(scope="module")
def lab(ngircd: Ngircd, inspircd: Inspircd, ergo: Ergo) -> Iterator[Lab]:
    """A bridge between a Synapse and an Ergo."""
    yield from run_for_all_tests(lambda: laboratory(ngircd, inspircd, ergo))


@asynccontextmanager
async def dora_in(lab: Lab, channel: str) -> AsyncIterator[IrcPerson]:
    """Somebody whose client knows every extension."""
    async with irc_person(lab.port(ERGO), lab.new("dora"), channel, caps=CAPS) as dora:
        yield dora


async def signed_in(lab: Lab, alice: Person, nick: str) -> None:
    """alice has an account of her own on Ergo and speaks with it."""
    assert lab.ergo is not None
    await lab.ergo.register_account(nick, "secretpw")
    direct = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[lab.bot])
    await lab.answer(alice, direct)
    await alice.say(direct, f"login {ERGO} nick={nick} account={nick} password=secretpw")
    await lab.answer(alice, direct)
    async with lab.peer(ERGO, "waits") as waiting:
        await online(waiting, nick)


def id_of(heard: Heard) -> str:
    return heard.line.tags["msgid"]


async def test_words_by_an_account_of_ones_own_and_by_every_tag(lab: Lab):
    channel = lab.new("#tags")
    async with lab.person() as alice, dora_in(lab, channel) as dora:
        room = await lab.linked(alice, ERGO, channel)
        ghost = lab.ghost(ERGO, dora.nick)
        await signed_in(lab, alice, alice.name)

        event = await alice.say(room, "hello, dora — grüße 🙂")
        said = await dora.reads("hello, dora — grüße 🙂", target=channel)
        assert (said.nick, said.line.tags["account"]) == (alice.name, alice.name)  # by SASL
        assert (await lab.fate(alice, room, event))["status"] == "SUCCESS"

        await dora.send("PRIVMSG", channel, "and you?", tags={"+draft/reply": id_of(said)})
        asked = await dora.reads("and you?", target=channel)  # her echo
        answered = await alice.reads(room, "and you?")
        assert (answered.sender, answered.relates["m.in_reply_to"]["event_id"]) == (ghost, event)
        await alice.reply(room, answered.id, "fine")
        fine = await dora.reads(f"{dora.nick}: fine", target=channel)
        assert fine.line.tags["+draft/reply"] == id_of(asked)

        reaction = await alice.react(room, answered.id, "🎂")
        tag = await dora.sees(lambda h: "+draft/react" in h.line.tags, what="the reaction")
        assert (tag.nick, tag.line.tags["+draft/react"], tag.line.tags["+draft/reply"]) == (
            alice.name,
            "🎂",
            id_of(asked),
        )
        await alice.redact(room, reaction)
        gone = await dora.sees(lambda h: "+draft/unreact" in h.line.tags, what="the reaction taken back")
        assert gone.line.tags["+draft/unreact"] == "🎂"
        await dora.send("TAGMSG", channel, tags={"+draft/reply": id_of(said), "+draft/react": "😋"})
        shown = await alice.sees(room, lambda e: e.type == "m.reaction" and e.sender == ghost)
        assert (shown.relates["event_id"], shown.relates["key"]) == (event, "😋")

        await alice.edit(room, event, "hello, Dora — grüße 🙂")
        await dora.reads("s/dora/Dora/", target=channel)
        await alice.redact(room, event)
        deleted = await dora.sees(lambda h: h.line.command == "REDACT", what="the deletion")
        assert deleted.line.params[:2] == (channel, id_of(said))
        await dora.send("REDACT", channel, id_of(asked))
        emptied = await alice.sees(
            room, lambda e: e.type == "m.room.redaction" and e.sender == ghost, what="the deletion"
        )
        assert answered.id in (emptied.redacts, emptied.content.get("redacts"))

        await dora.send("TAGMSG", channel, tags={"+typing": "active"})
        await until(lambda: alice.typing.get(room) == [ghost])
        await alice.set_typing(room)
        await dora.sees(lambda h: h.line.tags.get("+typing") == "active" and h.nick != dora.nick)


async def test_three_thousand_bytes_are_one_message_each_way(lab: Lab):
    channel = lab.new("#long")
    words = " ".join(f"{word}{n}" for n in range(90) for word in ("naïve", "Привет", "日本語", "🦊"))
    text = words.encode()[:3000].decode(errors="ignore").rsplit(" ", 1)[0]
    async with lab.person() as alice, dora_in(lab, channel) as dora:
        room = await lab.linked(alice, ERGO, channel)
        await signed_in(lab, alice, alice.name)
        await alice.say(room, text)
        begin = await dora.sees(lambda h: h.line.command == "BATCH" and h.nick == alice.name)
        ref = begin.line.param(0)[1:]
        assert begin.line.params[1:] == ("draft/multiline", channel)
        await dora.sees(lambda h: h.line.params == (f"-{ref}",), what="the end of the batch")
        parts = [h for h in dora.seen.all if h.line.tags.get("batch") == ref]
        assert len(parts) > 5
        joined = "".join(("" if "draft/multiline-concat" in h.line.tags else "\n") + h.raw for h in parts)
        assert joined.removeprefix("\n") == text

        await dora.send("BATCH", "+1", "draft/multiline", channel)
        for n in range(0, len(text), 100):
            concat = {"draft/multiline-concat": ""} if n else {}
            await dora.send("PRIVMSG", channel, text[n : n + 100], tags={"batch": "1", **concat})
        await dora.send("BATCH", "-1")
        read = await alice.reads(room, text)
        assert read.sender == lab.ghost(ERGO, dora.nick)


async def test_the_relay_speaks_in_others_names_where_it_may(lab: Lab):
    channel = lab.new("#relay")
    async with lab.person() as alice, lab.peer(ERGO, "bob", channel) as bob:
        room = await lab.linked(alice, ERGO, channel)
        bob.say(channel, "hello from IRC")
        event = await alice.reads(room, "hello from IRC")
        await alice.say(room, "by the relay")
        await bob.reads(f"<{alice.name}> by the relay", target=channel, nick=RELAY[ERGO])
        await alice.react(room, event.id, "👍")
        await bob.reads(f"* {alice.name} reacted 👍 to “hello from IRC”", nick=RELAY[ERGO])
        bob.mode(channel, f"+o {RELAY[ERGO]}")
        await bob.sees(lambda h: h.kind == "mode" and "+o" in h.arguments, what="the op")
        bob.say(channel, "now you may")
        await alice.reads(room, "now you may")
        await alice.say(room, "in my name")
        await bob.reads("in my name", target=channel, nick=f"{alice.name}/m")
        await alice.react(room, event.id, "🎉")
        await bob.reads(
            "reacted 🎉 to “hello from IRC”", target=channel, kind="emote", nick=f"{alice.name}/m"
        )


async def test_names_beyond_ascii_are_the_same_in_whatever_case(lab: Lab):
    channel = lab.new("#Ünï")
    async with lab.person() as alice, lab.peer(ERGO, "Élan", channel) as bob:
        room = await lab.room(alice)
        await lab.link(alice, room, ERGO, channel.replace("Ü", "ü"))
        ghost = lab.ghost(ERGO, bob.nick)
        assert await arrived(alice, room, ghost) == f"{bob.nick} ({LABEL[ERGO]})"
        await alice.say(room, "grüße")
        await bob.reads(f"<{alice.name}> grüße", target=channel)
        await bob.rename(bob.nick.replace("É", "é"))
        bob.say(channel, "it is still me")
        assert (await alice.reads(room, "it is still me")).sender == ghost
        direct = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost])
        await arrived(alice, direct, ghost)
        await alice.say(direct, "only for you")
        heard = await bob.reads("only for you", target=bob.nick)
        bob.say(heard.nick, "and for you")
        assert (await alice.reads(direct, "and for you")).sender == ghost


async def test_what_was_said_while_the_bridge_was_away_comes_once_and_in_its_place(lab: Lab):
    channel = lab.new("#gap")
    async with lab.person() as alice, lab.peer(ERGO, "bob", channel) as bob:
        room = await lab.linked(alice, ERGO, channel)
        for n in range(5):
            bob.say(channel, f"number {n}")
        await alice.reads(room, "number 4")
        lab.bridge.kill()
        await bob.sees(lambda h: h.kind == "quit" and h.nick == RELAY[ERGO], what="the relay leaving")
        for n in range(5, 25):
            bob.say(channel, f"number {n}")
        await bob.whois(bob.nick)  # the server has taken all of it
        bob.seen.forget()
        await lab.bridge.start()
        await bob.sees(lambda h: h.kind == "join" and h.nick == RELAY[ERGO], what="the relay coming back")
        bob.say(channel, "number 25")
        await alice.reads(room, "number 25")
        assert read_by(alice, room, "number") == list(range(26))


async def test_who_may_read_a_channel_follows_its_modes(lab: Lab):
    channel = lab.new("#modes")
    async with lab.person() as alice, lab.peer(ERGO, "bob", channel) as bob:
        for mode in ("+s", "+i", "+R"):
            closed = lab.new("#closed")
            await bob.join(closed)
            bob.mode(closed, mode)
            await bob.sees(lambda h: h.kind == "mode" and mode in h.arguments, what="the mode")  # noqa: B023
            with pytest.raises(HomeserverRefused):
                await alice.join(f"#_bk_{ERGO}_{closed}:{lab.synapse.server_name}")
        room = await lab.linked(alice, ERGO, channel)  # +Cnt, as Ergo makes them
        assert (await alice.state(room, "m.room.history_visibility"))["history_visibility"] == "shared"
        bob.mode(channel, "+s")
        assert "now only its members can read it" in (await lab.answer(alice, room)).body
        assert (await alice.state(room, "m.room.history_visibility"))["history_visibility"] == "joined"
