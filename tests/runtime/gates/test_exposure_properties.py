"""The same as tests/core/test_exposure_properties.py, with the running code: a homeserver that takes its time, news
that come in the middle of a comparison, restarts, and a clock that the machine turns.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any
from unittest import mock

import msgspec
import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bridgekit.contract.errors import HomeserverUnavailable, MatrixForbidden
from bridgekit.contract.facts import ChatClosed, ChatOpened, ChatVisibility
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Visibility
from bridgekit.core.corrections import ALIAS_TYPE, POWER_TYPE, Power, Room, room_of
from bridgekit.core.exposure import SECRET, Allowed, Bound, JoinRule
from bridgekit.core.scopes import Consent, Policy, Scope, in_force
from bridgekit.matrix.shapes import Page
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.underway import UnderWay
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Link, Portal
from tests.core.test_exposure_properties import (
    EXAMPLES,
    THOROUGH,
    bounds,
    fits,
    keys,
    powers,
    rooms,
    visibilities,
)

ROOM, BOT, ALICE = ChatId("!room:hs.test"), PersonId("@bot:hs.test"), PersonId("@alice:hs.test")
CALL = 0.01
"""Seconds that the homeserver takes for each call."""
SETTLED = 200.0
"""Seconds after which all is calm, whatever it was: longer than any timer of the bridge."""
START = 1000.0  # small: asyncio compares times that are a nanosecond apart


class Clock(selectors.DefaultSelector):
    """Instead of waiting, the time passes."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nobody waits for anything: the loop would stand still for ever")
        self.now += timeout
        return super().select(0)


class Homeserver:
    """One room; as much of `bridgekit.matrix.calls.Calls` as a comparison needs."""

    def __init__(self) -> None:
        self.state_of: dict[str, dict[str, Any]] = {}
        self.listed = False
        self.version = "10"
        self.fails = 0

    def set(self, room: Room, power: Power) -> None:
        join: dict[str, Any] = {"join_rule": room.join.name.lower()}
        if room.join is JoinRule.RESTRICTED:
            join["allow"] = [{"type": "m.room_membership", "room_id": r} for r in room.allow]
        self.version = "10" if room.knocking else "6"
        self.listed = room.listed
        self.state_of = {
            "m.room.history_visibility": {"history_visibility": room.history.name.lower()},
            "m.room.join_rules": join,
            "m.room.guest_access": {"guest_access": "can_join" if room.guests else "forbidden"},
            ALIAS_TYPE: {"alias": "#a:hs.test"} if room.alias else {},
            POWER_TYPE: {"users": {BOT: power.level}, "events": dict(power.needs)},
        }

    @property
    def room(self) -> Room:
        return room_of(self.state_of, listed=self.listed, version=self.version)

    async def _takes_its_time(self) -> None:
        await asyncio.sleep(CALL)
        if self.fails:
            self.fails -= 1
            raise HomeserverUnavailable("It is away.")

    def _check(self, type: str) -> None:
        levels = self.state_of[POWER_TYPE]
        if levels["users"][BOT] < levels["events"].get(type, 50):
            raise MatrixForbidden("No.", errcode="M_FORBIDDEN", status=403)

    async def state(self, room: ChatId, type: str) -> dict[str, Any] | None:
        await self._takes_its_time()
        return self.state_of.get(type)

    async def created(self, room: ChatId) -> tuple[str, frozenset[str]]:
        return self.version, frozenset()

    async def directory_visibility(self, room: ChatId) -> bool:
        return self.listed

    async def put_state(self, room: ChatId, type: str, content: dict[str, Any]) -> None:
        await self._takes_its_time()
        self._check(type)
        self.state_of[type] = content

    async def set_directory_visibility(self, room: ChatId, public: bool) -> None:
        await self._takes_its_time()
        self._check(ALIAS_TYPE)
        self.listed = public

    async def messages(self, room: ChatId, *, start: str | None = None) -> Page:
        await self._takes_its_time()
        return Page()


