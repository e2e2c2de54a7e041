"""Nothing passes before an operator of the chat has agreed, and nothing after one has taken it back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridgekit.contract.facts import Change, ChatVisibility, Fact, Membership, Profile, RoleChange, Roster
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Kind, Member, Person, Role
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import FetchHistory, Join, PostMessage, Verb
from bridgekit.core import wording
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.testing.homeserver import Human
from bridgekit.testing.homeserver.faults import Delay, Fail
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, World, by, ghost, has_fate, invited, said, town_world, until

SIDE = PortalKey(NetworkId("town"), TALK)
OLGA = person("Olga", account="olga")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgekit.runtime.gates.consenting.ROSTER_SECONDS", 0.5)
    monkeypatch.setattr("bridgekit.runtime.gates.consenting.TICK", 0.1)


def roster(*members: tuple[Person, Role]) -> Roster:
    return Roster(chat=TALK, at=now(), members=tuple(Member(person=p, role=r) for p, r in members))


def told(town: Town, name: str) -> list[str]:
    """What the bridge said to somebody in private."""
    return [p.content.text.body for p in town.done(PostMessage) if p.chat == f"dm:{name}"]


def announced(town: Town) -> list[str]:
    """What the bridge itself said in the chat."""
    return [p.content.text.body for p in town.done(PostMessage) if p.chat == TALK and not p.speaker]


async def nothing_left(bridge: Bridge) -> None:
    """Wait until all that was said has its fate."""
    async with asyncio.timeout(30):
        while await bridge.store.inbox.count():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.05)


def whispers(name: str, words: str, sender: Person | None = None) -> Fact:
    return says(name, words, chat=f"dm:{name.lower()}", private=True, sender=sender)


async def code(town: Town, name: str = "olga") -> str:
    """The code that an operator was sent last."""
    await town.until(lambda: any("bk-" in line for line in told(town, name)))
    codes: list[str] = re.findall(r"bk-\w{4}-\w{4}", " ".join(told(town, name)))
    return codes[-1]


@asynccontextmanager
async def asked(
    folder: Path, town: Town, words: str = "", operator: Person = OLGA, also: Person | None = None
) -> AsyncIterator[tuple[World, Bridge, Human, str]]:
    """A link that waits for Olga, who was asked; `also` is another operator."""
    operators = [p for p in (operator, also) if p is not None]
    async with town_world(folder, town, consent="required") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await until(lambda: None in town.sessions)
        town.emit(roster(*((p, Role.MODERATOR) for p in operators), (person("Bob"), Role.NONE)))
        await alice.send(room, f"!bridge link town #talk {words}".strip())
        await said(place, by(BOT, "nothing passes yet"))
        yield place, bridge, alice, room


def shown(place: World, room: str) -> list[str]:
    """What people of the network said in the room."""
    return [e.body for e in place.homeserver.messages(room) if e.sender.startswith("@_bk_")]


async def test_with_the_consent_comes_nothing_of_what_was_said_before_it(tmp_path: Path) -> None:
    town = Town()
    town.visible[TALK] = Visibility(exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, known=True)
    async with asked(tmp_path, town, "history") as (place, _, _, room):
        assert town.done(FetchHistory) == []
        town.history = [
            says("Bob", "before", id="a", replayed=True, at=now() - 1000),
            says("Bob", "as she agreed", id="b", replayed=True, at=now() + 60_000),
        ]
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(ghost("bob"), "as she agreed"))
        assert len(town.done(FetchHistory)) == 1
        assert shown(place, room) == ["as she agreed"]


async def test_nothing_passes_either_way_before_an_operator_agrees_and_nothing_of_it_is_kept(
    tmp_path: Path,
) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, alice, room):
        town.emit(says("Bob", "what was said before"))
        event = await alice.send(room, "anybody there?")
        told_why = await said(
            place, lambda e: e.content.get("m.relates_to", {}).get("m.in_reply_to", {}) != {}
        )
        assert "Nobody who speaks for #talk on Town has agreed to the link yet." in told_why.body
        assert event
        await nothing_left(bridge)
        assert ghost("bob") not in place.homeserver.members(room)
        assert place.homeserver.state(room, "m.bridge", "org.bridgekit://town/#talk") is None
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "Olga, an operator of #talk on Town, has agreed to: bridge, media."))
        await until(lambda: ghost("bob") in place.homeserver.members(room))
        town.emit(says("Bob", "what is said now"))
        await said(place, by(ghost("bob"), "what is said now"))
        assert shown(place, room) == ["what is said now"]
        assert town.said() == []
        await alice.send(room, "hello")
        await town.until(lambda: town.said() == ["<alice> hello"])
        assert any("#talk is linked to the Matrix room" in words for words in announced(town))
        [consent] = await bridge.store.consents.all()
        assert (consent.name, consent.account, sorted(consent.scopes)) == (
            "Olga",
            "olga",
            ["bridge", "media"],
        )
        assert "asks to link #talk on Town" in consent.wording
        assert "bk-" not in consent.wording


async def test_of_two_operators_one_is_asked_and_the_room_is_told_without_waiting_for_a_slow_network(
    tmp_path: Path,
) -> None:
    town, hurry = Town(), asyncio.Event()

    async def paced(login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage) and verb.chat.startswith("dm:"):
            await hurry.wait()

    town.behave = paced
    async with asked(tmp_path, town, also=person("Paul", account="paul")) as (place, _, _, room):
        await said(place, by(BOT, wording.asked("#talk", "Town")))
        hurry.set()
        await code(town)
        await town.until(lambda: any("The code is for you alone" in line for line in told(town, "olga")))
        assert told(town, "paul") == []
        assert [e.body for e in place.homeserver.messages(room)].count(wording.asked("#talk", "Town")) == 1


async def test_where_nobody_has_agreed_the_status_says_so_once(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, _, alice, room):
        await alice.send(room, "!bridge status")
        answer = await said(place, by(BOT, "#talk on Town: "))
        assert answer.body == (
            "#talk on Town: waiting: Nobody who speaks for #talk on Town has agreed to the link yet. (modes +n)"
        )


async def test_an_operator_is_told_which_room_it_is_by_its_name_and_address(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="required") as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.set_state(room, "m.room.name", {"name": "The Lobby"})
        await until(lambda: None in town.sessions)
        town.emit(roster((OLGA, Role.MODERATOR)))
        await alice.send(room, "!bridge link town #talk")
        await town.until(lambda: any("asks to link" in line for line in told(town, "olga")))
        [asks] = [line for line in told(town, "olga") if "asks to link" in line]
        assert 'asks to link #talk on Town to the Matrix room "The Lobby".' in asks
        assert room not in asks


async def test_a_room_that_was_renamed_is_called_so_and_one_without_a_name_by_its_id(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (_, bridge, alice, room):
        await town.until(lambda: any(f"to the Matrix room {room}." in line for line in told(town, "olga")))
        await alice.set_state(room, "m.room.name", {"name": "Agora"})
        await until(lambda: bridge.parts.titles.of(ChatId(room)) == '"Agora"')
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await town.until(
            lambda: any('linked to the Matrix room "Agora"' in words for words in announced(town))
        )


async def test_a_question_of_the_next_run_names_the_room_too(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="required") as place:
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await alice.set_state(room, "m.room.name", {"name": "The Lobby"})
            await until(lambda: None in town.sessions)
            town.emit(roster((person("Bob"), Role.NONE)))
            await alice.send(room, "!bridge link town #talk")
            await said(place, by(BOT, "nothing passes yet"))
        async with place.bridge() as bridge:
            await until(lambda: bridge.parts.titles.of(ChatId(room)) != room)
            await until(lambda: None in town.sessions)
            town.emit(roster((OLGA, Role.MODERATOR)))
            await town.until(lambda: any('Matrix room "The Lobby"' in line for line in told(town, "olga")))


async def test_what_somebody_opened_for_later_joiners_counts_only_if_the_operator_agrees_to_it(
    tmp_path: Path,
) -> None:
    town = Town()
    async with asked(tmp_path, town, "history") as (place, _, _, room):
        town.emit(whispers("Olga", f"{await code(town)} bridge", OLGA))
        await said(place, by(BOT, "has agreed to: bridge."))
        await until(lambda: history(place, room) == "joined")
        before = await code(town)
        town.emit(says("Olga", "!bridge grant", sender=OLGA))
        async with asyncio.timeout(30):
            while await code(town) == before:  # noqa: ASYNC110 - the town tells nobody
                await asyncio.sleep(0.05)
        town.emit(whispers("Olga", f"{await code(town)} bridge media history", OLGA))
        await until(lambda: history(place, room) == "shared")


def history(place: World, room: str) -> str:
    return str((place.homeserver.state(room, "m.room.history_visibility") or {})["history_visibility"])


async def test_who_is_there_when_the_bridge_comes_is_no_loss_while_the_link_waits(tmp_path: Path) -> None:
    town = Town()

    async def tell_who_is_there(_: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, Join):
            town.emit(roster((OLGA, Role.MODERATOR), (person("Bob"), Role.NONE)))

    town.behave = tell_who_is_there
    with structlog.testing.capture_logs() as logs:
        async with asked(tmp_path, town) as (place, bridge, _, _):
            await nothing_left(bridge)
            town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
            await said(place, by(BOT, "has agreed to: "))
            town.emit(says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
    assert not [entry for entry in logs if entry["event"] == "not_delivered"]


async def test_an_operator_takes_it_back_in_the_chat_and_the_link_closes_at_once(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, alice, room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        town.emit(
            says("Olga", "!bridge revoke", sender=OLGA), says("Bob", "between us"), says("Bob", "really")
        )
        await said(place, by(BOT, "Olga has taken back the consent"))
        await alice.send(room, "hello?")
        await said(place, by(BOT, "Nobody who speaks for #talk"))
        await asyncio.sleep(0.2)
        assert shown(place, room) == []
        assert town.said() == []
        assert any("Olga has taken back the consent" in words for words in announced(town))
        assert not place.homeserver.state(room, "m.bridge", "org.bridgekit://town/#talk")
        agreed, refusal = await bridge.store.consents.all()
        assert (agreed.ended_by, agreed.ended > 0, refusal.granted) == ("Olga", True, False)


@pytest.mark.parametrize("by_whom", ["olga", "alice"])
async def test_a_comparison_that_began_before_it_was_taken_back_does_not_open_the_link_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_whom: str
) -> None:
    """The first comparison has seen her consent when she takes it back; the second is kept from mending that."""
    begun, may_end, ended, may_begin = (asyncio.Event() for _ in range(4))
    compare, tell = Exposures._weigh, Exposures._tell

    async def slow_to_tell(self: Exposures, *args: Any) -> None:
        begun.set()
        await may_end.wait()
        await tell(self, *args)

    async def held(self: Exposures, room: ChatId) -> None:
        if begun.is_set():
            ended.set()
            await may_begin.wait()
        await compare(self, room)

    town = Town()
    async with asked(tmp_path, town) as (place, bridge, alice, room):
        await until(lambda: not bridge.parts.exposures._weighing)
        monkeypatch.setattr(Exposures, "_tell", slow_to_tell)
        monkeypatch.setattr(Exposures, "_weigh", held)
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        await begun.wait()
        if by_whom == "olga":
            town.emit(says("Olga", "!bridge revoke", sender=OLGA))
        else:
            await alice.send(room, "!bridge revoke town #talk")
        await said(place, by(BOT, "taken back the consent"))
        may_end.set()
        await ended.wait()
        event = await alice.send(room, "hello?")
        fate = await said(place, has_fate(event))
        why = {"olga": "Nobody who speaks for #talk", "alice": "was taken back from here"}[by_whom]
        assert why in fate.content.get("message", "")
        assert town.said() == []
        town.emit(says("Bob", "between us"))
        may_begin.set()
        await until(lambda: not bridge.parts.exposures._weighing)
        await nothing_left(bridge)
        assert shown(place, room) == []
        assert not place.homeserver.state(room, "m.bridge", "org.bridgekit://town/#talk")


async def test_what_waits_to_be_said_in_the_chat_is_not_said_any_more(tmp_path: Path) -> None:
    town = Town()
    held, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(_: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage) and verb.content.text.body == "one":
            held.set()
            await goes_on.wait()

    async with asked(tmp_path, town) as (place, bridge, alice, room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        town.behave = slow
        await alice.send(room, "one")
        await held.wait()
        two = await alice.send(room, "two")
        await until(lambda: [w.under_way for w in bridge.rooms._workers.values()] == [2])
        town.emit(says("Olga", "!bridge revoke", sender=OLGA))
        await said(place, by(BOT, "Olga has taken back the consent"))
        goes_on.set()
        fate = await said(place, has_fate(two))
        assert "Nobody who speaks for #talk" in fate.content["message"]
        assert town.said() == ["<alice> one"]  # that had set out


async def test_what_is_on_its_way_into_the_room_does_not_arrive_any_more(tmp_path: Path) -> None:
    """The ghost is let in slowly, and meanwhile the chat's operator takes the consent back."""
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, _, room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        slow = place.homeserver.fault("POST *", Delay(seconds=1.0), user=ghost("carl"))
        town.emit(says("Carl", "between us"))
        await until(lambda: slow.hits)
        town.emit(says("Olga", "!bridge revoke", sender=OLGA))
        await said(place, by(BOT, "Olga has taken back the consent"))
        await nothing_left(bridge)
        assert shown(place, room) == ["hello"]


