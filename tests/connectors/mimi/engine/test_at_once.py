"""What comes at once about one user while the disk takes its time: nothing is lost, and who is gone stays gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from bridgekit.testing.host import FakeHost
from connectors.mimi.mls import installed
from connectors.mimi.service.provider import Provider
from connectors.mimi.testing.cast import Client, hub_identity
from connectors.mimi.wire.mls import AES128_X25519, CREDENTIAL, RequiredCapabilities
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.users import (
    ClientMaterial,
    ConsentEntry,
    ConsentOperation,
    KeyMaterialRequest,
    UserCode,
)
from tests.connectors.mimi.engine.ears import Ears

ALICE = "mimi://a.example/u/alice"


class SlowHost(FakeHost):
    """What is written is on disk some turns later, in the order in which it was written."""

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().put_all(values)


async def provider(kept: dict[str, bytes]) -> Provider:
    made = Provider(
        "a.example",
        host=SlowHost(kept=kept),
        engine=installed(),
        signer=hub_identity(),
        hub_key=bytes(32),
        peers=cast(Any, None),
        local=Ears(),
    )
    await made.load()
    return made


async def with_alice(kept: dict[str, bytes]) -> Provider:
    """She has published key packages."""
    made, alice = await provider(kept), Client("alice", "a.example")
    await made.publish(ALICE, alice.uri, [alice.package() for _ in range(3)])
    return made


def asks(name: str, operation: ConsentOperation = ConsentOperation.REQUEST) -> ConsentEntry:
    return ConsentEntry(operation, f"mimi://{name}.example/u/{name}", ALICE)


def claim(client: Client) -> KeyMaterialRequest:
    request = KeyMaterialRequest(
        client.user,
        ALICE,
        "",
        (AES128_X25519,),
        RequiredCapabilities((), (), ()),
        client.identity.signature_key,
        CREDENTIAL.decode(client.identity.credential),
    )
    signature = client.identity.sign("KeyMaterialRequestTBS", to_be_signed(request))
    return msgspec.structs.replace(request, signature=signature)


async def test_who_asks_at_once_is_remembered_each_also_over_a_restart():
    kept: dict[str, bytes] = {}
    a = await with_alice(kept)
    await a.consent(asks("b"), asked=True, source="b.example")
    await asyncio.gather(
        a.consent(asks("c"), asked=True, source="c.example"),
        a.agree(asks("b", ConsentOperation.GRANT)),
        a.consent(asks("d"), asked=True, source="d.example"),
    )
    for made in (a, await provider(kept)):
        found = {scope.requester: answer for scope, answer in made.consents(ALICE).entries}
        assert found == {
            "mimi://b.example/u/b": True,
            "mimi://c.example/u/c": None,
            "mimi://d.example/u/d": None,
        }


async def test_what_is_fetched_while_more_is_published_is_given_out_once_and_nothing_new_is_lost():
    kept: dict[str, bytes] = {}
    a, alice, bob = await with_alice(kept), Client("alice", "a.example"), Client("b", "b.example")
    await a.consent(asks("b"), asked=True, source="b.example")
    await a.agree(asks("b", ConsentOperation.GRANT))
    more = [alice.package() for _ in range(3)]
    answers = await asyncio.gather(
        a.key_material(claim(bob), "b.example"),
        a.publish(ALICE, alice.uri, more),
        a.key_material(claim(bob), "b.example"),
    )
    again = await provider(kept)
    rest = [await again.key_material(claim(bob), "b.example") for _ in range(5)]
    given = [
        client.key_package
        for answer in (answers[0], answers[2], *rest)
        if answer is not None
        for client in answer.clients
        if isinstance(client, ClientMaterial)
    ]
    assert (len(given), len(set(given))) == (6, 6)


async def test_who_goes_while_somebody_asks_and_another_fetches_their_keys_is_as_if_they_had_never_been():
    kept: dict[str, bytes] = {}
    a, bob = await with_alice(kept), Client("b", "b.example")
    await a.consent(asks("b"), asked=True, source="b.example")
    await a.agree(asks("b", ConsentOperation.GRANT))
    for order in (0, 1):
        await asyncio.gather(
            *(
                a.key_material(claim(bob), "b.example"),
                a.consent(asks("c"), asked=True, source="c.example"),
                a.agree(asks("d", ConsentOperation.GRANT)),
            )[:: -1 if order else 1],
            a.withdraw(ALICE, {}),
            a.key_material(claim(bob), "b.example"),
            a.consent(asks("e"), asked=True, source="e.example"),
        )
        for made in (a, await provider(kept)):
            assert not made.publishes(ALICE)
            assert made.consents(ALICE).entries == ()
            assert (await made.key_material(claim(bob), "b.example")).code is UserCode.NO_CONSENT
        assert not [key for key in kept if key.startswith(("shelf/", "consent/"))]
