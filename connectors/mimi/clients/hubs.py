"""The hub of every room, as the clients hosted here ask it: ourselves, or another provider over HTTPS."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from bridgekit.contract.errors import Disconnected, NotAllowed, PeerMisbehaved, SendRejected, SendUncertain
from connectors.mimi import uris
from connectors.mimi.mls import APP_DATA_UPDATE, SELF_REMOVE, MemberEngine, Signer
from connectors.mimi.service import room as state_of
from connectors.mimi.service import vouching
from connectors.mimi.service.peers import BUSY, Endpoint, Peers
from connectors.mimi.service.provider import Provider
from connectors.mimi.service.room import Room
from connectors.mimi.uris import Thing
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.components import APP_DATA_DICTIONARY, ExtensionType
from connectors.mimi.wire.mls import AES128_X25519, CREDENTIAL, KeyPackage, RequiredCapabilities
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.tls import Codec
from connectors.mimi.wire.users import ClientMaterial, ConsentEntry

T = TypeVar("T")


class Hubs:
    """Asks. What is refused with an HTTP status is SendRejected; who cannot be reached or is busy, Disconnected.

    `provider` is what we are the hub with; None where we only call others.
    """

    def __init__(self, domain: str, provider: Provider | None, peers: Peers, engine: MemberEngine) -> None:
        self._domain = domain
        self._provider = provider
        self._peers = peers
        self._engine = engine

    def is_ours(self, room: str) -> bool:
        """Whether we are the room's hub."""
        return self._own(room) is not None

    def _own(self, room: str) -> Provider | None:
        return self._provider if uris.parse(room).domain == self._domain else None

    async def greet(self, room: str) -> None:
        """Let the hub know that we are there, so that it sends what waits. Raises Disconnected, PeerMisbehaved."""
        if not self.is_ours(room):
            await self._peers.directory(uris.parse(room).domain)

    async def update(self, room: str, bundle: rooms.UpdateRequest) -> rooms.UpdateResponse:
        """A commit, or proposals. Raises SendUncertain where the hub may have taken it."""
        if (own := self._own(room)) is not None:
            return await own.update(room, bundle, self._domain)
        body = rooms.UPDATE_REQUEST.encode(bundle)
        return await self._post(room, Endpoint.UPDATE, body, rooms.UPDATE_RESPONSE)

    async def submit(self, room: str, request: rooms.SubmitRequest) -> rooms.SubmitResponse:
        """An application message. Raises SendUncertain where the hub may have taken it."""
        if (own := self._own(room)) is not None:
            return await own.submit(room, request, self._domain)
        body = rooms.SUBMIT_REQUEST.encode(request)
        return await self._post(room, Endpoint.SUBMIT_MESSAGE, body, rooms.SUBMIT_RESPONSE)

    async def group_info(
        self, room: str, identity: Signer, *, code: bytes | None = None
    ) -> rooms.GroupInfoAndTree:
        """What an external commit needs, and what waits to be committed. Raises SendRejected."""
        private, public = self._engine.sealing_key()
        request = rooms.GroupInfoRequest(
            AES128_X25519, identity.signature_key, CREDENTIAL.decode(identity.credential), public, code
        )
        signature = identity.sign("GroupInfoRequestTBS", to_be_signed(request))
        signed = msgspec.structs.replace(request, signature=signature)
        if (own := self._own(room)) is not None:
            given = await own.group_info(room, signed, self._domain)
        else:
            body = rooms.GROUP_INFO_REQUEST.encode(signed)
            given = await self._post(room, Endpoint.GROUP_INFO, body, rooms.GROUP_INFO_RESPONSE)
        if isinstance(given, rooms.NoSuchRoom):
            raise SendRejected("There is no such room at that provider.")
        if isinstance(given, rooms.NotAuthorized):
            raise NotLetIn("That room is joined by invitation or with its join code only.")
        label = "GroupInfo and ratchet_tree encryption"
        try:
            opened = self._engine.unseal(given.cipher_suite, private, label, room.encode(), given.encrypted)
            return rooms.GROUP_INFO_AND_TREE.decode(opened)
        except (self._engine.MlsError, PeerMisbehaved):
            raise SendRejected("The room's provider gave a GroupInfo that cannot be opened.") from None

    async def key_packages(
        self, room: str, requester: str, identity: Signer, person: str
    ) -> list[KeyPackage]:
        """One of each client of `person`, claimed through the room's hub. Raises SendRejected."""
        try:
            uris.parse(person, Thing.USER)
        except PeerMisbehaved:
            raise SendRejected("That is nobody who could be invited on this network.") from None
        request = users.KeyMaterialRequest(
            requester,
            person,
            room,
            (AES128_X25519,),
            RequiredCapabilities(
                (int(ExtensionType.APP_DATA_DICTIONARY),), (APP_DATA_UPDATE, SELF_REMOVE), ()
            ),
            identity.signature_key,
            CREDENTIAL.decode(identity.credential),
        )
        signature = identity.sign("KeyMaterialRequestTBS", to_be_signed(request))
        signed = msgspec.structs.replace(request, signature=signature)
        if (own := self._own(room)) is not None:
            answer = await own.key_material(signed, self._domain)
        else:
            body = users.KEY_MATERIAL_REQUEST.encode(signed)
            answer = await self._post(
                room, Endpoint.KEY_MATERIAL, body, users.KEY_MATERIAL_RESPONSE, target=person
            )
        try:
            vouching.check_material(answer, person)
        except PeerMisbehaved as problem:
            raise SendRejected(problem.notice) from None
        found = [c.key_package for c in answer.clients if isinstance(c, ClientMaterial)]
        if not found:
            raise Unavailable(answer.code)
        return found

    async def request_consent(self, entry: ConsentEntry) -> None:
        """Ask a user's own provider for their consent, or take that back (5.7). Raises SendRejected."""
        await self._consent(entry, Endpoint.REQUEST_CONSENT, entry.target)

    async def update_consent(self, entry: ConsentEntry) -> None:
        """Tell the provider of who asked what a user of ours has decided (5.7). Raises SendRejected."""
        await self._consent(entry, Endpoint.UPDATE_CONSENT, entry.requester)

    async def find(self, domain: str, request: users.IdentifierRequest) -> users.IdentifierResponse:
        """Ask another provider who of its users that is (5.8). Raises SendRejected where it does not say."""
        if domain == self._domain:
            raise SendRejected("Those of this provider are on Matrix: look for them there.")
        body = users.IDENTIFIER_REQUEST.encode(request)
        answer = await self._peers.post(domain, Endpoint.IDENTIFIER_QUERY, domain, body)
        if answer.status != 200:
            raise SendRejected(f"Their provider does not answer that (HTTP {answer.status}).")
        return users.IDENTIFIER_RESPONSE.decode(answer.body)

    async def _consent(self, entry: ConsentEntry, endpoint: Endpoint, whose: str) -> None:
        domain = uris.parse(whose, Thing.USER).domain
        if domain == self._domain:
            raise SendRejected("Nobody of this provider needs to be invited: they speak in a linked room.")
        answer = await self._peers.post(domain, endpoint, whose, users.CONSENT_ENTRY.encode(entry))
        if answer.status in BUSY:
            raise Disconnected("Their provider is busy.", retry_after=answer.retry_after or 1.0)
        if answer.status != 201:
            raise SendRejected(f"Their provider does not take that (HTTP {answer.status}).")

    async def _post(
        self, room: str, endpoint: Endpoint, body: bytes, codec: Codec[T], *, target: str | None = None
    ) -> T:
        answer = await self._peers.post(uris.parse(room).domain, endpoint, target or room, body)
        match answer.status:
            case 200:
                return codec.decode(answer.body)
            case status if status in BUSY:
                raise Disconnected(
                    f"The room's provider cannot take that now (HTTP {answer.status}).",
                    retry_after=answer.retry_after or 1.0,
                )
            case status if status >= 500:
                raise SendUncertain(f"The room's provider failed (HTTP {status}): it may have heard.")
            case status:
                raise SendRejected(f"The room's provider refuses that (HTTP {status}).")


class NotLetIn(SendRejected):
    """The hub gives its GroupInfo to invited people only."""


class AwaitsConsent(SendRejected):
    """The user was asked whether they agree."""

    def __init__(self) -> None:
        super().__init__("They were asked whether they agree to be invited, and come in when they do.")


class Unavailable(SendRejected):
    """Nobody gets key packages of that user now; `code` says why."""

    def __init__(self, code: users.UserCode) -> None:
        super().__init__(f"They cannot be invited now ({code.name.lower().replace('_', ' ')}).")
        self.code = code


def state_in(found: rooms.GroupInfoAndTree) -> Room:
    """The state of a room that a GroupInfo tells of. Raises NotAllowed where the group is none."""
    for extension in found.group_info.context.extensions:
        if extension.type == ExtensionType.APP_DATA_DICTIONARY:
            entries = APP_DATA_DICTIONARY.decode(extension.data)
            return state_of.read({entry.id: entry.data for entry in entries})
    raise NotAllowed("That group is no room: it says nothing of its participants.")
