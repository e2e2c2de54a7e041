"""What a provider is asked to find out whether it keeps to draft-ietf-mimi-protocol-06: a numbered list of checks.

Nothing is changed at the peer but a consent request for a user who does not exist, and, where a user was named who
agrees to it, two key packages that are used up.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from bridgekit.contract.errors import BridgeError, ConfigError, PeerMisbehaved
from connectors.mimi.kit.calling import Caller
from connectors.mimi.mls import MemberEngine, Signer, installed
from connectors.mimi.service.peers import DIRECTORY_PATH, MEDIA_TYPE, TIMEOUT, Endpoint, Peers
from connectors.mimi.service.shelf import lifetime
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.mls import (
    AES128_X25519,
    CREDENTIAL,
    ContentType,
    PrivateMessage,
    RequiredCapabilities,
)
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.tls import Codec
from connectors.mimi.wire.users import ClientMaterial, ConsentEntry, ConsentOperation, UserCode

T = TypeVar("T")


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Result(msgspec.Struct, frozen=True):
    """One check: its number, what it is about, what it asks for, where the draft says so, what came of it."""

    number: int
    group: str
    title: str
    section: str
    outcome: Outcome
    detail: str = ""


class _Skip(Exception):
    pass


class _Fail(Exception):
    pass


class Examiner:
    """Asks one peer. `user` is a user of theirs who agrees to be asked for key packages."""

    def __init__(self, caller: Caller, peers: Peers, user: str | None) -> None:
        self.peer = caller.peer
        self.domain = caller.domain
        self.user = user
        self._caller = caller
        self._peers = peers
        self.nobody = f"mimi://{caller.peer}/u/nobody-of-that-name-8f3a"
        self.no_room = f"mimi://{caller.peer}/r/no-room-of-that-name-8f3a"
        self.our_room = f"mimi://{caller.domain}/r/conformance"
        self.we = f"mimi://{caller.domain}/u/conformance"
        self._engine: MemberEngine | None = None
        self._signer: Signer | None = None

    def signer(self) -> Signer:
        """A client of ours. Without the engine nothing can be signed, and the check is skipped."""
        if self._signer is None:
            try:
                self._engine = installed()
            except ConfigError as error:
                raise _Skip(str(error)) from None
            self._signer = self._engine.identity(f"mimi://{self._caller.domain}/d/conformance/1".encode())
        return self._signer

    async def post(self, endpoint: Endpoint, target: str, body: bytes) -> tuple[int, bytes]:
        """Ask as we should."""
        answer = await self._peers.post(self.peer, endpoint, target, body)
        return answer.status, answer.body

    async def directory(self) -> dict[str, str]:
        """Their endpoints."""
        return await self._peers.directory(self.peer)

    async def get(self, endpoint: Endpoint, target: str) -> int:
        """The same without a body."""
        return (await self._peers.get(self.peer, endpoint, target)).status

    async def raw(
        self,
        endpoint: Endpoint,
        target: str,
        body: bytes,
        headers: dict[str, str],
        *,
        certificate: bool = True,
    ) -> int:
        """Ask with any headers, or without a certificate."""
        template = (await self._peers.directory(self.peer)).get(endpoint, "")
        url = template.replace(f"{{{endpoint.variable}}}", quote(target, safe=""))
        return await self._request("POST", url, body, headers, certificate=certificate)

    async def directory_without_certificate(self) -> int:
        """Ask for the directory as nobody."""
        url = self._caller.address + DIRECTORY_PATH
        return await self._request(
            "GET", url, None, {"From": f"mimi@{self._caller.domain}"}, certificate=False
        )

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], *, certificate: bool
    ) -> int:
        credentials = self._caller.credentials
        context = (
            credentials.client()
            if certificate
            else ssl.create_default_context(cafile=credentials.authorities)
        )
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.request(
                    method,
                    url,
                    data=None if body is None else io.BytesIO(body),
                    headers={"Host": self.peer, "Content-Type": MEDIA_TYPE, **headers},
                    ssl=context,
                    server_hostname=self.peer,
                    allow_redirects=False,
                ) as response,
            ):
                return response.status
        except (aiohttp.ClientError, OSError):
            return 0  # the connection was refused

    def claim(self, target: str, *, room: str = "") -> users.KeyMaterialRequest:
        """A signed request for key packages."""
        signer = self.signer()
        request = users.KeyMaterialRequest(
            self.we,
            target,
            room,
            (AES128_X25519,),
            RequiredCapabilities((), (), ()),
            signer.signature_key,
            CREDENTIAL.decode(signer.credential),
        )
        signature = signer.sign("KeyMaterialRequestTBS", to_be_signed(request))
        return msgspec.structs.replace(request, signature=signature)


Check = Callable[[Examiner], Awaitable[str]]
_CHECKS: list[tuple[str, str, str, Check]] = []


def _about(group: str) -> Callable[[str, str], Callable[[Check], Check]]:
    """What makes checks of a group, each with its title and the section that says so."""

    def check(title: str, section: str) -> Callable[[Check], Check]:
        def add(asked: Check) -> Check:
            _CHECKS.append((group, title, section, asked))
            return asked

        return add

    return check


_transport = _about("Transport and identity")
_body = _about("Bodies")
_package = _about("Key packages")
_room = _about("Rooms")
_other = _about("Consent, search, files")


async def examine(caller: Caller, user: str | None, tell: Callable[[Result], None]) -> list[Result]:
    """Every check, one after the other; `tell` hears of each as it ends."""
    results: list[Result] = []
    async with caller.peers() as peers:
        examiner = Examiner(caller, peers, user)
        for number, (group, title, section, check) in enumerate(_CHECKS, 1):
            try:
                outcome, detail = Outcome.PASSED, await check(examiner)
            except _Skip as why:
                outcome, detail = Outcome.SKIPPED, str(why)
            except _Fail as why:
                outcome, detail = Outcome.FAILED, str(why)
            except BridgeError as why:
                outcome, detail = Outcome.FAILED, why.notice
            result = Result(number, group, title, section, outcome, detail)
            results.append(result)
            tell(result)
    return results


def _refused(status: int) -> str:
    """4xx, or no connection at all. Raises _Fail for anything else."""
    if status and not 400 <= status < 500:
        raise _Fail(f"answered {status}")
    return f"answered {status}" if status else "the connection was refused"


def _decoded(codec: Codec[T], body: bytes) -> T:
    try:
        return codec.decode(body)
    except PeerMisbehaved as problem:
        raise _Fail(f"the answer cannot be read: {problem.notice}") from None


def _ok(status: int, *wanted: int) -> None:
    if status not in wanted:
        raise _Fail(f"answered {status}, not {' or '.join(map(str, wanted))}")


# Transport --------------------------------------------------------------------------------------------------


@_transport("The directory is there and names every endpoint", "protocol 5.1")
async def _directory(asks: Examiner) -> str:
    found = await asks.directory()
    if missing := [endpoint for endpoint in Endpoint if endpoint not in found]:
        raise _Fail(f"missing: {', '.join(missing)}")
    return f"{len(found)} endpoints"


@_transport("Each endpoint is an https template with its variable", "protocol 5.1")
async def _templates(asks: Examiner) -> str:
    found = await asks.directory()
    bad = [
        e
        for e in Endpoint
        if not found.get(e, "").startswith("https://") or f"{{{e.variable}}}" not in found[e]
    ]
    if bad:
        raise _Fail(f"not so: {', '.join(bad)}")
    return ""


@_transport("Who shows no certificate does not get in", "protocol 4.1")
async def _no_certificate(asks: Examiner) -> str:
    await asks.directory()  # who cannot be reached at all refuses nobody
    return _refused(await asks.directory_without_certificate())


@_transport("A From that names another provider than the certificate is refused", "protocol 4.1")
async def _wrong_from(asks: Examiner) -> str:
    headers = {"From": "mimi@somebody-else.example"}
    return _refused(await asks.raw(Endpoint.UPDATE, asks.no_room, b"", headers))


@_transport("A request without From is refused", "protocol 4.1")
async def _no_from(asks: Examiner) -> str:
    return _refused(await asks.raw(Endpoint.UPDATE, asks.no_room, b"", {}))


@_transport("A Host that names another provider is refused", "protocol 4.1")
async def _wrong_host(asks: Examiner) -> str:
    headers = {"From": f"mimi@{asks.domain}", "Host": "somebody-else.example"}
    return _refused(await asks.raw(Endpoint.UPDATE, asks.no_room, b"", headers))


# Bodies -----------------------------------------------------------------------------------------------------


@_body("A body with something behind its end is refused", "RFC 8446 3, protocol 5")
async def _trailing(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.REQUEST, asks.we, asks.nobody)
    body = users.CONSENT_ENTRY.encode(entry) + b"\0"
    return _refused((await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, body))[0])


@_body("A body that ends too early is refused", "RFC 8446 3, protocol 5")
async def _cut(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.REQUEST, asks.we, asks.nobody)
    body = users.CONSENT_ENTRY.encode(entry)[:-3]
    return _refused((await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, body))[0])


@_body("A length that is not in its shortest form is refused", "RFC 9420 2.1.2")
async def _long_length(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.REQUEST, asks.we, asks.nobody)
    body = bytearray(users.CONSENT_ENTRY.encode(entry))
    length = len(asks.we)
    if length > 63:
        raise _Skip("our own domain is too long for this check")
    body[1:2] = (0x4000 | length).to_bytes(2)
    return _refused((await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, bytes(body)))[0])


# Key packages -----------------------------------------------------------------------------------------------


@_package("Key packages of an unknown user: userUnknown or noConsent, and no clients", "protocol 5.2")
async def _unknown_user(asks: Examiner) -> str:
    body = users.KEY_MATERIAL_REQUEST.encode(asks.claim(asks.nobody))
    status, raw = await asks.post(Endpoint.KEY_MATERIAL, asks.nobody, body)
    _ok(status, 200)
    answer = _decoded(users.KEY_MATERIAL_RESPONSE, raw)
    if answer.code not in (UserCode.USER_UNKNOWN, UserCode.NO_CONSENT, UserCode.NO_CONSENT_FOR_THIS_ROOM):
        raise _Fail(f"the code is {answer.code.name}")
    if answer.clients:
        raise _Fail("there are clients in the answer")
    return answer.code.name.lower()


@_package("A protocol that nobody speaks: incompatibleProtocol, or refused", "protocol 5.2")
async def _other_protocol(asks: Examiner) -> str:
    body = b"\x7f" + users.KEY_MATERIAL_REQUEST.encode(asks.claim(asks.nobody))[1:]
    status, raw = await asks.post(Endpoint.KEY_MATERIAL, asks.nobody, body)
    if status != 200:
        return _refused(status)
    answer = _decoded(users.KEY_MATERIAL_RESPONSE, raw)
    if answer.code is not UserCode.INCOMPATIBLE_PROTOCOL:
        raise _Fail(f"the code is {answer.code.name}")
    return "incompatible_protocol"


@_package("A request whose signature is wrong gets no key packages", "protocol 5.2")
async def _bad_signature(asks: Examiner) -> str:
    target = asks.user or asks.nobody
    forged = msgspec.structs.replace(asks.claim(target), signature=bytes(64))
    status, raw = await asks.post(Endpoint.KEY_MATERIAL, target, users.KEY_MATERIAL_REQUEST.encode(forged))
    if status != 200:
        return _refused(status)
    if _decoded(users.KEY_MATERIAL_RESPONSE, raw).clients:
        raise _Fail("key packages were given out")
    return "no clients"


@_package("A user who agrees has key packages, each given out once, none expired", "protocol 5.2")
async def _packages(asks: Examiner) -> str:
    if asks.user is None:
        raise _Skip("no --user was named")
    body = users.KEY_MATERIAL_REQUEST.encode(asks.claim(asks.user))
    seen: list[bytes] = []
    for _ in range(2):
        status, raw = await asks.post(Endpoint.KEY_MATERIAL, asks.user, body)
        _ok(status, 200)
        answer = _decoded(users.KEY_MATERIAL_RESPONSE, raw)
        if answer.code in (UserCode.NO_CONSENT, UserCode.NO_CONSENT_FOR_THIS_ROOM):
            raise _Fail(f"the code is {answer.code.name}: has the user agreed to be asked by {asks.we}?")
        if answer.code not in (UserCode.SUCCESS, UserCode.PARTIAL_SUCCESS):
            raise _Fail(f"the code is {answer.code.name}")
        for client in answer.clients:
            if isinstance(client, ClientMaterial):
                package = client.key_package
                if package.cipher_suite != AES128_X25519:
                    raise _Fail(f"a package of cipher suite {package.cipher_suite}, which was not asked for")
                if lifetime(package) is None:
                    raise _Fail("a package whose leaf has no lifetime (RFC 9420 7.2)")
                seen.append(package.init_key)
    if len(set(seen)) != len(seen):
        raise _Fail("the same key package was given out twice (unless it is a last resort)")
    return f"{len(seen)} packages"


# Rooms ------------------------------------------------------------------------------------------------------


@_room("An application message for a room that is not there is refused", "protocol 5.4")
async def _submit_nowhere(asks: Examiner) -> str:
    message = PrivateMessage(b"no such group", 0, ContentType.APPLICATION, b"", b"\0" * 16, b"\0" * 32)
    body = rooms.SUBMIT_REQUEST.encode(rooms.SubmitRequest(message, asks.we))
    status, raw = await asks.post(Endpoint.SUBMIT_MESSAGE, asks.no_room, body)
    if status != 200:
        return _refused(status)
    if not isinstance(_decoded(rooms.SUBMIT_RESPONSE, raw), rooms.Refused):
        raise _Fail("it was not refused")
    return "notAllowed"


@_room("An update that cannot be read is refused", "protocol 5.3")
async def _update_rubbish(asks: Examiner) -> str:
    return _refused((await asks.post(Endpoint.UPDATE, asks.no_room, b"rubbish"))[0])


@_room("The GroupInfo of a room that is not there: noSuchRoom or notAuthorized", "protocol 5.6")
async def _group_info_nowhere(asks: Examiner) -> str:
    signer = asks.signer()
    request = rooms.GroupInfoRequest(
        AES128_X25519, signer.signature_key, CREDENTIAL.decode(signer.credential), b"\x09" + bytes(31), None
    )
    signature = signer.sign("GroupInfoRequestTBS", to_be_signed(request))
    body = rooms.GROUP_INFO_REQUEST.encode(msgspec.structs.replace(request, signature=signature))
    status, raw = await asks.post(Endpoint.GROUP_INFO, asks.no_room, body)
    if status != 200:
        return _refused(status)
    answer = _decoded(rooms.GROUP_INFO_RESPONSE, raw)
    if isinstance(answer, rooms.GivenGroupInfo):
        raise _Fail("there is a GroupInfo")
    return type(answer).__name__


@_room("A notification about a room whose hub we are not is refused", "protocol 5.5")
async def _notify_as_another(asks: Examiner) -> str:
    message = PrivateMessage(b"no such group", 0, ContentType.APPLICATION, b"", b"\0" * 16, b"\0" * 32)
    body = rooms.FANOUTS.encode((rooms.ApplicationFanout(0, message),))
    return _refused((await asks.post(Endpoint.NOTIFY, asks.no_room, body))[0])


@_room("A notification that cannot be read is refused", "protocol 5.5")
async def _notify_rubbish(asks: Examiner) -> str:
    return _refused((await asks.post(Endpoint.NOTIFY, asks.our_room, b"rubbish"))[0])


# Consent, search, files -------------------------------------------------------------------------------------


@_other("A consent request for an unknown user: 201, or 404", "protocol 5.7")
async def _consent_unknown(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.REQUEST, asks.we, asks.nobody)
    status, _ = await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, users.CONSENT_ENTRY.encode(entry))
    _ok(status, 201, 404)
    return f"answered {status}"


@_other("A cancellation of what was never asked: 201", "protocol 5.7")
async def _consent_cancel(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.CANCEL, asks.we, asks.nobody)
    status, _ = await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, users.CONSENT_ENTRY.encode(entry))
    _ok(status, 201, 404)
    return f"answered {status}"


@_other("A consent request in the name of another provider's user is refused", "protocol 5.7")
async def _consent_of_others(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.REQUEST, "mimi://somebody-else.example/u/x", asks.nobody)
    return _refused(
        (await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, users.CONSENT_ENTRY.encode(entry)))[0]
    )


@_other("A grant at the endpoint for requests is refused", "protocol 5.7")
async def _grant_misplaced(asks: Examiner) -> str:
    entry = ConsentEntry(ConsentOperation.GRANT, asks.we, asks.nobody)
    return _refused(
        (await asks.post(Endpoint.REQUEST_CONSENT, asks.nobody, users.CONSENT_ENTRY.encode(entry)))[0]
    )


@_other("An identifier query has an answer that can be read, with results only in success", "protocol 5.8")
async def _query(asks: Examiner) -> str:
    request = users.IdentifierRequest((users.Handle(asks.nobody),))
    status, raw = await asks.post(
        Endpoint.IDENTIFIER_QUERY, asks.peer, users.IDENTIFIER_REQUEST.encode(request)
    )
    _ok(status, 200)
    answer = _decoded(users.IDENTIFIER_RESPONSE, raw)
    if answer.code is not users.QueryCode.SUCCESS and (answer.uris or answer.profiles):
        raise _Fail(f"{answer.code.name.lower()} with results")
    return answer.code.name.lower()


@_other("The hub fetches nothing from a host that is no peer's", "protocol 5.10.2")
async def _open_proxy(asks: Examiner) -> str:
    return _refused(await asks.get(Endpoint.PROXY_DOWNLOAD, "https://somebody-else.example/file"))


@_other("The hub fetches nothing from its own network", "protocol 5.10.2")
async def _inner_proxy(asks: Examiner) -> str:
    return _refused(await asks.get(Endpoint.PROXY_DOWNLOAD, "https://127.0.0.1/"))
