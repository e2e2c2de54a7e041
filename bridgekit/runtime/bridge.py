"""The bridge as a whole: started, reloaded and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web

from bridgekit.admin import api, openapi, page
from bridgekit.admin import server as admin
from bridgekit.admin.callers import PREFIX, PURPOSE
from bridgekit.admin.metrics import Encryption, Metrics, Queue
from bridgekit.config import Config, Network, StatusEvents
from bridgekit.contract.connector import Connector
from bridgekit.contract.errors import ConfigError, MatrixError
from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.core.model import Permission
from bridgekit.matrix.addressee import ELSEWHERE
from bridgekit.matrix.appservice import Appservice
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.fetch import fetch_remote
from bridgekit.matrix.files import Fetch
from bridgekit.matrix.media import PublicMedia
from bridgekit.matrix.unredacted import Unredacted
from bridgekit.runtime.assembly import assemble
from bridgekit.runtime.encryption.laidopen import LaidOpen
from bridgekit.runtime.intake.heartbeat import Heartbeat
from bridgekit.runtime.parts import Parts
from bridgekit.runtime.people.erasure import Report
from bridgekit.runtime.registry import Registry
from bridgekit.store import SealingKey, Store
from bridgekit.tasks import Tasks

log = structlog.get_logger(__name__)

STOP_SECONDS = 9.5
"""In which everything has to end when the bridge stops, whatever stands still; what is not done is on disk."""
DRAIN_SECONDS = 4.5
"""Of these, for what is under way to be done, and `rooms.GRACE` more for what has begun."""
CLOSE_SECONDS = 3.0
"""Of these, the last: for the listeners and the store."""
LEAST_SECONDS = 0.5
"""For each part in any case."""
HOUR, DAY = 3_600.0, 86_400
ASK_AGAIN_SECONDS = 30.0
"""Between two looks whether the homeserver still speaks to another process, and before the first whether it sends keys
by now; twice as long from each of these to the next, an hour at most."""


class Bridge:
    """One bridge process. `async with Bridge(config, connectors)` runs it; leaving the block drains and stops it."""

    def __init__(
        self, config: Config, connectors: Mapping[str, Connector], *, fetch: Fetch = fetch_remote
    ) -> None:
        """`fetch` opens the files that networks point at."""
        self.config = self._started = config
        self._fetch = fetch
        self.metrics = Metrics()
        self._connectors = connectors
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._end: float | None = None  # when it has to be over, once it stops

    # Start and stop ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._tasks.cancel()
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = asyncio.get_running_loop().time() + STOP_SECONDS
        drained = await self.rooms.drain(DRAIN_SECONDS)
        log.info("bridge_stops", drained=drained)
        await self._ended("rooms", self.rooms.stop())
        self._parts.joins.stop()
        await self._ended("tasks", self._tasks.cancel())
        # Only now: what waits for a session is on disk, and must not be told that there will be none.
        await self._ended("sessions", self.accounts.stop_all())
        await self._stack.aclose()

    def _left(self) -> float:
        """Seconds until it has to be over."""
        return STOP_SECONDS if self._end is None else self._end - asyncio.get_running_loop().time()

    async def _ended(self, part: str, stop: Coroutine[Any, Any, None]) -> None:
        """Let a part end, and not wait for it for ever."""
        try:
            async with asyncio.timeout(max(LEAST_SECONDS, self._left() - CLOSE_SECONDS)):
                await stop
        except TimeoutError:
            log.warning("stop_not_waited_for", part=part)

    async def _close_store(self) -> None:
        await self.store.close(within=max(LEAST_SECONDS, self._left()))

    async def _start(self) -> None:
        config = self.config
        self.bot = PersonId(f"@{config.appservice.bot}:{config.homeserver.server_name}")
        key = await self._open_store(config)
        self._stack.push_async_callback(self._close_store)
        self.client = await self._stack.enter_async_context(
            MatrixClient(
                config.homeserver.url,
                config.appservice.as_token.get_secret_value(),
                bot=self.bot,
                metrics=self.metrics,
            )
        )
        self.admin_token = key.derive(PURPOSE).hex()
        self.registry = Registry(self.store)
        await self.registry.load()
        self._parts = parts = Parts(
            config,
            self._connectors,
            client=self.client,
            store=self.store,
            registry=self.registry,
            metrics=self.metrics,
            me=self.bot,
            links_key=key.derive("links"),
            fetch=self._fetch,
            label=self.label,
            permission=self.permission,
            spawn=self._tasks.spawn,
        )
        assemble(parts)
        self.accounts, self.ghosts, self.rooms = parts.accounts, parts.ghosts, parts.rooms
        self.portals, self.making = parts.portals, parts.making
        self.engine = parts.engine
        self.policies = parts.policies
        self.members, self.doorstep, self.erasure = parts.members, parts.doorstep, parts.erasure
        self._watch()
        parts.remains.tell()
        await parts.clearing.load()
        networks = {*parts.networks, *parts.remains.all(), *parts.clearing.networks}
        rooms = dict.fromkeys([*self.registry.portals, *parts.clearing.rooms])
        await self.ghosts.load(list(networks), list(rooms))
        await self.engine.load()
        await parts.echoes.load()
        await parts.protecting.load()
        await parts.consenting.load()
        await parts.directs.load()
        await parts.holding.load()
        await parts.shields.load()
        await parts.upgrades.load()
        await parts.standing.load()
        await parts.erasure.load()
        await parts.reports.load()
        parts.opening.load()
        for side in self.registry.links:
            parts.readers.linked(side)
        self.accounts.place_all()  # before what waits for them is taken up: none may seem to be no more
        left = await self.rooms.recover()
        if left:
            log.info("recovering", facts=left)
        await parts.overdue.load()
        await self._listen()
        self.accounts.start_all()
        self._tasks.spawn(self._settle_in())
        self._tasks.spawn(parts.overdue.run())
        self._tasks.spawn(
            Heartbeat(self.client, admins=lambda: self.config.admins(), tell=parts.management.tell).run()
        )
        self._tasks.spawn(parts.consenting.tend())
        self._tasks.spawn(parts.exposures.watch_directory())
        self._tasks.spawn(parts.shields.keep_telling())
        self._tasks.spawn(parts.reports.keep_telling())
        parts.exposures.start()
        parts.upgrades.start()
        parts.clearing.resume()
        self._tasks.spawn(self._parts.members.keep_retiring(lambda: self.config.members.retire_after // DAY))

    async def _open_store(self, config: Config) -> SealingKey:
        """Open the store with its key, which is made where there is none; the key. Raises ConfigError."""
        file = config.store.key_file
        known = SealingKey.load(file)
        key = known or SealingKey.load_or_create(file)
        try:
            self.store = await Store.open(config.store.url.get_secret_value(), key=key)
        except ConfigError:
            if known is None:  # it opens nothing, and would be kept in the place of the one that does
                file.unlink(missing_ok=True)
            raise
        return key

    def _watch(self) -> None:
        self.metrics.declare(list(self._parts.networks))
        self.metrics.watch_queue(Queue.ROOMS, self.rooms.depth)
        self.metrics.watch_queue(Queue.JOINS, lambda: (len(self._parts.joins), 0.0))
        self.metrics.watch_held(self._parts.holding.counts)
        self.metrics.watch_reports(
            lambda: dict.fromkeys(self._parts.networks, 0) | self._parts.reports.counts()
        )
        self.metrics.watch_sessions(self.accounts.states)
        self.metrics.watch_store(lambda: self.store.trouble is None)
        self.metrics.watch_inbox(self.store.inbox.count, self.store.inbox.count_parked)
        self.metrics.watch_encryption(
            self._encryption, self.store.keys.count_outbound, self.store.keys.count_inbound
        )

    def _encryption(self) -> Encryption:
        engine = self.engine
        return Encryption(
            devices=len(engine.machines.names),
            rooms=len(engine.encrypted_rooms()),
            one_time_keys=engine.machines.bots_keys,
            unread=engine.tally.unread,
            missing=engine.tally.missing,
            withheld=engine.tally.kept,
        )

    async def _listen(self) -> None:
        token = self.config.appservice.hs_token.get_secret_value()
        appservice = Appservice(token, self._parts.reception, turn=self._parts.arrivals.turn)
        app = web.Application(client_max_size=0)
        app.add_routes(appservice.routes())
        unredacted = Unredacted(self.client, is_erased=self.erasure.was_erased)
        laid_open = LaidOpen(unredacted, self.engine, self._parts.protecting.holds)
        public = PublicMedia(self._parts.links, self.client, unredacted=unredacted, sealed=laid_open)
        app.add_routes(public.routes())
        app.add_routes(self._parts.routes)
        listen = admin.serve
        self.address = await self._stack.enter_async_context(
            listen(app, self.config.appservice.listen, "appservice.listen")
        )
        calls = api.calls(Report)
        desk = api.application(self.admin_token, self._parts.desk, calls, openapi.document(calls))
        look = admin.application(self.metrics, self._health, {PREFIX: desk})
        look.add_routes(page.routes())
        self.admin_address = await self._stack.enter_async_context(
            listen(look, self.config.admin.listen, "admin.listen")
        )

    async def _settle_in(self) -> None:
        """What wants the homeserver: the bot exists, the homeserver knows we are here, the config's links stand."""
        client = self.client.patient
        try:
            await client.register(self.config.appservice.bot)
            await client.set_displayname("bridgekit")
            await self._parts.addressee.ask()
            await self._parts.succession.follow()
        except MatrixError as error:
            log.warning("homeserver_check", reason=error.notice)
        self._tasks.spawn(self._ready_devices())
        self._parts.protecting.resume()
        self._parts.standing.stand(self.config)
        await self._parts.erasure.resume()
        self._follow_lists()

    def _follow_lists(self) -> None:
        moderation = self.config.moderation
        self._parts.policies.follow(moderation.policy_lists, moderation.write_bans_to or "")

    async def _ready_devices(self) -> None:
        await self.engine.start()
        while self.engine.trouble == ELSEWHERE:
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            await self.engine.start()
        self._parts.readying.all()
        pause = ASK_AGAIN_SECONDS
        while self.engine.trouble:  # a homeserver that was restarted with other settings, say
            await asyncio.sleep(pause)
            await self.engine.start()
            pause = min(pause * 2, HOUR)

    def reload(self, config: Config) -> list[str]:
        """Take over what can change while the bridge runs; says, as sentences, what needs a restart."""
        if config.messages.status_events != self.config.messages.status_events:
            self._parts.fates.every = config.messages.status_events is StatusEvents.ALL
        fixed = _waiting(self._started, config)
        ceilings = self._parts.exposures.ceilings()
        self.config = config
        self._parts.rules.read(config)
        self._parts.exposures.recheck(ceilings)
        self.registry.changes += 1
        self._follow_lists()
        self._parts.standing.stand(config)
        return [f"{name} has changed: restart the bridge for that." for name in fixed]

    def _health(self) -> dict[str, admin.Part]:
        parts = {
            "homeserver": admin.Part(ok=self.client.available, detail=self.client.trouble),
            "store": admin.Part(ok=self.store.trouble is None, detail=self.store.trouble or ""),
            "encryption": admin.Part(ok=not self.engine.trouble, detail=self.engine.trouble, needed=False),
        }
        for network in self._parts.networks:
            ok = self.accounts.is_ready(network)
            # A network that is away is shown, and is no reason to send the homeserver's transactions elsewhere.
            status = self.accounts.status(network)
            parts[f"network.{network}"] = admin.Part(ok=ok, detail=status, needed=False)
        if missing := self._parts.standing.missing():
            parts["links"] = admin.Part(ok=False, detail=". ".join(missing), needed=False)
        return parts

    @property
    def parts(self) -> Parts:
        """What the bridge is made of."""
        return self._parts

    # Small questions -------------------------------------------------------------------------------------------

    def label(self, network: NetworkId) -> str:
        """What people call a network."""
        section = self.config.networks.get(network)
        return (section.name or str(network)) if section is not None else str(network)

    def permission(self, user: PersonId) -> Permission:
        """What the admin lets a Matrix user do."""
        return self.config.permission(user)


def _waiting(started: Config, config: Config) -> list[str]:
    """What of the config waits for a restart: it has changed since the start, and cannot while the bridge runs."""
    changed = [
        name
        for name in ("homeserver", "appservice", "store", "admin", "public", "encryption")
        if getattr(config, name) != getattr(started, name)
    ]
    changed += [
        f"messages.{name}"
        for name in ("display_name", "omission", "history")
        if getattr(config.messages, name) != getattr(started.messages, name)
    ]
    for id, section in config.networks.items():
        before = started.networks.get(id)
        if before is None or _fixed(before) != _fixed(section):
            changed.append(f"networks.{id}")
        elif any(_shields(before).get(chat, shield) != shield for chat, shield in _shields(section).items()):
            changed.append(f"networks.{id}.links")
    return [*changed, *(f"networks.{id}" for id in started.networks if id not in config.networks)]


def _fixed(section: Network) -> tuple[object, ...]:
    """What of a network cannot change while the bridge runs."""
    named = "connector", "config", "space", "consent", "direct", "ceiling", "gate", "shield"
    return tuple(getattr(section, name) for name in named)


def _shields(section: Network) -> dict[str, object]:
    """The shields of a network's links: those that stand keep theirs."""
    return {link.chat: link.shield for link in section.links}
