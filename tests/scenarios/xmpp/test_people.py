"""Who is there, who they are, what they may do, and people who talk alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from xml.etree.ElementTree import tostring
from xml.sax.saxutils import quoteattr

import pytest

from bridgekit.contract.ids import ChatId, NetworkId
from bridgekit.core.ghosts import Namespace
from connectors.xmpp.stanzas import cards, disco, wire
from connectors.xmpp.testing.person import Seen, codes
from connectors.xmpp.testing.prosody import COMPONENT
from tests.browsers.picture import png
from tests.scenarios.xmpp.lab import ACCOUNT, EJABBERD, XMPP, Lab, until
from tests.scenarios.xmpp.scene import Scene, scenery

on_prosody = pytest.mark.parametrize("network", [XMPP])
"""ejabberd 23 gives no occupant-ids, and lets visitors speak where a room is not moderated (XEP-0045, 5.1.1)."""


@pytest.fixture(params=[XMPP, EJABBERD])
def network(request: pytest.FixtureRequest) -> str:
    """Which server: each does it in its own way."""
    name: str = request.param
    return name


@pytest.fixture
async def scene(lab: Lab, network: str) -> AsyncIterator[Scene]:
    async with scenery(lab, network) as made:
        yield made


async def test_a_new_nick_is_a_new_name_of_the_same_ghost(scene: Scene):
    """XEP-0045, 7.6 and status 303; XEP-0421: the occupant-id stays."""
    scene.bob.say(scene.muc, "before")
    before = await scene.alice.reads(scene.room, "before")
    scene.bob.enter(scene.muc, "robert")
    await scene.bob.sees(lambda s: 303 in codes(s), "303")
    scene.bob.say(scene.muc, "after")
    after = await scene.alice.reads(scene.room, "after")
    assert after.sender == before.sender
    await until(lambda: scene.alice.names.get((scene.room, before.sender)) == "robert (XMPP)")
    assert not any(
        e.type == "m.room.member" and e.sender == before.sender and e.content["membership"] == "leave"
        for e in scene.alice.seen.all
    )


@on_prosody
async def test_somebody_who_comes_back_is_the_same_person_and_another_under_the_nick_is_not(scene: Scene):
    """XEP-0421, 3: a nick can be anybody's tomorrow, an occupant-id cannot."""
    scene.bob.say(scene.muc, "it is me")
    bob = (await scene.alice.reads(scene.room, "it is me")).sender
    scene.bob.leave(scene.muc)
    await scene.alice.sees(
        scene.room,
        lambda e: e.type == "m.room.member" and e.sender == bob and e.content["membership"] == "leave",
    )
    async with scene.lab.xmpp("mallory") as mallory:
        await mallory.join(scene.muc, scene.bob.name)
        mallory.say(scene.muc, "it is me, really")
        assert (await scene.alice.reads(scene.room, "it is me, really")).sender != bob
        mallory.leave(scene.muc, scene.bob.name)
    await scene.bob.join(scene.muc)
    scene.bob.say(scene.muc, "no, me")
    assert (await scene.alice.reads(scene.room, "no, me")).sender == bob


async def test_who_has_another_name_and_a_picture_on_matrix_has_them_on_xmpp(scene: Scene):
    """XEP-0045, 7.6: 303 is a new nick of the same occupant; XEP-0153, 3.1: the SHA-1 of the picture in a presence."""
    alice, bob = scene.alice, scene.bob
    await alice.say(scene.room, "it is me")
    await bob.reads("it is me", nick=alice.name)
    await alice.set_name("Alicia")
    await bob.sees(lambda s: s.nick == alice.name and 303 in codes(s), "303")
    await alice.set_picture(png(96, 96), "image/png")
    told = await bob.sees(lambda s: s.kind == "presence" and cards.announced(s.xml), "her picture")
    assert told.nick == "Alicia"
    name, picture = cards.read_card(await bob.ask(f"{scene.muc}/Alicia", "<vCard xmlns='vcard-temp'/>"))
    assert picture is not None
    assert (name, picture.digest) == ("Alicia", cards.announced(told.xml))
    await alice.say(scene.room, "still me")
    await bob.reads("still me", nick="Alicia")


