"""The parts of a running bridge, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

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
from bridgekit.matrix.files import Fetch, Files
from bridgekit.matrix.links import Links
from bridgekit.matrix.speakers import Speakers
from bridgekit.matrix.titles import Titles
from bridgekit.runtime.commands.bot import Bot
from bridgekit.runtime.commands.meeting import Meeting
from bridgekit.runtime.desk import Desk
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.encryption.readying import Readying
from bridgekit.runtime.encryption.secrecy import Secrecy
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.directs import Directs
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.holding import Holding
from bridgekit.runtime.gates.loops import Loops
from bridgekit.runtime.gates.passage import Passage
from bridgekit.runtime.gates.policing import PolicyLists
from bridgekit.runtime.gates.readers import Readers
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.gates.underway import UnderWay
from bridgekit.runtime.intake.arrivals import Arrivals
from bridgekit.runtime.intake.overdue import Overdue
from bridgekit.runtime.intake.reception import Reception
from bridgekit.runtime.linking.clearing import Clearing
from bridgekit.runtime.linking.making import Making
from bridgekit.runtime.linking.management import ManagementRooms
from bridgekit.runtime.linking.opening import Opening
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.linking.remains import Remains
from bridgekit.runtime.linking.standing import StandingLinks
from bridgekit.runtime.linking.succession import Succession
from bridgekit.runtime.linking.upgrades import Upgrades
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.networks.owners import Owners
from bridgekit.runtime.networks.reports import Reports
from bridgekit.runtime.people.erasure import Erasure
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.joins import Joins
from bridgekit.runtime.people.members import Members
from bridgekit.runtime.people.names import Names
from bridgekit.runtime.people.powers import Powers
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.rules import Rules
from bridgekit.runtime.traffic.doorstep import Doorstep
from bridgekit.runtime.traffic.echoes import Echoes
from bridgekit.runtime.traffic.fates import Fates
from bridgekit.runtime.traffic.matrix_side import MatrixSide
from bridgekit.runtime.traffic.pending import Pending
from bridgekit.runtime.traffic.performing import Performing
from bridgekit.runtime.traffic.rooms import Rooms
from bridgekit.runtime.traffic.surroundings import RoomSurroundings
from bridgekit.store import Store
from bridgekit.tasks import Spawn


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
    echoes: Echoes
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
    clearing: Clearing
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
        spawn: Spawn,
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
