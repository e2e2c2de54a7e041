"""Commands about what a room is linked to, and about what may go there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core import wording
from bridgekit.core.model import matrix_side
from bridgekit.core.questions import WANTED
from bridgekit.core.scopes import Policy, Scope
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.linking.remains import Remains
from bridgekit.runtime.registry import OPEN, Registry

PASSWORD = "password="
FILES = "files"
"""What `agree` and `disagree` are about in place of a network, whose chat would have to be named too."""


class LinkCommands:
    """`label` is what people call a network."""

    def __init__(
        self,
        rights: Rights,
        registry: Registry,
        portals: Portals,
        remains: Remains,
        protecting: Protecting,
        consenting: Consenting,
        *,
        label: Callable[[NetworkId], str],
    ) -> None:
        self._rights = rights
        self._registry = registry
        self._portals = portals
        self._remains = remains
        self._protecting = protecting
        self._consenting = consenting
        self._label = label

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {
            "link": self._link,
            "unlink": self._unlink,
            "agree": self._agree,
            "disagree": self._disagree,
            "revoke": self._revoke,
        }

    async def _link(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        scopes = {scope.value: scope for scope in Scope}
        secret = next((word.removeprefix(PASSWORD) for word in words[2:] if word.startswith(PASSWORD)), "")
        asked = [scopes[word] for word in words[2:] if word in scopes]
        wrong: list[str] = []  # everything at once: nobody should have to try three times
        if len(words) != 2 + bool(secret) + len(asked) or any(PASSWORD in word for word in words[:2]):
            wrong.append(
                f"Say `!bridge link <network> <chat>`, with `{PASSWORD}...` where it has one, and what its operators "
                f"shall be asked for besides: {', '.join(scope for scope in scopes if scope not in WANTED)}."
            )
        network, name = (NetworkId(words[0]), words[1]) if len(words) > 1 else (NetworkId(""), "")
        try:
            if name and not any(PASSWORD in word for word in words[:2]):  # a password is not said again
                self._portals.find_chat(network, name)  # a slip of the pen is no request
        except NotAllowed as error:
            wrong.append(error.notice)
        try:
            await self._rights.need_power(room, sender)
        except NotAllowed as error:
            wrong.append(error.notice)
        if wrong:
            raise NotAllowed(" ".join(wrong))
        wanted = WANTED | frozenset(asked)
        self._rights.spend(sender)
        with self._protecting.answering(room):
            link = await self._portals.link(room, network, name, sender, secret=secret, wanted=wanted)
            protection = await self._protecting.in_words(room)
        label = self._label(network)
        if link.state != OPEN:
            return wording.not_open_yet(link.name, label, link.reason)
        return (
            f"This room is now linked to {link.name} on {label}: what is said here can be read there, and what is "
            f"said there can be read here. {protection}"
        )

    async def _unlink(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        await self._rights.need_power(room, sender)
        links = self._registry.links_of(room)
        if words:
            network, name = NetworkId(words[0]), words[1] if len(words) > 1 else ""
            gone = self._remains.link(room, network, name) if self._remains.are_of(network) else None
            side = gone.key if gone is not None else self._portals.find_chat(network, name)
            links = [link for link in links if link.key == side]
        if len(links) != 1:
            raise NotAllowed(
                "Say `!bridge unlink <network> <chat>`; `!bridge status` shows what is linked here."
            )
        link = links[0]
        if link.static:
            raise NotAllowed(
                "That link stands in the bridge's configuration: only its admin can remove it there."
            )
        await self._portals.announce(link.key, "This chat is no longer bridged to Matrix.")
        await self._portals.unlink(link.key, reason=f"unlinked by {sender}")
        return f"This room is no longer linked to {link.name} on {self._label(link.key.network)}."

    async def _agree(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        if words == [FILES]:
            return await self._agree_files(room, sender)
        return await self._protecting.agree(await self._rights.link_of(room, sender, "agree", words), sender)

    async def _agree_files(self, room: ChatId, sender: PersonId) -> str:
        await self._rights.need_say(room, sender, self._registry.links_of(room))
        with self._protecting.answering(room):
            agreed = await self._protecting.agree_files(room, sender)
            return f"{agreed} {await self._protecting.in_words(room)}"

    async def _disagree_files(self, room: ChatId, sender: PersonId) -> str:
        await self._rights.need_say(room, sender, self._registry.links_of(room))
        with self._protecting.answering(room):
            if not await self._protecting.end(matrix_side(room), sender):
                raise NotAllowed("Nobody has agreed to links to files and long messages of this room.")
            label = await self._protecting.in_words(room)
        return f"Taken back: the links that there are open nothing any more. {label}"

    async def _disagree(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        if words == [FILES]:
            return await self._disagree_files(room, sender)
        link = await self._rights.link_of(room, sender, "disagree", words)
        if not await self._protecting.end(link.key, sender):
            raise NotAllowed(f"Nobody has agreed to anything about {link.name}.")
        return f"Taken back. What went to {link.name} until now is still there."

    async def _revoke(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        await self._rights.need_power(room, sender)
        link = self._rights.meant(room, "revoke", words)
        if link.key.receiver is not None or self._consenting.policy(link.key.network) is Policy.OFF:
            raise NotAllowed(wording.NOBODY_WAS_ASKED)
        self._consenting.revoke(link.key, sender)
        return (
            f"The link to {link.name} on {self._label(link.key.network)} is closed: nothing passes any more."
        )
