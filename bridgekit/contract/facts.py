"""What happened, on any side: a connector's translate.py and matrix/translate.py speak this one vocabulary.

A fact is frozen and can be written to disk and read back (`encode`, `decode`). `chat` names the chat on the side
where it happened; `at` is milliseconds since the epoch (UTC), the network's own time where it tells one.
`private` is True where only this login sees the chat (a direct conversation).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Member, Person, Role
from bridgekit.contract.policy import Visibility


class FactBase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """What every fact has."""

    chat: ChatId
    at: int
    private: bool = False


class Message(FactBase, frozen=True, kw_only=True):
    """Somebody said something.

    `id` deduplicates: the same message read twice (a replay, two connections) has the same id. `replayed` marks
    what comes from the network's history; where more may come twice, `Network.retells` says so. `own` is the login
    whose account spoke, where a person used their own account from elsewhere.
    """

    sender: Person
    id: MessageId
    content: Content
    reply_to: MessageId | None = None
    thread: MessageId | None = None
    replayed: bool = False
    own: LoginId | None = None


class Edit(FactBase, frozen=True, kw_only=True):
    """The sender replaced the words of `target`."""

    sender: Person
    target: MessageId
    content: Content
    id: MessageId | None = None


class Reaction(FactBase, frozen=True, kw_only=True):
    """`sender` put `key` (an emoji or a short word) under `target`."""

    sender: Person
    target: MessageId
    key: str
    id: MessageId | None = None


class Unreaction(FactBase, frozen=True, kw_only=True):
    """`sender` took `key` away from `target`."""

    sender: Person
    target: MessageId
    key: str


class Retraction(FactBase, frozen=True, kw_only=True):
    """`sender` took `target` (a message, or a reaction by its own id) back; a moderator may do it for others.

    `own`: it holds for what they said themselves alone, and the connector does not know who said `target`.
    """

    sender: Person
    target: MessageId
    reason: str = ""
    own: bool = False


class Change(StrEnum):
    """What became of a membership."""

    JOIN = "join"
    LEAVE = "leave"
    KICK = "kick"
    BAN = "ban"
    UNBAN = "unban"
    INVITE = "invite"


class Membership(FactBase, frozen=True, kw_only=True):
    """`person` came or went. `actor` is who did it, where it was not the person.

    `stands_for` is who speaks as `person` without a login there: somebody whom the relay shows as one of its own; or
    whose login that is, which may be offline now.
    """

    person: Person
    change: Change
    actor: Person | None = None
    reason: str = ""
    stands_for: PersonId | None = None
    split: bool = False  # part of a netsplit or its healing: may be taken back in a moment


class Profile(FactBase, frozen=True, kw_only=True):
    """`person` has a new name or picture; the identity is the same."""

    person: Person
    previous: str = ""


class Roster(FactBase, frozen=True, kw_only=True):
    """Everybody who is in the chat now: whoever is not named has left."""

    members: tuple[Member, ...]


class RoleChange(FactBase, frozen=True, kw_only=True):
    """`person` now has `role` in the chat. `stands_for` as in `Membership`."""

    person: Person
    role: Role
    actor: Person | None = None
    stands_for: PersonId | None = None


class Shift(msgspec.Struct, frozen=True):
    """`person` had the role `before` and has `after` now."""

    person: Person
    before: Role
    after: Role


class RolesGiven(FactBase, frozen=True, kw_only=True):
    """`actor` changed the roles of several people at once (a Matrix room's power levels are one event)."""

    shifts: tuple[Shift, ...]
    actor: Person


class Topic(FactBase, frozen=True, kw_only=True):
    """The chat's topic is now `topic`. `actor` is None where it was only read."""

    topic: str
    actor: Person | None = None


class ChatName(FactBase, frozen=True, kw_only=True):
    """The chat is now called `name`. `actor` is None where that was only read."""

    name: str
    actor: Person | None = None


class ChatAvatar(FactBase, frozen=True, kw_only=True):
    """The chat now shows `avatar`; None: no picture. `actor` is None where that was only read.

    A picture that the bridge itself put there (`verbs.SetAvatar`) is not told: it lies at another address now, and
    nobody could see that it is the same.
    """

    avatar: File | None
    actor: Person | None = None


class ChatVisibility(FactBase, frozen=True, kw_only=True):
    """Who may read the chat, as its network says today."""

    visibility: Visibility


class Typing(FactBase, frozen=True, kw_only=True):
    """`sender` started or stopped typing."""

    sender: Person
    active: bool


class Receipt(FactBase, frozen=True, kw_only=True):
    """`sender` has read everything up to `target`."""

    sender: Person
    target: MessageId


class Invitation(FactBase, frozen=True, kw_only=True):
    """The session's own account was asked into the chat by `sender`; nothing is joined by itself.

    A private chat is `sender` who asks to be a contact of the account: the answer comes as Join or Leave. A Join that
    nobody asked for begins a private chat: where people are asked first there, `sender` of the other side is now.
    `withdrawn`: `sender` asks no more; whoever has come in meanwhile stays.
    """

    sender: Person
    name: str = ""
    withdrawn: bool = False


class ChatOpened(FactBase, frozen=True, kw_only=True):
    """The session is in the chat and reads it; `name` and `topic` are what to show.

    Said anew when the chat's `Capabilities.protection` has become another: the room's label and what may cross follow.
    """

    name: str = ""
    topic: str = ""


class ChatClosed(FactBase, frozen=True, kw_only=True):
    """The session can no longer read the chat; `reason` is a sentence for people. `final`: do not try again."""

    reason: str
    final: bool = False


class Resync(FactBase, frozen=True, kw_only=True):
    """Facts of this chat may be missing since `since`: read members, topic and history anew."""

    reason: str
    since: int = 0


class Missed(FactBase, frozen=True, kw_only=True):
    """What was said in the chat between `since` and `until` (ms) could not be read and will not be told.

    `reason` is a sentence for people: they are told of it where the words would have stood.
    """

    since: int
    until: int
    reason: str


Fact = (
    Message
    | Edit
    | Reaction
    | Unreaction
    | Retraction
    | Membership
    | Profile
    | Roster
    | RoleChange
    | RolesGiven
    | Topic
    | ChatName
    | ChatAvatar
    | ChatVisibility
    | Typing
    | Receipt
    | Invitation
    | ChatOpened
    | ChatClosed
    | Resync
    | Missed
)

FLEETING = (Typing, Receipt)
"""Facts that are worth nothing a minute later: never written to disk, the first to go when a room is behind."""

encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Fact] = msgspec.msgpack.Decoder(Fact)


def decode(data: bytes) -> Fact:
    """The fact that `encode` wrote. Raises msgspec.MsgspecError on anything else."""
    return _decoder.decode(data)
