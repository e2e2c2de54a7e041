"""What one chat can carry: a set of verb types, styles and limits."""

from __future__ import annotations

import msgspec

from bridgekit.contract.people import Kind
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import Style
from bridgekit.contract.verbs import VerbBase


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What one session can do in one chat today.

    `speakers`: it shows a foreign speaker by itself (a component, a relaying extension); otherwise the words
    start with the name. `replies`, `threads`, `files`: natively. `max_bytes` and `max_lines` bound one
    message (UTF-8 bytes, and lines as they are sent), 0 is no bound; a longer one becomes a link to the full text.
    `line_bytes`: where a line of the network holds so many bytes and no more, a longer one counts as several; 0: any.
    `protection`: of this chat; where it changes, `ChatOpened` is said anew.
    `pipeline` verbs of one account may be under way at once; their effects keep the order of the calls.
    """

    verbs: frozenset[type[VerbBase]]
    styles: frozenset[Style] = frozenset()
    kinds: frozenset[Kind] = frozenset({Kind.TEXT})
    speakers: bool = False
    replies: bool = False
    threads: bool = False
    files: bool = False
    max_bytes: int = 0
    max_lines: int = 0
    line_bytes: int = 0
    protection: Protection = Protection.CLEAR
    pipeline: int = 1
    idempotent: bool = False  # a verb with a key that was performed already does nothing the second time
