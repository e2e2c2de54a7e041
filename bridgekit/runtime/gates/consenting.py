"""Consent at work: what the operators of chats are asked, answer and take back; and who has opted out of it all."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog

from bridgekit.contract import verbs
from bridgekit.contract.connector import Manifest, Network
from bridgekit.contract.facts import Fact, Message
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from bridgekit.core.answers import CODE_BYTES, answer_in, code_of
from bridgekit.core.consent import Desk
from bridgekit.core.crowd import Crowds
from bridgekit.core.optout import Heard, OptOuts
from bridgekit.core.questions import (
    WANTED,
    Announce,
    Ask,
    Decision,
    Drop,
    Inform,
    Keep,
    Note,
    Rules,
    Say,
    Throw,
    Weigh,
)
from bridgekit.core.scopes import Consent, Policy, Scope, agreed_since, without_person
from bridgekit.matrix.titles import Titles
from bridgekit.runtime.clock import now
from bridgekit.runtime.lenient import quiet
from bridgekit.runtime.networks.accounts import Key
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.ids import new_id
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

TICK = 30.0
"""Seconds between two looks at what has run out."""
ROSTER_SECONDS = 3.0
"""How long a chat's roster is waited for before somebody is asked."""


class Consenting:
    """The consent desks of all networks. `weigh` is told of every chat whose scopes have changed, and `gone` of
    everybody who has opted out."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        crowds: Crowds,
        networks: Mapping[NetworkId, Network],
        manifests: Mapping[NetworkId, Manifest],
        sessions: Mapping[Key, Supervised],
        *,
        policy: Callable[[NetworkId], Policy],
        label: Callable[[NetworkId], str],
        say: Callable[[ChatId, str], Awaitable[None]],
        announce: Callable[[PortalKey, str], Awaitable[None]],
        titles: Titles,
        weigh: Callable[[PortalKey, frozenset[Scope]], None],
        gone: Callable[[NetworkId, PersonId], None],
        spawn: Spawn,
    ) -> None:
        self.optouts = OptOuts()
        self._store = store
        self._registry = registry
        self._crowds = crowds
        self._networks = networks
        self._manifests = manifests
        self._sessions = sessions
        self._policy = policy
        self._label = label
        self._say = say
        self._announce = announce
        self._titles = titles
        self._weigh = weigh
        self._gone = gone
        self._spawn = spawn
        self._desks: dict[NetworkId, Desk] = {}
        self._record: dict[PortalKey, dict[int, Consent]] = defaultdict(dict)  # all that was ever answered

    async def load(self) -> None:
        """Read what was agreed to before, and open a file for each link."""
        for network in self._networks:
            rules = Rules(policy=self._policy(network), operator=self._manifests[network].operator)
            self._desks[network] = Desk(network, self._label(network), rules)
        for consent in await self._store.consents.all():
            self._record[consent.side][consent.id] = consent
        asks: dict[PortalKey, list[Ask]] = defaultdict(list)
        for ask in await self._store.asks.all():
            asks[ask.side].append(ask)
        self.optouts = OptOuts(await self._store.optouts.all())
        for link in self._registry.links.values():
            self._open(link, asks=asks.pop(link.key, []))
        for left in asks.values():  # of chats that nobody wants any more
            self._store.commit(*(self._store.asks.remove(ask.id) for ask in left))

    def policy(self, network: NetworkId) -> Policy:
        """How much the network's chats are asked."""
        return self._policy(network)

    def consents(self, side: PortalKey) -> tuple[Consent, ...]:
        """All that was answered for a chat."""
        return tuple(self._record.get(side, {}).values())

    def scopes(self, side: PortalKey) -> frozenset[Scope]:
        """What holds for a chat now."""
        desk = self._desks.get(side.network)
        return desk.scopes(side, now()) if desk is not None else frozenset()

    def agreed_at(self, side: PortalKey) -> int:
        """Since when (ms) a chat may be linked, without a break, by its operators' word; 0 where nobody had to be
        asked."""
        if self._policy(side.network) is not Policy.REQUIRED:
            return 0
        return agreed_since(self.consents(side), now())

    def speaks_for(self, side: PortalKey, person: Person) -> bool:
        """Whether who speaks now is an operator of the chat."""
        desk = self._desks.get(side.network)
        return desk is not None and desk.speaks_for(side, person)

    # Links ----------------------------------------------------------------------------------------------------

    async def linked(self, link: Link, wanted: frozenset[Scope] = WANTED) -> None:
        """There is a new link, or one is wanted anew: ask for what it lacks, tell the chat what holds."""
        if link.key.receiver is not None:
            return
        if self._policy(link.key.network) is Policy.REQUIRED:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROSTER_SECONDS):
                    while not self._crowds.of(link.key).known:  # noqa: ASYNC110 - the network tells when it does
                        await asyncio.sleep(0.02)
        await self._titles.read(link.room)
        desk = self._open(link, wanted)
        self._carry(desk, desk.want(link.key, now(), self._dice, wanted))

    def _open(self, link: Link, wanted: frozenset[Scope] = WANTED, asks: Iterable[Ask] = ()) -> Desk:
        desk = self._desks[link.key.network] if link.key.network in self._desks else self._closed(link)
        if link.key.receiver is None:
            crowd = self._crowds.of(link.key)
            desk.open(
                link.key,
                name=link.name,
                room=self._titles.of(link.room),
                by=link.creator,
                wanted=wanted,
                consents=self.consents(link.key),
                asks=asks,
                members=crowd.members() if crowd.known else None,
            )
        return desk

    def _closed(self, link: Link) -> Desk:
        """The desk of a network that is not configured any more: nothing is agreed to there."""
        return Desk(link.key.network, self._label(link.key.network), Rules())

    def called(self, room: ChatId, title: str) -> None:
        """The room has this title from now on."""
        for link in self._registry.links_of(room):
            if link.key.receiver is None and (desk := self._desks.get(link.key.network)) is not None:
                desk.called(link.key, title)

    def unlinked(self, side: PortalKey) -> None:
        """The link is gone: open questions are void."""
        desk = self._desks.get(side.network)
        if desk is not None and side.receiver is None:
            self._carry(desk, desk.close(side))

    def revoke(self, side: PortalKey, by: PersonId) -> None:
        """Take back what was agreed to, in the name of somebody on Matrix who may do that; the link closes at once."""
        desk = self._desks[side.network]
        self._carry(desk, desk.withdraw(side, by, now(), self._dice))

    def erase(self, network: NetworkId, person: PersonId) -> None:
        """Keep that chats have agreed, and forget that somebody who is erased had a part in it."""
        for desk in self._desks.values():
            if network in (desk.network, MATRIX):
                self._carry(desk, desk.erase(network, person, now()))
        for record in self._record.values():  # also of chats that are linked no more
            for consent in list(record.values()):
                if (kept := without_person(consent, network, person)) != consent:
                    record[consent.id] = kept
                    self._store.commit(self._store.consents.put(kept))

    # What happens ---------------------------------------------------------------------------------------------

    def hear(self, side: PortalKey, fact: Fact) -> bool:
        """A fact of a network, the moment it is read; True where it was meant for the bridge alone."""
        desk = self._desks.get(side.network)
        if desk is None:
            return False
        decisions = desk.hear(side, fact, now(), self._dice)
        if decisions:
            self._carry(desk, decisions)
        heard = self.optouts.hear(side.network, fact, now())
        if heard is not None:
            self._spawn(self._opted(side.network, fact.sender, heard))  # type: ignore[union-attr]
        for person, learned in self.optouts.learn(side.network, fact, self._is_in_sight):
            self._spawn(self._opted(side.network, person, learned))
        if not isinstance(fact, Message) or not fact.private:
            return False
        return (
            bool(decisions)
            or heard is not None
            or (side.receiver is None and answer_in(fact.content) is not None)
        )

    def _is_in_sight(self, network: NetworkId, person: PersonId) -> bool:
        return any(True for _ in self._crowds.where(network, person))

    async def _opted(self, network: NetworkId, person: Person, heard: Heard) -> None:
        writes = [self._store.optouts.remove(row) for row in heard.remove]
        if heard.put is not None:
            writes.append(self._store.optouts.put(heard.put))
        if writes:
            await self._store.commit(*writes)
            if heard.put is not None:
                log.info("opted_out", network=network)
            else:
                log.info("opted_in", network=network)
        if heard.put is not None:
            self._gone(network, person.id)
        await self.tell(network, person, heard.words)

    async def tend(self) -> None:
        """Watch the time, until cancelled."""
        for room in {link.room for link in self._registry.links.values() if self._may_be_asked(link)}:
            await self._titles.read(room)
        while True:
            for desk in self._desks.values():
                self._carry(desk, desk.tick(now(), self._dice))
            await asyncio.sleep(TICK)

    def _may_be_asked(self, link: Link) -> bool:
        """Whether the link lacks what its chat's operators are asked for."""
        required = link.key.receiver is None and self._policy(link.key.network) is Policy.REQUIRED
        return required and not self.scopes(link.key) >= WANTED

    def _dice(self) -> Throw:
        return Throw(new_id(), code_of(secrets.token_bytes(CODE_BYTES)))

    # What follows ---------------------------------------------------------------------------------------------

    def _carry(self, desk: Desk, decisions: Sequence[Decision]) -> None:
        """Carry decisions out: what changes who may read, this moment; what people are told, when it is on disk."""
        if not decisions:
            return
        writes = []
        for decision in decisions:
            match decision:
                case Keep(what=Consent() as consent):
                    self._record[consent.side][consent.id] = consent
                    writes.append(self._store.consents.put(consent))
                case Keep(what=Ask() as ask):
                    writes.append(self._store.asks.put(ask))
                case Drop(id=id):
                    writes.append(self._store.asks.remove(id))
                case Weigh(side=side, scopes=scopes):
                    self._weigh(side, scopes)
                case Note(event=event, side=side):
                    level = log.info if event in _USUAL else log.warning
                    where = {"network": side.network, "chat": side.chat} if side is not None else {}
                    level(event, **where)
                case _:
                    pass
        written = self._store.commit(*writes) if writes else None
        words = [d for d in decisions if isinstance(d, Say | Announce | Inform)]
        if words:
            self._spawn(self._speak(desk.network, words, written))

    async def _speak(
        self, network: NetworkId, words: list[Say | Announce | Inform], written: Awaitable[None] | None
    ) -> None:
        if written is not None:
            await written
        for one in sorted(
            words, key=lambda d: not isinstance(d, Inform)
        ):  # networks are paced, the room need not wait
            match one:
                case Say(person=person, words=said):
                    await self.tell(network, person, said)
                case Announce(side=side, words=said):
                    await self._announce(side, said)
                case Inform(side=side, words=said):
                    link = self._registry.links.get(side)
                    if link is not None:
                        await self._say(link.room, said)

    async def tell(self, network: NetworkId, person: Person, words: str) -> None:
        """Say something to one person of a network, in private, line by line."""
        relay = self._sessions.get((network, None))
        chat = self._networks[network].direct(person.id)
        if relay is None or relay.session is None or chat is None:
            log.warning("not_told", network=network)
            return
        for line in words.split("\n"):
            content = Content(text=plain(line), kind=Kind.NOTICE)
            await quiet(relay.perform, verbs.PostMessage(chat=chat, content=content))


_USUAL = ("consent_asked", "consent_granted", "consent_revoked", "consent_refused")
"""What is no sign of trouble."""
