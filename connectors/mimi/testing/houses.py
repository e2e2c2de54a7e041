"""Providers on loopback, with certificates on both sides."""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bridgekit.testing.host import FakeHost
from connectors.mimi.certificates import Authority
from connectors.mimi.mls import MemberEngine, Signer, installed
from connectors.mimi.service.assets import Assets
from connectors.mimi.service.downloads import Downloads
from connectors.mimi.service.peers import Credentials, Peers
from connectors.mimi.service.provider import Local, Provider
from connectors.mimi.service.punctual import Punctual
from connectors.mimi.service.server import FILES, Rates, Server


class House:
    """One provider, running. `store` outlives it."""

    def __init__(
        self, domain: str, credentials: Credentials, store: dict[str, bytes], signer: Signer, local: Local
    ) -> None:
        self.domain = domain
        self.credentials = credentials
        self.store = store
        self.signer = signer
        self.local = local
        self.host = FakeHost(domain, kept=store)
        self.addresses: dict[str, str] = {}
        self.provider: Provider
        self.peers: Peers
        self.punctual = Punctual()
        self.port = 0


@asynccontextmanager
async def running(house: House, engine: MemberEngine, *, claims: Rates | None = None) -> AsyncIterator[House]:
    """Serve, and send what waits, until the end of the block; on the same port the next time."""
    async with AsyncExitStack() as stack:
        house.host = FakeHost(house.domain, kept=house.store)
        house.peers = await stack.enter_async_context(Peers(house.domain, house.credentials, house.addresses))
        house.provider = Provider(
            house.domain,
            host=house.host,
            engine=engine,
            signer=house.signer,
            hub_key=b"h" * 32,
            peers=house.peers,
            local=house.local,
        )
        await house.provider.load()
        listening = socket.create_server(("127.0.0.1", house.port))
        house.port = listening.getsockname()[1]
        base = house.addresses[house.domain] = f"https://127.0.0.1:{house.port}"
        downloads = Downloads(
            house.provider.asset_domains, house.provider.peers_of_rooms, house.peers.outside
        )
        assets = Assets(house.domain, house.host, base=base + FILES, peers=house.peers, downloads=downloads)
        server = Server(
            house.provider, house.host, base=base, assets=assets, claims=claims, punctual=house.punctual
        )
        await stack.enter_async_context(server.listening(listening, house.credentials.server()))
        sending = asyncio.create_task(house.provider.outbox.run(), name="outbox")

        async def stop() -> None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

        stack.push_async_callback(stop)
        yield house


class Town:
    """Providers that know where the others are."""

    def __init__(
        self, folder: Path, engine: MemberEngine, *domains: str, local: Callable[[str], Local]
    ) -> None:
        self.engine = engine
        self.authority = Authority(folder, now=datetime.datetime.now(datetime.UTC))
        addresses: dict[str, str] = {}
        self.houses = {
            domain: House(
                domain,
                self.authority.issue(domain),
                {},
                engine.identity(f"mimi://{domain}".encode()),
                local(domain),
            )
            for domain in domains
        }
        for house in self.houses.values():
            house.addresses = addresses

    def __getitem__(self, domain: str) -> House:
        return self.houses[domain]


@asynccontextmanager
async def town(
    folder: Path, *domains: str, local: Callable[[str], Local], claims: Rates | None = None
) -> AsyncIterator[Town]:
    """All of them running; `local` makes the users of a domain."""
    made = Town(folder, installed(), *domains, local=local)
    async with AsyncExitStack() as stack:
        for house in made.houses.values():
            await stack.enter_async_context(running(house, made.engine, claims=claims))
        yield made
