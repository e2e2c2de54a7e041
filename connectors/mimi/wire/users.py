"""Bodies that are about users: keyMaterial, consent, identifierQuery, reportAbuse.

draft-ietf-mimi-protocol-06 5.2 and 5.7 to 5.9.
"""

from __future__ import annotations

from enum import IntEnum

from connectors.mimi.wire.components import APP_DATA_DICTIONARY, ComponentData
from connectors.mimi.wire.mls import (
    CAPABILITIES,
    CREDENTIAL,
    KEY_PACKAGE,
    REQUIRED_CAPABILITIES,
    Capabilities,
    Credential,
    KeyPackage,
    RequiredCapabilities,
)
from connectors.mimi.wire.rooms import FRANK, PROTOCOL, Frank, unknown_protocol
from connectors.mimi.wire.tls import (
    OPAQUE,
    U8,
    U16,
    U64,
    UTF8,
    Codec,
    Reader,
    Record,
    choice,
    enum,
    optional,
    prefixed,
    struct,
    vector,
)

# keyMaterial ------------------------------------------------------------------------------------------------


class KeyMaterialRequest(Record, frozen=True):
    requesting_user: str
    target_user: str
    room: str
    cipher_suites: tuple[int, ...]
    required: RequiredCapabilities
    signature_key: bytes
    credential: Credential
    signature: bytes = b""


KEY_MATERIAL_REQUEST: Codec[KeyMaterialRequest] = prefixed(
    PROTOCOL,
    struct(
        KeyMaterialRequest,
        requesting_user=UTF8,
        target_user=UTF8,
        room=UTF8,
        cipher_suites=vector(U16, least=1),
        required=REQUIRED_CAPABILITIES,
        signature_key=OPAQUE,
        credential=CREDENTIAL,
        signature=OPAQUE,
    ),
    unknown_protocol,
)


class UserCode(IntEnum):
    SUCCESS = 0
    PARTIAL_SUCCESS = 1
    INCOMPATIBLE_PROTOCOL = 2
    NO_COMPATIBLE_MATERIAL = 3
    USER_UNKNOWN = 4
    NO_CONSENT = 5
    NO_CONSENT_FOR_THIS_ROOM = 6
    USER_DELETED = 7


class ClientMaterial(Record, frozen=True):
    client_uri: str
    key_package: KeyPackage


class ClientExhausted(Record, frozen=True):
    """There is no key package left."""

    client_uri: str


class ClientIncompatible(Record, frozen=True):
    client_uri: str
    capabilities: Capabilities | None


Client = ClientMaterial | ClientExhausted | ClientIncompatible


class KeyMaterialResponse(Record, frozen=True):
    """`clients` is empty where the code is another than success, partial success or no compatible material."""

    code: UserCode
    user: str
    clients: tuple[Client, ...] = ()


_CLIENT: Codec[Client] = choice(
    Client,
    U8,
    {
        0: struct(ClientMaterial, client_uri=UTF8, key_package=KEY_PACKAGE),
        1: struct(ClientExhausted, client_uri=UTF8),
        2: struct(ClientIncompatible, client_uri=UTF8, capabilities=optional(CAPABILITIES)),
    },
)
KEY_MATERIAL_RESPONSE: Codec[KeyMaterialResponse] = prefixed(
    PROTOCOL,
    struct(KeyMaterialResponse, code=enum(UserCode), user=UTF8, clients=vector(_CLIENT)),
    unknown_protocol,
)


# requestConsent, updateConsent ------------------------------------------------------------------------------


class ConsentOperation(IntEnum):
    CANCEL = 0
    REQUEST = 1
    GRANT = 2
    REVOKE = 3


class ConsentEntry(Record, frozen=True):
    """`room` is None for any room; `key_packages` are there in a grant only."""

    operation: ConsentOperation
    requester: str
    target: str
    room: str | None = None
    key_packages: tuple[KeyPackage, ...] = ()
    extensions: tuple[ComponentData, ...] = ()


