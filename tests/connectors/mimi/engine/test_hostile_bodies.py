"""A peer may send anything to any endpoint: the answer is the draft's code or a 4xx, and what there was stays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridgekit.contract import verbs
from bridgekit.contract.errors import BridgeError, SendRejected
from bridgekit.contract.ids import ChatId
from connectors.mimi.clients.seat import Seat
from connectors.mimi.mls import installed
from connectors.mimi.service.peers import Endpoint, Peers
from connectors.mimi.testing.cast import Client
from connectors.mimi.wire import components, rooms, users
from connectors.mimi.wire.components import Component, ParticipantUpdate
from connectors.mimi.wire.mls import (
    AES128_X25519,
    CREDENTIAL,
    AppDataUpdate,
    ComponentUpdate,
    HpkeCiphertext,
    RequiredCapabilities,
)
from connectors.mimi.wire.rooms import (
    ApplicationFanout,
    CommitFanout,
    ProposalBundle,
    ProposalFanout,
    UpdateRequest,
)
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.users import ConsentEntry, ConsentOperation
from tests.connectors.mimi.engine.ears import town
from tests.connectors.mimi.engine.pair import ROOM, Pair
from tests.connectors.mimi.engine.test_provider import Scene, raw

HALL = ChatId("mimi://b.example/r/hall")
"""A room of b's, in which a follows."""
ALICE, BOB = "mimi://a.example/u/alice:hs", "mimi://b.example/u/bob:hs"
SUITES = (0, AES128_X25519, 2, 3, 4, 0x0A0A, 0xFFFF)
NAMES = (
    "",
    "x",
    "mimi://",
    "mimi://b.example",
    "mimi://b.example/u/",
    "mimi://b.example/u/bob/../x",
    "mimi://b.example/u/%00",
    "mimi://b.example/u/%ED%A0%80",
    "mimi://a.example/u/alice:hs",
    "mimi://a.example/r/club",
    "mimi://b.example/r/" + "x" * 2000,
    "\u202e\ufdd0",
)
MUTATIONS = 6
"""Of each body."""
PATHS = (
    "%00",
    "%FF",
    "%ED%A0%80",
    "%2F..%2F..%2F",
    "mimi%3A%2F%2F",
    "%25%25",
    "x" * 4000,
    "mimi://a.example/r/club",
)

Case = tuple[Endpoint, str, bytes]


def signed(body: Any, client: Client, label: str) -> Any:
    return msgspec.structs.replace(body, signature=client.identity.sign(label, to_be_signed(body)))


def asked_for_keys(client: Client, user: str, room: str, suites: tuple[int, ...]) -> bytes:
    body = users.KeyMaterialRequest(
        client.user,
        user,
        room,
        suites,
        RequiredCapabilities((6,), (8, 10), ()),
        client.identity.signature_key,
        CREDENTIAL.decode(client.identity.credential),
    )
    return users.KEY_MATERIAL_REQUEST.encode(signed(body, client, "KeyMaterialRequestTBS"))


def asked_for_group_info(client: Client, suite: int, key: bytes, code: bytes | None) -> bytes:
    credential = CREDENTIAL.decode(client.identity.credential)
    body = rooms.GroupInfoRequest(suite, client.identity.signature_key, credential, key, code)
    return rooms.GROUP_INFO_REQUEST.encode(signed(body, client, "GroupInfoRequestTBS"))


def honest(pair: Pair) -> Iterator[Case]:
    """Bodies that are well made, and often make no sense."""
    bob = Client("bob:hs", "b.example")
    seat = pair.b.tenants.seat(ROOM)
    assert seat is not None
    for suite in SUITES:
        yield Endpoint.KEY_MATERIAL, ALICE, asked_for_keys(bob, ALICE, "", (suite,))
        yield Endpoint.KEY_MATERIAL, ALICE, asked_for_keys(bob, ALICE, ROOM, (suite, AES128_X25519))
        for key in (b"", b"k" * 31, b"k" * 32, bytes(32), b"\xff" * 65):
            yield Endpoint.GROUP_INFO, ROOM, asked_for_group_info(bob, suite, key, b"code")
    for request in updates(seat):
        yield Endpoint.UPDATE, ROOM, rooms.UPDATE_REQUEST.encode(request)
    yield Endpoint.SUBMIT_MESSAGE, ROOM, rooms.SUBMIT_REQUEST.encode(seat.say(b"x", b"s" * 16))
    for operation in ConsentOperation:
        for room in (None, ROOM, "x", *NAMES):
            entry = ConsentEntry(operation, BOB, ALICE, room)
            yield Endpoint.REQUEST_CONSENT, ALICE, users.CONSENT_ENTRY.encode(entry)
            back = ConsentEntry(operation, ALICE, BOB, room)
            yield Endpoint.UPDATE_CONSENT, ALICE, users.CONSENT_ENTRY.encode(back)
    for query in (users.Handle, users.Nick, users.Email, users.Phone, users.PartialName, users.WholeProfile):
        for words in NAMES:
            asked = users.IdentifierRequest((query(words),))
            yield Endpoint.IDENTIFIER_QUERY, "a.example", users.IDENTIFIER_REQUEST.encode(asked)
    frank = rooms.Frank(bytes(32), AES128_X25519, b"s")
    for name in NAMES:
        report = users.AbuseReport(BOB, name, 0, name, (users.AbusiveMessage(b"x", frank, 2**64 - 1),))
        yield Endpoint.REPORT_ABUSE, ROOM, users.ABUSE_REPORT.encode(report)
        for whose in (Endpoint.KEY_MATERIAL, Endpoint.REQUEST_CONSENT, Endpoint.PROXY_DOWNLOAD):
            yield whose, name, b""
    yield from told(pair)


