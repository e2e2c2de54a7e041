"""A room as its hub decides, with real groups and real signatures."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.clients.seat import Changed, Proposed, Said, Seat
from connectors.mimi.mls import installed
from connectors.mimi.service import presets
from connectors.mimi.service.franking import Franker, tag
from connectors.mimi.service.hub import Accepted, Delivery, HubRoom, Kept
from connectors.mimi.service.people import People
from connectors.mimi.service.presets import ADMIN, MEMBER, MODERATOR
from connectors.mimi.service.room import BANNED
from connectors.mimi.testing.cast import PEOPLE, ROOM, Client, create, hub_identity
from connectors.mimi.wire import components, policies, rooms
from connectors.mimi.wire.components import Component, RoomMetadata
from connectors.mimi.wire.mls import AES128_X25519, KEY_PACKAGE, MLS_MESSAGE, RATCHET_TREE, PublicMessage
from connectors.mimi.wire.rooms import (
    ApplicationFanout,
    CommitBundle,
    CommitFanout,
    FullGroupInfo,
    FullTree,
    GroupInfoAndTree,
    PartialGroupInfo,
    PendingProposal,
    ProposalBundle,
    ProposalFanout,
    UpdateRequest,
    WelcomeFanout,
)

NOW = 1_790_000_000_000


class Stage:
    """A hub at a.example, and the seats of its room."""

    def __init__(self, *, open_: bool = False) -> None:
        self.engine = installed()
        self.signer = hub_identity()
        self.franker = Franker(b"k" * 32, self.signer, AES128_X25519)
        self.alice = Client("alice", "a.example")
        self.seat = create(self.alice, self.signer, open_=open_)
        group = self.seat.group
        self.room = HubRoom.make(self.engine, ROOM, group.group_info(), group.ratchet_tree(), now=NOW)
        self.routes: dict[bytes, str] = {}

    def ask(
        self, request: UpdateRequest, provider: str, **more: bool
    ) -> tuple[rooms.UpdateResponse, tuple[Delivery, ...]]:
        """One update, kept where it is accepted."""
        response, accepted = self.room.update(
            request, provider=provider, now=NOW, people=PEOPLE, routes=self.routes, **more
        )
        if accepted is not None:
            self.keep(accepted)
        return response, accepted.deliveries if accepted else ()

    def keep(self, accepted: Accepted) -> None:
        # Through its stored form, as after a restart.
        stored = msgspec.msgpack.encode(accepted.room.kept)
        self.room = HubRoom(self.engine, msgspec.msgpack.decode(stored, type=Kept))

    def bring_in(self, client: Client, role: int | None = MEMBER) -> Seat:
        """Alice adds a client; its seat."""
        package = client.package()
        self.routes[package.reference] = client.domain
        bundle = self.seat.add(client.user, [KEY_PACKAGE.decode(package.octets)], role)
        response, deliveries = self.ask(bundle, "a.example")
        assert isinstance(response, rooms.Updated), response
        self.seat.accepted()
        (welcome,) = [d for d in deliveries if isinstance(d.fanout, WelcomeFanout)]
        assert welcome.to == client.domain
        assert isinstance(welcome.fanout, WelcomeFanout)
        return client.join(welcome.fanout)

    def say(
        self, seat: Seat, words: bytes, provider: str
    ) -> tuple[rooms.SubmitResponse, tuple[Delivery, ...]]:
        return self.room.submit(
            seat.say(words, b"s" * 16), provider=provider, now=NOW, people=PEOPLE, franker=self.franker
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def bob() -> Client:
    return Client("bob", "b.example")


def test_who_is_added_hears_what_is_said(stage: Stage):
    seat = stage.bring_in(bob())
    response, deliveries = stage.say(stage.seat, b"hello", "a.example")
    assert isinstance(response, rooms.Accepted)
    ((to, room, fanout),) = [(d.to, d.room, d.fanout) for d in deliveries]
    assert (to, room) == ("b.example", ROOM)
    assert seat.hear(fanout, PEOPLE) == [
        Said(client=stage.alice.uri, data=b"hello", accepted=NOW, franked=True)
    ]


def test_whose_clients_are_there_is_counted_once_for_all_that_is_said(stage: Stage):
    stage.bring_in(bob())
    people = Counting()

    def hearers() -> list[str]:
        said = stage.seat.say(b"hello", b"s" * 16)
        response, deliveries = stage.room.submit(
            said, provider="a.example", now=NOW, people=people, franker=stage.franker
        )
        assert isinstance(response, rooms.Accepted)
        return [each.to for each in deliveries]

    assert hearers() == ["b.example"]
    asked = people.asked
    assert asked
    assert hearers() == ["b.example"]
    assert people.asked == asked
    people.learn(bob().uri, "mimi://b.example/u/somebody")  # who is no participant
    assert hearers() == []
    assert people.asked == 2 * asked


class Counting(People):
    asked = 0

    def user_of(self, client: bytes | None) -> str:
        self.asked += 1
        return super().user_of(client)


def test_nobody_takes_a_role_out_of_the_room_that_somebody_has(stage: Stage):
    """Who has it could do nothing any more, and where it is the admins' nobody could put it back."""
    stage.bring_in(bob(), MODERATOR)

    def without(*indices: int) -> bytes:
        return policies.ROLES.encode(tuple(r for r in presets.roles() if r.index not in indices))

    def commit(roles: bytes) -> rooms.UpdateResponse:
        bundle = stage.seat._staged(app_data_updates=[(int(Component.ROLES_LIST), roles)])
        return stage.ask(bundle, "a.example")[0]

    for used in (MODERATOR, ADMIN):
        assert isinstance(commit(without(used)), rooms.NotAllowed)
        stage.seat.refused()
    assert isinstance(commit(without(presets.HOST)), rooms.Updated)
    stage.seat.accepted()
    proposed = MLS_MESSAGE.decode(
        stage.seat.group.propose_app_data(int(Component.ROLES_LIST), without(ADMIN))
    )
    assert isinstance(proposed, PublicMessage)
    assert isinstance(stage.ask(ProposalBundle(proposed, ()), "a.example")[0], rooms.NotAllowed)


