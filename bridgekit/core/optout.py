"""Opting out: people of a network whose words stay there, and what the others see instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from bridgekit.contract import facts, verbs
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, NetworkId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from bridgekit.core import wording
from bridgekit.core.answers import Word, word_in
from bridgekit.core.bearers import Bearers, InSight, is_namesake, seen_with
from bridgekit.core.model import NOTHING, RELAY, Action, Context, Plan


class Omission(StrEnum):
    """What stands where a message was left out."""

    NOTICE = "notice"
    NOTHING = "nothing"


class OptOut(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to be left out, since `at` (ms): of whoever has this id, or, with an account, of that account wherever it
    is used; then the id, which somebody else may bear one day, counts only while nothing denies that it is them."""

    network: NetworkId
    person: PersonId
    account: str = ""
    at: int


class OptOuts:
    """Who has opted out, on all networks."""

    def __init__(self, rows: Iterable[OptOut] = ()) -> None:
        self._names: dict[tuple[NetworkId, PersonId], dict[str, OptOut]] = {}  # by account
        self._accounts: Counter[tuple[NetworkId, str]] = Counter()
        self._bearers = Bearers()
        for row in rows:
            self.add(row)

    def add(self, row: OptOut) -> None:
        """Somebody has opted out, or is to be treated so."""
        rows = self._names.setdefault((row.network, row.person), {})
        if row.account not in rows:
            self._accounts[row.network, row.account] += 1
        rows[row.account] = row

    def _drop(self, row: OptOut) -> None:
        rows = self._names[row.network, row.person]
        del rows[row.account]
        if not rows:
            del self._names[row.network, row.person]
        self._accounts[row.network, row.account] -= 1

    def covers(self, network: NetworkId, person: Person) -> bool:
        """Whether the person opted out: with this account, or under this id, which another account may deny."""
        if person.account and self._accounts[network, person.account]:
            return True
        rows = self._names.get((network, person.id))
        if not rows:
            return False
        return not person.account or "" in rows or self._bearers.is_same(network, person.id)

    def hear(self, network: NetworkId, fact: Fact, now: int) -> Heard | None:
        """`!optout` or `!optin`, said in a chat or in private; None where it is neither."""
        if not isinstance(fact, facts.Message) or fact.replayed or fact.own is not None or fact.sender.bot:
            return None
        sender = fact.sender
        match word_in(fact.content):
            case Word.OPTOUT:
                return self._out(network, sender, now)
            case Word.OPTIN:
                mine = self._mine(network, sender)
                if not mine:
                    out = self.covers(network, sender)
                    return Heard(words=wording.OUT_WITH_ACCOUNT if out else wording.ALREADY_IN)
                for row in mine:
                    self._drop(row)
                self._bearers.took_back(network, sender.id)
                return Heard(words=wording.OPTED_IN, remove=tuple(mine))
            case _:
                return None

    def _out(self, network: NetworkId, sender: Person, now: int) -> Heard:
        account, out = sender.account or "", self.covers(network, sender)
        if out and (not account or self._accounts[network, account]):
            return Heard(words=wording.ALREADY_OUT)
        row = OptOut(network=network, person=sender.id, account=account, at=now)
        self.add(row)
        self._bearers.gave(network, sender.id)
        return Heard(words=wording.ALREADY_OUT if out else wording.OPTED_OUT, put=row)

    def learn(self, network: NetworkId, fact: Fact, in_sight: InSight) -> list[tuple[Person, Heard]]:
        """What a fact tells of the accounts of those who have opted out: whoever signs in under the eyes of the bridge,
        or comes back with the account of that very name, takes their wish along to other names.

        `in_sight` is how it is after the fact. Whoever went may come back as somebody else.
        """
        self._bearers.hear(network, fact, in_sight)
        return [
            (person, heard)
            for person in seen_with(fact)
            if person.account and (heard := self._bound(network, person, person.account, in_sight))
        ]

    def _bound(self, network: NetworkId, person: Person, account: str, in_sight: InSight) -> Heard | None:
        rows = self._names.get((network, person.id))
        if not rows or account in rows:
            return None
        named = rows.get("")
        same = self._bearers.is_same(network, person.id) and in_sight(network, person.id)
        if not same and (named is None or not is_namesake(account, person.id)):
            return None
        row = msgspec.structs.replace(named or next(iter(rows.values())), account=account)
        if named is not None:
            self._drop(named)
        self.add(row)
        return Heard(
            words=wording.OUT_WITH_THIS_ACCOUNT, put=row, remove=(named,) if named is not None else ()
        )

    def lost(self, network: NetworkId) -> None:
        """The connection to a network is gone: nobody is in sight."""
        self._bearers.lost(network)

    def _mine(self, network: NetworkId, person: Person) -> list[OptOut]:
        """What the person may take back: an account's wish takes that account, not just its name."""
        account = person.account or ""
        return [
            row
            for rows in self._names.values()
            for row in rows.values()
            if row.network == network and (row.account == account if row.account else row.person == person.id)
        ]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a command, or from what was learned: an answer in private, and rows to remove and to write.
    With `put`, the person's ghost leaves every room and is erased."""

    words: str
    put: OptOut | None = None
    remove: tuple[OptOut, ...] = ()


