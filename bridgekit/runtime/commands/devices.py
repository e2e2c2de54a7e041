"""Commands about devices: whose they are, and whether they are trusted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog

from bridgekit.contract.connector import Session
from bridgekit.contract.devices import KeepsDevices, Trust
from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core import wording
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.networks.accounts import Key
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Link

log = structlog.get_logger(__name__)


class DeviceCommands:
    """`fingerprints` are those of one of ours; `label` is what people call a network."""

    def __init__(
        self,
        rights: Rights,
        registry: Registry,
        sessions: Mapping[Key, Supervised],
        *,
        me: PersonId,
        label: Callable[[NetworkId], str],
        fingerprints: Callable[[PersonId], Awaitable[Mapping[str, str]]],
    ) -> None:
        self._rights = rights
        self._registry = registry
        self._sessions = sessions
        self._me = me
        self._label = label
        self._fingerprints = fingerprints

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {
            "verify": self._verify,
            "devices": self._devices,
            "trust": self._trust,
            "distrust": self._distrust,
        }

    async def _verify(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """What can be compared of the bot or a ghost, and how clients do it."""
        user = PersonId(words[0]) if words else self._me
        found = await self._fingerprints(user)
        if not found:
            return f"{user} has no device: I have one, and those who have spoken in an encrypted room."
        lines = [f"{user}:", *(f"  {name}: {value}" for name, value in found.items())]
        lines.append(
            "To have your client verify it: ask for a verification of that user in an encrypted room with them. The "
            "emoji of this side appear in that room, and in the bridge's log; where it has a camera, a QR code does."
        )
        return "\n".join(lines)

    async def _devices(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """Whose keys a chat is encrypted to, for who may speak for the room."""
        link = await self._rights.link_of(room, sender, "devices", words)
        found = await self._keeper(link).devices(link.key.chat)
        return wording.devices(link.name, self._label(link.key.network), found)

    async def _trust(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._judged(room, sender, "trust", words, Trust.VERIFIED)

    async def _distrust(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._judged(room, sender, "distrust", words, Trust.DISTRUSTED)

    async def _judged(
        self, room: ChatId, sender: PersonId, command: str, words: list[str], trust: Trust
    ) -> str:
        """Say what is thought of a device. Its key is the account's: who relays for many asks the bridge's admin."""
        if not words:
            raise NotAllowed(f"Say `!bridge {command} <fingerprint>`: `!bridge devices` shows them.")
        for link in self._registry.links_of(room):
            keeper = self._session(link)
            if keeper is None or not isinstance(keeper, KeepsDevices):
                continue
            if link.key.receiver is None and not self._rights.is_admin(sender):
                raise NotAllowed(
                    "Everybody's words go through that account: only an admin of this bridge decides."
                )
            if link.key.receiver is not None:
                await self._rights.link_of(room, sender, command, [])
            device = await keeper.judge(link.key.chat, "".join(words), trust)
            if device is not None:
                log.info("device_judged", network=link.key.network, trust=trust)
                return wording.judged(device)
        raise NotAllowed("Nobody whom this room is linked to has a device with that fingerprint.")

    def _session(self, link: Link) -> Session | None:
        supervised = self._sessions.get((link.key.network, link.key.receiver))
        return supervised.session if supervised is not None else None

    def _keeper(self, link: Link) -> KeepsDevices:
        session = self._session(link)
        if session is None:
            raise NotAllowed(f"{self._label(link.key.network)} is not connected now.")
        if not isinstance(session, KeepsDevices):
            raise NotAllowed(f"{self._label(link.key.network)} does not encrypt from device to device.")
        return session
