"""The one way in which the fake homeserver says no: a status, a Matrix errcode and a sentence."""

from typing import Any

import msgspec

Json = dict[str, Any]


class Refused(Exception):
    """A call that ends in a Matrix error.

    `status` is the HTTP status, `errcode` the Matrix code, `error` the sentence; `extra` holds further keys
    of the JSON body (such as `retry_after_ms`). Client-Server API, "Standard error response".
    """

    def __init__(self, status: int, errcode: str, error: str, /, **extra: Any) -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.status = status
        self.errcode = errcode
        self.error = error
        self.extra = extra

    def body(self) -> bytes:
        """Return the JSON body of the answer."""
        return msgspec.json.encode({"errcode": self.errcode, "error": self.error, **self.extra})


def forbidden(error: str) -> Refused:
    """403: known caller, not allowed."""
    return Refused(403, "M_FORBIDDEN", error)


def not_found(error: str) -> Refused:
    """404: no such room, event, alias, user or medium."""
    return Refused(404, "M_NOT_FOUND", error)


def bad_json(error: str) -> Refused:
    """400: a body of the wrong shape."""
    return Refused(400, "M_BAD_JSON", error)


def invalid(error: str) -> Refused:
    """400: a parameter outside its range."""
    return Refused(400, "M_INVALID_PARAM", error)


def too_large(error: str) -> Refused:
    """413: an event, a field of one, or an upload past its limit."""
    return Refused(413, "M_TOO_LARGE", error)
