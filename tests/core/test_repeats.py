"""Who repeats in a room what was passed on there, with names before it, is another relay; people may quote."""

from __future__ import annotations

import pytest

from bridgekit.contract.facts import Message
from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import plain
from bridgekit.core.repeats import WHILE, Repeats

ROOM = ChatId("!room:hs.test")
AT = 1_700_000_000_000


def says(name: str, words: str, **more: object) -> Message:
    return Message(
        chat=ROOM,
        at=AT,
        sender=Person(id=PersonId(name.lower()), name=name),
        id=MessageId("m"),
        content=Content(text=plain(words)),
        **more,  # type: ignore[arg-type]
    )


def heard(*said: tuple[str, str], every: int = 10) -> list[bool]:
    """Of each message, whether it only repeats; they come `every` so many milliseconds."""
    repeats = Repeats()
    return [repeats.hear(ROOM, n, says(*one), AT + n * every) for n, one in enumerate(said)]


@pytest.mark.parametrize(
    "shape", ["<{}> {}", "[{}] {}", "({}) {}", "<@{}> {}", "<{}[d]> {}", "[Town] <{}> {}", "Town: {}: {}"]
)
def test_who_repeats_twice_with_the_names_before_the_words_is_a_relay(shape: str) -> None:
    once, again = shape.format("alice", "hello"), shape.format("Bob", "good day")
    said = [("alice", "hello"), ("Relay", once), ("Bob", "good day"), ("Relay", again)]
    assert heard(*said) == [False, False, False, True]


def test_a_circle_ends_in_its_second_round() -> None:
    said = [("alice", "hello"), ("Relay", "<alice> hello"), ("Relay", "<Relay> <alice> hello")]
    assert heard(*said) == [False, False, True]


def test_a_name_into_which_a_relay_puts_what_nobody_sees_is_that_name() -> None:
    said = [("alice", "a"), ("Relay", "<a\u200blice> a"), ("alice", "b"), ("Relay", "<a\u200blice> b")]
    assert heard(*said)[-1]


@pytest.mark.parametrize(
    "words",
    [
        "alice: hello",  # as people answer
        "<bob> hello",  # nobody of that name has said it
        "<alice> hello?",
        "hello",
        "<alice>",
        "she said <alice> hello",
    ],
)
def test_people_are_heard_however_often(words: str) -> None:
    assert heard(("alice", "hello"), *[("Carol", words)] * 5) == [False] * 6


def test_what_was_said_long_ago_is_quoted_as_often_as_anybody_likes() -> None:
    assert heard(("alice", "hello"), *[("Carol", "<alice> hello")] * 3, every=WHILE) == [False] * 4


def test_what_is_told_again_or_said_with_an_own_account_is_no_repetition() -> None:
    repeats = Repeats()
    repeats.hear(ROOM, 1, says("alice", "hello"), AT)
    for n in range(2, 5):
        assert not repeats.hear(ROOM, n, says("Relay", "<alice> hello", replayed=True), AT)
        assert not repeats.hear(ROOM, n, says("Relay", "<alice> hello", own=LoginId("own")), AT)


def test_a_quote_that_had_to_wait_and_is_heard_again_is_still_one() -> None:
    repeats = Repeats()
    repeats.hear(ROOM, 1, says("alice", "hello"), AT)
    assert not repeats.hear(ROOM, 2, says("Carol", "<alice> hello"), AT)
    assert not repeats.hear(ROOM, 2, says("Carol", "<alice> hello"), AT)
    assert repeats.hear(ROOM, 3, says("Carol", "<alice> hello"), AT)


def test_names_without_end_cost_no_time_without_end() -> None:
    assert heard(("alice", "hello"), ("Relay", "a: " * 20_000 + "hello")) == [False, False]