def test_a_frank_that_was_changed_on_the_way_is_found_out(stage: Stage):
    seat = stage.bring_in(bob())
    _, (delivery,) = stage.say(stage.seat, b"hello", "a.example")
    assert isinstance(delivery.fanout, ApplicationFanout)
    with pytest.raises(PeerMisbehaved, match="changed on its way"):
        seat.hear(msgspec.structs.replace(delivery.fanout, accepted=NOW + 1), PEOPLE)


def test_the_hub_knows_participants_and_clients_without_any_secret(stage: Stage):
    stage.bring_in(bob())
    assert stage.room.state.takes_part == [stage.alice.user, "mimi://b.example/u/bob"]
    assert stage.room.providers(PEOPLE) == {"a.example", "b.example"}
    assert stage.room.epoch == 1


def test_a_provider_speaks_for_its_own_users_only(stage: Stage):
    seat = stage.bring_in(bob())
    for provider in ("a.example", "c.example"):
        response, deliveries = stage.say(seat, b"x", provider)
        assert (response, deliveries) == (rooms.Refused(), ())
        refused, _ = stage.ask(seat.tidy(), provider)
        assert refused == rooms.NotAllowed("A provider speaks for its own clients only.")
        seat.refused()


def test_of_two_commits_in_one_epoch_the_first_wins(stage: Stage):
    seat = stage.bring_in(bob())
    first, second = stage.seat.tidy(), seat.tidy()
    response, (delivery,) = stage.ask(first, "a.example")
    assert isinstance(response, rooms.Updated)
    late, _ = stage.ask(second, "b.example")
    assert late == rooms.WrongEpoch("The room is in another epoch.", 2)
    seat.refused()
    (heard,) = seat.hear(delivery.fanout, PEOPLE)
    assert isinstance(heard, Changed)
    stage.seat.accepted()
    assert stage.say(seat, b"still here", "b.example")[0] == rooms.Accepted(
        NOW, stage.franker.frank(tag(b"s" * 16, b"still here"), rooms.FrankingContext(seat.user, ROOM, NOW))
    )


def test_a_message_of_an_old_epoch_is_told_the_new_one(stage: Stage):
    seat = stage.bring_in(bob())
    old = seat.say(b"x", b"s" * 16)
    stage.ask(stage.seat.tidy(), "a.example")
    response, _ = stage.room.submit(old, provider="b.example", now=NOW, people=PEOPLE, franker=stage.franker)
    assert response == rooms.EpochTooOld(2)


