"""Who is who: nicks change, persons do not. One `Identity` for a network, one `View` of it for each connection."""

from __future__ import annotations

from bridgekit.contract.ids import PersonId


class Identity:
    """The persons of one network, shared by its connections.

    A person's id is the folded nick at first sight, with `~2`, `~3` ... where that id is in use by somebody else.
    """

    def __init__(self) -> None: ...

    def view(self, name: str) -> View:
        """The view of the connection called `name` (unique), a new and empty one each time."""
        raise NotImplementedError

    def drop(self, name: str) -> None:
        """That connection is lost: what only it saw is remembered, and holds again only with proof."""
        raise NotImplementedError

    def export(self) -> bytes:
        """Everything that must outlive the process, for `Host.put`; bounded in size."""
        raise NotImplementedError

    def restore(self, data: bytes) -> None:
        """Take an export back in; one that cannot be read is nothing."""
        raise NotImplementedError


class View:
    """What one connection has seen, in the order in which it saw it. Nicks and persons are one to one at every moment."""

    def person(self, nick: str, *, user: str = "", host: str = "", account: str | None = None) -> PersonId:
        """Who `nick` is; somebody new at first sight. What is known beside the nick is kept as proof."""
        raise NotImplementedError

    def rename(self, old: str, new: str) -> PersonId:
        """The person called `old` is called `new`. Whoever was called `new` is forgotten."""
        raise NotImplementedError

    def forget(self, nick: str) -> None:
        """`nick` left all that we share: the name means nothing any more."""
        raise NotImplementedError

    def nick(self, person: PersonId) -> str | None:
        """What the person is called now, as they write it. A person never seen is called by their id; None where
        that name belongs to somebody else now, so that nothing passes to a stranger."""
        raise NotImplementedError

    def settle(self) -> None:
        """Everything was read after a reconnect: whoever has not come back by now is forgotten."""
        raise NotImplementedError

    def set_casemapping(self, mapping: str) -> None:
        """Fold by `mapping` from now on."""
        raise NotImplementedError
