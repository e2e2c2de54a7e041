"""What to do, on any side: each verb is performed by one session, or by the Matrix side, as it stands.

`chat` and every id belong to the side that performs the verb. `speaker` is the person of another side in whose
name it is done; None is the performing account itself.
"""

from __future__ import annotations

import msgspec

from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Person, Quote, Role


class VerbBase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """What every verb has."""

    chat: ChatId
    speaker: Person | None = None


class PostMessage(VerbBase, frozen=True, kw_only=True):
    """Say it. `key` is the same at every try; `at` (ms) is when it was first said.

    `prefix` names the speaker where the chat cannot show one: it stands before *every* line and piece, because
    a line without it would be words that somebody put into the bridge's own mouth.
    """

    content: Content
    key: str = ""
    at: int = 0
    prefix: str = ""
    reply: Quote | None = None
    thread: MessageId | None = None


class EditMessage(VerbBase, frozen=True, kw_only=True):
    """Replace the words of `target`. `prefix` as in PostMessage."""

    target: MessageId
    content: Content
    key: str = ""
    prefix: str = ""


class React(VerbBase, frozen=True, kw_only=True):
    """Put `reaction` under `target`."""

    target: MessageId
    reaction: str
    key: str = ""


class Unreact(VerbBase, frozen=True, kw_only=True):
    """Take `reaction` away from `target`. `id` is the reaction's own id where this side gave it one.

    `said_by` is whose it is, where that is somebody else than `speaker`.
    """

    target: MessageId
    reaction: str
    id: MessageId | None = None
    key: str = ""
    said_by: PersonId | None = None


class Retract(VerbBase, frozen=True, kw_only=True):
    """Take `target` back. `said_by` is who said it, where that is somebody else than `speaker`."""

    target: MessageId
    reason: str = ""
    key: str = ""
    said_by: PersonId | None = None


class SetTopic(VerbBase, frozen=True, kw_only=True):
    """Change the topic."""

    topic: str


class SetName(VerbBase, frozen=True, kw_only=True):
    """Call the chat `name`, which is not empty."""

    name: str


class SetAvatar(VerbBase, frozen=True, kw_only=True):
    """Show `avatar`, a file of the other side, as the chat's picture; None: show none."""

    avatar: File | None


class SetTyping(VerbBase, frozen=True, kw_only=True):
    """Show that the speaker types, or no longer does."""

    active: bool


class MarkRead(VerbBase, frozen=True, kw_only=True):
    """Show that the speaker has read everything up to `target`."""

    target: MessageId


class Join(VerbBase, frozen=True, kw_only=True):
    """Enter the chat. `secret` is its password, where somebody gave one: the connector keeps what let it in, sealed
    (`Host.put`), for every later Join of the chat, and takes it over from one who is in the chat already."""

    secret: str = ""


class Leave(VerbBase, frozen=True, kw_only=True):
    """Leave the chat."""

    reason: str = ""


class Depart(VerbBase, frozen=True, kw_only=True):
    """The speaker, whom the performing account shows as one of its own (`facts.Membership.stands_for`), is in the room
    no more, and so in the chat no more. Whoever is not shown there has nothing to leave."""

    reason: str = ""


class Invite(VerbBase, frozen=True, kw_only=True):
    """Ask `person` in."""

    person: Person
    reason: str = ""


class Kick(VerbBase, frozen=True, kw_only=True):
    """Put `person` out."""

    person: Person
    reason: str = ""


class Ban(VerbBase, frozen=True, kw_only=True):
    """Put `person` out for good."""

    person: Person
    reason: str = ""


class Unban(VerbBase, frozen=True, kw_only=True):
    """Let `person` come back."""

    person: Person
    reason: str = ""


class SetRole(VerbBase, frozen=True, kw_only=True):
    """Give `person` the role `role`. `shown`: that is somebody of another side, whom the performing account shows as
    one of its own (`facts.Membership.stands_for`)."""

    person: Person
    role: Role
    shown: bool = False


class ShowProfile(VerbBase, frozen=True, kw_only=True):
    """Show the speaker's present name and picture."""


class FetchHistory(VerbBase, frozen=True, kw_only=True):
    """Emit, as replayed messages, what was said after `since` (ms), or the last `limit` messages."""

    since: int = 0
    limit: int = 100


Verb = (
    PostMessage
    | EditMessage
    | React
    | Unreact
    | Retract
    | SetTopic
    | SetName
    | SetAvatar
    | SetTyping
    | MarkRead
    | Join
    | Leave
    | Depart
    | Invite
    | Kick
    | Ban
    | Unban
    | SetRole
    | ShowProfile
    | FetchHistory
)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a verb: the id that the network gave, and the further ids where it took several messages."""

    id: MessageId | None = None
    more: tuple[MessageId, ...] = ()
    note: str = ""  # what the sender should know: "sent as 3 lines"
