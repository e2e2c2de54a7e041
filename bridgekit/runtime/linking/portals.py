"""Portals: rooms linked to chats, made where there are none, moved where rooms are replaced, taken apart again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.connector import Manifest, Network
from bridgekit.contract.errors import MatrixRefused, NotAllowed, SendRejected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from bridgekit.core import wording
from bridgekit.core.ghosts import Namespace
from bridgekit.core.others import bridged_already
from bridgekit.core.questions import WANTED
from bridgekit.core.scopes import Scope
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.sending import SOURCE
from bridgekit.runtime.clock import now
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.lenient import allowed, quiet
from bridgekit.runtime.linking.clearing import Clearing
from bridgekit.runtime.linking.opening import Opening
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.networks.sessions import State
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.joins import Joins
from bridgekit.runtime.people.members import Members
from bridgekit.runtime.registry import CLOSED, OPEN, Registry
from bridgekit.store.rows import Link, Portal
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

ENTER_SECONDS = 30.0


class Portals:
    """What is linked to what, and how that comes and goes."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        ghosts: Ghosts,
        accounts: Accounts,
        networks: dict[NetworkId, Network],
        manifests: dict[NetworkId, Manifest],
        namespace: Namespace,
        *,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        opening: Callable[[], Opening],
        joins: Joins,
        members: Members,
        clearing: Clearing,
        protecting: Protecting,
        spawn: Spawn,
    ) -> None:
        self._sending = client
        self._client = client.patient
        self._registry = registry
        self._ghosts = ghosts
        self._accounts = accounts
        self._sessions = accounts.sessions
        self._networks = networks
        self._manifests = manifests
        self._namespace = namespace
        self._bot = bot
        self._label = label
        self._opening = opening
        self._joins = joins
        self._members = members
        self._clearing = clearing
        self._protecting = protecting
        self._spawn = spawn
        self._entering: dict[PortalKey, list[asyncio.Future[facts.ChatOpened]]] = {}
        self.making: dict[PortalKey, asyncio.Future[ChatId | None]] = {}

    # What the network says of chats ---------------------------------------------------------------------------

    def overhear(self, side: PortalKey, fact: Fact) -> None:
        """Facts about chats that have no room yet: how a chat is learnt before its room is made."""
        match fact:
            case facts.ChatOpened():
                for waiter in self._waiters(side):
                    waiter.set_result(fact)
            case facts.ChatClosed():
                for waiter in self._waiters(side):
                    waiter.set_exception(SendRejected(fact.reason))
            case _:
                pass

    def _waiters(self, side: PortalKey) -> list[asyncio.Future[facts.ChatOpened]]:
        """Whoever waits to hear whether the relay was let into a chat."""
        return [waiter for waiter in self._entering.get(side, ()) if not waiter.done()]

    async def observe(self, side: PortalKey, fact: Fact) -> None:
        """Facts about a link itself."""
        if side in self._entering:
            self.overhear(side, fact)
        match fact:
            case facts.ChatOpened():
                self._protecting.saw(side)
                link = self._registry.links.get(side)
                if link is not None and link.state == CLOSED:
                    self._registry.set_state(side, *self._opening().state_of(side), fact.at)
                    self._opening().again(link)
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
            await quiet(supervised.perform, verbs.FetchHistory(chat=side.chat, since=fact.since))

    async def _closed(self, side: PortalKey, fact: facts.ChatClosed) -> None:
        link = self._registry.links.get(side)
        if link is None or not self._registry.set_state(side, CLOSED, fact.reason, fact.at):
            return
        log.warning("chat_closed", network=side.network, reason=fact.reason)
        await self.say(link.room, f"{link.name} on {self._label(side.network)}: {fact.reason}")

    async def unlock(self, side: PortalKey, secret: str) -> None:
        """Let the relay know a linked chat's password, as the config has it today."""
        if (relay := self._sessions.get((side.network, None))) is not None:
            await relay.perform(verbs.Join(chat=side.chat, secret=secret))

    async def enter(self, side: PortalKey, secret: str = "") -> facts.ChatOpened:
        """Let the relay into a chat. Raises BridgeError with the reason where it cannot get in."""
        relay = self._sessions.get((side.network, None))
        if relay is None:
            raise NotAllowed(f"There is no network called {side.network}.")
        waiter: asyncio.Future[facts.ChatOpened] = asyncio.get_running_loop().create_future()
        waiters = self._entering.setdefault(side, [])
        waiters.append(waiter)
        name = self._networks[side.network].chat_name(side.chat)
        try:
            async with asyncio.timeout(ENTER_SECONDS):
                await relay.perform(verbs.Join(chat=side.chat, secret=secret))
                return await waiter
        except TimeoutError:
            connected = relay.session is not None
            raise SendRejected(
                wording.not_entered(
                    name, self._label(side.network), relay.reason, ENTER_SECONDS, connected=connected
                )
            ) from None
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._entering.pop(side, None)
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
            example = self._manifests[network].example_chat
            like = f" One looks like {example}." if example else ""
            raise NotAllowed(f"{name} is not a chat that can be linked on {self._label(network)}.{like}")
        return PortalKey(network, found[0])

    def find_person(self, network: NetworkId, name: str, login: LoginId) -> tuple[PortalKey, Person]:
        """The direct chat with whom people call `name`, as a login sees it. Raises NotAllowed."""
        found = self._networks[network].chat_id(name)
        if found is None or not found[1]:
            raise NotAllowed(f"{name} is nobody who can be spoken to on {self._label(network)}.")
        person = self.other_end(network, found[0], name)
        if person is None:
            raise NotAllowed(f"{name} is nobody who can be spoken to on {self._label(network)}.")
        return PortalKey(network, found[0], login), person

    def other_end(self, network: NetworkId, chat: ChatId, name: str = "") -> Person | None:
        """With whom a private chat is, as far as names tell; `name` is what people call them, if it is known."""
        known = self._networks[network]
        name = name or known.chat_name(chat)
        for id in (chat, name, name.lower()):
            if id and known.direct(PersonId(id)) == chat:
                return Person(id=PersonId(id), name=name)
        return None

    def is_possible(self, network: NetworkId, person: PersonId) -> bool:
        """Whether somebody on the network could have this id, as far as names tell."""
        known = self._networks[network]
        chat = known.direct(person)
        return chat is not None and known.chat_id(known.chat_name(chat)) == (chat, True)

    async def link(
        self,
        room: ChatId,
        network: NetworkId,
        name: str,
        creator: PersonId,
        *,
        static: bool = False,
        secret: str = "",
        wanted: frozenset[Scope] = WANTED,
    ) -> Link:
        """Link a room to a chat: the relay enters it first, then its operators are asked for what is `wanted`.

        The link that is returned says in its state whether it is open. Raises BridgeError with the reason.
        """
        side = self.find_chat(network, name)
        if (old := self._registry.links.get(side)) is not None:
            if old.room == room:
                if old.state == CLOSED:  # the chat was lost: this asks for another try
                    await self._tell_of_waiting(room, side)
                    opened = await self.enter(side, secret)
                    self._registry.set_state(side, *self._opening().state_of(side), opened.at)
                if old.state != OPEN or wanted != WANTED:
                    await self._opening().begin(old, wanted)
                return self._registry.links[side]
            raise NotAllowed(f"{name} is linked to another room already: unlink it there first.")
        portal = self._registry.portals.get(room)
        if portal is not None and portal.kind != "channel":
            raise NotAllowed("This room is not one to link: say it in the room that shall be linked.")
        self.refuse_twin(side)
        if why := bridged_already(
            await self._client.room_state(room), self._bot, names=frozenset({side.chat, name})
        ):
            raise NotAllowed(why)
        if side in self.making:
            raise NotAllowed(f"{name} is being linked this moment.")
        making: asyncio.Future[ChatId | None] = asyncio.get_running_loop().create_future()
        self.making[side] = making
        try:
            await self._agree(side, creator)
            if not static:  # somebody waits for the answer
                await self._tell_of_waiting(room, side)
            opened = await self.enter(side, secret)
            link = await self.made(side, room, opened, creator, static=static, portal=None)
            making.set_result(room)
            await self._opening().begin(link, wanted)
            return self._registry.links.get(side, link)
        finally:
            del self.making[side]
            if not making.done():
                making.set_result(None)

    async def _tell_of_waiting(self, room: ChatId, side: PortalKey) -> None:
        """Who asked for a link reads at once that it has to wait for its network."""
        relay = self._sessions.get((side.network, None))
        if relay is not None and relay.session is None and relay.state is not State.REJECTED:
            name = self._networks[side.network].chat_name(side.chat)
            await self.say(
                room, wording.link_waits(name, self._label(side.network), relay.reason, ENTER_SECONDS)
            )

    async def _agree(self, side: PortalKey, owner: PersonId) -> None:
        """Who was asked into the chat with an account of their own agrees by linking it: that account goes in first."""
        if (account := self._accounts.invited(side, owner)) is not None:
            await account.perform(verbs.Join(chat=side.chat))

    def refuse_twin(self, side: PortalKey) -> None:
        """Raise NotAllowed where the same chat is linked already, over another network of the configuration."""
        place = self._networks[side.network].whereabouts(side.chat)
        for key, link in self._registry.links.items():
            other = self._networks.get(key.network)
            if not place or other is None or key.receiver is not None or key == side:
                continue
            if other.whereabouts(key.chat) == place:
                name = self._networks[side.network].chat_name(side.chat)
                raise NotAllowed(wording.linked_already(name, link.room, self._label(key.network)))

    async def made(
        self,
        side: PortalKey,
        room: ChatId,
        opened: facts.ChatOpened | None,
        creator: PersonId,
        *,
        static: bool,
        portal: Portal | None,
    ) -> Link:
        """Keep a new link, from which nothing passes yet: `Opening.begin` sees to that."""
        network = self._networks[side.network]
        name = (opened.name if opened else "") or network.chat_name(side.chat)
        state, reason = self._opening().state_of(side)
        link = Link(
            key=side,
            room=room,
            name=name,
            reader=side.receiver,
            creator=creator,
            static=static,
            state=state,
            reason=reason,
            since=now(),
        )
        if portal is None:
            portal = self._registry.portals.get(room) or Portal(
                room=room, network=None, made=False, kind="channel", creator=creator
            )
        await self._registry.put_link(link, portal)
        self._opening().made(side)
        self._protecting.saw(side)
        return link

    async def unlink(self, side: PortalKey, *, reason: str = "unlinked", leave: bool = True) -> None:
        """Take a link apart: the chat is left, its ghosts leave the room, the room says so. `leave` is False where the
        network is not to hear of it."""
        link = self._registry.links.get(side)
        if link is None:
            raise NotAllowed("There is no such link.")
        last = not any(
            other.key.network == side.network and other.key != side
            for other in self._registry.links_of(link.room)
        )
        if last:
            await self._clearing.promise(link.room, side.network, reason)
        await self._registry.remove_link(side)
        await self._protecting.unlinked(link, reason)
        for (network, login), supervised in self._sessions.items():
            there = login == side.receiver or (side.receiver is None and side.chat in supervised.joined)
            if leave and network == side.network and supervised.session is not None and there:
                supervised.joined.discard(side.chat)
                self._spawn(quiet(supervised.perform, verbs.Leave(chat=side.chat, reason=reason)))
        gone = self._members.unlinked(link.room, side)
        if last:
            self._joins.forget(link.room, side.network)
            self._spawn(self._clearing.clear(link.room, side.network, reason))
        else:
            ghosts = [self._namespace.mxid(side.network, person) for person in gone]
            self._spawn(
                self._clearing.let_go(link.room, ghosts, reason, lambda: side in self._registry.links)
            )
        await self._opening().end(link)
        if side.receiver is None:
            await self.drop_aliases(link)
        portal = self._registry.portals.get(link.room)
        if portal is None or self._registry.links_of(link.room):
            return
        if portal.kind == "direct":
            await self._registry.remove_portal(link.room)
            self._spawn(quiet(self._client.leave, link.room, reason=reason))  # it was there for this alone
        elif portal.made:
            await self._registry.remove_portal(link.room)

    async def drop_aliases(self, link: Link) -> None:
        """No address of the chat leads into the room any more, in whatever letters it was asked for."""
        network = link.key.network
        try:
            found = await self._client.aliases(link.room)
        except MatrixRefused:  # the bridge was put out
            found = [self._namespace.alias(network, ChatId(link.name))]
        for alias in found:
            parsed = self._namespace.parse_alias(alias)
            if parsed is not None and parsed[0] == network and self.named(*parsed) == (link.key.chat, False):
                await allowed(self._client.delete_alias(alias))

    async def close_account(self, network: NetworkId, login: LoginId) -> None:
        """Take an account away from the bridge, with its direct conversations and its password."""
        for link in [link for link in self._registry.links.values() if link.key.receiver == login]:
            await self.unlink(link.key, reason="its owner logged out")
        await self._accounts.close(network, login)

    async def say(self, room: ChatId, words: str, *, source: str | None = None, since: int = 0) -> None:
        """Something that the bridge itself has to say in a room; with a `source`, once (see MatrixClient.send)."""
        content: dict[str, Any] = {"msgtype": "m.notice", "body": words, "m.mentions": {}}
        if source is not None:
            content[SOURCE] = source
        txn = source or f"bk.say.{time.time_ns():x}"
        await allowed(
            self._sending.send(
                room, "m.room.message", content, txn=txn, user=self._bot, source=source, since=since
            )
        )

    async def announce(self, side: PortalKey, words: str) -> None:
        """Something that the bridge itself has to say in a shared chat, if it can be said now.

        In a direct chat it says nothing: there it would speak with its owner's voice, and of their Matrix account.
        """
        relay = self._sessions.get((side.network, None)) if side.receiver is None else None
        if relay is not None and relay.session is not None:
            content = Content(text=plain(words), kind=Kind.NOTICE)
            await quiet(relay.perform, verbs.PostMessage(chat=side.chat, content=content))
