"""Ghosts: registered when they are first needed, named as their people are, and in which rooms they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Set
from typing import Any
from weakref import WeakValueDictionary

import structlog

from bridgekit.contract.errors import MatrixForbidden, MatrixRefused
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import Person
from bridgekit.core.ghosts import Namespace, display_name
from bridgekit.matrix.calls import Calls
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.clock import now
from bridgekit.store import Store
from bridgekit.store.rows import Ghost

log = structlog.get_logger(__name__)

JOINED = "join"
BANNED = "ban"
RETIRED = "retired"
"""Taken out for having been silent so long; back with the next word."""
DAY = 86_400_000
"""Milliseconds: how exactly it is kept when somebody was last heard."""
REMEMBERED = 5000
"""Display names that need not be made again for every message."""

NameOf = Callable[[NetworkId], str]


class Ghosts:
    """Every ghost of every network, and the rooms they are in."""

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        namespace: Namespace,
        *,
        template: str,
        network_name: NameOf,
        speakers: Speakers,
    ) -> None:
        self._client = client
        self._store = store
        self._namespace = namespace
        self._template = template
        self._network_name = network_name
        self._speakers = speakers
        self._known: dict[PersonId, Ghost] = {}
        self._present: dict[
            ChatId, dict[PersonId, int]
        ] = {}  # and when they were last heard there, or let in
        self._banned: set[tuple[ChatId, PersonId]] = set()
        self._retired: set[tuple[ChatId, PersonId]] = set()
        self._names: dict[tuple[NetworkId, PersonId, str], str] = {}
        self._locks: WeakValueDictionary[PersonId, asyncio.Lock] = WeakValueDictionary()
        self.moved: Callable[[ChatId, PersonId], None] = lambda *_: None
        """Called when a ghost has entered a room or is not wanted there: nobody need see to that any more."""
        self.arrived: Callable[[ChatId, PersonId], None] = lambda *_: None
        """Called when a ghost has entered a room."""
        self.introduce: Callable[[ChatId, PersonId], Awaitable[None]] = _nothing
        """Awaited before a ghost enters a room to speak there."""
        self.acquaint: Callable[[ChatId, PersonId], Coroutine[Any, Any, None]] = _nothing
        """Awaited while it enters."""
        self.by_invitation: Callable[[ChatId], bool] = lambda _: False
        """Whether a room is known to let in only who was invited."""

    async def load(self, networks: list[NetworkId], rooms: list[ChatId]) -> None:
        """Read back who exists and who is where."""
        for network in networks:
            for ghost in await self._store.ghosts.all(network):
                self._known[ghost.mxid] = ghost
        for room in rooms:
            members = await self._store.members.of(room)
            # Of whom it was not kept when they were last heard, the time begins now.
            self._present[room] = {
                m: stay.seen or now() for m, stay in members.items() if stay.state == JOINED
            }
            self._banned |= {(room, m) for m, stay in members.items() if stay.state == BANNED}
            self._retired |= {(room, m) for m, stay in members.items() if stay.state == RETIRED}

    def present(self, room: ChatId) -> Set[PersonId]:
        """The ghosts in a room, now: the set changes as they come and go."""
        return self.last_seen(room).keys()

    def last_seen(self, room: ChatId) -> Mapping[PersonId, int]:
        """When (ms) each of the ghosts in a room was last heard there, or let in."""
        return self._present.get(room, {})

    def spoke(self, mxid: PersonId, room: ChatId, at: int) -> None:
        """The ghost says something in the room at `at` (ms)."""
        if at - (seen := self._present.get(room, {})).get(mxid, at) > DAY:
            seen[mxid] = at
            self._store.commit(self._store.members.put(room, mxid, JOINED, at))

    def is_kept_out(self, mxid: PersonId, room: ChatId) -> bool:
        """Whether the ghost is let in by nobody but itself: it was banned, or retired."""
        return (room, mxid) in self._banned or (room, mxid) in self._retired

    def is_present(self, mxid: PersonId, room: ChatId) -> bool:
        """Whether the ghost is in a room; of who is no ghost of ours, the bridge knows nothing and says yes."""
        return mxid in self._present.get(room, ()) or not self._namespace.is_ours(mxid)

    def exists(self, mxid: PersonId) -> bool:
        """Whether the ghost was made already."""
        return mxid in self._known

    def is_one(self, mxid: PersonId) -> bool:
        """Whether the user id is a ghost's."""
        return self._namespace.is_ours(mxid)

    def of(self, network: NetworkId, person: PersonId) -> PersonId:
        """The ghost of somebody, whether it exists or not."""
        return self._namespace.mxid(network, person)

    def person(self, mxid: PersonId) -> PersonId | None:
        """Whom a ghost stands for: by its name, or by the store where the name is a hash."""
        if (parsed := self._namespace.parse(mxid)) is not None:
            return parsed[1]
        ghost = self._known.get(mxid)
        return ghost.person if ghost is not None else None

    def row(self, mxid: PersonId) -> Ghost | None:
        """What is kept of a ghost that exists."""
        return self._known.get(mxid)

    def keep(self, ghost: Ghost) -> None:
        """The ghost is like this now."""
        self._known[ghost.mxid] = ghost
        self._store.commit(self._store.ghosts.put(ghost))

    def picture_from(self, source: str) -> str:
        """The Matrix file of a picture that some ghost has from there already; empty if none has."""
        return next((g.avatar for g in self._known.values() if g.avatar_source == source), "")

    def shown(self, mxid: PersonId) -> str:
        """The ghost's display name, if it has one yet."""
        ghost = self._known.get(mxid)
        return ghost.name if ghost is not None else ""

    def name_for(self, network: NetworkId, person: Person) -> str:
        """How the person is called in Matrix."""
        called = (network, person.id, person.name)
        name = self._names.get(called)
        if name is None:
            name = display_name(
                self._template, name=person.name, network=self._network_name(network), id=person.id
            )
            if len(self._names) >= REMEMBERED:
                self._names.clear()
            self._names[called] = name
        return name

    def is_ready(self, mxid: PersonId, network: NetworkId, person: Person, room: ChatId) -> bool:
        """Whether the ghost can speak in the room as it is: the common case, answered without waiting."""
        return mxid in self._present.get(room, ()) and self.is_called(mxid, network, person)

    def is_called(self, mxid: PersonId, network: NetworkId, person: Person) -> bool:
        """Whether the ghost exists and shows the person's present name."""
        ghost = self._known.get(mxid)
        return ghost is not None and ghost.name == self.name_for(network, person)

    async def ready(self, mxid: PersonId, network: NetworkId, person: Person, room: ChatId) -> None:
        """Make the ghost exist, be called as its person is, and be in the room. Raises MatrixError."""
        with self._speakers.one():
            await self.let_in(mxid, network, person, room, self._client.patient, speaks=True)

    async def let_in(
        self,
        mxid: PersonId,
        network: NetworkId,
        person: Person | None,
        room: ChatId,
        client: Calls,
        *,
        speaks: bool = False,
    ) -> None:
        """The same with a client that may be impatient; None: the ghost exists, and is as it is."""
        async with self._locks.setdefault(mxid, asyncio.Lock()):
            if person is not None:
                await self._exist(mxid, network, person, client)
            if mxid in self._present.get(room, ()):
                return
            if not speaks:
                await self._enter(mxid, room, client)
                return
            await self.introduce(room, mxid)
            keys = asyncio.create_task(self.acquaint(room, mxid), name="keys of a ghost's first word")
            try:
                await self._enter(mxid, room, client)
                await keys
            finally:
                keys.cancel()

    async def rename(self, mxid: PersonId, network: NetworkId, person: Person) -> None:
        """Show the person's present name; a ghost that does not exist is not made for it."""
        if mxid in self._known:
            async with self._locks.setdefault(mxid, asyncio.Lock()):
                await self._exist(mxid, network, person, self._client.patient)

    async def exist(self, mxid: PersonId, network: NetworkId, person: Person) -> None:
        """Make the ghost exist; one that does keeps its name, for `person` may be no more than what somebody typed."""
        async with self._locks.setdefault(mxid, asyncio.Lock()):
            if mxid not in self._known:
                await self._exist(mxid, network, person, self._client.patient)

    async def _exist(self, mxid: PersonId, network: NetworkId, person: Person, client: Calls) -> None:
        name = self.name_for(network, person)
        ghost = self._known.get(mxid)
        if ghost is None:
            await client.register(mxid[1:].partition(":")[0])
        elif ghost.name == name:
            return
        await client.set_displayname(name, user=mxid)
        ghost = Ghost(
            mxid=mxid,
            network=network,
            person=person.id,
            name=name,
            avatar=ghost.avatar if ghost else "",
            avatar_source=ghost.avatar_source if ghost else "",
        )
        self.keep(ghost)

    async def _enter(self, mxid: PersonId, room: ChatId, client: Calls) -> None:
        if self.by_invitation(room):
            await self._invite(mxid, room, client)
            await client.join(room, user=mxid)
        else:
            try:
                await client.join(room, user=mxid)
            except MatrixForbidden:
                await self._invite(mxid, room, client)
                await client.join(room, user=mxid)
        self.entered(mxid, room)

    async def _invite(self, mxid: PersonId, room: ChatId, client: Calls) -> None:
        try:
            await client.invite(room, mxid)
        except MatrixRefused as error:
            if "already" not in error.notice:
                log.debug("ghost_invite_refused", errcode=error.errcode)

    def entered(self, mxid: PersonId, room: ChatId) -> None:
        """The ghost is in the room."""
        at = self._present.setdefault(room, {})[mxid] = now()
        self._retired.discard((room, mxid))
        self._store.commit(self._store.members.put(room, mxid, JOINED, at))
        self.moved(room, mxid)
        self.arrived(room, mxid)

    def left(self, mxid: PersonId, room: ChatId) -> None:
        """The ghost is not in the room, whoever saw to that."""
        if self._present.get(room, {}).pop(mxid, None) is not None:
            self._store.commit(self._store.members.remove(room, mxid))

    def banned(self, mxid: PersonId, room: ChatId) -> None:
        """The ghost was put out for good."""
        self._present.get(room, {}).pop(mxid, None)
        self._banned.add((room, mxid))
        self._store.commit(self._store.members.put(room, mxid, BANNED))
        self.moved(room, mxid)

    def allowed(self, mxid: PersonId, room: ChatId) -> bool:
        """The ghost may come back; says whether it was banned until now."""
        if (room, mxid) not in self._banned:
            return False
        self._banned.discard((room, mxid))
        self._store.commit(self._store.members.remove(room, mxid))
        return True

    async def decline(self, mxid: PersonId, room: ChatId, reason: str) -> None:
        """Turn an invitation down, also of a ghost that the homeserver does not know yet: whoever asked is told why."""
        if mxid not in self._known:
            await self._client.patient.register(mxid[1:].partition(":")[0])
        await self._client.patient.leave(room, user=mxid, reason=reason)

    async def leave(self, mxid: PersonId, room: ChatId, reason: str = "") -> None:
        """Take the ghost out of the room."""
        self.moved(room, mxid)
        async with self._locks.setdefault(mxid, asyncio.Lock()):  # it may be entering this very moment
            if mxid not in self._present.get(room, ()):
                return
            with contextlib.suppress(MatrixForbidden):  # it was not in the room any more
                await self._client.patient.leave(room, user=mxid, reason=reason)
            self.left(mxid, room)

    async def leave_all(self, mxid: PersonId) -> None:
        """Take the ghost out of every room: its person does not want to be shown."""
        for room in [room for room, present in self._present.items() if mxid in present]:
            await self.leave(mxid, room)

    def rooms_of(self, mxid: PersonId) -> list[ChatId]:
        """The rooms that the ghost is in."""
        return [room for room, present in self._present.items() if mxid in present]

    def erase(self, mxid: PersonId) -> None:
        """The ghost is no more, and nothing is kept of it."""
        writes = [self._store.ghosts.remove(mxid)]
        for room, present in self._present.items():
            if present.pop(mxid, None) is not None:
                writes.append(self._store.members.remove(room, mxid))
            self.moved(room, mxid)
        for room, ghost in [key for key in self._banned | self._retired if key[1] == mxid]:
            writes.append(self._store.members.remove(room, ghost))
        self._banned = {key for key in self._banned if key[1] != mxid}
        self._retired = {key for key in self._retired if key[1] != mxid}
        self._known.pop(mxid, None)
        self._names.clear()
        self._store.commit(*writes)

    async def retire(self, mxid: PersonId, room: ChatId) -> None:
        """Take the ghost out until its person says something."""
        await self.leave(mxid, room, "silent for long")
        self._retired.add((room, mxid))
        self._store.commit(self._store.members.put(room, mxid, RETIRED))


async def _nothing(_room: ChatId, _ghost: PersonId) -> None:
    pass
