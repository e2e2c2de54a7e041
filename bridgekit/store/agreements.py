"""Repositories of what people have agreed to: consents, open questions, opt-outs; and of what waits for them."""

from __future__ import annotations

from collections.abc import Iterable

from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.core.direct import Block
from bridgekit.core.gate import Cause, Held
from bridgekit.core.model import Downgrade, Toward
from bridgekit.core.optout import OptOut
from bridgekit.core.protection import Agreement, AgreementScope
from bridgekit.core.questions import Ask
from bridgekit.core.scopes import Consent, Scope
from bridgekit.core.shield import Nod
from bridgekit.store.driver import Reader
from bridgekit.store.statements import Table, Write, delete, storable, upsert
from bridgekit.store.tables import AGREEMENTS, ASKS, BLOCKS, CONSENTS, HELD, NODS, OPTOUTS

_CONSENT_PUT = upsert(CONSENTS)
_CONSENT_REMOVE = delete(CONSENTS)
_AGREEMENT_PUT = upsert(AGREEMENTS)
_ASK_PUT = upsert(ASKS)
_ASK_REMOVE = delete(ASKS)
_OPTOUT_PUT = upsert(OPTOUTS)
_OPTOUT_REMOVE = delete(OPTOUTS, keys=3)
_BLOCK_PUT = upsert(BLOCKS)
_BLOCK_REMOVE = delete(BLOCKS, keys=3)
_NOD_PUT = upsert(NODS)
_NOD_REMOVE = delete(NODS, keys=3)
_HELD_PUT = upsert(HELD)
_HELD_REMOVE = delete(HELD)

_SCOPES = {scope.value: scope for scope in Scope}


def _select(on: Table, order: str) -> str:
    return f"SELECT {', '.join(column.name for column in on.columns)} FROM {on.name} ORDER BY {order}"


def _written(scopes: Iterable[Scope]) -> str:
    return " ".join(sorted(scopes))


def _read(scopes: str) -> frozenset[Scope]:
    """A scope that this version does not know grants nothing."""
    return frozenset(_SCOPES[word] for word in scopes.split() if word in _SCOPES)


class Consents:
    """Every answer that an operator ever gave: those that ended stay, for who asks later."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, consent: Consent) -> Write:
        """Add the consent, or replace the one with the same id. It is for a chat that everybody shares."""
        return Write(
            _CONSENT_PUT,
            (
                consent.id,
                consent.side.network,
                consent.side.chat,
                _written(consent.scopes),
                storable(consent.person),
                storable(consent.name),
                storable(consent.account),
                consent.at,
                storable(consent.wording),
                consent.lost,
                consent.until,
                consent.ended,
                storable(consent.ended_by),
                int(consent.granted),
                int(consent.by_matrix),
            ),
        )

    def erase(self, id: int) -> Write:
        """Forget the consent altogether: its operator wants to be erased."""
        return Write(_CONSENT_REMOVE, (id,))

    async def all(self) -> list[Consent]:
        """Every consent, by id."""
        return [
            Consent(
                id=id,
                side=PortalKey(NetworkId(network), ChatId(chat)),
                scopes=_read(scopes),
                person=PersonId(person),
                name=name,
                account=account,
                at=at,
                wording=wording,
                lost=lost,
                until=until,
                ended=ended,
                ended_by=ended_by,
                granted=bool(granted),
                by_matrix=bool(by_matrix),
            )
            for (
                id, network, chat, scopes, person, name, account, at, wording, lost, until, ended, ended_by, granted,
                by_matrix
            ) in await self._reader.fetch(_select(CONSENTS, "id"))
        ]  # fmt: skip


class Agreements:
    """What rooms' admins agreed to lose on the way to a link: those that ended stay, for who asks later."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, agreement: Agreement) -> Write:
        """Add the agreement, or replace the one with the same id."""
        return Write(
            _AGREEMENT_PUT,
            (
                agreement.id,
                agreement.room,
                agreement.side.network,
                agreement.side.chat,
                agreement.side.receiver or "",
                agreement.person,
                agreement.at,
                storable(agreement.wording),
                agreement.ended,
                storable(agreement.ended_by),
                agreement.to.toward,
                int(agreement.to.least),
                agreement.scope,
            ),
        )

    async def all(self) -> list[Agreement]:
        """Every agreement, by id."""
        return [
            Agreement(
                id=id,
                room=room,
                side=PortalKey(NetworkId(network), ChatId(chat), LoginId(receiver) if receiver else None),
                person=PersonId(person),
                at=at,
                wording=wording,
                to=Downgrade(toward=Toward(toward), least=Protection(least)),
                ended=ended,
                ended_by=ended_by,
                scope=AgreementScope(scope),
            )
            for (
                id, room, network, chat, receiver, person, at, wording, ended, ended_by, toward, least, scope
            ) in await self._reader.fetch(_select(AGREEMENTS, "id"))
        ]  # fmt: skip


