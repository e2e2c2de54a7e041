"""Opting out: people of a network whose words stay there, and what the others see instead."""

from __future__ import annotations

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
from bridgekit.core.model import NOTHING, RELAY, Action, Context, Plan


class Omission(StrEnum):
    """What stands where a message was left out."""

    NOTICE = "notice"
    NOTHING = "nothing"


class OptOut(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who opted out at `at` (ms). With an account it is the account's wish, wherever it is used."""

    network: NetworkId
    person: PersonId
    account: str = ""
    at: int


class OptOuts:
    """Who has opted out, on all networks."""

    def __init__(self, rows: Iterable[OptOut] = ()) -> None:
        self._people: dict[tuple[NetworkId, PersonId], OptOut] = {}
        self._accounts: dict[tuple[NetworkId, str], OptOut] = {}
        for row in rows:
            self.add(row)

    def add(self, row: OptOut) -> None:
        """Somebody has opted out, or is to be treated so."""
        self._people[row.network, row.person] = row
        if row.account:
            self._accounts[row.network, row.account] = row

    def covers(self, network: NetworkId, person: Person) -> bool:
        """Whether the person opted out: under this id, or with this account."""
        if (network, person.id) in self._people:
            return True
        return bool(person.account) and (network, person.account or "") in self._accounts

    def hear(self, network: NetworkId, fact: Fact, now: int) -> Heard | None:
        """`!optout` or `!optin`, said in a chat or in private; None where it is neither."""
        if not isinstance(fact, facts.Message) or fact.replayed or fact.own is not None or fact.sender.bot:
            return None
        sender = fact.sender
        match word_in(fact.content):
            case Word.OPTOUT:
                if self.covers(network, sender):
                    return Heard(words=wording.ALREADY_OUT)
                row = OptOut(network=network, person=sender.id, account=sender.account or "", at=now)
                self.add(row)
                return Heard(words=wording.OPTED_OUT, put=row)
            case Word.OPTIN:
                mine = self._mine(network, sender)
                if not mine:
                    out = self.covers(network, sender)
                    return Heard(words=wording.OUT_WITH_ACCOUNT if out else wording.ALREADY_IN)
                for row in mine:
                    del self._people[row.network, row.person]
                    self._accounts.pop((row.network, row.account), None)
                return Heard(words=wording.OPTED_IN, remove=tuple(mine))
            case _:
                return None

    def _mine(self, network: NetworkId, person: Person) -> list[OptOut]:
        """What the person may take back: an account's wish takes that account, not just its name."""
        account = person.account or ""
        return [
            row
            for row in self._people.values()
            if row.network == network and (row.account == account if row.account else row.person == person.id)
        ]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a command: an answer in private, and rows to write or remove. With `put`, the person's
    ghost leaves every room and is erased."""

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
