"""The parts of a running bridge, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiohttp import web

from bridgekit.admin.metrics import Metrics
from bridgekit.config import Config
from bridgekit.contract.connector import Connector, FileOpener, Manifest, Network
from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.core.crowd import Crowds
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.matrix.addressee import Addressee
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.links import Links
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.accounts import Accounts
from bridgekit.runtime.arrivals import Arrivals
from bridgekit.runtime.bot import Bot
from bridgekit.runtime.consenting import Consenting
from bridgekit.runtime.desk import Desk
from bridgekit.runtime.directs import Directs
from bridgekit.runtime.doorstep import Doorstep
from bridgekit.runtime.erasure import Erasure
from bridgekit.runtime.exposure import Exposures
from bridgekit.runtime.fates import Fates
from bridgekit.runtime.files import Fetch, Files
from bridgekit.runtime.ghosts import Ghosts
from bridgekit.runtime.holding import Holding
from bridgekit.runtime.joins import Joins
from bridgekit.runtime.loops import Loops
from bridgekit.runtime.making import Making
from bridgekit.runtime.management import ManagementRooms
from bridgekit.runtime.matrix_side import MatrixSide
from bridgekit.runtime.meeting import Meeting
from bridgekit.runtime.members import Members
from bridgekit.runtime.names import Names
from bridgekit.runtime.opening import Opening
from bridgekit.runtime.overdue import Overdue
from bridgekit.runtime.owners import Owners
from bridgekit.runtime.passage import Passage
from bridgekit.runtime.pending import Pending
from bridgekit.runtime.performing import Performing
from bridgekit.runtime.policing import PolicyLists
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.powers import Powers
from bridgekit.runtime.protecting import Protecting
from bridgekit.runtime.readers import Readers
from bridgekit.runtime.readying import Readying
from bridgekit.runtime.reception import Reception
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.remains import Remains
from bridgekit.runtime.reports import Reports
from bridgekit.runtime.rooms import Rooms
from bridgekit.runtime.rules import Rules
from bridgekit.runtime.secrecy import Secrecy
from bridgekit.runtime.shielding import Shields
from bridgekit.runtime.standing import StandingLinks
from bridgekit.runtime.succession import Succession
from bridgekit.runtime.surroundings import RoomSurroundings
from bridgekit.runtime.titles import Titles
from bridgekit.runtime.underway import UnderWay
from bridgekit.runtime.upgrades import Upgrades
from bridgekit.store import Store


class Parts:
    """Everything that lives as long as the bridge runs. What it is made from is given; `assembly` makes the rest."""

    speakers: Speakers
    ghosts: Ghosts
    joins: Joins
    policies: PolicyLists
    members: Members
    addressee: Addressee
    engine: Engine
    readying: Readying
    files: Files
    powers: Powers
    matrix: MatrixSide

    accounts: Accounts
    protecting: Protecting
    loops: Loops
    under_way: UnderWay
    performing: Performing

    crowds: Crowds
    opening: Opening
    titles: Titles
    consenting: Consenting
    directs: Directs
    exposures: Exposures
    readers: Readers
    holding: Holding
    shields: Shields
    passage: Passage

    portals: Portals
    making: Making
    management: ManagementRooms
    succession: Succession
    owners: Owners
    standing: StandingLinks
    remains: Remains
    upgrades: Upgrades

    commands: Bot
    meeting: Meeting
    reports: Reports
    erasure: Erasure
    desk: Desk

    fates: Fates
    pending: Pending
    names: Names
    secrecy: Secrecy
    around: RoomSurroundings
    doorstep: Doorstep
    rooms: Rooms
    arrivals: Arrivals
    reception: Reception
    overdue: Overdue

    def __init__(
        self,
        config: Config,
        connectors: Mapping[str, Connector],
        *,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        metrics: Metrics,
        me: PersonId,
        links_key: bytes,
        fetch: Fetch,
        label: Callable[[NetworkId], str],
        permission: Callable[[PersonId], Permission],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.config = config
        self.connectors = connectors
        self.client = client
        self.store = store
        self.registry = registry
        self.metrics = metrics
        self.me = me
        self.fetch = fetch
        self.label = label
        self.permission = permission
        self.spawn = spawn
        self.namespace = Namespace(config.appservice.prefix, config.homeserver.server_name)
        self.networks: dict[NetworkId, Network] = {}
        self.manifests: dict[NetworkId, Manifest] = {}
        self.rules = Rules(config, self.networks)
        self.routes: list[web.RouteDef] = []
        self.openers: dict[NetworkId, FileOpener] = {}
        public = config.public
        self.links = Links(
            public.url if public else None, links_key, int(public.expires) if public else 0, now=time.time
        )

    def is_ours(self, user: PersonId) -> bool:
        """Whether a Matrix user is the bot or a ghost."""
        return user == self.me or self.namespace.is_ours(user)
