"""Roles and power levels, policy lists, bans across sides, the spam shield."""

import time
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridgekit.contract import verbs
from bridgekit.contract.facts import Change, Membership
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person, Role
from bridgekit.core import wording
from bridgekit.core.moderation import Result, about_puppet, told
from bridgekit.core.policies import Kind, Policies, Rule, ban_event, matches, server_of
from bridgekit.core.rates import Bucket, Buckets, Rate
from bridgekit.core.roles import GUARDED, LEVELS, level_of, powers, role_of, shifts, speaks
from bridgekit.core.shield import PASS, Quarantine, Quarantined, Refused, Shield, ShieldRules, Wait

BOT, OLGA, BOB = (PersonId(f"@{n}:example.org") for n in ("bot", "_bk_parrot_olga", "bob"))
ROOM, LIST = ChatId("!r:example.org"), ChatId("!list:example.org")
A, B = (PortalKey(NetworkId(n), ChatId("#a")) for n in ("parrot", "crow"))
NOW = 1_700_000_000_000

# Roles and powers -------------------------------------------------------------------------------------------


def test_the_table_of_roles_and_levels_reads_the_same_in_both_directions():
    assert [LEVELS[role] for role in Role] == [-1, 0, 10, 40, 50, 75, 100]
    for role in Role:
        assert role_of(LEVELS[role]) is role
    assert role_of(49) is Role.HALF_MODERATOR
    assert role_of(-5) is Role.MUTED


def test_nobody_is_ever_lifted_to_the_level_of_the_bot():
    assert level_of(Role.OWNER) == 99
    assert [level_of(role, 50) for role in Role] == [-1, 0, 10, 40, 49, 49, 49]
    assert level_of(Role.OWNER, 0) == 0


def test_many_changes_of_roles_are_one_write():
    content = {"users": {BOT: 100, OLGA: 50}, "ban": 50}
    changed = powers(content, BOT, {OLGA: Role.NONE, BOB: Role.ADMIN})
    assert changed == {"users": {BOT: 100, BOB: 75}, "ban": 50}
    assert powers(changed, BOT, {OLGA: Role.NONE, BOB: Role.ADMIN}) is None


def test_who_stands_beside_the_bot_is_not_touched_nor_the_bot_itself():
    content = {"users": {BOT: 100, BOB: 100}}
    assert powers(content, BOT, {BOB: Role.NONE, BOT: Role.VOICE}) is None


def test_a_bot_without_power_writes_nothing():
    assert powers({"users": {BOT: 40}}, BOT, {OLGA: Role.VOICE}) is None
    raised = {"users": {BOT: 100}, "events": {"m.room.power_levels": 101}}
    assert powers(raised, BOT, {OLGA: Role.VOICE}) is None


def test_in_a_room_of_version_12_the_bot_stands_above_and_is_not_named():
    changed = powers({"users": {}}, BOT, {OLGA: Role.OWNER}, created=True)
    assert changed == {"users": {OLGA: 99}}


def test_what_others_made_of_a_matrix_users_level_stays():
    content = {"users": {BOT: 100, BOB: 50, "@admin:x": 60}}
    assert powers(content, BOT, {BOB: Role.NONE}, given={BOB: None}) is None  # they had it before
    assert powers(content, BOT, {BOB: Role.OWNER}, given={BOB: 10}) is None  # somebody has changed it since
    raised = powers({"users": {BOT: 100}}, BOT, {BOB: Role.MODERATOR}, given={BOB: None})
    assert raised == {"users": {BOT: 100, BOB: 50}}
    assert powers(raised, BOT, {BOB: Role.NONE}, given={BOB: 50}) == {"users": {BOT: 100}}


def test_who_is_muted_may_not_speak_and_may_again():
    content = {"users": {BOT: 100}}
    muted = powers(content, BOT, {OLGA: Role.MUTED})
    assert muted is not None
    assert not speaks(muted, OLGA)
    assert powers(muted, BOT, {OLGA: Role.NONE}) == content


