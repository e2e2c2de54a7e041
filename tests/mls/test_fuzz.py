"""No bytes of a peer's, however mangled, raise anything but an MlsError, change a group or bring the process down."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import bridgekit_mls as mls
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mls.people import METADATA, Client, commit, meeting

# Each example does public-key cryptography: the number is chosen so that a run stays within seconds.
FEW = settings(max_examples=150, deadline=None)


@dataclass(frozen=True)
class Stage:
    """A group in the middle of its life, and one good message of each kind for it."""

    member: mls.Group
    hub: mls.PublicGroup
    newcomer: Client
    messages: dict[str, bytes]
    tree: bytes


@cache
def stage() -> Stage:
    alice, bob, carol, dave = (Client.of(name) for name in ("alice", "bob", "carol", "dave"))
    hers, his, carols = meeting(alice, bob, carol, app_data={METADATA: b"name"})
    commit(hers, his, carols, update=True)
    hub = mls.PublicGroup(hers.group_info(), hers.ratchet_tree())
    package = dave.package()
    leaving = carols.propose_self_remove()
    application = hers.encrypt(b"hello", aad=b"aad")
    staged = hers.commit(add=[package.message], app_data_updates=[(METADATA, b"new")])
    assert staged.welcome is not None
    _, joining = mls.Group.join_external(Client.of("eve").identity, his.group_info(with_tree=True))
    return Stage(
        member=his,
        hub=hub,
        newcomer=dave,
        messages={
            "commit": staged.message,
            "external": joining.message,
            "proposal": leaving,
            "application": application,
            "welcome": staged.welcome,
            "group_info": his.group_info(with_tree=True),
            "key_package": Client.of("frank").package().message,
        },
        tree=staged.ratchet_tree,
    )


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A good message with bytes changed, cut out, put in, or of two messages spliced."""
    good = [*list(stage().messages.values()), stage().tree]
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at : at + draw(st.integers(1, 64))]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case 3:
                data[at : at + 4] = draw(
                    st.sampled_from([b"\x80\x00\x00\x00", b"\xbf\xff\xff\xff", b"\xff" * 4])
                )
            case _:
                other = draw(st.sampled_from(good))
                data[at:] = other[draw(st.integers(0, len(other) - 1)) :]
    return bytes(data)


def refused(call: Callable[[], object]) -> bool:
    """Whether it raised what it may raise. A fault of the engine would be a bug that a peer can reach."""
    try:
        call()
    except mls.EngineFault:
        raise
    except mls.MlsError:
        return True
    return False


@FEW
@given(mangled() | st.binary(max_size=200))
def test_parse_and_the_makers_of_groups_survive(data: bytes):
    here = stage()
    refused(lambda: mls.parse(data))
    refused(lambda: mls.verify_key_package(data))
    refused(lambda: mls.PublicGroup(data))
    refused(lambda: mls.PublicGroup(here.messages["group_info"], data))
    refused(lambda: mls.Group.join(here.newcomer.identity, here.newcomer.packages, data, here.tree))
    refused(
        lambda: mls.Group.join(here.newcomer.identity, here.newcomer.packages, here.messages["welcome"], data)
    )
    refused(lambda: mls.Group.join_external(here.newcomer.identity, data, here.tree))
    refused(
        lambda: mls.Group.join_external(
            here.newcomer.identity, here.messages["group_info"], self_removes=[data]
        )
    )
    refused(lambda: mls.decrypt_with_label(1, data[:32], "x", b"", data, data))
    refused(lambda: mls.verify_with_label(1, data, "x", data, data))
    refused(lambda: mls.encrypt_with_label(1, data, "x", b"", b""))


@FEW
@given(mangled())
def test_a_mangled_message_is_refused_by_the_group_and_changes_nothing(data: bytes):
    here = stage()
    if data in here.messages.values():
        return
    here.member.take_changes()
    here.hub.take_changes()
    before = (here.member.epoch, here.member.epoch_authenticator, here.hub.group_context)
    assert refused(lambda: here.member.process(data))
    # A hub cannot check the tags, which take secrets: with those alone mangled, a message may pass it.
    refused(lambda: here.hub.process(data))
    assert refused(lambda: here.hub.check_group_info(data)) or data[2:4] == b"\x00\x04"
    assert (here.member.take_changes(), here.hub.take_changes()) == ({}, {})
    assert (here.member.epoch, here.member.epoch_authenticator, here.hub.group_context) == before


def test_after_all_that_the_good_messages_still_pass():
    here = stage()
    for name in ("proposal", "application", "commit"):
        received = here.member.process(here.messages[name])
        assert not isinstance(received, mls.OwnCommit | mls.OwnMessage)
    for name in ("proposal", "commit", "external"):
        here.hub.process(here.messages[name])


@FEW
@given(st.data())
def test_mangled_records_are_bad_state_or_a_group(data: st.DataObject):
    """What the disk gives back is checked for form, not for truth: it is sealed by whoever stored it."""
    alice = Client.of("alice")
    (group,) = meeting(alice)
    records = {name: value for name, value in group.take_changes().items() if value is not None}
    name = data.draw(st.sampled_from(sorted(records)))
    value = bytearray(records[name])
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(mls.MlsError):
        mls.Group.restore(alice.identity, {**records, name: bytes(value)})
