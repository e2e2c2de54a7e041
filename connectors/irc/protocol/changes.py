"""What one line changed in a connection's state: the answers of `State.feed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from connectors.irc.protocol.batches import Batch
    from connectors.irc.protocol.roll import Channel, User


class Welcomed(msgspec.Struct, frozen=True):
    """001: the server took us under this nick."""

    nick: str


class SupportChanged(msgspec.Struct, frozen=True):
    """005 said something new."""


class CapsListed(msgspec.Struct, frozen=True):
    """CAP LS is complete: ask for what is wanted."""


class CapsChanged(msgspec.Struct, frozen=True):
    """CAP ACK, NAK, NEW or DEL. `offered` are new ones worth asking for, `refused` what a NAK named."""

    enabled: frozenset[str] = frozenset()
    disabled: frozenset[str] = frozenset()
    offered: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


class Came(msgspec.Struct, frozen=True):
    """`user` is in `channel` now; `own` if it is us."""

    channel: Channel
    user: User
    own: bool = False


class Went(msgspec.Struct, frozen=True):
    """`user` left `channel`: PART, or KICK if `kicked`. `actor` is the source of the line."""

    channel: Channel
    user: User
    own: bool = False
    kicked: bool = False
    actor: str = ""
    reason: str = ""


class Quit(msgspec.Struct, frozen=True):
    """`user` left the network (QUIT, KILL seen by its QUIT); `channels` are those that we shared. `own`: it is us."""

    user: User
    channels: tuple[Channel, ...]
    reason: str = ""
    own: bool = False


class Renamed(msgspec.Struct, frozen=True):
    """The user who was called `old` is `user` now."""

    user: User
    old: str
    channels: tuple[Channel, ...]
    own: bool = False


class UserChanged(msgspec.Struct, frozen=True):
    """Account, host, real name or away of `user` is another one now."""

    user: User
    what: str  # "account", "host", "realname" or "away"


class TopicIs(msgspec.Struct, frozen=True):
    """The channel's topic; `actor` is the source of the TOPIC line, "" where it was only read."""

    channel: Channel
    actor: str = ""


class PrefixChanged(msgspec.Struct, frozen=True):
    """`user` has other prefixes in `channel` now."""

    channel: Channel
    user: User
    actor: str = ""


class MaskChanged(msgspec.Struct, frozen=True):
    """A list mode (b, e, I, q ...) got or lost `mask`."""

    channel: Channel
    letter: str
    mask: str
    added: bool
    actor: str = ""


class ModesAre(msgspec.Struct, frozen=True):
    """The channel's own modes are known, or changed."""

    channel: Channel
    actor: str = ""


class NamesEnded(msgspec.Struct, frozen=True):
    """366: everybody who is in `channel` has been named."""

    channel: Channel


class WhoEnded(msgspec.Struct, frozen=True):
    """315: hosts and, with WHOX, accounts of the members are known."""

    channel: Channel


class BatchEnded(msgspec.Struct, frozen=True):
    """A batch is over; a multiline batch has its lines."""

    batch: Batch


class Gone(msgspec.Struct, frozen=True):
    """We share no channel with this nick any more: what it was called means nothing from now on."""

    nick: str


Change = (
    Welcomed
    | SupportChanged
    | CapsListed
    | CapsChanged
    | Came
    | Went
    | Quit
    | Renamed
    | UserChanged
    | TopicIs
    | PrefixChanged
    | MaskChanged
    | ModesAre
    | NamesEnded
    | WhoEnded
    | BatchEnded
    | Gone
)
