"""People with clients and groups, and a store that behaves like a database: what the tests of the engine talk about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import bridgekit_mls as mls

ROOM = b"mimi://hub.example/r/clubhouse"

PARTICIPANTS = 0x0022
METADATA = 0x0023

# What a MIMI group requires of its members: app_data_dictionary; app_data_update and self_remove.
EXTENSIONS = (0x0006,)
PROPOSALS = (0x0008, 0x000A)


class Changing(Protocol):
    def take_changes(self) -> mls.Changes: ...


class Disk(dict[str, bytes]):
    """Records as a database would hold them."""

    def save(self, changing: Changing) -> mls.Changes:
        changes = changing.take_changes()
        for name, value in changes.items():
            if value is None:
                del self[name]
            else:
                self[name] = value
        return changes


@dataclass
class Client:
    identity: mls.Identity
    packages: mls.KeyPackages = field(default_factory=mls.KeyPackages)

    @classmethod
    def of(cls, name: str, **more: Any) -> Client:
        return cls(mls.Identity.generate(f"mimi://{name}.example/d/{name}1".encode(), **more))

    @property
    def name(self) -> bytes:
        return self.identity.name

    def package(self, **more: Any) -> mls.KeyPackage:
        return self.packages.generate(self.identity, **more)

    def create(
        self,
        *,
        group_id: bytes = ROOM,
        app_data: Mapping[int, bytes] | None = None,
        hub: mls.Identity | None = None,
        **more: Any,
    ) -> mls.Group:
        return mls.Group.create(
            self.identity,
            group_id,
            app_data=app_data,
            external_senders=[(hub.signature_key, hub.credential)] if hub else [],
            required_extensions=EXTENSIONS,
            required_proposals=PROPOSALS,
            **more,
        )

    def join(self, commit: mls.Commit) -> mls.Group:
        assert commit.welcome is not None
        return mls.Group.join(self.identity, self.packages, commit.welcome, commit.ratchet_tree)


def names(group: mls.Group | mls.PublicGroup) -> list[bytes]:
    return [member.name for member in group.members]


def commit(
    group: mls.Group, *followers: mls.Group | mls.PublicGroup, resolve: mls.Resolve | None = None, **what: Any
) -> mls.Commit:
    """Commit, and let everybody else accept it."""
    staged = group.commit(resolve=resolve, **what)
    for follower in followers:
        received = follower.process(staged.message, resolve=resolve)
        assert isinstance(received, mls.ReceivedCommit)
        follower.accept(received)
    group.merge_commit()
    return staged


def meeting(*people: Client, **more: Any) -> list[mls.Group]:
    """A group of these people, made by the first; one view of it each."""
    first, *others = people
    made = first.create(**more)
    if not others:
        return [made]
    staged = commit(made, add=[other.package().message for other in others])
    return [made, *(other.join(staged) for other in others)]


def read(group: mls.Group, message: bytes) -> mls.Application:
    received = group.process(message)
    assert isinstance(received, mls.Application)
    return received


def agree(*groups: mls.Group) -> bool:
    """Whether they share the epoch's secrets, not only its number."""
    return len({(group.epoch, group.epoch_authenticator) for group in groups}) == 1
