"""A group from within: what members do, and what is refused."""

import bridgekit_mls as mls
import pytest

from tests.mls.people import METADATA, PARTICIPANTS, ROOM, Client, agree, commit, meeting, names, read


def test_two_people_meet_and_talk():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob)
    assert hers.group_id == his.group_id == ROOM
    assert names(hers) == names(his) == [alice.name, bob.name]
    assert (hers.leaf, his.leaf) == (0, 1)
    assert agree(hers, his)
    message = hers.encrypt(b"hello", aad=b"readable")
    received = read(his, message)
    assert (received.data, received.aad, received.epoch) == (b"hello", b"readable", 1)
    assert (received.sender.kind, received.sender.index, received.sender.name) == ("member", 0, alice.name)
    assert read(hers, his.encrypt(b"hello yourself")).data == b"hello yourself"


def test_a_commit_waits_until_it_is_merged_or_cleared():
    alice, bob = Client.of("alice"), Client.of("bob")
    group = alice.create()
    staged = group.commit(add=[bob.package().message])
    assert (group.epoch, group.commit_pending, staged.epoch) == (0, True, 0)
    with pytest.raises(mls.CommitPending):
        group.encrypt(b"too early")
    with pytest.raises(mls.CommitPending):
        group.commit()
    group.clear_commit()
    assert (group.epoch, group.commit_pending, names(group)) == (0, False, [alice.name])
    with pytest.raises(mls.NoCommitPending):
        group.merge_commit()
    with pytest.raises(mls.NoCommitPending):
        group.clear_commit()


def test_a_commit_refused_by_the_hub_gives_way_to_the_one_that_it_took():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    hers.commit(update=True)
    accepted = his.commit(update=True)
    received = hers.process(accepted.message)
    assert isinstance(received, mls.ReceivedCommit)
    hers.accept(received)
    his.merge_commit()
    assert not hers.commit_pending
    assert agree(hers, his)


def test_our_own_commit_and_message_coming_back_are_recognised():
    hers, _ = meeting(Client.of("alice"), Client.of("bob"))
    staged = hers.commit(update=True)
    received = hers.process(staged.message)
    assert isinstance(received, mls.OwnCommit)
    hers.merge_commit()
    assert isinstance(hers.process(hers.encrypt(b"echo")), mls.OwnMessage)


def test_who_is_removed_learns_it_and_reads_no_more():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    staged = hers.commit(remove=[1])
    received = his.process(staged.message)
    assert isinstance(received, mls.ReceivedCommit)
    assert received.removes_me
    assert [(each.kind, each.leaf) for each in received.proposals] == [("remove", 1)]
    his.accept(received)
    hers.merge_commit()
    assert not his.active
    for use in (
        lambda: his.process(hers.encrypt(b"not for him")),
        lambda: his.encrypt(b"may I?"),
        lambda: his.commit(),
        lambda: his.group_info(),
        lambda: his.export_secret("a", b"", 16),
    ):
        with pytest.raises(mls.NotAMember):
            use()


def test_an_update_proposed_by_one_is_committed_by_another_and_changes_the_key():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    before = hers.members[1].encryption_key
    proposal = hers.process(his.propose_update())
    assert isinstance(proposal, mls.ReceivedProposal)
    assert (proposal.proposal.kind, proposal.proposal.leaf, proposal.proposal.by_reference) == (
        "update",
        1,
        True,
    )
    assert hers.pending_proposals == []
    hers.accept(proposal)
    assert [each.reference for each in hers.pending_proposals] == [proposal.proposal.reference]
    commit(hers, his)
    assert hers.members[1].encryption_key != before
    assert agree(hers, his)
    assert hers.pending_proposals == his.pending_proposals == []


def test_who_leaves_cannot_commit_it_and_another_member_does():
    """draft-ietf-mls-extensions, SelfRemove: the committer is somebody else."""
    alice, bob, carol = Client.of("alice"), Client.of("bob"), Client.of("carol")
    hers, his, carols = meeting(alice, bob, carol)
    leaving = his.propose_self_remove()
    for other in (hers, carols):
        received = other.process(leaving)
        assert isinstance(received, mls.ReceivedProposal)
        assert (received.proposal.kind, received.proposal.type, received.proposal.leaf) == (
            "self_remove",
            10,
            1,
        )
        other.accept(received)
    commit(carols, hers, his)
    assert names(hers) == names(carols) == [alice.name, carol.name]
    assert not his.active
    assert agree(hers, carols)


