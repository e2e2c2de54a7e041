"""Which user a client belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.uris import Thing, Uri


class People:
    """Clients and their users. `learned` is what providers said of their own, in answers to key material requests.

    The drafts leave open how a credential names the user (draft-ietf-mimi-protocol-06 4.2, TODO). Where nothing was
    said, the first segment of the client's name is the user's: mimi://a.example/d/alice/phone is alice's.
    """

    def __init__(self, learned: Mapping[str, str] | None = None) -> None:
        self._learned: dict[str, dict[str, str]] = {}  # by domain
        self.changes = 0
        """How often anything was learned or forgotten."""
        for client, user in (learned or {}).items():
            self.learn(client, user)

    def learn(self, client: str, user: str) -> None:
        """Raises PeerMisbehaved where a provider claims a client for a user of another."""
        domain = uris.parse(client, Thing.CLIENT).domain
        if domain != uris.parse(user, Thing.USER).domain:
            raise PeerMisbehaved(
                "The other side says that a client of one provider belongs to a user of another."
            )
        of_theirs = self._learned.setdefault(domain, {})
        of_theirs.pop(client, None)
        of_theirs[client] = user
        self.changes += 1

    def forget_oldest(self, domain: str, most: int) -> list[str]:
        """Keep what was learned last of a provider's clients; the names of the others."""
        of_theirs = self._learned.get(domain, {})
        forgotten = list(of_theirs)[: max(0, len(of_theirs) - most)]
        for client in forgotten:
            del of_theirs[client]
        self.changes += bool(forgotten)
        return forgotten

    def user_of(self, client: bytes | None) -> str:
        """The user of the client named in a credential. Raises PeerMisbehaved where that names no client."""
        try:
            name = (client or b"").decode()
        except UnicodeDecodeError:
            raise PeerMisbehaved("The other side's credential names no client.") from None
        parsed = uris.parse(name, Thing.CLIENT)
        if (user := self._learned.get(parsed.domain, {}).get(name)) is not None:
            return user
        return str(Uri(parsed.domain, Thing.USER, parsed.name.partition("/")[0]))
