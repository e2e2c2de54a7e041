"""Who may read a room is held to what its chats allow: at once, after a restart, and whoever changes it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog.testing

from bridgekit.contract.facts import ChatClosed, ChatOpened
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import File
from bridgekit.contract.policy import Exposure, Visibility
from bridgekit.runtime.gates import exposure, looking
from bridgekit.testing.homeserver import Delay, Fail
from tests.runtime.fake_network import EVERYBODYS, TALK, Town, TownConfig, TownConnector, now, says
from tests.runtime.gates.talking import (
    GUESTS,
    HISTORY,
    JOINS,
    SECRET,
    SIDE,
    history,
    joins,
    lines,
    notices,
    says_of_itself,
    talking,
)
from tests.runtime.running import BOT, by, emptied, ghost, invited, linked, said, town_world, until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgekit.core.steady.CALM", 300)
    monkeypatch.setattr("bridgekit.runtime.gates.visibilities.TOLD_SECONDS", 0.3)
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.TRY_AGAIN", 0.2)


async def test_what_a_mode_takes_away_is_taken_away_in_the_room_before_another_word_is_shown(
    tmp_path: Path,
) -> None:
    town = Town()
    async with talking(tmp_path, town) as (place, _, _, room):
        assert (history(place, room), joins(place, room)) == ("shared", "public")
        town.emit(says("Bob", "open"))
        await said(place, by(ghost("bob"), "open"))
        town.emit(says_of_itself(SECRET), says("Bob", "secret"))
        await said(place, by(ghost("bob"), "secret"))
        stream = [
            e for e in place.homeserver.timeline(room) if e.body in ("open", "secret") or e.type == HISTORY
        ]
        assert [e.body or e.content["history_visibility"] for e in stream][-3:] == [
            "open",
            "joined",
            "secret",
        ]
        assert joins(place, room) == "invite"
        told = await said(place, by(BOT, "has changed who may read it (+s)"))
        assert "now only its members can read it" in told.body
        await town.until(lambda: any("has changed who may read" in w for w in notices(town)))


async def test_what_a_mode_gives_back_is_given_back_when_it_has_been_calm(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town) as (place, _, _, room):
        for seen in (SECRET, EVERYBODYS):
            town.emit(says_of_itself(seen))
        await until(lambda: history(place, room) == "joined")
        await until(lambda: (history(place, room), joins(place, room)) == ("shared", "public"))


async def test_a_room_is_not_opened_for_what_its_people_wanted_under_an_earlier_link(tmp_path: Path) -> None:
    """Between the two links, how it was left is how they have it."""
    town = Town()
    async with talking(tmp_path, town) as (place, bridge, alice, room):
        town.emit(says_of_itself(SECRET))
        await until(lambda: (history(place, room), joins(place, room)) == ("joined", "invite"))
        await alice.send(room, "!bridge unlink town #talk")
        await said(place, by(BOT, "no longer linked"))
        await alice.send(room, "!bridge link town #talk")
        await until(lambda: SIDE in bridge.parts.exposures.cleared)
        town.emit(says_of_itself(EVERYBODYS))
        await until(
            lambda: (seen := bridge.parts.exposures.visibilities.of(SIDE)) is not None and seen.listed
        )
        await bridge.parts.exposures.weighed(ChatId(room))
        assert (history(place, room), joins(place, room)) == ("joined", "invite")


@pytest.mark.parametrize("last", [EVERYBODYS, SECRET], ids=["ends open", "ends secret"])
async def test_ten_thousand_flips_of_a_mode_are_one_lowering_and_one_raising_and_a_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: Visibility
) -> None:
    """The line is for both sides, and in the log, once."""
    monkeypatch.setattr("bridgekit.core.steady.CALM", 3000)  # a machine that stands still is not calm
    town = Town()
    with structlog.testing.capture_logs() as logs:
        async with talking(tmp_path, town) as (place, _, _, room):
            before = len(place.homeserver.timeline(room))
            for _ in range(5000):
                town.emit(says_of_itself(SECRET), says_of_itself(EVERYBODYS))
            times = 10_000
            if last is SECRET:
                town.emit(says_of_itself(SECRET))
                times += 1
            town.emit(says("Bob", "still here"))
            await said(place, by(ghost("bob"), "still here"))
            clear = f"was changed {times} times in a short while"
            await said(place, by(BOT, clear))
            await until(lambda: history(place, room) == ("shared" if last is EVERYBODYS else "joined"))
            await town.until(lambda: any(clear in words for words in notices(town)))
            await asyncio.sleep(0.5)
            changes = [e for e in place.homeserver.timeline(room)[before:] if e.type == HISTORY]
            assert len(changes) <= 2
            told = [e.body for e in place.homeserver.timeline(room) if e.sender == BOT and clear in e.body]
            assert len(told) == 1
            assert len([words for words in notices(town) if clear in words]) == 1
            assert len([words for words in notices(town) if "has changed who may read" in words]) <= 2
    assert [line for line in logs if line["event"] == "visibility_flipped"] == [
        {"event": "visibility_flipped", "log_level": "warning", "network": "town", "times": times}
    ]


async def test_one_change_and_back_is_told_as_what_it_is(tmp_path: Path) -> None:
    town = Town()
    with structlog.testing.capture_logs() as logs:
        async with talking(tmp_path, town) as (place, _, _, room):
            town.emit(says_of_itself(SECRET))
            await until(lambda: history(place, room) == "joined")
            town.emit(says_of_itself(EVERYBODYS))
            await until(lambda: history(place, room) == "shared")
            await asyncio.sleep(0.5)
            assert not [e for e in place.homeserver.timeline(room) if "in a short while" in e.body]
    assert "visibility_flipped" not in [line["event"] for line in logs]


async def test_a_room_that_somebody_opens_too_far_is_closed_again_and_they_are_told(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town) as (place, _, alice, room):
        await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
        told = await said(place, by(BOT, "more open than its chats allow"))
        assert "@alice:hs.test" in told.body
        assert history(place, room) == "shared"
        town.emit(says("Bob", "in private again"))
        await said(place, by(ghost("bob"), "in private again"))


async def test_who_opens_a_room_again_while_it_is_put_back_is_told_of_it_once(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town) as (place, _, alice, room):
        slow = place.homeserver.fault(f"GET */rooms/{room}/state/{HISTORY}", Delay(seconds=0.7))
        for _ in range(2):
            await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
            await until(lambda: history(place, room) == "shared")
        place.homeserver.heal(slow)
        told = await said(place, by(BOT, "more open than its chats allow"))
        assert told.body.count("history_visibility is shared") == 1


async def test_what_is_under_way_when_somebody_opens_the_room_waits_until_it_is_closed_again(
    tmp_path: Path,
) -> None:
    """The homeserver is slow to close the room; meanwhile nothing is shown, and then everything, in order."""
    town = Town()
    async with talking(tmp_path, town) as (place, bridge, alice, room):
        town.emit(says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        place.homeserver.faults.add(f"PUT */state/{HISTORY}*", Delay(seconds=0.5))
        await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
        await until(lambda: SIDE not in bridge.parts.exposures.cleared)
        town.emit(*(says("Bob", f"line {n}") for n in range(5)))
        await said(place, by(ghost("bob"), "line 4"))
        seen = place.homeserver.timeline(room)
        closed = max(n for n, e in enumerate(seen) if e.type == HISTORY)
        words = [n for n, e in enumerate(seen) if e.sender == ghost("bob") and e.body.startswith("line")]
        assert min(words) > closed
        assert lines(place, room) == ["before", *(f"line {n}" for n in range(5))]


async def test_a_room_that_cannot_be_looked_at_is_named_in_the_log_once(tmp_path: Path) -> None:
    """It is tried every few seconds, perhaps for years: an admin has to learn which it is, and not each time."""
    town = Town()
    async with talking(tmp_path, town) as (place, bridge, _alice, room):
        rule = place.homeserver.faults.add(f"GET */rooms/{room}/state/{HISTORY}*", Fail(status=403))
        with structlog.testing.capture_logs() as logs:
            bridge.parts.exposures.weigh(ChatId(room))
            await until(lambda: rule.hits > 2)
        named = [entry["room"] for entry in logs if entry["event"] == "room_not_compared"]
        assert named == [room]


async def test_what_was_said_before_the_bridge_knew_is_taken_back_and_the_room_is_told(
    tmp_path: Path,
) -> None:
    """The news comes late: what was sent meanwhile could be read by everybody, so it is redacted."""
    town = Town()
    async with talking(tmp_path, town) as (place, bridge, alice, room):
        town.emit(says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        await until(lambda: SIDE in bridge.parts.exposures.cleared and not bridge.parts.exposures._weighing)
        place.homeserver.withhold()
        await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
        await until(lambda: place.homeserver.withheld)
        town.emit(says("Bob", "meanwhile"))
        await said(place, by(ghost("bob"), "meanwhile"))
        await place.homeserver.release()
        told = await said(place, by(BOT, "taken back"))
        assert told.body.startswith("⚠ 1 message that came in while this room was more open")
        town.emit(says("Bob", "after"))
        await said(place, by(ghost("bob"), "after"))
        assert [body for body in lines(place, room) if body] == ["before", "after"]
        assert await bridge.store.kv.get("bridge.exposed", room) is None


async def test_words_are_taken_back_where_the_bridge_cannot_close_the_room_too(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):
        await until(lambda: SIDE in bridge.parts.exposures.cleared and not bridge.parts.exposures._weighing)
        place.homeserver.withhold()
        await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
        await until(lambda: place.homeserver.withheld)
        town.emit(says("Bob", "meanwhile"))
        await said(place, by(ghost("bob"), "meanwhile"))
        await place.homeserver.release()
        await said(place, by(BOT, "taken back"))
        town.emit(says("Bob", "after"))
        await until(lambda: bridge.parts.holding.count(SIDE) == 1)
        assert [body for body in lines(place, room) if body] == []
        await alice.set_state(room, HISTORY, {"history_visibility": "shared"})
        await said(place, by(ghost("bob"), "after"))


async def test_what_the_rooms_people_want_more_secret_stays_so(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.set_state(room, HISTORY, {"history_visibility": "joined"})
            await place.homeserver.settled()
            await emptied(bridge)
            town.emit(says_of_itself(SECRET))
            await until(lambda: joins(place, room) == "invite")
            town.emit(says_of_itself(EVERYBODYS))
            await until(lambda: joins(place, room) == "public")
            assert history(place, room) == "joined"
            await asyncio.sleep(0.2)
        await alice.set_state(room, JOINS, {"join_rule": "invite"})  # while the bridge is away
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
            assert (history(place, room), joins(place, room)) == ("joined", "invite")


async def test_a_restart_compares_the_room_anew_before_anything_passes(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
        town.visibility = SECRET
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(says("Bob", "psst"))
            heard = await said(place, by(ghost("bob"), "psst"))
            assert history(place, room) == "joined"
            order = [e.event_id for e in place.homeserver.timeline(room) if e.type == HISTORY or e == heard]
            assert order[-1] == heard.event_id


async def test_a_room_that_is_opened_while_its_chat_is_unheard_is_put_back_at_once_and_opened_when_it_may(
    tmp_path: Path,
) -> None:
    """What its people want is not forgotten: the chat allows it, as soon as it is heard."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.set_state(room, HISTORY, {"history_visibility": "joined"})
            await until(lambda: bridge.parts.exposures.wishes.shown(ChatId(room)) is Exposure.JOINED)
        town.up = False
        async with place.bridge() as bridge:
            for _ in range(2):
                await alice.set_state(room, HISTORY, {"history_visibility": "shared"})
                await until(lambda: history(place, room) == "joined")
            told = await said(place, by(BOT, "Town has not been heard"))
            assert "#talk" in told.body
            assert "history_visibility is joined" in told.body
            assert len([e for e in place.homeserver.timeline(room) if "has not been heard" in e.body]) == 1
            assert SIDE not in bridge.parts.exposures.cleared
            town.mend()
            await until(lambda: history(place, room) == "shared")
            await until(lambda: SIDE in bridge.parts.exposures.cleared)


