"""What stands in application components: in the GroupContext, in updates of it, beside messages.

draft-ietf-mls-extensions 4 and 6.2; draft-ietf-mimi-protocol-06 5.4.1, 7.5 and 7.6.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.wire.mls import CREDENTIAL, Credential
from connectors.mimi.wire.tls import OPAQUE, U16, U32, UTF8, Codec, Reader, Record, fixed, struct, vector


class Component(IntEnum):
    """Component ids: the drafts' suggested values. Private ones begin at 0x8000."""

    APP_COMPONENTS = 0x0001
    SAFE_AAD = 0x0002
    CONTENT_MEDIA_TYPES = 0x0003
    LAST_RESORT_KEY_PACKAGE = 0x0004
    APP_ACK = 0x0005
    FRANK_AAD = 0x0020
    FRANKING_AGENT = 0x0021
    PARTICIPANT_LIST = 0x0022
    ROOM_METADATA = 0x0023
    OPERATIONAL_POLICY = 0x0024
    ROLES_LIST = 0x0025
    PREAUTH_LIST = 0x0026
    BASE_ROOM_POLICY = 0x0027
    STATUS_NOTIFICATION_POLICY = 0x0028
    JOIN_LINK_POLICY = 0x0029
    JOIN_LINKS = 0x002A
    LINK_PREVIEW_POLICY = 0x002B
    ASSET_POLICY = 0x002C
    LOGGING_POLICY = 0x002D
    CHAT_HISTORY_POLICY = 0x002E
    BOT_POLICY = 0x002F
    MESSAGE_EXPIRATION_POLICY = 0x0030


class ExtensionType(IntEnum):
    """MLS extensions that MIMI rooms use: RFC 9420's, and the suggested values of draft-ietf-mls-extensions."""

    APPLICATION_ID = 0x0001
    RATCHET_TREE = 0x0002
    REQUIRED_CAPABILITIES = 0x0003
    EXTERNAL_PUB = 0x0004
    EXTERNAL_SENDERS = 0x0005
    APP_DATA_DICTIONARY = 0x0006
    SUPPORTED_WIRE_FORMATS = 0x0007
    REQUIRED_WIRE_FORMATS = 0x0008


class ComponentData(Record, frozen=True):
    id: int
    data: bytes


class _Sorted(Codec[tuple[ComponentData, ...]]):
    """Sorted by id, each id once (draft-ietf-mls-extensions 4.6 and 4.9)."""

    def __init__(self) -> None:
        self._list = vector(struct(ComponentData, id=U16, data=OPAQUE))

    def read(self, reader: Reader) -> tuple[ComponentData, ...]:
        found = self._list.read(reader)
        if not _is_sorted(found):
            raise PeerMisbehaved(
                "The other side sent components that are not in order, or one of them twice."
            )
        return found

    def write(self, value: tuple[ComponentData, ...], out: bytearray) -> None:
        if not _is_sorted(value):
            raise ValueError("components that are not in order")
        self._list.write(value, out)


def _is_sorted(entries: tuple[ComponentData, ...]) -> bool:
    return all(one.id < other.id for one, other in pairwise(entries))


APP_DATA_DICTIONARY = _Sorted()
SAFE_AAD = _Sorted()
COMPONENTS_LIST = vector(U16)


class Parameter(Record, frozen=True):
    name: str
    value: str


class MediaType(Record, frozen=True):
    """`type` is the type, a slash and the subtype; quotes around values are not written."""

    type: str
    parameters: tuple[Parameter, ...] = ()


class ApplicationFraming(Record, frozen=True):
    """Application data where the group tells media types apart; an empty type is the group's first one."""

    media_type: MediaType
    content: bytes


MEDIA_TYPE = struct(MediaType, type=UTF8, parameters=vector(struct(Parameter, name=UTF8, value=UTF8)))
MEDIA_TYPES = vector(MEDIA_TYPE, least=1)
APPLICATION_FRAMING = struct(ApplicationFraming, media_type=MEDIA_TYPE, content=OPAQUE)


class FrankingAgent(Record, frozen=True):
    signature_key: bytes
    credential: Credential


FRANK_AAD = fixed(32)
FRANKING_AGENT = struct(FrankingAgent, signature_key=OPAQUE, credential=CREDENTIAL)


class Participant(Record, frozen=True):
    user: str
    role: int


class RoleChange(Record, frozen=True):
    """`index` is the participant's place in the list as it was."""

    index: int
    role: int


class ParticipantUpdate(Record, frozen=True):
    """Changes are made first, then removals, then what is added goes to the end."""

    changed: tuple[RoleChange, ...] = ()
    removed: tuple[int, ...] = ()
    added: tuple[Participant, ...] = ()


_PARTICIPANT = struct(Participant, user=UTF8, role=U32)
PARTICIPANT_LIST = vector(_PARTICIPANT)
PARTICIPANT_UPDATE = struct(
    ParticipantUpdate,
    changed=vector(struct(RoleChange, index=U32, role=U32)),
    removed=vector(U32),
    added=vector(_PARTICIPANT),
)


class RichDescription(Record, frozen=True):
    """An empty `media_type` is text/plain;charset=utf-8."""

    media_type: str
    language: str
    content: bytes


class RoomMetadata(Record, frozen=True):
    """`avatar` is an https URI; empty where there is none."""

    room_uri: str
    name: str = ""
    descriptions: tuple[RichDescription, ...] = ()
    avatar: str = ""
    subject: str = ""
    mood: str = ""


ROOM_METADATA = struct(
    RoomMetadata,
    room_uri=UTF8,
    name=UTF8,
    descriptions=vector(struct(RichDescription, media_type=UTF8, language=UTF8, content=OPAQUE)),
    avatar=UTF8,
    subject=UTF8,
    mood=UTF8,
)
