"""People with clients, as the tests of hubs and providers need them."""

from __future__ import annotations

from typing import Any

from connectors.mimi.clients.seat import Seat
from connectors.mimi.mls import MemberEngine, Signer, installed
from connectors.mimi.service import presets
from connectors.mimi.service.people import People
from connectors.mimi.service.shelf import Package
from connectors.mimi.wire.components import FrankingAgent, RoomMetadata
from connectors.mimi.wire.mls import CREDENTIAL, KEY_PACKAGE, MLS_MESSAGE, KeyPackage
from connectors.mimi.wire.rooms import WelcomeFanout

ROOM = "mimi://a.example/r/club"


class Client:
    """One client of a user, with its key packages."""

    def __init__(
        self, name: str, domain: str, device: str = "1", *, engine: MemberEngine | None = None
    ) -> None:
        self.engine = engine or installed()
        self.domain = domain
        self.user = f"mimi://{domain}/u/{name}"
        self.uri = f"mimi://{domain}/d/{name}/{device}"
        self.identity: Signer = self.engine.identity(self.uri.encode())
        self.packages = self.engine.key_packages({})

    def package(self, *, last_resort: bool = False) -> Package:
        """A new key package, as it lies on a shelf."""
        made: Any = self.packages.generate(self.identity, last_resort=last_resort)
        opened = MLS_MESSAGE.decode(made.message)
        assert isinstance(opened, KeyPackage)
        return Package(made.reference, KEY_PACKAGE.encode(opened), made.not_after, last_resort)

    def join(self, fanout: WelcomeFanout, room: str = ROOM) -> Seat:
        return Seat.join(self.engine, self.identity, self.packages, fanout, user=self.user, room_uri=room)


def hub_identity(domain: str = "a.example") -> Signer:
    return installed().identity(f"mimi://{domain}".encode())


def create(
    client: Client, hub: Signer, room: str = ROOM, *, other: str | None = None, open_: bool = False
) -> Seat:
    """The group of a new room, at its creator."""
    app_data = presets.app_data(
        creator=client.user,
        metadata=RoomMetadata(room, name="Club"),
        agent=FrankingAgent(hub.signature_key, CREDENTIAL.decode(hub.credential)),
        other=other,
        discoverable=open_,
    )
    return Seat.create(
        client.engine,
        client.identity,
        user=client.user,
        room_uri=room,
        app_data=app_data,
        hub=(hub.signature_key, hub.credential),
    )


PEOPLE = People()
