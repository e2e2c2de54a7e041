"""OMEMO on a real Prosody, with a client that nobody here wrote: stock slixmpp-omemo."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from xml.etree import ElementTree

import pytest
import slixmpp

if not os.environ.get("CI"):
    pytest.importorskip("slixmpp_omemo", reason="the extra omemo is not installed")

import omemo

from bridgekit.contract import facts
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.devices import Trust
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Login
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import EditMessage, Join, PostMessage, React
from bridgekit.testing.host import FakeHost
from connectors.xmpp.announce import FEATURES
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.omemo import MOST_DEVICES
from connectors.xmpp.reopening import NEVER
from connectors.xmpp.session import XmppSession
from connectors.xmpp.testing.omemo_person import OmemoPerson, omemo_person
from connectors.xmpp.testing.prosody import ROOMS, Prosody


class Own:
    """The bridge with an account, read: `login` is somebody's own, the relay's otherwise."""

    def __init__(self, session: XmppSession, host: FakeHost) -> None:
        self.session = session
        self.host = host
        self.told: list[Fact] = []

    def words(self) -> list[str]:
        return [f.content.text.body for f in self.told if isinstance(f, facts.Message)]

    def can(self, chat: str) -> Capabilities:
        return self.session.capabilities(ChatId(chat))

    async def say(self, chat: str, words: str, key: str = "") -> MessageId:
        sent = await self.session.perform(PostMessage(chat=ChatId(chat), content=said(words), key=key))
        assert sent is not None
        assert sent.id is not None
        return sent.id


def said(words: str) -> Content:
    return Content(text=plain(words))


async def until(holds: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def account(prosody: Prosody, name: str, host: FakeHost, *, own: bool = True) -> AsyncIterator[Own]:
    """The bridge on Prosody with this account, of Ann's own or as the relay."""
    jid, password = await prosody.register(name)
    relay = (jid, password) if not own else await prosody.register("relay-of-omemo")
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
        id=LoginId("ann"), owner=PersonId("@ann:hs.test"), fields={"jid": jid, "password": password}
    )
    async with XmppConnector().network(config, host).connect(login if own else None) as session:
        assert isinstance(session, XmppSession)
        one = Own(session, host)
        reader = asyncio.create_task(session.run(one.told.append))
        try:
            yield one
        finally:
            reader.cancel()
            await asyncio.wait([reader])


@asynccontextmanager
async def friend(prosody: Prosody, name: str) -> AsyncIterator[OmemoPerson]:
    jid, password = await prosody.register(name)
    async with omemo_person(jid, password, port=prosody.port, certificate=prosody.certificate) as one:
        yield one


async def test_two_people_talk_encrypted_both_ways(prosody: Prosody):
    """XEP-0384, 5: who has a device is encrypted to; the link then gives what an encrypted room gives."""
    async with friend(prosody, "bea-omemo") as bea, account(prosody, "ann-omemo", FakeHost()) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        opened = [f for f in ann.told if isinstance(f, facts.ChatOpened)]
        assert [(f.chat, f.private) for f in opened] == [(bea.jid, True)]
        await ann.say(bea.jid, "psst")
        assert (await bea.reads("psst")).sealed
        await bea.say(ann.session.me.id, "what is it?")
        await until(lambda: ann.words() == ["what is it?"])
        for i in range(3):
            await ann.say(bea.jid, f"again {i}")
            assert (await bea.reads(f"again {i}")).sealed


