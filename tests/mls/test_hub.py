"""The hub's view: it follows and judges a group without a secret."""

import bridgekit_mls as mls
import pytest

from tests.mls.people import METADATA, PARTICIPANTS, Client, Disk, agree, commit, meeting, names


def watched(*people: Client, **more: object) -> tuple[mls.PublicGroup, list[mls.Group]]:
    groups = meeting(*people, **more)
    return mls.PublicGroup(groups[0].group_info(), groups[0].ratchet_tree()), groups


def test_the_hub_sees_members_and_app_data_as_the_members_do():
    alice, bob = Client.of("alice"), Client.of("bob")
    hub, (hers, his) = watched(alice, bob, app_data={METADATA: b"name"})
    assert (hub.group_id, hub.epoch, hub.cipher_suite) == (hers.group_id, 1, 1)
    assert names(hub) == [alice.name, bob.name]
    assert hub.app_data == {METADATA: b"name"}
    commit(hers, his, hub, app_data_updates=[(METADATA, b"renamed"), (PARTICIPANTS, b"both")])
    assert hub.app_data == hers.app_data == {METADATA: b"renamed", PARTICIPANTS: b"both"}
    commit(his, hers, hub, remove=[0])
    assert names(hub) == [bob.name]
    assert hub.ratchet_tree() == his.ratchet_tree()


def test_a_commit_tells_the_hub_all_that_it_would_change():
    alice, bob, carol = Client.of("alice"), Client.of("bob"), Client.of("carol")
    hub, (hers, _) = watched(alice, bob)
    package = carol.package()
    staged = hers.commit(add=[package.message], remove=[1], app_data_updates=[(PARTICIPANTS, b"x")])
    received = hub.process(staged.message)
    assert isinstance(received, mls.ReceivedCommit)
    assert (received.epoch, received.sender.kind, received.sender.index) == (1, "member", 0)
    by_kind = {each.kind: each for each in received.proposals}
    assert set(by_kind) == {"add", "remove", "app_data_update"}
    assert (by_kind["add"].key_package, by_kind["add"].name) == (package.message, carol.name)
    assert by_kind["remove"].leaf == 1
    assert not any(each.by_reference for each in received.proposals)
    assert received.app_data == {PARTICIPANTS: b"x"}
    assert hub.epoch == 1
    hub.accept(received)
    assert (hub.epoch, names(hub)) == (2, [alice.name, carol.name])


def test_the_hub_tells_a_commit_that_covers_a_pending_leave_from_one_that_omits_it():
    """draft-ietf-mimi-protocol: a commit that leaves a pending SelfRemove out is refused by the hub."""
    hub, (hers, his, carols) = watched(Client.of("alice"), Client.of("bob"), Client.of("carol"))
    leaving = his.propose_self_remove()
    for group in (hub, hers):
        received = group.process(leaving)
        assert isinstance(received, mls.ReceivedProposal)
        group.accept(received)
    (pending,) = hub.pending_proposals
    assert (pending.kind, pending.leaf, pending.sender.name) == (
        "self_remove",
        1,
        b"mimi://bob.example/d/bob1",
    )
    omitting = hub.process(carols.commit(update=True).message)
    covering = hub.process(hers.commit().message)
    assert isinstance(omitting, mls.ReceivedCommit)
    assert isinstance(covering, mls.ReceivedCommit)
    assert pending.reference not in {each.reference for each in omitting.proposals}
    assert pending.reference in {each.reference for each in covering.proposals}
    hub.accept(covering)
    assert hub.pending_proposals == []


def test_a_commit_on_a_proposal_that_the_hub_never_took_is_invalid():
    hub, (hers, his) = watched(Client.of("alice"), Client.of("bob"))
    received = hers.process(his.propose_update())
    assert isinstance(received, mls.ReceivedProposal)
    hers.accept(received)
    with pytest.raises(mls.InvalidMessage):
        hub.process(hers.commit().message)


def test_the_hub_as_external_sender_proposes_and_a_member_commits():
    hub_identity = mls.Identity.generate(b"mimi://hub.example")
    alice, bob, carol = Client.of("alice"), Client.of("bob"), Client.of("carol")
    hub, (hers, his) = watched(alice, bob, hub=hub_identity)
    assert hub.external_senders == [(hub_identity.signature_key, hub_identity.credential)]
    for proposal in (
        hub.propose_remove(hub_identity, 1),
        hub.propose_add(hub_identity, carol.package().message),
    ):
        for group in (hub, hers):
            received = group.process(proposal)
            assert isinstance(received, mls.ReceivedProposal)
            assert (received.sender.kind, received.sender.index) == ("external", 0)
            group.accept(received)
    staged = hers.commit()
    at_hub = hub.process(staged.message)
    assert isinstance(at_hub, mls.ReceivedCommit)
    hub.accept(at_hub)
    hers.merge_commit()
    assert names(hub) == names(hers) == [alice.name, carol.name]
    assert agree(hers, carol.join(staged))
    with pytest.raises(mls.Refused, match="no member is at leaf 9"):
        hub.propose_remove(hub_identity, 9)
    with pytest.raises(mls.Refused, match="not an external sender"):
        hub.propose_remove(alice.identity, 0)
    with pytest.raises(mls.WrongEpoch):
        his.process(hub.propose_remove(hub_identity, 0))