def test_a_pending_proposal_can_be_dropped():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    received = hers.process(his.propose_update())
    assert isinstance(received, mls.ReceivedProposal)
    hers.accept(received)
    hers.drop_proposal(received.proposal.reference)
    assert hers.pending_proposals == []
    with pytest.raises(mls.Refused, match="no such proposal"):
        hers.drop_proposal(received.proposal.reference)


def test_what_was_received_is_accepted_once_and_where_it_was_received():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    (elsewhere,) = meeting(Client.of("carol"), group_id=b"another")
    received = hers.process(his.commit(update=True).message)
    assert isinstance(received, mls.ReceivedCommit)
    with pytest.raises(mls.Refused, match="another group"):
        elsewhere.accept(received)
    hers.accept(received)
    with pytest.raises(mls.Refused, match="left the epoch"):
        hers.accept(received)


def test_messages_of_the_last_epochs_are_read_and_older_ones_are_not():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    sent = []
    for number in range(5):
        sent.append(hers.encrypt(b"%d" % number))
        commit(hers, his, update=True)
    assert [read(his, message).data for message in sent[2:]] == [b"2", b"3", b"4"]
    with pytest.raises(mls.WrongEpoch):
        his.process(sent[1])


def test_a_message_is_read_once():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    message = hers.encrypt(b"once")
    assert read(his, message).data == b"once"
    with pytest.raises(mls.Undecryptable):
        his.process(message)


def test_a_message_for_another_group_or_a_later_epoch_is_refused_as_that():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob)
    other, _ = meeting(alice, bob, group_id=b"another")
    with pytest.raises(mls.WrongGroup):
        his.process(other.encrypt(b"lost"))
    staged = hers.commit(update=True)
    hers.merge_commit()
    with pytest.raises(mls.WrongEpoch):
        his.process(hers.commit(update=True).message)
    received = his.process(staged.message)
    assert isinstance(received, mls.ReceivedCommit)


def test_app_data_change_by_commit_and_the_resolver_decides_what_an_update_means():
    def appended(component: int, now: bytes | None, updates: list[bytes | None]) -> bytes | None:
        assert component == PARTICIPANTS
        return (now or b"") + b"".join(update or b"" for update in updates)

    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob, app_data={PARTICIPANTS: b"a", METADATA: b"name"})
    assert hers.app_data == his.app_data == {PARTICIPANTS: b"a", METADATA: b"name"}
    staged = commit(
        hers, his, app_data_updates=[(PARTICIPANTS, b"b"), (PARTICIPANTS, b"c")], resolve=appended
    )
    assert staged.welcome is None
    assert hers.app_data == his.app_data == {PARTICIPANTS: b"abc", METADATA: b"name"}
    assert agree(hers, his)


def test_without_a_resolver_an_update_is_the_whole_value_and_none_removes_it():
    hers, his = meeting(Client.of("alice"), Client.of("bob"), app_data={METADATA: b"old", 0x8000: b"x"})
    staged = hers.commit(app_data_updates=[(METADATA, b"new"), (0x8000, None)])
    received = his.process(staged.message)
    assert isinstance(received, mls.ReceivedCommit)
    assert received.app_data == {METADATA: b"new"}
    told = {(each.component, each.data) for each in received.proposals if each.kind == "app_data_update"}
    assert told == {(METADATA, b"new"), (0x8000, None)}
    his.accept(received)
    hers.merge_commit()
    assert hers.app_data == his.app_data == {METADATA: b"new"}


def test_who_resolves_otherwise_cannot_follow():
    """The app data go into the key schedule: a wrong value does not pass the confirmation tag."""
    hers, his = meeting(Client.of("alice"), Client.of("bob"), app_data={METADATA: b"old"})
    staged = hers.commit(app_data_updates=[(METADATA, b"new")])
    with pytest.raises(mls.InvalidMessage):
        his.process(staged.message, resolve=lambda component, now, updates: b"something else")
    assert his.epoch == 1
    received = his.process(staged.message)
    assert isinstance(received, mls.ReceivedCommit)


