"""How people come together, where a network has more than rooms that anybody enters: what some sessions have."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Login, Person


@runtime_checkable
class IsInvited(Protocol):
    """The session of somebody's own account that is asked into shared chats and may be in them alone.

    Who links such a chat agrees (`Join`, before the relay's); declining is `Leave`.
    """

    def is_invited(self, chat: ChatId) -> bool:
        """Whether the account was asked into a shared chat and its owner has not answered."""
        ...


@runtime_checkable
class FindsPeople(Protocol):
    """A session that can look for people by something else than their whole address."""

    async def find(self, words: str) -> list[Person]:
        """Those who let themselves be found by these words; `name` is for people. Raises RemoteError with a sentence,
        also for words that name no place to look."""
        ...


@runtime_checkable
class MakesCodes(Protocol):
    """A session that can let people into its closed chats by a code that is passed on by hand: a `Join`'s secret."""

    async def make_code(self, chat: ChatId) -> str:
        """A new code, besides those that there are. Raises RemoteError."""
        ...

    async def end_codes(self, chat: ChatId) -> int:
        """No code lets anybody in from now on; how many there were. Raises RemoteError."""
        ...


@runtime_checkable
class TakesLeave(Protocol):
    """A network that keeps something of an account beside its sessions: keys, places in chats, what was agreed."""

    async def take_leave(self, login: Login) -> None:
        """The account is being taken away; its session has ended. What follows is on disk when this returns, and done
        sooner or later: the account's places are given up, others are told, nothing of it is kept. Raises nothing.

        After a crash it may be said again, or the account be connected again instead: then it stays.
        """
        ...


@runtime_checkable
class ForgetsOwners(Protocol):
    """A network that keeps something of Matrix users for longer than their accounts: whom a ban hit, say."""

    async def forget_owner(self, owner: PersonId) -> list[str]:
        """The Matrix user is erased, and has no account there any more: nothing that names them is kept, on disk when
        this returns. Sentences for the admin on what the network can do no more for want of it. Raises nothing.

        What holds on the network (a ban) holds on.
        """
        ...