def test_a_change_of_levels_is_told_as_a_change_of_roles_of_those_who_are_concerned():
    before = {"users": {BOT: 100, OLGA: 10, BOB: 49}}
    after = {"users": {BOT: 90, BOB: 45, OLGA: -1, "@carl:x": 50}}
    told = shifts(before, after, lambda who: who != BOT)
    assert told == [(OLGA, Role.VOICE, Role.MUTED), ("@carl:x", Role.NONE, Role.MODERATOR)]
    assert shifts(before, {}, lambda who: who == OLGA) == [(OLGA, Role.VOICE, Role.NONE)]
    assert shifts({}, {"users": {OLGA: 5}, "users_default": 5}, lambda _: True) == []


def test_a_moderated_channel_lets_only_the_voiced_speak():
    content = {"users": {BOT: 100, OLGA: 10}}
    moderated = powers(content, BOT, {}, moderated=True)
    assert moderated is not None
    assert speaks(moderated, OLGA)
    assert not speaks(moderated, BOB)
    again = powers(moderated, BOT, {}, moderated=False)
    assert again is not None
    assert speaks(again, BOB)


def test_no_role_of_a_network_reaches_what_makes_a_room_visible():
    loose = {"users": {BOT: 100}, "state_default": 0, "events": {GUARDED[0]: 10, "m.room.name": 0}}
    guarded = powers(loose, BOT, {OLGA: Role.OWNER}, guarded=True)
    assert guarded is not None
    highest = max(level_of(role) for role in Role)
    assert all(guarded["events"][type] > highest for type in GUARDED)
    assert guarded["users"][OLGA] == highest
    assert guarded["events"]["m.room.name"] == 0
    assert guarded["state_default"] == 50


junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([BOT, OLGA, BOB, *GUARDED]), inner)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from("users events state_default users_default events_default".split()), junk),
    st.dictionaries(st.sampled_from([BOT, OLGA, BOB]), st.sampled_from(Role)),
    st.none() | st.booleans(),
    st.booleans(),
)
def test_whatever_the_power_levels_say_nobody_gets_beyond_the_bot(
    content: dict[str, Any], wanted: dict[PersonId, Role], moderated: bool | None, guarded: bool
):
    changed = powers(content, BOT, wanted, moderated=moderated, guarded=guarded)
    if changed is None:
        return
    before = content.get("users") if isinstance(content.get("users"), dict) else {}
    assert changed["users"].get(BOT) == (before or {}).get(BOT)
    own = (before or {}).get(BOT, content.get("users_default", 0))
    for person, level in changed["users"].items():
        if (before or {}).get(person) != level:
            assert level < int(own)


# Policy lists -----------------------------------------------------------------------------------------------


def rule(entity: str, **more: object) -> dict[str, Any]:
    return {"entity": entity, "recommendation": "m.ban", "reason": "spam", **more}


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        ("@spam*:example.org", "@spammer:example.org", True),
        ("@spam?:example.org", "@spam:example.org", False),
        ("*", "", True),
        ("?", "", False),
        ("*.example.org", "evil.example.org", True),
        ("*.example.org", "example.org", False),
        ("a*b*c", "aXbXbXc", True),
        ("[a]", "a", False),
        ("@a.b", "@axb", False),
    ],
)
def test_a_rule_is_a_glob(glob: str, text: str, expected: bool):
    """MSC2313: "* matches zero or more characters", "? matches exactly one character"."""
    assert matches(glob, text) is expected


@given(st.text("ab*?", max_size=8), st.text("ab*", max_size=12))
@example("*a*", "ba")
def test_globs_agree_with_the_library(glob: str, text: str):
    assert matches(glob, text) == fnmatchcase(text, glob)


def test_no_rule_makes_the_bridge_think_for_ever():
    began = time.thread_time()
    assert not matches("*a" * 100 + "b", "a" * 255)
    assert time.thread_time() - began < 5  # one that tries every way is not done while the sun lasts