async def test_kicks_and_bans_are_told_with_who_and_why(scene: Scene):
    """XEP-0045, 8.2 (status 307) and 9.1 (status 301)."""
    async with scene.another("eve") as eve:
        for words, item in (
            ("kicked", f"<item nick='{eve.name}' role='none'><reason>spam</reason></item>"),
            ("banned", f"<item jid='{eve.jid}' affiliation='outcast'><reason>more spam</reason></item>"),
        ):
            eve.say(scene.muc, f"soon {words}")
            ghost = (await scene.alice.reads(scene.room, f"soon {words}")).sender
            await scene.bob.administer(scene.muc, item)
            gone = await scene.alice.sees(
                scene.room,
                lambda e, ghost=ghost: (  # type: ignore[misc]
                    e.type == "m.room.member"
                    and e.state_key == ghost
                    and e.content["membership"] in ("leave", "ban")
                ),
            )
            reason = gone.content.get("reason", "")
            assert words in reason
            assert "spam" in reason
            if words == "kicked":
                await eve.join(scene.muc)


async def test_a_kick_on_matrix_is_a_kick_on_xmpp_where_the_bridge_may(scene: Scene):
    bridge = "<item nick='bridge' role='moderator'/>"
    await scene.bob.administer(scene.muc, bridge)
    async with scene.another("eve") as eve:
        eve.say(scene.muc, "put me out")
        ghost = (await scene.alice.reads(scene.room, "put me out")).sender
        await scene.alice.kick(scene.room, ghost, "as you wish")
        gone = await eve.sees(lambda s: 307 in codes(s), "307")
        assert gone.type == "unavailable"


async def test_owners_and_moderators_have_their_power_on_matrix(scene: Scene):
    """owner 100, admin 75, moderator 50."""
    async with scene.another("mod") as mod:
        mod.say(scene.muc, "hello")
        ghost = (await scene.alice.reads(scene.room, "hello")).sender
        await scene.bob.administer(scene.muc, f"<item nick='{mod.name}' role='moderator'/>")
        await scene.alice.sees(
            scene.room,
            lambda e: e.type == "m.room.power_levels" and e.content["users"].get(ghost) == 50,
            what="the level 50",
        )


@on_prosody
async def test_who_is_muted_on_one_side_is_muted_on_the_other_and_speaks_again(scene: Scene):
    """XEP-0045, 8.3 and 8.4: a visitor has no voice. The room is not moderated."""

    def is_a(role: str):
        def holds(seen: Seen) -> bool:
            muc = seen.has(wire.MUC_USER, "x") if seen.kind == "presence" and seen.nick == eve.name else None
            item = wire.find(muc, wire.MUC_USER, "item")
            return item is not None and item.get("role") == role

        return holds

    async def level(wanted: int | None) -> None:
        await scene.alice.sees(
            scene.room,
            lambda e: e.type == "m.room.power_levels" and e.content["users"].get(ghost) == wanted,
            what=f"the level {wanted}",
        )

    await scene.bob.administer(scene.muc, "<item nick='bridge' role='moderator'/>")
    async with scene.another("eve") as eve:
        eve.say(scene.muc, "hello")
        ghost = (await scene.alice.reads(scene.room, "hello")).sender
        levels = await scene.alice.state(scene.room, "m.room.power_levels")
        muted = {**levels, "users": {**levels["users"], ghost: -1}}
        await scene.alice.set_state(scene.room, "m.room.power_levels", muted)
        await eve.sees(is_a("visitor"), "being muted")
        eve.say(scene.muc, "unheard")
        await eve.sees(lambda s: s.type == "error", "the refusal")
        await scene.alice.set_state(scene.room, "m.room.power_levels", levels)
        await eve.sees(is_a("participant"), "a voice")
        eve.say(scene.muc, "heard again")
        await scene.alice.reads(scene.room, "heard again")

        await scene.bob.administer(scene.muc, f"<item nick='{eve.name}' role='visitor'/>")
        await level(-1)
        await scene.bob.administer(scene.muc, f"<item nick='{eve.name}' role='participant'/>")
        await level(None)
        eve.say(scene.muc, "and again")
        await scene.alice.reads(scene.room, "and again")
    assert scene.bob.said("unheard") == 0


