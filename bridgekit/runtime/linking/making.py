"""Rooms that the bridge makes: portals by alias, direct chats that either side begins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakValueDictionary

import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.connector import Network, Session
from bridgekit.contract.devices import KeepsDevices
from bridgekit.contract.errors import MatrixRefused, RemoteError
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Kind, Person
from bridgekit.contract.policy import Entry, Exposure
from bridgekit.core.exposure import HISTORY
from bridgekit.core.ghosts import Namespace
from bridgekit.core.protection import SEALED
from bridgekit.core.rates import Buckets, Rate
from bridgekit.core.roomnames import room_name
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.gates.directs import DIRECT, Directs
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.lenient import allowed, quiet
from bridgekit.runtime.linking.opening import Opening
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import OPEN, Registry
from bridgekit.store import Store
from bridgekit.store.rows import Link, Portal

SECRET: list[dict[str, Any]] = [
    {
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": {"history_visibility": HISTORY[Exposure.JOINED]},
    },
    {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "invite"}},
    {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
]
"""How every room begins; it is opened as far as its chat allows when that is known."""
ENCRYPTION = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}
"""What a new room has besides, where its chat's own words are encrypted up to the bridge: nothing is lost by it."""
GUARDED = {
    "m.room.name": 50,
    "m.room.avatar": 50,
    "m.room.power_levels": 100,
    "m.room.tombstone": 100,
    "m.room.server_acl": 100,
    "m.room.encryption": 100,
    "m.room.history_visibility": 100,
    "m.room.join_rules": 100,
    "m.room.guest_access": 100,
    "m.room.canonical_alias": 100,
}
"""No power that somebody has for their role on the network is enough to open the room."""
BRIDGE, OWNER = 100, 99
"""Power levels in a room of a direct chat that the bridge makes."""
MAKING = "bridge.making"
"""Where the room of a direct chat is kept while it is being made: no network is called so."""
OPEN_SECONDS, LEARN_SECONDS = 5.0, 15.0
"""In which an account that was just opened may be there, and may have looked for the devices of a chat."""
KNOCKS = Rate(10, 60_000)
"""Chats of one network that are entered because somebody, whoever it was, looked up an alias."""

log = structlog.get_logger(__name__)