async def test_a_moderator_of_the_room_takes_it_back_too(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, _, alice, room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        mallory = place.homeserver.user("mallory")
        await mallory.join(room)
        await mallory.send(room, "!bridge revoke")
        await said(place, by(BOT, "You need power level"))
        await alice.send(room, "!bridge revoke")  # the only link of the room
        await said(place, by(BOT, "is closed: nothing passes any more"))
        town.emit(says("Bob", "between us"))
        await town.until(lambda: any("@alice:hs.test has taken back" in words for words in announced(town)))
        assert shown(place, room) == []
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, "was taken back from here: ask for it anew with `!bridge link`"))


async def test_a_restart_forgets_neither_the_question_nor_the_answer(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="required") as place:
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await until(lambda: None in town.sessions)
            town.emit(roster((OLGA, Role.MODERATOR)))
            await alice.send(room, "!bridge link town #talk")
            answer = f"{await code(town)} yes"
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(roster((OLGA, Role.MODERATOR)), whispers("Olga", answer, OLGA))
            await said(place, by(BOT, "has agreed to: "))
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(says("Bob", "still open"))
            await said(place, by(ghost("bob"), "still open"))


# Who may not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "account", "returned", "event", "answer"),
    [
        # A code that was never theirs.
        ("Mallory", None, False, "consent_code_unknown", wording.NO_SUCH_CODE),
        # Her name, while the network still shows her own account in the chat.
        ("Olga", "mallory", False, "consent_not_operator", wording.not_operator("#talk")),
        # Her name after she left, and the chat made them an operator: with her, her question went.
        ("Olga", "mallory", True, "consent_code_unknown", wording.NO_SUCH_CODE),
        ("Olga", None, True, "consent_code_unknown", wording.NO_SUCH_CODE),
    ],
)
async def test_a_code_is_of_no_use_to_anybody_but_the_operator_and_their_account(
    tmp_path: Path, name: str, account: str | None, returned: bool, event: str, answer: str
) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, _, room):
        thief = person(name, account=account)
        known = await code(town)
        with structlog.testing.capture_logs() as logs:
            if returned:
                town.emit(
                    Membership(chat=TALK, at=now(), person=OLGA, change=Change.LEAVE),
                    RoleChange(chat=TALK, at=now(), person=thief, role=Role.MODERATOR),
                )
            town.emit(whispers(name, f"{known} yes", thief))
            await town.until(lambda: answer in told(town, name.lower()))
        lines = [line["event"] for line in logs if line["event"].startswith("consent_")]
        assert [line for line in lines if line != "consent_asked"] == [event]
        assert await bridge.store.consents.all() == []
        town.emit(says("Bob", "secret"))
        await asyncio.sleep(0.1)
        assert shown(place, room) == []


