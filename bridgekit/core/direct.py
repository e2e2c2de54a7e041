"""Private conversations: between whom they may begin, and who blocks whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.core import wording
from bridgekit.core.bearers import Bearers, InSight, is_namesake, seen_with


class Direct(StrEnum):
    """Between whom private conversations may begin, from either side. Those that have begun go on."""

    KNOWN = "known"  # who share a linked chat, or have talked before
    ANYONE = "anyone"
    OFF = "off"  # between nobody, and those that have begun are closed


WITH_WHOM = {
    Direct.KNOWN: "with people of linked chats",
    Direct.ANYONE: "with anybody",
    Direct.OFF: "with nobody",
}
"""Each policy, for people who ask what a network allows."""


def refusal(policy: Direct, *, known: bool, name: str, label: str) -> str:
    """Why a Matrix user may not write to `name`, of whom they may be `known`; "" where they may."""
    match policy:
        case Direct.OFF:
            return wording.no_conversations(label)
        case Direct.KNOWN if not known:
            return wording.is_a_stranger(name, label)
        case _:
            return ""


# Blocks ---------------------------------------------------------------------------------------------------------


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody to whom `owner` (a Matrix user; "" is everybody there) may not write, since `at` (ms).

    With an account it is the account's wish, wherever it is used.
    """

    network: NetworkId
    person: PersonId
    account: str = ""
    owner: PersonId
    at: int


class BlockWord(msgspec.Struct, frozen=True):
    """`!block` or `!unblock`. `whom` is a Matrix user, `EVERYBODY`, or "": whoever the word is said to."""

    blocks: bool
    whom: str = ""


EVERYBODY = "all"
_WORDS = {"!block": True, "!unblock": False}


def block_in(content: Content) -> BlockWord | None:
    """The command in a message, and nothing else in it: `!block`, `!block all`, `!block @somebody:example.org`."""
    body = content.text.body
    if content.kind is not Kind.TEXT or len(body) > 300:
        return None
    match body.split():
        case [word] if word.lower() in _WORDS:
            return BlockWord(_WORDS[word.lower()])
        case [word, whom] if word.lower() in _WORDS and whom.lower() == EVERYBODY:
            return BlockWord(_WORDS[word.lower()], EVERYBODY)
        case [word, whom] if word.lower() in _WORDS and whom.startswith("@") and ":" in whom:
            return BlockWord(_WORDS[word.lower()], whom)
        case _:
            return None


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a command: an answer, and rows to write or remove."""

    words: str
    put: Block | None = None
    remove: tuple[Block, ...] = ()


class Blocks:
    """Who is written to by nobody on Matrix, or not by somebody there; on all networks."""

    def __init__(self, rows: Iterable[Block] = ()) -> None:
        self._people: dict[tuple[NetworkId, PersonId, PersonId], Block] = {}
        self._accounts: dict[tuple[NetworkId, str, PersonId], Block] = {}
        self._unbound: dict[
            tuple[NetworkId, PersonId], set[PersonId]
        ] = {}  # owners, where no account is known
        self._bearers = Bearers()
        for row in rows:
            self._add(row)

    def _add(self, row: Block) -> None:
        self._people[row.network, row.person, row.owner] = row
        if row.account:
            self._accounts[row.network, row.account, row.owner] = row
            self._bind(row)
        else:
            self._unbound.setdefault((row.network, row.person), set()).add(row.owner)

    def _drop(self, rows: Iterable[Block]) -> None:
        for row in rows:
            self._people.pop((row.network, row.person, row.owner), None)
            self._accounts.pop((row.network, row.account, row.owner), None)
            self._bind(row)

    def _bind(self, row: Block) -> None:
        owners = self._unbound.get((row.network, row.person), set())
        owners.discard(row.owner)
        if not owners:
            self._unbound.pop((row.network, row.person), None)

    def covers(self, network: NetworkId, person: Person, owner: PersonId) -> bool:
        """Whether `owner` may not write to the person: under this id, or with this account."""
        account = person.account or ""
        return any(
            (network, person.id, whom) in self._people
            or (bool(account) and (network, account, whom) in self._accounts)
            for whom in (owner, PersonId(""))
        )

    def hear(self, network: NetworkId, said: facts.Message, to: PersonId, now: int) -> Answered | None:
        """What follows where that is one of the words, said in private to a Matrix user's account or ("") to the
        bridge itself; None where it is not."""
        if said.replayed or said.own is not None or said.sender.bot:
            return None
        word = block_in(said.content)
        if word is None:
            return None
        whom = PersonId("" if word.whom == EVERYBODY else word.whom or to)
        sender = said.sender
        mine = {row.owner: row for row in self._mine(network, sender)}
        if word.blocks:
            known = mine.get(whom) or mine.get(PersonId(""))
            if known is not None and (known.account or not sender.account):
                return Answered(words=wording.blocked_already(known.owner))
            to_block = whom if known is None else known.owner
            row = Block(
                network=network, person=sender.id, account=sender.account or "", owner=to_block, at=now
            )
            self._add(row)
            self._bearers.gave(network, sender.id)
            words = wording.blocked(whom) if known is None else wording.blocked_with_account(known.owner)
            return Answered(words=words, put=row)
        if whom and "" in mine:
            return Answered(words=wording.blocked_already(""))
        gone = tuple(row for row in mine.values() if not whom or row.owner == whom)
        self._drop(gone)
        return Answered(words=wording.unblocked(whom) if gone else wording.NOT_BLOCKED, remove=gone)

    def learn(self, network: NetworkId, fact: Fact, in_sight: InSight) -> list[tuple[Person, Answered]]:
        """What a fact tells of the accounts of those who block somebody without one: whoever signs in under the eyes of
        the bridge, or comes back with the account of that very name, takes their wish along to other names.

        `in_sight` is how it is after the fact.
        """
        self._bearers.hear(network, fact, in_sight)
        return [
            (person, answered)
            for person in (seen_with(fact) if self._unbound else ())
            if person.account
            for answered in self._bound(network, person, person.account, in_sight)
        ]

    def _bound(
        self, network: NetworkId, person: Person, account: str, in_sight: InSight
    ) -> Iterator[Answered]:
        owners = self._unbound.get((network, person.id))
        if not owners:
            return
        same = self._bearers.is_same(network, person.id) and in_sight(network, person.id)
        if not same and not is_namesake(account, person.id):
            return
        for owner in sorted(owners):
            row = msgspec.structs.replace(self._people[network, person.id, owner], account=account)
            self._add(row)
            yield Answered(words=wording.blocked_with_account(owner), put=row)

    def lost(self, network: NetworkId) -> None:
        """The connection to a network is gone: nobody is in sight."""
        self._bearers.lost(network)

    def forget(self, network: NetworkId, person: PersonId) -> tuple[Block, ...]:
        """Somebody is erased: the rows that were theirs."""
        gone = tuple(r for r in self._people.values() if (r.network, r.person) == (network, person))
        self._drop(gone)
        return gone

    def _mine(self, network: NetworkId, person: Person) -> list[Block]:
        """What the person may take back: an account's wish takes that account, not just its name."""
        account = person.account or ""
        return [
            row
            for row in self._people.values()
            if row.network == network and (row.account == account if row.account else row.person == person.id)
        ]
