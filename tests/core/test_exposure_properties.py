"""No sequence of facts ever leaves a room more open than the meet: a machine that plays network, admin and people.

CI plays ten thousand short games and two hundred long ones; `HYPOTHESIS_PROFILE=thorough` plays ten thousand long ones,
which takes some minutes. Elsewhere it is two hundred of each.
"""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.core.corrections import (
    ALIAS_TYPE,
    GUEST_TYPE,
    HISTORY_TYPE,
    JOIN_TYPE,
    List,
    Pause,
    Power,
    Room,
    SetState,
    corrections,
    heeded,
    may_open,
    openings,
)
from bridgekit.core.exposure import OPEN, Bound, JoinRule, LinkView, allowed
from bridgekit.core.scopes import Consent, Policy, Scope
from bridgekit.core.steady import Steady, calmed, heard

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EXAMPLES = int(os.environ.get("GAMES", 10_000)) if THOROUGH else 200
SHORT_GAMES = 10_000 if os.environ.get("CI") else 200

KEYS = [PortalKey(NetworkId(n), ChatId(c)) for n, c in (("parrot", "#a"), ("parrot", "#b"), ("crow", "#a"))]
TYPES = [HISTORY_TYPE, JOIN_TYPE, GUEST_TYPE, ALIAS_TYPE]

keys = st.sampled_from(KEYS)
exposures = st.sampled_from(Exposure)
visibilities = st.builds(
    Visibility,
    exposure=exposures,
    entry=st.sampled_from(Entry),
    listed=st.booleans(),
    known=st.booleans(),
)
bounds = st.builds(
    Bound,
    history=exposures,
    join=st.sampled_from(JoinRule),
    guests=st.booleans(),
    listed=st.booleans(),
    findable=st.booleans(),
    media=st.booleans(),
)
rooms = st.builds(
    Room,
    history=st.sampled_from([e for e in Exposure if e is not Exposure.PRESENT]),
    join=st.sampled_from(JoinRule),
    guests=st.booleans(),
    listed=st.booleans(),
    alias=st.booleans(),
    allow=st.sampled_from([(), ("!s:example.org",)]),
    knocking=st.booleans(),
)
powers = st.builds(
    Power,
    level=st.sampled_from([0, 50, 100]),
    needs=st.dictionaries(st.sampled_from(TYPES), st.sampled_from([0, 50, 100, 101]), max_size=3),
)


# The same table as in exposure.py, written a second time and differently: what a room may show for one link.


def fits(room: Room, said: Visibility, scopes: set[Scope], policy: Policy, ceiling: Bound) -> bool:
    if policy is not Policy.REQUIRED:
        scopes = scopes | {Scope.BRIDGE}
    if policy is Policy.OFF:
        scopes = scopes | {Scope.HISTORY}
    if Scope.BRIDGE not in scopes:
        return False
    secret = not said.known
    if room.history is Exposure.WORLD_READABLE and (
        secret
        or Scope.PUBLIC not in scopes
        or said.exposure < Exposure.WORLD_READABLE
        or ceiling.history < Exposure.WORLD_READABLE
    ):
        return False
    if room.history is Exposure.SHARED and (
        secret
        or not scopes & {Scope.HISTORY, Scope.PUBLIC}
        or said.exposure < Exposure.SHARED
        or ceiling.history < Exposure.SHARED
    ):
        return False
    if room.history is Exposure.INVITED and (
        secret
        or not scopes & {Scope.HISTORY, Scope.PUBLIC}
        or said.exposure < Exposure.INVITED
        or ceiling.history < Exposure.INVITED
    ):
        return False
    hidden = secret or not said.listed
    if room.join > JoinRule.INVITE and (hidden or said.entry is Entry.INVITE or ceiling.join < room.join):
        return False
    if room.join > JoinRule.KNOCK and said.entry is not Entry.OPEN:
        return False
    if room.listed and (hidden or Scope.PUBLIC not in scopes or not ceiling.listed):
        return False
    if room.alias and (hidden or not ceiling.findable):
        return False
    return not room.guests or (
        not hidden
        and ceiling.guests
        and said.entry is Entry.OPEN
        and said.exposure is Exposure.WORLD_READABLE
        and Scope.PUBLIC in scopes
    )


