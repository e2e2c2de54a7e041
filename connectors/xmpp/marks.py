"""Our own ids on the wire: known again after a restart, the same at every try, made by nobody else."""

from __future__ import annotations

import hashlib
import hmac

_LEAD = "bk-"
_BODY, _TAG = 20, 12


class Marks:
    """Ids that begin with `bk-` and end with a tag under a secret that never leaves the bridge."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, token: str) -> str:
        """An id; the same for the same token. Everybody in a room reads it, nobody can make another."""
        body = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:_BODY]
        return f"{_LEAD}{body}{self._tag(body)}"

    def is_ours(self, id: str) -> bool:
        """Whether we made it."""
        body = id[len(_LEAD) : -_TAG]
        return (
            id.startswith(_LEAD)
            and len(body) == _BODY
            and id.isascii()
            and hmac.compare_digest(id[-_TAG:], self._tag(body))
        )

    def _tag(self, body: str) -> str:
        return hmac.new(self._secret, body.encode(), hashlib.sha256).hexdigest()[:_TAG]
