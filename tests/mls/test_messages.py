"""Messages without a group: parse, key packages of others, and the labelled operations of RFC 9420, section 5.1."""

import bridgekit_mls as mls
import pytest

from tests.mls.people import METADATA, ROOM, Client, commit, meeting


def test_a_key_package_says_what_it_is():
    bob = Client.of("bob")
    package = bob.package(lifetime=3600)
    parsed = mls.verify_key_package(package.message)
    assert (parsed.kind, parsed.cipher_suite, parsed.name) == ("key_package", 1, bob.name)
    assert parsed.signature_key == bob.identity.signature_key
    assert parsed.key_package_refs == [package.reference]
    assert parsed.lifetime is not None
    assert parsed.lifetime[1] - parsed.lifetime[0] == 3600 + 3600
    assert parsed.lifetime[1] == package.not_after
    assert not parsed.last_resort
    assert mls.parse(bob.package(last_resort=True).message).last_resort


def test_a_key_package_that_was_tampered_with_or_has_expired_is_invalid():
    bob = Client.of("bob")
    message = bytearray(bob.package().message)
    message[-1] ^= 1
    with pytest.raises(mls.InvalidMessage):
        mls.verify_key_package(bytes(message))
    with pytest.raises(mls.InvalidMessage):
        mls.verify_key_package(bob.package(lifetime=0).message)
    with pytest.raises(mls.Refused, match="two years"):
        bob.package(lifetime=3 * 366 * 86400)


def test_parse_tells_each_kind_of_message():
    alice, bob = Client.of("alice"), Client.of("bob")
    group = alice.create(app_data={METADATA: b"name"})
    package = bob.package()
    staged = group.commit(add=[package.message], aad=b"aad")
    parsed = mls.parse(staged.message)
    assert (parsed.kind, parsed.content, parsed.epoch, parsed.group_id) == (
        "public_message",
        "commit",
        0,
        ROOM,
    )
    assert parsed.sender is not None
    assert (parsed.sender.kind, parsed.sender.index, parsed.aad) == ("member", 0, b"aad")
    assert staged.welcome is not None
    assert mls.parse(staged.welcome).key_package_refs == [package.reference]
    info = mls.parse(staged.group_info)
    assert (info.kind, info.group_id, info.epoch, info.app_data) == (
        "group_info",
        ROOM,
        1,
        {METADATA: b"name"},
    )
    group.merge_commit()
    private = mls.parse(group.encrypt(b"x", aad=b"y"))
    assert (private.kind, private.content, private.epoch, private.aad) == (
        "private_message",
        "application",
        1,
        b"y",
    )
    assert private.sender is None


def test_what_is_no_message_is_malformed_or_unsupported():
    whole = Client.of("alice").package().message
    for broken in (b"", b"\x00", whole[:50], whole + b"\x00"):
        with pytest.raises(mls.Malformed):
            mls.parse(broken)
    for foreign in (b"\x00\x02" + whole[2:], whole[:2] + b"\x7f\xff" + whole[4:]):
        with pytest.raises(mls.Unsupported):
            mls.parse(foreign)


def test_the_frame_comes_off_and_goes_back_on():
    message = Client.of("alice").package().message
    assert mls.unframe(message) == message[4:]
    assert mls.frame("key_package", mls.unframe(message)) == message


def test_a_message_of_the_wrong_kind_is_malformed_where_another_is_wanted():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, _ = meeting(alice, bob)
    with pytest.raises(mls.Malformed, match="not a Welcome"):
        mls.Group.join(bob.identity, bob.packages, hers.group_info())
    with pytest.raises(mls.Malformed, match="not a message to a group"):
        hers.process(hers.group_info())
    with pytest.raises(mls.Malformed, match="not a KeyPackage"):
        hers.commit(add=[hers.group_info()])


def test_labelled_signatures_bind_label_content_and_key():
    alice, bob = Client.of("alice").identity, Client.of("bob").identity
    signature = alice.sign("KeyMaterialRequestTBS", b"content")

    def holds(
        identity: mls.Identity = alice, label: str = "KeyMaterialRequestTBS", content: bytes = b"content"
    ):
        return mls.verify_with_label(1, identity.signature_key, label, content, signature)

    assert holds()
    assert not holds(identity=bob)
    assert not holds(label="Other")
    assert not holds(content=b"other")


def test_labelled_encryption_opens_with_the_key_the_label_and_the_context():
    private, public = mls.generate_hpke_key()
    kem, sealed = mls.encrypt_with_label(1, public, "GroupInfo", ROOM, b"plain")
    assert mls.decrypt_with_label(1, private, "GroupInfo", ROOM, kem, sealed) == b"plain"
    with pytest.raises(mls.Undecryptable):
        mls.decrypt_with_label(1, private, "GroupInfo", b"another room", kem, sealed)
    with pytest.raises(mls.Undecryptable):
        mls.decrypt_with_label(1, mls.generate_hpke_key()[0], "GroupInfo", ROOM, kem, sealed)
    with pytest.raises(mls.Refused):
        mls.encrypt_with_label(1, b"short", "GroupInfo", ROOM, b"plain")


def test_an_identity_comes_back_from_its_export_and_signs_alike():
    alice = Client.of("alice").identity
    again = mls.Identity.restore(alice.export())
    assert (again.name, again.signature_key, again.credential) == (
        alice.name,
        alice.signature_key,
        alice.credential,
    )
    assert mls.verify_with_label(1, alice.signature_key, "x", b"y", again.sign("x", b"y"))
    with pytest.raises(mls.BadState):
        mls.Identity.restore(alice.export()[:-3])
    with pytest.raises(mls.Refused):
        mls.Identity.adopt(b"alice", b"\x01" * 32, alice.signature_key)


def test_nothing_secret_is_shown_by_repr():
    alice = Client.of("alice")
    shown = repr(alice.identity) + repr(alice.create())
    assert (
        shown
        == '<Identity "mimi://alice.example/d/alice1"><Group "mimi://hub.example/r/clubhouse" at epoch 0>'
    )


def test_key_packages_come_back_from_their_records():
    bob = Client.of("bob")
    kept, gone = bob.package(), bob.package()
    records = {name: value for name, value in bob.packages.take_changes().items() if value is not None}
    bob.packages.discard(gone.reference)
    assert list(bob.packages.take_changes().values()) == [None]
    again = Client(bob.identity, mls.KeyPackages(records))
    assert set(again.packages.references) == {kept.reference, gone.reference}
    group = Client.of("alice").create()
    assert again.join(commit(group, add=[kept.message])).epoch == 1
    with pytest.raises(mls.BadState):
        mls.KeyPackages({"key_package/00": b"\x01rubbish"})