def test_a_member_cannot_add_somebody(stage: Stage):
    seat, carol = stage.bring_in(bob()), Client("carol", "c.example")
    package = carol.package()
    stage.routes[package.reference] = "c.example"
    bundle = seat.add(carol.user, [KEY_PACKAGE.decode(package.octets)], MEMBER)
    response, deliveries = stage.ask(bundle, "b.example")
    assert isinstance(response, rooms.NotAllowed)
    assert "add participant" in response.description
    assert deliveries == ()


def test_a_welcome_goes_only_where_its_key_package_came_from(stage: Stage):
    package = Client("anna", "a.example").package()
    bundle = stage.seat.add("mimi://a.example/u/anna", [KEY_PACKAGE.decode(package.octets)], MEMBER)
    response, _ = stage.ask(bundle, "a.example")
    assert response == rooms.NotAllowed(
        "The Welcome is for a key package that was not fetched through this hub."
    )


def test_who_is_removed_hears_of_it_and_can_no_longer_read_or_write(stage: Stage):
    seat = stage.bring_in(bob())
    response, deliveries = stage.ask(stage.seat.remove(seat.user, PEOPLE), "a.example")
    stage.seat.accepted()
    assert isinstance(response, rooms.Updated)
    assert [d.to for d in deliveries] == ["b.example"]
    (heard,) = seat.hear(deliveries[0].fanout, PEOPLE)
    assert isinstance(heard, Changed)
    assert not seat.group.active
    _, after = stage.say(stage.seat, b"secret", "a.example")
    assert after == ()
    with pytest.raises(stage.engine.MlsError):
        seat.group.process(MLS_MESSAGE.encode(stage.seat.say(b"secret", b"s" * 16).message))


def test_a_leave_waits_for_its_commit_and_no_commit_leaves_it_out(stage: Stage):
    seat = stage.bring_in(bob())
    late = seat.say(b"one more thing", b"s" * 16)
    leaving = seat.leave()
    response, deliveries = stage.ask(leaving, "b.example")
    assert isinstance(response, rooms.Updated)
    assert [d.to for d in deliveries] == ["a.example"]
    # It counts already: nothing more is heard of who leaves.
    said = stage.room.submit(late, provider="b.example", now=NOW, people=PEOPLE, franker=stage.franker)
    assert said == (rooms.Refused(), ())
    # Alice commits before she has heard of it.
    ignorant, _ = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(ignorant, rooms.InvalidProposal)
    assert len(ignorant.references) == 2
    stage.seat.refused()
    assert stage.seat.hear(deliveries[0].fanout, PEOPLE) == [Proposed(), Proposed()]
    response, deliveries = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(response, rooms.Updated)
    assert stage.room.state.takes_part == [stage.alice.user]
    assert [type(d.fanout) for d in deliveries] == [CommitFanout]
    assert stage.room.kept.pending == ()


def test_a_ban_takes_the_clients_along(stage: Stage):
    seat = stage.bring_in(bob())
    stage.ask(stage.seat.give_role(seat.user, BANNED, PEOPLE), "a.example")
    assert stage.room.state.role_of(seat.user) == BANNED
    assert stage.room.providers(PEOPLE) == {"a.example"}


def test_roles_and_the_name_of_the_room_are_changed_by_whoever_may(stage: Stage):
    seat = stage.bring_in(bob())
    renamed = RoomMetadata(ROOM, name="Mine")
    refused, _ = stage.ask(seat.describe(renamed), "b.example")
    assert isinstance(refused, rooms.NotAllowed)
    seat.refused()
    _, (delivery,) = stage.ask(stage.seat.give_role(seat.user, MODERATOR, PEOPLE), "a.example")
    stage.seat.accepted()
    (heard,) = seat.hear(delivery.fanout, PEOPLE)
    assert isinstance(heard, Changed)
    assert (heard.before.role_of(seat.user), heard.after.role_of(seat.user)) == (MEMBER, MODERATOR)
    response, _ = stage.ask(seat.describe(renamed), "b.example")
    assert isinstance(response, rooms.Updated)
    assert stage.room.state.metadata == renamed


