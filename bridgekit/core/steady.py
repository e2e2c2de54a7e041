"""A chat's visibility, steadied: more secret at once, more open only after it has been calm for a while."""

from __future__ import annotations

import msgspec

from bridgekit.contract.policy import Entry, Visibility

CALM = 30_000
"""Milliseconds without a change after which a chat that has opened counts as open. Ten thousand flips of a mode are
so one lowering and one raising, and a mode that was taken away by mistake costs nothing."""

OFTEN = 2
"""More changes than that before it is calm again are worth a word: to close and to open again is nothing unusual."""

_ORDER = (Entry.INVITE, Entry.KNOCK, Entry.OPEN)


class Steady(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`shown` is what counts; `said` is what the network said last, at `changed` (ms)."""

    shown: Visibility = Visibility()
    said: Visibility = Visibility()
    changed: int = 0
    flips: int = 0  # changes since the last calm

    @property
    def restless(self) -> bool:
        """Whether the network says something more open than what counts."""
        return self.shown != self.said

    @property
    def due(self) -> int:
        """When (ms) `calmed` will make a difference; 0 where there is nothing to wait for."""
        return self.changed + CALM if self.restless or self.flips else 0

    @property
    def flickered(self) -> bool:
        """Whether it changed again and again since the last calm."""
        return self.flips > OFTEN


def more_secret(one: Visibility, other: Visibility) -> Visibility:
    """The meet of what a network said at two moments; `other`'s own words stay."""
    return Visibility(
        exposure=min(one.exposure, other.exposure),
        entry=min(one.entry, other.entry, key=_ORDER.index),
        listed=one.listed and other.listed,
        moderated=other.moderated,
        known=one.known and other.known,
        detail=other.detail,
    )


def heard(steady: Steady | None, said: Visibility, now: int) -> Steady:
    """The network says `said` at `now`. The first thing that is heard after a start counts as it is."""
    if steady is None or (not steady.said.known and not steady.shown.known):
        return Steady(shown=said, said=said, changed=now)
    if said == steady.said:
        return steady
    lower = more_secret(steady.shown, said)
    return Steady(shown=lower, said=said, changed=now, flips=steady.flips + 1)


def calmed(steady: Steady, now: int) -> Steady:
    """What counts at `now`, where nothing more was heard."""
    if now < steady.due:
        return steady
    return Steady(shown=steady.said, said=steady.said, changed=steady.changed)
