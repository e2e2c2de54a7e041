"""Mode strings, read by what CHANMODES and PREFIX say of each letter."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from connectors.irc.protocol.isupport import Support


class Sort(StrEnum):
    """What a channel mode's letter means; ISUPPORT CHANMODES calls all but the first A, B, C and D."""

    PREFIX = "prefix"
    LIST = "list"
    ALWAYS = "always"
    WHEN_SET = "when_set"
    FLAG = "flag"


class ModeChange(msgspec.Struct, frozen=True):
    """One letter set or taken away; `param` is "" where it has none."""

    added: bool
    letter: str
    param: str
    sort: Sort


def sort_of(letter: str, support: Support) -> Sort:
    """What `letter` is on this server; an unknown one is a flag."""
    if letter in support.prefix_modes:
        return Sort.PREFIX
    for letters, sort in zip(
        support.chanmodes, (Sort.LIST, Sort.ALWAYS, Sort.WHEN_SET, Sort.FLAG), strict=True
    ):
        if letter in letters:
            return sort
    return Sort.FLAG


def read(words: str, params: Sequence[str], support: Support) -> list[ModeChange]:
    """The changes that `+ov-k alice bob key` makes, in order. A letter without the parameter it needs is left out."""
    changes: list[ModeChange] = []
    rest = iter(params)
    added = True
    for letter in words:
        if letter in "+-":
            added = letter == "+"
            continue
        sort = sort_of(letter, support)
        takes = sort in (Sort.PREFIX, Sort.LIST, Sort.ALWAYS) or (sort is Sort.WHEN_SET and added)
        param = next(rest, "") if takes else ""
        # Taking a key away goes without the key on many servers; a list letter alone asks for the list
        if takes and not param and sort in (Sort.PREFIX, Sort.LIST):
            continue
        changes.append(ModeChange(added, letter, param, sort))
    return changes


def write(changes: Sequence[tuple[bool, str, str]], per_line: int) -> list[tuple[str, ...]]:
    """The parameters of as few MODE commands as `per_line` allows: (added, letter, param) each, in order."""
    out: list[tuple[str, ...]] = []
    for start in range(0, len(changes), per_line):
        words, sign = "", ""
        params: list[str] = []
        for added, letter, param in changes[start : start + per_line]:
            if sign != ("+" if added else "-"):
                sign = "+" if added else "-"
                words += sign
            words += letter
            if param:
                params.append(param)
        out.append((words, *params))
    return out