async def test_what_was_said_before_the_agreement_is_not_shown_when_the_network_tells_it_again(
    tmp_path: Path,
) -> None:
    """History that a network brings after the agreement may go back to before it."""
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, _, room):
        before = now()
        await asyncio.sleep(0.01)
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: bridge, media."))
        town.emit(
            says("Bob", "said before", replayed=True, at=before),
            says("Bob", "said since", replayed=True),
            says("Bob", "said now"),
        )
        await said(place, by(ghost("bob"), "said now"))
        assert shown(place, room) == ["said since", "said now"]
        await nothing_left(bridge)


async def test_an_operator_who_lost_the_role_agrees_to_nothing(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (_, bridge, _, _):
        known = await code(town)
        town.emit(RoleChange(chat=TALK, at=now(), person=OLGA, role=Role.NONE))
        with structlog.testing.capture_logs() as logs:
            town.emit(whispers("Olga", f"{known} yes", OLGA))
            await town.until(lambda: "no code that the bridge is waiting for" in told(town, "olga")[-1])
        assert "consent_code_unknown" in [line["event"] for line in logs]
        assert await bridge.store.consents.all() == []


async def test_codes_cannot_be_guessed(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (_, bridge, _, _):
        with structlog.testing.capture_logs() as logs:
            for n in range(30):
                town.emit(whispers("Mallory", f"bk-aaaa-aa{n // 10 + 2}{n % 6 + 2} yes"))
            await town.until(lambda: any("Too many wrong codes" in line for line in told(town, "mallory")))
            await asyncio.sleep(0.2)
        assert len(told(town, "mallory")) == 5
        assert [line["event"] for line in logs if line["log_level"] == "warning"][
            -1
        ] == "consent_codes_guessed"
        assert await bridge.store.consents.all() == []


async def test_who_is_no_operator_revokes_nothing(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, _, _, _):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        town.emit(says("Bob", "!bridge revoke"), says("Bob", "still here"))
        await said(place, by(ghost("bob"), "still here"))
        await town.until(
            lambda: any("Only an operator of #talk can say that" in w for w in told(town, "bob"))
        )


# The chat itself ----------------------------------------------------------------------------------------------


async def test_anybody_in_the_chat_learns_what_the_bridge_does_there(tmp_path: Path) -> None:
    town = Town()
    async with asked(tmp_path, town) as (place, _, _, _):
        town.emit(says("Bob", "!bridge"))
        await town.until(lambda: any("nothing passes" in words for words in announced(town)))
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        await asyncio.sleep(0.1)
        place.homeserver.heal()


async def test_an_announced_link_opens_at_once_and_the_chat_is_told(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="announced") as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "now linked"))
        await town.until(lambda: any("#talk is linked to the Matrix room" in w for w in announced(town)))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert history(place, room) == "joined"


