"""The storm's arithmetic finds what it is there to find: lost, doubled, read unseen, out of order."""

from __future__ import annotations

from connectors.irc.protocol.wire import Line, parse
from tests.scenarios.visibility.accounts import (
    Arrived,
    Told,
    from_irc,
    from_matrix,
    late,
    read_unseen,
)
from tests.scenarios.visibility.crowd import Handed

FIRST, SECOND, THIRD = "s01-000001", "s01-000002", "s01-000003"
PEOPLE = {"bob"}
GHOST = "@_bk_net_bob:storm.test"


def line(raw: str) -> Line:
    found = parse(raw.encode())
    assert found is not None
    return found


def says(id: str) -> Line:
    return line(f":bob!b@h PRIVMSG #storm :{id} hello")


def moves(nick: str, command: str) -> Line:
    return line(f":{nick}!x@h {command} :#storm")


def handed(*told: Line, connection: int = 1, at: int = 1000) -> list[Handed]:
    """What the bridge was given, a second between two lines."""
    return [Handed(connection, at + 1000 * n, one) for n, one in enumerate(told)]


def arrived(*messages: tuple[str, int]) -> list[Arrived]:
    return [Arrived(id, GHOST, at) for id, at in messages]


def test_what_the_bridge_was_given_is_delivered_once_or_is_held() -> None:
    words = [says(FIRST), says(SECOND), says(THIRD)]
    account = from_irc(
        words, [], handed(*words), arrived((FIRST, 1), (SECOND, 2), (SECOND, 3)),
        people=PEOPLE, relay="relay", held={THIRD},
    )  # fmt: skip
    assert account.fates == {"delivered": 1, "unexplained": 1, "held": 1}
    assert account.wrong == [f"{SECOND} is 2 times in the room"]


def test_what_the_bridge_was_not_given_was_said_while_it_was_away_or_is_wrong() -> None:
    words = [says(FIRST), moves("relay", "QUIT"), says(SECOND), moves("relay", "JOIN"), says(THIRD)]
    account = from_irc(words, [], [], [], people=PEOPLE, relay="relay")
    assert account.fates == {"said while the bridge was away": 3}
    assert account.wrong == []  # the connection may have broken before the first, and after the last
    account = from_irc(words, [], handed(says(THIRD)), arrived((THIRD, 1)), people=PEOPLE, relay="relay")
    assert account.wrong == []
    account = from_irc(
        [*words[:1], says(THIRD)], [], handed(says(THIRD)), arrived((THIRD, 1)), people=PEOPLE, relay="relay"
    )
    assert account.wrong == [f"{FIRST} was said while the bridge was there, and it was not given"]


def test_what_is_said_beyond_a_netsplit_is_counted_apart_and_must_not_come_through_it() -> None:
    account = from_irc([], [says(FIRST)], [], [], people=PEOPLE, relay="relay")
    assert (account.fates, account.wrong) == ({"said beyond a netsplit": 1}, [])
    account = from_irc([], [says(FIRST)], [], arrived((FIRST, 1)), people=PEOPLE, relay="relay")
    assert account.wrong == [
        f"{FIRST} was said beyond a netsplit and came through it",
        f"{FIRST} was never said",
    ]


def test_a_message_from_matrix_without_a_word_or_with_the_wrong_one_is_found() -> None:
    told = {
        FIRST: Told("SUCCESS", ""),
        SECOND: Told("FAIL_PERMANENT", "because"),
        THIRD: Told("FAIL_RETRIABLE", "perhaps"),
    }
    assert from_matrix([FIRST, SECOND, THIRD], told, [[FIRST], []]).wrong == []
    assert from_matrix([FIRST], told, [[], []]).wrong == [f"{FIRST}: {told[FIRST]}, heard [0, 0] times"]
    assert from_matrix([SECOND], told, [[], [SECOND]]).wrong == [
        f"{SECOND}: {told[SECOND]}, heard [0, 1] times"
    ]
    assert from_matrix([FIRST], {}, [[FIRST], [FIRST]]).fates == {"unexplained": 1}
    assert from_matrix([FIRST], {FIRST: Told("FAIL_PERMANENT", "")}, [[], []]).fates == {"unexplained": 1}


def test_what_is_shown_before_a_reader_is_seen_again_was_read_unseen() -> None:
    """Said at 4000, ann is back at 5000: it may be shown then, and not before."""
    names = [line(":s 353 relay = #storm :@relay ann!a@h"), line(":s 366 relay #storm :End")]
    told = handed(*names, moves("ann", "QUIT"), says(FIRST), moves("ann", "JOIN"))
    assert read_unseen(told, arrived((FIRST, 5000)), {"ann"}, PEOPLE) == ([], 1)
    assert read_unseen(told, arrived((FIRST, 4999)), {"ann"}, PEOPLE) == (
        [f"{FIRST} was shown 1 ms before ann was seen"],
        1,
    )
    assert read_unseen(told[:-1], arrived((FIRST, 9000)), {"ann"}, PEOPLE) == (
        [f"{FIRST} was shown and ann was never seen again"],
        1,
    )
    assert read_unseen(told[:-1], [], {"ann"}, PEOPLE) == ([], 1)


def test_nobody_counts_as_seen_on_a_new_connection_before_the_names_were_told() -> None:
    again = [
        *handed(says(FIRST), connection=2),
        *handed(line(":s 353 relay = #storm :@relay ann!a@h"), connection=2, at=2000),
        *handed(line(":s 366 relay #storm :End"), connection=2, at=3000),
    ]
    assert read_unseen(again, arrived((FIRST, 3000)), {"ann"}, PEOPLE) == ([], 1)
    assert read_unseen(again, arrived((FIRST, 2999)), {"ann"}, PEOPLE)[0] != []


def test_what_stands_behind_a_later_one_of_the_same_speaker_is_late() -> None:
    assert late([FIRST, THIRD, SECOND, "s02-000001"]) == [SECOND]
