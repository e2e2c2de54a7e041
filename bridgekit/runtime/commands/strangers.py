"""Commands about strangers."""

from __future__ import annotations

from collections.abc import Mapping

from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core import wording
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.registry import Registry


class StrangerCommands:
    """Decisions about people whose words wait for a nod."""

    def __init__(
        self,
        rights: Rights,
        registry: Registry,
        shields: Shields,
    ) -> None:
        self._rights = rights
        self._registry = registry
        self._shields = shields

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {"strangers": self._strangers, "accept": self._accept, "reject": self._reject}

    async def _strangers(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        lines = [
            wording.strangers(link.name, waiting)
            for link in self._registry.links_of(room)
            if (waiting := self._shields.strangers(link.key))
        ]
        return "\n".join(lines) or wording.NO_STRANGERS

    async def _accept(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._nod(room, sender, words, accepts=True)

    async def _reject(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._nod(room, sender, words, accepts=False)

    async def _nod(self, room: ChatId, sender: PersonId, words: list[str], *, accepts: bool) -> str:
        """Decide about a stranger, wherever in the room's chats somebody of that name waits."""
        if not words:
            raise NotAllowed("Say `!bridge accept <who>` or `!bridge reject <who>`.")
        await self._rights.need_power(room, sender, moderator=True)
        who = " ".join(words)
        said = [
            await self._shields.nod(link.key, person, accepts=accepts, by=sender)
            for link in self._registry.links_of(room)
            if (person := self._shields.find(link.key, who)) is not None
        ]
        return "\n".join(said) or wording.nobody_waits(who)
