"""A MIMI provider: the hub of its rooms, the place of its users' key packages and consents.

What a request decides is stored before it is answered. HTTP is `server`'s business, other providers `peers`'; the users
themselves (their clients, their rooms elsewhere) are behind `Local`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, NotAllowed, PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.messages import content
from connectors.mimi.mls import Engine, Signer
from connectors.mimi.service import consent, franking, vouching
from connectors.mimi.service.consent import Consents
from connectors.mimi.service.franking import Franker
from connectors.mimi.service.hub import Accepted, Delivery, HubRoom, Kept, joiner
from connectors.mimi.service.outbox import Outbox
from connectors.mimi.service.peers import BUSY, Answer, Endpoint, Peers
from connectors.mimi.service.people import People
from connectors.mimi.service.room import BANNED, Capability
from connectors.mimi.service.shelf import Package, Shelf
from connectors.mimi.uris import Thing
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.components import APPLICATION_FRAMING, ApplicationFraming, MediaType
from connectors.mimi.wire.mls import AES128_X25519, KEY_PACKAGE, RATCHET_TREE
from connectors.mimi.wire.rooms import FANOUTS, Fanout, FrankingContext, SubmitResponse, UpdateResponse
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.users import (
    KEY_MATERIAL_REQUEST,
    KEY_MATERIAL_RESPONSE,
    AbuseReport,
    ClientMaterial,
    ConsentEntry,
    IdentifierRequest,
    IdentifierResponse,
    KeyMaterialRequest,
    KeyMaterialResponse,
    UserCode,
)

_FRAMES = (MediaType(""), MediaType("application/mimi-content"))
SEEN, HUBS = 1024, 256
"""How many notifications of a hub are known again, and of how many hubs: those that were heard of last."""
ROUTES = 20_000
"""Key packages that were fetched through us and not used yet: a Welcome for an older one is refused."""
CODES, CODE = 10_000, 3600.0
"""Who was let in by a code and has not joined yet: so many, for so many seconds."""
CLIENTS = 10_000
"""Of one other provider: whose they are is known of so many, and of others as their names say."""


class Local(Protocol):
    """The users of this provider, and their clients."""

    async def heard(self, room: str, fanouts: Sequence[Fanout]) -> None:
        """What the hub of `room` fans out, in order. It is on disk when this returns. Tolerates to hear it twice."""
        ...

    async def asked(self, entry: ConsentEntry) -> None:
        """A consent that was asked for, granted, revoked or taken back; it is stored already."""
        ...

    async def find(self, request: IdentifierRequest) -> IdentifierResponse:
        """Users that may be found."""
        ...

    async def reported(self, room: str, report: AbuseReport, proven: int) -> None:
        """Abuse in a room of ours; the first `proven` of the messages carry our own frank."""
        ...


class NoSuchRoom(NotAllowed):
    """The room is not of this provider, or gone."""


class Provider:
    """The state of one provider, and what may be done with it. Use it from one event loop."""

    def __init__(
        self,
        domain: str,
        *,
        host: Host,
        engine: Engine,
        signer: Signer,
        hub_key: bytes,
        peers: Peers,
        local: Local,
    ) -> None:
        self.domain = domain
        self.outbox = Outbox(host, self._send)
        self.people = People()
        self._host = host
        self._engine = engine
        self._peers = peers
        self._local = local
        self._franker = Franker(hub_key, signer, AES128_X25519)
        self._rooms: dict[str, HubRoom] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._shelves: dict[str, Shelf] = {}
        self._consents: dict[str, Consents] = {}
        self._routes: dict[bytes, str] = {}
        self._codes: dict[tuple[str, str], float] = {}
        self._seen: dict[str, OrderedDict[bytes, None]] = {}

    async def load(self) -> None:
        """Take up what is stored."""
        for raw in (await self._host.items("hub/")).values():
            room = HubRoom(self._engine, msgspec.msgpack.decode(raw, type=Kept))
            self._rooms[room.kept.uri] = room
        for raw in (await self._host.items("shelf/")).values():
            shelf = msgspec.msgpack.decode(raw, type=Shelf)
            self._shelves[shelf.user] = shelf
        self._consents = consent.read_all(await self._host.items("consent/"))
        for key, raw in (await self._host.items("route/")).items():
            self._routes[bytes.fromhex(key.removeprefix("route/"))] = raw.decode()
        for key, raw in (await self._host.items("client/")).items():
            self.people.learn(key.removeprefix("client/"), raw.decode())
        for key, raw in (await self._host.items("seen/")).items():
            self._seen[key.removeprefix("seen/")] = OrderedDict.fromkeys(
                msgspec.msgpack.decode(raw, type=list[bytes])
            )
        await self.outbox.load()

    # Our own rooms ------------------------------------------------------------------------------------------

    def room(self, uri: str) -> HubRoom:
        """A room of ours. Raises NoSuchRoom."""
        found = self._rooms.get(uri)
        if found is None:
            raise NoSuchRoom("There is no such room.")
        return found

    def has_room(self, uri: str) -> bool:
        """Whether a room of ours is there."""
        return uri in self._rooms

    async def make_room(self, uri: str, group_info: bytes, tree: bytes) -> HubRoom:
        """Be the hub of a group that a client of ours has made."""
        if uris.parse(uri, Thing.ROOM).domain != self.domain or uri in self._rooms:
            raise NotAllowed("A room is made once, at its own provider.")
        room = HubRoom.make(self._engine, uri, group_info, tree, now=self._now())
        await self._host.put_all({f"hub/{uri}": msgspec.msgpack.encode(room.kept)})
        self._rooms[uri] = room
        return room

    async def end_room(self, uri: str) -> None:
        """A room of ours in which nobody is left."""
        async with self._lock(uri):
            await self._host.put_all({f"hub/{uri}": None})
            self._rooms.pop(uri, None)

    async def update(self, uri: str, request: rooms.UpdateRequest, source: str) -> UpdateResponse:
        """A handshake of a client of `source`. What it changes is stored, and on its way, when this returns."""
        async with self._lock(uri):
            response, accepted = self.room(uri).update(
                request,
                provider=source,
                now=self._now(),
                people=self.people,
                routes=self._routes,
                has_code=self._has_code(uri, request),
            )
            if accepted is not None:
                by = "" if source == self.domain else f"mimi://{source}"
                if not self.outbox.has_room(accepted.deliveries, by):
                    return rooms.NotAllowed(
                        "Too much of what your users do waits for a provider that is away."
                    )
                await self._keep(uri, accepted, by)
            return response

    async def submit(self, uri: str, request: rooms.SubmitRequest, source: str) -> SubmitResponse:
        """An application message of a client of `source`; refused while too much of that user's waits for somebody."""
        async with self._lock(uri):
            response, deliveries = self.room(uri).submit(
                request, provider=source, now=self._now(), people=self.people, franker=self._franker
            )
            if not self.outbox.has_room(deliveries, request.sender_uri):
                return rooms.Refused()
            await self._deliver(deliveries, {}, request.sender_uri)
            return response

    async def _keep(self, uri: str, accepted: Accepted, by: str) -> None:
        rows: dict[str, bytes | None] = {f"hub/{uri}": msgspec.msgpack.encode(accepted.room.kept)}
        # 5.2: the way of a Welcome may be forgotten once it went out.
        used = {
            secret.new_member
            for delivery in accepted.deliveries
            if isinstance(delivery.fanout, rooms.WelcomeFanout)
            for secret in delivery.fanout.message.secrets
        }
        rows |= dict.fromkeys(f"route/{reference.hex()}" for reference in used)
        await self._deliver(accepted.deliveries, rows, by)
        self._rooms[uri] = accepted.room
        for reference in used:
            self._routes.pop(reference, None)

    async def _send(self, to: str, room: str, body: bytes) -> Answer:
        """One letter: our own users hear like anybody's."""
        if to == self.domain:
            await self._local.heard(room, FANOUTS.decode(body))
            return Answer(201, b"")
        return await self._peers.post(to, Endpoint.NOTIFY, room, body)

    async def _deliver(
        self, deliveries: Sequence[Delivery], rows: Mapping[str, bytes | None], by: str
    ) -> None:
        """Store the room and the letters together."""
        letters, go = self.outbox.prepare(deliveries, self._now(), by)
        if letters or rows:
            await self._host.put_all({**rows, **letters})
        go()

    def _lock(self, uri: str) -> asyncio.Lock:
        return self._locks.setdefault(uri, asyncio.Lock())

    def _now(self) -> int:
        return int(self._host.now() * 1000)

    # Joining from outside -----------------------------------------------------------------------------------

    async def group_info(
        self, uri: str, request: rooms.GroupInfoRequest, source: str
    ) -> rooms.GroupInfoResponse:
        """The GroupInfo for an external commit, sealed for the one who asks (5.6)."""
        self._verify(request.cipher_suite, request, "GroupInfoRequestTBS")
        user = self.people.user_of(getattr(request.credential, "identity", None))
        if uris.parse(user).domain != source:
            raise NotAllowed("A provider speaks for its own users only.")
        room = self._rooms.get(uri)
        if room is None:
            return rooms.NoSuchRoom(uri.encode())
        if not self._may_join(room, user, request.joining_code):
            return rooms.NotAuthorized(uri.encode())
        return self._given(room, request)

    def _may_join(self, room: HubRoom, user: str, code: bytes | None) -> bool:
        state = room.state
        role = state.role_of(user)
        if role == BANNED:
            return False
        if role:
            return state.may(user, Capability.ADD_OWN_CLIENT)
        if state.may(user, Capability.OPEN_JOIN):
            return True
        if code is not None and code in room.join_codes and state.may(user, Capability.USE_JOIN_CODE):
            self._let_in(room.kept.uri, user)
            return True
        return False

    def _let_in(self, uri: str, user: str) -> None:
        now = self._host.now()
        self._codes.pop((uri, user), None)
        self._codes = {who: at for who, at in self._codes.items() if now - at < CODE}
        while len(self._codes) >= CODES:
            del self._codes[next(iter(self._codes))]
        self._codes[uri, user] = now

    def _verify(self, suite: int, request: KeyMaterialRequest | rooms.GroupInfoRequest, label: str) -> None:
        signed = to_be_signed(request)
        try:
            true = self._engine.verify(suite, request.signature_key, label, signed, request.signature)
        except self._engine.MlsError:
            raise PeerMisbehaved("The request's signature is of a kind that nobody here knows.") from None
        if not true:
            raise PeerMisbehaved("The request's signature is not of the key that it names.")

    def _given(self, room: HubRoom, request: rooms.GroupInfoRequest) -> rooms.GivenGroupInfo:
        uri = room.kept.uri.encode()
        body = rooms.GROUP_INFO_AND_TREE.encode(
            rooms.GroupInfoAndTree(
                room.group_info,
                rooms.FullTree(RATCHET_TREE.decode(room.ratchet_tree())),
                tuple(rooms.PendingProposal(p.decoded, p.accepted) for p in room.kept.pending),
            )
        )
        label = "GroupInfo and ratchet_tree encryption"
        try:
            sealed = self._engine.seal(request.cipher_suite, request.group_info_key, label, uri, body)
        except self._engine.MlsError:
            raise PeerMisbehaved("Nothing can be sealed with the key that the request names.") from None
        given = rooms.GivenGroupInfo(uri, request.cipher_suite, self._franker.sender, sealed)
        signature = self._franker.sign("GroupInfoResponseTBS", to_be_signed(given))
        return msgspec.structs.replace(given, signature=signature)

    def _has_code(self, uri: str, request: rooms.UpdateRequest) -> bool:
        """Whether the one who joins by this commit was given the GroupInfo for a code, within the last hour."""
        client = joiner(request)
        if client is None:
            return False
        at = self._codes.get((uri, self.people.user_of(client)))
        return at is not None and self._host.now() - at < CODE

    # Key packages -------------------------------------------------------------------------------------------
    # What changes here or in the consents changes in memory first, and in one step: the disk takes its time, and writes
    # in the order in which it was told. So nothing that comes meanwhile begins from what was before.

    async def publish(self, user: str, client: str, packages: Sequence[Package]) -> None:
        """Put key packages of a client of ours on the shelf."""
        shelf = self._shelves.get(user, Shelf(user, {})).fresh(self._host.now()).publish(client, packages)
        self._shelves[user] = shelf
        self.people.learn(client, user)
        await self._host.put_all(
            {f"shelf/{user}": msgspec.msgpack.encode(shelf), f"client/{client}": user.encode()}
        )

    async def withdraw(self, user: str, rows: Mapping[str, bytes | None]) -> None:
        """A user of ours is gone: from now on it is as if they had never been. `rows` are stored with it."""
        self._shelves.pop(user, None)
        self._consents.pop(user, None)
        await self._host.put_all({**rows, f"shelf/{user}": None, f"consent/{user}": None})

    def publishes(self, user: str) -> bool:
        """Whether a user of ours has key packages, or had some."""
        return user in self._shelves

    def low(self, user: str) -> list[str]:
        """The user's clients that are to publish more."""
        shelf = self._shelves.get(user)
        return shelf.low(self._host.now()) if shelf else []

    def lacks_last_resort(self, user: str, client: str) -> bool:
        """Whether a client of ours has none for when the others are used up, or one that runs out."""
        shelf = self._shelves.get(user)
        return shelf is None or shelf.lacks_last_resort(client, self._host.now())

    async def key_material(self, request: KeyMaterialRequest, source: str) -> KeyMaterialResponse:
        """Key packages of one user for one room: ours, or through us as the hub (5.2)."""
        self._verify(request.cipher_suites[0], request, "KeyMaterialRequestTBS")
        claimed = self.people.user_of(getattr(request.credential, "identity", None))
        requester = uris.parse(request.requesting_user, Thing.USER)
        target = uris.parse(request.target_user, Thing.USER)
        if uris.parse(claimed).domain != requester.domain:
            raise PeerMisbehaved("The request names another user than its credential does.")
        hub = uris.parse(request.room, Thing.ROOM).domain if request.room else requester.domain
        if hub == self.domain and request.room:
            return await self._through_us(request, requester.domain, target.domain, source)
        if source != hub or target.domain != self.domain:
            raise NotAllowed("Key packages for a room are fetched through its hub.")
        return await self._serve(request)

    async def _through_us(
        self, request: KeyMaterialRequest, requester: str, target: str, source: str
    ) -> KeyMaterialResponse:
        if requester != source:
            raise NotAllowed("A provider speaks for its own users only.")
        room = self.room(request.room)
        state = room.state
        listed = state.role_of(request.requesting_user) not in (0, BANNED)
        if not listed or not (
            state.may(request.requesting_user, Capability.ADD_PARTICIPANT)
            or (state.base.fixed_membership and state.role_of(request.target_user))
            or request.requesting_user == request.target_user
        ):
            raise NotAllowed("The room's policy does not let that user add anybody.")
        if target == self.domain:
            response = await self._serve(request)
        else:
            answer = await self._peers.post(
                target, Endpoint.KEY_MATERIAL, request.target_user, KEY_MATERIAL_REQUEST.encode(request)
            )
            if answer.status in BUSY:
                raise Disconnected(f"{target} is busy.", retry_after=answer.retry_after or 1.0)
            if answer.status != 200:
                raise BridgeError(f"{target} gives no key packages (HTTP {answer.status}).")
            response = KEY_MATERIAL_RESPONSE.decode(answer.body)
        vouching.check_material(response, request.target_user)
        await self._remember(response, target)
        return response

    async def _remember(self, response: KeyMaterialResponse, provider: str) -> None:
        """Which provider gave out which key package, to route the Welcome by; and whose client it is."""
        rows: dict[str, bytes | None] = {}
        for client in response.clients:
            if isinstance(client, ClientMaterial):
                try:
                    reference = self._engine.reference(KEY_PACKAGE.encode(client.key_package))
                except self._engine.MlsError:
                    raise PeerMisbehaved("A provider answered with a key package that is none.") from None
                self.people.learn(client.client_uri, response.user)
                self._routes[reference] = provider
                rows[f"route/{reference.hex()}"] = provider.encode()
                rows[f"client/{client.client_uri}"] = response.user.encode()
        if provider != self.domain:
            rows |= {f"client/{client}": None for client in self.people.forget_oldest(provider, CLIENTS)}
        while len(self._routes) > ROUTES:
            oldest = next(iter(self._routes))
            del self._routes[oldest]
            rows[f"route/{oldest.hex()}"] = None
        if rows:
            await self._host.put_all(rows)

    async def _serve(self, request: KeyMaterialRequest) -> KeyMaterialResponse:
        user = request.target_user
        shelf = self._shelves.get(user)
        allowed = UserCode.SUCCESS
        if request.requesting_user != user:
            allowed = self._consents.get(user, Consents(user)).verdict(request.requesting_user, request.room)
        if shelf is None or allowed is not UserCode.SUCCESS:
            # 5.2: "no consent" also for who is not there, so that nobody learns who is.
            return KeyMaterialResponse(UserCode.NO_CONSENT if shelf is None else allowed, user)
        response, left, _ = shelf.claim(request.cipher_suites, request.required, self._host.now())
        self._shelves[user] = left
        await self._host.put_all({f"shelf/{user}": msgspec.msgpack.encode(left)})
        return response

    # Consent, search, abuse ---------------------------------------------------------------------------------

    def consents(self, user: str) -> Consents:
        """What a user of ours has agreed to."""
        return self._consents.get(user, Consents(user))

    async def agree(self, entry: ConsentEntry) -> None:
        """A user of ours grants or revokes by themselves; whether the other side is told is the caller's choice. Who is
        gone meanwhile has nothing to say."""
        if entry.target in self._shelves:
            await self._take(entry)

    async def consent(self, entry: ConsentEntry, *, asked: bool, source: str) -> None:
        """A peer's request or update. It looks the same for a user who is not there."""
        consent.check_origin(entry, asked=asked, source=source, ours=self.domain)
        if asked:
            if entry.target not in self._shelves:
                return
            try:
                await self._take(entry)
            except NotAllowed:  # too many have asked: which tells a stranger that the user is there
                return
        await self._local.asked(entry)

    async def _take(self, entry: ConsentEntry) -> None:
        consents = self.consents(entry.target).take(entry)
        self._consents[entry.target] = consents
        await self._host.put_all({f"consent/{entry.target}": msgspec.msgpack.encode(consents)})

    async def find(self, request: IdentifierRequest) -> IdentifierResponse:
        """Users of ours that may be found."""
        return await self._local.find(request)

    async def report(self, uri: str, report: AbuseReport, source: str) -> None:
        """Abuse in a room of ours; what carries our frank is proven (5.9).

        Raises NotAllowed in the name of another provider's user, and from who is not there and proves nothing.
        """
        room = self.room(uri)
        uris.parse(report.alleged_abuser, Thing.USER)
        if report.reporting_user and uris.parse(report.reporting_user, Thing.USER).domain != source:
            raise NotAllowed("A provider speaks for its own users only.")
        shown = tuple(dict.fromkeys(report.messages))  # one that is shown twice proves nothing more
        proven = [message for message in shown if self._is_proven(uri, report.alleged_abuser, message)]
        if not proven and source not in {uris.parse(p.user).domain for p in room.state.participants}:
            raise NotAllowed("Abuse is reported by who is in the room, or has proof.")
        rest = [message for message in shown if message not in proven]
        sorted_report = msgspec.structs.replace(report, messages=(*proven, *rest))
        await self._local.reported(uri, sorted_report, len(proven))

    def _is_proven(self, uri: str, abuser: str, message: users.AbusiveMessage) -> bool:
        try:
            salt = content.decode(message.content).salt
        except PeerMisbehaved:
            return False
        context = FrankingContext(abuser, uri, message.accepted)
        # 5.4.1: where media types are framed, the frame was hashed with the message.
        framed = (APPLICATION_FRAMING.encode(ApplicationFraming(kind, message.content)) for kind in _FRAMES)
        return any(
            self._franker.is_mine(message.frank, franking.tag(salt, data), context)
            for data in (message.content, *framed)
        )

    def asset_domains(self) -> set[str]:
        """Where files of the users of our rooms lie."""
        return {domain for room in self._rooms.values() for domain in room.asset_domains}

    def peers_of_rooms(self) -> set[str]:
        """The providers with clients in rooms of ours."""
        return {peer for room in self._rooms.values() for peer in room.providers(self.people)}

    # Rooms elsewhere ----------------------------------------------------------------------------------------

    async def notify(self, uri: str, body: bytes, source: str) -> None:
        """What the hub of another room tells. The same octets again are answered and not heard (5.5)."""
        if uris.parse(uri, Thing.ROOM).domain != source:
            raise NotAllowed("Only a room's own hub tells of it.")
        digest = hashlib.sha256(uri.encode() + b"\0" + body).digest()
        async with self._lock(uri):
            if digest in self._seen.get(source, ()):
                return
            await self._local.heard(uri, FANOUTS.decode(body))
            await self._host.put_all(self._has_heard(source, digest))

    def _has_heard(self, source: str, digest: bytes) -> dict[str, bytes | None]:
        """What is to be stored so that the same is known again."""
        seen = self._seen[source] = self._seen.pop(source, OrderedDict())
        seen[digest] = None
        while len(seen) > SEEN:
            seen.popitem(last=False)
        rows: dict[str, bytes | None] = {f"seen/{source}": msgspec.msgpack.encode(list(seen))}
        while len(self._seen) > HUBS:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            rows[f"seen/{oldest}"] = None
        return rows
