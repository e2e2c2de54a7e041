"""An account of somebody's own that is used elsewhere too: nothing of its conversations is missed, or told twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from xml.etree.ElementTree import fromstring

import pytest

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Content, Login
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, Leave, PostMessage
from bridgekit.testing.host import FakeHost
from connectors.xmpp import account as account_of
from connectors.xmpp.account import Account
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.session import XmppSession
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.person import person
from connectors.xmpp.testing.prosody import ROOMS, Prosody

Said = tuple[str, str, bool, bool]


def told_words(told: list[Fact]) -> list[Said]:
    """Each message: its words, the chat, whether it is the account's own, whether it comes from the archive."""
    return [
        (f.content.text.body, f.chat, f.own is not None, f.replayed)
        for f in told
        if isinstance(f, facts.Message)
    ]


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def bridged(
    prosody: Prosody, host: FakeHost, account: tuple[str, str], told: list[Fact]
) -> AsyncIterator[XmppSession]:
    """The bridge with somebody's account, read."""
    relay = await prosody.register("relay-of-accounts")
    config = XmppConfig.model_validate(
        {
            "mode": "client",
            "jid": relay[0],
            "password": relay[1],
            "host": "127.0.0.1",
            "port": prosody.port,
            "tls_ca_file": prosody.certificate,
        }
    )
    login = Login(
        id=LoginId("ann"), owner=PersonId("@ann:hs.test"), fields={"jid": account[0], "password": account[1]}
    )
    async with XmppConnector().network(config, host).connect(login) as session:
        assert isinstance(session, XmppSession)
        reader = asyncio.create_task(session.run(told.append))
        await until(lambda: host.kept.get(f"last/~{account[0]}") is not None)
        await until(lambda: f"bookmarks/{account[0]}" in host.kept or not reader.done())
        yield session
        reader.cancel()
        await asyncio.wait([reader])


async def test_what_is_said_from_elsewhere_and_what_was_missed_is_told_once(prosody: Prosody):
    """XEP-0280, 7 and 8: copies of what other devices get and send; XEP-0313, 4: the rest is in the archive."""
    account, friend = await prosody.register("ann-everywhere"), await prosody.register("bea-of-ann")
    ann, bea = ChatId(account[0]), ChatId(friend[0])
    host, told = FakeHost(), list[Fact]()

    async with (
        person(*account, port=prosody.port, certificate=prosody.certificate) as phone,
        person(*friend, port=prosody.port, certificate=prosody.certificate) as other,
    ):
        async with bridged(prosody, host, account, told) as session:
            phone.say(bea, "from my phone", room=False)
            await until(lambda: len(told_words(told)) == 1)
            other.say(phone.full, "to your phone alone", room=False)
            await until(lambda: len(told_words(told)) == 2)
            other.say(ann, "to all of you", room=False)
            await until(lambda: len(told_words(told)) == 3)
            await session.perform(PostMessage(chat=bea, content=Content(text=plain("from Matrix")), key="k"))
            await other.reads("from Matrix")
        assert told_words(told) == [
            ("from my phone", bea, True, False),
            ("to your phone alone", bea, False, False),
            ("to all of you", bea, False, False),
        ]
        other.say(ann, "are you there?", room=False)
        await phone.reads("are you there?")
        phone.say(bea, "yes, here", room=False)
        await other.reads("yes, here")
        told.clear()
        async with bridged(prosody, host, account, told):
            await until(lambda: any("yes, here" in said for said, *_ in told_words(told)))
            other.say(ann, "good", room=False)
            await until(lambda: any("good" in said for said, *_ in told_words(told)))
    again = [said for said in told_words(told) if said[0] != "to all of you"]  # its id tells the bridge
    assert again == [
        ("are you there?", bea, False, True),
        ("yes, here", bea, True, True),
        ("good", bea, False, False),
    ]