async def test_the_subject_is_the_topic_both_ways(scene: Scene):
    """XEP-0045, 8.1."""
    scene.bob.say(scene.muc, "", "<subject>from XMPP</subject>")
    topic = await scene.alice.sees(scene.room, lambda e: e.type == "m.room.topic")
    assert topic.content["topic"] == "from XMPP"
    await scene.bob.configure(scene.muc, changesubject="1")
    await scene.alice.set_state(scene.room, "m.room.topic", {"topic": "from Matrix"})
    changed = await scene.bob.sees(lambda s: s.subject == "from Matrix", "the subject")
    assert changed.type == "groupchat"


async def test_a_room_is_called_as_its_chat_is_and_a_chat_as_its_room(scene: Scene):
    """XEP-0045, 10.2 and 10.2.1: owners change the name, and the room says so with status 104."""
    bob, alice, lab = scene.bob, scene.alice, scene.lab
    den = lab.room_name("den")
    await bob.join(den)
    await bob.configure(den, roomname="The Den")
    alias = Namespace("_bk_", lab.synapse.server_name).alias(NetworkId(scene.network), ChatId(den))
    room = await alice.join(alias)
    assert (await alice.state(room, "m.room.name"))["name"] == "The Den (XMPP)"
    await bob.configure(den, roomname="The Lair")
    renamed = await alice.sees(
        room, lambda e: e.type == "m.room.name" and "Lair" in e.content["name"], what="the name"
    )
    assert renamed.content["name"] == "The Lair (XMPP)"

    bridge = f"bridge@{COMPONENT}"
    await bob.administer(scene.muc, f"<item jid='{bridge}' affiliation='owner'/>")
    await bob.sees(
        lambda s: s.nick == "bridge" and 'affiliation="owner"' in tostring(s.xml, "unicode"),
        "the bridge as an owner",
    )
    await alice.set_state(scene.room, "m.room.name", {"name": "Our Den"})
    await bob.sees(lambda s: s.sender == scene.muc and 104 in codes(s), "104")
    about = await bob.ask(scene.muc, f"<query xmlns='{wire.DISCO_INFO}'/>", "get")
    assert disco.read(about).name == "Our Den"


async def test_two_people_talk_alone(lab: Lab, network: str):
    """RFC 6121, 5: a chat message between two addresses; ours is under the sub-domain."""
    async with lab.matrix("alice") as alice, lab.xmpp("bob", network=network) as bob:
        room = await alice.create_room(is_direct=True, invite=[lab.bot], preset="trusted_private_chat")
        await lab.answer(alice, room)
        await lab.command(alice, room, f"login {network}")
        answer = await lab.command(alice, room, f"chat {network} {bob.jid}")
        assert "You are invited" in answer, answer
        direct, _ = await alice.invitation()
        await alice.join(direct)
        await alice.say(direct, "just us two")
        heard = await bob.reads("just us two")
        assert (heard.type, heard.sender.partition("/")[0]) == ("chat", lab.address(alice))
        bob.say(lab.address(alice), "indeed", "<request xmlns='urn:xmpp:receipts'/>", room=False)
        assert (await alice.reads(direct, "indeed")).sender == lab.bridge.ghost(network, bob.jid)
        receipt = await bob.sees(lambda s: s.has(wire.RECEIPTS, "received"), "a receipt (XEP-0184)")
        assert receipt.sender.partition("/")[0] == lab.address(alice)
        event = await alice.say(direct, "typo here")
        first = await bob.reads("typo here")
        await lab.fate(alice, direct, event)
        await alice.edit(direct, event, "no typo here")
        replace = (await bob.reads("no typo here")).has(wire.CORRECT, "replace")
        assert replace is not None
        assert replace.get("id") == first.id


