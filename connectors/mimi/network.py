"""One provider as a network of the bridge: how its rooms are called, and the session that is the whole provider."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from bridgekit.contract.connector import Host, OwnAccounts
from bridgekit.contract.errors import Disconnected, LoginRejected, PeerMisbehaved
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import File, Login
from connectors.mimi import uris
from connectors.mimi.account_session import AccountSession
from connectors.mimi.clients.parting import parted
from connectors.mimi.clients.speaking import Speaking
from connectors.mimi.clients.tenants import Tenants
from connectors.mimi.config import MimiConfig
from connectors.mimi.mls import Signer, installed
from connectors.mimi.service.assets import Assets
from connectors.mimi.service.downloads import Downloads
from connectors.mimi.service.peers import Peers
from connectors.mimi.service.provider import Provider
from connectors.mimi.service.renewing import Renewing
from connectors.mimi.service.searching import FINDABLE, Findable
from connectors.mimi.service.server import FILES, Server
from connectors.mimi.session import MimiSession
from connectors.mimi.uris import Thing

_IDENTITY, _HUB_KEY, _SEED = "own/identity", "own/hub-key", "own/seed"


class MimiNetwork:
    """What is known before anything is connected: names. The accounts live in the relay's session, the provider."""

    # Who speaks in a shared room has a client here without an account; it is for being reached by name.
    own_accounts = OwnAccounts.ON_REQUEST
    asks_first = True
    # Whoever does not know whether the hub took something says it again, in another epoch perhaps; and what was heard
    # is told before its seat is stored.
    retells = True

    def __init__(self, config: MimiConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._engine = installed()
        self._assets: Assets | None = None
        self._provider: MimiSession | None = None
        self._up = asyncio.Event()
        # Who leaves while the provider comes up waits: it has read already who does, and cannot be told yet.
        self._coming_up = asyncio.Lock()
        host.opens_files(self._opened)

    @asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[MimiSession | AccountSession]:
        """Be the provider: listen, and send what waits. Raises Disconnected where the port or a file cannot be had.

        With a login: one of those who are hosted here, as soon as the provider is up.
        """
        if login is None:
            async with AsyncExitStack() as stack:
                async with self._coming_up:
                    provider = self._provider = await stack.enter_async_context(self._running())
                self._up.set()
                try:
                    yield provider
                finally:
                    self._up.clear()
                    self._provider = None
            return
        try:
            findable = Findable(login.fields.get(FINDABLE, Findable.NO))
        except ValueError:
            raise LoginRejected(f"{FINDABLE} is one of {', '.join(Findable)}.") from None
        while self._provider is None:
            await self._up.wait()
        yield AccountSession(self._provider, login.owner, findable)

    async def take_leave(self, login: Login) -> None:
        """They are reached here no more: direct rooms are left and keys forgotten, now or once we are up."""
        user = uris.hosted(self._config.domain, login.owner)
        async with self._coming_up:
            if self._provider is None:
                await self._host.put_all(parted(user))
            else:
                await self._provider.tenants.parting.begin(user)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[MimiSession]:
        config = self._config
        credentials = config.credentials
        async with AsyncExitStack() as stack:
            try:
                context = credentials.server()
                peers = await stack.enter_async_context(Peers(config.domain, credentials, config.peers))
                listening = stack.enter_context(socket.create_server((config.listen, config.port)))
            except OSError as error:
                raise Disconnected(f"The provider cannot listen: {error.strerror or error}.") from error
            signer, hub_key, seed = await self._own()
            base = config.public_url or f"https://{config.domain}:{listening.getsockname()[1]}"
            files = base.rstrip("/") + FILES
            tenants = Tenants(
                config.domain,
                host=self._host,
                engine=self._engine,
                peers=peers,
                hub=signer,
                files=files,
                open_rooms=config.open_rooms,
            )
            provider = Provider(
                config.domain,
                host=self._host,
                engine=self._engine,
                signer=signer,
                hub_key=hub_key,
                peers=peers,
                local=tenants,
            )
            await provider.load()
            await tenants.load(provider)
            downloads = Downloads(provider.asset_domains, provider.peers_of_rooms, peers.outside)
            self._assets = assets = Assets(
                config.domain, self._host, base=files, peers=peers, downloads=downloads
            )
            await assets.load()
            server = Server(provider, self._host, base=base, assets=assets)
            await stack.enter_async_context(server.listening(listening, context))
            renewing = Renewing(credentials, (context, peers.context), self._host.log)
            for running, name in ((provider.outbox.run(), "outbox"), (renewing.run(), "certificate")):
                stack.push_async_callback(_stop, asyncio.create_task(running, name=f"mimi {name}"))
            session = MimiSession(self._host, tenants, Speaking(tenants, assets, seed=seed), assets)
            stack.push_async_callback(session.close)
            yield session

    @asynccontextmanager
    async def _opened(self, file: File) -> AsyncIterator[AsyncIterator[bytes]]:
        if self._assets is None:
            raise Disconnected("The provider is not up yet.")
        async with self._assets.opened(file) as chunks:
            yield chunks

    async def _own(self) -> tuple[Signer, bytes, bytes]:
        """The hub's own keys and the seed of salts, made the first time."""
        kept = await self._host.items("own/")
        if _IDENTITY in kept and _HUB_KEY in kept and _SEED in kept:
            return self._engine.restore_identity(kept[_IDENTITY]), kept[_HUB_KEY], kept[_SEED]
        signer = self._engine.identity(f"mimi://{self._config.domain}".encode())
        key, seed = secrets.token_bytes(32), secrets.token_bytes(32)
        identity = self._engine.export_identity(signer)
        await self._host.put_all({_IDENTITY: identity, _HUB_KEY: key, _SEED: seed})
        return signer, key, seed

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        """A room by its URI, or one of ours by its name alone; a user of another provider is a private chat."""
        try:
            if uris.is_user(name):
                chat = self.direct(PersonId(name))
                return None if chat is None else (chat, True)
            if name.startswith("mimi://"):
                uris.parse(name, Thing.ROOM)
                return ChatId(name), False
            uri = str(uris.Uri(self._config.domain, Thing.ROOM, name))
            return (ChatId(uri), False) if uris.parse(uri, Thing.ROOM).name == name.strip() != "" else None
        except (PeerMisbehaved, UnicodeEncodeError):
            return None

    def chat_name(self, chat: ChatId) -> str:
        """Its URI."""
        return chat

    def whereabouts(self, chat: ChatId) -> str:
        """Its URI."""
        return chat

    def direct(self, person: PersonId) -> ChatId | None:
        """Called by the URI of whom it is with. Nobody of this provider: they talk on Matrix."""
        if not uris.is_user(person) or uris.parse(person).domain == self._config.domain:
            return None
        return ChatId(person)

    def is_service(self, person: PersonId) -> bool:
        """Providers offer none that could be written to."""
        return False


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
