"""Whose devices the bridge encrypts to, and believes (pure)."""

from __future__ import annotations

from enum import StrEnum


class Trust(StrEnum):
    """What a Matrix device needs, so that it gets the keys of encrypted rooms and what it says is passed on."""

    CROSS_SIGNED = "cross_signed"
    """Its owner has verified it: their identity has signed it. Clients that exclude insecure devices (MSC4153) ask the
    same of others."""
    ALL = "all"
    """Nothing."""