def test_users_are_barred_by_themselves_or_by_their_server_and_ghosts_by_themselves():
    policies = Policies()
    assert policies.heard(LIST, "m.policy.rule.user", "1", rule("@spam*:*"))
    assert policies.heard(LIST, "m.policy.rule.server", "2", rule("*.Evil.org"))
    assert policies.heard(LIST, "m.policy.rule.server", "3", rule("example.org"))
    found = policies.bars_user(PersonId("@spammer:good.org"))
    assert found == Rule(kind=Kind.USER, entity="@spam*:*", reason="spam", list=LIST)
    assert policies.bars_user(PersonId("@a:very.evil.org:8448")) is not None
    assert policies.bars_user(PersonId("@a:good.org")) is None
    assert policies.bars_user(BOB) is not None
    assert (
        policies.bars_ghost(OLGA) is None
    )  # the bridge's own server is barred, not the people of the network
    policies.heard(LIST, "m.policy.rule.user", "4", rule(OLGA))
    assert policies.bars_ghost(OLGA) is not None


@pytest.mark.parametrize(
    "content", [{}, {"entity": 5}, rule("@a:b", recommendation="m.mute"), rule(""), rule("x" * 300)]
)
def test_a_rule_that_is_redacted_or_no_ban_bars_nobody(content: dict[str, Any]):
    policies = Policies()
    policies.heard(LIST, "m.policy.rule.user", "1", rule("@a:b"))
    assert policies.heard(LIST, "m.policy.rule.user", "1", content)
    assert policies.bars_user(PersonId("@a:b")) is None
    assert len(policies) == 0
    assert not policies.heard(LIST, "m.policy.rule.user", "1", content)


@given(st.dictionaries(st.sampled_from("entity recommendation reason".split()), junk))
def test_whatever_a_list_says_it_is_read(content: dict[str, Any]):
    policies = Policies()
    policies.heard(LIST, "m.policy.rule.server", "1", content)
    policies.bars_user(BOB)


def test_what_two_lists_bar_stays_barred_when_one_is_given_up():
    policies = Policies()
    other = ChatId("!other:example.org")
    for room in (LIST, other):
        policies.heard(room, "org.matrix.mjolnir.rule.user", "1", rule("@a:b"))
    policies.forget(LIST)
    found = policies.bars_user(PersonId("@a:b"))
    assert found is not None
    assert found.list == other
    policies.forget(other)
    assert policies.bars_user(PersonId("@a:b")) is None


def test_a_rule_on_rooms_bars_nobody_and_other_state_is_no_rule():
    policies = Policies()
    assert not policies.heard(LIST, "m.policy.rule.room", "1", rule("!bad:*"))
    assert not policies.heard(LIST, "m.room.topic", "", {"topic": "x"})


def test_a_networks_ban_can_be_written_into_a_list_and_read_back():
    policies = Policies()
    type, key, content = ban_event(PersonId("@we*ird:example.org"), "K-lined")
    assert policies.heard(LIST, type, key, content)
    assert policies.bars_user(PersonId("@we*ird:example.org")) is not None
    assert policies.bars_user(PersonId("@we-and-others-ird:example.org")) is None
    assert ban_event(PersonId("@we*ird:example.org"), "again")[1] == key


@pytest.mark.parametrize(
    ("user", "server"), [("@a:b.org", "b.org"), ("@a:B.org:80", "b.org"), ("@a:[::1]:80", "[::1]"), ("x", "")]
)
def test_a_server_is_read_without_its_port(user: str, server: str):
    assert server_of(user) == server


# Across sides -----------------------------------------------------------------------------------------------

BAN = verbs.Ban(chat=ROOM, person=Person(id=OLGA, name="Olga"))


def test_a_ban_that_holds_everywhere_needs_no_words():
    assert told(BAN, "Olga", "this room", [Result(side=A, label="Parrot")]) == ""


