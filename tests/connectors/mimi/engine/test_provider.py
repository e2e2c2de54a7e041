"""Providers that talk to each other over HTTPS with certificates on both sides."""

from __future__ import annotations

import asyncio
import gzip
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec
import pytest

from bridgekit.contract.errors import Disconnected, NotAllowed
from connectors.mimi.clients.seat import Said, Seat
from connectors.mimi.messages.content import encode
from connectors.mimi.mls import installed
from connectors.mimi.service import server
from connectors.mimi.service.peers import DIRECTORY_PATH, MAX_BODY, Endpoint
from connectors.mimi.service.presets import MEMBER
from connectors.mimi.service.server import Rates
from connectors.mimi.testing.cast import PEOPLE, ROOM, Client, create
from connectors.mimi.testing.houses import House, Town, running
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.components import Component
from connectors.mimi.wire.mls import AES128_X25519, CREDENTIAL, RequiredCapabilities
from connectors.mimi.wire.rooms import ApplicationFanout, CommitFanout, WelcomeFanout
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.users import ClientMaterial, ConsentEntry, ConsentOperation, UserCode
from tests.connectors.mimi.engine.ears import Ears, ears, town
from tests.connectors.mimi.messages.test_content import HELLO
from tests.connectors.mimi.reading import content

NEEDED = RequiredCapabilities((0x0006,), (0x0008, 0x000A), ())