class PolicySaysNo(Exception):
    pass


def test_what_the_resolver_raises_passes_through_and_changes_nothing():
    def no(component: int, now: bytes | None, updates: list[bytes | None]) -> bytes | None:
        raise PolicySaysNo(component)

    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    his.take_changes()
    with pytest.raises(PolicySaysNo):
        hers.commit(app_data_updates=[(METADATA, b"new")], resolve=no)
    staged = hers.commit(app_data_updates=[(METADATA, b"new")])
    with pytest.raises(PolicySaysNo):
        his.process(staged.message, resolve=no)
    assert (his.epoch, his.take_changes()) == (1, {})


def test_a_resolver_that_uses_its_own_group_is_refused_and_hangs_nothing():
    hers, _ = meeting(Client.of("alice"), Client.of("bob"))

    def curious(component: int, now: bytes | None, updates: list[bytes | None]) -> bytes | None:
        return b"%d" % hers.epoch

    with pytest.raises(mls.Refused, match="its own callback"):
        hers.commit(app_data_updates=[(METADATA, b"new")], resolve=curious)
    assert not hers.commit_pending


def test_a_proposed_app_data_update_is_committed_by_another():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    received = hers.process(his.propose_app_data(METADATA, b"proposed"))
    assert isinstance(received, mls.ReceivedProposal)
    assert (received.proposal.component, received.proposal.data) == (METADATA, b"proposed")
    hers.accept(received)
    commit(hers, his)
    assert hers.app_data == his.app_data == {METADATA: b"proposed"}


def test_safe_aad_is_sorted_framed_and_read_by_component():
    """draft-ietf-mls-extensions, section 4.9: on where the group has the component safe_aad (2)."""
    hers, his = meeting(Client.of("alice"), Client.of("bob"), app_data={2: b"\x02\x00\x20"})
    received = read(his, hers.encrypt(b"x", safe_aad={0x8001: b"z", 0x0020: b"tag"}, aad=b"rest"))
    assert (received.safe_aad, received.aad) == ({0x0020: b"tag", 0x8001: b"z"}, b"rest")
    plain, _ = meeting(Client.of("carol"), Client.of("dave"))
    with pytest.raises(mls.Refused):
        plain.encrypt(b"x", safe_aad={0x0020: b"tag"})


def test_a_client_without_the_required_capabilities_cannot_be_added():
    alice = Client.of("alice")
    group = mls.Group.create(alice.identity, ROOM, required_extensions=[0xF0F0])
    with pytest.raises(mls.Refused):
        group.commit(add=[Client.of("bob").package().message])
    able = Client.of("carol", capabilities=mls.Capabilities(extensions=[0xF0F0]))
    able_group = mls.Group.create(able.identity, ROOM, required_extensions=[0xF0F0])
    friend = Client.of("dave", capabilities=mls.Capabilities(extensions=[0xF0F0]))
    staged = able_group.commit(add=[friend.package().message])
    assert friend.join(staged).epoch == 1


def test_custom_group_context_extensions_are_carried_and_replaced():
    capabilities = mls.Capabilities(extensions=[0xF001])
    alice = Client.of("alice", capabilities=capabilities)
    bob = Client.of("bob", capabilities=capabilities)
    hers = mls.Group.create(alice.identity, ROOM, extensions={0xF001: b"one"}, required_extensions=[0xF001])
    his = bob.join(commit(hers, add=[bob.package().message]))
    assert his.extensions[0xF001] == b"one"
    commit(hers, his, extensions={**hers.extensions, 0xF001: b"two"})
    assert hers.extensions == his.extensions
    assert his.extensions[0xF001] == b"two"


def test_exported_secrets_are_shared_and_the_safe_ones_only_once():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    assert hers.export_secret("label", b"context", 32) == his.export_secret("label", b"context", 32)
    assert hers.export_secret("label", b"other", 32) != hers.export_secret("label", b"context", 32)
    assert hers.safe_export_secret(0x8000) == his.safe_export_secret(0x8000)
    with pytest.raises(mls.Refused):
        hers.safe_export_secret(0x8000)
    with pytest.raises(mls.Refused):
        hers.export_secret("label", b"", 70_000)


