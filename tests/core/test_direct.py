"""Private conversations: what each policy refuses, and what `!block` says, to whom and for whom."""

from __future__ import annotations

import pytest

from bridgekit.contract.facts import Change, Membership, Message, Profile
from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from bridgekit.core.direct import Answered, Block, Blocks, BlockWord, Direct, block_in, refusal

TOWN = NetworkId("town")
ALICE, CAROL, ANYBODY = PersonId("@alice:hs.test"), PersonId("@carol:hs.test"), PersonId("")
BOB = Person(id=PersonId("bob"), name="Bob")


def words(text: str, kind: Kind = Kind.TEXT) -> Content:
    return Content(text=plain(text), kind=kind)


def whispers(
    text: str, sender: Person = BOB, *, replayed: bool = False, own: LoginId | None = None
) -> Message:
    return Message(
        chat=ChatId("dm:bob"),
        at=5,
        private=True,
        sender=sender,
        id=MessageId("1"),
        content=words(text),
        replayed=replayed,
        own=own,
    )


def row(owner: PersonId, person: str = "bob", account: str = "") -> Block:
    return Block(network=TOWN, person=PersonId(person), account=account, owner=owner, at=7)


def said(blocks: Blocks, text: str, to: PersonId = ALICE, sender: Person = BOB) -> Answered:
    heard = blocks.hear(TOWN, whispers(text, sender), to, 7)
    assert heard is not None
    return heard


@pytest.mark.parametrize(
    ("policy", "known", "refused"),
    [
        (Direct.KNOWN, True, False),
        (Direct.KNOWN, False, True),
        (Direct.ANYONE, True, False),
        (Direct.ANYONE, False, False),
        (Direct.OFF, True, True),
        (Direct.OFF, False, True),
    ],
)
def test_what_each_policy_refuses(policy: Direct, known: bool, refused: bool) -> None:
    assert bool(refusal(policy, known=known, name="Bob", label="Town")) is refused


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("!block", BlockWord(True)),
        ("!Block", BlockWord(True)),
        (" !unblock ", BlockWord(False)),
        ("!block all", BlockWord(True, "all")),
        ("!unblock ALL", BlockWord(False, "all")),
        ("!block @alice:hs.test", BlockWord(True, "@alice:hs.test")),
        ("!block bob", None),
        ("!block @alice", None),
        ("!block me up", None),
        ("say !block", None),
        ("block", None),
        ("", None),
        ("!block @" + "a" * 300 + ":hs.test", None),
    ],
)
def test_which_words_are_the_command(text: str, word: BlockWord | None) -> None:
    assert block_in(words(text)) == word


def test_a_machine_gives_no_command() -> None:
    assert block_in(words("!block", Kind.NOTICE)) is None
    blocks = Blocks()
    bot = Person(id=PersonId("b"), name="b", bot=True)
    assert blocks.hear(TOWN, whispers("!block", bot), ALICE, 7) is None
    assert blocks.hear(TOWN, whispers("!block", replayed=True), ALICE, 7) is None
    assert blocks.hear(TOWN, whispers("!block", own=LoginId("town/@alice:hs.test")), ALICE, 7) is None


def test_said_to_somebody_it_is_for_them_alone() -> None:
    blocks = Blocks()
    assert said(blocks, "!block").put == row(ALICE)
    assert blocks.covers(TOWN, BOB, ALICE)
    assert not blocks.covers(TOWN, BOB, CAROL)
    assert not blocks.covers(NetworkId("other"), BOB, ALICE)


def test_said_to_the_bridge_it_is_for_everybody() -> None:
    blocks = Blocks()
    assert said(blocks, "!block", ANYBODY).put == row(ANYBODY)
    assert blocks.covers(TOWN, BOB, ALICE)
    assert blocks.covers(TOWN, BOB, CAROL)


def test_to_block_twice_changes_nothing() -> None:
    blocks = Blocks([row(ALICE)])
    again = said(blocks, "!block")
    assert again.put is None
    assert again.words == (
        "@alice:hs.test cannot write to you in private by this bridge. Say !unblock @alice:hs.test, in private, to "
        "change that."
    )


def test_who_is_blocked_with_everybody_is_not_let_in_alone() -> None:
    blocks = Blocks([row(ANYBODY)])
    kept = said(blocks, "!unblock")
    assert kept.remove == ()
    assert kept.words == (
        "Nobody on Matrix can write to you in private by this bridge. Say !unblock all, in private, to change that."
    )
    assert blocks.covers(TOWN, BOB, ALICE)