class Making:
    """Makes a room where a chat has none."""

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        accounts: Accounts,
        portals: Portals,
        networks: dict[NetworkId, Network],
        namespace: Namespace,
        *,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        opening: Callable[[], Opening],
        exposures: Callable[[], Exposures],
        encrypts: Callable[[], bool],
        directs: Directs,
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        """`encrypts` says whether the bridge can take part in encrypted rooms."""
        self._directs = directs
        self._encrypts = encrypts
        self._aliases: dict[
            PortalKey, asyncio.Future[bool]
        ] = {}  # portals in the making, until they have their alias
        self._opening = opening
        self._exposures = exposures
        self._client = client.patient
        self._store = store
        self._registry = registry
        self._ghosts = ghosts
        self._accounts = accounts
        self._sessions = accounts.sessions
        self._portals = portals
        self._networks = networks
        self._namespace = namespace
        self._bot = bot
        self._label = label
        self._spawn = spawn
        self._knocks: Buckets[NetworkId] = Buckets(KNOCKS)
        self._turns: WeakValueDictionary[PersonId, asyncio.Lock] = WeakValueDictionary()  # of who invites

    async def by_alias(self, alias: str) -> bool:
        """Make the portal for an alias of ours. Only a chat that its network lets anybody into gets one."""
        parsed = self._namespace.parse_alias(alias)
        if parsed is None or parsed[0] not in self._networks:
            return False
        network, name = parsed
        side = self._portals.find_chat(network, name)
        if (link := self._registry.links.get(side)) is not None:
            if not self._is_open(side) or link.state != OPEN:
                return False  # the alias would show the room to everybody who can guess the chat's name
            await self._client.put_alias(alias, link.room)
            return True
        if (asked := self._aliases.get(side)) is not None:
            return await asyncio.shield(asked)
        if (making := self._portals.making.get(side)) is not None:
            return await making is not None
        self._portals.refuse_twin(side)
        if not self._knocks.take(network, now()):
            log.warning("too_many_aliases", network=network)
            return False
        loop = asyncio.get_running_loop()
        self._portals.making[side] = making = loop.create_future()
        self._aliases[side] = asked = loop.create_future()
        room: ChatId | None = None
        try:
            opened = await self._portals.enter(side)
            await self._exposures().visibilities.told(side)
            if not self._is_open(side):
                relay = self._sessions[(network, None)]
                self._spawn(quiet(relay.perform, verbs.Leave(chat=side.chat, reason="not open to everybody")))
                log.info("alias_refused", network=network)
                return False
            room, link = await self._create(side, opened)
            making.set_result(room)
            await self._opening().begin(link)
            # Only now: whom the homeserver sends in by the alias, without asking us, has to find the door open.
            await self._client.put_alias(alias, room)
            await allowed(self._client.put_state(room, "m.room.canonical_alias", {"alias": alias}))
            asked.set_result(True)
            return True
        finally:
            if not making.done():
                making.set_result(room)
            if not asked.done():
                asked.set_result(False)
            del self._portals.making[side], self._aliases[side]

    def _is_open(self, side: PortalKey) -> bool:
        """Whether the chat's network says that anybody may find it, enter it and read it, and the chat's people may
        be linked. Unknown means secret."""
        seen = self._exposures().visibilities.of(side)
        return (
            seen is not None
            and seen.known
            and seen.listed
            and seen.entry is Entry.OPEN
            and seen.exposure >= Exposure.JOINED
            and self._exposures().may_be_linked(side)
        )

    async def _create(self, side: PortalKey, opened: facts.ChatOpened) -> tuple[ChatId, Link]:
        """A room that shows nothing to anybody yet."""
        name = opened.name or self._networks[side.network].chat_name(side.chat)
        room = await self._client.create_room(
            preset="private_chat",
            visibility="private",
            name=room_name(name, self._label(side.network)),
            topic=opened.topic,
            power_level_content_override={"events": GUARDED},
            initial_state=self._begins(side),
        )
        portal = Portal(room=room, network=side.network, made=True, kind="channel", creator=self._bot)
        link = await self._portals.made(side, room, opened, self._bot, static=False, portal=portal)
        return room, link

    def _session(self, side: PortalKey) -> Session | None:
        supervised = self._sessions.get((side.network, side.receiver))
        return supervised.session if supervised is not None else None

    async def _learn(self, side: PortalKey) -> None:
        """How the chat is protected is known when its account is there, and has looked for devices if it keeps any."""
        supervised = self._sessions.get((side.network, side.receiver))
        if supervised is None:
            return
        with contextlib.suppress(RemoteError, TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                session = await supervised.ready()
            if isinstance(session, KeepsDevices):
                async with asyncio.timeout(LEARN_SECONDS):
                    await session.devices(side.chat)

    def _begins(self, side: PortalKey) -> list[dict[str, Any]]:
        """The first state of a chat's room: encrypted by default where the chat is, too."""
        session = self._session(side)
        sealed = session is not None and session.capabilities(side.chat).protection >= SEALED
        return [*SECRET, ENCRYPTION] if sealed and self._encrypts() else SECRET

    async def unlinked(self, side: PortalKey, fact: Fact) -> ChatId | None:
        """The room for a chat that has none: the one in the making, or a new one for a direct chat."""
        if (making := self._portals.making.get(side)) is not None:
            return await making
        if (link := self._registry.links.get(side)) is not None:
            return link.room
        if side.receiver is None or not isinstance(fact, facts.Message):
            return None
        row = self._registry.logins.get(side.receiver)
        if row is None or fact.content.kind is Kind.NOTICE:
            return None
        if fact.own is not None:
            person = self._portals.other_end(side.network, side.chat)
            self._directs.talked(side)
        elif await self._directs.lets_in(side, fact, row.login.owner):
            person = fact.sender
        else:
            return None
        return await self.direct(side, person, row.login.owner) if person is not None else None

    async def direct(self, side: PortalKey, person: Person, owner: PersonId) -> ChatId:
        """Make the room of a direct chat and ask its owner in."""
        await self._learn(side)
        ghost = self._namespace.mxid(side.network, person.id)
        await self._ghosts.exist(ghost, side.network, person)
        begun = await self._begun(side)
        room = begun or await self._make_direct(side, ghost, person)
        await self._entrust(room, ghost, owner)
        await self._enter(room, ghost)
        member = await self._client.state(room, "m.room.member", owner) if begun else None
        if member is None:
            # Last of all, because an answer may be right behind it; `invite` cannot say that the room is a direct one.
            member = {"membership": "invite", "is_direct": True}
            await self._client.put_state(room, "m.room.member", member, state_key=owner)
        await self._made_direct(side, room, person, owner, made=True)
        self._store.commit(self._store.kv.put(MAKING, _place(side), None))
        if member.get("membership") == "join":  # before it was known whose room that is
            self._store.commit(self._store.kv.put(DIRECT, room, b"joined"))
            self._wanted(side)
        return room

    async def _make_direct(self, side: PortalKey, ghost: PersonId, person: Person) -> ChatId:
        room = await self._client.create_room(
            preset="private_chat",
            visibility="private",
            is_direct=True,
            name=self._ghosts.shown(ghost) or self._ghosts.name_for(side.network, person),
            invite=[ghost],
            initial_state=self._begins(side),
        )
        await self._store.commit(self._store.kv.put(MAKING, _place(side), room.encode()))
        return room

    async def _begun(self, side: PortalKey) -> ChatId | None:
        """The room that was being made for the chat when the bridge, or the homeserver, was interrupted."""
        kept = await self._store.kv.get(MAKING, _place(side))
        room = ChatId(kept.decode()) if kept is not None else None
        if room is None or room in self._registry.portals:
            return None
        with contextlib.suppress(MatrixRefused):
            if self._bot in await self._client.joined_members(room):
                return room
        return None

    async def _entrust(self, room: ChatId, ghost: PersonId, owner: PersonId) -> None:
        """The owner may do there whatever the bridge may. With as much power as its own (`trusted_private_chat`) an
        invitation could not be taken back."""
        levels = await self._client.state(room, "m.room.power_levels") or {}
        events = {
            type: min(level, OWNER) if isinstance(level, int) else level
            for type, level in levels.get("events", {}).items()
        }
        users = {**levels.get("users", {}), ghost: BRIDGE, owner: OWNER}
        await self._client.put_state(
            room, "m.room.power_levels", {**levels, "users": users, "events": events}
        )

    async def _made_direct(
        self, side: PortalKey, room: ChatId, person: Person, owner: PersonId, *, made: bool
    ) -> None:
        portal = Portal(room=room, network=side.network, made=made, kind="direct", creator=owner)
        opened = facts.ChatOpened(chat=side.chat, at=now(), private=True, name=person.name)
        await self._opening().begin(
            await self._portals.made(side, room, opened, owner, static=False, portal=portal)
        )

    async def invited(self, room: ChatId, ghost: PersonId, inviter: PersonId) -> None:
        """A Matrix user asked a ghost into a room: a direct chat, if they have an account to speak with.

        Returns when the chat is linked, so that what is said behind the invitation is not said to nobody.
        """
        parsed = self._namespace.parse(ghost)
        if parsed is None or parsed[0] not in self._networks:
            return
        network, person = parsed
        if self._ghosts.row(ghost) is None and not self._portals.is_possible(network, person):
            await self._ghosts.decline(ghost, room, f"Nobody on {self._label(network)} can be called so.")
            return
        async with self._turns.setdefault(inviter, asyncio.Lock()):
            await self._follow(room, ghost, network, person, inviter)

    async def _follow(
        self, room: ChatId, ghost: PersonId, network: NetworkId, person: PersonId, inviter: PersonId
    ) -> None:
        """One invitation of somebody at a time: of two for the same person, the second finds the first one's room."""
        login = self._accounts.of(network, inviter)
        chat = self._networks[network].direct(person)
        if links := self._registry.links_of(room):
            if chat is not None and any(link.key == PortalKey(network, chat, login) for link in links):
                # Asked back, or asked once and read again after a restart: who declined would leave.
                await self._enter(room, ghost)
                self._wanted(PortalKey(network, chat, login))
            elif not any(link.key.network == network and link.key.receiver is None for link in links):
                why = "This room is linked already: ask me into one with nobody else."
                await self._ghosts.decline(ghost, room, why)
            return  # the network is asked, and the ghost comes when its person does
        if chat is None or (login is None and not self._accounts.may_open(network)):
            await self._ghosts.decline(ghost, room, self.no_login(network))
            return
        whom = Person(id=person, name=self._networks[network].chat_name(chat) or str(person))
        begun = login is not None and PortalKey(network, chat, login) in self._registry.links
        if not begun and (why := await self._directs.refusal(inviter, network, whom)):
            await self._ghosts.decline(ghost, room, why)
            return
        if login is None:
            login = await self._accounts.ensure(network, inviter)  # asking somebody in asks for an account
        side = PortalKey(network, chat, login)
        if (link := self._registry.links.get(side)) is not None:
            why = "You have this conversation already, in another room."
            if inviter not in await self._client.joined_members(link.room):
                await allowed(self._client.invite(link.room, inviter))
                why = "You have this conversation already: see your invitations."
            await self._ghosts.decline(ghost, room, why)
            return
        await self._learn(side)
        await self._ghosts.exist(ghost, network, whom)
        await self._enter(room, ghost)
        if why := await self._unfit(room, ghost, inviter):
            await self._ghosts.leave(ghost, room, why)
            return
        await allowed(self._client.invite(room, self._bot, user=ghost))
        await allowed(self._client.join(room))
        await self._made_direct(side, room, whom, inviter, made=False)
        self._wanted(side)

    async def _enter(self, room: ChatId, ghost: PersonId) -> None:
        await self._client.join(room, user=ghost)
        self._ghosts.entered(ghost, room)

    def _wanted(self, side: PortalKey) -> None:
        self._directs.talked(side)
        self._spawn(quiet(self._begin, side))

    async def _begin(self, side: PortalKey) -> None:
        """The owner of an account wants this conversation: where its network asks the other first, it does now."""
        supervised = self._sessions[side.network, side.receiver]
        session = await supervised.ready()
        if verbs.Join in session.capabilities(side.chat).verbs:
            await supervised.perform(verbs.Join(chat=side.chat), session)

    async def _unfit(self, room: ChatId, ghost: PersonId, inviter: PersonId) -> str:
        """Why a room that the ghost is in cannot be the inviter's direct chat; "" where it can."""
        members = await self._client.joined_members(room, user=ghost)
        if inviter not in members:  # nobody tells of that as long as the ghost is not in
            return "Whoever asked me in is not here any more."
        if all(m == inviter or m == self._bot or self._namespace.is_ours(m) for m in members):
            return ""
        return "What is said here would be said by one person alone: ask me into a room with nobody else."

    def no_login(self, network: NetworkId) -> str:
        """Why nobody can be spoken to from here."""
        return (
            f"Only your own account can speak to people on {self._label(network)}: "
            f"write `login {network}` to {self._bot} first."
        )


def _place(side: PortalKey) -> str:
    return f"{side.network} {side.receiver} {side.chat}"
