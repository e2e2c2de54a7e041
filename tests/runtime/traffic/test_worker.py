"""A worker: one room's facts in order, each until all that follows from it has a fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import Disconnected, RateLimited, SendRejected, SendUncertain
from bridgekit.contract.ids import ChatId, MessageId, PersonId, PortalKey
from bridgekit.contract.people import Content, Person
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Sent
from bridgekit.core.model import SideView
from bridgekit.core.plan import NOT_YOURS
from bridgekit.runtime.cases import Case, Fate
from bridgekit.runtime.traffic import worker as worker_module
from bridgekit.runtime.traffic.carrying import STOPPED
from bridgekit.runtime.traffic.steps import Step
from bridgekit.store import Copy, SealingKey, Store
from tests.runtime.traffic.surroundings import (
    ADA,
    ANN,
    BOB,
    CHANNEL,
    LOGINS,
    MATRIX_SIDE,
    PARROT,
    ROOM,
    Around,
    Scene,
    said,
    words,
)

Open = Callable[[], Scene]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", SealingKey.generate())
    yield opened
    await opened.close()


@pytest.fixture
async def scenes(store: Store) -> AsyncIterator[Open]:
    """Each call is a new process over the same store; the one before it has ended."""
    opened: list[Scene] = []

    def start() -> Scene:
        sides = (
            SideView(key=CHANNEL, label="IRCnet", logins=LOGINS),
            SideView(key=PARROT, label="Parrot"),
        )
        scene = Scene(store, Around(store, *sides))
        opened.append(scene)
        return scene

    yield start
    for scene in opened:
        await scene.stop()


@pytest.fixture
async def scene(scenes: Open) -> Scene:
    return scenes()


def on(side: PortalKey, kind: type[verbs.VerbBase] = verbs.PostMessage) -> Callable[[Step], bool]:
    return lambda step: step.action.side == side and isinstance(step.action.verb, kind)


def gate(around: Around, held: Callable[[Step], bool]) -> asyncio.Event:
    """What is `held` waits until the event is set."""
    event = asyncio.Event()

    async def wait(step: Step) -> Sent | None:
        if held(step):
            await event.wait()
        return None

    around.behave = wait
    return event


def failing(around: Around, struck: Callable[[Step], bool], *errors: Exception) -> None:
    """What is `struck` fails with each error once."""
    coming = list(errors)

    async def fail(step: Step) -> Sent | None:
        if struck(step) and coming:
            raise coming.pop(0)
        return None

    around.behave = fail


# One after the other ----------------------------------------------------------------------------------------


async def test_what_is_said_arrives_in_order_on_every_other_side_and_leaves_the_inbox(scene: Scene):
    await scene.hear(CHANNEL, *[said(CHANNEL, ADA, f"m{i}") for i in range(20)])
    await scene.quiet()
    expected = [f"m{i}" for i in range(20)]
    assert scene.said(MATRIX_SIDE) == expected
    assert scene.said(PARROT) == expected
    assert scene.said(CHANNEL) == []
    assert await scene.store.inbox.count() == 0


async def test_a_message_and_its_copies_are_known_by_each_id(scene: Scene):
    async def answer(step: Step) -> Sent | None:
        parts = (MessageId("p2"), MessageId("p3")) if step.action.side == PARROT else ()
        return Sent(id=MessageId("$e1" if step.action.side == MATRIX_SIDE else "p1"), more=parts)

    scene.around.behave = answer
    (number,) = await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await scene.quiet()

    def copy(side: PortalKey, id: str, part: int = 0) -> Copy:
        return Copy(
            message=number,
            room=ROOM,
            side=side.network,
            chat=side.chat,
            id=MessageId(id),
            sender=ADA.id,
            at=5,
            origin=side == CHANNEL,
            part=part,
            protection=Protection.TRANSPORT,
        )

    expected = [
        copy(CHANNEL, "m1"),
        copy(MATRIX_SIDE, "$e1"),
        copy(PARROT, "p1"),
        copy(PARROT, "p2", part=1),
        copy(PARROT, "p3", part=2),
    ]
    assert await scene.store.copies.of(CHANNEL.network, CHANNEL.chat, MessageId("m1")) == expected
    assert await scene.store.copies.of(PARROT.network, PARROT.chat, MessageId("p3")) == expected


async def test_a_slow_side_delays_nobody_else(scene: Scene):
    slow = gate(scene.around, on(PARROT))
    await scene.hear(CHANNEL, *[said(CHANNEL, ADA, f"m{i}") for i in range(3)])
    await scene.until(lambda: scene.said(MATRIX_SIDE) == ["m0", "m1", "m2"])
    assert scene.said(PARROT) == []
    assert await scene.store.inbox.count() == 3
    slow.set()
    await scene.quiet()
    assert scene.said(PARROT) == ["m0", "m1", "m2"]
    assert await scene.store.inbox.count() == 0


async def test_a_nameless_sender_is_introduced_before_they_speak(scene: Scene):
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, Person(id=PersonId("@eve:example.org"), name=""), "$1"))
    await scene.quiet()
    assert {d.verb.speaker.name for d in scene.around.done if d.verb.speaker} == {"Introduced"}


async def test_planning_waits_when_too_much_is_under_way(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_module, "UNDER_WAY", 3)
    slow = gate(scene.around, on(MATRIX_SIDE))
    await scene.hear(CHANNEL, *[said(CHANNEL, ADA, f"m{i}") for i in range(8)])
    await scene.until(lambda: len(scene.said(PARROT)) == 3)
    await asyncio.sleep(0.02)
    assert (scene.worker.under_way, len(scene.said(PARROT))) == (3, 3)
    slow.set()
    await scene.quiet()
    assert scene.said(PARROT) == [f"m{i}" for i in range(8)]


# What names a message ---------------------------------------------------------------------------------------


async def test_a_reply_waits_until_the_message_it_answers_has_its_id(scene: Scene):
    """Two accounts, two lanes: the second must not overtake the id of the first."""
    slow = gate(scene.around, lambda s: s.action.side == CHANNEL and words(s.action.verb) == "question")
    await scene.hear(
        MATRIX_SIDE,
        said(MATRIX_SIDE, ANN, "$1", "question"),
        said(MATRIX_SIDE, BOB, "$2", "answer", reply_to=MessageId("$1")),
        said(MATRIX_SIDE, BOB, "$3", "more"),
    )
    await scene.until(lambda: len(scene.said(PARROT)) == 3)
    assert [words(verb) for verb in scene.around.begun if verb.chat == CHANNEL.chat] == ["question"]
    slow.set()
    await scene.quiet()
    assert scene.said(CHANNEL) == ["question", "answer", "more"]
    assert _id_of(scene, CHANNEL, "answer") == await _named_in_channel(scene.store, "$1")


def _id_of(scene: Scene, side: PortalKey, text: str) -> MessageId:
    """The id of the message that the answer `text` named on `side`."""
    (found,) = [d.ids.reply for d in scene.around.done if d.side == side and words(d.verb) == text]
    assert found is not None
    return found


async def test_a_reply_to_what_failed_is_said_without_an_id(scene: Scene):
    failing(scene.around, on(CHANNEL), SendRejected("You are banned from #a."))
    await scene.hear(
        MATRIX_SIDE,
        said(MATRIX_SIDE, ANN, "$1"),
        said(MATRIX_SIDE, BOB, "$2", "answer", reply_to=MessageId("$1")),
    )
    await scene.quiet()
    (answer,) = [d for d in scene.around.done if d.side == CHANNEL]
    assert (words(answer.verb), answer.ids.reply) == ("answer", None)


def edit(
    origin: PortalKey, sender: Person, target: str, text: str, id: MessageId | None = None
) -> facts.Edit:
    return facts.Edit(
        chat=origin.chat,
        at=6,
        sender=sender,
        target=MessageId(target),
        content=Content(text=plain(text)),
        id=id,
    )


async def test_an_edit_waits_for_its_targets_fate_and_names_its_copy(scene: Scene):
    slow = gate(scene.around, on(MATRIX_SIDE))
    await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"), edit(CHANNEL, ADA, "m1", "better"))
    await asyncio.sleep(0.02)
    assert [words(verb) for verb in scene.around.begun if verb.chat == ROOM] == ["m1"]
    slow.set()
    await scene.quiet()
    (edited,) = [d for d in scene.around.done if d.side == MATRIX_SIDE and words(d.verb) == "better"]
    (copies,) = {
        c.message
        for c in await scene.store.copies.of(MATRIX_SIDE.network, ROOM, edited.ids.target or MessageId(""))
    }
    assert edited.ids.about is not None
    assert (copies, edited.ids.about.words) == (edited.ids.about.number, "m1")


async def test_an_edit_finds_its_target_after_a_restart(scenes: Open):
    before = scenes()
    await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await before.quiet()
    (event,) = [
        c.id
        for c in await before.store.copies.of(CHANNEL.network, CHANNEL.chat, MessageId("m1"))
        if c.chat == ROOM
    ]
    await before.stop()
    after = scenes()
    await after.hear(CHANNEL, edit(CHANNEL, ADA, "m1", "better"))
    await after.quiet()
    (edited,) = [d for d in after.around.done if d.side == MATRIX_SIDE]
    assert (words(edited.verb), edited.ids.target) == ("better", event)


async def test_nobody_edits_the_words_of_another(scene: Scene):
    await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    (number,) = await scene.hear(
        CHANNEL, edit(CHANNEL, Person(id=PersonId("eve"), name="Eve"), "m1", "worse")
    )
    await scene.quiet()
    assert scene.said(MATRIX_SIDE) == ["m1"]
    assert (number, [(CHANNEL, Fate.FAILED, NOT_YOURS)]) in scene.around.told
    assert await scene.store.inbox.count() == 0


def react(key: str = "👍", id: str | None = None) -> facts.Reaction:
    return facts.Reaction(
        chat=ROOM,
        at=7,
        sender=ANN,
        target=MessageId("$1"),
        key=key,
        id=MessageId(id) if id else None,
    )


def unreact(key: str = "👍") -> facts.Unreaction:
    return facts.Unreaction(chat=ROOM, at=8, sender=ANN, target=MessageId("$1"), key=key)


async def _taken_back(scene: Scene) -> tuple[MessageId | None, MessageId | None]:
    """The reaction that was taken back in the channel, and the message under which it stood."""
    (found,) = [d for d in scene.around.done if d.side == CHANNEL and isinstance(d.verb, verbs.Unreact)]
    return found.ids.target, found.ids.parent


async def _named_in_channel(store: Store, event: str) -> MessageId:
    copies = await store.copies.of(MATRIX_SIDE.network, ROOM, MessageId(event))
    (found,) = [c.id for c in copies if c.side == CHANNEL.network]
    return found


async def test_a_reaction_is_taken_back_by_its_own_id_under_its_message(scene: Scene):
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, BOB, "$1"), react(id="$r"))
    await scene.quiet()
    await scene.hear(MATRIX_SIDE, unreact())
    await scene.quiet()
    assert await _taken_back(scene) == (
        await _named_in_channel(scene.store, "$r"),
        await _named_in_channel(scene.store, "$1"),
    )


async def test_a_reaction_is_taken_back_after_a_restart(scenes: Open):
    before = scenes()
    await before.hear(MATRIX_SIDE, said(MATRIX_SIDE, BOB, "$1"), react(id="$r"))
    await before.quiet()
    await before.stop()
    after = scenes()
    await after.hear(MATRIX_SIDE, unreact())
    await after.quiet()
    assert await _taken_back(after) == (
        await _named_in_channel(after.store, "$r"),
        await _named_in_channel(after.store, "$1"),
    )


async def test_of_the_same_reaction_given_twice_the_newest_is_taken_back_after_a_restart(scenes: Open):
    before = scenes()
    await before.hear(MATRIX_SIDE, said(MATRIX_SIDE, BOB, "$1"), react(id="$r1"))
    await before.quiet()
    await before.hear(MATRIX_SIDE, unreact(), react(id="$r2"))
    await before.quiet()
    await before.stop()
    after = scenes()
    await after.hear(MATRIX_SIDE, unreact())
    await after.quiet()
    assert (await _taken_back(after))[0] == await _named_in_channel(after.store, "$r2")


async def test_a_redacted_reaction_takes_back_that_reaction(scene: Scene):
    gone = facts.Retraction(chat=ROOM, at=9, sender=ANN, target=MessageId("$r"))
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, BOB, "$1"), react(id="$r"))
    await scene.quiet()
    await scene.hear(MATRIX_SIDE, gone)
    await scene.quiet()
    assert (await _taken_back(scene))[0] == await _named_in_channel(scene.store, "$r")


# Twice is once ----------------------------------------------------------------------------------------------


async def test_the_same_message_read_twice_is_passed_on_once(scene: Scene):
    await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"), said(CHANNEL, ADA, "m1"))
    await scene.quiet()
    assert scene.said(MATRIX_SIDE) == ["m1"]
    assert await scene.store.inbox.count() == 0


async def test_what_history_replays_after_a_restart_is_passed_on_once(scenes: Open):
    before = scenes()
    await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await before.quiet()
    await before.stop()
    after = scenes()
    await after.hear(
        CHANNEL, said(CHANNEL, ADA, "m1", replayed=True), said(CHANNEL, ADA, "m2", replayed=True)
    )
    await after.quiet()
    assert after.said(MATRIX_SIDE) == ["m2"]
    assert await after.store.inbox.count() == 0


async def test_what_is_told_again_after_a_restart_as_if_it_were_new_is_passed_on_once(scenes: Open):
    before = scenes()
    await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await before.quiet()
    await before.stop()
    after = scenes()
    after.around.retelling = frozenset({CHANNEL.network})
    await after.hear(CHANNEL, said(CHANNEL, ADA, "m1"), said(CHANNEL, ADA, "m2"))
    await after.quiet()
    assert after.said(MATRIX_SIDE) == ["m2"]
    assert await after.store.inbox.count() == 0


@pytest.mark.parametrize("target", ["m1", "from before the link"])
async def test_an_edit_that_is_told_again_after_a_restart_is_passed_on_once(scenes: Open, target: str):
    """Where there are no edits, it is a message of its own."""
    e1, e2 = MessageId("e1"), MessageId("e2")
    before = scenes()
    before.around.retelling = frozenset({CHANNEL.network})
    await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"), edit(CHANNEL, ADA, target, "better", e1))
    await before.quiet()
    await before.stop()
    after = scenes()
    after.around.retelling = frozenset({CHANNEL.network})
    await after.hear(
        CHANNEL,
        edit(CHANNEL, ADA, target, "better", e1),
        edit(CHANNEL, ADA, target, "best", e2),
        said(CHANNEL, ADA, "m2", reply_to=e1),
    )
    await after.quiet()
    assert after.said(MATRIX_SIDE) == ["best", "m2"]
    assert await after.store.inbox.count() == 0


# Failures ---------------------------------------------------------------------------------------------------


async def test_a_fact_that_strikes_a_bug_is_parked_and_its_neighbours_go_on(scene: Scene):
    def strike(case: Case) -> None:
        if getattr(case.fact, "id", "") == "m2":
            raise KeyError("secret words")

    scene.around.seen = strike
    numbers = await scene.hear(CHANNEL, *[said(CHANNEL, ADA, f"m{i}") for i in (1, 2, 3)])
    await scene.quiet()
    assert scene.said(MATRIX_SIDE) == ["m1", "m3"]
    (parked,) = await scene.store.inbox.parked()
    assert parked.row.id == numbers[1]
    assert parked.error.startswith("KeyError at test_worker.py")
    assert "secret" not in parked.error
    assert scene.around.parkings == [CHANNEL]
    assert await scene.store.inbox.count() == 0


async def test_a_connector_that_breaks_on_being_asked_leaves_nothing_under_way(scene: Scene):
    def broken(side: PortalKey) -> int:
        raise ZeroDivisionError

    scene.around.pipeline = broken  # type: ignore[method-assign]
    await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await scene.quiet()
    assert scene.worker.under_way == 0
    assert len(await scene.store.inbox.parked()) == 1


async def test_a_verb_that_strikes_a_bug_costs_that_one_verb(scene: Scene):
    failing(scene.around, on(PARROT), ZeroDivisionError())
    first, _ = await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"), said(CHANNEL, ADA, "m2"))
    await scene.quiet()
    assert (scene.said(MATRIX_SIDE), scene.said(PARROT)) == (["m1", "m2"], ["m2"])
    fates = dict(scene.around.told)[first]
    assert {side: fate for side, fate, _ in fates} == {
        MATRIX_SIDE: Fate.DELIVERED,
        PARROT: Fate.FAILED,
    }
    assert await scene.store.inbox.count() == 0


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (SendRejected("You are banned."), Fate.FAILED),
        (SendUncertain("It may have arrived."), Fate.UNCERTAIN),
    ],
)
async def test_an_expected_failure_is_told_with_its_sentence(scene: Scene, error: SendRejected, fate: Fate):
    failing(scene.around, on(PARROT), error)
    (number,) = await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await scene.quiet()
    assert (PARROT, fate, error.notice) in dict(scene.around.told)[number]


@pytest.mark.parametrize("error", [Disconnected("Lost."), RateLimited("Slow down.", retry_after=0.01)])
async def test_what_was_not_sent_is_tried_again_before_what_came_after_it(scene: Scene, error: Exception):
    failing(scene.around, on(PARROT), error, error)
    await scene.hear(CHANNEL, *[said(CHANNEL, ADA, f"m{i}") for i in range(4)])
    await scene.quiet()
    assert scene.said(PARROT) == ["m0", "m1", "m2", "m3"]
    assert await scene.store.inbox.count() == 0


async def test_the_sender_reads_the_fate_before_the_row_goes(scene: Scene):
    """A crash in between tells them twice and not never."""
    scene.around.tell = True
    scene.around.telling.clear()
    await scene.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await scene.until(lambda: scene.worker.under_way == 0 and len(scene.around.done) == 2)
    await scene.store.commit()
    assert await scene.store.inbox.count() == 1
    scene.around.telling.set()
    await scene.quiet()
    assert await scene.store.inbox.count() == 0
    assert len(scene.around.told) == 1


async def test_a_fate_is_on_disk_before_the_sender_reads_it(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    """Else a crash in between would make the next run doubt what they were told."""
    kept: list[dict[int, str]] = []

    async def tell(number: int, fates: object) -> None:
        kept.append(await scene.store.outbox.of(number))

    scene.around.tell = True
    monkeypatch.setattr(scene.around, "_tell", tell)
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, ANN, "$m1"))
    await scene.quiet()
    assert [sorted(states.values()) for states in kept] == [["delivered", "delivered"]]


# Commands ---------------------------------------------------------------------------------------------------


async def test_a_command_is_obeyed_and_goes_nowhere_else(scene: Scene):
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, ANN, "$1", "!bridge status"))
    await scene.quiet()
    assert (scene.around.commands, scene.around.done) == (["status"], [])
    assert await scene.store.inbox.count() == 0


async def test_a_command_that_strikes_a_bug_is_parked(scene: Scene):
    def strike(words: str) -> None:
        raise ZeroDivisionError

    scene.around.obeyed = strike
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, ANN, "$1", "!bridge status"))
    await scene.quiet()
    assert len(await scene.store.inbox.parked()) == 1


# While it is planned ----------------------------------------------------------------------------------------


@pytest.fixture
def looks_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The disk is slow to say what a message answers: set when it is asked, and to be set when it may say so."""
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def nothing(*_: object) -> list[Copy]:
        asked.set()
        await goes_on.wait()
        return []

    monkeypatch.setattr(scene.store.copies, "of", nothing)
    return asked, goes_on


