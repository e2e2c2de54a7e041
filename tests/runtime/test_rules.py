"""What the config says of a link holds for the chat that it names, whatever that chat calls itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract.connector import Network
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core.exposure import JoinRule
from bridgekit.runtime.rules import Rules
from bridgekit.store.rows import Link
from tests.runtime.fake_network import Town, TownConfig, TownConnector, TownNetwork
from tests.runtime.running import config

TOWN = NetworkId("town")


def rules(folder: Path, **of_link: object) -> Rules:
    """Those of a town in which one chat is linked by the config."""
    written = {"chat": "#Talk", "room": "!talk:hs.test", **of_link}
    section = {"connector": "town", "config": TownConfig(), "links": [written]}
    connector = TownConnector(Town())
    networks: dict[NetworkId, Network] = {TOWN: connector.network(TownConfig(), None)}  # type: ignore[arg-type]
    written_down = config(folder, "http://127.0.0.1:1", 0, {"town": section})
    found = Rules(written_down, networks)
    found.read(written_down)
    return found


def link(chat: str, name: str) -> Link:
    return Link(
        key=PortalKey(TOWN, ChatId(chat)),
        room=ChatId("!talk:hs.test"),
        name=name,
        reader=None,
        creator=PersonId("@alice:hs.test"),
        static=True,
        state="open",
        reason="",
        since=0,
    )


@pytest.mark.parametrize("name", ["#talk", "#TALK", "The talk of the town"])
def test_a_links_own_ceiling_and_shield_are_those_of_its_chat(tmp_path: Path, name: str) -> None:
    """An XMPP room has a name of its own beside its address, and so has a MIMI room."""
    found = rules(tmp_path, ceiling={"join": "invite", "media": False}, shield={"person": "3/10s"})
    own, shield = found.ceiling(link("#talk", name)), found.shield(link("#talk", name))
    assert (own.join, own.media) == (JoinRule.INVITE, False)
    assert shield is not None
    assert shield.person.count == 3


def test_a_chat_that_calls_itself_like_another_has_not_its_rules(tmp_path: Path) -> None:
    found = rules(tmp_path, ceiling={"join": "invite"}, shield={"person": "3/10s"})
    assert found.ceiling(link("#other", "#talk")).join is JoinRule.PUBLIC
    assert found.shield(link("#other", "#talk")) is None


def test_a_link_is_found_among_many_without_asking_what_each_of_them_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 2,000 links, that was four million questions at the start and at each reload."""
    found = rules(tmp_path, ceiling={"join": "invite"})
    monkeypatch.setattr(TownNetwork, "chat_id", lambda *_: pytest.fail("it was known already"))
    assert found.ceiling(link("#talk", "#talk")).join is JoinRule.INVITE
    assert found.shield(link("#other", "#other")) is None