async def test_a_device_whose_keys_are_not_there_yet_is_given_a_moment(
    prosody: Prosody, monkeypatch: pytest.MonkeyPatch
):
    """XEP-0384, 5.3.1 and 5.3.2: a client tells of its device in one node and of its keys in another, one by one."""
    monkeypatch.setattr("connectors.xmpp.omemo.KEYS_PAUSES", (0.05, 0.05))
    async with friend(prosody, "bea-begins") as bea, account(prosody, "ann-begins", FakeHost()) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        library = ann.session.sealing._device._library
        encrypt, tried = library.encrypt, []

        async def too_early(people: frozenset[str], *more: object) -> object:
            tried.append(people)
            if len(tried) < 3:
                raise omemo.NoEligibleDevices(people, "their keys cannot be had")
            return await encrypt(people, *more)

        monkeypatch.setattr(library, "encrypt", too_early)
        await ann.say(bea.jid, "psst")
        assert (await bea.reads("psst")).sealed
        assert len(tried) == 3


async def test_two_lists_that_come_at_once_are_one_device_that_knows_both(prosody: Prosody):
    """Its library reads, waits and writes: side by side, the list of one namespace was written over the other's, and
    a device got what it said it could not read."""

    class SlowHost(FakeHost):
        async def get(self, key: str) -> bytes | None:
            found = await super().get(key)
            await asyncio.sleep(0)
            return found

    host = SlowHost()
    async with account(prosody, "ann-lists", host) as ann:
        await until(lambda: ann.session.sealing._device is not None and ann.session.sealing._ready.is_set())
        plugin = ann.session.sealing._device._plugin
        lists = (
            "<list xmlns='eu.siacs.conversations.axolotl'><device id='7'/></list>",
            "<devices xmlns='urn:xmpp:omemo:2'><device id='7'/></devices>",
        )
        news = [
            slixmpp.Message(
                plugin.xmpp,
                ElementTree.fromstring(
                    "<message xmlns='jabber:client' from='new@xmpp.test'>"
                    "<event xmlns='http://jabber.org/protocol/pubsub#event'>"
                    f"<items node='any'><item id='current'>{one}</item></items></event></message>"
                ),
            )
            for one in lists
        ]
        await asyncio.gather(*(plugin._on_device_list_update(one) for one in news))
        (kept,) = [json.loads(v) for k, v in host.kept.items() if k.endswith("/new@xmpp.test/7/namespaces")]
        assert sorted(kept) == ["eu.siacs.conversations.axolotl", "urn:xmpp:omemo:2"]


async def test_a_list_of_devices_without_end_is_cut(prosody: Prosody):
    """XEP-0384, 5.3.1: anybody may list as many as they like; each is asked for its keys before a word goes out."""
    host = FakeHost()
    async with friend(prosody, "bea-many") as bea, account(prosody, "ann-many", host) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        await bea.list_devices(range(1000, 3000))
        await ann.say(bea.jid, "psst")
        assert (await bea.reads("psst")).sealed
        listed = [key for key in host.kept if f"/{bea.jid}/" in key and key.endswith("/active")]
        assert MOST_DEVICES <= len(listed) <= 2 * MOST_DEVICES


async def test_a_reaction_becomes_words_where_only_bodies_are_encrypted(prosody: Prosody):
    """XEP-0384 before 0.4 encrypts the body alone: a reaction beside it could be read by the server."""
    async with friend(prosody, "bea-react") as bea, account(prosody, "ann-react", FakeHost()) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        assert React not in ann.can(bea.jid).verbs
        first = await ann.say(bea.jid, "teh words")
        await ann.session.perform(EditMessage(chat=ChatId(bea.jid), target=first, content=said("the words")))
        corrected = await bea.reads("the words")
        assert corrected.sealed
        assert corrected.xml.find("{urn:xmpp:message-correct:0}replace").get("id") == first


async def test_the_keys_live_on_in_the_sealed_store(prosody: Prosody):
    """A restart is the same device: nothing has to be trusted anew, and what came meanwhile is read."""
    host = FakeHost()
    async with friend(prosody, "bea-restart") as bea:
        async with account(prosody, "ann-restart", host) as ann:
            await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
            await ann.say(bea.jid, "before")
            await bea.reads("before")
            await bea.say(ann.session.me.id, "I am here")
            await until(lambda: "I am here" in ann.words())
            before = (await ann.session.devices(ChatId(bea.jid)))[0]
            me = ann.session.me.id
        await bea.say(me, "are you there?")
        async with account(prosody, "ann-restart", host) as ann:
            assert ann.can(bea.jid).protection is Protection.BRIDGE  # at once, before anybody was asked
            await until(lambda: ann.words() == ["are you there?"])
            assert (await ann.session.devices(ChatId(bea.jid)))[0] == before
            await ann.say(bea.jid, "after")
            assert (await bea.reads("after")).sealed


