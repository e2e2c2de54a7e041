"""Rooms that a bridge makes, enters and follows, on a real Synapse: what a fake homeserver may be too kind about."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridgekit.cli.registering import document
from bridgekit.config import Config
from bridgekit.contract.facts import RoleChange, Topic
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import File, Role
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import Kick, SetTopic, SetTyping, Unban
from bridgekit.matrix.fetch import fetch_remote
from bridgekit.matrix.registration import write
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.person import Person
from bridgekit.testing.servers.process import free_port
from bridgekit.testing.servers.synapse import Synapse
from tests.runtime.fake_network import TALK, Town, TownConfig, TownConnector, now, person, says
from tests.runtime.running import PNG, until, web_server

TOWN = NetworkId("town")
OPEN = Visibility(known=True, exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True)


class Place:
    """A Synapse, a bridge on it, and two of its people."""

    def __init__(self, bridge: Bridge, town: Town, alice: Person, carol: Person, prefix: str) -> None:
        self.bridge = bridge
        self.town = town
        self.alice = alice
        self.carol = carol
        self.prefix = prefix

    def ghost(self, name: str) -> str:
        return f"@{self.prefix}town_{name}:{self.alice.id.partition(':')[2]}"

    async def linked(self, **options: Any) -> str:
        """A room of Alice's that is linked to #talk."""
        options = {"preset": "public_chat", "invite": [self.bridge.bot], **options}
        room = await self.alice.create_room(**options)
        await self.alice.sees(room, lambda e: e.sender == self.bridge.bot and "I am a bridge" in e.body)
        levels = await self.alice.state(room, "m.room.power_levels")
        levels["users"][self.bridge.bot] = 100
        await self.alice.set_state(room, "m.room.power_levels", levels)
        await self.alice.say(room, "!bridge link town #talk")
        await self.alice.sees(room, lambda e: "now linked" in e.body)
        return room


@asynccontextmanager
async def at_home(synapse: Synapse, folder: Path, *, double_puppets: bool = False) -> AsyncIterator[Place]:
    mark, port, town = secrets.token_hex(4), free_port(), Town()
    prefix = f"_t{mark}_"
    accounts = [await synapse.register(f"{name}{mark}") for name in ("alice", "carol")]
    config = Config.model_validate(
        {
            "homeserver": {"url": synapse.base_url, "server_name": synapse.server_name},
            "appservice": {
                "listen": f"127.0.0.1:{port}",
                "id": f"rooms{mark}",
                "bot": f"bot{mark}",
                "prefix": prefix,
                "as_token": f"as{mark}",
                "hs_token": f"hs{mark}",
                "double_puppets": double_puppets,
            },
            "admin": {"listen": "127.0.0.1:0"},
            "store": {"url": f"sqlite:///{folder}/bridge.db", "key_file": str(folder / "bridge.key")},
            "permissions": {accounts[0].user_id: "admin", "*": "user"},
            "networks": {
                "town": {
                    "connector": "town",
                    "config": TownConfig(),
                    "name": "Town",
                    "space": True,
                    "consent": "off",
                    "direct": "anyone",
                }
            },
        }
    )
    write(document(config), folder / "registration.yaml")
    await synapse.add_appservice(folder / "registration.yaml")
    fetch = partial(fetch_remote, allow_private=True)
    async with (
        Bridge(config, {"town": TownConnector(town)}, fetch=fetch) as bridge,
        Person(synapse.base_url, accounts[0]) as alice,
        Person(synapse.base_url, accounts[1]) as carol,
    ):
        await until(lambda: None in town.sessions)
        yield Place(bridge, town, alice, carol, prefix)


