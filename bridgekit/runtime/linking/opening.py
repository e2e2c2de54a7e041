"""How a link begins and ends: its chat is heard, asked and told, its room is compared, and only then words pass."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.core.crowd import Crowds
from bridgekit.core.exposure import Allowed, limits, why_closed
from bridgekit.core.protection import STATE_TYPE
from bridgekit.core.questions import WANTED
from bridgekit.core.scopes import Scope
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime import lenient
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.holding import Holding
from bridgekit.runtime.gates.readers import Readers
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.linking.spaces import Spaces
from bridgekit.runtime.registry import OPEN, PAUSED, WAITING, Registry
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

BRIDGE_EVENTS = ("m.bridge", "uk.half-shot.bridge")
"""MSC2346, stable and as clients know it."""


class Opening:
    """From a link that was just made to one that is open, and from there to its end."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        crowds: Crowds,
        *,
        exposures: Callable[[], Exposures],
        consenting: Callable[[], Consenting],
        holding: Callable[[], Holding],
        readers: Callable[[], Readers],
        shields: Callable[[], Shields],
        protecting: Protecting,
        spaces: Spaces,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        say: Callable[[ChatId, str], Coroutine[Any, Any, None]],
        announce: Callable[[PortalKey, str], Coroutine[Any, Any, None]],
        drop_aliases: Callable[[Link], Coroutine[Any, Any, None]],
        history: Callable[[PortalKey], Coroutine[Any, Any, None]],
        spawn: Spawn,
    ) -> None:
        """`history` brings what was said in a chat before it was linked."""
        self.say = say
        self.announce = announce
        self._drop_aliases = drop_aliases
        self._client = client.patient
        self._registry = registry
        self._crowds = crowds
        self._exposures = exposures
        self._consenting = consenting
        self._holding = holding
        self._readers = readers
        self._shields = shields
        self._protecting = protecting
        self._spaces = spaces
        self._bot = bot
        self._label = label
        self._history = history
        self._spawn = spawn
        self._new: set[PortalKey] = set()  # links from which nothing has passed yet
        self._shown: dict[PortalKey, bool] = {}  # whether a link's room says what it is bridged to
        self._placed: dict[PortalKey, bool] = {}

    def load(self) -> None:
        """Take over how the last run left the rooms."""
        self._shown = {link.key: link.state != WAITING for link in self._registry.links.values()}

    def state_of(self, side: PortalKey) -> tuple[str, str]:
        """The state of a link that has yet to be compared, with its reason."""
        if side.receiver is not None or Scope.BRIDGE in self._consenting().scopes(side):
            return PAUSED, wording.UNSETTLED
        name = self._registry.links[side].name if side in self._registry.links else side.chat
        consents = self._consenting().consents(side)
        return WAITING, why_closed(name, self._label(side.network), consents)

    def made(self, side: PortalKey) -> None:
        """The link is new: the chat's past comes with it when it opens, be it later."""
        self._new.add(side)

    async def begin(self, link: Link, wanted: frozenset[Scope] = WANTED) -> None:
        """The link was made: it is open when this returns, or says why it is not."""
        if link.key.receiver is None:
            await self._exposures().visibilities.told(link.key)
        self._readers().linked(link.key)
        await self._consenting().linked(link, wanted)
        try:
            await self._exposures().weighed(link.room)
        except BridgeError as error:
            log.warning("room_not_compared", room=link.room, reason=error.notice)
            self._exposures().weigh(link.room)

    def moved(self, old: ChatId, room: ChatId) -> None:
        """The links are in another room now, of which nothing is known."""
        for link in self._registry.links_of(room):
            if self._spaces.wants(link):
                self._spawn(self._spaces.let_go(link.key.network, old))
            self._shown[link.key] = False
            self._placed.pop(link.key, None)
            self._exposures().doubt(link.key)
            self._readers().linked(link.key)
        self._exposures().weigh(room)

    def again(self, link: Link) -> None:
        """The bridge is in the chat again, after it was not."""
        self._exposures().weigh(link.room)

    async def end(self, link: Link) -> None:
        """The link was taken apart: what was held ends with a reason, and questions are void."""
        side = link.key
        self._consenting().unlinked(side)
        self._readers().forget(side)
        self._exposures().forget(side)
        self._crowds.forget(side)
        name, label = link.name, self._label(side.network)
        if count := await self._holding().fail(side, wording.held_to_the_end(name, label)):
            log.warning("held_to_the_end", network=side.network, messages=count)
            await self.say(link.room, wording.never_shown(count, name, label))
        self._shields().forget(side)
        await self._hide(side, link.room)
        self._placed.pop(side, None)
        self._new.discard(side)
        others = [other.key.network for other in self._registry.links_of(link.room)]
        if self._spaces.wants(link) and side.network not in others:
            self._spawn(self._spaces.let_go(side.network, link.room))
        self._exposures().weigh(link.room)

    # What a room says of its links ----------------------------------------------------------------------------

    async def placed(self, link: Link, allowed: Allowed) -> None:
        """Let the room say what it is bridged to, and stand in its network's space, as far as that may be known."""
        if not allowed.may_pass(link.key):
            await self._hide(link.key, link.room)
        elif not self._shown.get(link.key):
            await self.describe(link)
            # What protects it is said before anything else is.
            await self._protecting.weigh(link.room)
        if link.key in self._new and self._registry.links[link.key].state == OPEN:
            self._new.discard(link.key)
            self._spawn(self._history(link.key))
        findable = allowed.may_pass(link.key) and limits(allowed.standing).findable
        if self._placed.get(link.key) == findable:
            return
        self._placed[link.key] = findable
        if link.key.receiver is None and not findable:
            # Whoever guesses the alias would learn that the chat is here; it is made again for who asks later.
            await lenient.quiet(self._drop_aliases, link)
        if self._spaces.wants(link):
            if findable:
                self._spawn(self._spaces.take_in(link))
            else:
                self._spawn(self._spaces.let_go(link.key.network, link.room))

    async def described_anew(self, link: Link) -> None:
        """Something that the room says of the link is different now; a room that says nothing of it goes on so."""
        if self._shown.get(link.key):
            await self.describe(link)

    async def describe(self, link: Link) -> None:
        """MSC2346: what this room is bridged to, for clients and for other bridges."""
        network = link.key.network
        content = {
            "bridgebot": self._bot,
            "creator": link.creator,
            "protocol": {"id": network, "displayname": self._label(network)},
            "network": {"id": network, "displayname": self._label(network)},
            "channel": {"id": link.key.chat, "displayname": link.name},
            STATE_TYPE: self._protecting.label(link.room).protection.name.lower(),
        }
        if not self._shown.get(link.key):
            self._shown[link.key] = True
            self._protecting.changed(link.room)
        for type in BRIDGE_EVENTS:
            key = _state_key(link.key)
            await lenient.allowed(self._client.put_state(link.room, type, content, state_key=key))

    async def _hide(self, side: PortalKey, room: ChatId) -> None:
        if self._shown.pop(side, False):
            self._protecting.changed(room)
            for type in BRIDGE_EVENTS:
                await lenient.allowed(self._client.put_state(room, type, {}, state_key=_state_key(side)))


def _state_key(side: PortalKey) -> str:
    return f"org.bridgekit://{side.network}/{side.chat}"
