"""Opaque identifiers: nobody but the side that made one may look inside it."""

from typing import NewType

import msgspec

NetworkId = NewType("NetworkId", str)
"""A network as the config names it: `[a-z][a-z0-9-]*`."""
ChatId = NewType("ChatId", str)
"""One conversation on one side. On the Matrix side: a room id."""
PersonId = NewType("PersonId", str)
"""One person on one side, stable while the name changes. On the Matrix side: a user id."""
MessageId = NewType("MessageId", str)
"""One message on one side, unique within its chat. On the Matrix side: an event id."""
LoginId = NewType("LoginId", str)
"""One Matrix user's own account on one network."""

MATRIX = NetworkId("matrix")
"""The network id of the Matrix side itself; no configured network may be called so."""


class PortalKey(msgspec.Struct, frozen=True, array_like=True, cache_hash=True):
    """One chat of one network, as the bridge sees it.

    `receiver` is None for a chat that everybody shares (a channel) and the login for a chat that only that
    account sees (a direct conversation), because two accounts' conversations with one person are two chats.
    """

    network: NetworkId
    chat: ChatId
    receiver: LoginId | None = None

    def __str__(self) -> str:
        tail = f" ({self.receiver})" if self.receiver else ""
        return f"{self.network}:{self.chat}{tail}"
