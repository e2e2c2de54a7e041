"""Portals: rooms linked to chats, made where there are none, moved where rooms are replaced, taken apart again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.connector import Network
from bridgekit.contract.errors import BridgeError, MatrixForbidden, MatrixRefused, NotAllowed, SendRejected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.text import plain
from bridgekit.core.ghosts import Namespace
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.accounts import Accounts
from bridgekit.runtime.ghosts import Ghosts
from bridgekit.runtime.registry import CLOSED, OPEN, Registry
from bridgekit.store.rows import Link, Portal

log = structlog.get_logger(__name__)

ENTER_SECONDS = 30.0
BRIDGE_EVENTS = ("m.bridge", "uk.half-shot.bridge")
"""MSC2346, stable and as clients know it."""


class Portals:
    """What is linked to what, and how that comes and goes."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        ghosts: Ghosts,
        accounts: Accounts,
        networks: dict[NetworkId, Network],
        namespace: Namespace,
        *,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        spaces: frozenset[NetworkId],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._sending = client
        self._client = client.patient
        self._registry = registry
        self._ghosts = ghosts
        self._accounts = accounts
        self._sessions = accounts.sessions
        self._networks = networks
        self._namespace = namespace
        self._bot = bot
        self._label = label
        self._spaces = spaces
        self._spawn = spawn
        self._entering: dict[PortalKey, asyncio.Future[facts.ChatOpened]] = {}
        self._making: dict[PortalKey, asyncio.Future[ChatId | None]] = {}

    # What the network says of chats ---------------------------------------------------------------------------

    def overhear(self, side: PortalKey, fact: Fact) -> None:
        """Facts about chats that have no room yet: how a chat is learnt before its room is made."""
        match fact:
            case facts.ChatVisibility():
                self._registry.visibility[side] = fact.visibility
            case facts.ChatOpened() if (waiter := self._entering.get(side)) and not waiter.done():
                waiter.set_result(fact)
            case facts.ChatClosed() if (waiter := self._entering.get(side)) and not waiter.done():
                waiter.set_exception(SendRejected(fact.reason))
            case _:
                pass

    async def observe(self, side: PortalKey, fact: Fact) -> None:
        """Facts about a link itself."""
        match fact:
            case facts.ChatVisibility():
                self._registry.visibility[side] = fact.visibility
            case facts.ChatOpened():
                if self._registry.set_state(side, OPEN, "", fact.at):
                    log.info("chat_open", network=side.network)
            case facts.ChatClosed():
                await self._closed(side, fact)
            case facts.Resync():
                self._spawn(self._catch_up(side, fact))
            case _:
                pass

    async def _catch_up(self, side: PortalKey, fact: facts.Resync) -> None:
        """Ask for what may have been missed, where the network keeps it; copies make sure that nothing comes twice."""
        supervised = self._sessions.get((side.network, side.receiver))
        if supervised is None or supervised.session is None:
            return
        log.info("chat_read_anew", network=side.network, reason=fact.reason)
        if verbs.FetchHistory in supervised.session.capabilities(side.chat).verbs:
            await _quiet(supervised.perform(verbs.FetchHistory(chat=side.chat, since=fact.since)))

    async def _closed(self, side: PortalKey, fact: facts.ChatClosed) -> None:
        link = self._registry.links.get(side)
        if link is None or not self._registry.set_state(side, CLOSED, fact.reason, fact.at):
            return
        log.warning("chat_closed", network=side.network, reason=fact.reason)
        await self.say(link.room, f"{link.name} on {self._label(side.network)}: {fact.reason}")

    async def _enter(self, side: PortalKey) -> facts.ChatOpened:
        """Let the relay into a chat. Raises BridgeError with the reason where it cannot get in."""
        relay = self._sessions.get((side.network, None))
        if relay is None:
            raise NotAllowed(f"There is no network called {side.network}.")
        waiter: asyncio.Future[facts.ChatOpened] = asyncio.get_running_loop().create_future()
        self._entering[side] = waiter
        name = self._networks[side.network].chat_name(side.chat)
        try:
            async with asyncio.timeout(ENTER_SECONDS):
                await relay.perform(verbs.Join(chat=side.chat))
                return await waiter
        except TimeoutError:
            why = f" ({relay.reason})" if relay.reason else ""
            raise SendRejected(
                f"{self._label(side.network)} did not let the bridge into {name} within "
                f"{ENTER_SECONDS:.0f} s{why}: try again later."
            ) from None
        finally:
            del self._entering[side]
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen
            else:
                waiter.cancel()

    # Links ---------------------------------------------------------------------------------------------------

    def named(self, network: NetworkId, name: str) -> tuple[ChatId, bool] | None:
        """What `name` is on a network: a chat, and whether it is private; None where it cannot be one."""
        return self._networks[network].chat_id(name) if network in self._networks else None

    def find_chat(self, network: NetworkId, name: str) -> PortalKey:
        """The shared chat that people call `name`. Raises NotAllowed with a sentence."""
        if network not in self._networks:
            known = ", ".join(sorted(self._networks)) or "none"
            raise NotAllowed(f"There is no network called {network}; there are: {known}.")
        found = self._networks[network].chat_id(name)
        if found is None or found[1]:
            raise NotAllowed(f"{name} is not a chat that can be linked on {self._label(network)}.")
        return PortalKey(network, found[0])

    def find_person(self, network: NetworkId, name: str, login: LoginId) -> tuple[PortalKey, Person]:
        """The direct chat with whom people call `name`, as a login sees it. Raises NotAllowed."""
        found = self._networks[network].chat_id(name)
        if found is None or not found[1]:
            raise NotAllowed(f"{name} is nobody who can be spoken to on {self._label(network)}.")
        return PortalKey(network, found[0], login), Person(id=PersonId(found[0]), name=name)

    async def link(
        self, room: ChatId, network: NetworkId, name: str, creator: PersonId, *, static: bool = False
    ) -> Link:
        """Link a room to a chat: the relay enters it first. Raises BridgeError with the reason."""
        side = self.find_chat(network, name)
        if (old := self._registry.links.get(side)) is not None:
            if old.room == room:
                return old
            raise NotAllowed(f"{name} is linked to another room already: unlink it there first.")
        if await self._client.state(room, "m.room.encryption") is not None:
            raise NotAllowed(
                f"This room is encrypted and {self._label(network)} is not: nothing would cross. "
                "Link a room without encryption."
            )
        if side in self._making:
            raise NotAllowed(f"{name} is being linked this moment.")
        making: asyncio.Future[ChatId | None] = asyncio.get_running_loop().create_future()
        self._making[side] = making
        try:
            opened = await self._enter(side)
            link = await self._made(side, room, opened, creator, static=static, portal=None)
            making.set_result(room)
            return link
        finally:
            del self._making[side]
            if not making.done():
                making.set_result(None)

    async def _made(
        self,
        side: PortalKey,
        room: ChatId,
        opened: facts.ChatOpened | None,
        creator: PersonId,
        *,
        static: bool,
        portal: Portal | None,
    ) -> Link:
        network = self._networks[side.network]
        name = (opened.name if opened else "") or network.chat_name(side.chat)
        link = Link(
            key=side,
            room=room,
            name=name,
            reader=side.receiver,
            creator=creator,
            static=static,
            state=OPEN,
            reason="",
            since=_now(),
        )
        if portal is None:
            portal = self._registry.portals.get(room) or Portal(
                room=room, network=None, made=False, kind="channel", creator=creator
            )
        await self._registry.put_link(link, portal)
        await self._describe(link)
        if side.network in self._spaces:
            self._spawn(self._into_space(side.network, room))
        return link

    async def unlink(self, side: PortalKey, *, reason: str = "unlinked") -> None:
        """Take a link apart: the chat is left, its ghosts leave the room, the room says so."""
        link = self._registry.links.get(side)
        if link is None:
            raise NotAllowed("There is no such link.")
        await self._registry.remove_link(side)
        for (network, login), supervised in self._sessions.items():
            there = login is None or side.chat in supervised.joined
            if network == side.network and supervised.session is not None and there:
                supervised.joined.discard(side.chat)
                self._spawn(_quiet(supervised.perform(verbs.Leave(chat=side.chat, reason=reason))))
        self._ghosts.forget_room(link.room)
        if not any(other.key.network == side.network for other in self._registry.links_of(link.room)):
            for ghost in sorted(self._ghosts.present(link.room)):
                parsed = self._namespace.parse(ghost)
                if parsed is not None and parsed[0] == side.network:
                    self._spawn(_quiet(self._ghosts.leave(ghost, link.room, reason)))
        for type in BRIDGE_EVENTS:
            await _allowed(self._client.put_state(link.room, type, {}, state_key=self._state_key(side)))
        portal = self._registry.portals.get(link.room)
        if portal is not None and portal.made and not self._registry.links_of(link.room):
            alias = self._namespace.alias(side.network, ChatId(link.name))
            await _allowed(self._client.delete_alias(alias))
            await self._registry.remove_portal(link.room)

    async def _describe(self, link: Link) -> None:
        """MSC2346: what this room is bridged to, for clients and for other bridges."""
        network = link.key.network
        content = {
            "bridgebot": self._bot,
            "creator": link.creator,
            "protocol": {"id": network, "displayname": self._label(network)},
            "network": {"id": network, "displayname": self._label(network)},
            "channel": {"id": link.key.chat, "displayname": link.name},
        }
        for type in BRIDGE_EVENTS:
            await _allowed(
                self._client.put_state(link.room, type, content, state_key=self._state_key(link.key))
            )

    def _state_key(self, side: PortalKey) -> str:
        return f"org.bridgekit://{side.network}/{side.chat}"

    # Rooms that the bridge makes ------------------------------------------------------------------------------

    async def by_alias(self, alias: str) -> bool:
        """Make the portal for an alias of ours. Only a chat that its network lets anybody into gets one."""
        parsed = self._namespace.parse_alias(alias)
        if parsed is None or parsed[0] not in self._networks:
            return False
        network, name = parsed
        side = self.find_chat(network, name)
        if (link := self._registry.links.get(side)) is not None:
            await self._client.put_alias(alias, link.room)
            return True
        if (making := self._making.get(side)) is not None:
            return await making is not None
        making = asyncio.get_running_loop().create_future()
        self._making[side] = making
        room: ChatId | None = None
        try:
            opened = await self._enter(side)
            seen = self._registry.visibility.get(side, Visibility())
            if (
                not seen.known
                or seen.entry is not Entry.OPEN
                or seen.exposure < Exposure.JOINED
                or not seen.listed
            ):
                relay = self._sessions[(network, None)]
                self._spawn(
                    _quiet(relay.perform(verbs.Leave(chat=side.chat, reason="not open to everybody")))
                )
                log.info("alias_refused", network=network, visibility=seen.detail)
                return False
            room = await self._create(side, opened, alias)
            return True
        finally:
            making.set_result(room)
            del self._making[side]

    async def _create(self, side: PortalKey, opened: facts.ChatOpened, alias: str) -> ChatId:
        name = opened.name or self._networks[side.network].chat_name(side.chat)
        room = await self._client.create_room(
            preset="public_chat",
            visibility="private",
            room_alias_name=alias[1:].partition(":")[0],
            name=f"{name} ({self._label(side.network)})",
            topic=opened.topic,
            initial_state=[
                {
                    "type": "m.room.history_visibility",
                    "state_key": "",
                    "content": {"history_visibility": "joined"},
                },
                {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
            ],
        )
        portal = Portal(room=room, network=side.network, made=True, kind="channel", creator=self._bot)
        await self._made(side, room, opened, self._bot, static=False, portal=portal)
        return room

    async def unlinked(self, side: PortalKey, fact: Fact) -> ChatId | None:
        """The room for a chat that has none: the one in the making, or a new one for a direct chat."""
        if (making := self._making.get(side)) is not None:
            return await making
        if (link := self._registry.links.get(side)) is not None:
            return link.room
        if side.receiver is None or not isinstance(fact, facts.Message):
            return None
        row = self._registry.logins.get(side.receiver)
        if row is None or fact.content.kind is Kind.NOTICE:
            return None
        return await self.direct(side, fact.sender, row.login.owner)

    async def direct(self, side: PortalKey, person: Person, owner: PersonId) -> ChatId:
        """Make the room of a direct chat and ask its owner in."""
        ghost = self._namespace.mxid(side.network, person.id)
        await self._ghosts.exist(ghost, side.network, person)
        room = await self._client.create_room(
            preset="trusted_private_chat",
            visibility="private",
            is_direct=True,
            name=self._ghosts.name_for(side.network, person),
            invite=[ghost, owner],
        )
        await self._client.join(room, user=ghost)
        self._ghosts.entered(ghost, room)
        await self._made_direct(side, room, person, owner, made=True)
        return room

    async def _made_direct(
        self, side: PortalKey, room: ChatId, person: Person, owner: PersonId, *, made: bool
    ) -> None:
        portal = Portal(room=room, network=side.network, made=made, kind="direct", creator=owner)
        opened = facts.ChatOpened(chat=side.chat, at=_now(), private=True, name=person.name)
        await self._made(side, room, opened, owner, static=False, portal=portal)

    async def invited(self, room: ChatId, ghost: PersonId, inviter: PersonId) -> None:
        """A Matrix user asked a ghost into a room: a direct chat, if they have an account to speak with.

        Returns when the chat is linked, so that what is said behind the invitation is not said to nobody.
        """
        parsed = self._namespace.parse(ghost)
        if parsed is None or parsed[0] not in self._networks:
            return
        network, person = parsed
        if any(other.key.network == network for other in self._registry.links_of(room)):
            await self._client.join(room, user=ghost)
            self._ghosts.entered(ghost, room)
            return
        login = self._accounts.of(network, inviter)
        chat = self._networks[network].direct(person)
        if login is None and chat is not None and self._accounts.may_open(network):
            login = await self._accounts.open(
                network, inviter
            )  # asking somebody in is a request for an account
        if login is None or chat is None:
            await self._client.leave(room, user=ghost, reason=self.no_login(network))
            return
        side = PortalKey(network, chat, login)
        if (link := self._registry.links.get(side)) is not None:
            await _allowed(self._client.invite(link.room, inviter))
            await self._client.leave(
                room, user=ghost, reason="You have a conversation already: see your invitations."
            )
            return
        await self._ghosts.exist(ghost, network, Person(id=person, name=str(person)))
        await self._client.join(room, user=ghost)
        self._ghosts.entered(ghost, room)
        await _allowed(self._client.invite(room, self._bot, user=ghost))
        await _allowed(self._client.join(room))
        await self._made_direct(side, room, Person(id=person, name=str(person)), inviter, made=False)

    def no_login(self, network: NetworkId) -> str:
        """Why nobody can be spoken to from here."""
        return (
            f"Only your own account can speak to people on {self._label(network)}: "
            f"write `login {network}` to {self._bot} first."
        )

    async def upgraded(self, old: ChatId, new: ChatId) -> None:
        """A room was replaced (m.room.tombstone): the bridge goes along."""
        if not self._registry.links_of(old) and old not in self._registry.portals:
            return
        for attempt in range(8):
            try:
                await self._client.join(new)
                break
            except MatrixForbidden:
                await asyncio.sleep(min(60.0, 2.0**attempt))
        else:
            await self.say(old, "The bridge is not allowed into the new room: invite it there.")
            return
        await self._registry.move(old, new)
        for link in self._registry.links_of(new):
            await self._describe(link)
        log.info("room_followed")

    async def _into_space(self, network: NetworkId, room: ChatId) -> None:
        """Put a room into its network's space, which is made when it is first needed."""
        space = next(
            (p.room for p in self._registry.portals.values() if p.kind == "space" and p.network == network),
            None,
        )
        if space is None:
            space = await self._client.create_room(
                preset="private_chat",
                visibility="private",
                name=self._label(network),
                creation_content={"type": "m.space"},
            )
            await self._registry.put_portal(
                Portal(room=space, network=network, made=True, kind="space", creator=self._bot)
            )
        via = {"via": [self._bot.partition(":")[2]]}
        await _allowed(self._client.put_state(space, "m.space.child", via, state_key=room))

    async def say(self, room: ChatId, words: str) -> None:
        """Something that the bridge itself has to say in a room."""
        content = {"msgtype": "m.notice", "body": words, "m.mentions": {}}
        await _allowed(
            self._sending.send(
                room, "m.room.message", content, txn=f"bk.say.{time.time_ns():x}", user=self._bot
            )
        )

    async def announce(self, side: PortalKey, words: str) -> None:
        """Something that the bridge itself has to say in a chat."""
        relay = self._sessions.get((side.network, side.receiver))
        if relay is not None:
            content = Content(text=plain(words), kind=Kind.NOTICE)
            await _quiet(relay.perform(verbs.PostMessage(chat=side.chat, content=content)))


async def _allowed(call: Coroutine[Any, Any, object]) -> None:
    """Do it where the room lets the bridge; where not, the bridge does without."""
    try:
        await call
    except MatrixRefused as error:
        log.info("not_allowed_in_room", errcode=error.errcode)


async def _quiet(work: Coroutine[Any, Any, object]) -> None:
    try:
        async with asyncio.timeout(30):
            await work
    except (BridgeError, TimeoutError) as error:
        log.info("left_undone", kind=type(error).__name__)


def _now() -> int:
    return time.time_ns() // 1_000_000