async def test_who_stops_what_is_being_planned_is_not_heard(
    scene: Scene, looks_up: tuple[asyncio.Event, asyncio.Event]
):
    asked, goes_on = looks_up
    numbers = await scene.hear(
        MATRIX_SIDE,
        said(MATRIX_SIDE, ANN, "$1", "one", reply_to=MessageId("$0")),
        said(MATRIX_SIDE, ANN, "$2", "two"),
        said(MATRIX_SIDE, BOB, "$3", "three"),
    )
    await asked.wait()
    assert scene.worker.stop(ANN.id) == 2
    goes_on.set()
    await scene.quiet()
    assert scene.said(CHANNEL) == ["three"]
    stopped = [(MATRIX_SIDE, Fate.FAILED, STOPPED)]
    assert scene.around.told[:2] == [(number, stopped) for number in numbers[:2]]


async def test_nothing_begins_after_the_halt_that_was_being_planned(
    scene: Scene, looks_up: tuple[asyncio.Event, asyncio.Event]
):
    """Cut off by the stop, it would be in doubt; what is not begun is said by the next start."""
    asked, goes_on = looks_up
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, ANN, "$1", "one", reply_to=MessageId("$0")))
    await asked.wait()
    scene.worker.halt()
    goes_on.set()
    await scene.until(lambda: not scene.worker.waiting)
    assert (scene.worker.running, scene.around.begun) == (0, [])
    assert await scene.store.inbox.count() == 1


