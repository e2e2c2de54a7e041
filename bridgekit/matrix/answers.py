"""What a homeserver's refusal means, in the contract's errors and in a sentence for people (pure)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import msgspec

from bridgekit.contract.errors import (
    HomeserverUnavailable,
    MatrixError,
    MatrixForbidden,
    MatrixRateLimited,
    MatrixRefused,
)
from bridgekit.matrix.wire import Answer

LONGEST_HOLD = 3600.0

SENTENCES = {
    "M_UNKNOWN_TOKEN": "The homeserver does not know the bridge's token: the registration there is missing or old.",
    "M_MISSING_TOKEN": "The homeserver did not get the bridge's token; a proxy before it may have taken it away.",
    "M_EXCLUSIVE": "This name belongs to another bridge's namespace, or lies outside of this bridge's own.",
    "M_NOT_FOUND": "The homeserver knows no such thing.",
    "M_UNRECOGNIZED": "The homeserver does not know this call; it may be too old.",
    "M_TOO_LARGE": "It is too large for the homeserver.",
    "M_ROOM_IN_USE": "This address is taken by another room.",
    "M_BAD_STATE": "The room is not in a state where this can be done.",
    "M_UNSUPPORTED_ROOM_VERSION": "The homeserver does not know this version of rooms.",
    "M_INCOMPATIBLE_ROOM_VERSION": "The homeserver is too old for this room's version.",
    "M_CONSENT_NOT_GIVEN": "The homeserver wants its terms to be agreed to first.",
    "M_RESOURCE_LIMIT_EXCEEDED": "The homeserver has reached a limit of its own; its administrator must look at it.",
    "M_USER_DEACTIVATED": "This account was deactivated on the homeserver.",
    "M_GUEST_ACCESS_FORBIDDEN": "The room does not let guests in.",
    "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM": "Nobody may leave the room of server notices.",
    "M_WEAK_PASSWORD": "The password is too weak.",
    "M_THREEPID_DENIED": "The homeserver does not allow this address.",
}
ABOUT_OTHERS = frozenset({"M_BAD_STATUS", "M_CONNECTION_FAILED", "M_CONNECTION_TIMEOUT"})
"""5xx answers of POST /appservice/{id}/ping that say how the appservice, and not the homeserver, is."""
_PLAIN_REFUSALS = {400: "M_BAD_JSON", 413: "M_TOO_LARGE", 414: "M_TOO_LARGE", 431: "M_TOO_LARGE"}


class ElsewhereUnavailable(HomeserverUnavailable):
    """The homeserver is well, but something that it needs for this is not: another server, one of its processes."""


class _Error(msgspec.Struct):
    errcode: str
    error: str = ""
    retry_after_ms: float | None = None


_error = msgspec.json.Decoder(_Error).decode


def named(answer: Answer) -> MatrixError:
    """The error that an answer is (any but a good one, or a good one whose body is not what was asked for)."""
    status = answer.status
    try:
        body = _error(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = None
    if status == 429 or (body is not None and body.errcode == "M_LIMIT_EXCEEDED"):
        return MatrixRateLimited(
            "The homeserver asks to slow down; try again in a moment.", retry_after=_retry_after(answer, body)
        )
    if status in (401, 403) and body is not None and body.errcode == "M_FORBIDDEN":
        return MatrixForbidden(
            _sentence(body, "This is not allowed there"), errcode="M_FORBIDDEN", status=status
        )
    if 400 <= status < 500 and status != 408:
        if body is not None:
            return MatrixRefused(
                _sentence(body, "The homeserver refused it"), errcode=body.errcode, status=status
            )
        if status in _PLAIN_REFUSALS:  # a proxy's own words, true for this request every time
            code = _PLAIN_REFUSALS[status]
            return MatrixRefused(_sentence(_Error(code), "It was refused"), errcode=code, status=status)
    if body is not None and (status == 501 or body.errcode in ABOUT_OTHERS):
        return MatrixRefused(
            _sentence(body, "The homeserver cannot do it"), errcode=body.errcode, status=status
        )
    if body is not None and status in (502, 504):
        return ElsewhereUnavailable(
            _sentence(body, "The homeserver got no answer from another server"),
            retry_after=_retry_after(answer, body),
        )
    where = (answer.header(b"location") or b"").decode("latin-1")
    if 300 <= status < 400:
        return HomeserverUnavailable(
            f"The homeserver's address leads elsewhere (to {where[:200]}): correct the url."
        )
    what = f"status {status}" if status >= 300 else "an answer that is none"
    return HomeserverUnavailable(
        f"The homeserver is in trouble ({what}); try again later.", retry_after=_retry_after(answer, body)
    )


def _sentence(body: _Error, start: str) -> str:
    if known := SENTENCES.get(body.errcode):
        return known
    said = " ".join(body.error.split())[:300].rstrip(".")
    return f"{start}: {said}." if said else f"{start} ({body.errcode})."


def _retry_after(answer: Answer, body: _Error | None) -> float:
    """Seconds: the body's, else the header's (RFC 9110 10.2.3: seconds or a date), else one."""
    seconds = 1.0
    if body is not None and body.retry_after_ms is not None:
        seconds = body.retry_after_ms / 1000
    elif (header := answer.header(b"retry-after")) is not None:
        try:
            seconds = float(header)
        except ValueError:
            seconds = _until(answer, header)
    return min(max(seconds, 0.05), LONGEST_HOLD) if seconds == seconds else 1.0


def _until(answer: Answer, header: bytes) -> float:
    """From the answer's own Date to the date in the header, so that no clock is read."""
    try:
        end = parsedate_to_datetime(header.decode("latin-1"))
        start = parsedate_to_datetime((answer.header(b"date") or b"").decode("latin-1"))
        return (end - start).total_seconds()
    except (ValueError, TypeError):
        return 1.0