async def test_a_room_that_was_opened_while_the_bridge_was_down_is_put_back_where_its_chat_stays_unheard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what its chat does not allow, when that is heard, does not come true later."""
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.GRACE", 0.5)
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        town.up = False
        place.homeserver.room(room).published = True
        await alice.set_state(room, GUESTS, {"guest_access": "can_join"})
        place.homeserver.withhold()  # the news of it comes later, or never
        async with place.bridge() as bridge:
            await said(place, by(BOT, "Town has not been heard"))
            await until(lambda: not place.homeserver.room(room).published)
            assert (place.homeserver.state(room, GUESTS) or {})["guest_access"] == "forbidden"
            assert (history(place, room), joins(place, room)) == ("shared", "public")
            town.visibility = SECRET
            town.mend()
            await until(lambda: history(place, room) == "joined")
            await until(lambda: bridge.parts.exposures.wishes.shown(ChatId(room)) is Exposure.JOINED)
            kept = await bridge.store.kv.get("bridge.wish", room)
            assert kept is not None
            assert not msgspec.json.decode(kept)["bound"].get("listed")


async def test_a_room_that_was_listed_while_the_bridge_was_down_is_taken_out_at_once_also_where_its_chat_is_unheard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole world reads its name there, and no event has told of it."""
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.GRACE", 3600)
    town = Town()
    town.visibility = SECRET
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            _, room = await linked(place)
            wishes = bridge.parts.exposures.wishes
            await until(lambda: (left := wishes.left(ChatId(room))) and left.history is Exposure.JOINED)
        town.up = False
        place.homeserver.room(room).published = True
        async with place.bridge():
            await until(lambda: not place.homeserver.room(room).published)
            await said(place, by(BOT, "Town has not been heard"))


