"""The echo connector does what the tutorial says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.connector import API_VERSION, Connector, Host, Session
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId
from bridgekit.contract.people import Content, Kind, Login, Person
from bridgekit.contract.text import plain
from connectors.echo.connector import ECHO, EchoConfig, connector

CHAN = ChatId("#chan")


class Home:
    """As much of a host as echo asks for."""

    network = NetworkId("parrot")
    log = structlog.get_logger()

    def now(self) -> float:
        return 1000.5


HOST = cast(Host, Home())


@asynccontextmanager
async def session(
    config: EchoConfig | None = None, login: Login | None = None
) -> AsyncIterator[tuple[Session, asyncio.Queue[facts.Fact]]]:
    network = connector.network(config or EchoConfig(), HOST)
    heard: asyncio.Queue[facts.Fact] = asyncio.Queue()
    async with network.connect(login) as opened, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(opened.run(heard.put_nowait))
        yield opened, heard
        reading.cancel()


def say(words: str, chat: ChatId = CHAN, **more: Any) -> verbs.PostMessage:
    return verbs.PostMessage(chat=chat, content=Content(text=plain(words)), **more)


def test_it_is_a_connector_of_this_version():
    whole: Connector = connector
    assert whole.manifest.api_version == API_VERSION


async def test_what_is_said_comes_back_from_echo():
    async with session() as (opened, heard):
        sent = await opened.perform(say("hello"))
        answer = await heard.get()
    assert sent == verbs.Sent(id=MessageId("1000500-relay-2"))
    assert answer == facts.Message(
        chat=CHAN,
        at=1000500,
        sender=ECHO,
        id=MessageId("1000500-relay-1"),
        content=Content(text=plain("hello")),
    )


async def test_it_says_it_as_often_as_it_is_told():
    async with session(EchoConfig(times=3)) as (opened, heard):
        await opened.perform(say("hello"))
        ids = {cast(facts.Message, await heard.get()).id for _ in range(3)}
    assert len(ids) == 3


async def test_a_private_chat_is_marked_as_one():
    async with session(login=Login(id=LoginId("ada"), owner=PersonId("@ada:example.org"))) as (opened, heard):
        await opened.perform(say("psst", chat=ChatId("echo")))
        answer = await heard.get()
    assert answer.private
    assert opened.me.id == "ada"


async def test_machines_are_not_answered():
    robot = Person(id=PersonId("@other:example.org"), name="other echo", bot=True)
    async with session() as (opened, heard):
        await opened.perform(say("hello", speaker=robot))
        await opened.perform(
            verbs.PostMessage(chat=CHAN, content=Content(text=plain("beep"), kind=Kind.NOTICE))
        )
        await opened.perform(verbs.Join(chat=CHAN))
        assert await heard.get() == facts.ChatOpened(chat=CHAN, at=1000500, name="#chan")


async def test_what_it_cannot_do_is_refused_with_a_sentence():
    async with session() as (opened, _):
        topic = verbs.SetTopic(chat=CHAN, topic="x")
        assert type(topic) not in opened.capabilities(CHAN).verbs
        with pytest.raises(SendRejected, match="Nobody on this network can do that"):
            await opened.perform(topic)


def test_chats_are_called_as_people_call_them():
    network = connector.network(EchoConfig(), HOST)
    assert network.chat_id("#Chan") == ("#chan", False)
    assert network.chat_id("Echo") == ("echo", True)
    assert network.chat_id("nobody") is None
    assert network.direct(PersonId("echo")) == "echo"
    assert network.direct(PersonId("ada")) is None
    assert network.chat_name(CHAN) == "#chan"
