"""Which nick a puppet wants, and which it takes when that one is not to be had."""

from __future__ import annotations

from collections.abc import Collection

from connectors.irc.state import State


def wanted_nick(name: str, state: State, *, suffix: str = "") -> str:
    """A nick that servers accept, made of a display name or user id: never empty, at most NICKLEN with `suffix`."""
    raise NotImplementedError


def next_nick(wanted: str, tried: Collection[str], state: State) -> str:
    """The nick to try after 432, 433, 436 or 437 for `tried`: stable, never one that was tried, within NICKLEN."""
    raise NotImplementedError


def speaker_nick(name: str, separator: str, limit: int) -> str:
    """A nick for RELAYMSG: `name` cleaned, with the separator and what stands after it."""
    raise NotImplementedError