# After a crash ----------------------------------------------------------------------------------------------


async def _crash_while_sending_to_parrot(scenes: Open) -> tuple[int, Scene]:
    """The Matrix copy is done, the parrot's was being sent."""
    before = scenes()
    gate(before.around, on(PARROT))
    (number,) = await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await before.until(lambda: len(before.around.begun) == 2 and len(before.around.done) == 1)
    await before.store.commit()
    await before.stop()
    assert sorted((await before.store.outbox.of(number)).values()) == ["delivered", "sending"]
    return number, scenes()


async def test_what_was_performed_is_not_repeated_and_what_was_being_sent_is_uncertain(scenes: Open):
    number, after = await _crash_while_sending_to_parrot(scenes)
    after.take_up(number, CHANNEL, said(CHANNEL, ADA, "m1"), recovering=True)
    await after.quiet()
    assert after.around.done == []
    (fates,) = [fates for told, fates in after.around.told if told == number]
    assert {side: fate for side, fate, _ in fates} == {
        MATRIX_SIDE: Fate.DELIVERED,
        PARROT: Fate.UNCERTAIN,
    }
    assert await after.store.inbox.count() == 0
    assert await after.store.outbox.of(number) == {}


async def test_what_was_performed_before_a_crash_can_still_be_answered(scenes: Open):
    number, after = await _crash_while_sending_to_parrot(scenes)
    (event,) = [c.id for c in await after.store.copies.by_message(number) if c.chat == ROOM]
    after.take_up(number, CHANNEL, said(CHANNEL, ADA, "m1"), recovering=True)
    await after.hear(CHANNEL, edit(CHANNEL, ADA, "m1", "better"))
    await after.quiet()
    (edited,) = [d for d in after.around.done if d.side == MATRIX_SIDE]
    assert edited.ids.target == event