def updates(seat: Seat) -> Iterator[UpdateRequest]:
    """Handshakes of b's whose signature is none."""
    tidy = seat.tidy()
    seat.refused()
    yield msgspec.structs.replace(tidy, message=msgspec.structs.replace(tidy.message, signature=bytes(64)))
    update = components.PARTICIPANT_UPDATE.encode(ParticipantUpdate(removed=(2**32 - 1,)))
    message = msgspec.structs.replace(
        tidy.message,
        content=AppDataUpdate(Component.PARTICIPANT_LIST, ComponentUpdate(update)),
        confirmation_tag=None,
    )
    yield ProposalBundle(message, (message,))


def told(pair: Pair) -> Iterator[Case]:
    """What the hub of another room may tell."""
    seat = pair.b.tenants.seat(HALL)
    assert seat is not None
    said = seat.say(b"no CBOR", b"s" * 16).message
    tidy = seat.tidy()
    seat.refused()
    fanouts: tuple[rooms.Fanout, ...] = (
        ApplicationFanout(0, said),
        ApplicationFanout(2**64 - 1, msgspec.structs.replace(said, epoch=2**63)),
        CommitFanout(1, tidy.message),
        CommitFanout(1, msgspec.structs.replace(tidy.message, epoch=0)),
        ProposalFanout(1, tidy.message),
    )
    for fanout in fanouts:
        for room in (HALL, "mimi://b.example/r/unknown"):
            try:
                body = rooms.FANOUTS.encode((fanout,))
            except ValueError:
                continue
            yield Endpoint.NOTIFY, room, body


def mutated(body: bytes, dice: random.Random) -> bytes:
    """Octets changed, dropped, doubled, put in."""
    octets = bytearray(body)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(octets) + 1)
        match dice.randrange(5):
            case 0 if at < len(octets):
                octets[at] ^= 1 << dice.randrange(8)
            case 1:
                del octets[at : at + dice.randint(1, 16)]
            case 2:
                octets[at:at] = dice.randbytes(dice.randint(1, 8))
            case 3 if at < len(octets):
                octets[at] = dice.choice((0, 0x3F, 0x40, 0x7F, 0x80, 0xBF, 0xFF))
            case _:
                octets[at:at] = octets[at : at + dice.randint(1, 64)]
    return bytes(octets)


async def status(peers: Peers, endpoint: Endpoint, target: str, body: bytes) -> int:
    peers._pauses.clear()  # who does not wait, however often they are told to
    if endpoint is Endpoint.PROXY_DOWNLOAD:
        return (await peers.get("a.example", endpoint, target)).status
    return (await peers.post("a.example", endpoint, target, body)).status


@pytest.mark.timeout(300)
async def test_no_body_makes_an_endpoint_fail(tmp_path: Path):
    dice = random.Random(1_234_567)
    pair = Pair(tmp_path)
    async with pair.up():
        for side in (pair.b, pair.a):
            await side.session.perform(verbs.Join(chat=HALL))
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        peers = pair.b.tenants._peers
        failed = [
            (endpoint, target, code, each.hex())
            for endpoint, target, body in list(honest(pair))
            for each in (body, *(mutated(body, dice) for _ in range(MUTATIONS if body else 0)))
            if (code := await status(peers, endpoint, target, each)) >= 500
        ]
        assert failed == []
        await pair.b.says("bob", "still here")
        await pair.a.reads("still here")


async def test_no_address_makes_an_endpoint_fail(tmp_path: Path):
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        headers = {"Host": "a.example", "From": "mimi@b.example"}
        asked = [f"/v1/{endpoint}/{path}" for endpoint in Endpoint for path in PATHS]
        statuses = [await raw(scene, path, source=scene.b, headers=headers) for path in asked]
        assert {400, 404} <= set(statuses) <= {400, 403, 404, 405}, dict(zip(asked, statuses, strict=True))


async def test_a_hub_whose_group_info_cannot_be_opened_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """5.6: it is sealed to the key in the request, and what is in it makes a group."""
    seal = type(installed()).seal
    spoiled: list[Callable[[bytes], bytes]] = [
        lambda body: b"",
        lambda body: body[:-1],
        lambda body: body[:40],
    ]
    pair = Pair(tmp_path)
    async with pair.a.up(), pair.b.up(linked=False):
        for spoil in spoiled:
            monkeypatch.setattr(
                type(installed()),
                "seal",
                lambda self, suite, key, label, context, body, spoil=spoil: seal(
                    self, suite, key, label, context, spoil(body)
                ),
            )
            with pytest.raises(BridgeError):
                await pair.b.session.perform(verbs.Join(chat=ROOM))
        monkeypatch.setattr(
            type(installed()), "seal", lambda *asked: HpkeCiphertext(b"k" * 32, b"not sealed at all")
        )
        with pytest.raises(SendRejected, match="cannot be opened"):
            await pair.b.session.perform(verbs.Join(chat=ROOM))