def test_a_ban_that_a_side_refuses_is_told_with_where_it_holds_and_why_not():
    words = told(
        BAN,
        "Olga",
        "this room",
        [
            Result(side=A, label="Parrot"),
            Result(side=B, label="Crow", why="the bridge is no operator there."),
        ],
    )
    assert words == (
        "Olga is banned in this room and Parrot, but not everywhere. Crow: the bridge is no operator there."
    )


@pytest.mark.parametrize(
    ("change", "verb"), [(Change.KICK, verbs.Kick), (Change.BAN, verbs.Ban), (Change.UNBAN, verbs.Unban)]
)
def test_what_a_network_does_to_somebodys_own_account_is_done_to_them_in_the_room(
    change: Change, verb: type[verbs.Kick | verbs.Ban | verbs.Unban]
):
    fact = Membership(
        chat=ChatId("#a"),
        at=NOW,
        person=Person(id=PersonId("bob[m]"), name="bob[m]"),
        change=change,
        actor=Person(id=PersonId("olga"), name="Olga"),
        reason="enough",
    )
    done = about_puppet(fact, BOB, ROOM, "Parrot")
    assert done == verb(chat=ROOM, person=Person(id=BOB, name=BOB), reason="by Olga on Parrot: enough")


def test_who_is_let_in_again_is_so_here_also_where_nobody_tells_who_did_it():
    fact = Membership(chat=ChatId("#a"), at=NOW, person=Person(id=BOB, name="b"), change=Change.UNBAN)
    done = about_puppet(fact, BOB, ROOM, "Parrot")
    assert done == verbs.Unban(chat=ROOM, person=Person(id=BOB, name=BOB), reason="by Parrot")


def test_who_leaves_by_themselves_is_left_to_the_gate():
    fact = Membership(chat=ChatId("#a"), at=NOW, person=Person(id=BOB, name="b"), change=Change.LEAVE)
    assert about_puppet(fact, BOB, ROOM, "Parrot") is None


# The shield -------------------------------------------------------------------------------------------------

EVE = Person(id=PersonId("eve"), name="Eve")


def shield(**rules: Any) -> Shield:
    return Shield(ShieldRules(**rules), name="#a", now=NOW)


def test_a_burst_passes_a_flood_waits_in_order_and_beyond_patience_is_refused_with_a_count():
    guard = shield(person=Rate(5, 5000), patience=10_000)
    rulings = [guard.message(EVE, Role.NONE, NOW) for _ in range(100)]
    assert rulings[:5] == [PASS] * 5
    waits = [r.until for r in rulings if isinstance(r, Wait)]
    assert waits == sorted(waits)
    assert waits[0] > NOW
    assert max(waits) <= NOW + 10_000
    refused = [r for r in rulings if isinstance(r, Refused)]
    assert len(rulings) == 5 + len(waits) + len(refused)
    assert all(r.why == wording.FLOOD for r in refused)
    told_now = [r.tell for r in rulings if isinstance(r, Wait | Refused) and r.tell]
    assert len(told_now) == 1  # one sentence for all of it
    assert guard.rest() == [wording.flooded("Eve", len(refused))]
    assert guard.rest() == []
    assert guard.message(EVE, Role.NONE, NOW + 60_000) == PASS


def test_one_who_floods_does_not_slow_the_others_down_as_long_as_the_link_bears_it():
    guard = shield(person=Rate(5, 5000))
    for _ in range(100):
        guard.message(EVE, Role.NONE, NOW)
    assert guard.message(Person(id=PersonId("bob"), name="Bob"), Role.NONE, NOW) == PASS


def test_a_thousand_nicks_that_flood_together_meet_the_limit_of_the_link():
    guard = shield(link=Rate(50, 10_000), patience=5000)
    rulings = [guard.message(Person(id=PersonId(f"e{n}"), name=f"e{n}"), Role.NONE, NOW) for n in range(1000)]
    assert rulings.count(PASS) == 50
    waits = sum(isinstance(r, Wait) for r in rulings)
    assert 24 <= waits <= 25
    assert sum(isinstance(r, Refused) for r in rulings) == 950 - waits


