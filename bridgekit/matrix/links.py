"""Signed links that expire: how a remote network reads a Matrix file or a long message (pure)."""

from __future__ import annotations

from collections.abc import Callable

from bridgekit.contract.ids import ChatId, MessageId


class Links:
    """Links below `base_url` (None or empty: there are none), signed with `key`, valid for `lifetime` seconds."""

    def __init__(self, base_url: str | None, key: bytes, lifetime: int, *, now: Callable[[], float]) -> None:
        raise NotImplementedError

    def media(self, mxc: str, name: str) -> str | None:
        """A link to a file; None where no public address is configured or `mxc` is no mxc address."""
        raise NotImplementedError

    def text(self, room: ChatId, event_id: MessageId) -> str | None:
        """A link to the words of one event; None where no public address is configured."""
        raise NotImplementedError
