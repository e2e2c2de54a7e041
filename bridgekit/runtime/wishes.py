"""How open rooms' own people want them, and how the bridge left them: what differs from that, somebody has changed."""

from __future__ import annotations

import msgspec

from bridgekit.contract.ids import ChatId
from bridgekit.contract.policy import Exposure
from bridgekit.core.corrections import Room, heeded
from bridgekit.core.exposure import OPEN, Bound, JoinRule, LinkView, allowed
from bridgekit.runtime.lenient import now
from bridgekit.store import Store

WISHES = "bridge.wish"
"""Where it is kept; no network is called so."""


class Wish(msgspec.Struct, frozen=True):
    """How open a room's people want it, and how open the bridge left it when it last looked."""

    bound: Bound
    left: Bound | None = None


class Wishes:
    """Of each room, from when it was first looked at; on disk, too."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[ChatId, Wish] = {}

    def left(self, room: ChatId) -> Bound | None:
        """How open the bridge left the room when it last looked; None where it never did."""
        known = self._known.get(room)
        return known.left if known is not None else None

    def shown(self, room: ChatId) -> Exposure:
        """Who may read what is said in a room now, as it was left."""
        left = self.left(room)
        return left.history if left is not None else Exposure.JOINED

    def is_by_invitation(self, room: ChatId) -> bool:
        """Whether the room, as it was left, lets in only who was invited (or knew an open door somewhere else)."""
        left = self.left(room)
        return left is not None and left.join < JoinRule.PUBLIC

    async def of(self, room: ChatId, seen: Room, views: list[LinkView], *, made: bool) -> Bound:
        """How open the room's own people want it, who may have changed it since the last look. `made`: the bridge has
        made it."""
        known = await self._read(room)
        if known is None:
            return OPEN if made else msgspec.structs.replace(seen.shown, media=True)
        if known.left is None or known.left == seen.shown:
            return known.bound
        # What differs from how it was left, somebody has changed, now or while the bridge was away.
        wanted = heeded(known.bound, seen, allowed(OPEN, views, now(), made=made))
        changed = {
            name: getattr(wanted, name)
            for name in Bound.__struct_fields__
            if getattr(known.left, name) != getattr(seen.shown, name)
        }
        return msgspec.structs.replace(known.bound, **changed)

    def leave(self, room: ChatId, wish: Bound, seen: Room) -> None:
        """The room is left like that."""
        left = Wish(wish, seen.shown)
        if self._known.get(room) != left:
            self._known[room] = left
            self._store.commit(self._store.kv.put(WISHES, room, msgspec.json.encode(left)))

    async def inherit(self, old: ChatId, new: ChatId) -> bool:
        """What the people of one room wanted is what they want in another that replaces it; on disk when it returns.
        False where nothing is known of the one, or something of the other already."""
        if await self._read(new) is not None or (wish := await self._read(old)) is None:
            return False
        await self._store.commit(self._store.kv.put(WISHES, new, msgspec.json.encode(wish)))
        return True

    async def forget(self, room: ChatId) -> None:
        """The room is its people's alone: how they have it when it is linked again is how they want it."""
        if await self._read(room) is not None:
            del self._known[room]
            await self._store.commit(self._store.kv.put(WISHES, room, None))

    async def _read(self, room: ChatId) -> Wish | None:
        known = self._known.get(room)
        if known is None and (kept := await self._store.kv.get(WISHES, room)) is not None:
            known = self._known[room] = msgspec.json.decode(kept, type=Wish)
        return known
