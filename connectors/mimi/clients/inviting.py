"""Whom the clients hosted here bring into rooms: who has not agreed is asked, and comes in when they do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, SendRejected
from connectors.mimi.clients.directs import Directs
from connectors.mimi.clients.errands import Errand
from connectors.mimi.clients.hubs import AwaitsConsent, Hubs, Unavailable
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.seats import Seats
from connectors.mimi.mls import MemberEngine
from connectors.mimi.service import presets
from connectors.mimi.service.room import NOBODY, Capability
from connectors.mimi.wire.rooms import CommitBundle
from connectors.mimi.wire.users import ConsentEntry, ConsentOperation, UserCode

PREFIX = "wanted/"
"""Who was invited and had not agreed to be, by user and room."""
ASKED, AGREED = b"asked", b"agreed"
"""What becomes of it; after a space follows in whose name they were asked (earlier versions: the room's reader's)."""


class Asker(Protocol):
    """Who asked somebody to talk with them alone."""

    def heard_of(self, other: str, *, agrees: bool) -> None: ...


class Inviting:
    """`sit_down` gives a user of ours their seat, `change` makes a commit of the reader's, `later` does an errand.

    `asker` is who asked for a direct room.
    """

    def __init__(
        self,
        host: Host,
        engine: MemberEngine,
        *,
        hubs: Hubs,
        seats: Seats,
        readers: Readers,
        directs: Directs,
        sit_down: Callable[[str, str], Awaitable[None]],
        change: Callable[[str, Callable[[Seat], CommitBundle]], Awaitable[None]],
        later: Callable[[Errand], None],
        asker: Callable[[str], Asker],
    ) -> None:
        self._host = host
        self._engine = engine
        self._hubs = hubs
        self._seats = seats
        self._readers = readers
        self._directs = directs
        self._sit_down = sit_down
        self._change = change
        self._later = later
        self._asker = asker
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def resume(self) -> None:
        """Bring in who agreed and did not come in before an earlier process ended."""
        for key, raw in (await self._host.items(PREFIX)).items():
            if raw.partition(b" ")[0] == AGREED:
                self._later(partial(self._bring_in, key))

    async def invite(self, room: str, person: str, by: str = "") -> None:
        """Add a user of another provider, with all their clients; who is there already stays.

        They are asked in the name of `by`, where the room lets that user of ours bring others in; else in the reader's.
        Raises AwaitsConsent where they were asked now, SendRejected.
        """
        async with self._locks.setdefault(room, asyncio.Lock()):
            seat = self._readers.seat(room)
            if seat is not None and seat.leaves(person, self._seats.people):
                return
            await self._invite(room, await self._inviter(room, by), person)

    async def _inviter(self, room: str, by: str) -> str:
        reader = self._readers.of(room)
        if by in ("", reader):
            return reader
        with contextlib.suppress(SendRejected):  # who cannot be there themselves
            await self._sit_down(room, by)
            seat = self._readers.seat(room)
            if seat is not None and seat.state.may(by, Capability.ADD_PARTICIPANT):
                return by
        return reader

    async def _invite(self, room: str, inviter: str, person: str) -> None:
        identity = await self._seats.identity(inviter)
        try:
            packages = await self._hubs.key_packages(room, inviter, identity, person)
        except Unavailable as unavailable:
            if unavailable.code not in (UserCode.NO_CONSENT, UserCode.NO_CONSENT_FOR_THIS_ROOM):
                raise
            await self._host.put(_wanted(person, room), _row(ASKED, inviter))
            scope = room if self._directs.of(room) is None else None
            await self._hubs.request_consent(ConsentEntry(ConsentOperation.REQUEST, inviter, person, scope))
            raise AwaitsConsent from None
        await self._change(
            room,
            lambda seat: seat.add(
                person, packages, presets.MEMBER if seat.state.role_of(person) == NOBODY else None
            ),
        )

    async def withdraw(self, room: str, person: str) -> None:
        """Nobody waits for that user any more: where they were asked, their provider hears so (5.7)."""
        raw = await self._host.get(_wanted(person, room))
        if raw is None:
            return
        await self._host.put(_wanted(person, room), None)
        scope = room if self._directs.of(room) is None else None
        inviter = _inviter_in(raw) or self._readers.of(room)
        with contextlib.suppress(BridgeError):  # it was only a question
            await self._hubs.request_consent(ConsentEntry(ConsentOperation.CANCEL, inviter, person, scope))

    async def answered(self, entry: ConsentEntry, *, agrees: bool) -> None:
        """Whom we asked has answered; who agrees is brought in."""
        for key, raw in (await self._host.items(f"{PREFIX}{entry.target} ")).items():
            room = key.removeprefix(PREFIX).partition(" ")[2]
            inviter = _inviter_in(raw) or self._readers.of(room)
            if inviter != entry.requester or entry.room not in (None, room):
                continue
            await self._host.put(key, _row(AGREED, inviter) if agrees else None)
            if agrees:
                self._later(partial(self._bring_in, key))
            elif self._directs.of(room) is not None:
                self._asker(entry.requester).heard_of(entry.target, agrees=False)

    async def _bring_in(self, key: str) -> None:
        person, _, room = key.removeprefix(PREFIX).partition(" ")
        try:
            await self.invite(room, person, _inviter_in(await self._host.get(key) or b""))
        except Disconnected:
            return  # asked again at the next start
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.info("not_brought_in", room=room, why=type(problem).__name__)
        await self._host.put(key, None)
        if (direct := self._directs.of(room)) is not None:
            self._asker(direct.user).heard_of(person, agrees=True)


def _row(state: bytes, inviter: str) -> bytes:
    return state + b" " + inviter.encode()


def _inviter_in(row: bytes) -> str:
    return row.partition(b" ")[2].decode()


def _wanted(person: str, room: str) -> str:
    return f"{PREFIX}{person} {room}"
