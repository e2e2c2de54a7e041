"""Private conversations at work: who may begin one, who does not want to be written to, and who has talked to whom."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.connector import Network
from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from bridgekit.core import wording
from bridgekit.core.crowd import Crowds
from bridgekit.core.direct import Answered, Blocks, Direct, refusal
from bridgekit.core.optout import OptOuts
from bridgekit.core.rates import Buckets, Rate
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.lenient import quiet
from bridgekit.runtime.networks.accounts import Key
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import OPEN, Registry
from bridgekit.store import Store
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

DIRECT = "bridge.direct"
"""Where it is kept that the owner of a direct chat has entered its room; no network is called so."""
TALKED = "bridge.talked"
"""Where it is kept in which private chats a Matrix user has taken part, by network, user and chat."""
PER_PERSON = Rate(1, 60 * 60_000)
PER_NETWORK = Rate(10, 60_000)
"""Answers that private words went nowhere, so that nobody can make people's accounts write to others, or be flooded."""
ROOMS = 200
"""Of so many rooms it is remembered who is in them."""


class Directs:
    """Which private conversations may begin, and in which of them something may be said.

    `other_end` is with whom a private chat is, as far as names tell; `tell` speaks to one person of a network in the
    bridge's own name; `counted` is told of each message that was turned away.
    """

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        crowds: Crowds,
        networks: Mapping[NetworkId, Network],
        sessions: Mapping[Key, Supervised],
        *,
        other_end: Callable[[NetworkId, ChatId], Person | None],
        policy: Callable[[NetworkId], Direct],
        optouts: Callable[[], OptOuts],
        label: Callable[[NetworkId], str],
        tell: Callable[[NetworkId, Person, str], Coroutine[Any, Any, None]],
        counted: Callable[[NetworkId], None],
        spawn: Spawn,
    ) -> None:
        self.policy = policy
        self.turned_away: Counter[NetworkId] = Counter()
        self._client = client.patient
        self._store = store
        self._registry = registry
        self._ghosts = ghosts
        self._crowds = crowds
        self._networks = networks
        self._sessions = sessions
        self._other_end = other_end
        self._optouts = optouts
        self._label = label
        self._tell = tell
        self._counted = counted
        self._spawn = spawn
        self._blocks = Blocks()
        self._talked: set[str] = set()
        self._joined: dict[ChatId, frozenset[PersonId]] = {}
        self._moves = 0
        self._people: Buckets[PortalKey] = Buckets(PER_PERSON)
        self._rate: Buckets[NetworkId] = Buckets(PER_NETWORK)

    async def load(self) -> None:
        """Read who blocks whom, and who has talked to whom."""
        self._blocks = Blocks(await self._store.blocks.all())
        self._talked = set(await self._store.kv.items(TALKED))
        entered = await self._store.kv.items(DIRECT)  # some of them before it was kept who has talked
        for link in self._registry.links.values():
            portal = self._registry.portals.get(link.room)
            if portal is not None and portal.kind == "direct" and (link.room in entered or not portal.made):
                self.talked(link.key)

    # From Matrix -----------------------------------------------------------------------------------------------

    async def refusal(self, owner: PersonId, network: NetworkId, person: Person) -> str:
        """Why a Matrix user may not begin a conversation with somebody; "" where they may. Raises BridgeError."""
        return self._unwilling(owner, network, person) or await self._strange(owner, network, person)

    async def _strange(self, owner: PersonId, network: NetworkId, person: Person) -> str:
        """Why the two may not begin one, whichever of them does; "" where they may."""
        policy = self.policy(network)
        known = policy is Direct.KNOWN and await self._is_known(owner, network, person.id)
        return refusal(policy, known=known, name=person.name, label=self._label(network))

    async def _is_known(self, owner: PersonId, network: NetworkId, person: PersonId) -> bool:
        there = self._networks[network]
        if there.asks_first or there.is_service(person):
            return True
        chat = there.direct(person)
        if chat is not None and _talk(network, owner, chat) in self._talked:
            return True
        for room in self._met_in(network, person):
            with contextlib.suppress(MatrixRefused):  # a room that the bridge is not in any more
                if owner in await self._in(room):
                    return True
        return False

    async def _in(self, room: ChatId) -> frozenset[PersonId]:
        """The people of Matrix in a room, asked for once: a stranger who writes on and on costs no request a line."""
        if (joined := self._joined.get(room)) is None:
            moves = self._moves
            found = await self._client.joined_members(room)
            joined = frozenset(user for user in found if not self._ghosts.is_one(user))
            if moves == self._moves:  # nobody moved while it was asked
                if len(self._joined) >= ROOMS:
                    self._joined.clear()
                self._joined[room] = joined
        return joined

    def moved(self, room: ChatId) -> None:
        """Somebody of Matrix came into the room or left it."""
        self._joined.pop(room, None)
        self._moves += 1

    def _met_in(self, network: NetworkId, person: PersonId) -> list[ChatId]:
        """The rooms of the open links in whose chats somebody is."""
        links = self._registry.links
        crowds = (links[side].room for side in self._crowds.where(network, person) if side in links)
        ghost = self._ghosts.of(network, person)
        return [
            room
            for room in dict.fromkeys([*crowds, *self._ghosts.rooms_of(ghost)])
            if any(
                link.key.network == network and link.key.receiver is None and link.state == OPEN
                for link in self._registry.links_of(room)
            )
        ]

    def talked(self, side: PortalKey) -> None:
        """The owner of an account has begun a conversation, or said yes to one: they are no strangers any more."""
        talk = _talk(side.network, self._owner(side), side.chat)
        if side.receiver is not None and talk not in self._talked:
            self._talked.add(talk)
            self._store.commit(self._store.kv.put(TALKED, talk, b"1"))

    def closed(self, link: Link) -> str:
        """Why nothing may be said in a private conversation any more; "" where it may."""
        network = link.key.network
        if self.policy(network) is Direct.OFF:
            return wording.no_conversations(self._label(network))
        person = self._other_end(network, link.key.chat)
        return self._unwilling(self._owner(link.key), network, person) if person is not None else ""

    def _unwilling(self, owner: PersonId, network: NetworkId, person: Person) -> str:
        account = person.account or self._crowds.account(network, person.id) or None
        whom = Person(id=person.id, name=person.name, account=account)
        if self._blocks.covers(network, whom, owner):
            return wording.takes_no_messages(person.name)
        return wording.wants_no_bridge(person.name) if self._optouts().covers(network, whom) else ""

    def _owner(self, side: PortalKey) -> PersonId:
        """Whose account it is; "" for the bridge's own."""
        row = self._registry.logins.get(side.receiver) if side.receiver is not None else None
        return row.login.owner if row is not None else PersonId("")

    # From the network ------------------------------------------------------------------------------------------

    def hear(self, side: PortalKey, fact: Fact) -> bool:
        """A fact, the moment it is read; True where it goes no further: it is private, and its sender knows."""
        for person, learned in self._blocks.learn(side.network, fact, self._is_in_sight):
            self._spawn(self._heard(PortalKey(side.network, side.chat), person, learned))
        if not fact.private:
            return False
        message = fact if isinstance(fact, facts.Message) and fact.own is None else None
        if message is not None:
            answered = self._blocks.hear(side.network, message, self._owner(side), now())
            if answered is not None:
                self._spawn(self._heard(side, message.sender, answered))
                return True
        if side.receiver is None:
            return False  # words for the bridge itself
        if self.policy(side.network) is Direct.OFF:
            if message is not None:
                self._turn_away(side, message, wording.not_passed_on(self._label(side.network)))
            return True
        if message is None or side in self._registry.links:
            return False
        if self._optouts().covers(side.network, message.sender):
            self._answer(side, message, wording.OUT_SO_NOT_PASSED_ON)
            return True
        return False

    def _is_in_sight(self, network: NetworkId, person: PersonId) -> bool:
        return any(True for _ in self._crowds.where(network, person))

    def lost(self, network: NetworkId) -> None:
        """The connection to a network is gone: whoever has a name there later may be somebody else."""
        self._blocks.lost(network)

    async def lets_in(self, side: PortalKey, message: facts.Message, owner: PersonId) -> bool:
        """Whether words for which there is no room yet may make one; where not, their sender knows. Raises
        BridgeError where that cannot be known now."""
        if not await self._strange(owner, side.network, message.sender):
            return True
        self._turn_away(side, message, wording.NOT_TAKEN)
        return False

    async def _heard(self, side: PortalKey, person: Person, answered: Answered) -> None:
        writes = [self._store.blocks.remove(row) for row in answered.remove]
        if answered.put is not None:
            writes.append(self._store.blocks.put(answered.put))
        if writes:
            await self._store.commit(*writes)
            log.info("block_changed", network=side.network, blocks=answered.put is not None)
        if side.receiver is None:
            await self._tell(side.network, person, answered.words)
        else:
            await self._reply(side, answered.words)

    def _turn_away(self, side: PortalKey, message: facts.Message, words: str) -> None:
        self.turned_away[side.network] += 1
        self._counted(side.network)
        log.info("turned_away", network=side.network)
        self._answer(side, message, words)

    def _answer(self, side: PortalKey, message: facts.Message, words: str) -> None:
        """Say, with the account that was written to, that it went nowhere; to a machine nothing is said."""
        if message.replayed or message.sender.bot or message.content.kind is Kind.NOTICE:
            return
        if self._people.take(side, now()) and self._rate.take(side.network, now()):
            self._spawn(self._reply(side, words))

    async def _reply(self, side: PortalKey, words: str) -> None:
        supervised = self._sessions.get((side.network, side.receiver))
        if supervised is not None:
            content = Content(text=plain(words), kind=Kind.NOTICE)
            await quiet(supervised.perform, verbs.PostMessage(chat=side.chat, content=content))

    # Erasure ---------------------------------------------------------------------------------------------------

    async def erase(self, side: NetworkId, who: PersonId) -> None:
        """Forget who has talked to whom, and what somebody of a network blocks: who is erased there has opted out,
        which keeps more away. That a Matrix user is blocked is for those to take back who wanted it."""
        if side == MATRIX:
            gone = [talk for talk in self._talked if talk.split(" ", 2)[1] == who]
        else:
            chat = self._networks[side].direct(who) if side in self._networks else None
            gone = [talk for talk in self._talked if talk.split(" ", 2)[::2] == [side, chat]]
        self._talked.difference_update(gone)
        writes = [self._store.kv.put(TALKED, talk, None) for talk in gone]
        writes += [self._store.blocks.remove(row) for row in self._blocks.forget(side, who)]
        if writes:
            await self._store.commit(*writes)


def _talk(network: NetworkId, owner: PersonId, chat: ChatId) -> str:
    return f"{network} {owner} {chat}"
