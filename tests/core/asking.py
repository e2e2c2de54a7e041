"""A consent desk on a bench: its chat, its operators and its clock are in the hands of a test."""

from collections.abc import Sequence
from typing import TypeVar

from bridgekit.contract import facts
from bridgekit.contract.facts import Change
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Member, Person, Role
from bridgekit.contract.text import plain
from bridgekit.core.answers import CODE_BYTES, code_of
from bridgekit.core.consent import Desk
from bridgekit.core.questions import (
    Ask,
    Decision,
    Keep,
    Note,
    Rules,
    Say,
    Throw,
)
from bridgekit.core.scopes import Consent, Scope

NETWORK = NetworkId("parrot")
CHAT = ChatId("#lobby")
SIDE = PortalKey(NETWORK, CHAT)
START = 1_700_000_000_000
OLGA = Person(id=PersonId("olga"), name="Olga", account="olga")
BOB = Person(id=PersonId("bob"), name="Bob", account="bob")
ANN = PersonId("@ann:example.org")
NOBODY = Person(id=PersonId("nat"), name="nat")
USUAL = Rules()
BOTH = frozenset({Scope.BRIDGE, Scope.MEDIA})

D = TypeVar("D")


class Dice:
    def __init__(self) -> None:
        self.thrown = 0

    def __call__(self) -> Throw:
        self.thrown += 1
        return Throw(self.thrown, code_of(self.thrown.to_bytes(CODE_BYTES, "big")))


class Bench:
    """A desk with one chat, and a clock to turn."""

    def __init__(self, rules: Rules = USUAL, operators: Sequence[Person] = (OLGA,)) -> None:
        self.now = START
        self.dice = Dice()
        self.desk = Desk(NETWORK, "Parrot", rules)
        self.open()
        self.roster(*operators)

    def open(
        self,
        consents: Sequence[Consent] = (),
        asks: Sequence[Ask] = (),
        members: Sequence[Person] | None = None,
    ) -> None:
        self.desk.open(
            SIDE,
            name="#lobby",
            room="!r:example.org",
            by="@ann:example.org",
            wanted=frozenset(),
            consents=consents,
            asks=asks,
            members=None if members is None else [Member(person=p, role=Role.MODERATOR) for p in members],
        )

    def hear(self, fact: facts.Fact, side: PortalKey = SIDE) -> list[Decision]:
        return self.desk.hear(side, fact, self.now, self.dice)

    def roster(self, *people: Person) -> list[Decision]:
        members = tuple(Member(person=p, role=Role.MODERATOR) for p in people)
        return self.hear(facts.Roster(chat=CHAT, at=self.now, members=members))

    def role(self, person: Person, role: Role) -> list[Decision]:
        return self.hear(facts.RoleChange(chat=CHAT, at=self.now, person=person, role=role))

    def leaves(self, person: Person) -> list[Decision]:
        return self.hear(facts.Membership(chat=CHAT, at=self.now, person=person, change=Change.LEAVE))

    def says(
        self, person: Person, words: str, *, private: bool = False, replayed: bool = False
    ) -> list[Decision]:
        chat = ChatId(person.id) if private else CHAT
        message = facts.Message(
            chat=chat,
            at=self.now,
            private=private,
            sender=person,
            id=MessageId(f"m{self.dice.thrown}"),
            content=Content(text=plain(words)),
            replayed=replayed,
        )
        return self.hear(message, PortalKey(NETWORK, chat))

    def want(self, *scopes: Scope) -> list[Decision]:
        return self.desk.want(SIDE, self.now, self.dice, frozenset(scopes) or BOTH)

    def after(self, ms: int) -> list[Decision]:
        self.now += ms
        return self.desk.tick(self.now, self.dice)

    def code(self) -> str:
        return code_of(self.dice.thrown.to_bytes(CODE_BYTES, "big"))

    def agreed(self) -> Consent:
        self.want()
        return only(Consent, kept(self.says(OLGA, f"{self.code()} yes", private=True)))

    @property
    def scopes(self) -> frozenset[Scope]:
        return self.desk.scopes(SIDE, self.now)


def of(kind: type[D], decisions: Sequence[object]) -> list[D]:
    return [d for d in decisions if isinstance(d, kind)]


def only(kind: type[D], decisions: Sequence[object]) -> D:
    (found,) = of(kind, decisions)
    return found


def kept(decisions: Sequence[Decision]) -> list[Consent | Ask]:
    return [d.what for d in decisions if isinstance(d, Keep)]


def said(decisions: Sequence[Decision]) -> list[str]:
    return [d.words for d in decisions if isinstance(d, Say)]


def events(decisions: Sequence[Decision]) -> list[str]:
    return [d.event for d in decisions if isinstance(d, Note)]