async def test_where_the_keys_are_not_at_hand_nothing_goes_out_in_clear(prosody: Prosody):
    """A server that has lost its PEP, say: what was encrypted until now waits for somebody to look after that."""
    host = FakeHost()
    async with friend(prosody, "bea-lost") as bea, account(prosody, "ann-lost", host) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        ann.session.sealing.missing = "The keys are away."
        with pytest.raises(SendRejected, match="The keys are away"):
            await ann.say(bea.jid, "not like this")
        assert not bea.seen.all


async def test_what_is_said_in_clear_in_an_encrypted_chat_is_marked(prosody: Prosody):
    async with friend(prosody, "bea-clear") as bea, account(prosody, "ann-clear", FakeHost()) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        bea.say_in_clear(ann.session.me.id, "oops")
        await until(lambda: ann.words() == ["(not encrypted) oops"])


async def test_trust_is_blind_until_somebody_is_verified(prosody: Prosody):
    """From then on a new device of theirs waits for somebody to compare it, and the sender reads that."""
    async with friend(prosody, "bea-trust") as bea, account(prosody, "ann-trust", FakeHost()) as ann:
        chat = ChatId(bea.jid)
        await until(lambda: ann.can(chat).protection is Protection.BRIDGE)
        await ann.say(chat, "hello")
        own, hers = await ann.session.devices(chat)
        assert own.own
        assert own.person == ann.session.me.id
        assert (hers.fingerprint, hers.trust) == (await bea.fingerprint(), Trust.BLIND)
        judged = await ann.session.judge(chat, hers.fingerprint.replace(" ", ""), Trust.VERIFIED)
        assert judged is not None
        assert judged.trust is Trust.VERIFIED
        async with friend(prosody, "bea-trust") as other:
            await until(lambda: other.jid == bea.jid)
            await ann.session.sealing.look(chat, None)
            with pytest.raises(SendRejected) as refused:
                await until_new(ann, chat, "only for you")
            assert await other.fingerprint() in refused.value.notice
            await ann.session.judge(chat, await other.fingerprint(), Trust.DISTRUSTED)
            await ann.say(chat, "only for the first")
            assert (await bea.reads("only for the first")).sealed
            assert await ann.session.judge(chat, "0" * 64, Trust.VERIFIED) is None


async def until_new(ann: Own, chat: ChatId, words: str) -> None:
    """Speak until the news of a new device has come."""
    async with asyncio.timeout(60):
        while True:
            await ann.say(chat, words)
            await asyncio.sleep(0.05)


async def test_a_message_without_a_key_for_us_is_a_notice_and_never_its_fallback(prosody: Prosody):
    """XEP-0384: the body of an encrypted message is for those who cannot read it."""
    async with (
        friend(prosody, "bea-nokey") as bea,
        friend(prosody, "cid-nokey") as cid,
        account(prosody, "ann-nokey", FakeHost()) as ann,
    ):
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        stanza = bea._xmpp.make_message(mto=cid.jid, mtype="chat")
        stanza["body"] = "for Cid alone"
        sealed, _ = await bea._xmpp["xep_0384"].encrypt_message(stanza, {slixmpp.JID(cid.jid)})
        sealed["to"] = ann.session.me.id
        sealed.send()
        await until(lambda: ann.words())
        (words,) = ann.words()
        assert "has no key" in words
        assert "OMEMO encrypted" not in words


