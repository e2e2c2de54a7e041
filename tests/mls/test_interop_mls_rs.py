"""Groups shared with mls-rs, by its published Python binding (agentvault-mls-rs-uniffi)."""

from typing import Any

import bridgekit_mls as mls
import pytest

from tests.mls.people import ROOM, Client, names, read

peer: Any = pytest.importorskip(
    "mls_rs_uniffi", reason="agentvault-mls-rs-uniffi has no wheel for this machine"
)


class Theirs:
    """One client of mls-rs and its group; everything crosses as bytes."""

    def __init__(self, name: bytes) -> None:
        key = peer.generate_signature_keypair(peer.CipherSuite.CURVE25519_AES128)
        self.client: Any = peer.Client(name, key, peer.client_config_default())
        self.group: Any = None

    def key_package(self) -> bytes:
        package: bytes = self.client.generate_key_package_message().to_bytes()
        return package

    def join(self, commit: mls.Commit) -> None:
        assert commit.welcome is not None
        tree = peer.RatchetTree(bytes=commit.ratchet_tree)
        self.group = self.client.join_group(tree, peer.Message.from_bytes(commit.welcome)).group

    def process(self, message: bytes) -> Any:
        return self.group.process_incoming_message(peer.Message.from_bytes(message))

    def read(self, message: bytes) -> bytes:
        received = self.process(message)
        assert received.is_application_message()
        data: bytes = received.data
        return data

    def encrypt(self, data: bytes) -> bytes:
        message: bytes = self.group.encrypt_application_message(data).to_bytes()
        return message

    def commit(self, output: Any) -> bytes:
        """Their commit, merged by themselves: mls-rs applies its own when it comes back."""
        message: bytes = output.commit_message.to_bytes()
        assert self.process(message).is_commit()
        return message

    def secret(self) -> bytes:
        secret: bytes = self.group.export_secret(b"interop", b"", 32)
        return secret


def shares(group: mls.Group, theirs: Theirs) -> bool:
    return group.export_secret("interop", b"", 32) == theirs.secret()


def accept(group: mls.Group, message: bytes) -> None:
    received = group.process(message)
    assert isinstance(received, mls.ReceivedCommit | mls.ReceivedProposal)
    group.accept(received)


def test_their_key_package_joins_our_group_and_both_talk():
    alice, bob = Client.of("alice"), Theirs(b"bob")
    group = mls.Group.create(alice.identity, ROOM)
    package = bob.key_package()
    assert mls.verify_key_package(package).name == b"bob"
    staged = group.commit(add=[package])
    group.merge_commit()
    bob.join(staged)
    assert shares(group, bob)
    assert bob.read(group.encrypt(b"to mls-rs")) == b"to mls-rs"
    received = read(group, bob.encrypt(b"from mls-rs"))
    assert (received.data, received.sender.name) == (b"from mls-rs", b"bob")


def test_we_join_their_group_by_their_welcome():
    alice, bob = Client.of("alice"), Theirs(b"bob")
    bob.group = bob.client.create_group(ROOM)
    output = bob.group.add_members([peer.Message.from_bytes(alice.package().message)])
    bob.commit(output)
    welcome, tree = output.welcome_message.to_bytes(), bob.group.export_tree().bytes
    group = mls.Group.join(alice.identity, alice.packages, welcome, tree)
    assert names(group) == [b"bob", alice.name]
    assert shares(group, bob)
    assert read(group, bob.encrypt(b"welcome")).data == b"welcome"
    assert bob.read(group.encrypt(b"thanks")) == b"thanks"


@pytest.fixture
def three() -> tuple[mls.Group, Theirs, Client, mls.Group]:
    """Alice and Carol are ours, Bob is theirs."""
    alice, bob, carol = Client.of("alice"), Theirs(b"bob"), Client.of("carol")
    group = mls.Group.create(alice.identity, ROOM)
    staged = group.commit(add=[bob.key_package(), carol.package().message])
    group.merge_commit()
    bob.join(staged)
    return group, bob, carol, carol.join(staged)


def test_updates_in_both_directions_keep_the_group_together(
    three: tuple[mls.Group, Theirs, Client, mls.Group],
):
    hers, bob, _, carols = three
    for _round in range(3):
        staged = hers.commit(update=True)
        assert bob.process(staged.message).is_commit()
        accept(carols, staged.message)
        hers.merge_commit()
        assert shares(hers, bob)
        message = bob.commit(bob.group.commit())
        accept(hers, message)
        accept(carols, message)
        assert shares(hers, bob)
        assert shares(carols, bob)


def test_we_remove_a_member_and_they_follow(three: tuple[mls.Group, Theirs, Client, mls.Group]):
    hers, bob, carol, carols = three
    leaf = next(member.leaf for member in hers.members if member.name == carol.name)
    staged = hers.commit(remove=[leaf])
    assert bob.process(staged.message).is_commit()
    hers.merge_commit()
    accept(carols, staged.message)
    assert not carols.active
    assert shares(hers, bob)


def test_they_are_removed_and_read_no_more(three: tuple[mls.Group, Theirs, Client, mls.Group]):
    hers, bob, _, _ = three
    leaf = next(member.leaf for member in hers.members if member.name == b"bob")
    staged = hers.commit(remove=[leaf])
    assert bob.process(staged.message).effect.is_removed()
    hers.merge_commit()
    with pytest.raises(Exception, match=r"."):
        bob.read(hers.encrypt(b"not for bob"))


def test_they_propose_and_we_commit(three: tuple[mls.Group, Theirs, Client, mls.Group]):
    hers, bob, _, carols = three
    dave = Client.of("dave")
    (proposal,) = bob.group.propose_add_members([peer.Message.from_bytes(dave.package().message)])
    message = proposal.to_bytes()
    received = hers.process(message)
    assert isinstance(received, mls.ReceivedProposal)
    assert (received.proposal.kind, received.proposal.name) == ("add", dave.name)
    hers.accept(received)
    accept(carols, message)
    staged = hers.commit()
    assert bob.process(staged.message).is_commit()
    accept(carols, staged.message)
    hers.merge_commit()
    daves = dave.join(staged)
    assert shares(hers, bob)
    assert shares(daves, bob)
    assert bob.read(daves.encrypt(b"hello from dave")) == b"hello from dave"


def test_we_propose_an_update_and_they_commit(three: tuple[mls.Group, Theirs, Client, mls.Group]):
    hers, bob, _, carols = three
    before = hers.members[2].encryption_key
    proposal = carols.propose_update()
    assert bob.process(proposal).is_received_proposal()
    accept(hers, proposal)
    message = bob.commit(bob.group.commit())
    accept(hers, message)
    accept(carols, message)
    assert hers.members[2].encryption_key != before
    assert shares(hers, bob)
    assert shares(carols, bob)
