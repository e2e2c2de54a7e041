"""The parts of a running bridge, and who knows whom."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from aiohttp import web

from bridgekit.admin.metrics import Direction, Metrics
from bridgekit.config import Config, StatusEvents
from bridgekit.contract import facts
from bridgekit.contract.connector import Connector, FileOpener, Manifest, Network
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.core.crowd import Crowds
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.core.scopes import Scope
from bridgekit.matrix.addressee import Addressee
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.links import Links
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.accounts import Accounts
from bridgekit.runtime.arrivals import Arrivals
from bridgekit.runtime.backfill import backfill
from bridgekit.runtime.bot import Bot
from bridgekit.runtime.cases import Case, Fate, Outcome
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
from bridgekit.runtime.host import NetworkHost
from bridgekit.runtime.joins import Joins
from bridgekit.runtime.lenient import now
from bridgekit.runtime.loops import Loops
from bridgekit.runtime.making import Making
from bridgekit.runtime.management import ManagementRooms
from bridgekit.runtime.matrix_side import MatrixSide
from bridgekit.runtime.members import Members
from bridgekit.runtime.names import Names
from bridgekit.runtime.opening import Opening
from bridgekit.runtime.overdue import Overdue
from bridgekit.runtime.owners import Owners
from bridgekit.runtime.ownwords import OwnWords
from bridgekit.runtime.passage import Passage
from bridgekit.runtime.pending import Pending
from bridgekit.runtime.performing import Performing
from bridgekit.runtime.pictures import Pictures
from bridgekit.runtime.policing import PolicyLists
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.powers import Powers
from bridgekit.runtime.protecting import Protecting
from bridgekit.runtime.readers import Readers
from bridgekit.runtime.readying import Readying
from bridgekit.runtime.reception import Reception
from bridgekit.runtime.registry import WAITING, Registry
from bridgekit.runtime.remains import Remains
from bridgekit.runtime.rooms import Rooms
from bridgekit.runtime.rules import Rules
from bridgekit.runtime.secrecy import Secrecy
from bridgekit.runtime.sessions import Supervised
from bridgekit.runtime.shielding import Shields
from bridgekit.runtime.spaces import Spaces
from bridgekit.runtime.standing import StandingLinks
from bridgekit.runtime.standins import StandIns
from bridgekit.runtime.succession import Succession
from bridgekit.runtime.surroundings import RoomSurroundings
from bridgekit.runtime.titles import Titles
from bridgekit.runtime.underway import UnderWay
from bridgekit.runtime.upgrades import Upgrades
from bridgekit.runtime.withdrawn import Withdrawn
from bridgekit.store import Store
from bridgekit.store.rows import Link

log = structlog.get_logger(__name__)


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
        self._me = me
        self._registry = registry
        self._store = store
        self._metrics = metrics
        self._spawn = spawn
        namespace = Namespace(config.appservice.prefix, config.homeserver.server_name)
        self.networks: dict[NetworkId, Network] = {}
        self.manifests: dict[NetworkId, Manifest] = {}
        public = config.public
        self.links = Links(
            public.url if public else None, links_key, int(public.expires) if public else 0, now=time.time
        )
        self.routes: list[web.RouteDef] = []
        speakers = Speakers()
        self.ghosts = Ghosts(
            client,
            store,
            namespace,
            template=config.messages.display_name,
            network_name=label,
            speakers=speakers,
        )
        self.joins = Joins(client, self.ghosts, speakers=speakers, spawn=spawn)
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
        own = OwnWords(client, is_encrypted=lambda room, user: self.engine.is_encrypted(room, user))
        self.addressee = Addressee(lambda txn: client.ping(config.appservice.id, txn=txn))
        self.engine = Engine(
            store,
            client.homeserver,
            bot=me,
            is_ours=lambda user: user == me or namespace.is_ours(user),
            is_ours_alone=self.addressee.ask,
            trust=config.encryption.trust,
            reset=lambda user: self.secrecy.identity_reset(user),
            encrypted=lambda room: self._encrypted(room),
            say=own.say,
            show=own.show,
            speakers=speakers,
            spawn=spawn,
        )
        client.cipher = self.engine
        self.readying = Readying(self.engine, self.ghosts, speakers=speakers, spawn=spawn)
        self.rules = Rules(config, self.networks)
        openers: dict[NetworkId, FileOpener] = {}
        files = Files(client, fetch, openers)
        powers = Powers(client, registry, store, namespace, bot=me, spawn=spawn)
        self.matrix = MatrixSide(
            client,
            self.ghosts,
            bot=me,
            files=files,
            pictures=Pictures(client, self.ghosts, files, spawn=spawn),
            powers=powers,
            joins=self.joins,
            speakers=speakers,
            mode=self.rules.mode,
            likely=self.readying.likely,
            cleared=lambda side: side in self.exposures.cleared and not self.readers.blocked(side),
            is_replaced=lambda room: self.upgrades.is_replaced(room),
            stood_in=StandIns(
                store,
                is_encrypted=self.engine.knows_encrypted,
                tell=lambda owner, words: self.management.tell(owner, words),
                spawn=spawn,
            ).spoke,
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
            describe=lambda link: self.opening.describe(link),
            moved=lambda side: self.passage.changed(side),
            spawn=spawn,
        )
        self.loops = Loops(
            registry, label=label, say=lambda room, words: self.portals.say(room, words), spawn=spawn
        )
        under_way = UnderWay()
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
            mode=self.rules.mode,
            grants=self.rules.grants,
            policies=self.policies,
            puppets=config.appservice.double_puppets,
            is_encrypted=self.engine.knows_encrypted,
            protecting=self.protecting,
            saying=self.loops.saying,
            said=self.loops.said,
            cleared=lambda side: side in self.exposures.cleared,
            passes=lambda side: self.exposures.passes(side),
            goes_back=lambda case: self.passage.goes_back(case),
            replaced=lambda room: self.upgrades.successor(room),
            is_replaced=lambda room: self.upgrades.is_replaced(room),
            under_way=under_way,
            unwelcome=lambda link: self.directs.closed(link),
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
                openers=openers,
            )
            self.manifests[id] = connector.manifest
            self.networks[id] = connector.network(section.config, host)
        self.rules.read(config)
        self.crowds = Crowds()
        self.opening = Opening(
            client,
            registry,
            self.crowds,
            namespace,
            exposures=lambda: self.exposures,
            consenting=lambda: self.consenting,
            holding=lambda: self.holding,
            readers=lambda: self.readers,
            shields=lambda: self.shields,
            protecting=self.protecting,
            spaces=Spaces(
                client,
                registry,
                namespace,
                bot=me,
                label=label,
                networks=frozenset(n for n, section in config.networks.items() if section.space),
            ),
            bot=me,
            label=label,
            say=lambda room, words: self.portals.say(room, words),
            announce=lambda side, words: self.portals.announce(side, words),
            history=lambda side: backfill(side, config.messages.history, registry, self.accounts.sessions),
            spawn=spawn,
        )
        self.titles = Titles(
            client, changed=lambda room, title: self.consenting.called(room, title), spawn=spawn
        )
        self.consenting = Consenting(
            store,
            registry,
            self.crowds,
            self.networks,
            self.manifests,
            self.accounts.sessions,
            policy=self.rules.consent,
            label=label,
            say=self.opening.say,
            announce=self.opening.announce,
            titles=self.titles,
            weigh=self._scopes_changed,
            gone=self._opted_out,
            spawn=spawn,
        )
        self.directs = Directs(
            client,
            store,
            registry,
            self.ghosts,
            self.crowds,
            self.networks,
            self.accounts.sessions,
            portals=lambda: self.portals,
            policy=self.rules.direct,
            optouts=lambda: self.consenting.optouts,
            label=label,
            tell=self.consenting.tell,
            counted=metrics.turned_away,
            spawn=spawn,
        )
        self.exposures = Exposures(
            client,
            registry,
            store,
            bot=me,
            network_of=lambda who: (
                row.network if (row := self.ghosts.row(who)) is not None else NetworkId("")
            ),
            label=label,
            policy=self.consenting.policy,
            consents=self.consenting.consents,
            ceiling=self.rules.ceiling,
            doorkeeper=self.opening,
            changed=lambda side: self.passage.changed(side),
            under_way=under_way,
            spawn=spawn,
        )
        self.ghosts.by_invitation = self.exposures.is_by_invitation
        self.readers = Readers(
            client,
            registry,
            self.accounts,
            self.networks,
            self.crowds,
            rules=self.rules.gate,
            permission=permission,
            is_ours=lambda user: user == me or namespace.is_ours(user),
            label=label,
            say=self.opening.say,
            held=lambda side: self.holding.count(side),
            changed=lambda side: self.passage.changed(side),
            spawn=spawn,
        )
        self.holding = Holding(
            store,
            revive=lambda side, row: self.rooms.revive(side, row),
            resume=lambda side, cases: self.rooms.resume(side, cases),
            ended=self._held_to_the_end,
            changed=lambda side: self.passage.changed(side),
            spawn=spawn,
        )
        self.shields = Shields(
            store,
            registry,
            self.crowds,
            rules=self.rules.shield,
            holding=lambda: self.holding,
            free=lambda side: side in registry.links and self.passage.held_by(side) is None,
            speaks_for=self.consenting.speaks_for,
            say=self.opening.say,
            announce=self.opening.announce,
            tell=self.consenting.tell,
            spawn=spawn,
        )
        self.passage = Passage(
            registry,
            self.crowds,
            exposures=self.exposures,
            consenting=self.consenting,
            directs=self.directs,
            holding=self.holding,
            readers=self.readers,
            protecting=self.protecting,
            shields=self.shields,
            loops=self.loops,
            replaced=self._replaced,
            explain=lambda side: self.commands.explain(side),
            drop=lambda case: drop(store, case),
            refuse=self._refused,
            spawn=spawn,
        )
        self.portals = Portals(
            client,
            registry,
            self.ghosts,
            self.accounts,
            self.networks,
            self.manifests,
            namespace,
            bot=me,
            label=label,
            opening=lambda: self.opening,
            joins=self.joins,
            members=self.members,
            protecting=self.protecting,
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
            opening=lambda: self.opening,
            exposures=lambda: self.exposures,
            encrypts=lambda: self.engine.works,
            directs=self.directs,
            spawn=spawn,
        )
        self.management = ManagementRooms(client, registry, self.portals.say)
        self.succession = Succession(
            client,
            store,
            registry,
            self.ghosts,
            bot=me,
            describe=self.opening.describe,
            tell=self.management.tell,
        )
        self.owners = Owners(
            registry,
            self.management,
            self.networks,
            metrics,
            asked=self.making.asked,
            label=label,
            spawn=spawn,
            waits=self.accounts.invited,
        )
        self.standing = StandingLinks(client, store, registry, self.portals, bot=me, spawn=spawn)
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
            self.directs,
            exposures=self.exposures,
            consenting=self.consenting,
            titles=self.titles,
            readers=self.readers,
            shields=self.shields,
            held=self.holding.count,
            obstacle=self._obstacle,
            me=me,
            label=label,
            permission=permission,
            silence=lambda room, who: self.rooms.silence(room, who),
            fingerprints=self.engine.machines.fingerprints,
            sessions=self.accounts.sessions,
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
            self.engine,
            self.names,
            self.portals.say,
            trust=config.encryption.trust,
            present=self.ghosts.present,
            spawn=spawn,
        )
        self.upgrades = Upgrades(
            client,
            store,
            registry,
            self.joins,
            self.members,
            self.portals,
            bot=me,
            changed=self.passage.changed,
            doubt=self.exposures.doubt,
            settled=lambda room: self.rooms.settled(room),
            moved=self.opening.moved,
            tell=self.management.tell,
            spawn=spawn,
        )
        self._around = around = RoomSurroundings(
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
            directs=self.directs,
            management=self.management,
            standing=self.standing,
            upgrades=self.upgrades,
            powers=powers,
            protecting=self.protecting,
            members=self.members,
            joins=self.joins,
            policies=self.policies,
            bot=self.commands,
            passage=self.passage,
            shields=self.shields,
            exposures=self.exposures,
            readers=self.readers,
            optouts=lambda: self.consenting.optouts,
            omission=config.messages.omission,
            fates=self.fates,
            pending=self.pending,
            metrics=metrics,
            namespace=namespace,
            secrecy=self.secrecy,
            withdrawn=Withdrawn(client, ghost_in=lambda room: next(iter(self.ghosts.present(room)), None)),
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
            optouts=lambda: self.consenting.optouts,
            forget=self._forget,
            label=label,
            spawn=spawn,
        )
        self.desk = Desk(
            registry,
            self.accounts,
            self.networks,
            self.manifests,
            self.portals,
            self.protecting,
            self.exposures,
            self.consenting,
            self.holding,
            self.erasure,
            self.commands.meeting,
            metrics,
            obstacle=self._obstacle,
            turned_away=lambda network: self.directs.turned_away[network],
            devices=lambda: self.engine.machines.names,
            fingerprints=self.engine.machines.fingerprints,
            permission=permission,
            is_ours=lambda user: user == me or namespace.is_ours(user),
            label=label,
        )
        self.rooms = Rooms(
            store,
            registry,
            around,
            names=self.names,
            unlinked=self.making.unlinked,
            invitation=self.owners.invited,
            overhear=self.doorstep.overhear,
            hear=self.passage.hear,
            passes=self.passage.lets,
            verification=self.engine.verifying.in_room,  # clients on matrix-js-sdk say these things in clear
            spawn=spawn,
        )
        self.arrivals = Arrivals()
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
            self.arrivals,
            bot=me,
            label=label,
            search=self.commands.meeting.search,
            puppets=config.appservice.double_puppets,
            is_echo=self.matrix.is_echo,
            glimpsed=self.exposures.glimpsed,
            titled=self.titles.heard,
            pinged=self.addressee.pinged,
            outcome=metrics.transaction,
            parked=metrics.parked,
            spawn=spawn,
        )
        self.overdue = Overdue(
            self.arrivals,
            client,
            store,
            registry,
            self.ghosts,
            bot=me,
            is_own=self.reception.is_own,
            take_in=self.reception.take_in,
            counted=metrics.overdue,
        )

    def _replaced(self, room: ChatId) -> str:
        new = self.upgrades.successor(room)
        return wording.replaced(new, self._me) if new is not None else ""

    def _obstacle(self, link: Link) -> str:
        """What is in the way of a link besides what its state says, for people; "" where nothing is."""
        if why := self._replaced(link.room):
            return f"on its way: {why}"
        network, login = link.key.network, link.key.receiver
        supervised = self.accounts.sessions.get((network, login))
        if supervised is not None and supervised.session is None:
            return f"not connected ({self.accounts.status(network, login).rstrip('.')})"
        return ""

    def _encrypted(self, room: ChatId) -> None:
        self.readying.encrypted(room)
        self.protecting.changed(room)

    def _session_changed(self, supervised: Supervised) -> None:
        self.owners.session_changed(supervised)
        self.readers.session_changed(supervised)
        self.policies.session_changed(supervised)
        self.pending.session_changed(supervised)

    def _scopes_changed(self, side: PortalKey, scopes: frozenset[Scope]) -> None:
        """What a chat's people agree to has changed: what may not pass any more stops this moment."""
        link = self._registry.links.get(side)
        if link is None:
            return
        if Scope.BRIDGE not in scopes:
            self.exposures.shut(side)
            others = [other.key for other in self._registry.links_of(link.room) if other.key != side]
            if not any(key.network == side.network and key in self.exposures.cleared for key in others):
                self.joins.forget(link.room, side.network)
                self._spawn(self.portals.clear_out(link.room, side.network, "the chat does not want it"))
        elif link.state == WAITING:
            self._spawn(self._opened(link))
            return
        else:
            self.exposures.doubt(side)  # the room may show more than they agree to now
        self.exposures.weigh(link.room)

    async def _opened(self, link: Link) -> None:
        """A chat has agreed: its room is compared, and then those who are in the chat are shown in it."""
        self._registry.set_state(link.key, *self.opening.state_of(link.key), now())
        await self.exposures.weighed(link.room)
        crowd = self.crowds.of(link.key)
        if crowd.known:
            roster = facts.Roster(chat=link.key.chat, at=now(), members=crowd.members())
            self.rooms.remote(link.key.network, link.reader, roster)

    async def _forget(self, side: NetworkId, person: PersonId) -> None:
        """What was kept of somebody who is erased: of a network, or of Matrix."""
        if side != MATRIX:
            await self.shields.erase(side, person)
        await self.directs.erase(side, person)

    def _opted_out(self, network: NetworkId, person: PersonId) -> None:
        self._spawn(self.ghosts.leave_all(self.ghosts.of(network, person)))

    def _refused(self, case: Case, why: str) -> None:
        """Something that nobody wants is not passed on; the room hears of a flood once, not of each drop."""
        if isinstance(case.fact, facts.Message):
            seconds = time.monotonic() - case.started
            self._metrics.message(case.origin.network, Direction.TO_MATRIX, Fate.FAILED.value, seconds)
        log.debug("refused", network=case.origin.network, why=why)
        drop(self._store, case)

    def _held_to_the_end(self, side: PortalKey, case: Case, why: str) -> None:
        """Something that was held will never be shown: count it, and be done with it."""
        case.outcomes.append(Outcome(side, Fate.FAILED, why))
        if (work := self._around.settled(side.chat, case)) is not None:
            work.close()
        drop(self._store, case)


def drop(store: Store, case: Case) -> None:
    """Be done with a case from which nothing follows."""
    if case.durable:
        store.commit(store.inbox.done(case.number))
