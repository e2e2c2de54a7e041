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
from bridgekit.admin.metrics import Direction, Metrics, Queue
from bridgekit.config import Config, StatusEvents
from bridgekit.contract import facts
from bridgekit.contract.connector import Connector, Manifest, Network, OwnAccounts
from bridgekit.contract.errors import BridgeError, ConfigError, MatrixError
from bridgekit.contract.facts import Change
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import File
from bridgekit.contract.text import excerpt
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.matrix import translate
from bridgekit.matrix.appservice import Appservice
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.fetch import fetch_remote
from bridgekit.matrix.links import Links
from bridgekit.matrix.media import PublicMedia
from bridgekit.runtime.accounts import Accounts
from bridgekit.runtime.bot import Bot
from bridgekit.runtime.cases import Case, Fate
from bridgekit.runtime.fates import Fates
from bridgekit.runtime.ghosts import Ghosts
from bridgekit.runtime.host import NetworkHost
from bridgekit.runtime.matrix_side import MatrixSide
from bridgekit.runtime.names import Names
from bridgekit.runtime.performing import Performing
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.reception import Reception
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.rooms import Rooms
from bridgekit.runtime.sessions import State, Supervised
from bridgekit.store import Portal, SealingKey, Store

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 8.0
REMOTE_FILE_LIMIT = 50 * 1024 * 1024


