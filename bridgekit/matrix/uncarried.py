"""What a person sends that no network can have, and the sentence that tells them so (pure).

A type that is not known here is somebody's words if it holds a text for people, as extensible events do (MSC1767);
otherwise it is between programs (a client's candidates for a call, another bridge's status), and nobody is told.
"""

from __future__ import annotations

import re
from typing import Any

from bridgekit.matrix.events import Event, plain_object

CALL = "Calls are not passed on: nobody's phone rang on the other side."
VOTE = "Votes are not passed on: write your answer, and the other side reads it."
END = "The end of a poll is not passed on: write how it went, and the other side reads it."
BEACON = "A live location is not passed on: send the place once, and the other side sees it."

_KNOWN = {
    "m.call.invite": CALL,
    # MSC4075: how a client of MatrixRTC lets it ring
    "m.call.notify": CALL,
    "m.rtc.notification": CALL,
    "org.matrix.msc4075.call.notify": CALL,
    "org.matrix.msc4075.rtc.notification": CALL,
    # MSC3381
    "m.poll.response": VOTE,
    "org.matrix.msc3381.poll.response": VOTE,
    "m.poll.end": END,
    "org.matrix.msc3381.poll.end": END,
    # MSC3489, MSC3672: one every few seconds
    "m.beacon": BEACON,
    "org.matrix.msc3672.beacon": BEACON,
}
_SILENT = re.compile(r"m\.call\.|m\.key\.verification\.|m\.room\.encrypted$|com\.beeper\.")
_WORDS = ("body", "m.text", "org.matrix.msc1767.text", "m.message", "org.matrix.msc1767.message")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


def refusal(event: Event) -> str | None:
    """Why a message-like event that is no fact is not passed on, as a sentence; None where nobody waits for it."""
    if (known := _KNOWN.get(event.type)) is not None:
        return known
    if _SILENT.match(event.type):
        return None
    content = plain_object(event.content)
    if content is None or not any(_says_something(content.get(key)) for key in _WORDS):
        return None
    called = f" ({event.type})" if _NAME.fullmatch(event.type) else ""
    return f"The bridge does not know this kind of message{called}, and cannot pass it on: write it as text."


def _says_something(value: Any) -> bool:
    """Whether there is text: a string, or the representations of MSC1767."""
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, list) and bool(value)