async def test_a_message_that_cannot_be_opened_yet_is_a_notice_until_a_retry_opens_it(
    prosody: Prosody, monkeypatch: pytest.MonkeyPatch
):
    """Its sender's list of devices cannot be had when it comes: who sent it is known later, and what it says then."""
    monkeypatch.setattr("connectors.xmpp.reopening.TRIES", (0.05, 0.05, 0.05))
    async with friend(prosody, "bea-later") as bea, account(prosody, "ann-later", FakeHost()) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        tried = out_of_reach(ann, monkeypatch, times=3)
        await bea.say(ann.session.me.id, "what did I say?")
        await until(lambda: any(isinstance(f, facts.Edit) for f in ann.told))
        (notice,) = [f for f in ann.told if isinstance(f, facts.Message)]
        (opened,) = [f for f in ann.told if isinstance(f, facts.Edit)]
        assert (notice.content.kind, "it tries again" in notice.content.text.body) == (Kind.NOTICE, True)
        assert (opened.target, opened.content.text.body) == (notice.id, "what did I say?")
        assert opened.content.kind is Kind.TEXT
        assert len(tried) == 3
        await bea.say(ann.session.me.id, "and now?")
        await until(lambda: "and now?" in ann.words())


async def test_a_message_that_no_retry_opens_is_said_to_be_lost(
    prosody: Prosody, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("connectors.xmpp.reopening.TRIES", (0.05, 0.05))
    async with friend(prosody, "bea-never") as bea, account(prosody, "ann-never", FakeHost()) as ann:
        await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
        tried = out_of_reach(ann, monkeypatch, times=1000)
        await bea.say(ann.session.me.id, "what did I say?")
        await until(lambda: any(isinstance(f, facts.Edit) for f in ann.told))
        (lost,) = [f for f in ann.told if isinstance(f, facts.Edit)]
        assert (lost.content.kind, lost.content.text.body) == (Kind.NOTICE, NEVER)
        assert len(tried) == 3
        assert [type(f) for f in ann.told if isinstance(f, facts.Message | facts.Edit)] == [
            facts.Message,
            facts.Edit,
        ]


@pytest.mark.parametrize("opens", [True, False])
async def test_a_try_that_a_lost_connection_cut_short_is_made_on_the_next_one(
    prosody: Prosody, monkeypatch: pytest.MonkeyPatch, opens: bool
):
    """What was told of it is replaced, whether it opens then or never; and after that nothing is kept."""
    monkeypatch.setattr("connectors.xmpp.reopening.TRIES", (0.05, 600.0))
    host, name = FakeHost(), f"ann-cut-short-{opens}".lower()
    async with friend(prosody, f"bea-cut-short-{opens}".lower()) as bea:
        async with account(prosody, name, host) as ann:
            await until(lambda: ann.can(bea.jid).protection is Protection.BRIDGE)
            tried = out_of_reach(ann, monkeypatch, times=1000)
            await bea.say(ann.session.me.id, "what did I say?")
            await until(lambda: len(tried) == 2)
            (notice,) = [f for f in ann.told if isinstance(f, facts.Message)]
        kept = [key for key in host.kept if key.startswith("unopened/")]
        assert len(kept) == 1
        monkeypatch.undo()
        monkeypatch.setattr("connectors.xmpp.reopening.TRIES", (0.05, 0.05))
        async with account(prosody, name, host) as ann:
            out_of_reach(ann, monkeypatch, times=0 if opens else 1000)
            await until(lambda: ann.told and isinstance(ann.told[-1], facts.Edit))
            (edit,) = [f for f in ann.told if isinstance(f, facts.Edit)]
            assert (edit.chat, edit.sender.id, edit.target) == (notice.chat, notice.sender.id, notice.id)
            assert edit.content.text.body == ("what did I say?" if opens else NEVER)
            assert not [key for key in host.kept if key.startswith("unopened/")]
        assert not [f for f in ann.told if isinstance(f, facts.Message)]


async def test_what_an_archive_tells_is_tried_again_too(prosody: Prosody, monkeypatch: pytest.MonkeyPatch):
    """A room's gap, filled after a restart."""
    monkeypatch.setattr("connectors.xmpp.reopening.TRIES", (0.05, 0.05, 0.05))
    room, host = f"omemo-retry@{ROOMS}", FakeHost()
    relay, _ = await prosody.register("relay-retry-omemo")
    async with friend(prosody, "bea-gap") as bea:
        await bea.join(room)
        await bea.configure(room, membersonly="1", whois="anyone")
        await bea.let_in(room, relay)
        async with account(prosody, "relay-retry-omemo", host, own=False) as bridge:
            await bridge.session.perform(Join(chat=ChatId(room)))
            await until(lambda: bridge.can(room).protection is Protection.BRIDGE)
            await bea.say(room, "before", relay)
            await until(lambda: "before" in bridge.words())
        await bea.say(room, "in the gap", relay)
        async with account(prosody, "relay-retry-omemo", host, own=False) as bridge:
            tried = out_of_reach(bridge, monkeypatch, times=2)
            await bridge.session.perform(Join(chat=ChatId(room)))
            await until(lambda: any(isinstance(f, facts.Edit) for f in bridge.told))
            (notice,) = [f for f in bridge.told if isinstance(f, facts.Message)]
            (opened,) = [f for f in bridge.told if isinstance(f, facts.Edit)]
            assert (opened.target, opened.content.text.body) == (notice.id, "in the gap")
            assert len(tried) == 2


def out_of_reach(one: Own, monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[str]:
    """So many times the bridge has nobody's list of devices; who was asked about."""
    decrypt, tried = omemo.SessionManager.decrypt, list[str]()

    async def decrypted(manager: omemo.SessionManager, message: omemo.Message) -> object:
        if manager is one.session.sealing._device._manager and len(tried) < times:
            tried.append(message.bare_jid)
            raise omemo.SenderNotFound("no such device on their list")
        return await decrypt(manager, message)

    monkeypatch.setattr(omemo.SessionManager, "decrypt", decrypted)
    return tried


async def test_a_room_for_members_who_see_each_other_is_encrypted_to_all_of_them(prosody: Prosody):
    """XEP-0384, 6: members-only and non-anonymous, so that everybody knows whose devices to encrypt to."""
    room = f"omemo-room@{ROOMS}"
    relay, _ = await prosody.register("relay-room-omemo")
    async with friend(prosody, "bea-room") as bea, friend(prosody, "cid-room") as cid:
        await bea.join(room)
        await bea.configure(room, membersonly="1", whois="anyone")
        await bea.let_in(room, cid.jid)
        await bea.let_in(room, relay)
        await cid.join(room)
        async with account(prosody, "relay-room-omemo", FakeHost(), own=False) as bridge:
            await bridge.session.perform(Join(chat=ChatId(room)))
            await until(lambda: bridge.can(room).protection is Protection.BRIDGE)
            await bridge.say(room, "hello, members", key="k1")
            for one in (bea, cid):
                assert (await one.reads("hello, members")).sealed
            await bea.say(room, "hello, bridge", cid.jid, relay)
            await until(lambda: "hello, bridge" in bridge.words())
            # What is said to one of them alone is no word of the room's, and hides behind none (XEP-0045, 7.5).
            assert bridge.can(f"{room}/{bea.name}").protection is Protection.TRANSPORT
            bea.say_in_clear(room, "shouted", room=True)
            await until(lambda: "(not encrypted) shouted" in bridge.words())
            await bea.configure(room, membersonly="0", whois="moderators")
            await until(lambda: bridge.can(room).protection is Protection.TRANSPORT)


async def test_a_gateway_does_not_announce_omemo(prosody: Prosody):
    """A component has many addresses and could only pretend to be their end."""
    assert not any("omemo" in one or "axolotl" in one for one in FEATURES)