async def test_a_room_and_a_chat_and_all_that_happens_in_them(synapse: Synapse, tmp_path: Path) -> None:
    async with web_server(tmp_path) as (url, _), at_home(synapse, tmp_path) as place:
        alice, carol, town = place.alice, place.carol, place.town
        room = await place.linked()
        bob = person("Bob", avatar=File(uri=f"{url}/face.png", name="face.png"))
        town.emit(says("Bob", "my cat", sender=bob, file=File(uri=f"{url}/cat.png", name="cat.png")))
        picture = await alice.sees(room, lambda e: e.kind == "m.image")
        assert (picture.sender, picture.body, picture.content["info"]["size"]) == (
            place.ghost("bob"),
            "my cat",
            len(PNG),
        )
        await alice.sees(room, lambda e: e.type == "m.room.member" and "avatar_url" in e.content)

        # The space holds the room, and Alice is asked into it.
        space, inviter = await alice.invitation()
        assert inviter == place.bridge.bot
        await alice.join(space)
        assert await alice.state(space, "m.space.child", room) == {"via": [synapse.server_name]}

        # Roles, topics, typing, moderation.
        town.emit(RoleChange(chat=TALK, at=now(), person=bob, role=Role.MODERATOR))
        levels = await alice.sees(room, lambda e: e.type == "m.room.power_levels")
        assert levels.content["users"][place.ghost("bob")] == 50
        town.emit(RoleChange(chat=TALK, at=now(), person=bob, role=Role.NONE))
        levels = await alice.sees(room, lambda e: e.type == "m.room.power_levels")
        assert place.ghost("bob") not in levels.content["users"]
        await alice.set_state(room, "m.room.topic", {"topic": "tea"})
        await town.until(lambda: [v.topic for v in town.done(SetTopic)] == ["tea"], 10)
        town.emit(Topic(chat=TALK, at=now(), topic="coffee", actor=bob))
        await alice.sees(room, lambda e: e.type == "m.room.topic" and e.content["topic"] == "coffee")
        await alice.set_typing(room)
        await town.until(lambda: town.done(SetTyping), 10)
        await alice.kick(room, place.ghost("bob"), "enough")
        await town.until(lambda: town.done(Kick), 10)
        await alice.ban(room, place.ghost("bob"), "for good")
        unban = {"user_id": place.ghost("bob")}
        await alice.call("POST", f"/rooms/{quote(room, safe='')}/unban", unban)
        await town.until(lambda: town.done(Unban), 10)
        town.emit(says("Bob", "back again"))
        await alice.reads(room, "back again")

        # History bears its own time.
        old = 1_600_000_000_000
        town.emit(says("Bob", "long ago", replayed=True, at=old))
        event = await alice.reads(room, "long ago")
        raw = await alice.call("GET", f"/rooms/{quote(room, safe='')}/event/{quote(event.id, safe='')}")
        assert raw["origin_server_ts"] == old

        # The room is replaced.
        new = (await alice.call("POST", f"/rooms/{quote(room, safe='')}/upgrade", {"new_version": "11"}))[
            "replacement_room"
        ]
        await until(lambda: place.bridge.registry.links_of(ChatId(new)), 20)
        town.emit(says("Bob", "in the new room"))
        await alice.reads(new, "in the new room")
        await carol.join(new)
        await carol.say(new, "me too")
        await town.until(lambda: f"<{carol.name}> me too" in town.said(), 10)


async def test_an_alias_a_direct_chat_and_ones_own_name(synapse: Synapse, tmp_path: Path) -> None:
    async with at_home(synapse, tmp_path, double_puppets=True) as place:
        alice, carol, town = place.alice, place.carol, place.town
        town.visible[ChatId("#open")] = OPEN
        alias = f"#{place.prefix}town_#open:{synapse.server_name}"
        rooms = await asyncio.gather(alice.join(alias), carol.join(alias))
        assert rooms[0] == rooms[1]
        town.emit(says("Bob", "welcome", chat="#open"))
        await carol.reads(rooms[0], "welcome")

        # A direct chat that Bob begins, and what Alice says in it from elsewhere.
        login = await place.bridge.accounts.open(TOWN, PersonId(alice.id))
        await until(lambda: login in town.sessions)
        for n in range(5):
            town.emit(says("Bob", f"direct {n}", chat="dm:bob", private=True), login=login)
        room, inviter = await alice.invitation()
        assert inviter == place.bridge.bot
        town.emit(own(place, login, "from my phone"), login=login)
        await alice.join(room)
        for n in range(5):
            await alice.reads(room, f"direct {n}")
        await alice.seen.take(
            lambda e: e.sender == alice.id and e.body == "from my phone", 20, "my own words"
        )
        await asyncio.sleep(0.5)
        assert town.said("dm:bob") == []

        # And one that Alice begins.
        room = await alice.create_room(
            is_direct=True, preset="trusted_private_chat", invite=[place.ghost("dora")]
        )
        await until(lambda: place.bridge.registry.links_of(ChatId(room)), 20)
        await alice.say(room, "hi Dora")
        await town.until(lambda: town.said("dm:dora") == ["hi Dora"], 10)

        # The alias leads into what is linked, and not into what was.
        await place.bridge.portals.unlink(PortalKey(TOWN, ChatId("#open")))
        assert await carol.join(alias) != rooms[0]


def own(place: Place, login: LoginId, words: str) -> Any:
    me = person(place.town.sessions[login].me.id)
    return says("", words, sender=me, own=login, chat="dm:bob", private=True)
