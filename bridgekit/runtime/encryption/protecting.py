"""Protection, kept true: the label of each room is published when it changes, and agreements are kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from bridgekit.contract.errors import MatrixError, NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.core.model import Downgrade, matrix_side
from bridgekit.core.protection import (
    SEALED,
    STATE_TYPE,
    Agreement,
    AgreementScope,
    Label,
    Part,
    covered,
    downgrade,
    files_agreement,
    matrix_protection,
    needs_agreement,
    question,
    reason,
    without_agreed,
)
from bridgekit.core.rates import Buckets, Rate
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.lenient import allowed
from bridgekit.runtime.networks.accounts import Key
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.runtime.registry import WAITING, Registry
from bridgekit.store import Store, new_id
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

PUT_BACK = Rate(3, 3600_000)
"""So often a label is put up again that somebody has overwritten: it may be another bridge, which does so, too."""
KEPT = "bridge.protection"
"""Where the last label of each room is kept; no network is called so."""


class _Published(msgspec.Struct):
    """What a room was told last. `links` holds what each link gave, while its network is away; `accepted` is False
    where the room did not let the bridge put its label up."""

    content: dict[str, Any] = {}
    words: str = ""
    links: dict[str, int] = {}
    accepted: bool = True


NOT_SEALED = (
    "There is nothing to agree to: this room is not encrypted, and what is said in it may be linked to."
)
NO_LINKS = (
    "There is nothing to agree to: this bridge has no public address to link to. Its admin can give it one."
)
NO_CHATS = "There is nothing to agree to: this room is linked to no chat."
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Published).decode


class Learn(Protocol):
    """Whether a room is encrypted. Raises MatrixError."""

    def __call__(self, room: ChatId, *, anew: bool = False) -> Awaitable[bool]: ...


class Protecting:
    """The labels of all rooms."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        client: MatrixClient,
        sessions: Mapping[Key, Supervised],
        *,
        is_encrypted: Callable[[ChatId], bool],
        learn: Learn,
        label: Callable[[NetworkId], str],
        say: Callable[[ChatId, str], Awaitable[None]],
        describe: Callable[[Link], Awaitable[None]],
        moved: Callable[[PortalKey], None],
        has_links: bool,
        spawn: Spawn,
    ) -> None:
        """`is_encrypted` tells what is known of a room; `learn` asks the homeserver where nothing is, or `anew`.
        `moved` is told of each link of which `withheld` may have another answer now; `has_links`: files and long
        messages can be linked to at all."""
        self._store = store
        self._registry = registry
        self._client = client.patient
        self._sessions = sessions
        self._is_encrypted = is_encrypted
        self._learn = learn
        self._label = label
        self._say = say
        self._describe = describe
        self._moved = moved
        self._has_links = has_links
        self._spawn = spawn
        self._agreements: dict[PortalKey, Agreement] = {}
        self._seen: dict[PortalKey, Protection] = {}
        self._published: dict[ChatId, _Published] = {}
        self._locks: dict[ChatId, asyncio.Lock] = {}
        self._put_backs: Buckets[ChatId] = Buckets(PUT_BACK)
        self._answering: set[ChatId] = set()  # rooms where an answer will hold the label's words
        self.changes = 0  # counts up whenever an answer of this class has changed

    async def load(self) -> None:
        """Read what was agreed to and published; called once, when the links are known.

        What was agreed to about a link that is gone ended with it, also where a crash came between."""
        for agreement in await self._store.agreements.all():
            if not agreement.ended:
                self._agreements[agreement.side] = agreement
        for side, agreement in list(self._agreements.items()):
            of_room = agreement.scope is AgreementScope.FILES
            if not (self._registry.links_of(ChatId(side.chat)) if of_room else side in self._registry.links):
                await self.end(side, "the link is gone")
        for room, kept in (await self._store.kv.items(KEPT)).items():
            self._published[ChatId(room)] = _decode(kept)

    def resume(self) -> None:
        """Put up what became true when the last run ended, and was not put up any more."""
        for room, published in self._published.items():
            if not self._links_of(room) or self.label(room).content != published.content:
                self._spawn(self.weigh(room))

    # What is so now ------------------------------------------------------------------------------------------

    def matrix(self, room: ChatId) -> Protection:
        """What the room's Matrix side gives."""
        return matrix_protection(encrypted=self._is_encrypted(room))

    def of(self, link: Link) -> Protection:
        """What a link gives: as its session says, or said last; CLEAR where none ever did."""
        if (seen := self._seen.get(link.key)) is not None:
            return seen
        published = self._published.get(link.room)
        return (
            Protection(published.links.get(_word(link.key), 0)) if published is not None else Protection.CLEAR
        )

    def agreed(self, link: Link) -> Downgrade | None:
        """What somebody of the room has agreed to lose between it and the link."""
        agreement = self._agreements.get(link.key)
        return agreement.to if agreement is not None else None

    def laid_open(self, room: ChatId) -> Agreement | None:
        """By which agreement files and long messages of an encrypted room may be linked to; None: they may not."""
        return self._agreements.get(matrix_side(room))

    def holds(self, room: ChatId, agreement: int) -> bool:
        """Whether links that were made by that agreement may still be opened."""
        found = self.laid_open(room)
        return found is not None and found.id == agreement

    def _covers(self, link: Link) -> bool:
        """Whether what is lost between the link and its room now was agreed to."""
        matrix, protection = self.matrix(link.room), self.of(link)
        return covered(matrix, self.agreed(link), min(matrix, protection))

    def withheld(self, side: PortalKey) -> str:
        """Why nothing crosses between a link and its room; "" where it may."""
        link = self._registry.links.get(side)
        if link is None:
            return ""
        matrix = self.matrix(link.room)
        if self._covers(link) or not needs_agreement(matrix, self.of(link)):
            return ""
        return reason(matrix, link.key, link.name, self._label(link.key.network))

    def label(self, room: ChatId) -> Label:
        """What is true of a room now."""
        parts = tuple(self._part(link) for link in self._links_of(room))
        return Label(matrix=self.matrix(room), parts=parts, files=self.laid_open(room) is not None)

    def labels(self) -> dict[ChatId, Label]:
        """What is true now of every room that is linked."""
        rooms = sorted({link.room for link in self._registry.links.values() if link.state != WAITING})
        return {room: self.label(room) for room in rooms}

    def _links_of(self, room: ChatId) -> list[Link]:
        """The links whose chats have agreed to be linked: of the others the room does not speak."""
        return [link for link in self._registry.links_of(room) if link.state != WAITING]

    def _part(self, link: Link) -> Part:
        return Part(
            key=link.key,
            name=link.name,
            label=self._label(link.key.network),
            protection=self.of(link),
            agreed=self._covers(link),
        )

    # What changes it -----------------------------------------------------------------------------------------

    def saw(self, side: PortalKey) -> None:
        """A session has come into a chat: what does it give?"""
        link = self._registry.links.get(side)
        supervised = self._sessions.get((side.network, side.receiver))
        session = supervised.session if supervised is not None else None
        if link is None or session is None:
            return
        protection = session.capabilities(side.chat).protection
        if self._seen.get(side) is not protection:
            self._seen[side] = protection
            self.changed(link.room)

    def changed(self, room: ChatId) -> None:
        """Encryption was switched on, a link was made or went, or what it gives is another now."""
        self.changes += 1
        for link in self._registry.links_of(room):
            self._moved(link.key)
        if self._registry.links_of(room) or room in self._published:
            self._spawn(self.weigh(room))

    def powers_changed(self, room: ChatId) -> None:
        """The bridge may be let now to put up a label that it was not."""
        if (published := self._published.get(room)) is not None and not published.accepted:
            self._spawn(self.weigh(room))

    def overwritten(self, room: ChatId, content: dict[str, Any]) -> None:
        """Somebody else has put up a label: the true one comes back, at once where that does not happen all the
        time."""
        published = self._published.get(room)
        if published is not None and published.accepted and content != published.content:
            published.accepted = False
            log.warning("label_overwritten", room=room)
            self._spawn(self._put_back(room))

    async def _put_back(self, room: ChatId) -> None:
        at = now()
        await asyncio.sleep(self._put_backs.of(room, at).owe(at) / 1000)
        await self.weigh(room)

    async def weigh(self, room: ChatId) -> None:
        """Publish the room's label, and say it, where it is another than it was."""
        async with self._locks.setdefault(room, asyncio.Lock()):
            try:
                # Whoever links a room looks at it as it is now, not as it was when ours were last in it.
                await self._learn(room, anew=room not in self._published)
            except MatrixError as error:
                log.warning("protection_unknown", room=room, reason=error.notice)
                return
            links = self._links_of(room)
            before = self._published.get(room, _Published())
            label = self.label(room)
            after = _Published(
                content=label.content if links else {},
                words=label.words if links else "",
                links={_word(link.key): int(self.of(link)) for link in links},
            )
            if after == before:
                return
            put = after.content != before.content or not before.accepted
            if put and not await allowed(self._client.put_state(room, STATE_TYPE, after.content)):
                after.accepted = False
                if after == before:
                    return  # it is still not let
            self._published[room] = after
            self.changes += 1
            if put:
                for link in links:
                    await self._describe(link)
                log.info("protection_changed", room=room, protection=label.protection.name.lower())
            withheld = [why for link in links if (why := self.withheld(link.key))]
            is_news = msgspec.structs.replace(after, accepted=before.accepted) != before
            if (
                is_news
                and links
                and room not in self._answering
                and (after.words != before.words or withheld)
            ):
                await self._say(room, "\n".join([after.words, *withheld]))
            # Last: behind a crash it is published and said once more, rather than never.
            kept = _encode(after) if links else None
            await self._store.commit(self._store.kv.put(KEPT, room, kept))
            if not links:
                del self._published[room]

    @contextlib.contextmanager
    def answering(self, room: ChatId) -> Iterator[None]:
        """Whoever asked for the change reads the label in their answer (`in_words`), and not twice."""
        self._answering.add(room)
        try:
            yield
        finally:
            self._answering.discard(room)

    async def in_words(self, room: ChatId) -> str:
        """The label as it is published now, and what it keeps from crossing."""
        await self.weigh(room)
        withheld = [why for link in self._links_of(room) if (why := self.withheld(link.key))]
        return " ".join([self.label(room).words, *withheld])

    # Agreements ----------------------------------------------------------------------------------------------

    async def agree(self, link: Link, person: PersonId) -> str:
        """Keep that somebody of the room agrees; what to, as a sentence. Raises NotAllowed where nothing is lost."""
        await self._learn(link.room)
        matrix, part = self.matrix(link.room), self._part(link)
        if not needs_agreement(matrix, part.protection):
            raise NotAllowed(f"There is nothing to agree to: {self.label(link.room).words}")
        wording = question(matrix, part)
        others = [self.of(other) for other in self._links_of(link.room) if other.key != link.key]
        agreement = Agreement(
            id=new_id(),
            room=link.room,
            side=link.key,
            person=person,
            at=now(),
            wording=wording,
            to=downgrade(matrix, part.protection, others),
        )
        await self._begin(agreement)
        return f"{person} has agreed: {wording} `!bridge disagree` takes that back."

    async def agree_files(self, room: ChatId, person: PersonId) -> str:
        """Keep that somebody of the room agrees to links to its files and long messages; what to, as a sentence.
        Raises NotAllowed where nothing is lost by it."""
        await self._learn(room)
        if self.matrix(room) < SEALED:
            raise NotAllowed(NOT_SEALED)
        if not self._has_links:
            raise NotAllowed(NO_LINKS)
        if not self._links_of(room):
            raise NotAllowed(NO_CHATS)
        agreement = files_agreement(new_id(), room, person, now())
        await self._begin(agreement)
        return f"{person} has agreed: {agreement.wording} `!bridge disagree files` takes that back."

    async def _begin(self, agreement: Agreement) -> None:
        """From now on it holds, in place of the one before it."""
        writes = [self._store.agreements.put(agreement)]
        if (before := self._agreements.get(agreement.side)) is not None:
            ended = msgspec.structs.replace(before, ended=agreement.at, ended_by=agreement.person)
            writes.append(self._store.agreements.put(ended))
        await self._store.commit(*writes)
        self._agreements[agreement.side] = agreement
        log.info(
            "downgrade_agreed",
            network=agreement.side.network,
            scope=agreement.scope.value,
            room=agreement.room,
        )
        self.changed(ChatId(agreement.room))

    async def unlinked(self, link: Link, by: str) -> None:
        """The link is gone: what was agreed to about it ends, and with the room's last one what was about its files."""
        await self.end(link.key, by)
        await self.emptied(link.room, by)
        self.changed(link.room)

    async def emptied(self, room: ChatId, by: str) -> None:
        """Links have gone from the room: without any, nobody there could close the addresses of its files any more."""
        if not self._registry.links_of(room):
            await self.end(matrix_side(room), by)

    async def end(self, side: PortalKey, by: str) -> bool:
        """Take an agreement back; says whether there was one. What was said before is where it is."""
        agreement = self._agreements.pop(side, None)
        if agreement is None:
            return False
        ended = msgspec.structs.replace(agreement, ended=now(), ended_by=by)
        await self._store.commit(self._store.agreements.put(ended))
        log.info("downgrade_ended", network=side.network, scope=agreement.scope.value, room=agreement.room)
        self.changed(ChatId(agreement.room))
        return True

    async def erase(self, person: PersonId) -> None:
        """Keep that rooms have agreed, and forget that a Matrix user who is erased had a part in it."""
        for agreement in await self._store.agreements.all():
            kept = without_agreed(agreement, person)
            if kept != agreement:
                await self._store.commit(self._store.agreements.put(kept))
                if (holds := self._agreements.get(kept.side)) is not None and holds.id == kept.id:
                    self._agreements[kept.side] = kept


def _word(key: PortalKey) -> str:
    return " ".join((key.network, key.chat, key.receiver or ""))