async def test_while_one_of_two_chats_is_unheard_a_room_is_no_more_open_than_it_was_left(
    tmp_path: Path,
) -> None:
    town, hamlet = Town(), Town()
    hamlet.visibility = SECRET
    async with town_world(tmp_path, town) as place:
        place.networks["hamlet"] = {"connector": "hamlet", "config": TownConfig(), "name": "Hamlet"}
        place.connectors["hamlet"] = TownConnector(hamlet)
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send(room, "!bridge link hamlet #vault")
            await said(place, by(BOT, "now linked to #vault"))
            assert history(place, room) == "joined"
        hamlet.up = False
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.parts.exposures.cleared)
            await alice.set_state(room, HISTORY, {"history_visibility": "shared"})
            told = await said(place, by(BOT, "Hamlet has not been heard"))
            assert "#vault" in told.body
            assert history(place, room) == "joined"
            town.emit(says("Bob", "still here"))
            await said(place, by(ghost("bob"), "still here"))


async def test_a_network_that_does_not_say_who_may_read_has_secret_chats(tmp_path: Path) -> None:
    town = Town()
    town.visibility = None
    async with talking(tmp_path, town) as (place, _, _, room):
        assert (history(place, room), joins(place, room)) == ("joined", "invite")


async def test_two_links_leave_the_room_as_open_as_the_more_secret_of_them(tmp_path: Path) -> None:
    town, hamlet = Town(), Town()
    async with town_world(tmp_path, town) as place:
        place.networks["hamlet"] = {"connector": "hamlet", "config": TownConfig(), "name": "Hamlet"}
        place.connectors["hamlet"] = TownConnector(hamlet)
        hamlet.visibility = SECRET
        async with place.bridge():
            alice, room = await linked(place)
            assert history(place, room) == "shared"
            await alice.send(room, "!bridge link hamlet #vault")
            await said(place, by(BOT, "now linked to #vault"))
            assert (history(place, room), joins(place, room)) == ("joined", "invite")
            await alice.send(room, "!bridge unlink hamlet #vault")
            await until(lambda: (history(place, room), joins(place, room)) == ("shared", "public"))


