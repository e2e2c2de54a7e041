"""The other side of a connector: what the contract suite drives to see both ends of every promise."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Person


class Ability(StrEnum):
    """What a peer can be made to do; a check that needs more is skipped, and says so."""

    SAY = "say"
    WHISPER = "whisper"
    DROP = "drop"
    REFUSE = "refuse"


class Peer(Protocol):
    """A server, or what stands for one, under the test's control.

    `shared` is what people call a shared chat that the bridge's account can enter, `somebody` a person who can be
    written to alone ("" if there is no such thing), `nowhere` a chat in which nothing can be said ("" if there is
    none).
    """

    abilities: frozenset[Ability]
    shared: str
    somebody: str
    nowhere: str

    async def say(self, chat: ChatId, who: str, words: str) -> None:
        """`who`, who is made if need be, says one line in a shared chat (`Ability.SAY`)."""
        ...

    async def whisper(self, to: Person, who: str, words: str) -> None:
        """`who` says one line to the bridge's own account `to` alone (`Ability.WHISPER`)."""
        ...

    async def received(self, chat: ChatId) -> list[str]:
        """What the bridge's accounts have said in a chat since the start: messages in order, as others read them."""
        ...

    async def injected(self, mark: str) -> list[str]:
        """Whatever else the bridge's accounts sent that begins with `mark`, as a command or header of its own would."""
        ...

    async def drop(self) -> None:
        """Cut the bridge's connections without a word (`Ability.DROP`)."""
        ...

    async def refuse_logins(self) -> None:
        """From now on let nobody in (`Ability.REFUSE`)."""
        ...
