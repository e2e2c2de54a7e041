"""How people look and what they are called: asked for when somebody speaks, one after the other, and shown once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.errors import MatrixError, RemoteError
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import File, Person
from connectors.xmpp.stanzas import cards, compose, wire
from connectors.xmpp.stanzas.cards import Picture
from connectors.xmpp.stream import Refused, Stream, new_id

WAITING = 200
"""People who may wait to be looked at; whoever is not among them is looked at when they speak again."""
KNOWN = 5000
SECONDS = 15.0


class Wanted(msgspec.Struct, frozen=True):
    """Somebody to look at: in a room with the digest that they announce there, in private by their address."""

    chat: ChatId
    person: Person
    address: str
    reader: str
    digest: str
    private: bool
    tell: Callable[[Fact], None]


class Faces:
    """One session's."""

    def __init__(self, stream: Stream, host: Host) -> None:
        self._stream = stream
        self._host = host
        self._waiting: asyncio.Queue[Wanted] = asyncio.Queue(WAITING)
        self._known: OrderedDict[tuple[ChatId, str], str] = OrderedDict()

    def look(self, wanted: Wanted) -> None:
        """They spoke. Whoever looks as before is not looked at again."""
        key = wanted.chat, str(wanted.person.id)
        if self._known.get(key) == wanted.digest or self._waiting.full():
            return
        self._known[key] = wanted.digest
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        self._waiting.put_nowait(wanted)

    async def run(self) -> NoReturn:
        """Look, one after the other."""
        while True:
            wanted = await self._waiting.get()
            try:
                async with asyncio.timeout(4 * SECONDS):
                    await self._show(wanted)
            except (Refused, TimeoutError, RemoteError, MatrixError) as error:
                self._host.log.info("xmpp_face_not_had", kind=type(error).__name__)

    async def _show(self, wanted: Wanted) -> None:
        name, uri = wanted.person.name, await self._kept(wanted.digest)
        if not uri:
            called, picture = await self._ask(wanted)
            if wanted.private:
                name = called or name
            elif picture is not None and picture.digest != wanted.digest:
                return  # it is not what was announced
            if picture is not None:
                uri = await self._kept(picture.digest) or await self._keep(picture)
        if not uri and name == wanted.person.name:
            return
        avatar = File(uri=uri, name="avatar") if uri else None
        person = msgspec.structs.replace(wanted.person, name=name, avatar=avatar)
        at = int(self._host.now() * 1000)
        wanted.tell(facts.Profile(chat=wanted.chat, at=at, private=wanted.private, person=person))

    async def _ask(self, wanted: Wanted) -> tuple[str, Picture | None]:
        def question(payload: Element) -> Element:
            return compose.ask(wanted.address, wanted.reader, new_id(), payload)

        name, picture = "", None
        try:
            name, picture = cards.read_card(await self._stream.ask(question(cards.ask_card()), SECONDS))
        except Refused:
            if not wanted.private:
                raise
        if picture is None and wanted.private:
            digest = cards.read_metadata(
                await self._stream.ask(question(cards.ask_items(wire.AVATAR_META)), SECONDS)
            )
            if digest:
                answer = await self._stream.ask(question(cards.ask_items(wire.AVATAR_DATA, digest)), SECONDS)
                picture = cards.read_data(answer)
                if picture is not None and picture.digest != digest:
                    picture = None
        return name, picture

    async def _kept(self, digest: str) -> str:
        """The Matrix address of a picture that was stored before."""
        return (await self._host.get(f"face/{digest}") or b"").decode() if digest else ""

    async def _keep(self, picture: Picture) -> str:
        stored = await self._host.store_media(picture.data, "avatar", picture.mime)
        self._host.put_later(f"face/{picture.digest}", stored.uri.encode())
        return stored.uri