class Scene:
    """alice at a.example, who made the room, and bob at b.example, who has key packages."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.a, self.b = town["a.example"], town["b.example"]
        self.alice, self.bob = Client("alice", "a.example"), Client("bob", "b.example")
        self.seat = create(self.alice, self.a.signer)

    async def begin(self, *, packages: int = 3) -> None:
        group = self.seat.group
        await self.a.provider.make_room(ROOM, group.group_info(), group.ratchet_tree())
        published = [self.bob.package() for _ in range(packages)]
        await self.b.provider.publish(self.bob.user, self.bob.uri, published)
        await self.b.provider.agree(ConsentEntry(ConsentOperation.GRANT, self.alice.user, self.bob.user))

    def claim(self, by: Client | None = None, room: str = ROOM) -> users.KeyMaterialRequest:
        by = by or self.alice
        request = users.KeyMaterialRequest(
            by.user,
            self.bob.user,
            room,
            (AES128_X25519,),
            NEEDED,
            by.identity.signature_key,
            CREDENTIAL.decode(by.identity.credential),
        )
        signature = by.identity.sign("KeyMaterialRequestTBS", to_be_signed(request))
        return msgspec.structs.replace(request, signature=signature)

    async def bring_in_bob(self) -> Seat:
        response = await self.a.provider.key_material(self.claim(), "a.example")
        packages = [c.key_package for c in response.clients if isinstance(c, ClientMaterial)]
        bundle = self.seat.add(self.bob.user, packages, MEMBER)
        answer = await self.a.provider.update(ROOM, bundle, "a.example")
        assert isinstance(answer, rooms.Updated), answer
        self.seat.accepted()
        welcome = await ears(self.b).next()
        assert isinstance(welcome, WelcomeFanout)
        return self.bob.join(welcome)

    async def post(
        self, source: House, to: House, endpoint: Endpoint, target: str, body: bytes
    ) -> tuple[int, bytes]:
        answer = await source.peers.post(to.domain, endpoint, target, body)
        return answer.status, answer.body


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path, "a.example", "b.example", "c.example") as made:
        scene = Scene(made)
        await scene.begin()
        yield scene


async def test_a_user_of_another_provider_is_brought_in_and_talks(scene: Scene):
    seat = await scene.bring_in_bob()
    submitted = await scene.post(
        scene.b,
        scene.a,
        Endpoint.SUBMIT_MESSAGE,
        ROOM,
        rooms.SUBMIT_REQUEST.encode(seat.say(b"hello", b"s" * 16)),
    )
    status, body = submitted
    answer = rooms.SUBMIT_RESPONSE.decode(body)
    assert status == 200
    assert isinstance(answer, rooms.Accepted)
    assert answer.frank is not None
    heard = await ears(scene.a).next()
    assert scene.seat.hear(heard, PEOPLE) == [
        Said(client=scene.bob.uri, data=b"hello", accepted=answer.accepted, franked=True)
    ]


async def test_the_hub_keeps_nothing_of_what_is_said(scene: Scene):
    seat = await scene.bring_in_bob()
    for words in (b"planted words", b"more of the planted"):
        assert isinstance(
            await scene.a.provider.submit(ROOM, seat.say(words, b"s" * 16), "b.example"), rooms.Accepted
        )
    assert any(key.startswith("hub/") for key in scene.a.store)
    assert not [key for key, value in scene.a.store.items() if b"planted" in value]


async def test_the_directory_names_every_endpoint(scene: Scene):
    found = await scene.b.peers.directory("a.example")
    assert set(found) == set(Endpoint)
    assert found["update"].endswith("/v1/update/{roomId}")


async def test_a_key_package_is_given_out_once(scene: Scene):
    given = []
    for _ in range(4):
        response = await scene.a.provider.key_material(scene.claim(), "a.example")
        given.append(response)
    packages = [c.key_package for r in given for c in r.clients if isinstance(c, ClientMaterial)]
    assert len(packages) == len({p.init_key for p in packages}) == 3
    assert given[-1].code is UserCode.NO_COMPATIBLE_MATERIAL
    assert given[-1].clients == (users.ClientExhausted(scene.bob.uri),)


async def test_the_last_resort_is_given_out_again_and_only_when_nothing_else_is_left(scene: Scene):
    last = scene.bob.package(last_resort=True)
    await scene.b.provider.publish(scene.bob.user, scene.bob.uri, [last])
    taken = []
    for _ in range(5):
        (client,) = (await scene.a.provider.key_material(scene.claim(), "a.example")).clients
        assert isinstance(client, ClientMaterial)
        taken.append(client.key_package.init_key)
    assert len(set(taken[:4])) == 4
    assert taken[4] == taken[3]


async def test_two_who_ask_at_once_get_two_packages(scene: Scene):
    both = await asyncio.gather(
        *(scene.a.provider.key_material(scene.claim(), "a.example") for _ in range(2))
    )
    keys = [c.key_package.init_key for r in both for c in r.clients if isinstance(c, ClientMaterial)]
    assert len(set(keys)) == 2


async def test_without_consent_nobody_gets_a_package_and_nobody_learns_who_is_there(scene: Scene):
    await scene.b.provider.agree(ConsentEntry(ConsentOperation.REVOKE, scene.alice.user, scene.bob.user))
    refused = await scene.a.provider.key_material(scene.claim(), "a.example")
    assert (refused.code, refused.clients) == (UserCode.NO_CONSENT, ())
    unknown = msgspec.structs.replace(scene.claim(), target_user="mimi://b.example/u/nobody", signature=b"")
    signature = scene.alice.identity.sign("KeyMaterialRequestTBS", to_be_signed(unknown))
    answer = await scene.a.provider.key_material(
        msgspec.structs.replace(unknown, signature=signature), "a.example"
    )
    assert (answer.code, answer.clients) == (UserCode.NO_CONSENT, ())


async def test_consent_for_one_room_is_for_that_room(scene: Scene):
    for operation, room in ((ConsentOperation.REVOKE, None), (ConsentOperation.GRANT, ROOM)):
        await scene.b.provider.agree(ConsentEntry(operation, scene.alice.user, scene.bob.user, room))
    assert (await scene.a.provider.key_material(scene.claim(), "a.example")).code is UserCode.SUCCESS


async def test_a_request_for_consent_is_answered_alike_for_everybody(scene: Scene):
    for target in (scene.bob.user, "mimi://b.example/u/nobody"):
        entry = ConsentEntry(ConsentOperation.REQUEST, scene.alice.user, target)
        status, body = await scene.post(
            scene.a, scene.b, Endpoint.REQUEST_CONSENT, target, users.CONSENT_ENTRY.encode(entry)
        )
        assert (status, body) == (201, b"")
    assert [entry.target for entry in ears(scene.b).entries] == [scene.bob.user]


async def test_nobody_consents_for_users_of_another(scene: Scene):
    entry = ConsentEntry(ConsentOperation.GRANT, scene.alice.user, scene.bob.user)
    body = users.CONSENT_ENTRY.encode(entry)
    assert (
        await scene.post(scene.town["c.example"], scene.a, Endpoint.UPDATE_CONSENT, scene.alice.user, body)
    )[0] == 403
    assert (await scene.post(scene.b, scene.a, Endpoint.UPDATE_CONSENT, scene.alice.user, body))[0] == 201
    assert (await scene.post(scene.b, scene.a, Endpoint.REQUEST_CONSENT, scene.bob.user, body))[0] == 403


async def test_a_package_is_fetched_through_the_rooms_hub_only(scene: Scene):
    body = users.KEY_MATERIAL_REQUEST.encode(scene.claim())
    status, _ = await scene.post(
        scene.town["c.example"], scene.b, Endpoint.KEY_MATERIAL, scene.bob.user, body
    )
    assert status == 403


async def test_a_claim_with_a_wrong_signature_is_refused(scene: Scene):
    forged = msgspec.structs.replace(scene.claim(), room="")
    status, _ = await scene.post(
        scene.a, scene.b, Endpoint.KEY_MATERIAL, scene.bob.user, users.KEY_MATERIAL_REQUEST.encode(forged)
    )
    assert status == 400


async def test_another_protocol_is_told_by_its_code(scene: Scene):
    status, body = await scene.post(
        scene.a, scene.b, Endpoint.KEY_MATERIAL, scene.bob.user, b"\x02" + bytes(9)
    )
    assert status == 200
    assert users.KEY_MATERIAL_RESPONSE.decode(body).code is UserCode.INCOMPATIBLE_PROTOCOL


async def test_the_same_notification_again_is_answered_and_not_heard(scene: Scene):
    seat = await scene.bring_in_bob()
    (delivery,) = scene.a.provider.room(ROOM).submit(
        scene.seat.say(b"once", b"s" * 16), provider="a.example", now=1, people=PEOPLE, franker=None
    )[1]
    body = rooms.FANOUTS.encode((delivery.fanout,))
    for _ in range(3):
        assert (await scene.post(scene.a, scene.b, Endpoint.NOTIFY, ROOM, body))[0] == 201
    (said,) = [f for _, f in ears(scene.b).fanouts if isinstance(f, ApplicationFanout)]
    assert [h.data for h in seat.hear(said, PEOPLE) if isinstance(h, Said)] == [b"once"]


async def test_only_its_hub_tells_of_a_room(scene: Scene):
    seat = await scene.bring_in_bob()
    request = seat.say(b"x", b"s" * 16)
    body = rooms.FANOUTS.encode((ApplicationFanout(1, request.message),))
    assert (await scene.post(scene.town["c.example"], scene.b, Endpoint.NOTIFY, ROOM, body))[0] == 403


async def test_nobody_is_flooded_with_questions(scene: Scene):
    """5.7: asking and taking it back costs nothing; each may be an invitation that somebody reads."""
    alice, nobody = scene.alice.user, "mimi://a.example/u/nobody"
    await scene.a.provider.publish(alice, scene.alice.uri, [scene.alice.package()])

    async def ask(peer: House, number: int, target: str) -> int:
        operation = ConsentOperation.CANCEL if number % 2 else ConsentOperation.REQUEST
        entry = ConsentEntry(operation, f"mimi://{peer.domain}/u/x{number // 2}", target)
        body = users.CONSENT_ENTRY.encode(entry)
        return (await scene.post(peer, scene.a, Endpoint.REQUEST_CONSENT, target, body))[0]

    many = server.SAME_QUESTIONS_AT_ONCE
    for peer, target in ((scene.b, alice), (scene.town["c.example"], nobody)):
        answers = [await ask(peer, number, target) for number in range(many + 1)]
        assert answers == [201] * many + [429], "who is there looks like who is not"
    heard = [entry.target for entry in ears(scene.a).entries]
    assert heard == [alice] * many


@pytest.mark.parametrize(
    "component", [Component.PARTICIPANT_LIST, Component.ROOM_METADATA, Component.ROLES_LIST]
)
async def test_not_even_an_admin_takes_the_participants_the_roles_or_the_address_out_of_a_room(
    scene: Scene, component: Component
):
    """An AppDataUpdate that removes them would leave a room in which nobody may do anything."""
    await scene.bring_in_bob()
    bundle = scene.seat._staged(app_data_updates=[(int(component), None)])
    answer = await scene.a.provider.update(ROOM, bundle, "a.example")
    assert isinstance(answer, rooms.NotAllowed)
    assert scene.a.provider.room(ROOM).state.participants


async def test_a_peer_that_was_away_catches_up_after_both_were_restarted(scene: Scene, tmp_path: Path):
    engine = installed()
    async with AsyncExitStack() as stack:
        made = Town(tmp_path / "2", engine, "a.example", "b.example", local=lambda domain: Ears())
        a = await stack.enter_async_context(running(made["a.example"], engine))
        again = Scene(made)
        async with running(made["b.example"], engine):
            await again.begin()
            seat = await again.bring_in_bob()
        # b is gone; what is said waits on a's disk.
        for words in (b"one", b"two"):
            request = again.seat.say(words, b"s" * 16)
            assert isinstance(await a.provider.submit(ROOM, request, "a.example"), rooms.Accepted)
        assert a.provider.outbox.waiting == 2
        await stack.aclose()
        async with running(made["a.example"], engine) as a, running(made["b.example"], engine) as b:
            heard = [seat.hear(await ears(b).next(), PEOPLE) for _ in range(2)]
            assert [h.data for each in heard for h in each if isinstance(h, Said)] == [b"one", b"two"]
            assert a.provider.room(ROOM).epoch == 1


async def test_a_room_is_joined_from_outside_with_a_sealed_group_info(scene: Scene):
    seat = await scene.bring_in_bob()
    private, public = installed().sealing_key()
    second = Client("bob", "b.example", "2")
    request = rooms.GroupInfoRequest(
        AES128_X25519,
        second.identity.signature_key,
        CREDENTIAL.decode(second.identity.credential),
        public,
        None,
    )
    signature = second.identity.sign("GroupInfoRequestTBS", to_be_signed(request))
    body = rooms.GROUP_INFO_REQUEST.encode(msgspec.structs.replace(request, signature=signature))
    status, raw = await scene.post(scene.b, scene.a, Endpoint.GROUP_INFO, ROOM, body)
    given = rooms.GROUP_INFO_RESPONSE.decode(raw)
    assert status == 200
    assert isinstance(given, rooms.GivenGroupInfo)
    assert installed().verify(
        given.cipher_suite,
        given.hub_sender.signature_key,
        "GroupInfoResponseTBS",
        to_be_signed(given),
        given.signature,
    )
    label = "GroupInfo and ratchet_tree encryption"
    opened = installed().unseal(given.cipher_suite, private, label, given.room_id, given.encrypted)
    newcomer, commit = Seat.join_external(
        second.engine,
        second.identity,
        rooms.GROUP_INFO_AND_TREE.decode(opened),
        user=second.user,
        room_uri=ROOM,
    )
    status, raw = await scene.post(
        scene.b, scene.a, Endpoint.UPDATE, ROOM, rooms.UPDATE_REQUEST.encode(commit)
    )
    assert isinstance(rooms.UPDATE_RESPONSE.decode(raw), rooms.Updated)
    heard = await ears(scene.a).next()
    assert isinstance(heard, CommitFanout)
    scene.seat.hear(heard, PEOPLE)
    assert newcomer.group.epoch == scene.seat.group.epoch == seat.group.epoch + 1


async def test_a_stranger_gets_no_group_info(scene: Scene):
    carol = Client("carol", "c.example")
    request = rooms.GroupInfoRequest(
        AES128_X25519,
        carol.identity.signature_key,
        CREDENTIAL.decode(carol.identity.credential),
        b"k" * 32,
        None,
    )
    signature = carol.identity.sign("GroupInfoRequestTBS", to_be_signed(request))
    signed = msgspec.structs.replace(request, signature=signature)
    c = scene.town["c.example"]
    for room, answer in (
        (ROOM, rooms.NotAuthorized(ROOM.encode())),
        (ROOM + "2", rooms.NoSuchRoom((ROOM + "2").encode())),
    ):
        _, raw = await scene.post(
            c, scene.a, Endpoint.GROUP_INFO, room, rooms.GROUP_INFO_REQUEST.encode(signed)
        )
        assert rooms.GROUP_INFO_RESPONSE.decode(raw) == answer


async def test_abuse_with_our_frank_is_proven(scene: Scene):
    seat = await scene.bring_in_bob()
    message = content(HELLO)
    octets = encode(message)
    answer = await scene.a.provider.submit(ROOM, seat.say(octets, message.salt), "b.example")
    assert isinstance(answer, rooms.Accepted)
    assert answer.frank is not None
    true = users.AbusiveMessage(octets, answer.frank, answer.accepted)
    false = users.AbusiveMessage(octets, answer.frank, answer.accepted + 1)
    report = users.AbuseReport("mimi://b.example/u/ben", scene.bob.user, 0, "look", (false, true))
    status, _ = await scene.post(
        scene.b, scene.a, Endpoint.REPORT_ABUSE, ROOM, users.ABUSE_REPORT.encode(report)
    )
    assert status == 201
    ((sorted_report, proven),) = ears(scene.a).reports
    assert (proven, sorted_report.messages) == (1, (true, false))


async def test_abuse_is_reported_by_who_was_there(scene: Scene):
    """5.9: also who was never in the room, where they have a message with our frank."""
    seat = await scene.bring_in_bob()
    message = content(HELLO)
    answer = await scene.a.provider.submit(ROOM, seat.say(encode(message), message.salt), "b.example")
    assert isinstance(answer, rooms.Accepted)
    assert answer.frank is not None
    proof = users.AbusiveMessage(encode(message), answer.frank, answer.accepted)
    reports = [
        users.AbuseReport("mimi://c.example/u/carol", scene.bob.user, 0, "look", messages)
        for messages in ((), (proof,))
    ]
    c = scene.town["c.example"]
    statuses = [
        (await scene.post(c, scene.a, Endpoint.REPORT_ABUSE, ROOM, users.ABUSE_REPORT.encode(r)))[0]
        for r in reports
    ]
    assert statuses == [403, 201]


async def test_no_endpoint_takes_the_word_of_one_provider_for_a_user_of_another(scene: Scene):
    """c.example says what only a.example and b.example may say."""
    seat = await scene.bring_in_bob()
    c, alice, bob = scene.town["c.example"], scene.alice, scene.bob
    asked = ConsentEntry(ConsentOperation.REQUEST, bob.user, alice.user)
    granted = ConsentEntry(ConsentOperation.GRANT, alice.user, bob.user)
    wanted = rooms.GroupInfoRequest(
        AES128_X25519,
        bob.identity.signature_key,
        CREDENTIAL.decode(bob.identity.credential),
        b"k" * 32,
        None,
    )
    signature = bob.identity.sign("GroupInfoRequestTBS", to_be_signed(wanted))
    report = users.AbuseReport(bob.user, alice.user, 0, "look")
    bodies = {
        (Endpoint.KEY_MATERIAL, bob.user): users.KEY_MATERIAL_REQUEST.encode(scene.claim()),
        (Endpoint.GROUP_INFO, ROOM): rooms.GROUP_INFO_REQUEST.encode(
            msgspec.structs.replace(wanted, signature=signature)
        ),
        (Endpoint.REQUEST_CONSENT, alice.user): users.CONSENT_ENTRY.encode(asked),
        (Endpoint.UPDATE_CONSENT, alice.user): users.CONSENT_ENTRY.encode(granted),
        (Endpoint.REPORT_ABUSE, ROOM): users.ABUSE_REPORT.encode(report),
    }
    for (endpoint, target), body in bodies.items():
        assert (await scene.post(c, scene.a, endpoint, target, body))[0] == 403, endpoint
    said = rooms.SUBMIT_REQUEST.encode(seat.say(b"x", b"s" * 16))
    _, answer = await scene.post(c, scene.a, Endpoint.SUBMIT_MESSAGE, ROOM, said)
    assert rooms.SUBMIT_RESPONSE.decode(answer) == rooms.Refused()
    changed = rooms.UPDATE_REQUEST.encode(seat.tidy())
    _, answer = await scene.post(c, scene.a, Endpoint.UPDATE, ROOM, changed)
    assert isinstance(rooms.UPDATE_RESPONSE.decode(answer), rooms.NotAllowed)
    assert ears(scene.a).reports == []
    assert ears(scene.a).entries == []


# Hostile ----------------------------------------------------------------------------------------------------


async def raw(scene: Scene, path: str, *, source: House, headers: dict[str, str], body: bytes = b"") -> int:
    """One POST with any headers, under the certificate of `source`; its status."""
    base = scene.a.addresses["a.example"]
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            base + path,
            data=io.BytesIO(body),
            headers=headers,
            ssl=source.credentials.client(),
            server_hostname="a.example",
        ) as response,
    ):
        return response.status


UPDATE = "/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fclub"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "a.example", "From": "mimi@b.example"}, 400),
        ({"Host": "a.example:1234", "From": "mimi@b.example"}, 400),
        ({"Host": "a.example", "From": "mimi@c.example"}, 403),
        ({"Host": "a.example", "From": "mimi@a.example"}, 403),
        ({"Host": "a.example", "From": "bob@b.example"}, 403),
        ({"Host": "a.example"}, 403),
        ({"Host": "other.example", "From": "mimi@b.example"}, 421),
    ],
)
async def test_who_says_to_be_another_is_refused(scene: Scene, headers: dict[str, str], status: int):
    assert await raw(scene, UPDATE, source=scene.b, headers=headers, body=b"rubbish") == status


async def test_without_a_certificate_nobody_gets_in(scene: Scene):
    context = ssl.create_default_context(cafile=scene.a.credentials.authorities)
    base = scene.a.addresses["a.example"]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(
                base + DIRECTORY_PATH, ssl=context, server_hostname="a.example", headers={"Host": "a.example"}
            ) as response:
                await response.read()


async def test_a_provider_with_another_authority_is_neither_called_nor_heard(scene: Scene, tmp_path: Path):
    stranger = Town(tmp_path / "other", installed(), "b.example", local=lambda domain: Ears())["b.example"]
    stranger.addresses.update(scene.a.addresses)
    async with running(stranger, installed()):
        with pytest.raises(Disconnected):
            await stranger.peers.directory("a.example")


async def test_a_body_that_is_too_large_is_refused(scene: Scene):
    headers = {"Host": "a.example", "From": "mimi@b.example"}
    assert await raw(scene, UPDATE, source=scene.b, headers=headers, body=bytes(MAX_BODY + 1)) == 413


@pytest.mark.parametrize("body", [gzip.compress(bytes(2 * MAX_BODY)), b"no gzip"], ids=["bomb", "garbage"])
async def test_what_is_packed_is_not_unpacked(scene: Scene, body: bytes):
    """RFC 9110 15.5.16: a few kilobytes would take megabytes of memory, and what is broken would be a 500."""
    headers = {"Host": "a.example", "From": "mimi@b.example", "Content-Encoding": "gzip"}
    assert await raw(scene, UPDATE, source=scene.b, headers=headers, body=body) == 415


async def test_a_body_that_never_ends_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "BODY_WITHIN", 0.2)
    base = scene.a.addresses["a.example"]
    port = int(base.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=scene.b.credentials.client(), server_hostname="a.example"
    )
    head = (
        f"POST {UPDATE} HTTP/1.1\r\nHost: a.example\r\nFrom: mimi@b.example\r\nContent-Length: 100\r\n\r\nx"
    )
    writer.write(head.encode())
    async with asyncio.timeout(60):
        assert b" 408 " in await reader.readline()
    writer.close()


async def test_a_room_that_is_not_there_is_not_found(scene: Scene):
    seat = await scene.bring_in_bob()
    body = rooms.UPDATE_REQUEST.encode(seat.tidy())
    status, _ = await scene.post(scene.b, scene.a, Endpoint.UPDATE, ROOM + "x", body)
    assert status == 404


async def test_who_claims_without_end_is_told_to_wait(tmp_path: Path):
    async with town(tmp_path, "a.example", "b.example", claims=Rates(rate=0.01, burst=20)) as made:
        scene = Scene(made)
        await scene.begin(packages=2)
        direct = users.KEY_MATERIAL_REQUEST.encode(scene.claim())
        statuses = []
        for _ in range(40):
            scene.a.peers._pauses.clear()  # who does not wait
            statuses.append(
                await scene.a.peers.post("b.example", Endpoint.KEY_MATERIAL, scene.bob.user, direct)
            )
        assert [answer.status for answer in statuses] == [200] * 20 + [429] * 20
        assert all((answer.retry_after or 0) >= 1 for answer in statuses[20:])
        served = [users.KEY_MATERIAL_RESPONSE.decode(answer.body) for answer in statuses[:20]]
        assert sum(isinstance(c, ClientMaterial) for r in served for c in r.clients) == 2


# Files ------------------------------------------------------------------------------------------------------


async def test_a_hub_fetches_files_of_its_peers_and_of_nobody_else(scene: Scene):
    await scene.bring_in_bob()
    for address in (
        "https://elsewhere.example/x",
        "https://127.0.0.1/x",
        "http://files.b.example/x",
        "https://u:p@files.b.example/x",
        "not an address",
    ):
        answer = await scene.b.peers.get("a.example", Endpoint.PROXY_DOWNLOAD, address)
        assert answer.status == 403, address
    # That host is b's; it does not exist.
    answer = await scene.b.peers.get("a.example", Endpoint.PROXY_DOWNLOAD, "https://files.b.example/x")
    assert answer.status == 503


async def test_a_message_that_no_provider_takes_holds_nothing_up(scene: Scene):
    """What the hub fans out is a little longer than what it was given; a letter that is refused blocks its lane."""
    seat = await scene.bring_in_bob()
    request = scene.seat.say(b"x", b"s" * 16)
    padding = MAX_BODY - len(rooms.SUBMIT_REQUEST.encode(request))
    message = msgspec.structs.replace(request.message, ciphertext=request.message.ciphertext + bytes(padding))
    with pytest.raises(NotAllowed, match="longer than"):
        await scene.a.provider.submit(ROOM, msgspec.structs.replace(request, message=message), "a.example")
    await scene.a.provider.submit(ROOM, scene.seat.say(b"hello", b"s" * 16), "a.example")
    (said,) = seat.hear(await ears(scene.b).next(), PEOPLE)
    assert isinstance(said, Said)
    assert said.data == b"hello"
