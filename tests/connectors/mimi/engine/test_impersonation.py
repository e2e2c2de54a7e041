"""Nobody brings in a client under the name of another provider's user, or becomes one.

draft-ietf-mimi-protocol-06 4.2, 5.2, 5.3: a basic credential proves nothing, so it counts by whose word it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract import verbs
from bridgekit.contract.errors import BridgeError, PeerMisbehaved, SendRejected
from connectors.mimi.clients.seat import Seat, bundle
from connectors.mimi.service import vouching
from connectors.mimi.service.hub import HubRoom
from connectors.mimi.service.presets import MEMBER, MODERATOR
from connectors.mimi.service.room import merge
from connectors.mimi.testing.cast import PEOPLE, Client
from connectors.mimi.wire import rooms
from connectors.mimi.wire.components import FRANKING_AGENT, Component, FrankingAgent
from connectors.mimi.wire.mls import (
    GROUP_CONTEXT,
    KEY_PACKAGE,
    LEAF_NODE,
    MLS_MESSAGE,
    PUBLIC_MESSAGE,
    BasicCredential,
    Commit,
    GroupContext,
    KeyPackage,
    MemberSender,
    PublicMessage,
)
from connectors.mimi.wire.rooms import CommitBundle, ProposalBundle
from connectors.mimi.wire.tls import OPAQUE, U32
from connectors.mimi.wire.users import ClientMaterial, KeyMaterialResponse, UserCode
from tests.connectors.mimi.engine.pair import ROOM as CLUB
from tests.connectors.mimi.engine.pair import Pair
from tests.connectors.mimi.engine.test_hub import Stage, joining
from tests.connectors.mimi.engine.test_leaves import until


class Crowd:
    """alice at the hub, bob of b.example who keeps order, and carol of c.example, who is somebody else's."""

    def __init__(self) -> None:
        self.stage = Stage(open_=True)
        self.bob = Client("bob", "b.example")
        self.seat = self.stage.bring_in(self.bob, MODERATOR)
        self.carol = Client("carol", "c.example")
        response, deliveries = self.stage.ask(joining(self.stage.room, self.carol, MEMBER)[1], "c.example")
        assert isinstance(response, rooms.Updated)
        self.hears(deliveries)

    def hears(self, deliveries: Sequence[object]) -> None:
        fanout = deliveries[0].fanout  # type: ignore[attr-defined]
        for seat in (self.seat, self.stage.seat):
            seat.hear(fanout, PEOPLE)

    def refuses(self, request: CommitBundle | ProposalBundle, provider: str = "b.example") -> str:
        """The hub's words."""
        before = self.stage.room.kept
        response, deliveries = self.stage.ask(request, provider)
        assert isinstance(response, rooms.NotAllowed), response
        assert (self.stage.room.kept, deliveries) == (before, ())
        return response.description


def forged() -> tuple[bytes, KeyPackage]:
    """A key package under carol's name that somebody else made, with its reference."""
    made = Client("carol", "c.example", "evil").package()
    return made.reference, KEY_PACKAGE.decode(made.octets)


@pytest.mark.parametrize("route", [None, "b.example"])
def test_a_forged_client_is_not_added_by_a_commit(route: str | None):
    crowd = Crowd()
    reference, package = forged()
    if route:
        crowd.stage.routes[reference] = route
    request = crowd.seat.add(crowd.carol.user, [package], None)
    # The one who forged it needs nobody to bring the Welcome.
    refused = crowd.refuses(msgspec.structs.replace(request, welcome=None))
    assert refused == "A client comes in by a key package that its own provider gave out."


def test_a_forged_client_is_not_proposed():
    crowd = Crowd()
    _, package = forged()
    group = crowd.seat.group
    octets = group.propose_add(MLS_MESSAGE.encode(package))  # type: ignore[attr-defined]
    message = MLS_MESSAGE.decode(octets)
    assert isinstance(message, PublicMessage)
    assert "its own provider" in crowd.refuses(ProposalBundle(message, ()))


def test_who_is_of_the_hubs_own_provider_is_forged_no_more_than_others():
    crowd = Crowd()
    made = Client("alice", "a.example", "evil").package()
    request = crowd.seat.add(crowd.stage.alice.user, [KEY_PACKAGE.decode(made.octets)], None)
    assert "its own provider" in crowd.refuses(msgspec.structs.replace(request, welcome=None))


def test_nobody_joins_from_outside_under_a_name_of_another_provider():
    crowd = Crowd()
    _, commit = joining(crowd.stage.room, Client("carol", "c.example", "evil"), None)
    assert crowd.refuses(commit) == "A provider speaks for its own clients only."


@pytest.mark.parametrize("name", ["mimi://c.example/d/carol/evil", "mimi://b.example/d/bert/1"])
def test_nobody_becomes_another_by_the_path_of_their_commit(name: str):
    """RFC 9420 7.2, 12.4.1: the path's leaf has a credential of its own."""
    crowd = Crowd()
    request = crowd.seat.tidy()
    renamed = renaming(crowd, request.message, name.encode())
    request = msgspec.structs.replace(request, message=renamed)
    assert crowd.refuses(request) == "A client cannot become another user's."


