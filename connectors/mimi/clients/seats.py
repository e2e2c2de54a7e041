"""The seats and identities of the clients hosted here, on disk and in memory. Group secrets pass through here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.clients.seat import Seat
from connectors.mimi.mls import Group, MemberEngine, Signer
from connectors.mimi.service import vouching
from connectors.mimi.service.people import People
from connectors.mimi.uris import Thing
from connectors.mimi.wire.mls import PublicMessage

DEVICE = "bridge"
GONE = "gone/"
"""Digests of public keys of clients that are no more: their leaves, and claimed key packages, may outlive them."""


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A commit of ours that was put to the hub of a room and is not known to have been answered.

    `user` made it in `epoch`; `message` are its octets. Of one that joined by it, `seat` are the records of the seat
    as it is if the hub takes it; of a member the records hold the commit themselves.
    """

    user: str
    epoch: int
    message: bytes
    seat: dict[str, bytes] | None = None


class Seats:
    """By user and room. Whoever changes a seat calls `keep` before anybody else hears of it."""

    def __init__(self, domain: str, host: Host, engine: MemberEngine) -> None:
        self.asked: dict[str, Asked] = {}  # by room: one at a time
        self._domain = domain
        self._host = host
        self._engine = engine
        self.people: People
        self._identities: dict[str, Signer] = {}
        self._gone: set[str] = set()
        self._seats: dict[tuple[str, str], Seat] = {}
        self._records: dict[tuple[str, str], dict[str, bytes]] = {}

    async def load(self, people: People) -> None:
        """Take up what is stored. `people` knows whose client is whose, and is told of new ones."""
        self.people = people
        for key, raw in (await self._host.items("tenant/")).items():
            self._identities[key.removeprefix("tenant/")] = self._engine.restore_identity(raw)
        self._gone = {key.removeprefix(GONE) for key in await self._host.items(GONE)}
        for raw in (await self._host.items("seat/")).values():
            user, room, records = msgspec.msgpack.decode(raw, type=tuple[str, str, dict[str, bytes]])
            self._sit(user, room, records)
        for key, raw in (await self._host.items("asked/")).items():
            self.asked[key.removeprefix("asked/")] = msgspec.msgpack.decode(raw, type=Asked)

    def _sit(self, user: str, room: str, records: dict[str, bytes]) -> None:
        group = self._engine.restore_group(self._identities[user], records)
        self._seats[user, room] = Seat(self._engine, group, user=user, room_uri=room)
        self._records[user, room] = records

    async def identity(self, user: str) -> Signer:
        """The client of a user here, made the first time."""
        known = self._identities.get(user)
        if known is None:
            client = self.client(user)
            known = self._engine.identity(client.encode())
            await self._host.put_all(
                {f"tenant/{user}": self._engine.export_identity(known), f"client/{client}": user.encode()}
            )
            self.people.learn(client, user)
            known = self._identities.setdefault(user, known)
        return known

    def known(self, user: str) -> Signer:
        """The client of a user who has one."""
        return self._identities[user]

    def client(self, user: str) -> str:
        """What the client of a user here is called."""
        return str(uris.Uri(self._domain, Thing.CLIENT, f"{uris.parse(user).name}/{DEVICE}"))

    def get(self, user: str, room: str) -> Seat | None:
        """A seat that is still taken."""
        seat = self._seats.get((user, room))
        return seat if seat is not None and seat.group.active else None

    def in_room(self, room: str) -> Iterator[Seat]:
        """All seats of a room, those that were lost as well."""
        return iter([seat for (_, where), seat in self._seats.items() if where == room])

    def of(self, user: str) -> list[str]:
        """The rooms in which a user here has a seat."""
        return [room for who, room in self._seats if who == user]

    def let_go(self, user: str) -> dict[str, bytes | None]:
        """Forget the client of a user, if it has no seat any more: what is to be stored."""
        if self.of(user) or (identity := self._identities.pop(user, None)) is None:
            return {}
        self._gone.add(digest := _digest(identity.signature_key))
        return {f"tenant/{user}": None, f"client/{self.client(user)}": None, f"{GONE}{digest}": b""}

    # Whose clients those are that bear the names of our users --------------------------------------------------

    def vouch_for(self, message: PublicMessage) -> None:
        """Whoever comes in under the name of a user of ours has keys of ours. Raises PeerMisbehaved."""
        self._vouch((each.client, each.leaf.signature_key) for each in vouching.entering(message))

    def vouch_for_all(self, group: Group) -> None:
        """The same of all who are in a group. Raises PeerMisbehaved."""
        self._vouch((member.name, member.signature_key) for member in group.members)

    def _vouch(self, leaves: Iterable[tuple[bytes, bytes]]) -> None:
        prefix = f"mimi://{self._domain}/".encode()
        named = [(client, key) for client, key in leaves if client.lower().startswith(prefix)]
        ours = {identity.signature_key for identity in self._identities.values()} if named else set()
        for client, key in named:
            if key not in ours and _digest(key) not in self._gone:
                raise PeerMisbehaved(
                    f"A client calls itself {client.decode(errors='replace')} and is none of this provider's:"
                    " the room's moderators have to remove that user."
                )

    def copy(self, seat: Seat) -> Group:
        """The group of a seat as it was last kept, to try something on."""
        return self._engine.restore_group(
            self._identities[seat.user], self._records[seat.user, seat.room_uri]
        )

    def rows(self, seat: Seat) -> dict[str, bytes | None]:
        """What is to be stored for a seat now; empty where nothing changed. To be stored with the next `put_all`."""
        changes: Mapping[str, bytes | None] = seat.take_changes()
        if not changes:
            return {}
        user, room = key = (seat.user, seat.room_uri)
        records = self._records.setdefault(key, {})
        for name, value in changes.items():
            if value is None:
                records.pop(name, None)
            else:
                records[name] = value
        return {_key(user, room): msgspec.msgpack.encode((user, room, records))}

    async def keep(self, *seats: Seat, more: Mapping[str, bytes | None] | None = None) -> None:
        """Store what changed in seats, together with `more`."""
        rows: dict[str, bytes | None] = dict(more or {})
        for seat in seats:
            rows |= self.rows(seat)
        if rows:
            await self._host.put_all(rows)

    async def take(self, seat: Seat, *, more: Mapping[str, bytes | None] | None = None) -> None:
        """From now on it is theirs; `more` is stored with it."""
        self._seats[seat.user, seat.room_uri] = seat
        self._records[seat.user, seat.room_uri] = {}
        await self.keep(seat, more=more)

    def sit(self, user: str, room: str, records: dict[str, bytes]) -> dict[str, bytes | None]:
        """Who joined by a commit that the hub took has their seat, which the records make: what is to be stored."""
        self._sit(user, room, records)
        return {_key(user, room): msgspec.msgpack.encode((user, room, records))}

    async def forget(self, user: str, room: str) -> None:
        """Give a seat up, with its secrets."""
        self._seats.pop((user, room), None)
        self._records.pop((user, room), None)
        await self._host.put_all({_key(user, room): None})

    # A commit that may be lost on its way ---------------------------------------------------------------------

    async def asking(self, room: str, asked: Asked, *seats: Seat) -> None:
        """Keep a commit before it is put to the hub."""
        self.asked[room] = asked
        await self.keep(*seats, more={f"asked/{room}": msgspec.msgpack.encode(asked)})

    def answered(self, room: str) -> dict[str, bytes | None]:
        """The hub's answer is known: what is to be stored with what follows from it."""
        self.asked.pop(room, None)
        return {f"asked/{room}": None}


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def _key(user: str, room: str) -> str:
    return f"seat/{user} {room}"
