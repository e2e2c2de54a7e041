"""The users of one provider with their clients: they take part in rooms, and remember what they heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Person
from connectors.mimi.clients.seat import Changed, Heard, Said, Seat
from connectors.mimi.messages import content, status
from connectors.mimi.messages.parts import MimiContent
from connectors.mimi.messages.plausible import belongs
from connectors.mimi.mls import MemberEngine
from connectors.mimi.service.people import People
from connectors.mimi.testing.cast import Client
from connectors.mimi.translate import Received, receipts, to_facts
from connectors.mimi.wire.components import APPLICATION_FRAMING, ApplicationFraming, MediaType
from connectors.mimi.wire.rooms import Fanout, ProposalFanout, WelcomeFanout
from connectors.mimi.wire.users import (
    AbuseReport,
    ConsentEntry,
    IdentifierRequest,
    IdentifierResponse,
    QueryCode,
)

CONTENT = MediaType("application/mimi-content")
STATUS = MediaType(status.MEDIA_TYPE)


class Household:
    """`Local` of a provider: whose clients sit where, and what each of them knows."""

    def __init__(self, engine: MemberEngine, people: People) -> None:
        self.seats: dict[tuple[str, str], Seat] = {}  # by client and room
        self.facts: dict[str, list[Fact]] = {}  # by client
        self.changes: dict[str, list[Changed]] = {}
        self.asked_for: list[ConsentEntry] = []
        self._engine = engine
        self._people = people
        self._clients: dict[str, Client] = {}
        self._packages: dict[bytes, Client] = {}
        self._news = asyncio.Event()
        self.tidy: Callable[[str], Awaitable[None]] | None = None  # commits what was proposed in a room

    def move_in(self, client: Client) -> None:
        """From now on `client` listens."""
        self._clients[client.uri] = client
        self.facts[client.uri], self.changes[client.uri] = [], []

    def published(self, client: Client, reference: bytes) -> None:
        """A Welcome for that key package is for `client`."""
        self._packages[reference] = client

    def sit(self, client: Client, seat: Seat) -> None:
        """`client` takes part in the seat's room."""
        self.seats[client.uri, seat.room_uri] = seat

    async def until(self, done: Callable[[], bool], *, within: float = 30.0) -> bool:
        """Wait for something to be heard; False where it is not in time."""
        try:
            async with asyncio.timeout(within):
                while not done():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    # Local --------------------------------------------------------------------------------------------------

    async def heard(self, room: str, fanouts: Sequence[Fanout]) -> None:
        for fanout in fanouts:
            self._take(room, fanout)
        self._news.set()
        if self.tidy is not None and any(isinstance(fanout, ProposalFanout) for fanout in fanouts):
            await self.tidy(room)

    async def asked(self, entry: ConsentEntry) -> None:
        self.asked_for.append(entry)
        self._news.set()

    async def find(self, request: IdentifierRequest) -> IdentifierResponse:
        return IdentifierResponse(QueryCode.NOT_FOUND)

    async def reported(self, room: str, report: AbuseReport, proven: int) -> None:
        return None

    def _take(self, room: str, fanout: Fanout) -> None:
        if isinstance(fanout, WelcomeFanout):
            for secret in fanout.message.secrets:
                client = self._packages.pop(secret.new_member, None)
                if client is not None:
                    self.sit(client, client.join(fanout, room))
            return
        for (uri, where), seat in list(self.seats.items()):
            if where == room and seat.group.active:
                try:
                    heard = seat.hear(fanout, self._people)
                except (BridgeError, self._engine.MlsError):
                    continue  # of another epoch, or said by this client itself
                self._remember(uri, seat, heard)

    def _remember(self, client: str, seat: Seat, heard: Sequence[Heard]) -> None:
        for each in heard:
            if isinstance(each, Changed):
                self.changes[client].append(each)
            elif isinstance(each, Said):
                self.facts[client] += self._facts(seat, each)

    def _facts(self, seat: Seat, said: Said) -> list[Fact]:
        framing = APPLICATION_FRAMING.decode(said.data)
        user = self._people.user_of(said.client.encode())
        sender = Person(id=PersonId(user), name=user.rpartition("/")[2])
        chat = ChatId(seat.room_uri)
        if framing.media_type.type == status.MEDIA_TYPE:
            reports = status.decode(framing.content)
            return receipts(reports, chat=chat, sender=sender, at=said.accepted, private=False)
        message = content.decode(framing.content)
        belongs(message, sender_uri=user, room_uri=seat.room_uri)
        id = content.message_id(framing.content, salt=message.salt, sender_uri=user, room_uri=seat.room_uri)
        received = Received(id=id, content=message, chat=chat, sender=sender, at=said.accepted, became=1)
        return to_facts(received)


def framed(message: MimiContent) -> bytes:
    """Application data: the message under its media type."""
    return APPLICATION_FRAMING.encode(ApplicationFraming(CONTENT, content.encode(message)))


def framed_report(reports: Sequence[status.Report]) -> bytes:
    """Application data: a status report under its media type."""
    return APPLICATION_FRAMING.encode(ApplicationFraming(STATUS, status.encode(reports)))


def id_of(message: MimiContent) -> bytes:
    """The id of a message of ours, which names its sender and room."""
    octets = content.encode(message)
    return content.message_id(
        octets, salt=message.salt, sender_uri=message.sender_uri or "", room_uri=message.room_uri or ""
    )
