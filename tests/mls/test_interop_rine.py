"""Groups shared with rine-mls: the external join, and the tree inside Welcome and GroupInfo."""

import os
from pathlib import Path
from typing import Any

import bridgekit_mls as mls
import pytest
import rine_mls as peer

from tests.mls.people import ROOM, Client, names, read

# rine puts one byte of its own in front of an application message, and takes it off again.
TAG = bytes([peer.APP_MESSAGE_TAG])


class Theirs:
    def __init__(self, store: Path) -> None:
        self.client: Any = peer.MlsClient(str(store), os.urandom(32), peer.CIPHER_SUITE_CLASSICAL)
        self.group: Any = None

    def encrypt(self, data: bytes) -> bytes:
        payload: bytes = self.group.encrypt_application_message(data)
        assert payload.startswith(TAG)
        return payload[1:]

    def read(self, message: bytes) -> bytes:
        envelope: bytes = self.group.decrypt_application_message(TAG + message).envelope
        return envelope


@pytest.fixture
def theirs(tmp_path: Path) -> Theirs:
    return Theirs(tmp_path)


def accept(group: mls.Group, message: bytes) -> mls.ReceivedCommit:
    received = group.process(message)
    assert isinstance(received, mls.ReceivedCommit)
    group.accept(received)
    return received


def both_talk(group: mls.Group, theirs: Theirs) -> None:
    assert group.epoch == theirs.group.epoch()
    assert theirs.read(group.encrypt(b"to rine")) == b"to rine"
    assert read(group, theirs.encrypt(b"from rine")).data == b"from rine"


def test_their_key_package_joins_our_group(theirs: Theirs):
    group = mls.Group.create(Client.of("alice").identity, ROOM)
    staged = group.commit(add=[theirs.client.generate_key_package()], with_tree=True)
    group.merge_commit()
    assert staged.welcome is not None
    theirs.group = theirs.client.join_from_welcome(staged.welcome)
    both_talk(group, theirs)


def test_we_join_their_group_and_commits_cross_both_ways(theirs: Theirs):
    alice, carol = Client.of("alice"), Client.of("carol")
    theirs.group = theirs.client.create_group(ROOM)
    bundle = theirs.group.add_member(alice.package().message)
    group = mls.Group.join(alice.identity, alice.packages, bundle.welcomes[0])
    both_talk(group, theirs)
    staged = group.commit(add=[carol.package().message], update=True)
    theirs.group.apply_commit(staged.message)
    group.merge_commit()
    both_talk(group, theirs)
    removed = theirs.group.remove_member(theirs.group.member_index(carol.name))
    accept(group, removed.commit)
    assert carol.name not in names(group)
    both_talk(group, theirs)


def test_they_join_our_group_from_outside(theirs: Theirs):
    group = mls.Group.create(Client.of("alice").identity, ROOM)
    theirs.group = theirs.client.join_by_external_commit(group.group_info(with_tree=True))
    received = accept(group, theirs.group.last_commit().commit)
    assert received.sender.kind == "new_member_commit"
    both_talk(group, theirs)


def test_we_join_their_group_from_outside(theirs: Theirs):
    theirs.group = theirs.client.create_group(ROOM)
    group, joining = mls.Group.join_external(Client.of("alice").identity, theirs.group.group_info())
    theirs.group.apply_commit(joining.message)
    both_talk(group, theirs)


def test_they_come_back_over_their_own_stale_leaf(theirs: Theirs):
    group = mls.Group.create(Client.of("alice").identity, ROOM)
    theirs.group = theirs.client.join_by_external_commit(group.group_info(with_tree=True))
    accept(group, theirs.group.last_commit().commit)
    stale = theirs.group.current_member_index()
    theirs.group = theirs.client.resync_by_external_commit(group.group_info(with_tree=True), stale)
    received = accept(group, theirs.group.last_commit().commit)
    assert {each.kind for each in received.proposals} == {"external_init", "remove"}
    assert len(names(group)) == 2
    both_talk(group, theirs)
