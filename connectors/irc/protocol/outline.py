"""A line to send, before it is bytes, and the settings that shape it."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from connectors.irc.protocol.wire import build


class Urgency(IntEnum):
    """What goes first when lines wait for flood control."""

    NOW = 0  # PING, PONG, QUIT
    MODERATION = 1
    TALK = 2
    LAZY = 3  # WHO, history, typing, CTCP answers


class OutLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line to send. Everything in it is clean already: `encode` cannot fail.

    `echoed`: with echo-message on, the server sends it back (match it by label, or by target and text). In a
    multiline batch that is its first line, which the label goes on.
    `glued`: nothing may go between the line before and this one (a batch).
    """

    command: str
    params: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    urgency: Urgency = Urgency.TALK
    echoed: bool = False
    glued: bool = False

    def encode(self, label: str = "") -> bytes:
        """The bytes, with `label` as their label tag where one is given (labeled-response)."""
        return build(self.command, *self.params, tags={**self.tags, "label": label} if label else self.tags)


class BanMask(StrEnum):
    """Whom a ban hits."""

    HOST = "host"  # *!*@host
    NICK = "nick"  # nick!*@*
    BOTH = "both"  # nick!*@host


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What of the config, and of whose connection it is, these functions need: `relays` others' words, or has only its
    owner's to say."""

    max_lines: int = 6
    relays: bool = True
    ban_mask: BanMask = BanMask.HOST
    tls: bool = True
    formatting: bool = True