class World(RuleBasedStateMachine):
    """A room, its links, and a bridge that has nothing but the functions of the core."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000_000
        self.room = Room()
        self.power = Power()
        self.made = False
        self.wish = Bound()
        self.said: dict[PortalKey, Visibility] = {}  # what the network really does
        self.steady: dict[PortalKey, Steady] = {}  # what the bridge remembers of it
        self.linked: dict[PortalKey, tuple[Policy, Bound]] = {}
        self.consents: dict[PortalKey, list[Consent]] = {}
        self.passing: set[PortalKey] = set()
        self.number = 0

    @initialize(room=rooms, power=powers, made=st.booleans())
    def begin(self, room: Room, power: Power, made: bool) -> None:
        self.made, self.power = made, Power() if made else power
        self.room = Room(history=Exposure.JOINED) if made else room
        self.wish = OPEN if made else self.room.shown

    # What happens ---------------------------------------------------------------------------------------------

    @rule(key=keys, visibility=visibilities)
    def the_network_sets_a_mode(self, key: PortalKey, visibility: Visibility) -> None:
        self.said[key] = visibility
        self.steady[key] = heard(self.steady.get(key), visibility, self.now)
        self.bridge()

    @rule(key=keys, visibilities=st.lists(visibilities, min_size=2, max_size=20))
    def the_network_flips_its_modes(self, key: PortalKey, visibilities: list[Visibility]) -> None:
        for visibility in visibilities:
            self.now += 6
            self.the_network_sets_a_mode(key, visibility)

    @rule(key=keys, policy=st.sampled_from(Policy), ceiling=bounds)
    def a_link_is_made(self, key: PortalKey, policy: Policy, ceiling: Bound) -> None:
        self.linked[key] = policy, ceiling
        self.passing.discard(key)
        self.bridge()

    @rule(key=keys)
    def a_link_is_removed(self, key: PortalKey) -> None:
        self.linked.pop(key, None)
        self.passing.discard(key)
        self.bridge()

    @rule(key=keys, scopes=st.frozensets(st.sampled_from(Scope)), lasts=st.sampled_from([0, 1, 60_000]))
    def an_operator_agrees(self, key: PortalKey, scopes: frozenset[Scope], lasts: int) -> None:
        self.number += 1
        self.consents.setdefault(key, []).append(
            Consent(
                id=self.number,
                side=key,
                scopes=scopes,
                person=PersonId("olga"),
                name="Olga",
                at=self.now,
                wording="",
                until=self.now + lasts if lasts else 0,
            )
        )
        self.bridge()

    @rule(key=keys)
    def an_operator_takes_it_back(self, key: PortalKey) -> None:
        self.consents[key] = [msgspec.structs.replace(c, ended=self.now) for c in self.consents.get(key, [])]
        self.bridge()

    @rule(room=rooms)
    def people_on_matrix_change_the_room(self, room: Room) -> None:
        self.room = msgspec.structs.replace(room, knocking=self.room.knocking)
        views = self.views()
        self.wish = heeded(self.wish, self.room.shown, allowed(OPEN, views, self.now, made=self.made))
        self.bridge()

    @rule(power=powers)
    def the_bots_power_changes(self, power: Power) -> None:
        self.power = power
        self.bridge()

    @rule(ms=st.sampled_from([1, 1000, 30_000, 90_000]))
    def time_passes(self, ms: int) -> None:
        self.now += ms
        self.bridge()

    @rule(room=rooms)
    def the_bridge_starts_again_and_meanwhile_the_room_was_changed(self, room: Room) -> None:
        self.steady = {}
        self.passing = set()
        self.room = msgspec.structs.replace(room, knocking=self.room.knocking)
        self.bridge()

    @rule(key=keys)
    def the_network_tells_its_modes_again(self, key: PortalKey) -> None:
        if key in self.said:
            self.the_network_sets_a_mode(key, self.said[key])

    # What the bridge does -------------------------------------------------------------------------------------

    def views(self) -> list[LinkView]:
        self.steady = {key: calmed(steady, self.now) for key, steady in self.steady.items()}
        return [
            LinkView(
                key=key,
                name=str(key.chat),
                label=str(key.network),
                visibility=self.steady[key].shown if key in self.steady else Visibility(),
                policy=policy,
                consents=tuple(self.consents.get(key, ())),
                ceiling=ceiling,
            )
            for key, (policy, ceiling) in self.linked.items()
        ]

    def bridge(self) -> None:
        decided = allowed(self.wish, self.views(), self.now, made=self.made)
        paused = set()
        for what in corrections(self.room, decided, self.power):
            if isinstance(what, Pause):
                paused.add(what.link)
                assert what.reason
                assert what.mend
            else:
                self.do(what)
        for change in openings(self.room, decided, self.power):
            self.do(change)
        self.passing = {
            s.link.key
            for s in decided.standing
            if s.link.key not in paused and may_open(self.room, decided, s.link.key)
        }
        # Nothing is left to do: what was set is what is allowed.
        assert not [c for c in corrections(self.room, decided, self.power) if not isinstance(c, Pause)]
        assert openings(self.room, decided, self.power) == ()

    def do(self, change: SetState | List) -> None:
        match change:
            case List(public=public):
                assert self.power.may(ALIAS_TYPE)
                self.room = msgspec.structs.replace(self.room, listed=public)
            case SetState(type=type, content=content):
                assert self.power.may(type)
                self.set(type, content)

    def set(self, type: str, content: dict[str, object]) -> None:
        value = next(iter(content.values()), "")
        if type == HISTORY_TYPE:
            self.room = msgspec.structs.replace(self.room, history=Exposure[str(value).upper()])
        elif type == JOIN_TYPE:
            rule = JoinRule[str(value).upper()]
            assert rule is not JoinRule.KNOCK or self.room.knocking
            assert rule is not JoinRule.RESTRICTED or content["allow"]
            self.room = msgspec.structs.replace(self.room, join=rule)
        elif type == GUEST_TYPE:
            self.room = msgspec.structs.replace(self.room, guests=value == "can_join")
        else:
            assert content == {}
            self.room = msgspec.structs.replace(self.room, alias=False)

    # What must hold -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_passes_from_a_link_into_a_room_that_shows_more_than_the_link_allows(self) -> None:
        for key in self.passing:
            policy, ceiling = self.linked[key]
            scopes = {
                scope
                for c in self.consents.get(key, ())
                if c.granted and not c.ended and (not c.until or c.until > self.now)
                for scope in c.scopes
            }
            assert fits(self.room, self.said.get(key, Visibility()), scopes, policy, ceiling)

    @invariant()
    def a_bot_with_power_leaves_no_setting_above_the_meet(self) -> None:
        decided = allowed(self.wish, self.views(), self.now, made=self.made)
        if decided.standing and all(self.power.may(type) for type in TYPES):
            bound = decided.bound
            if bound.history is Exposure.PRESENT:
                bound = msgspec.structs.replace(bound, history=Exposure.JOINED)
            assert bound.allows(self.room.shown)
            assert self.passing == {s.link.key for s in decided.standing}


World.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
TestNoSequenceOfFactsEverExceedsTheMeet = pytest.mark.timeout(3600)(World.TestCase)  # thorough takes its time


class ShortWorld(World):
    """Few steps: three open a link, and three more have to show what closes it."""


ShortWorld.TestCase.settings = settings(max_examples=SHORT_GAMES, stateful_step_count=6, deadline=None)
TestNoShortSequenceDoesEither = pytest.mark.timeout(1200)(ShortWorld.TestCase)


@settings(max_examples=EXAMPLES, deadline=None)
@given(bounds, bounds, bounds)
def test_the_meet_is_a_meet(a: Bound, b: Bound, c: Bound):
    assert a.meet(b) == b.meet(a)
    assert a.meet(b.meet(c)) == a.meet(b).meet(c)
    assert a.meet(a) == a
    assert a.allows(a.meet(b))
    assert a.meet(OPEN) == a
    if a.allows(c) and b.allows(c):
        assert a.meet(b).allows(c)