def test_a_forged_commit_is_refused_and_changes_nothing(stage: Stage):
    stage.bring_in(bob())
    before = stage.room.kept
    commit = stage.seat.tidy()
    forged = msgspec.structs.replace(commit.message, signature=bytes(64))
    response, _ = stage.ask(msgspec.structs.replace(commit, message=forged), "a.example")
    assert isinstance(response, rooms.NotAllowed)
    assert stage.room.kept is before


def test_a_group_info_of_another_epoch_is_refused(stage: Stage):
    stage.bring_in(bob())
    old = stage.room.group_info
    commit = stage.seat.tidy()
    response, _ = stage.ask(msgspec.structs.replace(commit, group_info=FullGroupInfo(old)), "a.example")
    assert isinstance(response, rooms.NotAllowed)


def test_a_partial_group_info_is_completed_by_the_hub(stage: Stage):
    commit = stage.seat.tidy()
    assert isinstance(commit.group_info, FullGroupInfo)
    info = commit.group_info.group_info
    part = PartialGroupInfo(0, info.extensions, info.signature)
    response, _ = stage.ask(msgspec.structs.replace(commit, group_info=part), "a.example")
    assert isinstance(response, rooms.Updated), response
    assert stage.room.group_info == info


def joining(room: HubRoom, client: Client, role: int | None) -> tuple[Seat, CommitBundle]:
    found = GroupInfoAndTree(
        room.group_info,
        FullTree(RATCHET_TREE.decode(room.ratchet_tree())),
        tuple(PendingProposal(p.decoded, p.accepted) for p in room.kept.pending),
    )
    return Seat.join_external(
        client.engine, client.identity, found, user=client.user, room_uri=ROOM, role=role
    )


def test_an_open_room_is_joined_from_outside():
    stage = Stage(open_=True)
    carol = Client("carol", "c.example")
    seat, commit = joining(stage.room, carol, MEMBER)
    response, (delivery,) = stage.ask(commit, "c.example")
    assert isinstance(response, rooms.Updated), response
    (heard,) = stage.seat.hear(delivery.fanout, PEOPLE)
    assert isinstance(heard, Changed)
    assert heard.after.takes_part == [stage.alice.user, carol.user]
    _, (said,) = stage.say(seat, b"hi", "c.example")
    assert stage.seat.hear(said.fanout, PEOPLE) == [
        Said(client=carol.uri, data=b"hi", accepted=NOW, franked=True)
    ]


def test_a_closed_room_is_joined_with_a_code_only(stage: Stage):
    carol = Client("carol", "c.example")
    _, commit = joining(stage.room, carol, MEMBER)
    refused, _ = stage.ask(commit, "c.example")
    assert isinstance(refused, rooms.NotAllowed)
    response, _ = stage.ask(commit, "c.example", has_code=True)
    assert isinstance(response, rooms.Updated)


def test_nobody_promotes_themselves_by_joining():
    stage = Stage(open_=True)
    _, commit = joining(stage.room, Client("carol", "c.example"), ADMIN)
    refused, _ = stage.ask(commit, "c.example")
    assert isinstance(refused, rooms.NotAllowed)


def test_a_second_client_of_a_participant_joins_by_itself(stage: Stage):
    stage.bring_in(bob())
    seat, commit = joining(stage.room, Client("bob", "b.example", "2"), None)
    response, deliveries = stage.ask(commit, "b.example")
    assert isinstance(response, rooms.Updated), response
    assert [d.to for d in deliveries] == ["a.example"]
    assert stage.room.clients(PEOPLE) == {stage.alice.user: 1, seat.user: 2}


def test_who_joins_from_outside_takes_a_pending_leave_along():
    stage = Stage(open_=True)
    seat = stage.bring_in(bob())
    stage.ask(seat.leave(), "b.example")
    _, commit = joining(stage.room, Client("carol", "c.example"), MEMBER)
    response, _ = stage.ask(commit, "c.example")
    assert isinstance(response, rooms.Updated), response
    assert stage.room.clients(PEOPLE) == {stage.alice.user: 1, "mimi://c.example/u/carol": 1}


@pytest.mark.parametrize("kind", [ProposalFanout, CommitFanout])
def test_what_the_hub_fans_out_again_is_told_apart(stage: Stage, kind: type[rooms.Fanout]):
    seat = stage.bring_in(bob())
    request = stage.seat.leave() if kind is ProposalFanout else stage.seat.tidy()
    _, (delivery,) = stage.ask(request, "a.example")
    assert isinstance(delivery.fanout, kind)
    seat.hear(delivery.fanout, PEOPLE)
    if kind is CommitFanout:
        with pytest.raises(stage.engine.WrongEpoch):
            seat.hear(delivery.fanout, PEOPLE)