async def test_an_announced_link_that_its_room_takes_back_is_closed_until_the_room_wants_it_anew(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="announced") as place:
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await until(lambda: None in town.sessions)
            town.emit(roster((OLGA, Role.MODERATOR)))
            await alice.send(room, "!bridge link town #talk")
            await said(place, by(BOT, "is now linked"))
            await alice.send(room, "!bridge revoke town #talk")
            await said(place, by(BOT, "is closed: nothing passes any more"))
            town.emit(says("Bob", "between us"), says("Olga", "!bridge grant", sender=OLGA))
            await town.until(lambda: wording.withheld("#talk") in told(town, "olga"))
        async with place.bridge() as bridge:
            await until(lambda: None in town.sessions)
            town.emit(roster((OLGA, Role.MODERATOR)), says("Bob", "still between us"))
            await alice.send(room, "!bridge link town #talk")
            await until(lambda: SIDE in bridge.parts.exposures.cleared)
            town.emit(says("Bob", "for all"))
            await said(place, by(ghost("bob"), "for all"))
            assert shown(place, room) == ["for all"]


async def test_who_opts_out_is_not_shown_and_their_ghost_leaves(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await alice.send(room, "!bridge link town #talk")
            await said(place, by(BOT, "now linked"))
            town.emit(says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
            town.emit(says("Bob", "!optout"))
            await until(lambda: place.homeserver.members(room)[ghost("bob")] == "leave")
            town.emit(says("Bob", "a secret"), roster((person("Bob"), Role.NONE)))
            await said(place, by(BOT, "A message is not shown here"))
            assert any("your messages stay here" in line for line in told(town, "bob"))
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(says("Bob", "another"), says("Ann", "hello"))
            await said(place, by(ghost("ann"), "hello"))
            assert shown(place, room) == ["hello", "hello"]
            assert place.homeserver.members(room)[ghost("bob")] == "leave"
            town.emit(says("Bob", "!optin"))
            await town.until(lambda: any("passed on again" in line for line in told(town, "bob")))
            town.emit(says("Bob", "back"))
            await said(place, by(ghost("bob"), "back"))


async def test_who_opts_out_and_signs_in_then_is_out_under_other_names_too_also_after_a_restart(
    tmp_path: Path,
) -> None:
    town = Town()
    bob, phone = person("Bob", account="rob"), person("Pocket", account="rob")
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await alice.send(room, "!bridge link town #talk")
            await said(place, by(BOT, "now linked"))
            town.emit(roster((person("Bob"), Role.NONE)), says("Bob", "!optout"))
            town.emit(Profile(chat=TALK, at=now(), person=bob))
            await town.until(lambda: wording.OUT_WITH_THIS_ACCOUNT in told(town, "bob"))
            town.emit(says("Pocket", "a secret", sender=phone), says("Ann", "hello"))
            await said(place, by(ghost("ann"), "hello"))
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(says("Pocket", "another", sender=phone), says("Ann", "still here"))
            await said(place, by(ghost("ann"), "still here"))
            assert shown(place, room) == ["hello", "still here"]
            mallory = person("Bob", account="mallory")
            town.emit(says("Bob", "I am somebody else", sender=mallory))
            await said(place, by(ghost("bob"), "I am somebody else"))
            town.emit(says("Bob", "between us"), says("Bob", "!optin", sender=bob))
            await town.until(lambda: wording.OPTED_IN in told(town, "bob"))
            town.emit(says("Pocket", "back", sender=phone))
            await said(place, by(ghost("pocket"), "back"))


async def test_machines_are_never_asked(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, consent="required") as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await until(lambda: None in town.sessions)
        town.emit(roster((person("ChanServ", bot=True), Role.OWNER)))
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "The bridge sees no operator of #talk on Town whom it could ask"))
        assert told(town, "chanserv") == []
        town.emit(says("ChanServ", "!bridge grant", kind=Kind.TEXT, sender=person("ChanServ", bot=True)))
        await asyncio.sleep(0.2)
        assert told(town, "chanserv") == []


