"""Repositories of what is there: portals, links, ghosts, members, logins, and the connectors' own values."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Login
from bridgekit.store.driver import Reader
from bridgekit.store.rows import Ghost, Link, LoginRow, Portal, Stay
from bridgekit.store.sealing import SealingKey
from bridgekit.store.statements import Table, Write, delete, storable, upsert
from bridgekit.store.tables import GHOSTS, KV, LINKS, LOGINS, MEMBERS, PORTALS

_PORTAL_PUT = upsert(PORTALS)
_PORTAL_REMOVE = delete(PORTALS)
_LINK_PUT = upsert(LINKS)
_LINK_REMOVE = delete(LINKS, keys=3)
_GHOST_PUT = upsert(GHOSTS)
_GHOST_REMOVE = delete(GHOSTS)
_MEMBER_PUT = upsert(MEMBERS)
_MEMBER_REMOVE = delete(MEMBERS, keys=2)
_LOGIN_PUT = upsert(LOGINS)
_LOGIN_REMOVE = delete(LOGINS)
_KV_PUT = upsert(KV)
_KV_REMOVE = delete(KV, keys=2)

_SEALED_FIELDS = "logins.fields"
_SEALED_VALUE = "kv.value"
_PAGE = 32  # rows: what a connector keeps may be megabytes each
_encode = msgspec.msgpack.Encoder().encode
_decode_fields = msgspec.msgpack.Decoder(dict[str, str]).decode


def _select(on: Table) -> str:
    return f"SELECT {', '.join(column.name for column in on.columns)} FROM {on.name}"


class Portals:
    """The rooms that the bridge works in."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, portal: Portal) -> Write:
        """Add the portal, or replace the one of the same room."""
        made, encrypted = int(portal.made), int(portal.encrypted)
        return Write(_PORTAL_PUT, (portal.room, portal.network, made, portal.kind, portal.creator, encrypted))

    def remove(self, room: ChatId) -> Write:
        """Forget the portal; its links are removed by themselves."""
        return Write(_PORTAL_REMOVE, (room,))

    async def all(self) -> list[Portal]:
        """Every portal, by room id."""
        found = await self._reader.fetch(f"{_select(PORTALS)} ORDER BY room")
        return [
            Portal(
                room=room,
                network=network,
                made=bool(made),
                kind=kind,
                creator=creator,
                encrypted=bool(encrypted),
            )
            for room, network, made, kind, creator, encrypted in found
        ]


class Links:
    """Which chat shares which room."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, link: Link) -> Write:
        """Add the link, or replace the one with the same key."""
        return Write(
            _LINK_PUT,
            (
                link.key.network,
                link.key.chat,
                link.key.receiver or "",
                link.room,
                storable(link.name),
                link.reader,
                link.creator,
                int(link.static),
                link.state,
                storable(link.reason),
                link.since,
            ),
        )

    def remove(self, key: PortalKey) -> Write:
        """Forget the link."""
        return Write(_LINK_REMOVE, (key.network, key.chat, key.receiver or ""))

    async def all(self) -> list[Link]:
        """Every link, by key."""
        found = await self._reader.fetch(f"{_select(LINKS)} ORDER BY network, chat, receiver")
        return [
            Link(
                key=PortalKey(network, chat, receiver or None),
                room=room,
                name=name,
                reader=reader,
                creator=creator,
                static=bool(static),
                state=state,
                reason=reason,
                since=since,
            )
            for network, chat, receiver, room, name, reader, creator, static, state, reason, since in found
        ]


class Ghosts:
    """The ghosts that were registered, and the profile that each shows."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, ghost: Ghost) -> Write:
        """Add the ghost, or replace what is known of it."""
        return Write(
            _GHOST_PUT,
            (
                ghost.mxid,
                ghost.network,
                ghost.person,
                storable(ghost.name),
                ghost.avatar,
                ghost.avatar_source,
            ),
        )

    def remove(self, mxid: PersonId) -> Write:
        """Forget the ghost."""
        return Write(_GHOST_REMOVE, (mxid,))

    async def all(self, network: NetworkId) -> list[Ghost]:
        """Every ghost of the network, by user id."""
        return await self._fetch(f"{_select(GHOSTS)} WHERE network = $1 ORDER BY mxid", network)

    async def get(self, mxid: PersonId) -> Ghost | None:
        """The ghost with that user id; None if there is none."""
        found = await self._fetch(f"{_select(GHOSTS)} WHERE mxid = $1", mxid)
        return found[0] if found else None

    async def _fetch(self, sql: str, *params: str) -> list[Ghost]:
        return [
            Ghost(
                mxid=mxid,
                network=network,
                person=person,
                name=name,
                avatar=avatar,
                avatar_source=avatar_source,
            )
            for mxid, network, person, name, avatar, avatar_source in await self._reader.fetch(sql, *params)
        ]