async def test_what_was_not_begun_is_done_after_a_crash(scenes: Open):
    before = scenes()
    gate(before.around, lambda step: True)
    numbers = await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"), said(CHANNEL, ADA, "m2"))
    await before.until(lambda: len(before.around.begun) == 2)
    await before.stop()
    assert before.around.done == []
    after = scenes()
    for number, id in zip(numbers, ("m1", "m2"), strict=True):
        after.take_up(number, CHANNEL, said(CHANNEL, ADA, id), recovering=True)
    await after.quiet()
    assert after.said(MATRIX_SIDE) == ["m1", "m2"]
    assert after.said(PARROT)[-1] == "m2"
    assert await after.store.inbox.count() == 0


async def test_what_is_left_meets_a_bug_before_it_is_sent_and_has_its_fate_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    async def broken(room: ChatId, since: int) -> frozenset[MessageId]:
        raise ZeroDivisionError

    monkeypatch.setattr(scene.around, "withdrawn", broken)
    scene.take_up(1, MATRIX_SIDE, said(MATRIX_SIDE, ANN, "$1"), recovering=True)
    await scene.hear(MATRIX_SIDE, said(MATRIX_SIDE, ANN, "$2"))
    await scene.quiet()
    number, fates = scene.around.told[0]
    assert (number, {fate for _, fate, _ in fates}) == (1, {Fate.FAILED})
    assert scene.said(PARROT) == ["$2"]