class _ConsentEntry(Codec[ConsentEntry]):
    def read(self, reader: Reader) -> ConsentEntry:
        operation = _OPERATION.read(reader)
        requester, target, room = UTF8.read(reader), UTF8.read(reader), _ROOM.read(reader)
        packages = _KEY_PACKAGES.read(reader) if operation is ConsentOperation.GRANT else ()
        return ConsentEntry(operation, requester, target, room, packages, APP_DATA_DICTIONARY.read(reader))

    def write(self, value: ConsentEntry, out: bytearray) -> None:
        _OPERATION.write(value.operation, out)
        UTF8.write(value.requester, out)
        UTF8.write(value.target, out)
        _ROOM.write(value.room, out)
        if value.operation is ConsentOperation.GRANT:
            _KEY_PACKAGES.write(value.key_packages, out)
        elif value.key_packages:
            raise ValueError("key packages in something else than a grant")
        APP_DATA_DICTIONARY.write(value.extensions, out)


_OPERATION = enum(ConsentOperation)
_ROOM = optional(UTF8)
_KEY_PACKAGES = vector(KEY_PACKAGE)
CONSENT_ENTRY: Codec[ConsentEntry] = _ConsentEntry()


# identifierQuery --------------------------------------------------------------------------------------------


class Handle(Record, frozen=True):
    value: str


class Nick(Record, frozen=True):
    value: str


class Email(Record, frozen=True):
    value: str


class Phone(Record, frozen=True):
    value: str


class PartialName(Record, frozen=True):
    value: str


class WholeProfile(Record, frozen=True):
    value: str


class OidcClaim(Record, frozen=True):
    name: str
    value: str


class VcardField(Record, frozen=True):
    name: str
    value: str


Query = Handle | Nick | Email | Phone | PartialName | WholeProfile | OidcClaim | VcardField


class IdentifierRequest(Record, frozen=True):
    """All of `queries` must match."""

    queries: tuple[Query, ...]
    extensions: tuple[ComponentData, ...] = ()


_QUERY: Codec[Query] = choice(
    Query,
    U8,
    {
        1: struct(Handle, value=UTF8),
        2: struct(Nick, value=UTF8),
        3: struct(Email, value=UTF8),
        4: struct(Phone, value=UTF8),
        5: struct(PartialName, value=UTF8),
        6: struct(WholeProfile, value=UTF8),
        7: struct(OidcClaim, name=UTF8, value=UTF8),
        8: struct(VcardField, name=UTF8, value=UTF8),
    },
)
IDENTIFIER_REQUEST = struct(
    IdentifierRequest, queries=vector(_QUERY, least=1), extensions=APP_DATA_DICTIONARY
)


class QueryCode(IntEnum):
    SUCCESS = 0
    NOT_FOUND = 1
    AMBIGUOUS = 2
    FORBIDDEN = 3
    UNSUPPORTED_FIELD = 4


class FieldSource(IntEnum):
    OIDC_STD_CLAIM = 7
    VCARD_FIELD = 8


class ProfileField(Record, frozen=True):
    source: FieldSource
    name: str
    value: bytes


class UserProfile(Record, frozen=True):
    stable_uri: str
    fields: tuple[ProfileField, ...] = ()


class IdentifierResponse(Record, frozen=True):
    code: QueryCode
    uris: tuple[str, ...] = ()
    profiles: tuple[UserProfile, ...] = ()
    extensions: tuple[ComponentData, ...] = ()


IDENTIFIER_RESPONSE = struct(
    IdentifierResponse,
    code=enum(QueryCode),
    uris=vector(UTF8),
    profiles=vector(
        struct(
            UserProfile,
            stable_uri=UTF8,
            fields=vector(struct(ProfileField, source=enum(FieldSource), name=UTF8, value=OPAQUE)),
        )
    ),
    extensions=APP_DATA_DICTIONARY,
)


# reportAbuse ------------------------------------------------------------------------------------------------


class AbusiveMessage(Record, frozen=True):
    """`accepted`: the hub's time (ms)."""

    content: bytes
    frank: Frank
    accepted: int


class AbuseReport(Record, frozen=True):
    """`reporting_user` is empty where the reporter does not say; `kind` has no registered values yet."""

    reporting_user: str
    alleged_abuser: str
    kind: int
    note: str
    messages: tuple[AbusiveMessage, ...] = ()
    extensions: tuple[ComponentData, ...] = ()


ABUSE_REPORT = struct(
    AbuseReport,
    reporting_user=UTF8,
    alleged_abuser=UTF8,
    kind=U8,
    note=UTF8,
    messages=vector(struct(AbusiveMessage, content=OPAQUE, frank=FRANK, accepted=U64)),
    extensions=APP_DATA_DICTIONARY,
)
