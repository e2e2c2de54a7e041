"""Ghosts: registered when they are first needed, named as their people are, and let into rooms, speakers first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError, MatrixForbidden, MatrixRefused
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import Person
from bridgekit.core.ghosts import Namespace, display_name
from bridgekit.matrix.client import MatrixClient
from bridgekit.store import Store
from bridgekit.store.rows import Ghost

log = structlog.get_logger(__name__)

JOINED = "join"
BANNED = "ban"
AT_ONCE = 8
"""Joins in the background that are under way at once while the homeserver answers quickly."""
SLOW = 0.5
"""Seconds a join may take before the background slows down to one at a time."""
PATIENCE = 300.0
"""Seconds at most between two tries of a join that failed; there is no age at which it is given up."""

REMEMBERED = 5000
"""Display names that need not be made again for every message."""

_Wish = tuple[NetworkId, Person | None, int]
"""Whose ghost wants to enter (None: it is as it is), and how often that failed."""
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
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._client = client
        self._store = store
        self._namespace = namespace
        self._template = template
        self._network_name = network_name
        self._known: dict[PersonId, Ghost] = {}
        self._present: dict[ChatId, set[PersonId]] = {}
        self._banned: set[tuple[ChatId, PersonId]] = set()
        self._names: dict[tuple[NetworkId, PersonId, str], str] = {}
        self._locks: dict[PersonId, asyncio.Lock] = {}
        self._queue: OrderedDict[tuple[ChatId, PersonId], _Wish] = OrderedDict()
        self._later: set[tuple[ChatId, PersonId]] = set()  # joins that failed and are tried again
        self._spawn = spawn
        self._joining = 0
        self._pace = 0.0
        self._stopping = False

    async def load(self, networks: list[NetworkId], rooms: list[ChatId]) -> None:
        """Read back who exists and who is where."""
        for network in networks:
            for ghost in await self._store.ghosts.all(network):
                self._known[ghost.mxid] = ghost
        for room in rooms:
            members = await self._store.members.of(room)
            self._present[room] = {m for m, state in members.items() if state == JOINED}
            self._banned |= {(room, m) for m, state in members.items() if state == BANNED}

    def present(self, room: ChatId) -> frozenset[PersonId]:
        """The ghosts in a room."""
        return frozenset(self._present.get(room, ()))

    def is_present(self, mxid: PersonId, room: ChatId) -> bool:
        """Whether the ghost is in a room; of who is no ghost of ours, the bridge knows nothing and says yes."""
        return mxid in self._present.get(room, ()) or not self._namespace.is_ours(mxid)

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
        ghost = self._known.get(mxid)
        return (
            ghost is not None
            and mxid in self._present.get(room, ())
            and ghost.name == self.name_for(network, person)
        )

    async def ready(self, mxid: PersonId, network: NetworkId, person: Person, room: ChatId) -> None:
        """Make the ghost exist, be called as its person is, and be in the room. Raises MatrixError."""
        self._queue.pop((room, mxid), None)
        async with self._locks.setdefault(mxid, asyncio.Lock()):
            await self._exist(mxid, network, person)
            await self._enter(mxid, room)

    async def rename(self, mxid: PersonId, network: NetworkId, person: Person) -> None:
        """Show the person's present name; a ghost that does not exist is not made for it."""
        if mxid in self._known:
            async with self._locks.setdefault(mxid, asyncio.Lock()):
                await self._exist(mxid, network, person)

    async def exist(self, mxid: PersonId, network: NetworkId, person: Person) -> None:
        """Make the ghost exist; one that does keeps its name, for `person` may be no more than what somebody typed."""
        async with self._locks.setdefault(mxid, asyncio.Lock()):
            if mxid not in self._known:
                await self._exist(mxid, network, person)

    async def _exist(self, mxid: PersonId, network: NetworkId, person: Person) -> None:
        name = self.name_for(network, person)
        ghost = self._known.get(mxid)
        if ghost is None:
            await self._client.patient.register(mxid[1:].partition(":")[0])
        elif ghost.name == name:
            return
        await self._client.patient.set_displayname(name, user=mxid)
        ghost = Ghost(
            mxid=mxid,
            network=network,
            person=person.id,
            name=name,
            avatar=ghost.avatar if ghost else "",
            avatar_source=ghost.avatar_source if ghost else "",
        )
        self.keep(ghost)

    async def _enter(self, mxid: PersonId, room: ChatId) -> None:
        if mxid in self._present.get(room, ()):
            return
        client = self._client.patient
        try:
            await client.join(room, user=mxid)
        except MatrixForbidden:
            try:
                await client.invite(room, mxid)
            except MatrixRefused as error:
                if "already" not in error.notice:
                    log.debug("ghost_invite_refused", errcode=error.errcode)
            await client.join(room, user=mxid)
        self.entered(mxid, room)

    def entered(self, mxid: PersonId, room: ChatId) -> None:
        """The ghost is in the room."""
        self._present.setdefault(room, set()).add(mxid)
        self._store.commit(self._store.members.put(room, mxid, JOINED))

    def left(self, mxid: PersonId, room: ChatId) -> None:
        """The ghost is not in the room, whoever saw to that."""
        if mxid in self._present.get(room, ()):
            self._present[room].discard(mxid)
            self._store.commit(self._store.members.remove(room, mxid))

    def banned(self, mxid: PersonId, room: ChatId) -> None:
        """The ghost was put out for good."""
        self._present.get(room, set()).discard(mxid)
        self._banned.add((room, mxid))
        self._store.commit(self._store.members.put(room, mxid, BANNED))

    def allowed(self, mxid: PersonId, room: ChatId) -> bool:
        """The ghost may come back; says whether it was banned until now."""
        if (room, mxid) not in self._banned:
            return False
        self._banned.discard((room, mxid))
        self._store.commit(self._store.members.remove(room, mxid))
        return True

    async def leave(self, mxid: PersonId, room: ChatId, reason: str = "") -> None:
        """Take the ghost out of the room."""
        self._queue.pop((room, mxid), None)
        self._later.discard((room, mxid))
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

    # The background ------------------------------------------------------------------------------------------

    def soon(self, mxid: PersonId, network: NetworkId, person: Person, room: ChatId) -> None:
        """Let the ghost in when there is time: behind everybody who speaks, at a rate that the homeserver bears."""
        if mxid not in self._present.get(room, ()):
            self._queue[(room, mxid)] = (network, person, 0)
            self._more()

    def move(self, old: ChatId, new: ChatId) -> None:
        """Let the ghosts of one room into another, as they are and when there is time."""
        for mxid in sorted(self._present.get(old, ())):
            ghost = self._known.get(mxid)
            if ghost is not None and mxid not in self._present.get(new, ()):
                self._queue[(new, mxid)] = (ghost.network, None, 0)
        self._more()

    @property
    def waiting(self) -> int:
        """Joins that wait for their turn."""
        return len(self._queue)

    def stop(self) -> None:
        """Nobody else is let in; who still waits is in the next roster."""
        self._stopping = True
        self._queue.clear()

    def _more(self) -> None:
        if self._stopping:
            return
        limit = 1 if self._pace > SLOW else AT_ONCE
        while self._queue and self._joining < limit:
            key, what = self._queue.popitem(last=False)
            self._joining += 1
            self._spawn(self._join(key, what))

    async def _join(self, key: tuple[ChatId, PersonId], what: _Wish) -> None:
        (room, mxid), (network, person, tries) = key, what
        began = time.monotonic()
        try:
            if person is not None:
                await self.ready(mxid, network, person, room)
            else:
                async with self._locks.setdefault(mxid, asyncio.Lock()):
                    await self._enter(mxid, room)
        except BridgeError as error:
            log.info("ghost_join_failed", network=network, reason=type(error).__name__, tries=tries)
            self._later.add(key)
            asyncio.get_running_loop().call_later(
                min(PATIENCE, 2.0**tries), self._again, key, (network, person, tries + 1)
            )
        finally:
            self._joining -= 1
            self._measure(time.monotonic() - began)

    def _measure(self, seconds: float) -> None:
        """Go on as fast as the last joins were."""
        if self._stopping:
            return
        self._pace += 0.2 * (seconds - self._pace)
        if self._pace > SLOW:
            # The homeserver labours: leave it as much time as the join took for everybody else.
            asyncio.get_running_loop().call_later(min(self._pace, 5.0), self._more)
        else:
            self._more()

    def _again(self, key: tuple[ChatId, PersonId], what: _Wish) -> None:
        wanted = key in self._later
        self._later.discard(key)
        if wanted and not self._stopping and key[1] not in self._present.get(key[0], ()):
            self._queue.setdefault(key, what)
            self._more()

    def forget(self, room: ChatId, network: NetworkId) -> None:
        """Nobody of the network is wanted in the room any more."""
        for key in [k for k, (of, _, _) in self._queue.items() if k[0] == room and of == network]:
            del self._queue[key]
        self._later = {key for key in self._later if key[0] != room}
