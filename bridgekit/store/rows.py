"""The rows that the store keeps, as frozen values."""

from __future__ import annotations

import msgspec

from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Login
from bridgekit.contract.policy import Protection


class InboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that was accepted and is not done. `id` is from `new_id()`, `at` is ms; `body` is sealed at rest."""

    id: int
    side: NetworkId
    chat: ChatId
    receiver: LoginId | None
    body: bytes
    at: int


class ParkedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An inbox row that a bug struck, and the error text."""

    row: InboxRow
    error: str


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One side's copy of one message or reaction, or that there was an edit.

    `message` (from `new_id()`) is the same for all copies; `origin` marks the copy that somebody wrote there.
    `part` counts up where one message took several on this side. A reaction (`kind` is "reaction") names the
    message under which it stands (`parent`) and what it says (`key`). An edit (`kind` is "edit") is kept where it may
    be told again, by its origin alone; `parent` is the message that it edits. `protection` is what the origin gave when
    it was said; where that is not known, the most that there is, because unknown means secret.
    """

    message: int
    room: ChatId
    side: NetworkId
    chat: ChatId
    id: MessageId
    sender: PersonId
    at: int
    origin: bool
    part: int = 0
    kind: str = "message"
    parent: int = 0
    key: str = ""
    protection: Protection = Protection.END_TO_END


class Portal(msgspec.Struct, frozen=True, kw_only=True):
    """A Matrix room that the bridge works in.

    `kind` is "channel", "direct", "management" or "space"; `made` is True where the bridge made the room;
    `network` is None where no one network owns it.
    """

    room: ChatId
    network: NetworkId | None
    made: bool
    kind: str
    creator: PersonId
    encrypted: bool = False


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One chat of one network that shares a room.

    `reader` is the login that reads the chat, None for the relay. `state` is "open", "closed" or "paused",
    `reason` a sentence for people, `since` ms of the last change. `static` links come from the config.
    """

    key: PortalKey
    room: ChatId
    name: str
    reader: LoginId | None
    creator: PersonId
    static: bool
    state: str
    reason: str
    since: int


class Ghost(msgspec.Struct, frozen=True, kw_only=True):
    """A Matrix user that stands for a person of a network, as its profile was last set.

    `avatar` is the mxc URI that is set, `avatar_source` what it was made from; both "" where there is none.
    """

    mxid: PersonId
    network: NetworkId
    person: PersonId
    name: str
    avatar: str
    avatar_source: str


class Stay(msgspec.Struct, frozen=True):
    """A membership of one of ours in one room: "join", "ban" or "retired", and when (ms) they were last heard there
    or let in; 0 is unknown."""

    state: str
    seen: int = 0


class LoginRow(msgspec.Struct, frozen=True, kw_only=True):
    """One Matrix user's own account and how it is doing. The login's fields are sealed at rest."""

    login: Login
    network: NetworkId
    state: str
    reason: str
