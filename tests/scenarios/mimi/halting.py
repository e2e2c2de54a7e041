"""Ahead of a bridge: its process stands still in the middle of a commit, where a test asked for it.

The test writes which moment of whose commit into the file `halt` of the bridge's folder. Who comes there calls it
`halted` and stops (SIGSTOP), to be killed there: nothing of the process runs any more, neither its other tasks nor
the thread of its database.
Here is no import of pytest's, and nothing of this is in the bridge.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectors.mimi.clients.commits import Commits
from connectors.mimi.clients.hearing import Hearing
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.seats import Asked, Seats
from connectors.mimi.service.peers import Answer
from connectors.mimi.service.provider import Provider
from connectors.mimi.wire import rooms
from connectors.mimi.wire.rooms import FANOUTS, CommitFanout, Fanout

HALT, HALTED = "halt", "halted"
MOMENTS = ("staged", "arrived", "accepted", "answered", "merged", "unsent", "heard", "kept")
"""Of one commit, in order: on the disk of who makes it; at the hub, which has decided nothing; on the hub's disk, not
answered; answered, not merged; merged, and perhaps not fanned out; on its way to be fanned out; taken in by who is
told, not on their disk; on their disk, not acknowledged."""


def at(moment: str, whose: str) -> None:
    """Stand still, if this is what the test waits for."""
    order = Path(HALT)
    if order.exists() and order.read_text() == f"{moment} {whose}":
        order.rename(HALTED)
        os.kill(os.getpid(), signal.SIGSTOP)


def install() -> None:
    """From now on this process looks for orders where commits pass by."""
    asking, taken, update, send = Seats.asking, Commits._taken, Provider.update, Provider._send
    take_in, keep_all = Hearing.take_in, Hearing.all_hear

    async def halting_asking(self: Seats, room: str, asked: Asked, *seats: Seat) -> None:
        await asking(self, room, asked, *seats)
        at("staged", self._domain)

    async def halting_taken(self: Commits, room: str, asked: Asked, accepted: int) -> None:
        at("answered", self._seats._domain)
        await taken(self, room, asked, accepted)
        at("merged", self._seats._domain)

    async def halting_update(
        self: Provider, uri: str, request: rooms.UpdateRequest, source: str
    ) -> rooms.UpdateResponse:
        commits = isinstance(request, rooms.CommitBundle)
        if commits:
            at("arrived", source)
        response = await update(self, uri, request, source)
        if commits and isinstance(response, rooms.Updated):
            at("accepted", source)
        return response

    async def halting_send(self: Provider, to: str, room: str, body: bytes) -> Answer:
        if any(isinstance(one, CommitFanout) for one in FANOUTS.decode(body)):
            at("unsent", _other(to))
        return await send(self, to, room, body)

    async def halting_take_in(
        self: Hearing, room: str, fanout: Fanout, *, but: str
    ) -> tuple[list[Seat], bool]:
        found = await take_in(self, room, fanout, but=but)
        if isinstance(fanout, CommitFanout) and not but and found[0]:
            at("heard", _other(self._home.domain))
        return found

    async def halting_hear(self: Hearing, room: str, fanout: Fanout, *, but: str) -> bool:
        proposed = await keep_all(self, room, fanout, but=but)
        if isinstance(fanout, CommitFanout) and not but:
            at("kept", _other(self._home.domain))
        return proposed

    replaced: Sequence[tuple[type, str, Any]] = (
        (Seats, "asking", halting_asking),
        (Commits, "_taken", halting_taken),
        (Hearing, "take_in", halting_take_in),
        (Hearing, "all_hear", halting_hear),
        (Provider, "update", halting_update),
        (Provider, "_send", halting_send),
    )
    for owner, name, instead in replaced:
        setattr(owner, name, instead)


def _other(domain: str) -> str:
    """The hub tells each provider of the other's commits only (draft-ietf-mimi-protocol-06 5.5)."""
    return {"a.example": "b.example", "b.example": "a.example"}[domain]


install()