# Proposals that stand in each other's way -------------------------------------------------------------------


def proposing(octets: bytes) -> ProposalBundle:
    message = MLS_MESSAGE.decode(octets)
    assert isinstance(message, PublicMessage)
    return ProposalBundle(message, ())


def propose(stage: Stage, bundle: ProposalBundle) -> rooms.UpdateResponse:
    """Bob does, and alice hears of it."""
    response, deliveries = stage.ask(bundle, "b.example")
    for delivery in deliveries:
        stage.seat.hear(delivery.fanout, PEOPLE)
    return response


def test_nobody_holds_a_room_up_by_updates_of_which_a_commit_covers_only_one(stage: Stage):
    """RFC 9420 12.2: of several Updates and Removes of one leaf a commit covers one."""
    group: Any = stage.bring_in(bob()).group
    for _ in range(3):
        assert isinstance(propose(stage, proposing(group.propose_update())), rooms.Updated)
    response, _ = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(response, rooms.Updated)


@pytest.mark.parametrize("update_first", [True, False])
def test_who_has_fresh_keys_and_leaves_is_let_go(stage: Stage, update_first: bool):
    """draft-ietf-mls-extensions 6.4: the SelfRemove counts, the Update of that leaf does not."""
    group: Any = (seat := stage.bring_in(bob())).group
    for step in ("update", "self_remove") if update_first else ("self_remove", "update"):
        propose(stage, proposing(getattr(group, f"propose_{step}")()))
    response, _ = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(response, rooms.Updated)
    assert stage.room.clients(PEOPLE) == {stage.alice.user: 1}
    assert seat.user in stage.room.state.takes_part


def test_a_client_that_is_there_already_is_proposed_in_vain(stage: Stage):
    """RFC 9420 12.2: an Add of a key that is in the group makes every commit that covers it invalid."""
    client = bob()
    group: Any = stage.bring_in(client).group
    again = KEY_PACKAGE.decode(client.package().octets)
    proposal = proposing(group.propose_add(MLS_MESSAGE.encode(again)))
    refused = propose(stage, proposal)
    assert refused == rooms.NotAllowed("That client is in the room already, or about to be.")
    # Nor does it hold up who hears it from a hub that lets it pass.
    assert isinstance(proposal.message, PublicMessage)
    stage.seat.hear(ProposalFanout(NOW, proposal.message, ()), PEOPLE)
    response, _ = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(response, rooms.Updated)
    assert stage.room.clients(PEOPLE) == {stage.alice.user: 1, client.user: 1}


def test_a_name_is_not_proposed_beside_another_that_waits(stage: Stage):
    """One commit, which covers what waits, can give the room one name."""
    seat = stage.bring_in(bob(), MODERATOR)
    names = [components.ROOM_METADATA.encode(RoomMetadata(ROOM, name=name)) for name in ("One", "Two")]
    first, second = (proposing(seat.group.propose_app_data(Component.ROOM_METADATA, n)) for n in names)
    assert isinstance(propose(stage, first), rooms.Updated)
    refused = propose(stage, second)
    assert refused == rooms.InvalidProposal("One commit changes the room's metadata twice.", ())
    response, _ = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(response, rooms.Updated)
    assert stage.room.state.metadata == RoomMetadata(ROOM, name="One")


def test_a_user_with_two_clients_leaves_by_both(stage: Stage):
    """protocol 5.3: the user's removal goes with that of the last client; the first one's waits already."""
    seat = stage.bring_in(bob())
    other, commit = joining(stage.room, Client("bob", "b.example", "2"), None)
    _, (delivery,) = stage.ask(commit, "b.example")
    for each in (seat, stage.seat):
        each.hear(delivery.fanout, PEOPLE)
    propose(stage, proposing(other.group.propose_self_remove()))
    assert isinstance(propose(stage, seat.leave()), rooms.Updated)
    response, _ = stage.ask(stage.seat.tidy(), "a.example")
    assert isinstance(response, rooms.Updated)
    assert stage.room.state.takes_part == [stage.alice.user]