async def test_a_fault_in_comparing_a_room_lets_nothing_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown means secret: what a comparison left open before proves nothing of the room as it is now."""
    town = Town()
    with structlog.testing.capture_logs() as logs:
        async with talking(tmp_path, town) as (place, bridge, alice, room):
            look = looking.look

            async def faulty(*_: object) -> None:
                raise ValueError("a setting that nobody has thought of")

            monkeypatch.setattr(exposure, "look", faulty)
            await alice.set_power(room, "@carla:hs.test", 1)
            await until(lambda: any(e["event"] == "task_failed" for e in logs))
            town.emit(says("Bob", "is anybody else here?"))
            await until(lambda: bridge.parts.holding.count(SIDE) or lines(place, room))
            assert lines(place, room) == []
            monkeypatch.setattr(exposure, "look", look)
            await alice.set_power(room, "@carla:hs.test", 2)
            await said(place, by(ghost("bob"), "is anybody else here?"))


async def test_the_admins_ceiling_holds_whatever_chat_and_people_allow(tmp_path: Path) -> None:
    town = Town()
    ceiling = {"history": "invited", "join": "knock"}
    async with talking(tmp_path, town, ceiling=ceiling) as (place, _, _, room):
        assert (history(place, room), joins(place, room)) == ("invited", "knock")


async def test_where_the_admin_allows_members_of_other_rooms_those_rooms_must_not_let_everybody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event tells that another room was opened: it is looked at."""
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.LOOK_AGAIN", 0.2)
    town = Town()

    def members_of(*rooms: str) -> dict[str, Any]:
        named = [{"type": "m.room_membership", "room_id": other} for other in rooms]
        return {"join_rule": "restricted", "allow": named}

    async with talking(tmp_path, town, ceiling={"join": "restricted"}) as (place, _, alice, room):
        club = await invited(place, alice)
        await alice.set_state(club, JOINS, {"join_rule": "invite"})
        unseen = await alice.create_room(preset="private_chat")
        await alice.set_state(room, JOINS, members_of(club, unseen))
        await until(lambda: place.homeserver.state(room, JOINS) == members_of(club))
        assert "join_rules is restricted" in (await said(place, by(BOT, "more open than its chats"))).body
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        await alice.set_state(club, JOINS, {"join_rule": "public"})
        await until(lambda: joins(place, room) == "knock")


