"""Who may tell the bridge what, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core.corrections import power_of
from bridgekit.core.model import Permission
from bridgekit.core.rates import Buckets, Rate
from bridgekit.core.roles import number
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Link

Command = Callable[[ChatId, PersonId, list[str]], Awaitable[str]]
"""The room, who says it, and the words that follow; the answer."""
FOR_EVERYBODY = ("status", "stop")
"""Commands of those, too, who may do no more than be relayed."""
REQUESTS = Rate(10, 60_000)
"""Commands of one user that make the bridge connect, knock or speak somewhere."""


class Rights:
    """Who may say what. All but `is_admin` raise NotAllowed, with the reason, where somebody may not."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        portals: Portals,
        *,
        permission: Callable[[PersonId], Permission],
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._portals = portals
        self._permission = permission
        self._asked: Buckets[PersonId] = Buckets(REQUESTS)

    def may_command(self, sender: PersonId, command: str) -> None:
        """Whether somebody may give this command at all."""
        permission = self._permission(sender)
        if permission is Permission.NONE or (permission is Permission.RELAY and command not in FOR_EVERYBODY):
            raise NotAllowed("You are not allowed to command this bridge: ask its admin.")

    def is_admin(self, sender: PersonId) -> bool:
        """Whether it is an admin of the bridge."""
        return self._permission(sender) is Permission.ADMIN

    def spend(self, sender: PersonId) -> None:
        """What follows makes the bridge connect, knock or speak somewhere. Raises NotAllowed where that is too much
        at once."""
        if not self._asked.take(sender, now()):
            raise NotAllowed("You ask for more than I do at once: try again in a minute.")

    async def need_power(
        self, room: ChatId, sender: PersonId, *, admin: bool = True, moderator: bool = False
    ) -> None:
        """Linking is for those who may change the room (the level of m.bridge, else state_default); what concerns
        people, for those who may put somebody out."""
        if admin and self.is_admin(sender):
            return
        levels = await self._client.state(room, "m.room.power_levels")
        power = power_of(levels, sender)
        have, need = power.level, power.needs.get("m.bridge", power.default)
        if moderator:
            need = number((levels or {}).get("kick"), 50)
        if have < need and sender not in await self._client.creators(room):
            raise NotAllowed(f"You need power level {need} in this room for that; you have {have}.")

    async def link_of(self, room: ChatId, sender: PersonId, command: str, words: list[str]) -> Link:
        """The link that a command is about, for who may say so: the room's own people, whatever the admin may do."""
        link = self.meant(room, command, words)
        await self.need_say(room, sender, [link])
        return link

    def meant(self, room: ChatId, command: str, words: list[str]) -> Link:
        """The link of the room that the words name; without words the only one. Raises NotAllowed."""
        links = self._registry.links_of(room)
        if words:
            network, name = NetworkId(words[0]), words[1] if len(words) > 1 else ""
            # A direct chat is named like a shared one: what it is called is what the bridge said of it.
            named = self._portals.named(network, name)
            chat = named[0] if named is not None else self._portals.find_chat(network, name).chat
            links = [link for link in links if (link.key.network, link.key.chat) == (network, chat)]
        if len(links) != 1:
            raise NotAllowed(
                f"Say `!bridge {command} <network> <chat>`; `!bridge status` shows what is linked here."
            )
        return links[0]

    async def need_say(self, room: ChatId, sender: PersonId, links: list[Link]) -> None:
        """What becomes of a room's words on these links its own people decide; in a direct chat, whose chat it is."""
        if links and all(link.creator == sender and link.key.receiver is not None for link in links):
            return
        await self.need_power(room, sender, admin=False)
