"""Key packages of the clients hosted here: published for others, used up by Welcomes. Secrets pass through here.

A private half is forgotten when its package is used, or when no Welcome for it can be on its way any more: whoever
takes these keys later opens nothing with them (RFC 9420 16.8, on packages that are used again).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from bridgekit.contract.connector import Host
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.seats import Seats
from connectors.mimi.mls import KeyPackages, MemberEngine
from connectors.mimi.service.outbox import GIVE_UP
from connectors.mimi.service.provider import Provider
from connectors.mimi.service.shelf import LOW, Package
from connectors.mimi.wire.mls import KEY_PACKAGE, MLS_MESSAGE, KeyPackage
from connectors.mimi.wire.rooms import WelcomeFanout

PREFIX = "packages/"
TERMS = "package-terms/"
AT_ONCE = LOW + 5
GRACE = GIVE_UP // 1000
"""Seconds for which a Welcome may be on its way: a hub like ours gives up then."""
UNKNOWN = 84 * 24 * 3600
"""Seconds that a package may live of which an earlier version kept no term: its whole lifetime."""
LOOK = 3600.0


class Term(msgspec.Struct, frozen=True, array_like=True):
    """When a private half is to be forgotten (seconds since the epoch), and whether its package may be used again."""

    at: int
    last_resort: bool = False


class Packages:
    """Their private halves, by user."""

    def __init__(self, host: Host, engine: MemberEngine, seats: Seats) -> None:
        self._host = host
        self._engine = engine
        self._seats = seats
        self._kept: dict[str, KeyPackages] = {}
        self._records: dict[str, dict[str, bytes]] = {}
        self._terms: dict[str, dict[str, Term]] = {}
        self._worn: set[str] = set()  # whose last resort was used: it is replaced
        self._publishing = asyncio.Lock()

    async def load(self) -> None:
        """Take up what is stored."""
        for key, raw in (await self._host.items(PREFIX)).items():
            records = msgspec.msgpack.decode(raw, type=dict[str, bytes])
            user = key.removeprefix(PREFIX)
            self._records[user], self._kept[user] = records, self._engine.key_packages(records)
            stored = await self._host.get(f"{TERMS}{user}")
            terms = {} if stored is None else msgspec.msgpack.decode(stored, type=dict[str, Term])
            unknown = Term(int(self._host.now()) + UNKNOWN + GRACE)
            self._terms[user] = {
                name: terms.get(name, unknown) for name in map(bytes.hex, self._kept[user].references)
            }

    async def publish(self, user: str, provider: Provider) -> None:
        """Have enough of a user's on the shelf, with one for when the others are used up (RFC 9420 16.8)."""
        async with self._publishing:
            await self._publish(user, provider)

    async def refill(self, user: str, provider: Provider) -> None:
        """The same for who has some; who is gone meanwhile stays so."""
        async with self._publishing:
            if user in self._kept:
                await self._publish(user, provider)

    async def withdraw(self, user: str, provider: Provider) -> None:
        """Nobody is given any of a user's any more, and nothing of them is kept."""
        async with self._publishing:
            await provider.withdraw(user, self._forgotten(user))

    async def _publish(self, user: str, provider: Provider) -> None:
        client = self._seats.client(user)
        low = not provider.publishes(user) or client in provider.low(user)
        bare = user in self._worn or provider.lacks_last_resort(user, client)
        if not low and not bare:
            return
        identity = await self._seats.identity(user)
        kept = self._kept.setdefault(user, self._engine.key_packages({}))
        made = [kept.generate(identity, last_resort=True)] if bare else []
        made += [kept.generate(identity) for _ in range(AT_ONCE if low else 0)]
        terms = self._terms.setdefault(user, {})
        if bare:
            soon = int(self._host.now()) + GRACE
            for name, term in terms.items():
                if term.last_resort and term.at > soon:
                    terms[name] = Term(soon, last_resort=True)
        terms |= {one.reference.hex(): Term(one.not_after + GRACE, one.last_resort) for one in made}
        # The private halves first: nobody is given what could not be opened after a crash.
        await self._host.put_all(self._rows(user))
        await provider.publish(user, client, [_on_the_shelf(one) for one in made])
        self._worn.discard(user)

    def open(self, room: str, fanout: WelcomeFanout) -> tuple[Seat, Mapping[str, bytes | None]] | None:
        """The seat that a Welcome gives to somebody here, and what is to be stored with it; None where it is nobody's.

        Raises PeerMisbehaved, and what the engine raises.
        """
        named = {secret.new_member for secret in fanout.message.secrets}
        for user, kept in self._kept.items():
            ours = named.intersection(kept.references)
            if not ours:
                continue
            identity = self._seats.known(user)
            seat = Seat.join(self._engine, identity, kept, fanout, user=user, room_uri=room)
            if any(self._terms[user][reference.hex()].last_resort for reference in ours):
                self._worn.add(user)
            return seat, self._rows(user)
        return None

    def _forgotten(self, user: str) -> dict[str, bytes | None]:
        self._worn.discard(user)
        for kept in (self._kept, self._records, self._terms):
            kept.pop(user, None)
        return {f"{PREFIX}{user}": None, f"{TERMS}{user}": None}

    async def keep_fresh(self, provider: Provider) -> None:
        """Forget what nobody can use any more, and publish anew what runs out, until cancelled."""
        while True:
            for user in list(self._kept):
                if user in self._kept:
                    await self.forget_old(user)
                    await self.refill(user, provider)
            await asyncio.sleep(LOOK)

    async def forget_old(self, user: str) -> None:
        """Forget the private halves whose time has come."""
        now, terms = self._host.now(), self._terms[user]
        old = [name for name, term in terms.items() if term.at <= now]
        for name in old:
            self._kept[user].discard(bytes.fromhex(name))
        if old:
            await self._host.put_all(self._rows(user))

    def _rows(self, user: str) -> dict[str, bytes | None]:
        """The records as they are now, and the terms of those that are left: to be stored together."""
        records = self._records.setdefault(user, {})
        for name, value in self._kept[user].take_changes().items():
            if value is None:
                records.pop(name, None)
            else:
                records[name] = value
        left = set(map(bytes.hex, self._kept[user].references))
        terms = self._terms[user]
        for name in terms.keys() - left:
            del terms[name]
        return {
            f"{PREFIX}{user}": msgspec.msgpack.encode(records),
            f"{TERMS}{user}": msgspec.msgpack.encode(terms),
        }


def _on_the_shelf(made: Any) -> Package:
    opened = MLS_MESSAGE.decode(made.message)
    assert isinstance(opened, KeyPackage)
    return Package(made.reference, KEY_PACKAGE.encode(opened), made.not_after, made.last_resort)
