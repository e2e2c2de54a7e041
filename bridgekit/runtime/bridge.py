"""The bridge as a whole: everything wired together, started, reloaded and stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog
from aiohttp import web

from bridgekit.admin import server as admin
from bridgekit.admin.metrics import Metrics, Queue
from bridgekit.config import Config, StatusEvents
from bridgekit.contract import facts
from bridgekit.contract.connector import Connector, Manifest, Network
from bridgekit.contract.errors import BridgeError, MatrixError
from bridgekit.contract.ids import LoginId, NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.matrix.appservice import Appservice
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.fetch import fetch_remote
from bridgekit.matrix.links import Links
from bridgekit.matrix.media import PublicMedia
from bridgekit.runtime.accounts import Accounts
from bridgekit.runtime.bot import Bot
from bridgekit.runtime.fates import Fates
from bridgekit.runtime.files import Fetch, Files
from bridgekit.runtime.ghosts import Ghosts
from bridgekit.runtime.host import NetworkHost
from bridgekit.runtime.making import Making
from bridgekit.runtime.management import ManagementRooms
from bridgekit.runtime.matrix_side import MatrixSide
from bridgekit.runtime.names import Names
from bridgekit.runtime.performing import Performing
from bridgekit.runtime.pictures import Pictures
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.powers import Powers
from bridgekit.runtime.reception import Reception
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.rooms import Rooms
from bridgekit.runtime.sessions import State, Supervised
from bridgekit.runtime.spaces import Spaces
from bridgekit.runtime.standing import StandingLinks
from bridgekit.runtime.surroundings import RoomSurroundings
from bridgekit.runtime.upgrades import Upgrades
from bridgekit.store import SealingKey, Store

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 6.0


class Bridge:
    """One bridge process. `async with Bridge(config, connectors)` runs it; leaving the block drains and stops it."""

    def __init__(
        self, config: Config, connectors: Mapping[str, Connector], *, fetch: Fetch = fetch_remote
    ) -> None:
        """`fetch` opens the files that networks point at."""
        self.config = config
        self._fetch = fetch
        self.metrics = Metrics()
        self._connectors = connectors
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._networks: dict[NetworkId, Network] = {}
        self._manifests: dict[NetworkId, Manifest] = {}

    # Start and stop ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        drained = await self.rooms.drain(DRAIN_SECONDS)
        log.info("bridge_stops", drained=drained)
        await self.rooms.stop()
        self.ghosts.stop()
        while self._tasks:
            await asyncio.sleep(0)  # what was spawned this moment begins, and takes up what it was given
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        # Only now: what waits for a session is on disk, and must not be told that there will be none.
        await self.accounts.stop_all()
        await self._stack.aclose()

    async def _start(self) -> None:
        config = self.config
        server = config.homeserver.server_name
        self.bot = PersonId(f"@{config.appservice.bot}:{server}")
        key = SealingKey.load_or_create(config.store.key_file)
        self.store = await Store.open(config.store.url.get_secret_value(), key=key)
        self._stack.push_async_callback(self.store.close)
        self.client = await self._stack.enter_async_context(
            MatrixClient(
                config.homeserver.url,
                config.appservice.as_token.get_secret_value(),
                bot=self.bot,
                metrics=self.metrics,
            )
        )
        self.namespace = Namespace(config.appservice.prefix, server)
        self.registry = Registry(self.store)
        await self.registry.load()
        self._wire(key.derive("links"))
        self.metrics.declare(list(self._networks))
        await self.ghosts.load(list(self._networks), list(self.registry.portals))
        left = await self.rooms.recover()
        if left:
            log.info("recovering", facts=left)
        await self._listen()
        self.accounts.start_all()
        self.spawn(self._settle_in())

    def _wire(self, links_key: bytes) -> None:
        config = self.config
        public = config.public
        self._links = Links(
            public.url if public else None, links_key, int(public.expires) if public else 0, now=time.time
        )
        self._routes: list[web.RouteDef] = []
        self.ghosts = Ghosts(
            self.client,
            self.store,
            self.namespace,
            template=config.messages.display_name,
            network_name=self.label,
            spawn=self.spawn,
        )
        files = Files(self.client, self._fetch)
        powers = Powers(self.client, bot=self.bot, spawn=self.spawn)
        self._matrix = MatrixSide(
            self.client,
            self.ghosts,
            bot=self.bot,
            files=files,
            pictures=Pictures(self.client, self.ghosts, files, spawn=self.spawn),
            powers=powers,
        )
        self.accounts = Accounts(
            self._networks,
            self._manifests,
            self.registry,
            emit=lambda network, login, fact: self.rooms.remote(network, login, fact),
            changed=self._session_changed,
            label=self.label,
        )
        self._performing = Performing(
            store=self.store,
            registry=self.registry,
            ghosts=self.ghosts,
            matrix=self._matrix,
            sessions=self.accounts.sessions,
            links=self._links,
            namespace=self.namespace,
            bot=self.bot,
            label=self.label,
            permission=self.permission,
            puppets=config.appservice.double_puppets,
        )
        for id, section in config.networks.items():
            connector = self._connectors[section.connector]
            host = NetworkHost(
                id,
                store=self.store,
                client=self.client,
                registry=self.registry,
                links=self._links,
                owner_on=self._performing.owner_on,
                routes=self._routes,
            )
            self._manifests[id] = connector.manifest
            self._networks[id] = connector.network(section.config, host)
        self.portals = Portals(
            self.client,
            self.registry,
            self.ghosts,
            self.accounts,
            self._networks,
            self.namespace,
            bot=self.bot,
            label=self.label,
            spaces=Spaces(
                self.client,
                self.registry,
                self.namespace,
                bot=self.bot,
                label=self.label,
                networks=frozenset(n for n, section in config.networks.items() if section.space),
            ),
            spawn=self.spawn,
        )
        self.making = Making(
            self.client,
            self.registry,
            self.ghosts,
            self.accounts,
            self.portals,
            self._networks,
            self.namespace,
            bot=self.bot,
            label=self.label,
            spawn=self.spawn,
        )
        self.management = ManagementRooms(self.client, self.registry, self.portals.say)
        self._standing = StandingLinks(
            self.client, self.registry, self.portals, bot=self.bot, spawn=self.spawn
        )
        self._bot = Bot(
            self.client,
            self.portals,
            self.making,
            self.registry,
            self.accounts,
            self._manifests,
            me=self.bot,
            label=self.label,
            permission=self.permission,
        )
        self._fates = Fates(
            self.client,
            self.bot,
            every=config.messages.status_events is StatusEvents.ALL,
            spawn=self.spawn,
        )
        self.names = Names(self.client)
        around = RoomSurroundings(
            client=self.client,
            store=self.store,
            registry=self.registry,
            accounts=self.accounts,
            networks=self._networks,
            ghosts=self.ghosts,
            names=self.names,
            performing=self._performing,
            portals=self.portals,
            making=self.making,
            management=self.management,
            standing=self._standing,
            upgrades=Upgrades(self.client, self.registry, self.ghosts, self.portals, spawn=self.spawn),
            powers=powers,
            bot=self._bot,
            fates=self._fates,
            metrics=self.metrics,
            namespace=self.namespace,
            me=self.bot,
            permission=self.permission,
            spawn=self.spawn,
        )
        self.rooms = Rooms(
            self.store,
            self.registry,
            around,
            names=self.names,
            unlinked=self.making.unlinked,
            invitation=self._invited,
            overhear=self.portals.overhear,
            spawn=self.spawn,
        )
        self._reception = Reception(
            self.store,
            self.rooms,
            self.registry,
            self.portals,
            self.making,
            self.ghosts,
            self.namespace,
            self._manifests,
            bot=self.bot,
            label=self.label,
            puppets=config.appservice.double_puppets,
            is_echo=self._matrix.is_echo,
            outcome=self.metrics.transaction,
            parked=self.metrics.parked,
            spawn=self.spawn,
        )
        self.metrics.watch_queue(Queue.ROOMS, self.rooms.depth)
        self.metrics.watch_queue(Queue.JOINS, lambda: (self.ghosts.waiting, 0.0))
        self.metrics.watch_sessions(self.accounts.states)
        self.metrics.watch_inbox(self.store.inbox.count, self.store.inbox.count_parked)

    async def _listen(self) -> None:
        appservice = Appservice(self.config.appservice.hs_token.get_secret_value(), self._reception)
        app = web.Application(client_max_size=0)
        app.add_routes(appservice.routes())
        app.add_routes(PublicMedia(self._links, self.client).routes())
        app.add_routes(self._routes)
        listen = admin.serve
        self.address = await self._stack.enter_async_context(
            listen(app, self.config.appservice.listen, "appservice.listen")
        )
        look = admin.application(self.metrics, self._health)
        self.admin_address = await self._stack.enter_async_context(
            listen(look, self.config.admin.listen, "admin.listen")
        )

    async def _settle_in(self) -> None:
        """What wants the homeserver: the bot exists, the homeserver knows we are here, the config's links stand."""
        client = self.client.patient
        try:
            await client.register(self.config.appservice.bot)
            await client.set_displayname("bridgekit")
            await self.client.ping(self.config.appservice.id)
        except MatrixError as error:
            log.warning("homeserver_check", reason=error.notice)
        self._standing.stand(self.config)

    def reload(self, config: Config) -> list[str]:
        """Take over what can change while the bridge runs; says, as sentences, what needs a restart."""
        if config.messages.status_events != self.config.messages.status_events:
            self._fates.every = config.messages.status_events is StatusEvents.ALL
        fixed = [
            name
            for name in ("homeserver", "appservice", "store", "admin", "public")
            if getattr(config, name) != getattr(self.config, name)
        ]
        if config.messages.display_name != self.config.messages.display_name:
            fixed.append("messages.display_name")
        for id, section in config.networks.items():
            before = self.config.networks.get(id)
            if before is None or (before.config, before.space) != (section.config, section.space):
                fixed.append(f"networks.{id}")
        fixed += [f"networks.{id}" for id in self.config.networks if id not in config.networks]
        self.config = config
        self._standing.stand(config)
        return [f"{name} has changed: restart the bridge for that." for name in fixed]

    # Accounts ------------------------------------------------------------------------------------------------

    def _session_changed(self, supervised: Supervised) -> None:
        if supervised.state is State.WAITING:
            self.metrics.reconnect(supervised.id)
        if supervised.login is not None and supervised.state in (State.REJECTED, State.READY):
            self.spawn(self._login_changed(supervised.login.id, supervised.reason))

    async def _login_changed(self, login: LoginId, rejected: str) -> None:
        """Keep whether a login is of use; its owner is told once of each reason why it is not."""
        row = self.registry.logins.get(login)
        state = "rejected" if rejected else "wanted"
        if row is None or (row.state, row.reason) == (state, rejected):
            return
        await self.registry.put_login(msgspec.structs.replace(row, state=state, reason=rejected))
        if rejected:
            words = f"Your account on {self.label(row.network)} cannot be used: {rejected}"
            await self.management.tell(row.login.owner, words)

    async def _invited(self, network: NetworkId, login: LoginId | None, fact: facts.Invitation) -> None:
        """An account was asked into a chat: its owner is told, and nothing is joined by itself."""
        row = self.registry.logins.get(login) if login is not None else None
        if row is None:
            log.info("invited", network=network)  # the relay: who links a chat asks it in
            return
        name = fact.name or self._networks[network].chat_name(fact.chat)
        await self.management.tell(
            row.login.owner,
            f"{fact.sender.name} asks you into {name} on {self.label(network)}. To take part, invite me to a room "
            f"and say there: !bridge link {network} {name}",
        )

    def _health(self) -> dict[str, admin.Part]:
        parts = {
            "homeserver": admin.Part(ok=self.client.available),
            "store": admin.Part(ok=self.store.trouble is None, detail=self.store.trouble or ""),
        }
        for network in self._networks:
            ok = self.accounts.is_ready(network)
            # A network that is away is shown, and is no reason to send the homeserver's transactions elsewhere.
            status = self.accounts.status(network)
            parts[f"network.{network}"] = admin.Part(ok=ok, detail=status, needed=False)
        return parts

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Own a task until it ends; a fault in it is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            level = log.warning if isinstance(error, BridgeError) else log.error
            level(
                "task_failed",
                kind=type(error).__name__,
                exc_info=None if isinstance(error, BridgeError) else error,
            )

    # Small questions -------------------------------------------------------------------------------------------

    def label(self, network: NetworkId) -> str:
        """What people call a network."""
        section = self.config.networks.get(network)
        return (section.name or str(network)) if section is not None else str(network)

    def permission(self, user: PersonId) -> Permission:
        """What the admin lets a Matrix user do."""
        return self.config.permission(user)
