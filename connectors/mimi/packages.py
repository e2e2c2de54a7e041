"""Key packages of the clients hosted here: published for others, used up by Welcomes. Secrets pass through here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bridgekit.contract.connector import Host
from connectors.mimi.mls import KeyPackages, MemberEngine
from connectors.mimi.provider import Provider
from connectors.mimi.seat import Seat
from connectors.mimi.seats import Seats
from connectors.mimi.shelf import LOW, Package
from connectors.mimi.wire.mls import KEY_PACKAGE, MLS_MESSAGE, KeyPackage
from connectors.mimi.wire.rooms import WelcomeFanout

PREFIX = "packages/"
AT_ONCE = LOW + 5


class Packages:
    """Their private halves, by user."""

    def __init__(self, host: Host, engine: MemberEngine, seats: Seats) -> None:
        self._host = host
        self._engine = engine
        self._seats = seats
        self._kept: dict[str, KeyPackages] = {}
        self._records: dict[str, dict[str, bytes]] = {}

    async def load(self) -> None:
        """Take up what is stored."""
        for key, raw in (await self._host.items(PREFIX)).items():
            records = msgspec.msgpack.decode(raw, type=dict[str, bytes])
            user = key.removeprefix(PREFIX)
            self._records[user], self._kept[user] = records, self._engine.key_packages(records)

    async def publish(self, user: str, provider: Provider) -> None:
        """Have enough of a user's on the shelf, with one for when the others are used up (RFC 9420 16.8)."""
        client = self._seats.client(user)
        known = provider.publishes(user)
        if known and client not in provider.low(user):
            return
        identity = await self._seats.identity(user)
        kept = self._kept.setdefault(user, self._engine.key_packages({}))
        made = [kept.generate(identity, last_resort=not (known or number)) for number in range(AT_ONCE)]
        # The private halves first: nobody is given what could not be opened after a crash.
        await self._host.put_all(self._rows(user))
        await provider.publish(user, client, [_on_the_shelf(one) for one in made])

    def open(self, room: str, fanout: WelcomeFanout) -> tuple[Seat, Mapping[str, bytes | None]] | None:
        """The seat that a Welcome gives to somebody here, and what is to be stored with it; None where it is nobody's.

        Raises PeerMisbehaved, and what the engine raises.
        """
        named = {secret.new_member for secret in fanout.message.secrets}
        for user, kept in self._kept.items():
            if named.isdisjoint(kept.references):
                continue
            identity = self._seats.known(user)
            seat = Seat.join(self._engine, identity, kept, fanout, user=user, room_uri=room)
            return seat, self._rows(user)
        return None

    def _rows(self, user: str) -> dict[str, bytes | None]:
        records = self._records.setdefault(user, {})
        for name, value in self._kept[user].take_changes().items():
            if value is None:
                records.pop(name, None)
            else:
                records[name] = value
        return {f"{PREFIX}{user}": msgspec.msgpack.encode(records)}


def _on_the_shelf(made: Any) -> Package:
    opened = MLS_MESSAGE.decode(made.message)
    assert isinstance(opened, KeyPackage)
    return Package(made.reference, KEY_PACKAGE.encode(opened), made.not_after, made.last_resort)
