"""Room policy components (draft-ietf-mimi-room-policy-03); the operational policy is not opened here."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from connectors.mimi.wire.components import MEDIA_TYPE, MediaType
from connectors.mimi.wire.tls import (
    BOOL,
    OPAQUE,
    U8,
    U16,
    U32,
    U64,
    UTF8,
    Codec,
    Record,
    choice,
    enum,
    late_choice,
    optional,
    struct,
    vector,
)


class RoleTargets(Record, frozen=True):
    """Who may change somebody from role `source` into one of `targets`."""

    source: int
    targets: tuple[int, ...]


class Role(Record, frozen=True):
    """Role 0 is that of people who are no participants, 1 that of the banned.

    `least` and `most` bound the participants with the role, `least_active` and `most_active` those with a client.
    """

    index: int
    name: str
    description: str = ""
    capabilities: tuple[int, ...] = ()
    least: int = 0
    most: int | None = None
    least_active: int = 0
    most_active: int | None = None
    changes: tuple[RoleTargets, ...] = ()


_ROLE = struct(
    Role,
    index=U32,
    name=UTF8,
    description=UTF8,
    capabilities=vector(U16),
    least=U32,
    most=optional(U32),
    least_active=U32,
    most_active=optional(U32),
    changes=vector(struct(RoleTargets, source=U32, targets=vector(U32))),
)
ROLES = vector(_ROLE)


class Claim(Record, frozen=True):
    credential_type: int
    id: bytes
    value: bytes


class Preauthorization(Record, frozen=True):
    """Whoever proves all `claims` may take `role`."""

    claims: tuple[Claim, ...]
    role: Role


PREAUTHORIZATIONS = vector(
    struct(
        Preauthorization,
        claims=vector(struct(Claim, credential_type=U16, id=OPAQUE, value=OPAQUE)),
        role=_ROLE,
    )
)


class BaseRoomPolicy(Record, frozen=True):
    """`parent_room` is empty where there is none."""

    fixed_membership: bool = False
    parent_dependant: bool = False
    parent_room: str = ""
    multi_device: bool = True
    max_clients: int | None = None
    max_users: int | None = None
    pseudonyms_allowed: bool = False
    persistent_room: bool = True
    discoverable: bool = False
    policy_components: tuple[int, ...] = ()


BASE_ROOM_POLICY = struct(
    BaseRoomPolicy,
    fixed_membership=BOOL,
    parent_dependant=BOOL,
    parent_room=UTF8,
    multi_device=BOOL,
    max_clients=optional(U32),
    max_users=optional(U32),
    pseudonyms_allowed=BOOL,
    persistent_room=BOOL,
    discoverable=BOOL,
    policy_components=vector(U16),
)


class Optionality(IntEnum):
    OPTIONAL = 0
    REQUIRED = 1
    FORBIDDEN = 2


_OPTIONALITY = enum(Optionality)


class StatusNotificationPolicy(Record, frozen=True):
    delivery: Optionality = Optionality.OPTIONAL
    read: Optionality = Optionality.OPTIONAL


STATUS_NOTIFICATION_POLICY = struct(StatusNotificationPolicy, delivery=_OPTIONALITY, read=_OPTIONALITY)


class JoinLinkPolicy(Record, frozen=True):
    """`expiration`: how long a new link is valid (s)."""

    on_request: bool
    link_requests: str
    multiuser: bool
    expiration: int


class JoinLinksUpdate(Record, frozen=True):
    removed: tuple[int, ...] = ()
    added: tuple[bytes, ...] = ()


JOIN_LINK_POLICY = struct(JoinLinkPolicy, on_request=BOOL, link_requests=UTF8, multiuser=BOOL, expiration=U32)
JOIN_LINKS = vector(OPAQUE)
JOIN_LINKS_UPDATE = struct(JoinLinksUpdate, removed=vector(U32), added=vector(OPAQUE))


class PreviewsThrough(Record, frozen=True):
    autodetect: Optionality
    send: Optionality
    automatic: Optionality
    proxy: str


class PreviewsMustThrough(PreviewsThrough, frozen=True):
    """The proxy must be used."""


class PreviewsWithoutProxy(Record, frozen=True):
    autodetect: Optionality
    send: Optionality
    automatic: Optionality


LinkPreviewPolicy = PreviewsThrough | PreviewsMustThrough | PreviewsWithoutProxy

_PREVIEWS: dict[str, Codec[Any]] = {
    "autodetect": _OPTIONALITY,
    "send": _OPTIONALITY,
    "automatic": _OPTIONALITY,
}
LINK_PREVIEW_POLICY: Codec[LinkPreviewPolicy] = late_choice(
    LinkPreviewPolicy,
    3,
    U8,
    {
        0: struct(PreviewsThrough, **_PREVIEWS, proxy=UTF8),
        1: struct(PreviewsMustThrough, **_PREVIEWS, proxy=UTF8),
        2: struct(PreviewsWithoutProxy, **_PREVIEWS),
    },
)


class AssetLocation(IntEnum):
    UNSPECIFIED = 0
    LOCAL_PROVIDER = 1
    HUB = 2


class DownloadType(IntEnum):
    DIRECT = 0
    HUB_PROXY = 1
    OHTTP = 2


class AssetDomains(Record, frozen=True):
    """Where files of the users of `provider` lie."""

    provider: str
    domains: tuple[str, ...]


class DownloadPrivacy(Record, frozen=True):
    allowed: tuple[DownloadType, ...]
    forbidden: tuple[DownloadType, ...]
    default: DownloadType


class AssetPolicy(Record, frozen=True):
    """The `max_` fields count octets."""

    location: AssetLocation
    domains: tuple[AssetDomains, ...]
    download: DownloadPrivacy
    max_image: int
    max_audio: int
    max_video: int
    max_attachment: int
    forbidden_types: tuple[MediaType, ...]
    permitted_types: tuple[MediaType, ...] | None


_DOWNLOADS = vector(enum(DownloadType))
ASSET_POLICY = struct(
    AssetPolicy,
    location=enum(AssetLocation),
    domains=vector(struct(AssetDomains, provider=UTF8, domains=vector(UTF8))),
    download=struct(DownloadPrivacy, allowed=_DOWNLOADS, forbidden=_DOWNLOADS, default=enum(DownloadType)),
    max_image=U64,
    max_audio=U64,
    max_video=U64,
    max_attachment=U64,
    forbidden_types=vector(MEDIA_TYPE),
    permitted_types=optional(vector(MEDIA_TYPE)),
)


class Forbidden(Record, frozen=True):
    pass


class LoggingOptional(Record, frozen=True):
    clients: tuple[str, ...]
    machine_readable: str
    human_readable: str


class LoggingRequired(LoggingOptional, frozen=True):
    pass


LoggingPolicy = LoggingOptional | LoggingRequired | Forbidden

_LOGGING: dict[str, Codec[Any]] = {"clients": vector(UTF8), "machine_readable": UTF8, "human_readable": UTF8}
LOGGING_POLICY: Codec[LoggingPolicy] = choice(
    LoggingPolicy,
    U8,
    {0: struct(LoggingOptional, **_LOGGING), 1: struct(LoggingRequired, **_LOGGING), 2: struct(Forbidden)},
)


class HistoryOptional(Record, frozen=True):
    """`max_time`: how far back (s)."""

    roles: tuple[int, ...]
    automatic: bool
    max_time: int


class HistoryRequired(HistoryOptional, frozen=True):
    pass


HistoryPolicy = HistoryOptional | HistoryRequired | Forbidden

_HISTORY: dict[str, Codec[Any]] = {"roles": vector(U32), "automatic": BOOL, "max_time": U32}
HISTORY_POLICY: Codec[HistoryPolicy] = choice(
    HistoryPolicy,
    U8,
    {0: struct(HistoryOptional, **_HISTORY), 1: struct(HistoryRequired, **_HISTORY), 2: struct(Forbidden)},
)


class Bot(Record, frozen=True):
    name: str
    description: str
    homepage: str
    local_client: bool
    role: int
    can_target: bool
    per_user_content: bool


BOT_POLICY = vector(
    struct(
        Bot,
        name=UTF8,
        description=UTF8,
        homepage=UTF8,
        local_client=BOOL,
        role=U32,
        can_target=BOOL,
        per_user_content=BOOL,
    )
)


class ExpirationOptional(Record, frozen=True):
    """Durations in seconds."""

    least: int
    most: int
    default: int | None


class ExpirationRequired(ExpirationOptional, frozen=True):
    pass


ExpirationPolicy = ExpirationOptional | ExpirationRequired | Forbidden

_EXPIRATION: dict[str, Codec[Any]] = {"least": U32, "most": U32, "default": optional(U32)}
MESSAGE_EXPIRATION_POLICY: Codec[ExpirationPolicy] = choice(
    ExpirationPolicy,
    U8,
    {
        0: struct(ExpirationOptional, **_EXPIRATION),
        1: struct(ExpirationRequired, **_EXPIRATION),
        2: struct(Forbidden),
    },
)