async def test_words_that_were_held_when_it_was_taken_back_are_not_shown_after_a_later_consent(
    tmp_path: Path,
) -> None:
    """Each ends undelivered, and the room is told, at the moment that the consent is gone."""
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, _, room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        rule = place.homeserver.fault("PUT */directory/list/room/*", Fail(status=403, errcode="M_FORBIDDEN"))
        place.homeserver.room(room).published = True
        bridge.parts.exposures.weigh(ChatId(room))
        await said(place, by(BOT, "are held back"))
        town.emit(says("Bob", "between us"), says("Bob", "really"))
        await until(lambda: bridge.parts.holding.count(SIDE, PersonId("bob")) == 2)
        town.emit(says("Olga", "!bridge revoke", sender=OLGA))
        await said(
            place, by(BOT, "2 messages were held back until the consent of #talk on Town was taken back")
        )
        await nothing_left(bridge)
        assert await bridge.store.held.all() == []
        place.homeserver.heal(rule)
        await agrees_again(place, town)
        town.emit(says("Bob", "hello again"))
        await said(place, by(ghost("bob"), "hello again"))
        assert shown(place, room) == ["hello", "hello again"]


async def test_a_comparison_that_began_before_the_consent_does_not_shut_the_chat_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said between it and the next one went nowhere, though the chat had agreed."""
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, _, _room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        await until(lambda: SIDE in bridge.parts.exposures.cleared)
        began, may_go_on = asyncio.Event(), asyncio.Event()

        tell = Exposures._tell

        async def slowly(exposures: Exposures, *words: Any) -> None:
            began.set()
            await may_go_on.wait()
            await tell(exposures, *words)

        monkeypatch.setattr(Exposures, "_tell", slowly)
        town.emit(says("Olga", "!bridge revoke", sender=OLGA))
        await began.wait()
        await agrees_again(place, town)
        states: list[str] = []
        set_state = bridge.registry.set_state

        def spied(key: PortalKey, state: str, reason: str, now: int) -> bool:
            states.append(state)
            return set_state(key, state, reason, now)

        monkeypatch.setattr(bridge.registry, "set_state", spied)
        town.emit(says("Bob", "hello"))
        may_go_on.set()
        await said(place, by(ghost("bob"), "hello"))
        assert set(states) == {"open"}


async def test_nothing_that_was_said_under_a_consent_that_is_gone_is_shown_under_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the bridge was killed before what was held had its end: it is still on disk."""
    town = Town()
    async with asked(tmp_path, town) as (place, bridge, _, room):
        town.emit(whispers("Olga", f"{await code(town)} yes", OLGA))
        await said(place, by(BOT, "has agreed to: "))
        rule = place.homeserver.fault("PUT */directory/list/room/*", Fail(status=403, errcode="M_FORBIDDEN"))
        place.homeserver.room(room).published = True
        bridge.parts.exposures.weigh(ChatId(room))
        await said(place, by(BOT, "are held back"))
        town.emit(says("Bob", "between us"))
        await until(lambda: bridge.parts.holding.count(SIDE, PersonId("bob")))

        async def never(*_: object) -> int:
            return 0

        monkeypatch.setattr(bridge.parts.holding, "fail", never)
        town.emit(says("Olga", "!bridge revoke", sender=OLGA))
        await said(place, by(BOT, "Olga has taken back the consent"))
        await agrees_again(place, town)
        place.homeserver.heal(rule)
        bridge.parts.exposures.weigh(ChatId(room))
        await said(place, by(BOT, "took back their consent before it could be shown"))
        town.emit(says("Bob", "hello again"))
        await said(place, by(ghost("bob"), "hello again"))
        assert shown(place, room) == ["hello again"]