class Members:
    """Who of ours is, or was, in which room."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def put(self, room: ChatId, mxid: PersonId, state: str, seen: int = 0) -> Write:
        """Remember the membership: "join", "ban" or "retired"; `seen` (ms) is when they were last heard."""
        return Write(_MEMBER_PUT, (room, mxid, state, seen))

    def remove(self, room: ChatId, mxid: PersonId) -> Write:
        """Forget the membership."""
        return Write(_MEMBER_REMOVE, (room, mxid))

    async def of(self, room: ChatId) -> dict[PersonId, Stay]:
        """The memberships of the room."""
        sql = "SELECT mxid, state, seen FROM members WHERE room = $1 ORDER BY mxid"
        return {
            PersonId(mxid): Stay(state, seen) for mxid, state, seen in await self._reader.fetch(sql, room)
        }


class Logins:
    """People's own accounts; what they typed in is sealed."""

    def __init__(self, reader: Reader, key: SealingKey) -> None:
        self._reader = reader
        self._key = key

    def put(self, row: LoginRow) -> Write:
        """Add the login, or replace the one with the same id."""
        login = row.login
        sealed = self._key.seal(_encode(login.fields), _SEALED_FIELDS, login.id)
        return Write(
            _LOGIN_PUT, (login.id, row.network, login.owner, sealed, row.state, storable(row.reason))
        )

    def remove(self, id: LoginId) -> Write:
        """Forget the login."""
        return Write(_LOGIN_REMOVE, (id,))

    async def all(self) -> list[LoginRow]:
        """Every login, by id."""
        rows: list[LoginRow] = []
        for id, network, owner, sealed, state, reason in await self._reader.fetch(
            f"{_select(LOGINS)} ORDER BY id"
        ):
            fields = _decode_fields(self._key.open(sealed, _SEALED_FIELDS, id))
            login = Login(id=id, owner=owner, fields=fields)
            rows.append(LoginRow(login=login, network=network, state=state, reason=reason))
        return rows


class KeyValues:
    """Sealed values under a namespace and a key."""

    def __init__(self, reader: Reader, key: SealingKey) -> None:
        self._reader = reader
        self._key = key

    def put(self, namespace: str, key: str, value: bytes | None) -> Write:
        """Keep the value; None deletes it."""
        if value is None:
            return Write(_KV_REMOVE, (namespace, key))
        return Write(_KV_PUT, (namespace, key, self._key.seal(value, _SEALED_VALUE, namespace, key)))

    async def get(self, namespace: str, key: str) -> bytes | None:
        """The value; None if there is none."""
        sql = "SELECT value FROM kv WHERE namespace = $1 AND key = $2"
        found = await self._reader.fetch(sql, namespace, key)
        return self._key.open(found[0][0], _SEALED_VALUE, namespace, key) if found else None

    async def items(self, namespace: str, prefix: str = "") -> dict[str, bytes]:
        """Every key of the namespace that begins with `prefix`, and its value."""
        sql = "SELECT key, value FROM kv WHERE namespace = $1 AND substr(key, 1, $2) = $3 ORDER BY key"
        return {
            str(key): self._key.open(value, _SEALED_VALUE, namespace, key)
            for key, value in await self._reader.fetch(sql, namespace, len(prefix), prefix)
        }

    async def walk(self, namespace: str, prefix: str = "") -> AsyncIterator[tuple[str, bytes]]:
        """As `items`, in the database's order of keys, a page at a time."""
        sql = (
            "SELECT key, value FROM kv WHERE namespace = $1 AND key > $4 AND substr(key, 1, $2) = $3"
            " ORDER BY key LIMIT $5"
        )
        last = ""
        while page := await self._reader.fetch(sql, namespace, len(prefix), prefix, last, _PAGE):
            for key, value in page:
                yield str(key), self._key.open(value, _SEALED_VALUE, namespace, key)
            last = str(page[-1][0])
