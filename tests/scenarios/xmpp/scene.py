"""A linked room with somebody on either side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from bridgekit.testing.person import Person as MatrixPerson
from connectors.xmpp.testing.person import Person
from tests.scenarios.xmpp.lab import XMPP, Lab


@dataclass(frozen=True, kw_only=True)
class Scene:
    """alice on Matrix, bob on XMPP, and where they talk."""

    lab: Lab
    alice: MatrixPerson
    bob: Person
    room: str
    muc: str
    network: str

    def another(self, stem: str) -> AbstractAsyncContextManager[Person]:
        """Somebody else on the same XMPP server, in the room."""
        return self.lab.xmpp(stem, self.muc, network=self.network)


@asynccontextmanager
async def scenery(lab: Lab, network: str = XMPP) -> AsyncIterator[Scene]:
    muc = lab.room_name()
    async with lab.matrix("alice") as alice, lab.xmpp("bob", muc, network=network) as bob:
        room = await lab.linked(alice, muc, network)
        yield Scene(lab=lab, alice=alice, bob=bob, room=room, muc=muc, network=network)
