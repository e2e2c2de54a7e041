"""Links of the config: they stand as long as they are written there, and are tried until they do."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog
from pydantic import SecretStr

from bridgekit.config import Config
from bridgekit.contract.errors import BridgeError, NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
"""Seconds between two tries."""
PUT_OUT = "bridge.put_out"
"""Where it is kept which rooms have put the bridge out of a link of the config; no network is called so."""


class _PutOut(Exception):
    """The room of a link does not want the bridge."""


class Wanted(NamedTuple):
    """A link of the config: `chat` as people call it, `room` by its id or an alias."""

    network: NetworkId
    chat: str
    room: str
    password: SecretStr | None


class StandingLinks:
    """Makes the links of the config, and takes those away that are no longer in it.

    A room that has put the bridge out has the last word: its link is made again when the bridge is invited there.
    """

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        portals: Portals,
        *,
        bot: PersonId,
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._kv = store.kv
        self._commit = store.commit
        self._registry = registry
        self._portals = portals
        self._bot = bot
        self._spawn = spawn
        self._wanted: set[Wanted] = set()
        self._out: dict[str, ChatId] = {}  # by side: the room that has put the bridge out

    async def load(self) -> None:
        """Read which rooms have put the bridge out; called once, before `stand`."""
        kept = await self._kv.items(PUT_OUT)
        self._out = {side: ChatId(room.decode()) for side, room in kept.items()}

    def stand(self, config: Config) -> None:
        """Let exactly the config's links stand; at the start, and whenever the config is read anew."""
        wanted = {
            Wanted(id, link.chat, link.room, link.password)
            for id, section in config.networks.items()
            for link in section.links
        }
        new, self._wanted = wanted - self._wanted, wanted
        sides = self._sides()
        for link in list(self._registry.links.values()):
            if link.static and link.key not in sides:
                self._spawn(self._take_away(link.key))
        for one in sorted(new, key=lambda one: one[:3]):
            self._spawn(self._make(one))

    async def put_out(self, side: PortalKey, room: ChatId) -> None:
        """The room does not want a link of the config; that is on disk when this returns."""
        self._out[_name(side)] = room
        log.error("link_put_out", network=side.network, room=room)
        await self._commit(self._kv.put(PUT_OUT, _name(side), room.encode()))

    async def welcome(self, room: ChatId) -> None:
        """The bridge was invited into a room: what it was put out of there stands again."""
        for name in [name for name, where in self._out.items() if where == room]:
            del self._out[name]
            await self._commit(self._kv.put(PUT_OUT, name, None))
            for one in sorted(self._wanted, key=lambda one: one[:3]):
                side = self._side(one.network, one.chat)
                if side is not None and _name(side) == name:
                    self._spawn(self._make(one))

    def missing(self) -> list[str]:
        """Which links of the config do not stand because their rooms do not want them, for the admin."""
        found = []
        for one in sorted(self._wanted, key=lambda one: one[:3]):
            side = self._side(one.network, one.chat)
            if side is not None and side not in self._registry.links and _name(side) in self._out:
                room = self._out[_name(side)]
                found.append(
                    f"{one.chat} on {one.network}: the room {room} has put the bridge out; invite {self._bot} there"
                )
        return found

    def _sides(self) -> set[PortalKey | None]:
        return {self._side(one.network, one.chat) for one in self._wanted}

    def _side(self, network: NetworkId, chat: str) -> PortalKey | None:
        found = self._portals.named(network, chat)
        return PortalKey(network, found[0]) if found is not None else None

    async def _take_away(self, side: PortalKey) -> None:
        await self._portals.unlink(side, reason="no longer in the bridge's configuration")
        log.info("standing_link_gone", network=side.network)

    async def _make(self, one: Wanted) -> None:
        wait = FIRST_WAIT
        while one in self._wanted:
            try:
                await self._link(one)
                return
            except _PutOut:
                log.error("link_put_out", network=one.network, room=one.room)
                return
            except BridgeError as error:
                log.warning("link_not_made", network=one.network, reason=error.notice, retry_in=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _link(self, one: Wanted) -> None:
        network, chat, room, password = one
        secret = password.get_secret_value() if password is not None else ""
        found = ChatId(room)
        if room.startswith("#"):
            resolved = await self._client.resolve_alias(room)
            if resolved is None:
                raise NotAllowed(f"There is no room {room}.")
            found = resolved[0]
        side = self._portals.find_chat(network, chat)
        link = self._registry.links.get(side)
        if link is not None and link.room == found:
            await self._registry.keep_static(side)
            if secret:
                await self._portals.unlock(side, secret)
            return
        if self._out.get(_name(side)) == found:
            raise _PutOut
        found = await self._enter(side, room if room.startswith("#") else found)
        if link is not None and link.room == found:
            return  # the config names the room as it was before it was replaced
        if link is not None and link.static:
            await self._portals.unlink(side, reason="its room in the bridge's configuration is another")
        await self._portals.link(found, network, chat, self._bot, static=True, secret=secret)
        if side not in self._sides():  # the config changed its mind meanwhile
            await self._take_away(side)

    async def _enter(self, side: PortalKey, room: str) -> ChatId:
        """Go into a room, or into the one that it has become: replaced once, or many times. Where that is; no further
        than to the link's. Raises _PutOut where it does not want the bridge."""
        link = self._registry.links.get(side)
        been: list[ChatId] = []
        after: ChatId | None = ChatId(room)
        while after is not None and after not in been:
            if self._out.get(_name(side)) == after:
                raise _PutOut
            been.append(await self._client.join(after))
            if link is not None and link.room == been[-1]:
                break
            after = await self._client.successor(been[-1])
        return been[-1]


def _name(side: PortalKey) -> str:
    return f"{side.network} {side.chat}"
