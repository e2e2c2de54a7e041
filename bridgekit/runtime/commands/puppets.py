"""Commands about the device with which somebody's own user speaks in encrypted rooms."""

from __future__ import annotations

from collections.abc import Mapping

from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto.puppets import Puppets, Standing
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.registry import Registry

USAGE = "Say `!bridge puppet on` or `!bridge puppet off`."
STANDINGS = {
    Standing.NONE: "You have no device here: in encrypted rooms your ghost says what you say from elsewhere. "
    + USAGE,
    Standing.UNSIGNED: "Your device here waits to be verified: until then your ghost speaks in encrypted rooms.",
    Standing.SIGNED: "Your device here is verified: in encrypted rooms, too, what you say from elsewhere carries your "
    "own name.",
}
REMOVED = "Your device here is signed out, and its keys are forgotten: in encrypted rooms your ghost speaks for you."


class PuppetCommands:
    """`offered`: double puppets are on in the config; `server` is the homeserver whose users may have one."""

    def __init__(
        self, rights: Rights, registry: Registry, puppets: Puppets, *, offered: bool, server: str
    ) -> None:
        self._rights = rights
        self._registry = registry
        self._puppets = puppets
        self._offered = offered
        self._server = server

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {"puppet": self._puppet}

    async def _puppet(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        match words:
            case []:
                return STANDINGS[await self._puppets.standing(sender)]
            case ["on"]:
                return await self._on(sender)
            case ["off"]:
                removed = await self._puppets.remove(sender)
                return REMOVED if removed else STANDINGS[Standing.NONE]
            case _:
                raise NotAllowed(USAGE)

    async def _on(self, sender: PersonId) -> str:
        if not self._offered:
            raise NotAllowed(
                "On this bridge what is said from elsewhere carries nobody's own name: its admin would have to turn on "
                "`appservice.double_puppets`."
            )
        if sender.partition(":")[2] != self._server:
            raise NotAllowed(f"That is for users of {self._server}.")
        if not self._registry.is_owner(sender):
            raise NotAllowed("You have no account of your own here: see `!bridge login`.")
        if await self._puppets.standing(sender) is Standing.SIGNED:
            return STANDINGS[Standing.SIGNED]
        self._rights.spend(sender)
        machine = await self._puppets.make(sender)
        return (
            f"There is a session {machine.device} of yours now, which is the bridge's. Verify it from a client of "
            "yours that is verified itself (Settings, Sessions): the emoji of this side appear in your room with me. "
            f"Its key is {machine.ed25519}. Until you have done so, your ghost speaks for you in encrypted rooms, as "
            "before. The bridge only sends with it, but whoever runs the bridge could do more with a session of yours: "
            "verify it only where you trust them."
        )
