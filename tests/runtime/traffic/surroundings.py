"""As much of a bridge as one worker needs, in memory, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Sent, Verb
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Context, Plan, SideView, matrix_side
from bridgekit.core.plan import plan
from bridgekit.matrix.crypto.incoming import KeyMissing
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable
from bridgekit.runtime.cases import Case, Fate, Tracked
from bridgekit.runtime.traffic.recall import Ids
from bridgekit.runtime.traffic.steps import Step
from bridgekit.runtime.traffic.worker import Worker
from bridgekit.store import InboxRow, Store, new_id

ROOM = ChatId("!room:example.org")
MATRIX_SIDE = matrix_side(ROOM)
CHANNEL = PortalKey(NetworkId("ircnet"), ChatId("#a"))
PARROT = PortalKey(NetworkId("parrot"), ChatId("#b"))
ANN = Person(id=PersonId("@ann:example.org"), name="Ann")
BOB = Person(id=PersonId("@bob:example.org"), name="Bob")
ADA = Person(id=PersonId("ada"), name="Ada")
LOGINS = {ANN.id: LoginId("login-ann"), BOB.id: LoginId("login-bob")}


class Done(msgspec.Struct):
    """A verb that was performed, and what its message numbers were called there."""

    side: PortalKey
    actor: str
    verb: Verb
    ids: Ids


class Around:
    """`traffic.around.Surroundings`: what is performed stands in `done`; `behave` may delay or fail it."""

    def __init__(self, store: Store, *sides: SideView) -> None:
        self.store = store
        self.views = (SideView(key=MATRIX_SIDE, label="Matrix"), *sides)
        self.done: list[Done] = []
        self.begun: list[Verb] = []
        self.told: list[tuple[int, list[tuple[PortalKey, Fate, str]]]] = []
        self.commands: list[str] = []
        self.parkings: list[PortalKey] = []
        self.behave: Callable[[Step], Awaitable[Sent | None]] | None = None
        self.seen: Callable[[Case], None] = lambda case: None
        self.obeyed: Callable[[str], None] = lambda words: None
        self.stopped: dict[PortalKey, Callable[[Case], bool]] = {}  # links from which not everything goes on
        self.tell = False  # whether somebody waits for the fates
        self.telling = asyncio.Event()
        self.telling.set()
        self.keys: dict[bytes, Fact] = {}  # what encrypted events say, whose key is there
        self.key_came = asyncio.Event()
        self.waits: list[float] = []
        self.redacted: frozenset[MessageId] = frozenset()  # what was taken back while the bridge was down
        self.tasks: set[asyncio.Task[None]] = set()
        self.width = 1
        self.retelling: frozenset[NetworkId] = frozenset()
        self.mark = True  # "sending" is written down before a verb leaves
        self._count = 0

    def context(self, room: ChatId, case: Case, known: Mapping[MessageId, Tracked]) -> Context:
        return Context(
            number=case.number,
            origin=case.origin,
            sides=self.views,
            namespace=Namespace("_bk_", "example.org"),
            known={id: tracked.known() for id, tracked in known.items()},
        )

    @property
    def passing(self) -> frozenset[PortalKey]:
        return frozenset(self.sides(ROOM)) - self.stopped.keys()

    def stop(self, case: Case) -> bool:
        return self.stopped[case.origin](case) if case.origin in self.stopped else False

    async def hide(self, case: Case, why: str) -> bool:
        return False

    def was_erased(self, sender: PersonId, number: int) -> bool:
        return False

    def is_elsewhere(self, room: ChatId, side: PortalKey) -> bool:
        return False

    def hold_back(self, case: Case) -> None:
        raise AssertionError("no room was replaced")

    def decide(self, context: Context, fact: Fact) -> Plan:
        return plan(context, fact)

    async def perform(self, room: ChatId, step: Step, ids: Ids) -> Sent | None:
        if step.action.side.network == MATRIX:
            await step.case.kept()
        self.begun.append(step.action.verb)
        if self.mark and step.action.side.network != MATRIX and step.case.durable and not step.marked:
            step.marked = True
            await self.store.commit(self.store.outbox.sending(step.case.number, step.index))
        sent = await self.behave(step) if self.behave is not None else None
        self.done.append(Done(step.action.side, step.action.actor, step.action.verb, ids))
        if sent is None:
            self._count += 1
            sent = Sent(id=MessageId(f"{step.action.side.network}-{self._count}"))
        return sent

    def pipeline(self, side: PortalKey) -> int:
        return self.width

    def retells(self, network: NetworkId) -> bool:
        return network in self.retelling

    def sides(self, room: ChatId) -> list[PortalKey]:
        return [view.key for view in self.views[1:]]

    def in_clear(self, room: ChatId) -> str:
        return ""

    def heeds(self, room: ChatId) -> bool:
        return len(self.views) > 1

    async def open(self, said: Encrypted) -> Fact | StateChanged | Encrypted | Unreadable | None:
        if said.raw not in self.keys:
            raise KeyMissing("The key has not come.", (said.chat, "session", said.sender))
        return self.keys[said.raw]

    async def glance(self, said: Encrypted) -> object:
        return None

    async def key(self, missing: KeyMissing, seconds: float) -> bool:
        self.waits.append(seconds)
        await self.key_came.wait()
        return bool(self.keys)

    def held_up(self, room: ChatId, case: Case, side: PortalKey, actor: str) -> None:
        pass

    def parked(self, side: PortalKey) -> None:
        self.parkings.append(side)

    def observe(self, room: ChatId, case: Case) -> Coroutine[Any, Any, None] | None:
        self.seen(case)
        return None

    async def command(self, room: ChatId, case: Case, words: str) -> None:
        self.commands.append(words)
        self.obeyed(words)

    def settled(self, room: ChatId, case: Case) -> Coroutine[Any, Any, None] | None:
        fates = [(o.side, o.fate, o.notice) for o in case.outcomes]
        if not self.tell:
            self.told.append((case.number, fates))
            return None
        return self._tell(case.number, fates)

    async def _tell(self, number: int, fates: list[tuple[PortalKey, Fate, str]]) -> None:
        await self.telling.wait()
        self.told.append((number, fates))

    def muster(self, room: ChatId, origin: PortalKey, decided: Plan) -> None: ...

    async def introduce(self, room: ChatId, case: Case) -> None:
        fact: Any = case.fact
        named = msgspec.structs.replace(fact.sender, name="Introduced")
        case.fact = msgspec.structs.replace(fact, sender=named)

    async def withdrawn(self, room: ChatId, since: int) -> frozenset[MessageId]:
        return self.redacted

    async def words(self, room: ChatId, event: MessageId) -> tuple[str, str]:
        return "Ada", f"what {event} said"

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class Scene:
    """A worker at work; `hear` puts facts into its inbox as the bridge does."""

    def __init__(self, store: Store, around: Around) -> None:
        self.store = store
        self.around = around
        self.worker = Worker(ROOM, around)
        self._working = asyncio.create_task(self.worker.run())

    async def hear(self, origin: PortalKey, *heard: Fact, **more: Any) -> list[int]:
        """The numbers of the facts, which are on disk and with the worker now."""
        numbers = []
        for fact in heard:
            number = new_id()
            row = InboxRow(
                id=number,
                side=origin.network,
                chat=origin.chat,
                receiver=origin.receiver,
                body=facts.encode(fact),
                at=fact.at,
            )
            await self.store.commit(self.store.inbox.add(row))
            self.take_up(number, origin, fact, **more)
            numbers.append(number)
        return numbers

    def take_up(self, number: int, origin: PortalKey, fact: Fact, *, recovering: bool = False) -> None:
        event = getattr(fact, "id", None) if origin.network == MATRIX else None
        self.worker.offer(Case(number, origin, fact, durable=True, recovering=recovering, event=event))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - whatever a test waits for
                await asyncio.sleep(0.001)

    async def quiet(self) -> None:
        """Wait until everything has its fate and is on disk."""
        await self.until(
            lambda: not self.worker.waiting and not self.worker.under_way and not self.around.tasks
        )
        await self.store.commit()

    async def stop(self) -> None:
        """As when the process ends."""
        tasks = [self._working, *self.around.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def said(self, side: PortalKey) -> list[str]:
        """The words that were said on a side, in order."""
        return [words(done.verb) for done in self.around.done if done.side == side]


def words(verb: Verb) -> str:
    """What a verb says, or what it is."""
    content: Content | None = getattr(verb, "content", None)
    return content.text.body if content is not None else type(verb).__name__


def said(origin: PortalKey, sender: Person, id: str, text: str = "", **more: Any) -> facts.Message:
    """A message; its words are its id, unless others are given."""
    return facts.Message(
        chat=origin.chat,
        at=5,
        sender=sender,
        id=MessageId(id),
        content=Content(text=plain(text or id)),
        **more,
    )
