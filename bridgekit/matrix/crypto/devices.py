"""Other people's devices and identities, as a homeserver tells them and as far as their signatures hold (pure)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from bridgekit.contract.ids import PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix.crypto.signing import is_signed

MEGOLM = "m.megolm.v1.aes-sha2"
OLM = "m.olm.v1.curve25519-aes-sha2"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device whose keys bear its own signature. `cross_signed`: its owner's identity has signed it as well."""

    user: PersonId
    id: str
    curve25519: str
    ed25519: str
    cross_signed: bool
    name: str = ""
    megolm: bool = True


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's devices by id, and their master key ("" where they have no identity)."""

    devices: dict[str, Device] = {}
    master: str = ""
    self_signing: str = ""

    def by_curve(self, key: str) -> Device | None:
        """The device with this identity key."""
        return next((device for device in self.devices.values() if device.curve25519 == key), None)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What POST /keys/query answers; whatever is in it may be wrong. Homeservers pass on unchecked what another server
    says of its users (Synapse 1.163): `answer` leaves out whose part is not even in this shape."""

    device_keys: dict[PersonId, dict[str, Any]] = {}
    master_keys: dict[PersonId, Any] = {}
    self_signing_keys: dict[PersonId, Any] = {}
    failures: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    """The same, with everybody's part still closed."""

    device_keys: dict[PersonId, msgspec.Raw] = {}
    master_keys: dict[PersonId, msgspec.Raw] = {}
    self_signing_keys: dict[PersonId, msgspec.Raw] = {}
    failures: dict[str, msgspec.Raw] = {}


def person(user: PersonId, answer: Answer, before: Person | None = None) -> Person:
    """What an answer says of somebody. What is not signed as it must be is left out.

    A device keeps its keys for life: one that comes with another signing key than `before` is not believed.
    """
    master = _key_of(user, answer.master_keys.get(user), "master")
    self_signing = ""
    if master:
        object_: Any = answer.self_signing_keys.get(user)
        self_signing = _key_of(user, object_, "self_signing")
        if self_signing and not is_signed(object_, user, master, master):
            self_signing = ""
    devices: dict[str, Device] = {}
    for id, object_ in answer.device_keys.get(user, {}).items():
        device = _device(user, id, object_, self_signing)
        if device is None:
            continue
        known = before.devices.get(id) if before is not None else None
        if known is None or known.ed25519 == device.ed25519:
            devices[id] = device
    return Person(devices=devices, master=master, self_signing=self_signing)


def enclosed(user: PersonId, keys: bytes, owner: Person) -> Device | None:
    """The device whose keys came along in an Olm message (MSC4147), which may be signed out by now; None where they are
    none of the user's. Whether it is cross-signed is decided by its `owner`'s identity as it is now."""
    try:
        object_ = _object(keys)
    except (msgspec.MsgspecError, RecursionError):
        return None
    id = object_.get("device_id")
    return _device(user, id, object_, owner.self_signing) if isinstance(id, str) else None


def _device(user: PersonId, id: str, object_: Any, self_signing: str) -> Device | None:
    if not isinstance(object_, dict) or object_.get("user_id") != user or object_.get("device_id") != id:
        return None
    keys, algorithms = object_.get("keys"), object_.get("algorithms")
    if not isinstance(keys, dict) or not isinstance(algorithms, list):
        return None
    curve, ed = keys.get(f"curve25519:{id}"), keys.get(f"ed25519:{id}")
    if not isinstance(curve, str) or not isinstance(ed, str) or not is_signed(object_, user, id, ed):
        return None
    unsigned = object_.get("unsigned")
    name = unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
    return Device(
        user=user,
        id=id,
        curve25519=curve,
        ed25519=ed,
        cross_signed=bool(self_signing) and is_signed(object_, user, self_signing, self_signing),
        name=name if isinstance(name, str) else "",
        megolm=MEGOLM in algorithms and OLM in algorithms,
    )


def _key_of(user: PersonId, object_: Any, usage: str) -> str:
    """The public key in a cross-signing key's object; "" where it is none of this user and usage."""
    if not isinstance(object_, dict) or object_.get("user_id") != user:
        return ""
    keys, usages = object_.get("keys"), object_.get("usage")
    if not isinstance(keys, dict) or len(keys) != 1 or not isinstance(usages, list) or usage not in usages:
        return ""
    name, key = next(iter(keys.items()))
    return key if isinstance(key, str) and name == f"ed25519:{key}" else ""


def is_trusted(device: Device, trust: Trust) -> bool:
    """Whether the bridge encrypts to the device, and believes what comes from it."""
    return device.cross_signed or trust is Trust.ALL


def wanted(people: Mapping[PersonId, Person], trust: Trust) -> tuple[list[Device], list[Device]]:
    """The devices that get a room's keys, and those that are told that they do not."""
    yes: list[Device] = []
    no: list[Device] = []
    for user in sorted(people):
        for device in people[user].devices.values():
            if device.megolm:
                (yes if is_trusted(device, trust) else no).append(device)
    return yes, no


def readable(parts: Mapping[PersonId, msgspec.Raw]) -> dict[PersonId, dict[str, Any]]:
    """Each user's part of an answer that is an object; what somebody's server makes of theirs concerns nobody else."""
    found: dict[PersonId, dict[str, Any]] = {}
    for user, part in parts.items():
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            found[user] = _object(part)
    return found


def answer(body: bytes) -> Answer:
    """What POST /keys/query answered. Raises msgspec.MsgspecError where nobody's part can be found in it."""
    found = _answer(body)
    return Answer(
        device_keys=readable(found.device_keys),
        master_keys=dict(readable(found.master_keys)),
        self_signing_keys=dict(readable(found.self_signing_keys)),
        failures=dict(found.failures),
    )


_answer = msgspec.json.Decoder(_Answer).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Person).decode
