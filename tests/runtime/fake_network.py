"""A small network that a test holds in its hand: it records every verb, says any fact, and breaks on request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, Host, LoginField, Manifest, OwnAccounts
from bridgekit.contract.errors import BridgeError, Disconnected, LoginRejected
from bridgekit.contract.facts import ChatClosed, ChatOpened, ChatVisibility, Fact, Message
from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Kind, Login, Person
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.text import Style, plain
from bridgekit.contract.verbs import FetchHistory, Join, PostMessage, Sent, Verb

TALK = ChatId("#talk")
V = TypeVar("V", bound=Verb)

EVERYBODYS = Visibility(exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, known=True, detail="+n")
EVERYTHING = Capabilities(
    verbs=frozenset(Verb.__args__),
    styles=frozenset(Style),
    kinds=frozenset(Kind),
    replies=True,
    files=False,
    speakers=False,
)


class TownConfig(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Deed(msgspec.Struct, frozen=True):
    """A verb that was performed: by whose account, and under which name the network keeps it."""

    login: LoginId | None
    verb: Verb
    id: MessageId


class Town:
    """The network itself. It lives through restarts of the bridge, and remembers everything.

    `can` is what every chat carries. `visible` are chats that say otherwise who may read them than `visibility` (None:
    they say nothing), `closed`
    those that nobody is let into, with the reason. `history` is what `FetchHistory` brings. `behave` is awaited
    before each verb takes effect: it may wait, or raise. `rejected` are owners whose accounts are no use, `up`
    is whether connections can be made.
    """

    def __init__(self, own_accounts: OwnAccounts = OwnAccounts.ON_REQUEST) -> None:
        self.own_accounts = own_accounts
        self.asks_first = False
        self.retells = False
        self.fields: tuple[LoginField, ...] = ()
        self.can = EVERYTHING
        self.visibility: Visibility | None = EVERYBODYS
        self.visible: dict[ChatId, Visibility] = {}
        self.closed: dict[ChatId, str] = {}
        self.history: list[Fact] = []
        self.behave: Callable[[LoginId | None, Verb], Awaitable[None]] | None = None
        self.rejected: dict[PersonId, str] = {}
        self.rejection: Callable[[str], BridgeError] = LoginRejected
        self.ban = ""  # why the relay is no longer let in
        self.up = True
        self.lingers = 0.0  # seconds that a connection takes to end
        self.address = ""
        self.deeds: list[Deed] = []
        self.logins: list[Login | None] = []  # of every connection that was made
        self.left: list[Login] = []  # accounts that were taken away
        self.forgotten: list[PersonId] = []  # Matrix users who were erased
        self.sessions: dict[LoginId | None, TownSession] = {}
        self._count = itertools.count(1)
        self._waiting: asyncio.Event = asyncio.Event()

    # What a test does ----------------------------------------------------------------------------------------

    def emit(self, *heard: Fact, login: LoginId | None = None) -> None:
        """Let the session of `login` (None: the relay) read facts, now."""
        for fact in heard:
            self.sessions[login].hear(fact)

    def cut(self) -> None:
        """Every connection is lost, and none can be made until `mend`."""
        self.up = False
        for session in self.sessions.values():
            session.lose()

    def mend(self) -> None:
        """Connections can be made again."""
        self.up = True

    # What a test sees ----------------------------------------------------------------------------------------

    def done(self, kind: type[V], login: LoginId | str | None = "anybody") -> list[V]:
        """The verbs of one kind that were performed, in order."""
        return [
            deed.verb
            for deed in self.deeds
            if isinstance(deed.verb, kind) and login in ("anybody", deed.login)
        ]

    def said(self, chat: str = TALK) -> list[str]:
        """The words that were said in a chat, as people there read them."""
        return [
            post.prefix + post.content.text.body
            for post in self.done(PostMessage)
            if post.chat == chat and post.content.kind is not Kind.NOTICE
        ]

    async def until(self, holds: Callable[[], object], seconds: float = 60) -> None:
        """Wait until a verb makes it true."""
        async with asyncio.timeout(seconds):
            while not holds():
                self._waiting.clear()
                await self._waiting.wait()

    # What sessions do ----------------------------------------------------------------------------------------

    def record(self, login: LoginId | None, verb: Verb) -> MessageId:
        id = MessageId(f"town-{next(self._count)}")
        self.deeds.append(Deed(login, verb, id))
        self._waiting.set()
        return id


class TownSession:
    """One account in town."""

    def __init__(self, town: Town, login: Login | None, host: Host) -> None:
        self._town = town
        self._host = host
        self.login = login.id if login is not None else None
        name = login.owner[1:].partition(":")[0] if login is not None else "bridge"
        self.me = Person(id=PersonId(f"own-{name}" if login else "bridge"), name=name)
        self._heard: asyncio.Queue[Fact | None] = asyncio.Queue()
        self._lost = False

    def hear(self, fact: Fact) -> None:
        self._heard.put_nowait(fact)

    def lose(self) -> None:
        self._lost = True
        self._heard.put_nowait(None)

    def capabilities(self, chat: ChatId) -> Capabilities:
        return self._town.can

    async def run(self, emit: Emit) -> None:
        for chat in await self._host.chats() if self.login is None else ():
            self._enter(chat)  # a relay that comes back is in its chats again
        while (fact := await self._heard.get()) is not None:
            emit(fact)
        raise Disconnected("The town is cut off.")

    async def perform(self, verb: Verb) -> Sent | None:
        town = self._town
        if self._lost:
            raise Disconnected("The town is cut off.")
        if town.behave is not None:
            await town.behave(self.login, verb)
        id = town.record(self.login, verb)
        match verb:
            case Join(chat=chat):
                self._enter(chat)
                return None
            case FetchHistory():
                for fact in town.history:
                    self.hear(fact)
                return None
            case _:
                return Sent(id=id)

    def _enter(self, chat: ChatId) -> None:
        town = self._town
        if chat in town.closed:
            self.hear(ChatClosed(chat=chat, at=now(), reason=town.closed[chat]))
            return
        if (seen := town.visible.get(chat, town.visibility)) is not None:
            self.hear(ChatVisibility(chat=chat, at=now(), visibility=seen))
        self.hear(ChatOpened(chat=chat, at=now(), name=chat))


class TownNetwork:
    """`#anything` is shared; `bob` is a private chat with Bob, which the network calls `dm:bob`."""

    def __init__(self, town: Town, host: Host) -> None:
        self._town = town
        self.host = host

    @property
    def own_accounts(self) -> OwnAccounts:
        return self._town.own_accounts

    @property
    def asks_first(self) -> bool:
        return self._town.asks_first

    @property
    def retells(self) -> bool:
        return self._town.retells

    @asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[TownSession]:
        town = self._town
        town.logins.append(login)
        if not town.up:
            raise Disconnected("The town is cut off.")
        if login is None and town.ban:
            raise town.rejection(town.ban)
        if login is not None and login.owner in town.rejected:
            raise town.rejection(town.rejected[login.owner])
        session = TownSession(town, login, self.host)
        town.sessions[login.id if login is not None else None] = session
        try:
            yield session
        finally:
            session.lose()
            town.sessions.pop(session.login, None)
            await asyncio.sleep(town.lingers)

    async def take_leave(self, login: Login) -> None:
        assert login.id not in self._town.sessions, "the session has ended"
        self._town.left.append(login)

    async def forget_owner(self, owner: PersonId) -> list[str]:
        gone = [login.owner for login in self._town.left]
        self._town.forgotten.append(owner)
        return ["A ban of theirs stands on Town."] if owner in gone else []

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        if name.startswith("#"):
            return ChatId(name.lower()), False
        return (ChatId(f"dm:{name.lower()}"), True) if name.isalnum() else None

    def chat_name(self, chat: ChatId) -> str:
        return chat.removeprefix("dm:")

    def whereabouts(self, chat: ChatId) -> str:
        return f"{self._town.address}/{chat}" if self._town.address else ""

    def direct(self, person: PersonId) -> ChatId | None:
        return ChatId(f"dm:{person}")

    def is_service(self, person: PersonId) -> bool:
        return person == "townhall"


class TownConnector:
    """A connector for one town."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self.networks: list[TownNetwork] = []

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            id="town", name="Town", config=TownConfig, login_fields=self._town.fields, example_chat="#talk"
        )

    def network(self, config: TownConfig, host: Host) -> TownNetwork:
        self.networks.append(network := TownNetwork(self._town, host))
        return network


# Facts -------------------------------------------------------------------------------------------------------

_ids = itertools.count(1)


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def person(name: str, **more: object) -> Person:
    """Somebody in town: `Bob`, who is `bob`."""
    return Person(id=PersonId(name.lower()), name=name, **more)  # type: ignore[arg-type]


def says(
    name: str,
    words: str,
    *,
    chat: str = TALK,
    id: str = "",
    file: File | None = None,
    kind: Kind = Kind.TEXT,
    sender: Person | None = None,
    at: int = 0,
    **more: object,
) -> Message:
    """A message of a chat in town; each has an id of its own unless one is given."""
    return Message(
        chat=ChatId(chat),
        at=at or now(),
        sender=sender or person(name),
        id=MessageId(id or f"heard-{next(_ids)}"),
        content=Content(text=plain(words), kind=kind, file=file),
        **more,  # type: ignore[arg-type]
    )
