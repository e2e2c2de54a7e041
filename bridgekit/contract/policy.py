"""The two lattices: who may read (exposure) and who can read in transit (protection)."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


class Exposure(IntEnum):
    """Who may read what is said in a chat; each step lets more people in."""

    PRESENT = 0  # those who are there at that moment
    JOINED = 1
    INVITED = 2
    SHARED = 3  # later joiners too
    WORLD_READABLE = 4


class Protection(IntEnum):
    """Who can read the words on their way; each step lets fewer people in."""

    CLEAR = 0
    TRANSPORT = 1
    BRIDGE = 2  # encrypted up to the bridge
    END_TO_END = 3  # ciphertext that the bridge cannot open


class Entry(StrEnum):
    """How somebody gets into a chat."""

    OPEN = "open"
    KNOCK = "knock"
    INVITE = "invite"


class Visibility(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a network says of one chat today. Each default is the most secret: unknown means secret."""

    exposure: Exposure = Exposure.PRESENT
    entry: Entry = Entry.INVITE
    listed: bool = False
    moderated: bool = False
    known: bool = False
    detail: str = ""  # the network's own words, for people: "+nst"
