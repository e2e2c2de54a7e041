"""Whether the networks of a config and the chats of its links can be: asked of the networks, which none of this
connects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from aiohttp import web

from bridgekit.config.model import Config
from bridgekit.config.source import Place
from bridgekit.contract.connector import Connector, FileOpener
from bridgekit.contract.errors import ConfigError
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import File, Portrait
from bridgekit.contract.reports import AbuseReport


def unusable(config: Config, connectors: Mapping[str, Connector]) -> list[tuple[str, str]]:
    """The networks with which the bridge could not start (a package that one needs is not installed): the path of
    each, and why."""
    problems: list[tuple[str, str]] = []
    for id, section in config.networks.items():
        try:
            connectors[section.connector].network(section.config, _Nobody(id))
        except ConfigError as error:
            problems += [(f"networks.{id}", why) for _, why in error.problems]
    return problems


def wrong_chats(connector: Connector, config: Any, links: Any, place: Place) -> list[tuple[Place, str]]:
    """What is wrong with the `links` of the network at `place`, as they stand in the file.

    A chat that is written in two ways is one chat, as its network sees it.
    """
    named = [
        (index, link["chat"])
        for index, link in enumerate(links if isinstance(links, list) else ())
        if isinstance(link, Mapping) and isinstance(link.get("chat"), str) and link["chat"]
    ]
    if not named:
        return []
    try:
        network = connector.network(config, _Nobody(NetworkId(str(place[-1]))))
    except ConfigError as error:
        return [(place, why) for _, why in error.problems]
    problems: list[tuple[Place, str]] = []
    first: dict[ChatId, str] = {}
    for index, name in named:
        where = (*place, "links", index, "chat")
        chat = network.chat_id(name)
        if chat is None or chat[1]:
            example = connector.manifest.example_chat
            problems.append(
                (
                    where,
                    "is not a chat that can be linked" + (f"; one looks like {example}" if example else ""),
                )
            )
        elif chat[0] in first:
            other = first[chat[0]]
            same = "" if other == name else f": to the network it is {other}"
            problems.append((where, f"{name} is linked twice{same}; a chat has one room"))
        else:
            first[chat[0]] = name
    return problems


class _Nobody:
    """`bridgekit.contract.connector.Host` for a network that is only asked how its chats are called."""

    def __init__(self, network: NetworkId) -> None:
        self.network = network
        self.log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    def now(self) -> float:
        return 0.0

    async def get(self, key: str) -> bytes | None:
        return None

    async def put(self, key: str, value: bytes | None) -> None:
        pass

    def put_later(self, key: str, value: bytes | None) -> None:
        pass

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        pass

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        return {}

    async def walk(self, prefix: str = "") -> AsyncIterator[tuple[str, bytes]]:
        return
        yield

    def mount(
        self, method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> None:
        pass

    def open_media(self, file: File) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise NotImplementedError

    async def store_media(self, data: bytes, name: str, mime: str) -> File:
        raise NotImplementedError

    def opens_files(self, opener: FileOpener) -> None:
        pass

    async def portrait(self, person: PersonId) -> Portrait:
        return Portrait()

    async def chats(self) -> list[ChatId]:
        return []

    async def report(self, report: AbuseReport) -> None:
        pass

    def owner_of(self, person: PersonId) -> PersonId | None:
        return None
