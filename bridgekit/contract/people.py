"""Who speaks and what is said: the values that facts and verbs are made of."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from bridgekit.contract.ids import LoginId, MessageId, NetworkId, PersonId
from bridgekit.contract.text import Text


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody on one side. `id` is the identity; `name` is only what to show."""

    id: PersonId
    name: str
    account: str | None = None  # what the network vouches for, where it does
    avatar: File | None = None
    bot: bool = False  # a service or another bridge's puppet: never answered, never asked


class Portrait(msgspec.Struct, frozen=True, kw_only=True):
    """How a Matrix user shows themselves: a name, and the bytes of a small picture; empty where they have none."""

    name: str = ""
    picture: bytes = b""


class Kind(StrEnum):
    """How a message is meant."""

    TEXT = "text"
    EMOTE = "emote"  # "/me waves": the text without the name
    NOTICE = "notice"  # said by a machine; nothing may answer it by itself


class File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file by reference; the bytes travel through `Host.open_media` and never through a fact.

    `uri` is `mxc://` on the Matrix side and whatever the network has elsewhere (mostly `https://`).
    `size` counts bytes, `width` and `height` pixels, `duration` milliseconds; 0 is unknown.
    """

    uri: str
    name: str
    mime: str = "application/octet-stream"
    size: int = 0
    width: int = 0
    height: int = 0
    duration: int = 0
    key: bytes | None = (
        None  # where it lies encrypted: how to open it (elsewhere than on Matrix: `contract.filekeys`)
    )
    via: NetworkId | None = None  # whose connector opens it (`Host.opens_files`); None: its address is enough
    spoiler: str | None = None  # where it is shown on request only: why, "" if no reason was given
    link: str = ""  # for chats that do not take it: an address where everybody can read it for a while
    linkless: str = ""  # why there is no such address: "this bridge has no public address to link to"


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one message says: words, a file, or a file with words."""

    text: Text = Text("")
    kind: Kind = Kind.TEXT
    file: File | None = None


class Quote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The message that is answered: its id on this side if it has one, and enough to show it in words."""

    id: MessageId | None = None
    author: str = ""
    words: str = ""  # empty where the reader may not see them
    at: int = 0


class Role(IntEnum):
    """What a person may do in a chat, in the order that every network agrees on."""

    MUTED = -1  # may read and not speak, wherever that is
    NONE = 0  # may read; may not speak where the chat is moderated
    VOICE = 10
    HALF_MODERATOR = 40
    MODERATOR = 50
    ADMIN = 75
    OWNER = 100


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person in a chat and their role there."""

    person: Person
    role: Role = Role.NONE


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """One Matrix user's own account on one network. `fields` are what the connector's manifest asks for."""

    id: LoginId
    owner: PersonId
    fields: dict[str, str] = {}

    def __repr__(self) -> str:  # fields hold passwords
        return f"Login(id={self.id!r}, owner={self.owner!r})"