def test_all_is_taken_back_at_once() -> None:
    blocks = Blocks([row(ANYBODY), row(ALICE)])
    assert set(said(blocks, "!unblock all").remove) == {row(ANYBODY), row(ALICE)}
    assert not blocks.covers(TOWN, BOB, ALICE)
    assert said(blocks, "!unblock all").remove == ()


def test_one_is_taken_back_and_the_other_stays() -> None:
    blocks = Blocks([row(ALICE), row(CAROL)])
    assert said(blocks, "!unblock @carol:hs.test").remove == (row(CAROL),)
    assert blocks.covers(TOWN, BOB, ALICE)
    assert not blocks.covers(TOWN, BOB, CAROL)


def test_an_account_blocks_under_every_name_and_takes_it_back_under_every_name() -> None:
    signed_in = Person(id=PersonId("bob"), name="Bob", account="robert")
    renamed = Person(id=PersonId("rob"), name="Rob", account="robert")
    blocks = Blocks()
    assert said(blocks, "!block", sender=signed_in).put == row(ALICE, account="robert")
    assert blocks.covers(TOWN, renamed, ALICE)
    assert said(blocks, "!unblock", sender=renamed).remove == (row(ALICE, account="robert"),)
    assert not blocks.covers(TOWN, renamed, ALICE)


def test_who_has_only_the_name_takes_nothing_back_of_an_account() -> None:
    blocks = Blocks([row(ALICE, account="robert")])
    assert said(blocks, "!unblock").remove == ()
    assert blocks.covers(TOWN, BOB, ALICE)


SIGNED_IN = Person(id=BOB.id, name="Bob", account="robert")
ELSEWHERE = Person(id=PersonId("rob"), name="rob", account="robert")
HERE = ChatId("#here")


def signs_in(person: Person = SIGNED_IN) -> Profile:
    return Profile(chat=HERE, at=8, person=person)


def in_sight(network: NetworkId, person: PersonId) -> bool:
    return True


def nowhere(network: NetworkId, person: PersonId) -> bool:
    return False


def test_who_blocks_somebody_and_then_signs_in_is_not_written_to_wherever_the_account_is_used() -> None:
    blocks = Blocks()
    said(blocks, "!block")
    [(person, bound)] = blocks.learn(TOWN, signs_in(), in_sight)
    assert person == SIGNED_IN
    assert bound.put == row(ALICE, account="robert")
    assert "wherever this account is used" in bound.words
    assert blocks.covers(TOWN, ELSEWHERE, ALICE)
    assert not blocks.covers(TOWN, ELSEWHERE, CAROL)
    assert blocks.learn(TOWN, signs_in(), in_sight) == []
    assert said(blocks, "!unblock", sender=ELSEWHERE).remove == (row(ALICE, account="robert"),)
    assert not blocks.covers(TOWN, SIGNED_IN, ALICE)


def test_who_says_so_again_signed_in_is_not_written_to_wherever_the_account_is_used() -> None:
    blocks = Blocks([row(ALICE)])
    assert said(blocks, "!block", sender=SIGNED_IN).put == row(ALICE, account="robert")
    assert blocks.covers(TOWN, ELSEWHERE, ALICE)
    assert said(blocks, "!block", sender=SIGNED_IN).put is None


def test_all_that_somebody_blocks_is_bound() -> None:
    blocks = Blocks([row(ALICE), row(CAROL)])
    namesake = Person(id=BOB.id, name="Bob", account="Bob")
    bound = blocks.learn(TOWN, signs_in(namesake), nowhere)  # of that very name: also after a restart
    assert [answered.put for _, answered in bound] == [row(ALICE, account="Bob"), row(CAROL, account="Bob")]


@pytest.mark.parametrize("gone", [True, False])
def test_who_takes_the_name_of_somebody_who_went_blocks_nobody_with_their_own_account(gone: bool) -> None:
    """The name alone cannot be written to, as before; whoever bears it now is somebody else elsewhere."""
    blocks = Blocks()
    said(blocks, "!block")
    if gone:
        blocks.learn(TOWN, Membership(chat=HERE, at=8, person=BOB, change=Change.LEAVE), nowhere)
    else:
        blocks.lost(TOWN)
    assert blocks.learn(TOWN, signs_in(), in_sight) == []
    assert not blocks.covers(TOWN, ELSEWHERE, ALICE)
    assert blocks.covers(TOWN, BOB, ALICE)


def test_who_is_erased_is_forgotten() -> None:
    blocks = Blocks([row(ALICE), row(ALICE, "ann")])
    assert blocks.forget(TOWN, PersonId("bob")) == (row(ALICE),)
    assert not blocks.covers(TOWN, BOB, ALICE)
