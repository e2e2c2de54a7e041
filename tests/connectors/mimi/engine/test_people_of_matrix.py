"""What a room's roles are to people of Matrix, for whom the bridge's clients stand (draft-ietf-mimi-room-policy 4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import Change, Membership
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Person, Role
from connectors.mimi.service import presets
from tests.connectors.mimi.engine.pair import ROOM, Pair, Side

ANN, BOB = "mimi://a.example/u/ann:hs", "mimi://b.example/u/bob:hs"


def done_to(side: Side, who: str) -> list[Change]:
    """What others did with a Matrix user of that side."""
    return [f.change for f in side.heard if isinstance(f, Membership) and f.stands_for == who]


async def test_what_others_make_of_somebody_here_is_told_of_the_matrix_user(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.up():
        a, b = pair.a.session, pair.b.session
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        bob = Person(id=PersonId(BOB), name="bob")
        await a.perform(verbs.SetRole(chat=ROOM, person=bob, role=Role.ADMIN))
        given = await pair.b.hears(facts.RoleChange, lambda f: f.stands_for == "@bob:hs")
        assert given.role in (Role.ADMIN, Role.OWNER)
        await a.perform(verbs.Kick(chat=ROOM, person=bob))
        out = await pair.b.hears(Membership, lambda f: f.stands_for == "@bob:hs")
        assert (out.change, out.actor and out.actor.name) == (Change.KICK, "bridge")
        await pair.b.says("bob", "and back")
        await a.perform(verbs.Ban(chat=ROOM, person=bob))
        await pair.b.hears(Membership, lambda f: f.change is Change.BAN)
        with pytest.raises(SendRejected, match="You are banned from that room"):
            await pair.b.says("bob", "and back again")
        await a.perform(verbs.Unban(chat=ROOM, person=bob))
        await pair.b.hears(Membership, lambda f: f.change is Change.UNBAN)
        await b.perform(verbs.Depart(chat=ROOM, speaker=pair.b.person("bob")))
    assert done_to(pair.b, "@bob:hs") == [Change.KICK, Change.BAN, Change.UNBAN]
    assert done_to(pair.a, "@bob:hs") == []


async def test_who_leaves_the_matrix_room_leaves_and_was_not_put_out(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.up():
        for who in ("bob", "eve"):
            await pair.b.says(who, f"{who} is here")
            await pair.a.reads(f"{who} is here")
        for _ in range(2):  # again, there is nobody
            await pair.b.session.perform(verbs.Depart(chat=ROOM, speaker=pair.b.person("eve")))
        gone = await pair.a.hears(Membership, lambda f: f.change is not Change.JOIN)
        assert (gone.person.name, gone.change) == ("eve:hs", Change.LEAVE)
        await pair.b.says("bob", "and I stay")
        await pair.a.reads("and I stay")
    assert done_to(pair.b, "@eve:hs") == []


async def test_a_power_level_of_somebody_here_is_a_role_there_and_back(tmp_path: Path):
    """With `grant_roles`. Whoever has said nothing yet takes their place, so that it can be given to them."""
    pair = Pair(tmp_path)
    async with pair.up():
        for role, meant in ((Role.MODERATOR, presets.MODERATOR), (Role.NONE, presets.HOST)):
            given = verbs.SetRole(chat=ROOM, person=pair.a.person("ann"), role=role, shown=True)
            await pair.a.session.perform(given)
            assert pair.a.tenants.role(ROOM, ANN) == meant
        seen = await pair.b.hears(facts.RoleChange, lambda f: f.role > Role.VOICE)
        assert (seen.person.id, seen.stands_for) == (ANN, None)
        nobody = verbs.SetRole(chat=ROOM, person=pair.a.person("nobody"), role=Role.NONE, shown=True)
        await pair.a.session.perform(nobody)
        assert "nobody" not in str(pair.a.tenants.seat(ROOM).state.participants)  # type: ignore[union-attr]
    assert not [f for f in pair.a.heard if isinstance(f, facts.RoleChange) and f.stands_for]