async def test_what_waits_for_a_lost_connection_is_sent_after_a_restart(scenes: Open):
    """It was begun once; but the connector was certain that nothing had left."""
    before = scenes()
    tries = 0

    async def lost(step: Step) -> Sent | None:
        nonlocal tries
        if step.action.side == PARROT:
            tries += 1
            before.around.mark = False  # the second try waits for its session before it is marked
            if tries > 1:
                await asyncio.Event().wait()  # as a lost session does, for as long as it takes
            raise Disconnected("Lost.")
        return None

    before.around.behave = lost
    (number,) = await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    await before.until(lambda: tries == 2)
    await before.store.commit()
    await before.stop()
    after = scenes()
    after.take_up(number, CHANNEL, said(CHANNEL, ADA, "m1"), recovering=True)
    await after.quiet()
    assert (after.said(PARROT), after.said(MATRIX_SIDE)) == (["m1"], [])


async def test_what_was_refused_before_a_crash_is_not_called_delivered(scenes: Open):
    before = scenes()
    failing(before.around, on(PARROT), SendRejected("You are banned."))
    hold = asyncio.Event()
    fail = before.around.behave
    assert fail is not None

    async def slow(step: Step) -> Sent | None:
        if step.action.side == MATRIX_SIDE:
            await hold.wait()
        return await fail(step)

    before.around.behave = slow
    (number,) = await before.hear(CHANNEL, said(CHANNEL, ADA, "m1"))
    async with asyncio.timeout(60):
        while Fate.FAILED.value not in (await before.store.outbox.of(number)).values():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
    await before.stop()
    after = scenes()
    after.take_up(number, CHANNEL, said(CHANNEL, ADA, "m1"), recovering=True)
    await after.quiet()
    ((_, fates),) = after.around.told
    assert {side: fate for side, fate, _ in fates} == {
        MATRIX_SIDE: Fate.DELIVERED,
        PARROT: Fate.FAILED,
    }