class Asks:
    """Questions that wait for their answer."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, ask: Ask) -> Write:
        """Add the question, or replace the one with the same id."""
        return Write(
            _ASK_PUT,
            (
                ask.id,
                ask.side.network,
                ask.side.chat,
                storable(ask.person),
                storable(ask.name),
                storable(ask.account),
                _written(ask.scopes),
                ask.digest,
                storable(ask.wording),
                ask.at,
                ask.expires,
            ),
        )

    def remove(self, id: int) -> Write:
        """Forget the question."""
        return Write(_ASK_REMOVE, (id,))

    async def all(self) -> list[Ask]:
        """Every question, by id."""
        return [
            Ask(
                id=id,
                side=PortalKey(NetworkId(network), ChatId(chat)),
                person=PersonId(person),
                name=name,
                account=account,
                scopes=_read(scopes),
                digest=digest,
                wording=wording,
                at=at,
                expires=expires,
            )
            for (
                id, network, chat, person, name, account, scopes, digest, wording, at, expires
            ) in await self._reader.fetch(_select(ASKS, "id"))
        ]  # fmt: skip


class OptOuts:
    """Who does not want to be bridged."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, row: OptOut) -> Write:
        """Add somebody."""
        return Write(_OPTOUT_PUT, (row.network, storable(row.person), storable(row.account), row.at))

    def remove(self, row: OptOut) -> Write:
        """Somebody has thought better of it."""
        return Write(_OPTOUT_REMOVE, (row.network, storable(row.person), storable(row.account)))

    async def all(self) -> list[OptOut]:
        """Everybody, by network, person and account."""
        return [
            OptOut(network=NetworkId(network), person=PersonId(person), account=account, at=at)
            for network, person, account, at in await self._reader.fetch(
                _select(OPTOUTS, "network, person, account")
            )
        ]


class Blocks:
    """Who does not take private messages, of nobody or of somebody."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, row: Block) -> Write:
        """Add a wish."""
        return Write(
            _BLOCK_PUT,
            (row.network, storable(row.person), storable(row.owner), storable(row.account), row.at),
        )

    def remove(self, row: Block) -> Write:
        """It is taken back."""
        return Write(_BLOCK_REMOVE, (row.network, storable(row.person), storable(row.owner)))

    async def all(self) -> list[Block]:
        """Every wish, by network and person."""
        return [
            Block(
                network=NetworkId(network),
                person=PersonId(person),
                owner=PersonId(owner),
                account=account,
                at=at,
            )
            for network, person, owner, account, at in await self._reader.fetch(
                _select(BLOCKS, "network, person, owner")
            )
        ]


class Nods:
    """Strangers whom an operator has let in, or does not want."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, nod: Nod) -> Write:
        """Add what was decided, or replace what was decided before. It is for a chat that everybody shares."""
        return Write(
            _NOD_PUT,
            (
                nod.side.network,
                nod.side.chat,
                storable(nod.person),
                storable(nod.name),
                int(nod.accepted),
                storable(nod.by),
                nod.at,
            ),
        )

    def remove(self, nod: Nod) -> Write:
        """It holds no more."""
        return Write(_NOD_REMOVE, (nod.side.network, nod.side.chat, storable(nod.person)))

    async def all(self) -> list[Nod]:
        """Everything that was decided, by chat and person."""
        return [
            Nod(
                side=PortalKey(NetworkId(network), ChatId(chat)),
                person=PersonId(person),
                name=name,
                accepted=bool(accepted),
                by=by,
                at=at,
            )
            for network, chat, person, name, accepted, by, at in await self._reader.fetch(
                _select(NODS, "network, chat, person")
            )
        ]


class Waiting:
    """Which facts of the inbox are held back, since when and why. The facts themselves are in the inbox."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, row: Held) -> Write:
        """Add what waits, or replace why it waits."""
        return Write(
            _HELD_PUT,
            (
                row.number,
                row.link.network,
                row.link.chat,
                row.link.receiver or "",
                storable(row.person),
                row.cause,
                storable(row.why),
                row.since,
            ),
        )

    def remove(self, number: int) -> Write:
        """It waits no more; commit it together with what becomes of its fact."""
        return Write(_HELD_REMOVE, (number,))

    async def all(self) -> list[Held]:
        """All that waits, in the order in which it came."""
        return [
            Held(
                number=number,
                link=PortalKey(network, chat, receiver or None),
                person=PersonId(person),
                cause=Cause(cause),
                why=why,
                since=since,
            )
            for number, network, chat, receiver, person, cause, why, since in await self._reader.fetch(
                _select(HELD, "number")
            )
        ]