async def test_a_long_absence_is_told_whole_and_before_what_comes_meanwhile(prosody: Prosody):
    """XEP-0313, 4: page by page, to the end; what comes live while it is read waits behind it."""
    account, friend = await prosody.register("ann-away"), await prosody.register("bea-talks-on")
    ann, bea = ChatId(account[0]), ChatId(friend[0])
    host, told = FakeHost(), list[Fact]()
    async with person(*friend, port=prosody.port, certificate=prosody.certificate) as other:
        async with bridged(prosody, host, account, told):
            other.say(ann, "before", room=False)
            await until(lambda: len(told_words(told)) == 1)
        async with person(*account, port=prosody.port, certificate=prosody.certificate) as phone:
            for number in range(620):  # read there, so that none of them is kept for later as "offline"
                other.say(ann, f"word {number}", room=False)
            await phone.reads("word 619", seconds=60)
        told.clear()
        held = Account._is_archived

        async def slowly(self: Account) -> bool:
            other.say(ann, "live", room=False)
            await asyncio.sleep(0.5)
            return await held(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Account, "_is_archived", slowly)
            async with bridged(prosody, host, account, told):
                await until(lambda: any(said == "live" for said, *_ in told_words(told)))
    words = [said for said in told_words(told) if said[0] != "before"]  # its id tells the bridge
    assert [said for said, *_ in words] == [*(f"word {number}" for number in range(620)), "live"]
    assert {chat for _, chat, *_ in words} == {bea}


async def test_rooms_that_are_entered_are_bookmarked_and_bookmarks_are_told_of(prosody: Prosody):
    """XEP-0402, 3: one item for each room; nothing is joined by itself."""
    account = await prosody.register("ann-of-the-books")
    mine, theirs = ChatId(f"mine@{ROOMS}"), ChatId(f"theirs@{ROOMS}")
    told = list[Fact]()

    async with person(*account, port=prosody.port, certificate=prosody.certificate) as phone:

        async def bookmarks() -> set[str]:
            answer = await phone.ask(
                "", f"<pubsub xmlns='{wire.PUBSUB}'><items node='{wire.BOOKMARKS}'/></pubsub>"
            )
            return {one.get("id", "") for one in answer.iter(f"{{{wire.PUBSUB}}}item")}

        await phone.join(mine)
        fields = "".join(
            f"<field var='{name}'><value>{value}</value></field>" for name, value in account_of._OPTIONS
        )
        answer = await phone.ask(
            "",
            f"<pubsub xmlns='{wire.PUBSUB}'><publish node='{wire.BOOKMARKS}'><item id='{theirs}'>"
            f"<conference xmlns='{wire.BOOKMARKS}' autojoin='true'/></item></publish><publish-options>"
            f"<x xmlns='{wire.DATA}' type='submit'>{fields}</x></publish-options></pubsub>",
            "set",
        )
        assert answer.get("type") == "result"
        async with bridged(prosody, FakeHost(), account, told) as session:
            await until(lambda: any(isinstance(f, facts.Invitation) for f in told))
            await session.perform(Join(chat=mine))
            async with asyncio.timeout(60):
                while await bookmarks() != {mine, theirs}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await session.perform(Leave(chat=mine))
            async with asyncio.timeout(60):
                while await bookmarks() != {theirs}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    assert [f.chat for f in told if isinstance(f, facts.Invitation)] == [theirs]
    assert theirs not in session.watches


def test_a_copy_is_believed_of_the_own_server_alone():
    """XEP-0280, 11: "MUST ignore a carbon copy that does not come from its own bare JID" (CVE-2017-5589)."""

    class Session:
        jid = "ann@example.org/bridge"

    account = Account(Session(), Login(id=LoginId("l"), owner=PersonId("@ann:hs")))  # type: ignore[arg-type]
    copy = (
        "<message xmlns='jabber:client' from='{}' to='ann@example.org/bridge'><received xmlns='urn:xmpp:carbons:2'>"
        "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='bea@example.org/x'>"
        "<body>hi</body></message></forwarded></received></message>"
    )
    assert account.carbon(fromstring(copy.format("mallory@example.org/x"))) is None
    assert account.carbon(fromstring(copy.format("ann@example.org.evil"))) is None
    assert account.carbon(fromstring(copy.format("ann@example.org"))) is not None
