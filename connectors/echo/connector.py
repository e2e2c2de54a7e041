"""A network where whatever is said comes back: the smallest whole connector, and the tutorial's example."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict, Field

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, Host, Manifest, OwnAccounts
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import ChatOpened, ChatVisibility, Fact, Message
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Kind, Login, Person
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.text import Style
from bridgekit.contract.verbs import Join, Leave, PostMessage, Sent, Verb, VerbBase

ECHO = Person(id=PersonId("echo"), name="echo", bot=True)
PRIVATE = ChatId("echo")
EVERYBODYS = Visibility(exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, known=True)


class EchoConfig(BaseModel):
    """One person lives here, and repeats what is said."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    times: int = Field(default=1, ge=1, le=5, description="How often everything is said back.")


class EchoSession:
    """One account on the network; it lasts until it is cancelled."""

    def __init__(self, config: EchoConfig, host: Host, login: Login | None) -> None:
        self.me = Person(id=PersonId(login.id if login else "relay"), name="bridge")
        self._config = config
        self._host = host
        self._heard: asyncio.Queue[Fact] = asyncio.Queue()
        self._count = 0

    def capabilities(self, chat: ChatId) -> Capabilities:
        """Styled words of every kind; everything else is turned into words by the bridge."""
        verbs: frozenset[type[VerbBase]] = frozenset({PostMessage, Join, Leave})
        return Capabilities(verbs=verbs, styles=frozenset(Style), kinds=frozenset(Kind), speakers=True)

    async def run(self, emit: Emit) -> None:
        """Tell what is heard."""
        while True:
            emit(await self._heard.get())

    async def perform(self, verb: Verb) -> Sent | None:
        """Say it, and hear it back."""
        now = int(self._host.now() * 1000)
        match verb:
            case PostMessage():
                machine = verb.content.kind is Kind.NOTICE or (verb.speaker and verb.speaker.bot)
                for _ in range(0 if machine else self._config.times):  # two echoes would never end
                    answer = Message(
                        chat=verb.chat, at=now, private=verb.chat == PRIVATE,
                        sender=ECHO, id=self._next_id(now), content=verb.content,
                    )  # fmt: skip
                    self._heard.put_nowait(answer)
                return Sent(id=self._next_id(now))
            case Join():
                self._heard.put_nowait(ChatOpened(chat=verb.chat, at=now, name=verb.chat))
                self._heard.put_nowait(ChatVisibility(chat=verb.chat, at=now, visibility=EVERYBODYS))
            case Leave():
                pass
            case _:
                raise SendRejected("Nobody on this network can do that.")
        return None

    def _next_id(self, now: int) -> MessageId:
        self._count += 1
        return MessageId(f"{now}-{self.me.id}-{self._count}")


class EchoNetwork:
    """What the sessions share, and how chats are called: `#anything` is shared, `echo` is a private chat."""

    own_accounts = OwnAccounts.ON_REQUEST
    asks_first = False
    retells = False

    def __init__(self, config: EchoConfig, host: Host) -> None:
        self._config = config
        self._host = host

    @asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[EchoSession]:
        """There is nothing to connect to: the session is usable at once."""
        yield EchoSession(self._config, self._host, login)

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        """The chat that people call `name`, and whether it is private."""
        if name.lower() == PRIVATE:
            return PRIVATE, True
        if name.startswith("#") and len(name) > 1 and not name.isspace():
            return ChatId(name.lower()), False
        return None

    def chat_name(self, chat: ChatId) -> str:
        """What people call the chat."""
        return chat

    def whereabouts(self, chat: ChatId) -> str:
        """Every echo is a place of its own."""
        return ""

    def direct(self, person: PersonId) -> ChatId | None:
        """Echo is the only one who can be talked to alone."""
        return PRIVATE if person == ECHO.id else None

    def is_service(self, person: PersonId) -> bool:
        """Echo is no person."""
        return person == ECHO.id


class EchoConnector:
    """What the entry point names."""

    manifest = Manifest(id="echo", name="Echo", config=EchoConfig, example_chat="#anything")

    def network(self, config: EchoConfig, host: Host) -> EchoNetwork:
        """The network's shared state."""
        return EchoNetwork(config, host)


connector = EchoConnector()