async def test_files_are_not_passed_on_where_the_admin_does_not_allow_them(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town, ceiling={"media": False}) as (place, _, _, _):
        file = File(uri="https://files.test/cat.png", name="cat.png", mime="image/png")
        town.emit(says("Bob", "look", file=file))
        shown = await said(place, by(ghost("bob"), "look"))
        assert shown.body == "look\n[cat.png: not passed on, because the chat has not agreed to that]"


async def test_a_room_is_compared_again_where_it_could_not_be(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town) as (place, _, _, room):
        place.homeserver.fault("GET */state/m.room.create/*", Fail(status=403), times=1)
        town.emit(says_of_itself(SECRET), says("Bob", "later"))
        await said(place, by(ghost("bob"), "later"))
        assert history(place, room) == "joined"


async def test_a_secret_room_that_somebody_lists_is_taken_out_of_the_directory_and_the_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event tells of the directory: it is looked at."""
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.LOOK_AGAIN", 0.2)
    town = Town()
    town.visibility = SECRET
    async with talking(tmp_path, town) as (place, _, _, room):
        town.emit(says("Bob", "secret"))
        await said(place, by(ghost("bob"), "secret"))
        place.homeserver.room(room).published = True
        await until(lambda: not place.homeserver.room(room).published)
        told = await said(place, by(BOT, "more open than its chats allow"))
        assert "it is not in the public room directory" in told.body


async def test_where_the_bridge_cannot_take_a_secret_room_out_of_the_directory_its_words_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.LOOK_AGAIN", 0.2)
    town = Town()
    town.visibility = SECRET
    async with talking(tmp_path, town) as (place, bridge, _, room):
        town.emit(says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        rule = place.homeserver.fault("PUT */directory/list/room/*", Fail(status=403, errcode="M_FORBIDDEN"))
        place.homeserver.room(room).published = True
        told = await said(place, by(BOT, "are held back"))
        assert "it stands in the public room directory" in told.body
        town.emit(says("Bob", "after"))
        await until(lambda: bridge.parts.holding.count(SIDE))
        assert lines(place, room) == ["before"]
        place.homeserver.heal(rule)
        place.homeserver.room(room).published = False
        await said(place, by(ghost("bob"), "after"))


@pytest.mark.parametrize("away", ["cut off", "put out"])
async def test_what_is_said_before_a_chat_is_heard_anew_waits_until_it_is_known_who_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """While the bridge was not in the chat, its people may have made it secret."""
    town = Town()
    async with talking(tmp_path, town) as (place, bridge, _, room):
        assert (history(place, room), joins(place, room)) == ("shared", "public")
        monkeypatch.setattr("bridgekit.runtime.gates.visibilities.TOLD_SECONDS", 60)
        town.visibility = None  # the network is slow to tell
        if away == "cut off":
            town.cut()
            await until(lambda: not town.sessions)
            town.mend()
            await until(lambda: None in town.sessions)
        else:
            town.emit(ChatClosed(chat=TALK, at=now(), reason="put out"))
        town.emit(says("Bob", "secret"))
        await until(lambda: bridge.parts.holding.count(SIDE) == 1)
        town.emit(ChatOpened(chat=TALK, at=now(), name="#talk"), says_of_itself(SECRET))
        await said(place, by(ghost("bob"), "secret"))
        stream = [
            e for e in place.homeserver.timeline(room) if e.body == "secret" or e.type in (HISTORY, JOINS)
        ]
        assert stream[-1].body == "secret"
        assert (history(place, room), joins(place, room)) == ("joined", "invite")


async def test_what_is_on_its_way_when_the_bridge_is_put_out_of_a_chat_waits_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.PATIENCE", 0.1)
    town = Town()
    async with talking(tmp_path, town) as (place, bridge, _, room):
        town.emit(says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        slow = place.homeserver.faults.add("PUT */send/m.room.message/*", Delay(seconds=1, after_effect=True))
        town.emit(*(says("Bob", f"line {n}") for n in range(3)))
        await said(place, by(ghost("bob"), "line 0"))
        town.emit(ChatClosed(chat=TALK, at=now(), reason="put out"))
        await until(lambda: bridge.parts.holding.count(SIDE))
        place.homeserver.heal(slow)
        assert lines(place, room) == ["before", "line 0"]
        town.emit(says_of_itself(EVERYBODYS), ChatOpened(chat=TALK, at=now(), name="#talk"))
        await said(place, by(ghost("bob"), "line 2"))
        assert lines(place, room) == ["before", *(f"line {n}" for n in range(3))]