def test_who_keeps_order_is_not_slowed_down():
    guard = shield(person=Rate(1, 10_000))
    assert [guard.message(EVE, Role.MODERATOR, NOW) for _ in range(50)] == [PASS] * 50


def test_joins_in_a_storm_come_later_and_all_come():
    guard = shield(joins=Rate(10, 60_000))
    delays = [guard.joined(NOW) for _ in range(30)]
    assert delays[:10] == [0] * 10
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(120_000, abs=10)


def test_a_strangers_messages_wait_for_a_nod_and_the_moderators_are_asked_once():
    guard = shield(quarantine=Quarantine.STRANGERS)
    first = guard.message(EVE, Role.NONE, NOW)
    assert first == Quarantined(
        wording.STRANGER_WAITS, ask=wording.quarantined("Eve", "#a"), tell=wording.STRANGER_WAITS
    )
    assert guard.message(EVE, Role.NONE, NOW) == Quarantined(wording.STRANGER_WAITS)
    guard.accept(EVE.id)
    assert guard.message(EVE, Role.NONE, NOW) == PASS


def test_a_stranger_who_is_rejected_is_not_heard_any_more():
    guard = shield(quarantine=Quarantine.STRANGERS)
    guard.message(EVE, Role.NONE, NOW)
    guard.reject(EVE.id)
    assert guard.message(EVE, Role.NONE, NOW) == Refused(wording.REJECTED)
    guard.accept(EVE.id)
    assert guard.message(EVE, Role.NONE, NOW) == PASS


def test_an_account_or_a_role_makes_no_stranger_unless_everybody_is_one():
    known = Person(id=PersonId("bob"), name="Bob", account="bob")
    guard = shield(quarantine=Quarantine.STRANGERS)
    assert guard.message(known, Role.NONE, NOW) == PASS
    assert guard.message(EVE, Role.VOICE, NOW) == PASS
    strict = shield(quarantine=Quarantine.EVERYBODY)
    assert isinstance(strict.message(known, Role.NONE, NOW), Quarantined)
    strict.accept(known.id)
    assert strict.message(known, Role.NONE, NOW) == PASS


def test_what_is_said_under_a_name_is_vouched_for_until_then_alone():
    guard = shield(quarantine=Quarantine.STRANGERS)
    guard.message(EVE, Role.NONE, NOW)
    guard.vouch(EVE.id, NOW + 5)
    assert guard.is_free(EVE.id, NOW)
    assert guard.message(EVE, Role.NONE, NOW + 5) == PASS
    assert not guard.is_free(EVE.id, NOW + 6)
    assert guard.message(EVE, Role.NONE, NOW + 6) == Quarantined(
        wording.STRANGER_WAITS, ask=wording.quarantined("Eve", "#a"), tell=wording.STRANGER_WAITS
    )


# Rates ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 10_000), st.lists(st.integers(0, 500), max_size=100))
def test_a_bucket_never_gives_more_than_its_rate(count: int, per: int, steps: list[int]):
    bucket, now, given_ = Bucket(Rate(count, per), NOW), NOW, 0
    for step in steps:
        now += step
        ready = bucket.wait(now) == 0
        assert bucket.take(now) is ready
        given_ += ready
    assert given_ <= count + (now - NOW) * count / per + 1e-6


def test_a_clock_that_goes_backwards_gives_nothing():
    bucket = Bucket(Rate(1, 1000), NOW)
    assert bucket.take(NOW)
    assert not bucket.take(NOW - 10**9)
    assert bucket.wait(NOW) > 0


def test_of_many_keys_the_least_recent_is_forgotten():
    buckets: Buckets[int] = Buckets(Rate(1, 10**9), limit=2)
    assert [buckets.take(key, NOW) for key in (1, 1, 2, 1, 3, 2)] == [True, False, True, False, True, True]