def renaming(crowd: Crowd, message: PublicMessage, name: bytes) -> PublicMessage:
    """Bob's commit with another name in its leaf, signed anew (RFC 9420 6.1, 7.2)."""
    commit = message.content
    assert isinstance(commit, Commit)
    assert commit.path is not None
    leaf = msgspec.structs.replace(commit.path.leaf_node, credential=BasicCredential(name), signature=b"")
    tbs = bytearray(LEAF_NODE.encode(leaf)[:-1])
    OPAQUE.write(message.group_id, tbs)
    assert isinstance(message.sender, MemberSender)
    U32.write(message.sender.leaf, tbs)
    leaf = msgspec.structs.replace(leaf, signature=crowd.bob.identity.sign("LeafNodeTBS", bytes(tbs)))
    path = msgspec.structs.replace(commit.path, leaf_node=leaf)
    unsigned = msgspec.structs.replace(
        message,
        content=msgspec.structs.replace(commit, path=path),
        signature=b"",
        confirmation_tag=b"",
        membership_tag=b"",
    )
    context = crowd.stage.room.group_info.context
    assert isinstance(context, GroupContext)
    framed = b"\x00\x01\x00\x01" + PUBLIC_MESSAGE.encode(unsigned)[:-3] + GROUP_CONTEXT.encode(context)
    return msgspec.structs.replace(
        unsigned,
        signature=crowd.bob.identity.sign("FramedContentTBS", framed),
        confirmation_tag=message.confirmation_tag,
        membership_tag=message.membership_tag,
    )


@pytest.mark.parametrize(
    ("client_uri", "user"),
    [
        ("mimi://c.example/d/carol/1", "mimi://c.example/u/carol"),
        ("mimi://c.example/d/carol/evil", "mimi://b.example/u/bob"),
        ("mimi://b.example/d/bob/2", "mimi://b.example/u/bob"),
    ],
)
def test_a_key_package_is_of_the_user_who_was_asked_for(client_uri: str, user: str):
    """5.2: also what a provider answers names its own user, and each key package the client beside it."""
    _, package = forged()
    answer = KeyMaterialResponse(UserCode.SUCCESS, user, (ClientMaterial(client_uri, package),))
    with pytest.raises(PeerMisbehaved):
        vouching.check_material(answer, "mimi://b.example/u/bob")


def test_nobody_puts_their_own_stamp_in_the_place_of_the_hubs():
    """protocol 5.4.1: by the key in the group, members believe who said what and when."""
    stage = Stage()
    agent = FrankingAgent(stage.alice.identity.signature_key, BasicCredential(b"mimi://a.example"))
    update = (int(Component.FRANKING_AGENT), FRANKING_AGENT.encode(agent))
    for operation in (update, (update[0], None)):
        request = bundle(stage.seat.group.commit(app_data_updates=[operation], resolve=merge))
        refused, _ = stage.ask(request, "a.example")
        assert refused == rooms.NotAllowed("The stamp on messages is the hub's.")
        stage.seat.refused()


# Those who follow -------------------------------------------------------------------------------------------


def blind(patch: pytest.MonkeyPatch) -> None:
    """From now on hubs look at nothing of this."""
    patch.setattr(HubRoom, "_vouched", lambda *_: None)


async def brought_in(pair: Pair, name: str) -> None:
    """The hub's bridge adds a client that it made under a name of b's."""
    made = Client(name, "b.example", "evil").package()
    package = KEY_PACKAGE.decode(made.octets)
    user = f"mimi://b.example/u/{name}"

    def add(seat: Seat) -> CommitBundle:
        role = MEMBER if seat.state.role_of(user) == 0 else None
        return msgspec.structs.replace(seat.add(user, [package], role), welcome=None)

    await pair.a.tenants.change(CLUB, add)


@pytest.mark.parametrize("name", ["bob:hs", "nobody"])
async def test_who_follows_stays_out_of_a_room_with_a_false_client_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """A hub that lets it happen is not believed: nobody of b says anything to somebody who took a name of b's."""
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        blind(monkeypatch)
        await brought_in(pair, name)
        await pair.a.says("alice", "is anybody there?")
        async with asyncio.timeout(60):
            await until(lambda: pair.b.tenants.seat(CLUB) is None)
        assert "is anybody there?" not in pair.b.bodies
        assert not [s for s in pair.b.tenants._seats.in_room(CLUB) if s.group.active]
        with pytest.raises(BridgeError):
            await pair.b.says("bob", "to whom?")
        with pytest.raises(SendRejected, match="calls itself"):
            await pair.b.session.perform(verbs.Join(chat=CLUB))


async def test_who_follows_does_not_come_in_by_a_welcome_where_such_a_client_is(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.b.up(linked=False):
        seats = pair.b.tenants._seats
        evil = Client("bob", "b.example", "evil")
        hub = evil.engine.identity(b"mimi://a.example")
        group = evil.engine.create(evil.identity, CLUB.encode(), {}, (hub.signature_key, hub.credential))
        with pytest.raises(PeerMisbehaved, match="none of this provider's"):
            seats.vouch_for_all(group)
