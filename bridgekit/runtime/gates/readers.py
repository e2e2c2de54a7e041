"""The presence gate at work: who reads a room and is not seen in its chats, who is waited for, who is taken out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import structlog

from bridgekit.contract.connector import Network, OwnAccounts
from bridgekit.contract.errors import BridgeError, MatrixError, RemoteError
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.core.crowd import Crowds
from bridgekit.core.gate import TURN, GateMode, GateRules, Reader, Seen, Verdict, explain, judge
from bridgekit.core.model import Permission
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.networks.sessions import State, Supervised
from bridgekit.runtime.registry import Registry
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

PATIENT = 5.0
"""Seconds for which something is held before the room hears of it."""
TRY_AGAIN = 10.0
"""Seconds until who is in a room is asked again, where that failed."""
REMOVE_AGAIN = 60.0
"""Seconds until it is tried again to take somebody out."""


class Registered(Protocol):
    """Who in a room is no person of Matrix."""

    def __call__(self, user: PersonId) -> bool: ...


class Readers:
    """The gate of every link that has one. `changed` is told of each link whose gate opens or closes; `held` is how
    much waits for it."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        accounts: Accounts,
        networks: Mapping[NetworkId, Network],
        crowds: Crowds,
        *,
        rules: Callable[[NetworkId], GateRules],
        permission: Callable[[PersonId], Permission],
        is_ours: Registered,
        label: Callable[[NetworkId], str],
        say: Callable[[ChatId, str], Coroutine[Any, Any, None]],
        held: Callable[[PortalKey], int],
        changed: Callable[[PortalKey], None],
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._accounts = accounts
        self._networks = networks
        self._crowds = crowds
        self._rules = rules
        self._permission = permission
        self._is_ours = is_ours
        self._label = label
        self._say = say
        self._held = held
        self._changed = changed
        self._spawn = spawn
        self._joined: dict[ChatId, set[PersonId]] = {}  # Matrix users in rooms that have a gate
        self._verdicts: dict[PortalKey, Verdict] = {}  # of links whose gate is closed
        self._since: dict[tuple[PortalKey, PersonId], int] = {}
        self._turns: dict[
            tuple[PortalKey, PersonId], list[int]
        ] = {}  # when (ms) they went without being seen
        self._called: set[tuple[PortalKey, PersonId]] = set()  # whose account was told to come in
        self._removing: set[tuple[ChatId, PersonId]] = set()  # who is being taken out, or will be tried again
        self._back: set[tuple[ChatId, PersonId]] = set()  # who came in while they were being taken out
        self._stuck: set[tuple[ChatId, PersonId]] = set()  # who could not be taken out, and is still there
        self._telling: set[PortalKey] = set()  # of which the room will be told in a moment
        self._told: dict[
            PortalKey, tuple[frozenset[PersonId], frozenset[PersonId]]
        ] = {}  # who blocks, who is stuck
        self._timers: dict[PortalKey, asyncio.TimerHandle] = {}
        # Rooms that are being asked who is there, and who has come (True) or gone meanwhile.
        self._reading: dict[ChatId, dict[PersonId, bool]] = {}

    # Questions ------------------------------------------------------------------------------------------------

    def has_gate(self, side: PortalKey) -> bool:
        """Whether the link's chat may not be read unseen."""
        if side.receiver is not None or side.network not in self._networks:
            return False
        return self._rules(side.network).mode is not GateMode.RELAY_ALLOWED

    def blocked(self, side: PortalKey) -> str:
        """Why a link's messages wait; "" where nothing is in their way."""
        verdict = self._verdicts.get(side)
        if verdict is None:
            return ""
        return "; ".join(f"{b.user}: {b.why}" for b in verdict.blockers) or wording.LOOKING

    def explained(self, side: PortalKey) -> str:
        """For people: who blocks, since when, what to do; "" where nobody does."""
        verdict, link = self._verdicts.get(side), self._registry.links.get(side)
        if verdict is None or link is None:
            return ""
        return explain(verdict, self._held(side), link.name, self._label(side.network), now())

    # What happens ---------------------------------------------------------------------------------------------

    def linked(self, side: PortalKey) -> None:
        """There is a link: its gate is closed until it is known who reads the room and who is in the chat."""
        if self.has_gate(side):
            self._verdicts[side] = Verdict(passes=False)
            self._judge(side)

    def forget(self, side: PortalKey) -> None:
        """The link is gone."""
        self._verdicts.pop(side, None)
        self._told.pop(side, None)
        if (timer := self._timers.pop(side, None)) is not None:
            timer.cancel()
        self._since = {key: at for key, at in self._since.items() if key[0] != side}
        self._turns = {key: at for key, at in self._turns.items() if key[0] != side}
        self._called = {key for key in self._called if key[0] != side}

    def came(self, room: ChatId, user: PersonId) -> None:
        """A Matrix user is in the room now."""
        if room in self._reading:
            self._reading[room][user] = True
        if room in self._joined and not self._is_ours(user):
            if (room, user) in self._removing:
                self._back.add((room, user))
            self._joined[room].add(user)
            self._room(room)

    def went(self, room: ChatId, user: PersonId) -> None:
        """A Matrix user is not in the room any more."""
        if room in self._reading:
            self._reading[room][user] = False
        if room in self._joined and user in self._joined[room]:
            self._joined[room].discard(user)
            self._stuck.discard((room, user))
            for link in self._registry.links_of(room):
                if self._since.pop((link.key, user), None) is not None:
                    self._turns[link.key, user] = [*self._recent_turns(link.key, user), now()]
                self._called.discard((link.key, user))
            self._room(room)

    def moved(self, side: PortalKey) -> None:
        """Somebody came into the chat or left it."""
        if side in self._registry.links and self.has_gate(side):
            self._judge(side)

    def holds(self, side: PortalKey) -> None:
        """Something of the link waits for its gate: the room hears of it, unless it is over in a moment."""
        if side not in self._telling:
            self._telling.add(side)
            asyncio.get_running_loop().call_later(PATIENT, self._tell, side)

    def session_changed(self, supervised: Supervised) -> None:
        """A connection is up or lost. Without the one that reads, nobody is seen."""
        if supervised.login is None:
            if supervised.state is not State.READY:
                self._crowds.lost(supervised.id)
        else:
            owner = supervised.login.owner
            self._called = {key for key in self._called if key[1] != owner or key[0].network != supervised.id}
        for side in [side for side in self._registry.links if side.network == supervised.id]:
            if self.has_gate(side):
                self._judge(side)

    def _room(self, room: ChatId) -> None:
        for link in self._registry.links_of(room):
            if self.has_gate(link.key):
                self._judge(link.key)

    # Judging --------------------------------------------------------------------------------------------------

    def _judge(self, side: PortalKey) -> None:
        link = self._registry.links.get(side)
        if link is None:
            return
        crowd = self._crowds.of(side)
        people = self._joined.get(link.room)
        if people is None or not crowd.known:
            self._set(side, Verdict(passes=False))
            if people is None:
                self._ask(link.room)
            return
        readers = [self._reader(side, user) for user in sorted(people)]
        rules = self._rules(side.network)
        verdict = judge(rules, [r for r in readers if r is not None], now())
        for one in [(link.room, user) for user in verdict.remove]:
            if one not in self._removing:
                self._removing.add(one)
                self._spawn(self._remove(side, *one, verdict))
        stuck = tuple(u for u in verdict.remove if (link.room, u) in self._stuck)
        if stuck:
            verdict = Verdict(passes=False, blockers=verdict.blockers, stuck=stuck, again=verdict.again)
        self._set(side, verdict)

    def _reader(self, side: PortalKey, user: PersonId) -> Reader | None:
        seen, why = self._look(side, user)
        if seen is Seen.PRESENT:
            self._since.pop((side, user), None)
            self._called.discard((side, user))
            return None
        since = self._since.setdefault((side, user), now())
        turns = len(self._recent_turns(side, user))
        return Reader(user=user, seen=seen, since=since, why=why, turns=turns)

    def _recent_turns(self, side: PortalKey, user: PersonId) -> list[int]:
        turns = [at for at in self._turns.get((side, user), ()) if at > now() - TURN]
        if not turns:
            self._turns.pop((side, user), None)
        return turns[-2:]  # more of them make no difference

    def _look(self, side: PortalKey, user: PersonId) -> tuple[Seen, str]:
        """Where a Matrix user's own account is, and what is the matter with it."""
        login = self._registry.logins_on(side.network).get(user)
        if login is None:
            return self._without_account(side, user)
        supervised = self._accounts.sessions.get((side.network, login))
        if supervised is None or supervised.state is State.REJECTED:
            return Seen.ABSENT, supervised.reason if supervised is not None else ""
        if supervised.session is None:
            return Seen.COMING if supervised.state is State.CONNECTING else Seen.ABSENT, supervised.reason
        seen = self._crowds.of(side).seen(supervised.session.me.id)
        if seen is Seen.ABSENT and (side, user) not in self._called:
            self._called.add((side, user))
            self._spawn(self._call_in(side, supervised))
        return (Seen.COMING if seen is Seen.ABSENT else seen), ""

    def _without_account(self, side: PortalKey, user: PersonId) -> tuple[Seen, str]:
        network = self._networks[side.network]
        may = self._permission(user) not in (Permission.NONE, Permission.RELAY)
        if not may or network.own_accounts is OwnAccounts.OFF:
            return Seen.ABSENT, wording.MAY_HAVE_NO_ACCOUNT
        if network.own_accounts is OwnAccounts.AUTOMATIC and self._accounts.may_open(side.network):
            if (side, user) not in self._called:
                self._called.add((side, user))
                self._spawn(self._open(side.network, user))
            return Seen.COMING, ""
        return Seen.ABSENT, wording.HAS_NO_ACCOUNT

    async def _open(self, network: NetworkId, user: PersonId) -> None:
        await self._accounts.ensure(network, user)

    async def _call_in(self, side: PortalKey, supervised: Supervised) -> None:
        """Let somebody's own account go into the chat whose room they are in."""
        try:
            session = await supervised.ready()
            supervised.joined.discard(side.chat)  # it was there once, and is not seen there now
            await supervised.enter(side.chat, session)
        except RemoteError as error:
            log.info("reader_not_let_in", network=side.network, reason=error.notice)

    def _set(self, side: PortalKey, verdict: Verdict) -> None:
        before = self._verdicts.get(side)
        was = before is not None
        if verdict.passes:
            self._verdicts.pop(side, None)
            self._told.pop(side, None)
        else:
            self._verdicts[side] = verdict
            if before is None or before.stuck != verdict.stuck or self._timers.get(side) is None:
                self.holds(side)
        if (timer := self._timers.pop(side, None)) is not None:
            timer.cancel()
        if verdict.again:
            delay = max(0, verdict.again - now()) / 1000 + 0.01
            self._timers[side] = asyncio.get_running_loop().call_later(delay, self._judge, side)
        if was is verdict.passes:
            self._changed(side)

    def _ask(self, room: ChatId) -> None:
        if room not in self._reading:
            self._reading[room] = {}
            self._spawn(self._read(room))

    async def _read(self, room: ChatId) -> None:
        """Ask who is in a room. Whoever came in meanwhile is there, whatever the answer says."""
        try:
            members = await self._client.joined_members(room)
        except BridgeError as error:
            log.warning("readers_not_known", reason=error.notice)
            asyncio.get_running_loop().call_later(TRY_AGAIN, self._room, room)
            return
        finally:
            meanwhile = self._reading.pop(room)
        self._stuck = {one for one in self._stuck if one[0] != room or one[1] in members}
        there = {*members, *(user for user, came in meanwhile.items() if came)}
        self._joined[room] = {user for user in there if not self._is_ours(user)}
        self._room(room)

    async def _remove(self, side: PortalKey, room: ChatId, user: PersonId, verdict: Verdict) -> None:
        """Take somebody out. Whom the homeserver does not let go reads on: then the gate stays closed, and it is
        tried again."""
        link = self._registry.links.get(side)
        why = next((b.why for b in verdict.blockers if b.user == user), "")
        name = link.name if link is not None else str(side.chat)
        try:
            await self._client.kick(room, user, reason=wording.removed(name, self._label(side.network), why))
        except MatrixError as error:
            self._back.discard((room, user))
            if (room, user) not in self._stuck:
                log.warning("reader_cannot_be_removed", network=side.network, reason=error.notice)
            self._stuck.add((room, user))
            asyncio.get_running_loop().call_later(REMOVE_AGAIN, self._try_again, room, user)
            self._room(room)
            return
        self._removing.discard((room, user))
        log.info("reader_removed", network=side.network)
        if (room, user) in self._back:  # perhaps after the kick, which is answered only now
            self._back.discard((room, user))
            self._ask(room)
        else:
            self.went(room, user)

    def _try_again(self, room: ChatId, user: PersonId) -> None:
        """Perhaps they have left, and the news of it was lost; or the bridge has the power by now."""
        self._removing.discard((room, user))
        if room in self._joined:
            self._ask(room)

    def _tell(self, side: PortalKey) -> None:
        """Say in the room what is held, once for each set of people who block, and again where one of them cannot be
        taken out."""
        self._telling.discard(side)
        verdict, link = self._verdicts.get(side), self._registry.links.get(side)
        if verdict is None or link is None or not verdict.blockers or not self._held(side):
            return
        blockers = frozenset(b.user for b in verdict.blockers)
        telling = (blockers, frozenset(verdict.stuck))
        if self._told.get(side) == telling:
            return
        self._told[side] = telling
        log.warning("gate_holds", network=side.network, held=self._held(side), blockers=len(blockers))
        self._spawn(self._say(link.room, f"⚠ {self.explained(side)}"))