Covers = Callable[[NetworkId, Person], bool]


def omitted(context: Context, fact: Fact, covers: Covers, omission: Omission) -> Plan | None:
    """The plan for what somebody did who opted out; None where it is to be planned as ever.

    Words are replaced by a notice of the bridge's own on every other open side (or by nothing, where the admin
    wants that), everything else stays on its side. No ghost ever acts, so none is made. Whoever keeps words for
    quotes has to forget these.
    """
    network = context.origin.network
    if network == MATRIX:
        return None
    if isinstance(fact, facts.Message) and word_in(fact.content) in (Word.OPTOUT, Word.OPTIN):
        return NOTHING  # words for the bridge
    who = _doer(fact)
    if who is None or not (covers(network, who) or _is_unspoken(fact)):
        return None
    if isinstance(fact, facts.Membership) and fact.change in (
        facts.Change.LEAVE,
        facts.Change.KICK,
        facts.Change.BAN,
    ):
        return None  # a ghost from before goes
    if not isinstance(fact, facts.Message) or omission is Omission.NOTHING:
        return NOTHING
    actions = [
        Action(
            side=side.key,
            actor="" if side.key.network == MATRIX else RELAY,
            verb=verbs.PostMessage(
                chat=side.key.chat,
                content=Content(text=plain(wording.OMITTED), kind=Kind.NOTICE),
                key=f"{context.number:x}",
                at=fact.at,
            ),
        )
        for side in context.sides
        if side.key != context.origin and side.open
    ]
    return Plan(actions=tuple(actions), unsaid=True)


def unspoken(fact: Fact, network: NetworkId, covers: Covers) -> Fact:
    """What may be kept of a fact: of words of somebody who opted out nothing but that there were some, which stays so
    should they opt in again before it is planned."""
    if not isinstance(fact, facts.Message | facts.Edit) or not covers(network, fact.sender):
        return fact
    if isinstance(fact, facts.Message) and word_in(fact.content) in (Word.OPTOUT, Word.OPTIN):
        return fact
    nobody = Person(id=fact.sender.id, name="", account=fact.sender.account)
    return msgspec.structs.replace(fact, sender=nobody, content=Content())


def _is_unspoken(fact: Fact) -> bool:
    return isinstance(fact, facts.Message | facts.Edit) and fact.content == Content() and not fact.sender.name


def without(fact: Fact, network: NetworkId, covers: Covers) -> Fact:
    """A roster without those who opted out, and a topic that is nobody's where one of them set it; any other fact as it
    is."""
    if isinstance(fact, facts.Topic) and fact.actor is not None and covers(network, fact.actor):
        return msgspec.structs.replace(fact, actor=None)
    if not isinstance(fact, facts.Roster) or not any(covers(network, m.person) for m in fact.members):
        return fact
    members = tuple(m for m in fact.members if not covers(network, m.person))
    return msgspec.structs.replace(fact, members=members)


def _doer(fact: Fact) -> Person | None:
    """Whose doing it is. What a moderator does to others goes on, whoever that is."""
    match fact:
        case (
            facts.Message()
            | facts.Edit()
            | facts.Reaction()
            | facts.Unreaction()
            | facts.Typing()
            | facts.Receipt()
        ):
            return fact.sender
        case facts.Membership(actor=None) | facts.Profile() | facts.RoleChange():
            return fact.person
        case _:
            return None