class Kept:
    """A store in memory: what the bridge writes down of its rooms' wishes outlives its restarts."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.kv = self.links = self

    def put(self, *what: Any) -> tuple[Any, ...]:
        return what

    async def get(self, namespace: str, key: str) -> bytes | None:
        return self.rows.get((namespace, key))

    def commit(self, *writes: tuple[Any, ...]) -> asyncio.Future[None]:
        for namespace, key, value in (w for w in writes if len(w) == 3):
            self.rows[namespace, key] = value
            if value is None:
                del self.rows[namespace, key]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Doorkeeper:
    """Says nothing."""

    async def say(self, room: ChatId, words: str) -> None: ...
    async def announce(self, side: PortalKey, words: str) -> None: ...
    async def placed(self, link: Link, allowed: Allowed) -> None: ...


class Game(RuleBasedStateMachine):
    """Networks, operators, an admin and people on Matrix against the bridge's own `Exposures`."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.now = START
        self.loop = asyncio.SelectorEventLoop(self.clock)
        self.loop.time = lambda: self.clock.now  # type: ignore[method-assign]
        quiet = mock.MagicMock(spec=structlog.stdlib.BoundLogger)
        self.patches: list[Any] = [
            mock.patch("bridgekit.runtime.gates.exposure.now", self.now),
            mock.patch("bridgekit.runtime.gates.exposure.log", quiet),
            mock.patch("bridgekit.runtime.gates.takingback.log", quiet),
        ]
        for patch in self.patches:
            patch.start()
        self.homeserver = Homeserver()
        self.kept = Kept()
        self.links: dict[PortalKey, tuple[Policy, Bound]] = {}
        self.said: dict[PortalKey, Visibility] = {}
        self.given: dict[PortalKey, list[Consent]] = {}
        self.faults: list[BaseException] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.made = False

    def teardown(self) -> None:
        self.run(self.stop())
        self.loop.close()
        for patch in self.patches:
            patch.stop()
        if self.faults:
            raise self.faults[0]

    # The bridge -----------------------------------------------------------------------------------------------

    def now(self) -> int:
        return int(self.clock.now * 1000)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.faults.append(error)

    async def stop(self) -> None:
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self) -> None:
        """A bridge that knows nothing but what it has written down."""
        self.registry = Registry(self.kept)  # type: ignore[arg-type]
        self.registry.portals[ROOM] = Portal(
            room=ROOM, network=None, made=self.made, kind="channel", creator=ALICE
        )
        for key in self.links:
            self.registry.links[key] = self.link(key)
        self.registry._index()
        client = mock.Mock()
        client.patient = self.homeserver
        self.bridge = Exposures(
            client,
            self.registry,
            self.kept,  # type: ignore[arg-type]
            bot=BOT,
            network_of=lambda who: NetworkId(""),
            label=str,
            policy=self.policy,
            consents=lambda side: tuple(self.given.get(side, ())),
            ceiling=lambda link: self.links[link.key][1] if link.key in self.links else SECRET,
            doorkeeper=Doorkeeper(),
            changed=self.moved,
            under_way=UnderWay(),
            spawn=self.spawn,
        )

    def policy(self, network: NetworkId) -> Policy:
        return next(
            (policy for key, (policy, _) in self.links.items() if key.network == network), Policy.REQUIRED
        )

    def link(self, key: PortalKey) -> Link:
        return Link(
            key=key, room=ROOM, name=key.chat, reader=None, creator=ALICE, static=False, state="paused", reason="",
            since=0,
        )  # fmt: skip

    def act(self, seconds: float, deed: Any, *more: Any) -> None:
        """Do it, and let so much time pass: 0 leaves the bridge in the middle of what it does."""

        async def doing() -> None:
            deed(*more)
            await asyncio.sleep(seconds)

        self.run(doing())

    # What happens ---------------------------------------------------------------------------------------------

    @initialize(room=rooms, power=powers, made=st.booleans())
    def begin(self, room: Room, power: Power, made: bool) -> None:
        self.made = made
        self.homeserver.set(room, Power() if made else power)
        self.start()

    hurry = st.sampled_from([0.0, 0.005, 0.015, 0.05, SETTLED])

    @rule(key=keys, policy=st.sampled_from(Policy), ceiling=bounds, seconds=hurry)
    def a_link_is_made(self, key: PortalKey, policy: Policy, ceiling: Bound, seconds: float) -> None:
        def made() -> None:
            for other, (_, own) in list(self.links.items()):
                if other.network == key.network:  # one network has one policy
                    self.links[other] = policy, own
                    self.bridge.doubt(other)
            self.links[key] = policy, ceiling
            self.registry.links[key] = self.link(key)
            self.registry._index()
            self.bridge.doubt(key)
            self.bridge.visibilities.hear(key, ChatOpened(chat=key.chat, at=0))
            self.bridge.weigh(ROOM)

        self.act(seconds, made)

    @rule(key=keys, seconds=hurry)
    def a_link_is_removed(self, key: PortalKey, seconds: float) -> None:
        self.links.pop(key, None)
        self.said.pop(key, None)

        def removed() -> None:
            self.registry.links.pop(key, None)
            self.registry._index()
            self.bridge.forget(key)
            self.bridge.weigh(ROOM)

        self.act(seconds, removed)

    @rule(key=keys, visibility=visibilities, seconds=hurry)
    def the_network_sets_a_mode(self, key: PortalKey, visibility: Visibility, seconds: float) -> None:
        def heard() -> None:
            self.said[key] = visibility
            self.bridge.visibilities.hear(key, ChatVisibility(chat=key.chat, at=0, visibility=visibility))

        if key in self.links:
            self.act(seconds, heard)

    @rule(key=keys, several=st.lists(visibilities, min_size=2, max_size=8))
    def the_network_flips_its_modes(self, key: PortalKey, several: list[Visibility]) -> None:
        for visibility in several:
            self.the_network_sets_a_mode(key, visibility, 0.005)

    @rule(
        key=keys, scopes=st.frozensets(st.sampled_from(Scope)), lasts=st.sampled_from([0, 60]), seconds=hurry
    )
    def an_operator_agrees(
        self, key: PortalKey, scopes: frozenset[Scope], lasts: int, seconds: float
    ) -> None:
        consents = self.given.setdefault(key, [])
        consents.append(
            Consent(
                id=len(consents), side=key, scopes=scopes, person=PersonId("olga"), name="Olga", at=self.now(),
                wording="", until=self.now() + lasts * 1000 if lasts else 0,
            )
        )  # fmt: skip
        self.act(seconds, self.scopes_changed, key)

    @rule(key=keys, seconds=hurry)
    def an_operator_takes_it_back(self, key: PortalKey, seconds: float) -> None:
        def taken_back() -> None:
            self.given[key] = [msgspec.structs.replace(c, ended=self.now()) for c in self.given.get(key, [])]
            self.scopes_changed(key)

        self.act(seconds, taken_back)

    def scopes_changed(self, key: PortalKey) -> None:
        """As bridgekit/runtime/consequences.py does it."""
        if key in self.links:
            if Scope.BRIDGE not in in_force(self.links[key][0], self.given.get(key, ()), self.now()):
                self.bridge.shut(key)
            self.bridge.weigh(ROOM)

    @rule(room=rooms, power=powers, seconds=hurry)
    def people_on_matrix_change_the_room(self, room: Room, power: Power, seconds: float) -> None:
        def changed() -> None:
            self.homeserver.set(room, Power() if self.made else power)
            for type, content in self.homeserver.state_of.items():
                self.bridge.glimpsed(ROOM, type, content)
                self.bridge.room_changed(ROOM, type, ALICE)
            self.what_is_exposed_stops_at_once()

        self.calm()
        self.act(seconds, changed)

    @rule(count=st.integers(1, 5))
    def the_homeserver_is_away(self, count: int) -> None:
        self.homeserver.fails = count

    @rule(seconds=st.sampled_from([0.01, 1.0, 30.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.act(seconds, lambda: None)

    @rule(room=rooms)
    def the_bridge_starts_again_and_meanwhile_the_room_was_changed(self, room: Room) -> None:
        self.starts_again(room, 0.0)
        self.networks_are_heard()

    @rule(room=rooms)
    def the_bridge_starts_again_and_its_networks_stay_away(self, room: Room) -> None:
        self.calm()
        left = self.bridge.wishes.left(ROOM)
        self.starts_again(room, SETTLED)
        unheard = [key for key in self.links if key.receiver is None and self.agreed(key)]
        if left is not None and self.has_power() and unheard:
            assert left.allows(self.homeserver.room.shown), f"left at {left}, it is {self.homeserver.room}"
        assert not {key for key in self.bridge.cleared if key.receiver is None}
        self.networks_are_heard()

    @rule(key=keys, visibility=visibilities, alone=st.booleans(), seconds=hurry)
    def the_bridge_is_away_and_meanwhile_a_chat_has_changed(
        self, key: PortalKey, visibility: Visibility, alone: bool, seconds: float
    ) -> None:
        """Put out of that chat, or cut off from its network: nothing of it passes before it is heard anew."""
        if key not in self.links or key.receiver is not None:
            return
        away = [k for k in self.links if k == key or (k.network == key.network and not alone)]

        def back() -> None:
            if alone:
                self.bridge.visibilities.hear(key, ChatClosed(chat=key.chat, at=0, reason=""))
            else:
                self.bridge.visibilities.lost(key.network)
            assert not self.bridge.cleared & {k for k in away if k.receiver is None}
            self.said[key] = visibility

        self.act(seconds, back)
        for one in away:
            self.act(0.005, self.bridge.visibilities.hear, one, ChatOpened(chat=one.chat, at=0))
            if one in self.said:
                self.the_network_sets_a_mode(one, self.said[one], 0.005)

    def starts_again(self, room: Room, seconds: float) -> None:
        self.run(self.stop())
        self.homeserver.set(room, Power(**_power_of(self.homeserver.state_of[POWER_TYPE])))
        self.start()
        self.act(seconds, self.bridge.start)

    def networks_are_heard(self) -> None:
        for key in self.links:  # the relay is in its chats again
            self.act(0.005, self.bridge.visibilities.hear, key, ChatOpened(chat=key.chat, at=0))
        for key, visibility in list(self.said.items()):
            self.the_network_sets_a_mode(key, visibility, 0.005)

    # What must hold -------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Let the bridge come to an end with all that happened, and with what ran out meanwhile."""
        self.homeserver.fails = 0
        self.act(SETTLED, self.bridge.weigh, ROOM)
        self.act(SETTLED, self.bridge.weigh, ROOM)

    def moved(self, side: PortalKey) -> None:
        """No link is opened, at any moment, on what was found before it was stopped. (A consent that runs out stops
        a link when it is looked at, and not to the second.)"""
        if side in self.bridge.cleared:
            room = msgspec.structs.replace(self.homeserver.room, listed=False)
            if not self.fits(side, room, at=self.now() - 1000):
                self.faults.append(AssertionError(f"{side} was opened into {room}"))

    def what_is_exposed_stops_at_once(self) -> None:
        """Nothing passes from the moment that the news is there, whether the room was put back yet or not. What stands
        in the directory is no event: that is seen at the next comparison."""
        room = msgspec.structs.replace(self.homeserver.room, listed=False)
        for key in self.bridge.cleared:
            assert self.fits(key, room), f"{key} still passes into {room}"

    @invariant()
    def when_all_is_calm_no_room_is_more_open_than_those_whose_words_pass_allow(self) -> None:
        if not hasattr(self, "bridge"):
            return
        if self.steps_in_a_hurry():
            return
        self.calm()
        room = self.homeserver.room
        for key in self.bridge.cleared:
            assert key in self.links
            assert self.fits(key, room), f"{key} passes into {room}"
        if self.has_power():
            for key in self.links:
                if self.agreed(key):
                    assert key in self.bridge.cleared, f"{key} is held up for nothing"
                    assert self.fits(key, room)

    def has_power(self) -> bool:
        levels = self.homeserver.state_of[POWER_TYPE]
        return all(
            levels["users"][BOT] >= levels["events"].get(type, 50) for type in self.homeserver.state_of
        )

    def steps_in_a_hurry(self) -> bool:
        """Every third step is looked at when all is calm; in between the bridge is overtaken by what happens."""
        self.count = getattr(self, "count", 0) + 1
        return self.count % 3 != 0

    def agreed(self, key: PortalKey, at: int = 0) -> bool:
        return Scope.BRIDGE in in_force(self.links[key][0], self.given.get(key, ()), at or self.now())

    def fits(self, key: PortalKey, room: Room, at: int = 0) -> bool:
        if key not in self.links:
            return False
        policy, ceiling = self.links[key]
        counting = [c for c in self.given.get(key, ()) if c.counts(at or self.now())]
        scopes = {scope for c in counting for scope in c.scopes}
        if not self.agreed(key, at):
            return False
        return fits(room, self.said.get(key, Visibility()), scopes, policy, ceiling)


def _power_of(levels: Mapping[str, Any]) -> dict[str, Any]:
    return {"level": levels["users"][BOT], "needs": levels["events"]}


Game.TestCase.settings = settings(
    max_examples=EXAMPLES if THOROUGH else 60, stateful_step_count=20, deadline=None
)
TestTheRunningCodeNeverExceedsTheMeet = pytest.mark.timeout(3600)(Game.TestCase)
