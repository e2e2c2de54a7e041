"""Policy lists (MSC2313): who is barred is heard nowhere, and a network's ban is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridgekit.contract.errors import LoginBanned
from bridgekit.contract.facts import Retraction, Roster
from bridgekit.contract.ids import LoginId, MessageId, PersonId
from bridgekit.contract.people import Member
from bridgekit.testing.homeserver import Human
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, World, by, ghost, has_fate, linked, membership, said, town_world, until

RULE = "m.policy.rule.user"


def ban(entity: str, reason: str = "spam") -> dict[str, Any]:
    return {"entity": entity, "recommendation": "m.ban", "reason": reason}


async def a_list(place: World, **more: str) -> tuple[Human, str]:
    """Carla's list, which the bridge's config names."""
    carla = place.homeserver.user("carla")
    room = await carla.create_room(preset="public_chat", room_alias_name="bans")
    place.more["moderation"] = {"policy_lists": ["#bans:hs.test"], **more}
    return carla, room


async def test_a_ghost_on_a_list_leaves_and_is_heard_in_no_room_until_the_rule_is_gone(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        carla, bans = await a_list(place)
        async with place.bridge():
            _, room = await linked(place)
            await until(lambda: BOT in place.homeserver.joined(bans))
            town.emit(says("Bob", "hello", id="b1"))
            await said(place, by(ghost("bob"), "hello"))
            rule = await carla.set_state(bans, RULE, ban("@_bk_town_b?b:*"), "rule:bob")
            left = await said(place, membership(ghost("bob"), "leave"))
            assert "policy list" in left.content["reason"]
            town.emit(Roster(chat=TALK, at=now(), members=(Member(person=person("Bob")),)))
            town.emit(says("Bob", "buy this"), says("Eve", "who?"))
            await said(place, by(ghost("eve"), "who?"))
            told = await said(place, by(BOT, "could not be shown here: A policy list"))
            assert (told.room_id, ghost("bob") in place.homeserver.joined(room)) == (room, False)
            town.emit(Retraction(chat=TALK, at=now(), sender=person("Bob"), target=MessageId("b1")))
            await until(lambda: not any(e.body == "hello" for e in place.homeserver.messages(room)))
            await carla.redact(bans, rule)
            await until(lambda: _heard(town, place, room, "I am better now"))
            assert not any(e.body == "buy this" for e in place.homeserver.messages(room))


def _heard(town: Town, place: World, room: str, words: str) -> bool:
    """Bob says it again and again until somebody hears it."""
    town.emit(says("Bob", words))
    return any(e.body == words for e in place.homeserver.messages(room))


async def test_a_matrix_user_on_a_list_may_not_use_the_bridge_and_their_account_is_offline_meanwhile(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        carla, bans = await a_list(place)
        async with place.bridge() as bridge:
            _, room = await linked(place)
            mallory = place.homeserver.user("mallory")
            await mallory.join(room)
            await mallory.send(room, "!bridge login town")
            login = LoginId("town/@mallory:hs.test")
            await until(lambda: login in town.sessions)
            await carla.set_state(bans, RULE, ban("@mallory:*"), "rule:mallory")
            await until(lambda: login not in town.sessions)
            event = await mallory.send(room, "buy this")
            fate = await said(place, has_fate(event))
            assert fate.content["status"] == "FAIL_PERMANENT"
            assert town.said() == []
            assert login in bridge.registry.logins  # nothing is forgotten
            await carla.set_state(bans, RULE, {}, "rule:mallory")
            await until(lambda: login in town.sessions)


async def test_an_admin_is_never_barred_and_a_ban_of_the_own_server_is_none_of_the_ghosts(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        carla, bans = await a_list(place)
        await carla.set_state(bans, "m.policy.rule.server", ban("hs.test"), "rule:server")
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await until(lambda: bool(bridge.policies))
            await alice.send(room, "hello")
            await town.until(lambda: town.said() == ["<alice> hello"])
            town.emit(says("Bob", "hello back"))
            await said(place, by(ghost("bob"), "hello back"))


async def test_a_list_that_bans_were_only_written_to_is_followed_from_when_the_config_says_so(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        carla, bans = await a_list(place)
        await carla.set_state(bans, RULE, ban("@_bk_town_bob:*"), "rule:bob")
        place.more["moderation"] = {"write_bans_to": "#bans:hs.test"}
        async with place.bridge() as bridge:
            await until(lambda: BOT in place.homeserver.joined(bans))
            assert not bridge.policies
            place.more["moderation"] = {"write_bans_to": "#bans:hs.test", "policy_lists": ["#bans:hs.test"]}
            bridge.reload(place.config())
            await until(lambda: bridge.policies.barred(PersonId(ghost("bob"))), 20)
            place.more["moderation"] = {"write_bans_to": "#bans:hs.test"}
            bridge.reload(place.config())
            assert not bridge.policies


async def test_a_users_ban_by_a_network_is_written_into_the_list(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        carla, bans = await a_list(place, write_bans_to="#bans:hs.test")
        async with place.bridge() as bridge:
            _, room = await linked(place)
            await until(lambda: BOT in place.homeserver.joined(bans))
            await carla.set_power(bans, BOT, 50)
            zoe = place.homeserver.user("zoe")
            await zoe.join(room)
            town.rejected[zoe.id] = "You are banned from this town: spam"  # type: ignore[index]
            town.rejection = LoginBanned
            await zoe.send(room, "!bridge login town")
            written = await said(place, lambda e: e.room_id == bans and e.type == RULE)
            assert written.sender == BOT
            assert written.content == {
                "entity": zoe.id,
                "recommendation": "m.ban",
                "reason": "Banned on Town: You are banned from this town: spam",
            }
            await until(lambda: bridge.policies.barred(zoe.id))  # type: ignore[arg-type]
