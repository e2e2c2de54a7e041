"""Who asks to be a contact (RFC 6121, 3.1): addresses cost nothing, and asking again is no news."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.testing.host import FakeHost
from connectors.xmpp.contacts import MOST_ASKING, Bond, Contacts
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.wire import make

ANN = "ann@matrix.test"


def contacts() -> tuple[Contacts, Any, list[Fact]]:
    told = list[Fact]()
    guest = SimpleNamespace(tell=told.append, jid=f"{ANN}/bridge")
    network: Any = SimpleNamespace(host=FakeHost(), is_component=True, guest=lambda ours: guest)
    stream = SimpleNamespace(send=lambda stanza: None)
    return (
        Contacts(network),
        SimpleNamespace(jid="bridge@matrix.test/bridge", login=None, stream=stream),
        told,
    )


async def ask(found: Contacts, session: Any, who: str, kind: str = "subscribe") -> None:
    await found._asked(session, make("presence", wire.CLIENT, from_=who, to=ANN, type=kind))


def waiting(told: list[Fact]) -> list[str]:
    """Who has asked and not taken it back, as far as it was told."""
    asking = dict[str, bool]()
    for fact in told:
        assert isinstance(fact, facts.Invitation)
        asking[fact.chat] = not fact.withdrawn
    return [who for who, asks in asking.items() if asks]


async def test_who_asks_twice_is_told_of_once():
    """RFC 6121, 3.1.3: a server repeats the request until it is answered."""
    found, session, told = contacts()
    for _ in range(3):
        await ask(found, session, "bob@x.test")
    assert [f.chat for f in told if isinstance(f, facts.Invitation)] == ["bob@x.test"]
    await found.answer(session, ANN, "bob@x.test", False)
    await ask(found, session, "bob@x.test")
    assert len(told) == 2  # refused, and asks again


async def test_made_up_addresses_leave_room_for_friends():
    found, session, _ = contacts()
    await ask(found, session, "friend@x.test")
    await found.answer(session, ANN, "friend@x.test", True)
    for i in range(MOST_ASKING + 20):
        await ask(found, session, f"nobody{i}@x.test")
    known = await found.of(ANN)
    assert known["friend@x.test"] is Bond.FRIEND
    assert len(known) == MOST_ASKING + 1
    assert f"nobody{MOST_ASKING + 19}@x.test" in known


async def test_who_takes_the_request_back_asks_no_more():
    """RFC 6121, 3.3: unsubscribe. Of a friend it ends what was agreed, and there is nothing to take back."""
    found, session, told = contacts()
    await ask(found, session, "bob@x.test")
    assert waiting(told) == ["bob@x.test"]
    for _ in range(2):
        await ask(found, session, "bob@x.test", "unsubscribe")
    assert waiting(told) == []
    assert len(told) == 2
    await ask(found, session, "bob@x.test")
    await found.answer(session, ANN, "bob@x.test", True)
    await ask(found, session, "bob@x.test", "unsubscribe")
    assert len(told) == 3


async def test_who_gives_way_to_others_that_ask_is_asked_about_no_more():
    """Nobody would hear of an answer to them."""
    found, session, told = contacts()
    for i in range(MOST_ASKING + 2):
        await ask(found, session, f"nobody{i}@x.test")
    assert (
        waiting(told) == list(await found.of(ANN)) == [f"nobody{i}@x.test" for i in range(2, MOST_ASKING + 2)]
    )
