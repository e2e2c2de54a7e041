"""The pure half against servers that others wrote: what we compose arrives whole, what they say is understood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from bridgekit.contract import verbs
from bridgekit.contract.facts import (
    Change,
    ChatOpened,
    ChatVisibility,
    Fact,
    Membership,
    Message,
    Profile,
    Reaction,
    RoleChange,
    Roster,
    Topic,
    Typing,
)
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Person, Quote, Role
from bridgekit.contract.policy import Entry, Exposure
from bridgekit.contract.text import Span, Style, Text, plain
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import parse
from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.lines import LineClient, line_client
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.words import compose
from connectors.irc.words.compose import Settings
from connectors.irc.words.identity import Identity
from connectors.irc.words.translate import Reader

CAPS = (
    "message-tags server-time batch account-tag account-notify away-notify chghost echo-message extended-join "
    "labeled-response multi-prefix setname userhost-in-names"
)


F = TypeVar("F")


class Peer:
    """One connection whose lines are read by a Reader and written by compose."""

    def __init__(self, nick: str, client: LineClient) -> None:
        self.client = client
        self.reader = Reader(State(nick), Identity().view(nick))
        self.facts: list[Fact] = []
        self._done = 0

    def take(self) -> None:
        for raw in self.client.seen[self._done :]:
            line = parse(raw.encode())
            assert line is not None
            self.facts += self.reader.read(line, 2_000_000_000_000).facts
        self._done = len(self.client.seen)

    async def settle(self) -> None:
        """Wait until the server has answered everything that was sent."""
        await self.client.send("PING :settled")
        await self.client.expect(r"PONG \S+ :?settled")
        self.take()

    async def do(self, verb: verbs.Verb) -> None:
        for line in compose.lines(verb, self.reader.state, self.reader.people, Settings()):
            await self.client.send(line.encode().decode().removesuffix("\r\n"))
        await self.settle()

    async def join(self, channel: str) -> None:
        await self.do(verbs.Join(chat=ChatId(channel)))
        state = self.reader.state
        for line in (*compose.after_join(state, channel), *compose.after_names(state, channel)):
            await self.client.send(line.encode().decode().removesuffix("\r\n"))
        await self.settle()

    def told(self, kind: type[F]) -> list[F]:
        """The facts of one kind; what services say is left out."""
        found = [f for f in self.facts if isinstance(f, kind)]
        return [f for f in found if not (isinstance(f, Message) and f.sender.bot)]


@asynccontextmanager
async def peer(port: int, nick: str, caps: str) -> AsyncIterator[Peer]:
    async with line_client(port) as client:
        one = Peer(nick, client)
        await client.register(nick, user=f"u{nick}"[:9], caps=caps)
        await one.settle()
        yield one


@pytest.fixture(params=["ngircd", "inspircd"])
def where(request: pytest.FixtureRequest) -> tuple[int, str]:
    """The port of a server, and the capabilities to ask for."""
    server: Ngircd | Inspircd = request.getfixturevalue(request.param)
    return server.port, CAPS if request.param == "inspircd" else "multi-prefix"


def message_of(
    body: str, kind: Kind = Kind.TEXT, *, to: str, spans: tuple[Span, ...] = ()
) -> verbs.PostMessage:
    return verbs.PostMessage(chat=ChatId(to), content=Content(text=Text(body, spans), kind=kind))


async def test_a_long_message_arrives_whole_at_the_true_limit(where: tuple[int, str]) -> None:
    """RFC 1459 2.3: 512 bytes with the line end, and the server puts our source before it."""
    port, caps = where
    body = "žluťoučký kůň 👨‍👩‍👧‍👦 " * 80
    async with peer(port, "pl_ann", caps) as ann, peer(port, "pl_bob", caps) as bob:
        await ann.join("#pure-long")
        await bob.join("#pure-long")
        for kind in Kind:
            bob.facts.clear()
            spans = (Span(0, len(body), Style.BOLD), Span(5, 900, Style.COLOR, "#ff0000"))
            await ann.do(message_of(body, kind, to="#pure-long", spans=spans))
            await bob.settle()
            found = [m.content for m in bob.told(Message)]
            assert " ".join(c.text.body.strip() for c in found) == body.strip()
            assert {c.kind for c in found} == {kind}
        said = [raw for raw in bob.client.seen if "kůň" in raw]
        assert all(len(raw[raw.index(":pl_ann") :].encode()) + 2 <= 512 for raw in said)


async def test_not_one_byte_is_lost_or_wasted_at_the_limit(where: tuple[int, str]) -> None:
    port, caps = where
    async with peer(port, "pb_ann", caps) as ann, peer(port, "pb_bob", caps) as bob:
        await ann.join("#pure-bytes")
        await bob.join("#pure-bytes")
        room = ann.reader.state.budget("PRIVMSG", "#pure-bytes")
        await ann.do(message_of("x" * room, to="#pure-bytes"))
        await ann.client.send(f"PRIVMSG #pure-bytes :{'y' * (room + 1)}")
        await ann.settle()
        await bob.settle()
        whole, cut = (m.content.text.body for m in bob.told(Message))
        assert whole == "x" * room
        assert cut.removesuffix("[CUT]") == "y" * (
            room - (5 if cut.endswith("[CUT]") else 0)
        )  # ngircd says so


async def test_what_happens_in_a_channel_is_understood(where: tuple[int, str]) -> None:
    port, caps = where
    chat = ChatId("#pure-facts")
    async with peer(port, "pf_ann", caps) as ann, peer(port, "pf_bob", caps) as bob:
        await ann.join("#pure-facts")
        await ann.do(verbs.SetTopic(chat=chat, topic="the topic"))
        await ann.client.send("MODE #pure-facts +ns")
        await ann.settle()
        await bob.join("#pure-facts")
        [opened] = bob.told(ChatOpened)
        assert (opened.name, opened.topic) == ("#pure-facts", "the topic")
        seen = bob.told(ChatVisibility)[-1].visibility
        assert (seen.known, seen.listed, seen.exposure, seen.entry) == (
            True,
            False,
            Exposure.JOINED,
            Entry.OPEN,
        )
        [member] = bob.told(Roster)[-1].members
        assert (member.person.id, member.role >= Role.MODERATOR) == ("pf_ann", True)
        await ann.settle()
        assert [(m.person.id, m.change) for m in ann.told(Membership)] == [("pf_bob", Change.JOIN)]

        await bob.client.send("NICK pf_Robert")
        await bob.settle()
        robert = Person(id=PersonId("pf_bob"), name="pf_Robert")
        await ann.settle()
        assert [(p.person.id, p.person.name, p.previous) for p in ann.told(Profile)][-1] == (
            "pf_bob", "pf_Robert", "pf_bob",
        )  # fmt: skip
        await ann.do(verbs.SetRole(chat=chat, person=robert, role=Role.MODERATOR))
        await ann.do(verbs.SetRole(chat=chat, person=robert, role=Role.VOICE))
        assert [(r.person.id, r.role) for r in ann.told(RoleChange)] == [
            ("pf_bob", Role.MODERATOR),
            ("pf_bob", Role.VOICE),
        ]

        bob.facts.clear()
        async with asyncio.timeout(60):
            while not bob.told(Topic):  # InspIRCd takes no two topics within a second
                await ann.do(verbs.SetTopic(chat=chat, topic="another"))
                await asyncio.sleep(0.3)
                await bob.settle()
        await ann.do(verbs.PostMessage(chat=ChatId("pf_bob"), content=Content(text=plain("psst"))))
        await ann.do(verbs.Ban(chat=chat, person=robert, reason="enough"))
        await bob.settle()
        topic = bob.told(Topic)[0]
        assert (topic.topic, topic.actor and topic.actor.id) == ("another", "pf_ann")
        assert [(m.private, m.chat) for m in bob.told(Message)] == [(True, "pf_ann")]
        assert [m.change for m in ann.told(Membership) if m.person.id == "pf_bob"][1:] == [
            Change.BAN,
            Change.KICK,
        ]
        await ann.do(verbs.Unban(chat=chat, person=robert))
        assert ann.told(Membership)[-1].change is Change.UNBAN


async def test_reactions_replies_and_typing_cross_a_modern_server(inspircd: Inspircd) -> None:
    chat = ChatId("#pure-tags")
    async with peer(inspircd.port, "pt_ann", CAPS) as ann, peer(inspircd.port, "pt_bob", CAPS) as bob:
        await ann.join("#pure-tags")
        await bob.join("#pure-tags")
        await ann.do(message_of("look", to="#pure-tags"))
        await bob.settle()
        [said] = bob.told(Message)
        assert MessageId(said.id) == ann.told(Message)[0].id  # echo-message: both sides know it by one id
        can = compose.capabilities(bob.reader.state, chat, Settings())
        assert can.replies
        assert verbs.React in can.verbs
        await bob.do(verbs.SetTyping(chat=chat, active=True))
        await bob.do(verbs.React(chat=chat, target=said.id, reaction="👍"))
        answer = verbs.PostMessage(chat=chat, content=Content(text=plain("yes")), reply=Quote(id=said.id))
        await bob.do(answer)
        await ann.settle()
        assert [t.active for t in ann.told(Typing)] == [True]
        assert [(r.target, r.key) for r in ann.told(Reaction)] == [(said.id, "👍")]
        assert [m.reply_to for m in ann.told(Message)][-1] == said.id


async def test_a_split_second_of_nick_changes_keeps_who_is_who(inspircd: Inspircd) -> None:
    async with (
        peer(inspircd.port, "pw_ann", CAPS) as ann,
        peer(inspircd.port, "pw_bob", CAPS) as bob,
        peer(inspircd.port, "pw_cat", CAPS) as cat,
    ):
        for one in (ann, bob, cat):
            await one.join("#pure-who")
        await bob.client.send("NICK pw_old")
        await bob.settle()
        await cat.client.send("NICK pw_bob")
        await cat.settle()
        await bob.do(message_of("I was bob", to="#pure-who"))
        await cat.do(message_of("I was cat", to="#pure-who"))
        await ann.settle()
        assert [(m.sender.id, m.sender.name) for m in ann.told(Message)] == [
            ("pw_bob", "pw_old"),
            ("pw_cat", "pw_bob"),
        ]