def test_somebody_joins_from_outside_with_the_group_info_and_takes_a_leaver_off():
    alice, bob, carol = Client.of("alice"), Client.of("bob"), Client.of("carol")
    hers, his = meeting(alice, bob)
    leaving = his.propose_self_remove()
    proposal = hers.process(leaving)
    assert isinstance(proposal, mls.ReceivedProposal)
    hers.accept(proposal)
    carols, joining = mls.Group.join_external(
        carol.identity,
        hers.group_info(),
        hers.ratchet_tree(),
        self_removes=[leaving],
        app_data_updates=[(PARTICIPANTS, b"carol")],
    )
    received = hers.process(joining.message)
    assert isinstance(received, mls.ReceivedCommit)
    assert (received.sender.kind, received.sender.index) == ("new_member_commit", 1)
    assert received.sender.name == carol.name
    assert {each.kind for each in received.proposals} == {"external_init", "self_remove", "app_data_update"}
    hers.accept(received)
    assert names(hers) == names(carols) == [alice.name, carol.name]
    assert hers.app_data == carols.app_data == {PARTICIPANTS: b"carol"}
    assert agree(hers, carols)
    assert read(hers, carols.encrypt(b"here I am")).data == b"here I am"


def test_coming_back_from_outside_replaces_the_old_leaf():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, _ = meeting(alice, bob)
    again, joining = mls.Group.join_external(bob.identity, hers.group_info(with_tree=True))
    received = hers.process(joining.message)
    assert isinstance(received, mls.ReceivedCommit)
    hers.accept(received)
    assert names(hers) == [alice.name, bob.name]
    assert agree(hers, again)


def test_who_asks_to_be_added_is_added_by_a_member():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    carol = Client.of("carol")
    asked = mls.propose_join(
        carol.identity, carol.packages, carol.package().reference, hers.group_id, hers.epoch
    )
    for group in (hers, his):
        received = group.process(asked)
        assert isinstance(received, mls.ReceivedProposal)
        assert (received.sender.kind, received.proposal.kind) == ("new_member_proposal", "add")
        assert received.proposal.name == carol.name
        group.accept(received)
    carols = carol.join(commit(hers, his))
    assert agree(hers, his, carols)


def test_a_welcome_opens_once_and_only_for_its_own_key_package():
    alice, bob, carol = Client.of("alice"), Client.of("bob"), Client.of("carol")
    group = alice.create()
    package = bob.package()
    staged = commit(group, add=[package.message])
    with pytest.raises(mls.UnknownKeyPackage):
        carol.join(staged)
    assert staged.welcome is not None
    with pytest.raises(mls.MissingTree):
        mls.Group.join(bob.identity, bob.packages, staged.welcome)
    assert bob.packages.references == [package.reference]
    bob.join(staged)
    assert bob.packages.references == []
    with pytest.raises(mls.UnknownKeyPackage):
        bob.join(staged)


def test_a_welcome_may_carry_the_tree_itself():
    alice, bob = Client.of("alice"), Client.of("bob")
    group = alice.create()
    staged = commit(group, add=[bob.package().message], with_tree=True)
    assert staged.welcome is not None
    assert agree(group, mls.Group.join(bob.identity, bob.packages, staged.welcome))


def test_a_last_resort_key_package_serves_again():
    bob = Client.of("bob")
    package = bob.package(last_resort=True)
    assert package.last_resort
    for name in ("alice", "carol"):
        group = Client.of(name).create(group_id=name.encode())
        joined = bob.join(commit(group, add=[package.message]))
        assert agree(group, joined)
    assert bob.packages.references == [package.reference]


@pytest.mark.parametrize("cipher_suite", [1, 2, 3])
def test_each_cipher_suite_that_is_offered_works(cipher_suite: int):
    alice = Client.of("alice", cipher_suite=cipher_suite)
    bob = Client.of("bob", cipher_suite=cipher_suite)
    hers, his = meeting(alice, bob)
    assert hers.cipher_suite == cipher_suite
    assert read(his, hers.encrypt(b"hello")).data == b"hello"


def test_a_cipher_suite_that_does_not_exist_is_unsupported():
    with pytest.raises(mls.Unsupported):
        mls.Identity.generate(b"nobody", cipher_suite=0x7777)
    with pytest.raises(mls.Unsupported):
        mls.Identity.generate(b"nobody", cipher_suite=4)