class Bridge:
    """One bridge process. `async with Bridge(config, connectors)` runs it; leaving the block drains and stops it."""

    def __init__(self, config: Config, connectors: Mapping[str, Connector]) -> None:
        self.config = config
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
        await self.accounts.stop_all()
        await self.rooms.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        self._matrix = MatrixSide(
            self.client, self.ghosts, bot=self.bot, reupload=self._reupload, spawn=self.spawn
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
            spaces=frozenset(n for n, section in config.networks.items() if section.space),
            spawn=self.spawn,
        )
        self._bot = Bot(
            self.client,
            self.portals,
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
        self.rooms = Rooms(
            self.store,
            self.registry,
            self,
            names=self.names.of,
            unlinked=self.portals.unlinked,
            overhear=self.portals.overhear,
            spawn=self.spawn,
        )
        self._reception = Reception(
            self.store,
            self.rooms,
            self.registry,
            self.portals,
            self.ghosts,
            self.namespace,
            self._manifests,
            bot=self.bot,
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
        for id, section in self.config.networks.items():
            for link in section.links:
                self.spawn(self._link_static(id, link.chat, link.room))

    async def _link_static(self, network: NetworkId, chat: str, room: str) -> None:
        """A link of the config: tried until it stands."""
        wait = 5.0
        while True:
            try:
                found = ChatId(room)
                if room.startswith("#"):
                    resolved = await self.client.patient.resolve_alias(room)
                    if resolved is None:
                        raise ConfigError([(f"networks.{network}.links", f"there is no room {room}")])
                    found = resolved[0]
                await self.client.patient.join(room if room.startswith("#") else found)
                await self.portals.link(found, network, chat, self.bot, static=True)
                return
            except BridgeError as error:
                log.warning("link_not_made", network=network, reason=error.notice, retry_in=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 300.0)

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
                continue
            for link in section.links:
                if link not in before.links:
                    self.spawn(self._link_static(id, link.chat, link.room))
        fixed += [f"networks.{id}" for id in self.config.networks if id not in config.networks]
        self.config = config
        return [f"{name} has changed: restart the bridge for that." for name in fixed]

    # Accounts ------------------------------------------------------------------------------------------------

    def _session_changed(self, supervised: Supervised) -> None:
        if supervised.state is State.WAITING:
            self.metrics.reconnect(supervised.id)
        if supervised.login is not None and supervised.state is State.REJECTED:
            self.spawn(self._tell_owner(supervised))

    async def _tell_owner(self, supervised: Supervised) -> None:
        if supervised.login is None:
            return
        room = await self._management_room(supervised.login.owner)
        label = self.label(supervised.id)
        await self.portals.say(room, f"Your account on {label} cannot be used: {supervised.reason}")

    async def _management_room(self, owner: PersonId) -> ChatId:
        for portal in self.registry.portals.values():
            if portal.kind == "management" and portal.creator == owner:
                return portal.room
        room = await self.client.patient.create_room(
            preset="trusted_private_chat", is_direct=True, invite=[owner], name="bridgekit"
        )
        await self._keep_management(room, owner, made=True)
        return room

    async def _keep_management(self, room: ChatId, owner: PersonId, *, made: bool) -> None:
        await self.registry.put_portal(
            Portal(room=room, network=None, made=made, kind="management", creator=owner)
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

    # What the workers lean on (bridgekit.runtime.worker.Surroundings) ------------------------------------------

    def context(self, room: ChatId, case: Case, known: Any) -> Any:
        return self._performing.context(room, case, known)

    def pipeline(self, side: PortalKey) -> int:
        return self._performing.pipeline(side)

    def sides(self, room: ChatId) -> list[PortalKey]:
        return [link.key for link in self.registry.links_of(room)]

    def parked(self, side: PortalKey) -> None:
        self.metrics.parked(side.network)

    async def perform(self, room: ChatId, step: Any, ids: Any) -> Any:
        return await self._performing.perform(room, step, ids)

    def command(self, room: ChatId, case: Case, words: str) -> Coroutine[Any, Any, None]:
        return self._bot.obey(room, case, words)

    def observe(self, room: ChatId, case: Case) -> Coroutine[Any, Any, None] | None:
        """What the runtime itself has to do about a fact, before it is planned."""
        match case.fact:
            case translate.StateChanged():
                return self._state_changed(room, case.fact)
            case facts.Membership() if case.origin.network == MATRIX:
                return self._matrix_member(room, case.fact)
            case facts.Message(sender=sender) if case.origin.network == MATRIX:
                return self._own_accounts(room, sender.id)
            case facts.ChatVisibility() | facts.ChatOpened() | facts.ChatClosed() | facts.Resync():
                return self.portals.observe(case.origin, case.fact)
            case _:
                return None

    def _own_accounts(self, room: ChatId, sender: PersonId) -> Coroutine[Any, Any, None] | None:
        """Accounts for somebody who speaks where everybody has their own, and has none yet."""
        wanted = [
            link.key.network
            for link in self.registry.links_of(room)
            if self._networks[link.key.network].own_accounts is OwnAccounts.AUTOMATIC
            and sender not in self.registry.logins_on(link.key.network)
        ]
        if not wanted or self.permission(sender) in (Permission.NONE, Permission.RELAY):
            return None

        async def open_all() -> None:
            for network in wanted:
                await self.accounts.open(network, sender)

        return open_all()

    async def _state_changed(self, room: ChatId, fact: translate.StateChanged) -> None:
        if fact.type == "m.room.tombstone":
            replacement = fact.content.get("replacement_room")
            if isinstance(replacement, str) and replacement:
                await self.portals.upgraded(room, ChatId(replacement))

    async def _matrix_member(self, room: ChatId, fact: facts.Membership) -> None:
        person = fact.person.id
        if fact.change is Change.INVITE:
            if person == self.bot:
                await self._bot_invited(room, fact)
            elif self.namespace.is_ours(person) and fact.actor is not None:
                await self._ghost_invited(room, person, fact.actor.id)
        elif self.namespace.is_ours(person):
            if fact.change in (Change.KICK, Change.BAN, Change.LEAVE):
                self.ghosts.left(person, room)
        elif fact.change is Change.JOIN:
            self.names.learn(room, person, fact.person.name)

    async def _ghost_invited(self, room: ChatId, ghost: PersonId, inviter: PersonId) -> None:
        try:
            await self.portals.invited(room, ghost, inviter)
        except BridgeError as error:
            log.warning("invitation_not_followed", reason=error.notice)

    async def _bot_invited(self, room: ChatId, fact: facts.Membership) -> None:
        inviter = fact.actor.id if fact.actor is not None else None
        if inviter is None or self.permission(inviter) in (Permission.NONE, Permission.RELAY):
            await self.client.patient.leave(room, reason="You are not allowed to use this bridge.")
            return
        await self.client.patient.join(room)
        if fact.private:
            await self._keep_management(room, inviter, made=False)
        await self._bot.greet(room, direct=fact.private)

    async def introduce(self, room: ChatId, case: Case) -> None:
        """Give the sender of a Matrix fact their name."""
        sender = getattr(case.fact, "sender", None)
        if sender is None:
            return
        name = await self.names.find(room, sender.id)
        named = msgspec.structs.replace(sender, name=name)
        case.fact = msgspec.structs.replace(case.fact, sender=named)

    async def words(self, room: ChatId, event: MessageId) -> tuple[str, str]:
        """Who said what in an event of the room, for quotes; empty where it cannot be read."""
        found = await self.client.patient.event(room, event)
        if found is None:
            return "", ""
        fact = translate.fact(msgspec.json.encode(found), self.names.of)
        if not isinstance(fact, facts.Message):
            return "", ""
        name = self.ghosts.shown(fact.sender.id) or await self.names.find(room, fact.sender.id)
        return name, excerpt(fact.content.text, 200) if fact.content.text else ""

    def settled(self, room: ChatId, case: Case) -> Coroutine[Any, Any, None] | None:
        """Everything about a case has a fate: count it, and tell its sender."""
        if isinstance(case.fact, facts.Message):
            seconds = time.monotonic() - case.started
            for outcome in case.outcomes:
                outgoing = outcome.side.network != MATRIX
                network = outcome.side.network if outgoing else case.origin.network
                direction = Direction.TO_NETWORK if outgoing else Direction.TO_MATRIX
                self.metrics.message(network, direction, outcome.fate.value, seconds)
        if case.event is None:
            if any(o.fate is Fate.FAILED and o.notice for o in case.outcomes):
                log.warning(
                    "not_delivered",
                    network=case.origin.network,
                    fact=type(case.fact).__name__,
                    why=next(o.notice for o in case.outcomes if o.notice),
                )
            return None
        return self._fates.report(room, case) if self._fates.concerns(case) else None

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

    async def _reupload(self, file: File, user: PersonId) -> File:
        """A network's file as a Matrix file."""
        async with fetch_remote(file.uri, REMOTE_FILE_LIMIT) as remote:
            mxc = await self.client.upload(remote.chunks(), mime=remote.mime, name=file.name, user=user)
        return msgspec.structs.replace(file, uri=mxc, mime=remote.mime)
