"""IRC's formatting codes and neutral rich text, in both directions."""

from __future__ import annotations

from bridgekit.contract.text import Style, Text

STYLES: frozenset[Style] = frozenset(Style)
"""What `encode` can show, one way or another."""


def decode(raw: str) -> Text:
    """The words of one message and the styles that its codes give them. Never raises."""
    raise NotImplementedError


def encode(text: Text) -> str:
    """The words with codes that reset themselves before a line's end, so that every piece stands alone.

    Line feeds stay; control characters in the body go. `decode(encode(text))` has the same words and styles.
    """
    raise NotImplementedError


def cost(text: Text) -> int:
    """UTF-8 bytes of `encode(text)`: what a piece costs on the wire."""
    return len(encode(text).encode())