async def agrees_again(place: World, town: Town) -> None:
    """Olga asks to be asked once more, and says yes."""
    since, before = place.homeserver.position, await code(town)
    town.emit(says("Olga", "!bridge grant", sender=OLGA))
    async with asyncio.timeout(20):
        while (new := await code(town)) == before:  # noqa: ASYNC110 - the desk takes a moment to ask
            await asyncio.sleep(0.02)
    town.emit(whispers("Olga", f"{new} yes", OLGA))
    await place.homeserver.wait_for(by(BOT, "has agreed to: "), since=since)


async def test_what_somebody_says_who_opted_out_reaches_no_disk(tmp_path: Path) -> None:
    """Not even while it waits; that they opt in again before it is planned shows nothing of it either."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "now linked"))
        rule = place.homeserver.fault("PUT */directory/list/room/*", Fail(status=403, errcode="M_FORBIDDEN"))
        place.homeserver.room(room).published = True
        town.emit(
            ChatVisibility(chat=TALK, at=now(), visibility=Visibility(known=True, exposure=Exposure.JOINED))
        )
        await said(place, by(BOT, "are held back"))
        town.emit(says("Bob", "!optout"), says("Bob", "an xyzzy secret"), says("Bob", "!optin"))
        await until(lambda: bridge.parts.holding.count(SIDE, PersonId("bob")) >= 2)
        await bridge.store.commit()
        rows = await bridge.store.inbox.of(SIDE)
        assert rows
        assert not any(b"xyzzy" in row.body for row in rows)
        place.homeserver.heal(rule)
        bridge.parts.exposures.weigh(ChatId(room))
        await said(place, by(BOT, "A message is not shown here"))
        await nothing_left(bridge)
        assert "xyzzy" not in str(place.homeserver.events())
