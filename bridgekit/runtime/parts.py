"""The parts of a running bridge, and who knows whom."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiohttp import web

from bridgekit.admin.metrics import Metrics
from bridgekit.config import Config, StatusEvents
from bridgekit.contract.connector import Connector, Manifest, Network
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.crypto.verifying import Say
from bridgekit.matrix.links import Links
from bridgekit.runtime.accounts import Accounts
from bridgekit.runtime.bot import Bot
from bridgekit.runtime.doorstep import Doorstep
from bridgekit.runtime.erasure import Erasure
from bridgekit.runtime.fates import Fates
from bridgekit.runtime.files import Fetch, Files
from bridgekit.runtime.ghosts import Ghosts
from bridgekit.runtime.host import NetworkHost
from bridgekit.runtime.joins import Joins
from bridgekit.runtime.making import Making
from bridgekit.runtime.management import ManagementRooms
from bridgekit.runtime.matrix_side import MatrixSide
from bridgekit.runtime.members import Members
from bridgekit.runtime.modes import Modes
from bridgekit.runtime.names import Names
from bridgekit.runtime.owners import Owners
from bridgekit.runtime.pending import Pending
from bridgekit.runtime.performing import Performing
from bridgekit.runtime.pictures import Pictures
from bridgekit.runtime.policing import PolicyLists
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.powers import Powers
from bridgekit.runtime.protecting import Protecting
from bridgekit.runtime.readying import Readying
from bridgekit.runtime.reception import Reception
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.remains import Remains
from bridgekit.runtime.rooms import Rooms
from bridgekit.runtime.secrecy import Secrecy
from bridgekit.runtime.sessions import Supervised
from bridgekit.runtime.spaces import Spaces
from bridgekit.runtime.standing import StandingLinks
from bridgekit.runtime.succession import Succession
from bridgekit.runtime.surroundings import RoomSurroundings
from bridgekit.runtime.upgrades import Upgrades
from bridgekit.store import Store


class Parts:
    """Everything that lives as long as the bridge runs; nothing is started here, and nothing read or written."""

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
        namespace = Namespace(config.appservice.prefix, config.homeserver.server_name)
        self.networks: dict[NetworkId, Network] = {}
        self.manifests: dict[NetworkId, Manifest] = {}
        public = config.public
        self.links = Links(
            public.url if public else None, links_key, int(public.expires) if public else 0, now=time.time
        )
        self.routes: list[web.RouteDef] = []
        self.ghosts = Ghosts(
            client,
            store,
            namespace,
            template=config.messages.display_name,
            network_name=label,
        )
        self.joins = Joins(client, self.ghosts, spawn=spawn)
        self.policies = PolicyLists(
            client,
            registry,
            self.ghosts,
            lambda: self.accounts,
            namespace,
            permission=permission,
            label=label,
            spawn=spawn,
        )
        permission = self.policies.permission
        self.members = Members(
            registry,
            self.ghosts,
            namespace,
            emit=lambda network, login, fact: self.rooms.remote(network, login, fact),
            spawn=spawn,
        )
        self.engine = Engine(
            store,
            client.homeserver,
            bot=me,
            is_ours=lambda user: user == me or namespace.is_ours(user),
            trust=config.encryption.trust,
            reset=lambda user: self.secrecy.identity_reset(user),
            encrypted=lambda room: self._encrypted(room),
            say=speaker(client),
            spawn=spawn,
        )
        client.cipher = self.engine
        self.readying = Readying(self.engine, self.ghosts, spawn=spawn)
        self.modes = Modes(self.networks)
        files = Files(client, fetch)
        powers = Powers(client, registry, store, namespace, bot=me, spawn=spawn)
        self.matrix = MatrixSide(
            client,
            self.ghosts,
            bot=me,
            files=files,
            pictures=Pictures(client, self.ghosts, files, spawn=spawn),
            powers=powers,
            joins=self.joins,
            mode=self.modes.of,
            likely=self.readying.likely,
        )
        self.accounts = Accounts(
            self.networks,
            self.manifests,
            registry,
            emit=lambda network, login, fact: self.rooms.remote(network, login, fact),
            changed=self._session_changed,
            label=label,
        )
        self.protecting = Protecting(
            store,
            registry,
            client,
            self.accounts.sessions,
            is_encrypted=self.engine.knows_encrypted,
            learn=self.engine.is_encrypted,
            label=label,
            say=lambda room, words: self.portals.say(room, words),
            describe=lambda link: self.portals.describe(link),
            spawn=spawn,
        )
        self.performing = Performing(
            store=store,
            registry=registry,
            ghosts=self.ghosts,
            matrix=self.matrix,
            sessions=self.accounts.sessions,
            links=self.links,
            namespace=namespace,
            bot=me,
            label=label,
            permission=permission,
            members=self.members,
            mode=self.modes.of,
            grants=self.modes.grants,
            policies=self.policies,
            puppets=config.appservice.double_puppets,
            is_encrypted=self.engine.knows_encrypted,
            protecting=self.protecting,
        )
        for id, section in config.networks.items():
            connector = connectors[section.connector]
            host = NetworkHost(
                id,
                store=store,
                client=client,
                registry=registry,
                links=self.links,
                owner_on=self.performing.owner_on,
                routes=self.routes,
            )
            self.manifests[id] = connector.manifest
            self.networks[id] = connector.network(section.config, host)
        self.modes.read(config)
        self.portals = Portals(
            client,
            registry,
            self.ghosts,
            self.accounts,
            self.networks,
            namespace,
            bot=me,
            label=label,
            spaces=Spaces(
                client,
                registry,
                namespace,
                bot=me,
                label=label,
                networks=frozenset(n for n, section in config.networks.items() if section.space),
            ),
            joins=self.joins,
            members=self.members,
            protecting=self.protecting,
            history=config.messages.history,
            spawn=spawn,
        )
        self.making = Making(
            client,
            registry,
            self.ghosts,
            self.accounts,
            self.portals,
            self.networks,
            namespace,
            bot=me,
            label=label,
            spawn=spawn,
        )
        self.management = ManagementRooms(client, registry, self.portals.say)
        self.succession = Succession(
            client, store, registry, self.ghosts, self.portals, bot=me, tell=self.management.tell
        )
        self.owners = Owners(
            registry,
            self.management,
            self.networks,
            metrics,
            asked=self.making.asked,
            label=label,
            spawn=spawn,
        )
        self.standing = StandingLinks(client, registry, self.portals, bot=me, spawn=spawn)
        self.remains = Remains(store, registry, self.portals, self.accounts, self.networks)
        self.commands = Bot(
            client,
            self.portals,
            self.making,
            registry,
            self.accounts,
            self.manifests,
            self.remains,
            self.protecting,
            me=me,
            label=label,
            permission=permission,
            silence=lambda room, who: self.rooms.silence(room, who),
            fingerprints=self.engine.machines.fingerprints,
        )
        self.fates = Fates(
            client,
            me,
            every=config.messages.status_events is StatusEvents.ALL,
            spawn=spawn,
        )
        self.pending = Pending(
            store, self.accounts.sessions, self.fates, self.portals, label=label, spawn=spawn
        )
        self.names = Names(client)
        self.secrecy = Secrecy(
            self.engine, self.names, self.portals.say, present=self.ghosts.present, spawn=spawn
        )
        around = RoomSurroundings(
            client=client,
            store=store,
            registry=registry,
            accounts=self.accounts,
            networks=self.networks,
            ghosts=self.ghosts,
            names=self.names,
            performing=self.performing,
            portals=self.portals,
            making=self.making,
            management=self.management,
            standing=self.standing,
            upgrades=Upgrades(client, registry, self.joins, self.members, self.portals, spawn=spawn),
            powers=powers,
            members=self.members,
            joins=self.joins,
            policies=self.policies,
            bot=self.commands,
            fates=self.fates,
            pending=self.pending,
            metrics=metrics,
            namespace=namespace,
            secrecy=self.secrecy,
            me=me,
            permission=permission,
            label=label,
            spawn=spawn,
        )
        self.doorstep = Doorstep(self.portals, me=me, label=label, spawn=spawn)
        self.erasure = Erasure(
            client,
            store,
            registry,
            self.ghosts,
            self.accounts,
            self.portals,
            namespace,
            bot=me,
            label=label,
            spawn=spawn,
        )
        self.rooms = Rooms(
            store,
            registry,
            around,
            names=self.names,
            unlinked=self.making.unlinked,
            invitation=self.owners.invited,
            overhear=self.doorstep.overhear,
            spawn=spawn,
        )
        self.reception = Reception(
            store,
            self.rooms,
            registry,
            self.portals,
            self.making,
            self.ghosts,
            namespace,
            self.manifests,
            self.engine,
            bot=me,
            label=label,
            puppets=config.appservice.double_puppets,
            is_echo=self.matrix.is_echo,
            outcome=metrics.transaction,
            parked=metrics.parked,
            spawn=spawn,
        )

    def _encrypted(self, room: ChatId) -> None:
        self.readying.encrypted(room)
        self.protecting.changed(room)

    def _session_changed(self, supervised: Supervised) -> None:
        self.owners.session_changed(supervised)
        self.policies.session_changed(supervised)
        self.pending.session_changed(supervised)


def speaker(client: MatrixClient) -> Say:
    """Sends what one of ours has to say for itself, and not for anybody on a network."""

    async def say(room: ChatId, user: PersonId, type: str, content: dict[str, Any]) -> None:
        await client.send(room, type, content, txn=f"bk.own.{time.time_ns():x}", user=user)

    return say