def test_an_external_commit_passes_the_hub():
    alice, carol = Client.of("alice"), Client.of("carol")
    hub, (hers,) = watched(alice)
    group, joining = mls.Group.join_external(carol.identity, hers.group_info(), hub.ratchet_tree())
    received = hub.process(joining.message)
    assert isinstance(received, mls.ReceivedCommit)
    assert (received.sender.kind, received.sender.index) == ("new_member_commit", 1)
    hub.accept(received)
    hub.check_group_info(joining.group_info)
    assert names(hub) == names(group) == [alice.name, carol.name]


def test_a_group_info_is_of_this_epoch_and_signed_by_a_member():
    alice, bob = Client.of("alice"), Client.of("bob")
    hub, (hers, his) = watched(alice, bob)
    before = hers.group_info()
    hub.check_group_info(before)
    hub.check_group_info(his.group_info(with_tree=True))
    staged = commit(hers, his, hub, update=True)
    hub.check_group_info(staged.group_info)
    with pytest.raises(mls.WrongEpoch):
        hub.check_group_info(before)
    (other,) = meeting(Client.of("carol"), group_id=b"another")
    with pytest.raises(mls.WrongGroup):
        hub.check_group_info(other.group_info())
    damaged = staged.group_info[:-1] + bytes([staged.group_info[-1] ^ 1])
    with pytest.raises(mls.InvalidMessage):
        hub.check_group_info(damaged)


def test_a_partial_group_info_is_made_whole_from_what_the_hub_holds():
    """draft-ietf-mimi-protocol, PartialGroupInfo: the extensions and the signature travel, the hub has the rest."""
    hub, (hers,) = watched(Client.of("alice"))
    whole = mls.unframe(hers.group_info())
    assert whole.startswith(hub.group_context)
    assert bytes([len(hub.confirmation_tag)]) + hub.confirmation_tag in whole


def test_private_messages_are_nothing_that_the_hub_reads():
    hub, (hers, _) = watched(Client.of("alice"), Client.of("bob"))
    with pytest.raises(mls.Unsupported, match="only members"):
        hub.process(hers.encrypt(b"secret"))


def test_what_one_view_received_another_does_not_accept():
    hub, (hers, his) = watched(Client.of("alice"), Client.of("bob"))
    staged = hers.commit(update=True)
    at_hub, at_bob = hub.process(staged.message), his.process(staged.message)
    assert isinstance(at_hub, mls.ReceivedCommit)
    assert isinstance(at_bob, mls.ReceivedCommit)
    with pytest.raises(mls.Refused):
        his.accept(at_hub)
    with pytest.raises(mls.Refused):
        hub.accept(at_bob)
    hub.accept(at_hub)
    his.accept(at_bob)


def test_the_hub_restored_from_its_records_goes_on_with_pending_proposals():
    hub, (hers, his) = watched(Client.of("alice"), Client.of("bob"), app_data={METADATA: b"name"})
    disk = Disk()
    disk.save(hub)
    proposal = his.propose_self_remove()
    for group in (hub, hers):
        received = group.process(proposal)
        assert isinstance(received, mls.ReceivedProposal)
        group.accept(received)
    disk.save(hub)
    again = mls.PublicGroup.restore(disk)
    assert again.take_changes() == {}
    assert [each.reference for each in again.pending_proposals] == [
        each.reference for each in hub.pending_proposals
    ]
    received_again = again.process(hers.commit().message)
    assert isinstance(received_again, mls.ReceivedCommit)
    again.accept(received_again)
    disk.save(again)
    assert (again.epoch, len(again.members), again.app_data) == (2, 1, {METADATA: b"name"})
    assert mls.PublicGroup.restore(disk).group_context == again.group_context


def test_the_hubs_records_hold_no_secret_of_the_members():
    """Not one private key, exporter secret or message of the group appears in what the hub stores."""
    hub, (hers, his) = watched(Client.of("alice"), Client.of("bob"))
    disk, hers_disk = Disk(), Disk()
    hers_disk.save(hers)
    commit(hers, his, hub, update=True)
    disk.save(hub)
    hers_disk.save(hers)
    assert set(disk) <= {"tree", "context", "confirmation_tag", "interim_transcript_hash", "proposals"}
    stored = b"".join(disk.values())
    assert hers.epoch_authenticator not in stored
    assert hers.export_secret("x", b"", 32) not in stored
    secret_names = {"epoch_secrets", "message_secrets/message_secrets", "export_tree", "state"}
    assert secret_names <= set(hers_disk)
