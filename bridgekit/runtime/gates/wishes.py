"""How open rooms' own people want them, and how the bridge left them: what differs from that, somebody has changed."""

from __future__ import annotations

import msgspec

from bridgekit.contract.ids import ChatId
from bridgekit.contract.policy import Exposure
from bridgekit.core.corrections import Room, heeded
from bridgekit.core.exposure import OPEN, SECRET, Bound, JoinRule, LinkView, allowed
from bridgekit.runtime.clock import now
from bridgekit.store import Store

WISHES = "bridge.wish"
"""Where it is kept; no network is called so."""


class Wish(msgspec.Struct, frozen=True):
    """How open a room's people want it, and how open the bridge left it when it last looked. `asked` is how open they
    set it since then, while it was not known what all its chats allow; the bridge has put that back. `through` is how
    open the room was left to who goes through the rooms that it names."""

    bound: Bound
    left: Bound | None = None
    asked: Bound | None = None
    through: JoinRule = JoinRule.INVITE

    def set(self, shown: Bound) -> Bound:
        """How its people have set a room that is `shown` now."""
        if self.asked is None or self.left is None:
            return shown
        found = {
            name: getattr(self.asked if getattr(shown, name) == getattr(self.left, name) else shown, name)
            for name in Bound.__struct_fields__
        }
        return Bound(**found)


class Wishes:
    """Of each room, from when it was first looked at; on disk, too."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[ChatId, Wish] = {}

    async def load(self, room: ChatId) -> None:
        """Read what is kept of the room, where that was not done yet."""
        await self._read(room)

    def left(self, room: ChatId) -> Bound | None:
        """How open the bridge left the room when it last looked; None where it never did."""
        known = self._known.get(room)
        return known.left if known is not None else None

    def left_through(self, room: ChatId) -> JoinRule:
        """How open it was left to who goes through the rooms whose members may enter it."""
        known = self._known.get(room)
        if known is None or known.left is None:
            return SECRET.join
        return max(known.left.join, known.through)

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
        shown = known.set(seen.shown)
        if known.left is None or known.left == shown:
            return known.bound
        # What differs from how it was left, somebody has changed, now or while the bridge was away.
        wanted = heeded(known.bound, shown, allowed(OPEN, views, now(), made=made))
        changed = {
            name: getattr(wanted, name)
            for name in Bound.__struct_fields__
            if getattr(known.left, name) != getattr(shown, name)
        }
        return msgspec.structs.replace(known.bound, **changed)

    def leave(self, room: ChatId, wish: Bound, seen: Room) -> None:
        """The room is left like that."""
        self._keep(room, Wish(wish, seen.shown, through=seen.exposed.join))

    def ask(self, room: ChatId, seen: Room) -> None:
        """Somebody may have opened the room further than it was left, and it is about to be put back before it is known
        whether that is allowed."""
        known = self._known[room]
        if known.left is not None:
            asked = known.left.union(known.set(seen.shown))
            self._keep(room, msgspec.structs.replace(known, asked=asked if asked != known.left else None))

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

    def _keep(self, room: ChatId, wish: Wish) -> None:
        if self._known.get(room) != wish:
            self._known[room] = wish
            self._store.commit(self._store.kv.put(WISHES, room, msgspec.json.encode(wish)))

    async def _read(self, room: ChatId) -> Wish | None:
        known = self._known.get(room)
        if known is None and (kept := await self._store.kv.get(WISHES, room)) is not None:
            known = self._known[room] = msgspec.json.decode(kept, type=Wish)
        return known