async def test_who_asks_to_be_a_contact_waits_for_the_answer(lab: Lab, network: str):
    """RFC 6121, 3.1.3: a request "MUST NOT" be answered "subscribed" without the approval of the contact."""
    async with (
        lab.matrix("alice") as alice,
        lab.xmpp("bob", network=network) as bob,
        lab.xmpp("eve", network=network) as eve,
    ):
        room = await alice.create_room(is_direct=True, invite=[lab.bot], preset="trusted_private_chat")
        await lab.answer(alice, room)
        await lab.command(alice, room, f"login {network}")
        address = lab.address(alice)
        asked = []
        for one in (bob, eve):
            await one.ask(
                one.jid, "<query xmlns='jabber:iq:roster'/>"
            )  # who has not asked is told nothing (2.1.6)
            one.send(f"<presence type='subscribe' to={quoteattr(address)}/>")
            asked.append((await alice.invitation())[0])
        assert not any(s.type in ("subscribed", "unsubscribed") for s in bob.seen.all + eve.seen.all)
        await alice.join(asked[0])
        await bob.sees(lambda s: s.type == "subscribed" and s.sender == address, "subscribed")
        await bob.sees(lambda s: s.type == "" and s.sender.startswith(f"{address}/"), "her presence")
        eve.send(f"<presence type='unsubscribe' to={quoteattr(address)}/>")  # 3.3: she asks no more
        await alice.sees(
            room, lambda e: "has taken back asking to talk with you" in e.body, what="that eve did"
        )
        eve.send(f"<presence type='subscribe' to={quoteattr(address)}/>")
        await alice.leave((await alice.invitation())[0])
        await eve.sees(lambda s: s.type == "unsubscribed" and s.sender == address, "unsubscribed")
        assert not any(s.type == "subscribed" for s in eve.seen.all)


async def test_an_account_of_ones_own_speaks_in_its_own_name(lab: Lab):
    """mode: client with a login: JID and password from the management room; TLS and SCRAM by slixmpp."""
    jid, password = await lab.account("alicesown")
    async with scenery(lab, ACCOUNT) as scene:
        alice = scene.alice
        room = await alice.create_room(is_direct=True, invite=[lab.bot], preset="trusted_private_chat")
        await lab.answer(alice, room)
        await lab.command(alice, room, f"login {ACCOUNT} jid={jid} password={password}")
        await alice.say(scene.room, "in my own name")
        heard = await scene.bob.reads("in my own name")
        assert heard.nick == jid.partition("@")[0]
        scene.bob.say(scene.muc, "I see you")
        await alice.reads(scene.room, "I see you")
        assert sum("in my own name" in e.body for e in alice.seen.all) == 1


async def test_an_account_relays_with_names_where_there_is_no_component(lab: Lab):
    """mode: client, on any server, without its admin."""
    async with scenery(lab, ACCOUNT) as scene:
        await scene.alice.say(scene.room, "two\nlines")
        await scene.bob.reads(f"<{scene.alice.name}> two\n<{scene.alice.name}> lines", nick="thebridge")
        scene.bob.say(scene.muc, "I see")
        await scene.alice.reads(scene.room, "I see")


async def test_a_public_past_comes_with_the_link_and_a_hidden_one_does_not(lab: Lab, network: str):
    """XEP-0313: the last messages; XEP-0045, 6.4: a hidden room does not show itself to whoever comes."""
    async with lab.matrix("alice") as alice, lab.xmpp("bob", network=network) as bob:
        for hidden in (False, True):
            muc = lab.room_name("past")
            await bob.join(muc)
            if hidden:
                await bob.configure(muc, publicroom="0")
            for i in range(3):
                bob.say(muc, f"past {i} {hidden}")
            await bob.reads(f"past 2 {hidden}")
            room = await lab.linked(alice, muc, network)
            bob.say(muc, f"present {hidden}")
            await alice.reads(room, f"present {hidden}")
            if not hidden:
                await alice.reads(room, "past 2 False")
            said = [e for e in alice.seen.all if e.room == room and e.body.startswith("past")]
            assert [e.body for e in said] == ([] if hidden else [f"past {i} False" for i in range(3)])


async def test_a_room_that_is_not_there_is_refused_with_a_reason(lab: Lab, network: str):
    async with lab.matrix("alice") as alice:
        room = await lab.room(alice)
        answer = await lab.command(alice, room, f"link {network} {lab.room_name('nowhere')}")
        assert "There is no room" in answer


async def test_a_room_for_members_only_is_refused_with_a_reason(lab: Lab, network: str):
    """XEP-0045, 7.2.6: registration-required."""
    muc = lab.room_name("closed")
    async with lab.matrix("alice") as alice, lab.xmpp("bob", muc, network=network) as bob:
        await bob.configure(muc, membersonly="1")
        room = await lab.room(alice)
        answer = await lab.command(alice, room, f"link {network} {muc}")
        assert "members only" in answer
