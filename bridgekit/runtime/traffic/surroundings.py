"""What a fact asks of the rest of the bridge, besides its plan and the verbs: each goes to the part whose it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
import structlog

from bridgekit.admin.metrics import Direction, Metrics
from bridgekit.contract import facts, verbs
from bridgekit.contract.connector import Network, OwnAccounts
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.contract.text import excerpt
from bridgekit.contract.verbs import Sent
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Context, Permission, Plan
from bridgekit.core.moderation import Deed, Result, roles_told, told
from bridgekit.core.optout import Omission, OptOuts, omitted, without
from bridgekit.core.plan import plan
from bridgekit.core.protection import STATE_TYPE
from bridgekit.core.rates import Buckets, Rate
from bridgekit.core.roles import shifts
from bridgekit.matrix import translate
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.incoming import KeyMissing
from bridgekit.runtime.cases import Case, Fate, Outcome, Tracked
from bridgekit.runtime.clock import now
from bridgekit.runtime.commands.bot import Bot
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.encryption.secrecy import Secrecy
from bridgekit.runtime.gates.directs import DIRECT, Directs
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.loops import Loops
from bridgekit.runtime.gates.passage import Passage
from bridgekit.runtime.gates.policing import PolicyLists
from bridgekit.runtime.gates.readers import Readers
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.linking.invitations import Invitations
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.linking.standing import StandingLinks
from bridgekit.runtime.linking.upgrades import Upgrades
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.joins import Joins
from bridgekit.runtime.people.members import Members
from bridgekit.runtime.people.names import Names, localpart
from bridgekit.runtime.people.powers import Powers
from bridgekit.runtime.registry import CLOSED, Registry
from bridgekit.runtime.traffic.fates import Fates
from bridgekit.runtime.traffic.pending import Pending
from bridgekit.runtime.traffic.performing import Performing
from bridgekit.runtime.traffic.recall import Ids
from bridgekit.runtime.traffic.steps import Step
from bridgekit.runtime.traffic.withdrawn import Withdrawn
from bridgekit.store import Store

log = structlog.get_logger(__name__)

TELL_REASON, TELL_ROOM = Rate(1, 3_600_000), Rate(10, 3_600_000)
"""How often a room hears for the same reason, and at all, that something could not be shown there."""
Work = Coroutine[Any, Any, None]
Opened = Fact | translate.StateChanged | translate.Encrypted | translate.Unreadable | None
DEEDS: dict[Change, type[Deed]] = {Change.KICK: verbs.Kick, Change.BAN: verbs.Ban, Change.UNBAN: verbs.Unban}


class RoomSurroundings:
    """`bridgekit.runtime.traffic.around.Surroundings`, for every room."""

    def __init__(
        self,
        *,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        accounts: Accounts,
        networks: Mapping[NetworkId, Network],
        ghosts: Ghosts,
        names: Names,
        performing: Performing,
        portals: Portals,
        invitations: Invitations,
        directs: Directs,
        standing: StandingLinks,
        upgrades: Upgrades,
        powers: Powers,
        protecting: Protecting,
        members: Members,
        joins: Joins,
        policies: PolicyLists,
        bot: Bot,
        passage: Passage,
        shields: Shields,
        exposures: Exposures,
        erased: Callable[[PersonId, int], bool],
        readers: Readers,
        optouts: Callable[[], OptOuts],
        omission: Omission,
        fates: Fates,
        pending: Pending,
        metrics: Metrics,
        namespace: Namespace,
        secrecy: Secrecy,
        withdrawn: Withdrawn,
        loops: Loops,
        me: PersonId,
        permission: Callable[[PersonId], Permission],
        label: Callable[[NetworkId], str],
        spawn: Callable[[Work], object],
    ) -> None:
        self.store = store
        self.spawn = spawn
        self.perform: Callable[[ChatId, Step, Ids], Coroutine[Any, Any, Sent | None]] = performing.perform
        self.pipeline: Callable[[PortalKey], int] = performing.pipeline
        self.context: Callable[[ChatId, Case, dict[MessageId, Tracked]], Context] = performing.context
        self.command: Callable[[ChatId, Case, str], Work] = bot.obey
        self.stop: Callable[[Case], bool] = passage.stop
        self.is_elsewhere: Callable[[ChatId, PortalKey], bool] = passage.is_elsewhere
        self.hold_back: Callable[[Case], None] = passage.hold_back
        self.hide: Callable[[Case, str], Coroutine[Any, Any, bool]] = passage.hide
        self.passing = passage.passing
        self.withdrawn: Callable[[ChatId, int], Coroutine[Any, Any, frozenset[MessageId]]] = withdrawn.of
        self._loops = loops
        self._passage = passage
        self._exposures = exposures
        self._erased = erased
        self._readers = readers
        self._optouts = optouts
        self._omission = omission
        self.open: Callable[[translate.Encrypted], Coroutine[Any, Any, Opened]] = secrecy.open
        self.glance: Callable[[translate.Encrypted], Coroutine[Any, Any, object]] = secrecy.glance
        self.in_clear: Callable[[ChatId], str] = secrecy.in_clear
        self.key: Callable[[KeyMissing, float], Coroutine[Any, Any, bool]] = secrecy.key
        self.held_up: Callable[[ChatId, Case, PortalKey, str], None] = pending.look
        self._client = client.patient
        self._registry = registry
        self._accounts = accounts
        self._networks = networks
        self._ghosts = ghosts
        self._names = names
        self._portals = portals
        self._invitations = invitations
        self._directs = directs
        self._standing = standing
        self._upgrades = upgrades
        self._powers = powers
        self._protecting = protecting
        self._members = members
        self._joins = joins
        self._policies = policies
        self._shields = shields
        self._fates = fates
        self._metrics = metrics
        self._namespace = namespace
        self._me = me
        self._permission = permission
        self._label = label
        self._reasons: Buckets[tuple[ChatId, str]] = Buckets(TELL_REASON)
        self._notices: Buckets[ChatId] = Buckets(TELL_ROOM)
        self._untold: dict[ChatId, int] = {}  # how much a room misses of which it has not heard

    def _missed(self, room: ChatId, why: str, where: str) -> Work | None:
        """People of a network cannot be told what became of their words; the room hears each reason once in a while."""
        if not (self._reasons.take((room, why), now()) and self._notices.take(room, now())):
            self._untold[room] = self._untold.get(room, 0) + 1
            return None
        more = self._untold.pop(room, 0)
        words = f"⚠ Something that was said on the other side could not be shown {where}: {why}"
        return self._portals.say(room, f"{words} (And {more} more since I said so last.)" if more else words)

    def sides(self, room: ChatId) -> list[PortalKey]:
        return [link.key for link in self._registry.links_of(room)]

    def heeds(self, room: ChatId) -> bool:
        """Whether somebody expects something of what they say in the room."""
        return room in self._registry.portals

    def parked(self, side: PortalKey) -> None:
        self._metrics.parked(side.network)

    def _moderated(self, room: ChatId, case: Case, fact: facts.Membership) -> Work | None:
        """A ban that holds on some sides only is never silent: the room hears where it does not, and why."""
        deed = DEEDS[fact.change](chat=room, person=fact.person)
        words = told(deed, fact.person.name, self._side_in_words(case.origin), self._results(case))
        return self._portals.say(room, f"⚠ {words}") if words else None

    def _roles_moderated(self, room: ChatId, case: Case, fact: facts.RolesGiven) -> Work | None:
        """Nor is a role, least of all that of who is muted."""
        words = roles_told([shift.person.name for shift in fact.shifts], self._results(case))
        return self._portals.say(room, f"⚠ {words}") if words else None

    def _results(self, case: Case) -> list[Result]:
        return [
            Result(
                side=o.side,
                label=self._side_in_words(o.side) if o.side != case.origin else "",
                why="" if o.fate is Fate.DELIVERED else o.notice,
            )
            for o in case.outcomes
            if o.side != case.origin or o.fate is Fate.FAILED
        ]

    def _side_in_words(self, side: PortalKey) -> str:
        return "Matrix" if side.network == MATRIX else self._label(side.network)

    # Before a fact is planned ----------------------------------------------------------------------------------

    def observe(self, room: ChatId, case: Case) -> Work | None:
        """What the runtime itself has to do about a fact, before it is planned."""
        if case.origin.network != MATRIX:
            self._members.hear(room, case.origin, case.fact)
        match case.fact:
            case translate.StateChanged() if self._policies.is_list(room):
                fact = case.fact
                return self._policies.changed(room, fact.type, fact.key, fact.content)
            case facts.Retraction() if self._policies.is_list(room):
                return self._policies.redacted(room)
            case translate.StateChanged(type="m.room.power_levels"):
                self._exposures.room_changed(room, case.fact.type, case.fact.sender)
                self._powers_changed(room, case, case.fact)
                return None
            case facts.ChatVisibility():
                self._powers.weigh(room)
                return None
            case translate.StateChanged():
                return self._state_changed(room, case.fact)
            case facts.Membership() if case.origin.network == MATRIX:
                if self._namespace.is_ours(case.fact.person.id):
                    case.fact = self._about_ghost(room, case.fact)
                return self._matrix_member(room, case, case.fact)
            case facts.Message(sender=sender) if case.origin.network == MATRIX:
                return self._own_accounts(room, sender.id)
            case facts.Message(content=content) if content.file is not None:
                case.fact = self._passage.admitted(case.origin, case.fact)
                return None
            case facts.ChatAvatar() if case.origin.network != MATRIX:
                case.fact = self._passage.admitted(case.origin, case.fact)
                return None
            case facts.ChatOpened() | facts.ChatClosed() | facts.Resync():
                return self._portals.observe(case.origin, case.fact)
            case _:
                return None

    def _own_accounts(self, room: ChatId, sender: PersonId) -> Work | None:
        """Accounts for somebody who speaks where everybody has their own, and has none yet."""
        wanted = [
            link.key.network
            for link in self._registry.links_of(room)
            if (network := self._networks.get(link.key.network)) is not None
            and network.own_accounts is OwnAccounts.AUTOMATIC
            and sender not in self._registry.logins_on(link.key.network)
            and self._accounts.may_open(link.key.network)
        ]
        if not wanted or self._permission(sender) in (Permission.NONE, Permission.RELAY):
            return None
        return self._open(wanted, sender)

    async def _open(self, networks: list[NetworkId], owner: PersonId) -> None:
        for network in networks:
            await self._accounts.ensure(network, owner)

    def was_erased(self, sender: PersonId, number: int) -> bool:
        """Whether somebody was erased, or is about to be, since a fact of theirs got its number."""
        return self._erased(sender, number)

    def decide(self, context: Context, fact: facts.Fact) -> Plan:
        """The plan for a fact, of which nothing is shown that people do not want to be shown."""
        covers = self._optouts().covers
        if context.origin.network != MATRIX:
            fact = without(fact, context.origin.network, covers)
            if (left_out := omitted(context, fact, covers, self._omission)) is not None:
                return left_out
        room = context.sides[0].key.chat
        if why := self._loops.repeated(room, context.origin, context.number, fact):
            return Plan(refused=why)
        return plan(context, fact)

    async def _state_changed(self, room: ChatId, fact: translate.StateChanged) -> None:
        self._exposures.room_changed(room, fact.type, fact.sender)
        if (fact.type, fact.key) == (STATE_TYPE, "") and fact.sender != self._me:
            self._protecting.overwritten(room, fact.content)
        if fact.type == "m.room.tombstone":
            replacement = fact.content.get("replacement_room")
            if isinstance(replacement, str) and replacement:
                await self._upgrades.follow(room, ChatId(replacement))

    def _powers_changed(self, room: ChatId, case: Case, fact: translate.StateChanged) -> None:
        """What somebody else made of the room's levels is a fact about the roles of those who are on networks."""
        before = self._powers.changed(room, fact.content) or fact.previous
        self._protecting.powers_changed(room)
        if before is None or fact.sender == self._me or self._namespace.is_ours(fact.sender):
            return
        found = shifts(before, fact.content, lambda who: who != self._me)
        if found:
            case.fact = facts.RolesGiven(
                chat=room,
                at=fact.at,
                actor=self._called(room, fact.sender),
                shifts=tuple(facts.Shift(self._called(room, who), was, now) for who, was, now in found),
            )

    def _called(self, room: ChatId, who: PersonId) -> Person:
        return Person(id=who, name=self._ghosts.shown(who) or self._names.of(room, who) or localpart(who))

    def _about_ghost(self, room: ChatId, fact: facts.Membership) -> facts.Membership:
        """The fact with what the bridge itself knows: events tell neither the name of who left nor, on some
        homeservers, that they were banned before."""
        ghost, change = fact.person.id, fact.change
        if change is Change.BAN:
            self._ghosts.banned(ghost, room)
        elif self._ghosts.allowed(ghost, room) and change in (Change.KICK, Change.LEAVE):
            change = Change.UNBAN
        name = self._ghosts.shown(ghost) or str(self._ghosts.person(ghost))
        person = msgspec.structs.replace(fact.person, name=name)
        return msgspec.structs.replace(fact, person=person, change=change)

    async def _matrix_member(self, room: ChatId, case: Case, fact: facts.Membership) -> None:
        person = fact.person.id
        if fact.change is Change.INVITE:
            await self._invitations.answer(room, case, fact)
        if not self._namespace.is_ours(person):
            self._directs.moved(room)
        if fact.change is Change.JOIN:
            self._readers.came(room, person)
        elif fact.change in (Change.LEAVE, Change.KICK, Change.BAN):
            self._readers.went(room, person)
        if fact.change is Change.INVITE:
            return
        if self._is_direct_of(room, person):
            await self._owner_moved(room, fact)
        elif person == self._me and fact.change in (Change.KICK, Change.BAN):
            self.spawn(self._put_out(room))
        elif self._namespace.is_ours(person) and fact.change in (Change.KICK, Change.LEAVE):
            self._ghosts.left(person, room)

    def _is_direct_of(self, room: ChatId, person: PersonId) -> bool:
        portal = self._registry.portals.get(room)
        return portal is not None and portal.kind == "direct" and portal.creator == person

    async def _owner_moved(self, room: ChatId, fact: facts.Membership) -> None:
        """Who leaves the room of a direct chat has ended it: the next message makes a new room. Who declines the
        invitation is not asked again."""
        kept = self.store.kv
        if fact.change is Change.JOIN:
            await self.store.commit(kept.put(DIRECT, room, b"joined"))  # their leaving may be right behind it
            for link in self._registry.links_of(room):
                self._directs.talked(link.key)
        elif fact.change in (Change.LEAVE, Change.KICK, Change.BAN):
            made = self._registry.portals[room].made
            if made and await kept.get(DIRECT, room) is None:
                return
            self.store.commit(kept.put(DIRECT, room, None))
            for link in list(self._registry.links_of(room)):
                await self._portals.unlink(link.key, reason="its owner left")

    async def _put_out(self, room: ChatId) -> None:
        """The room has put the bridge out: it does not want to be linked."""
        for link in list(self._registry.links_of(room)):
            self._registry.set_state(link.key, CLOSED, "The bridge was removed from the room.", now())
            self._exposures.doubt(link.key)
            if link.static:
                await self._standing.put_out(link.key, room)
            await self._portals.announce(link.key, "This chat is no longer bridged to Matrix.")
            await self._portals.unlink(link.key, reason="the bridge was removed from the room")

    def retells(self, network: NetworkId) -> bool:
        there = self._networks.get(network)
        return there is not None and there.retells

    def muster(self, room: ChatId, origin: PortalKey, decided: Plan) -> None:
        """Ghosts that are to come when there is time, and roles: nobody waits for them."""
        alone = len(decided.arrivals) == 1  # somebody came in; a roster names those who are there
        for arrival in decided.arrivals:
            if self._policies.barred(arrival.ghost):
                continue
            later = self._shields.joined(origin) if alone else 0
            self._joins.want(
                room, arrival.ghost, origin.network, arrival.person, arrival.urgency, later=later
            )
        for ghost, role in decided.roles.items():
            self._powers.give(room, ghost, role)

    async def introduce(self, room: ChatId, case: Case) -> None:
        """Give the sender of a Matrix fact their name."""
        sender = getattr(case.fact, "sender", None)
        if sender is None:
            return
        name = await self._names.find(room, sender.id)
        named = msgspec.structs.replace(sender, name=name)
        case.fact = msgspec.structs.replace(case.fact, sender=named)

    async def words(self, room: ChatId, event: MessageId) -> tuple[str, str]:
        """Who said what in an event of the room, for quotes; empty where it cannot be read."""
        found = await self._client.event(room, event)
        if found is None:
            return "", ""
        try:
            fact: Opened = translate.fact(msgspec.json.encode(found), self._names.of)
            if isinstance(fact, translate.Encrypted):
                fact = await self.open(fact)
        except BridgeError:
            return "", ""  # it cannot be read, or not any more
        if not isinstance(fact, facts.Message):
            return "", ""
        name = self._ghosts.shown(fact.sender.id) or await self._names.find(room, fact.sender.id)
        return name, excerpt(fact.content.text, 200) if fact.content.text else ""

    # After it has its fate -------------------------------------------------------------------------------------

    def settled(self, room: ChatId, case: Case) -> Work | None:
        """Everything about a case has a fate: count it, and tell its sender."""
        if isinstance(case.fact, facts.Message):
            seconds = time.monotonic() - case.started
            for outcome in case.outcomes:
                # What is refused has the side where it was said, and would have gone the other way.
                outgoing = (outcome.side.network != MATRIX) != (outcome.side == case.origin)
                network = outcome.side.network if outgoing else case.origin.network
                direction = Direction.TO_NETWORK if outgoing else Direction.TO_MATRIX
                self._metrics.message(network, direction, outcome.fate.value, seconds)
        if isinstance(case.fact, facts.Membership) and case.fact.change in DEEDS and case.outcomes:
            return self._moderated(room, case, case.fact)
        if isinstance(case.fact, facts.RolesGiven):
            return self._roles_moderated(room, case, case.fact)
        if case.event is None:
            lost = _unheard(case)
            if case.durable and lost is not None:
                why = lost.notice
                log.warning(
                    "not_delivered", network=case.origin.network, fact=type(case.fact).__name__, why=why
                )
                if isinstance(case.fact, facts.Message) and case.origin in self._registry.links:
                    here = lost.side.network == MATRIX or lost.side == case.origin
                    return self._missed(room, why, "here" if here else "everywhere")
            return None
        return self._fates.report(room, case) if self._fates.concerns(case) else None


def _unheard(case: Case) -> Outcome | None:
    """A part of it that failed of which nobody was told why."""
    for outcome in case.outcomes:
        if outcome.fate is Fate.FAILED and not outcome.told and outcome.notice:
            return outcome
    return None
