"""Two devices of two people: sessions begin, go on, break and are mended; nothing is believed that was not meant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridgekit.contract.errors import PeerMisbehaved, Undecryptable
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import contents
from bridgekit.matrix.crypto.contents import OlmContent
from bridgekit.matrix.crypto.devices import Device, person
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.signing import is_signed
from tests.matrix.crypto.test_devices import KEY, answer, machine

ANN, BOB = PersonId("@ann:hs.test"), PersonId("@bob:hs.test")


def device_of(one: Machine) -> Device:
    return person(one.user, answer(one)).devices[one.device]


def one_time_key(one: Machine) -> Any:
    one.more_keys(1, fallback=False)
    key = next(iter(one.unpublished()["one_time_keys"].values()))
    one.confirm()
    return key


def introduced() -> tuple[Machine, Machine]:
    """Ann and Bob; Ann has begun a session with Bob."""
    ann, bob = machine(ANN), machine(BOB)
    assert ann.begin(device_of(bob), one_time_key(bob), 1) is not None
    return ann, bob


def test_a_device_of_somebodys_own_user_has_no_identity_and_is_signed_by_theirs() -> None:
    """It stays without one when it is written down, and signs nothing but itself."""
    ann = machine(ANN)
    puppet = Machine(Machine.new(ANN, KEY, identity=False), [], KEY)
    assert (puppet.only_sends, ann.only_sends, puppet.identity(), puppet.master) == (True, False, {}, "")
    assert list(puppet.device_keys["signatures"][ANN]) == [f"ed25519:{puppet.device}"]
    again = Machine(puppet.row(), [], KEY)
    assert (again.only_sends, again.device_keys) == (True, puppet.device_keys)
    seen = answer(ann)
    seen.device_keys[ANN][puppet.device] = puppet.device_keys
    shown = puppet.shown(person(ANN, seen))
    assert shown is not None
    assert not shown.cross_signed
    assert ann._identity is not None
    seen.device_keys[ANN][puppet.device] = ann._identity.sign(puppet.device_keys)
    shown = puppet.shown(person(ANN, seen))
    assert shown is not None
    assert shown.cross_signed
    other = Machine(msgspec.structs.replace(ann.row(), device=puppet.device), [], KEY)
    assert other.shown(person(ANN, seen)) is None, "another's keys under its name"


def message(sender: Machine, to: Machine, content: dict[str, Any]) -> OlmContent:
    sealed, _ = sender.encrypt(device_of(to), "m.room_key", content)
    return msgspec.convert(sealed, OlmContent)


def test_what_one_says_the_other_reads_and_answers() -> None:
    ann, bob = introduced()
    found, _, begun = bob.decrypt(ANN, message(ann, bob, {"n": 1}), 2)
    assert (found.type, bytes(found.content), begun) == ("m.room_key", b'{"n":1}', True)
    assert found.keys.ed25519 == ann.ed25519
    found, _, begun = ann.decrypt(BOB, message(bob, ann, {"n": 2}), 3)
    assert (bytes(found.content), begun) == (b'{"n":2}', False)
    found, _, begun = bob.decrypt(ANN, message(ann, bob, {"n": 3}), 4)
    assert (bytes(found.content), begun) == (b'{"n":3}', False)


def test_a_machine_that_was_written_down_goes_on_where_it_was() -> None:
    ann, bob = introduced()
    _, row, _ = bob.decrypt(ANN, message(ann, bob, {"n": 1}), 2)
    again = Machine(bob.row(), [row], KEY)
    assert again.device_keys == bob.device_keys
    assert again.identity() == bob.identity()
    found, _, begun = again.decrypt(ANN, message(ann, bob, {"n": 2}), 3)
    assert (bytes(found.content), begun) == (b'{"n":2}', False)


def test_a_one_time_key_opens_one_session() -> None:
    ann, bob, carol = machine(ANN), machine(BOB), machine(PersonId("@carol:hs.test"))
    key = one_time_key(bob)
    for one in (ann, carol):
        assert one.begin(device_of(bob), key, 1) is not None
    bob.decrypt(ANN, message(ann, bob, {}), 2)
    with pytest.raises(Undecryptable):
        bob.decrypt(carol.user, message(carol, bob, {}), 2)


def test_a_message_that_comes_again_puts_no_session_back() -> None:
    """A fallback key opens what begins with it as often as it comes: a homeserver that repeats it would break what both
    have come to since."""
    ann, bob = machine(ANN), machine(BOB)
    bob.more_keys(0, fallback=True)
    (fallback,) = bob.unpublished()["fallback_keys"].values()
    bob.confirm()
    assert ann.begin(device_of(bob), fallback, 1) is not None
    first = message(ann, bob, {"n": 1})
    bob.decrypt(ANN, first, 2)
    ann.decrypt(BOB, message(bob, ann, {"n": 2}), 3)
    bob.decrypt(ANN, message(ann, bob, {"n": 3}), 4)
    for _ in range(2):
        with pytest.raises(Undecryptable):
            bob.decrypt(ANN, first, 5)
    found, _, _ = bob.decrypt(ANN, message(ann, bob, {"n": 4}), 6)
    assert bytes(found.content) == b'{"n":4}'


def test_a_key_that_is_not_signed_by_its_device_begins_nothing() -> None:
    ann, bob = machine(ANN), machine(BOB)
    key = one_time_key(bob)
    for wrong in (None, {}, {**key, "key": one_time_key(machine(BOB))["key"]}, {**key, "signatures": {}}):
        assert ann.begin(device_of(bob), wrong, 1) is None
    assert not ann.knows(bob.curve25519)


def test_a_message_for_another_or_in_anothers_name_is_refused() -> None:
    ann, bob = introduced()
    sent = message(ann, bob, {})
    with pytest.raises(PeerMisbehaved, match="somebody else"):
        bob.decrypt(PersonId("@eve:hs.test"), sent, 2)
    with pytest.raises(PeerMisbehaved, match="another device"):
        machine(BOB).decrypt(ANN, sent, 2)


@pytest.mark.parametrize("body", ["", "AAAA", "é", "!", "AwogAAAA"])
@pytest.mark.parametrize("kind", [0, 1, 7])
def test_nonsense_is_refused(body: str, kind: int) -> None:
    bob = machine(BOB)
    content = OlmContent(
        algorithm="m.olm.v1.curve25519-aes-sha2",
        sender_key=machine(ANN).curve25519,
        ciphertext={bob.curve25519: contents.OlmMessage(kind, body)},
    )
    with pytest.raises((PeerMisbehaved, Undecryptable)):
        bob.decrypt(ANN, content, 2)


def test_few_sessions_are_kept_and_the_newest_answer_first() -> None:
    ann, bob = machine(ANN), machine(BOB)
    for now in range(7):
        ann.begin(device_of(bob), one_time_key(bob), now)
    gone = ann.surplus(bob.curve25519)
    assert [row.used for row in gone] == [1, 0]
    assert [row.used for row in ann.sessions[bob.curve25519]] == [6, 5, 4, 3, 2]


def test_what_is_published_is_signed_by_the_device_and_its_identity() -> None:
    bob = machine(BOB)
    bob.more_keys(2, fallback=True)
    made = bob.unpublished()
    assert len(made["one_time_keys"]) == 2
    (fallback,) = made["fallback_keys"].values()
    assert fallback["fallback"] is True
    for key in (*made["one_time_keys"].values(), fallback):
        assert is_signed(key, BOB, bob.device, bob.ed25519)
    bob.confirm()
    assert bob.unpublished() == {"one_time_keys": {}}
    identity = bob.identity()
    assert is_signed(identity["self_signing_key"], BOB, bob.master, bob.master)
    assert is_signed(identity["user_signing_key"], BOB, bob.master, bob.master)
    assert is_signed(identity["master_key"], BOB, bob.device, bob.ed25519)


def test_to_look_at_a_message_changes_nothing() -> None:
    ann, bob = introduced()
    first = message(ann, bob, {"n": 1})
    for _ in range(2):  # neither the one-time key nor the place in the ratchet is used up
        assert bytes(bob.peek(ANN, first).content) == b'{"n":1}'
    assert bob.sessions == {}
    bob.decrypt(ANN, first, 2)
    before = dict(bob.sessions)
    second = message(ann, bob, {"n": 2})
    for _ in range(2):
        assert bytes(bob.peek(ANN, second).content) == b'{"n":2}'
    assert bob.sessions == before
    bob.decrypt(ANN, second, 3)
    with pytest.raises(Undecryptable):
        bob.peek(ANN, second)
