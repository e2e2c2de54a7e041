"""Which rooms there are and what they are linked to: read once, kept in memory, written through."""

from __future__ import annotations

import msgspec

from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Visibility
from bridgekit.store import Store
from bridgekit.store.rows import Link, LoginRow, Portal

OPEN = "open"
CLOSED = "closed"
"""The bridge is not let into the chat, or was put out of it."""
WAITING = "waiting"
"""Nobody who speaks for the chat has agreed: nothing passes, either way."""
PAUSED = "paused"
"""The room shows more than the chat allows: nothing passes from the chat until that is mended."""


class Registry:
    """Portals, links and logins. `visibility` holds what each network said of a chat since the start."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.portals: dict[ChatId, Portal] = {}
        self.links: dict[PortalKey, Link] = {}
        self.logins: dict[LoginId, LoginRow] = {}
        self.visibility: dict[PortalKey, Visibility] = {}
        self._of_room: dict[ChatId, list[Link]] = {}
        self.changes = 0  # counts up whenever what rooms look like has changed
        self._own: dict[NetworkId, dict[PersonId, LoginId]] = {}

    async def load(self) -> None:
        """Read everything; called once."""
        for portal in await self._store.portals.all():
            self.portals[portal.room] = portal
        for link in await self._store.links.all():
            self.links[link.key] = link
        for row in await self._store.logins.all():
            self.logins[row.login.id] = row
        self._index()

    def _index(self) -> None:
        self.changes += 1
        self._of_room = {}
        for link in self.links.values():
            self._of_room.setdefault(link.room, []).append(link)
        self._own = {}
        for row in self.logins.values():
            self._own.setdefault(row.network, {})[row.login.owner] = row.login.id

    def links_of(self, room: ChatId) -> list[Link]:
        """The links of a room, in the order in which they were made."""
        return self._of_room.get(room, [])

    def logins_on(self, network: NetworkId) -> dict[PersonId, LoginId]:
        """Who speaks on the network with their own account."""
        return self._own.get(network, {})

    def is_owner(self, person: PersonId) -> bool:
        """Whether the Matrix user has an account of their own anywhere."""
        return any(person in logins for logins in self._own.values())

    def shared_chats(self, network: NetworkId) -> list[ChatId]:
        """The linked chats of a network that everybody shares."""
        return [k.chat for k in self.links if k.network == network and k.receiver is None]

    async def put_portal(self, portal: Portal) -> None:
        """Keep a portal; on disk when it returns."""
        self.portals[portal.room] = portal
        await self._store.commit(self._store.portals.put(portal))

    async def put_link(self, link: Link, portal: Portal | None = None) -> None:
        """Keep a link, and its portal with it; on disk when it returns."""
        self.links[link.key] = link
        writes = [self._store.links.put(link)]
        if portal is not None:
            self.portals[portal.room] = portal
            writes.append(self._store.portals.put(portal))
        self._index()
        await self._store.commit(*writes)

    def set_state(self, key: PortalKey, state: str, reason: str, now: int) -> bool:
        """Open, pause or close a link; says whether that changed anything."""
        link = self.links.get(key)
        if link is None or (link.state, link.reason) == (state, reason):
            return False
        link = msgspec.structs.replace(link, state=state, reason=reason, since=now)
        self.links[key] = link
        self._index()
        self._store.commit(self._store.links.put(link))
        return True

    async def keep_static(self, key: PortalKey) -> None:
        """The config has this link too now; on disk when it returns."""
        link = self.links[key]
        if not link.static:
            self.links[key] = msgspec.structs.replace(link, static=True)
            self._index()
            await self._store.commit(self._store.links.put(self.links[key]))

    async def remove_link(self, key: PortalKey) -> None:
        """Forget a link; on disk when it returns."""
        self.links.pop(key, None)
        self.visibility.pop(key, None)
        self._index()
        await self._store.commit(self._store.links.remove(key))

    async def remove_portal(self, room: ChatId) -> None:
        """Forget a portal that has no links; on disk when it returns."""
        self.portals.pop(room, None)
        await self._store.commit(self._store.portals.remove(room))

    async def move(self, old: ChatId, new: ChatId) -> None:
        """The room `old` was replaced by `new`: everything in it goes along, in one transaction."""
        writes = []
        if (portal := self.portals.pop(old, None)) is not None:
            portal = msgspec.structs.replace(portal, room=new)
            self.portals[new] = portal
            writes += [self._store.portals.remove(old), self._store.portals.put(portal)]
        for link in self.links_of(old):
            self.links[link.key] = msgspec.structs.replace(link, room=new)
            writes.append(self._store.links.put(self.links[link.key]))
        self._index()
        await self._store.commit(*writes)

    async def put_login(self, row: LoginRow) -> None:
        """Keep a login, sealed; on disk when it returns."""
        self.logins[row.login.id] = row
        self._index()
        await self._store.commit(self._store.logins.put(row))

    async def remove_login(self, id: LoginId) -> None:
        """Forget a login; on disk when it returns."""
        self.logins.pop(id, None)
        self._index()
        await self._store.commit(self._store.logins.remove(id))
