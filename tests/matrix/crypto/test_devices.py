"""Whose keys are believed: nothing that is not signed as it must be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.ids import PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix.crypto import devices
from bridgekit.matrix.crypto.devices import Answer, person, wanted
from bridgekit.matrix.crypto.machine import Machine

KEY = bytes(32)
ANN = PersonId("@ann:hs.test")


def machine(user: PersonId = ANN) -> Machine:
    return Machine(Machine.new(user, KEY), [], KEY)


def answer(ours: Machine, *, identity: bool = True, **changes: Any) -> Answer:
    """What the homeserver says of a machine's user; `changes` of the device's own keys come unsigned."""
    keys = {**ours.device_keys, **changes}
    found: dict[str, Any] = {"device_keys": {ours.user: {ours.device: keys}}}
    if identity:
        made = ours.identity()
        found["master_keys"] = {ours.user: made["master_key"]}
        found["self_signing_keys"] = {ours.user: made["self_signing_key"]}
    return msgspec.convert(found, Answer)


def test_a_device_that_its_owners_identity_signed_is_cross_signed() -> None:
    ann = machine()
    found = person(ANN, answer(ann))
    device = found.devices[ann.device]
    assert (device.curve25519, device.ed25519, device.cross_signed) == (ann.curve25519, ann.ed25519, True)
    assert found.master == ann.master
    assert found.by_curve(ann.curve25519) == device
    assert ann.is_as_published(found)


def test_without_an_identity_or_with_anothers_it_is_not() -> None:
    ann, other = machine(), machine()
    alone = person(ANN, answer(ann, identity=False))
    assert (alone.master, alone.devices[ann.device].cross_signed) == ("", False)
    made = other.identity()
    mixed = msgspec.structs.replace(answer(ann), self_signing_keys={ANN: made["self_signing_key"]})
    found = person(ANN, mixed)
    assert (found.self_signing, found.devices[ann.device].cross_signed) == ("", False)
    assert not ann.is_as_published(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "@eve:hs.test"},
        {"device_id": "OTHER"},
        {"algorithms": ["m.megolm.v1.aes-sha2"]},
        {"keys": {}},
        {"signatures": {}},
    ],
)
def test_a_device_whose_own_signature_does_not_hold_is_not_there(changes: dict[str, Any]) -> None:
    assert person(ANN, answer(machine(), **changes)).devices == {}


def test_a_device_keeps_its_keys_for_life() -> None:
    first, second = machine(), machine()
    before = person(ANN, answer(first))
    renamed = Machine(msgspec.structs.replace(second.row(), device=first.device), [], KEY)
    assert person(ANN, answer(renamed), before).devices == {}
    assert person(ANN, answer(first), before).devices == before.devices


def enclosed(keys: dict[str, Any], owner: devices.Person, user: PersonId = ANN) -> devices.Device | None:
    return devices.enclosed(user, msgspec.json.encode(keys), owner)


def test_a_device_whose_keys_came_along_is_judged_by_its_owners_identity_of_today() -> None:
    """MSC4147: the device itself may be signed out by now."""
    ann, other = machine(), machine()
    listed = person(ANN, answer(ann))
    assert enclosed(ann.device_keys, listed) == listed.devices[ann.device]
    unsigned = {**ann.device_keys, "signatures": {ANN: dict(ann.device_keys["signatures"][ANN])}}
    del unsigned["signatures"][ANN][f"ed25519:{listed.self_signing}"]
    for keys, owner in ((unsigned, listed), (ann.device_keys, person(ANN, answer(other)))):
        found = enclosed(keys, owner)
        assert found is not None
        assert (found.id, found.cross_signed) == (ann.device, False)


def test_keys_that_came_along_and_do_not_bear_the_devices_own_signature_are_none() -> None:
    ann = machine()
    listed = person(ANN, answer(ann))
    assert enclosed({**ann.device_keys, "signatures": {}}, listed) is None
    assert enclosed({**ann.device_keys, "device_id": 7}, listed) is None
    assert enclosed(ann.device_keys, listed, PersonId("@eve:hs.test")) is None
    assert devices.enclosed(ANN, b"[", listed) is None


def test_the_policy_says_who_gets_keys() -> None:
    ann, bob = machine(), machine(PersonId("@bob:hs.test"))
    people = {
        ann.user: person(ann.user, answer(ann)),
        bob.user: person(bob.user, answer(bob, identity=False)),
    }
    yes, no = wanted(people, Trust.CROSS_SIGNED)
    assert ([d.user for d in yes], [d.user for d in no]) == ([ann.user], [bob.user])
    yes, no = wanted(people, Trust.ALL)
    assert ([d.user for d in yes], no) == ([ann.user, bob.user], [])


def test_what_is_kept_comes_back() -> None:
    found = person(ANN, answer(machine()))
    assert devices.decode(devices.encode(found)) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=3), JSON)
def test_whatever_a_homeserver_answers_is_no_trusted_device(keys: dict[str, Any], key: Any) -> None:
    found = Answer(
        device_keys={ANN: {**keys, "A": key}}, master_keys={ANN: key}, self_signing_keys={ANN: keys}
    )
    assert person(ANN, found).devices == {}
