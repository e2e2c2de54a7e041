"""`bridgekit mimi inspect`: what captured octets say."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from bridgekit.contract.errors import BridgeError, PeerMisbehaved
from connectors.mimi.messages import content, status
from connectors.mimi.messages.parts import MimiContent
from connectors.mimi.wire import components, mls, policies, rooms, users
from connectors.mimi.wire.components import Component, ExtensionType
from connectors.mimi.wire.tls import Codec

KINDS: dict[str, Callable[[bytes], Any]] = {
    "content": content.decode,
    "status-report": status.decode,
    "mls-message": mls.MLS_MESSAGE.decode,
    "key-material-request": users.KEY_MATERIAL_REQUEST.decode,
    "key-material-response": users.KEY_MATERIAL_RESPONSE.decode,
    "update-request": rooms.UPDATE_REQUEST.decode,
    "update-response": rooms.UPDATE_RESPONSE.decode,
    "submit-request": rooms.SUBMIT_REQUEST.decode,
    "submit-response": rooms.SUBMIT_RESPONSE.decode,
    "notify": rooms.FANOUTS.decode,
    "group-info-request": rooms.GROUP_INFO_REQUEST.decode,
    "group-info-response": rooms.GROUP_INFO_RESPONSE.decode,
    "group-info-and-tree": rooms.GROUP_INFO_AND_TREE.decode,
    "consent": users.CONSENT_ENTRY.decode,
    "identifier-request": users.IDENTIFIER_REQUEST.decode,
    "identifier-response": users.IDENTIFIER_RESPONSE.decode,
    "abuse-report": users.ABUSE_REPORT.decode,
    "application-framing": components.APPLICATION_FRAMING.decode,
    "key-package": mls.KEY_PACKAGE.decode,
    "ratchet-tree": mls.RATCHET_TREE.decode,
    "app-data": components.APP_DATA_DICTIONARY.decode,
}

_COMPONENTS: dict[int, Codec[Any]] = {
    Component.APP_COMPONENTS: components.COMPONENTS_LIST,
    Component.SAFE_AAD: components.COMPONENTS_LIST,
    Component.CONTENT_MEDIA_TYPES: components.MEDIA_TYPES,
    Component.FRANKING_AGENT: components.FRANKING_AGENT,
    Component.PARTICIPANT_LIST: components.PARTICIPANT_LIST,
    Component.ROOM_METADATA: components.ROOM_METADATA,
    Component.ROLES_LIST: policies.ROLES,
    Component.PREAUTH_LIST: policies.PREAUTHORIZATIONS,
    Component.BASE_ROOM_POLICY: policies.BASE_ROOM_POLICY,
    Component.STATUS_NOTIFICATION_POLICY: policies.STATUS_NOTIFICATION_POLICY,
    Component.JOIN_LINK_POLICY: policies.JOIN_LINK_POLICY,
    Component.JOIN_LINKS: policies.JOIN_LINKS,
    Component.LINK_PREVIEW_POLICY: policies.LINK_PREVIEW_POLICY,
    Component.ASSET_POLICY: policies.ASSET_POLICY,
    Component.LOGGING_POLICY: policies.LOGGING_POLICY,
    Component.CHAT_HISTORY_POLICY: policies.HISTORY_POLICY,
    Component.BOT_POLICY: policies.BOT_POLICY,
    Component.MESSAGE_EXPIRATION_POLICY: policies.MESSAGE_EXPIRATION_POLICY,
}
_UPDATES: dict[int, Codec[Any]] = {
    Component.PARTICIPANT_LIST: components.PARTICIPANT_UPDATE,
    Component.JOIN_LINKS: policies.JOIN_LINKS_UPDATE,
}
_EXTENSIONS: dict[int, Codec[Any]] = {
    ExtensionType.REQUIRED_CAPABILITIES: mls.REQUIRED_CAPABILITIES,
    ExtensionType.EXTERNAL_SENDERS: mls.EXTERNAL_SENDERS,
    ExtensionType.RATCHET_TREE: mls.RATCHET_TREE,
    ExtensionType.APP_DATA_DICTIONARY: components.APP_DATA_DICTIONARY,
}
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}|\s)+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\-\s]+")


def kinds() -> int:
    """List what can be decoded."""
    print("\n".join(KINDS))
    return 0


def inspect(file: str | None, kind: str | None) -> int:
    """Print what the octets in `file` are; all that they can be, where `kind` is None. 1 where they are nothing."""
    if file is None:
        raise BridgeError("Say which file to look at; - is standard input.")
    octets = _read(file)
    if not octets:
        raise BridgeError(f"There is nothing in {file}.")
    found = False
    for name in [kind] if kind else KINDS:
        if name not in KINDS:
            raise BridgeError(f"There is no kind {name!r}; --kinds lists them.")
        try:
            value = KINDS[name](octets)
        except PeerMisbehaved as problem:
            if kind:
                print(f"This is no {name}: {problem.notice}", file=sys.stderr)
            continue
        found = True
        print(f"{name} ({len(octets)} octets)")
        print("\n".join(f"  {line}" for line in lines(value)))
        if isinstance(value, MimiContent):
            print(f"  id: {_id(octets, value)}")
    if not found and not kind:
        print(
            "These octets are none of the bodies that MIMI knows, or not in the only form of one.",
            file=sys.stderr,
        )
    return 0 if found else 1


def _read(file: str) -> bytes:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BridgeError(f"{file} cannot be read ({error.strerror}).") from None
    if raw and _HEX.fullmatch(raw):
        return bytes.fromhex(raw.decode())
    if raw and _BASE64.fullmatch(raw):
        compact = b"".join(raw.split()).translate(bytes.maketrans(b"-_", b"+/"))
        try:
            return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
        except binascii.Error:
            return raw
    return raw


def _id(octets: bytes, value: MimiContent) -> str:
    if value.sender_uri is None or value.room_uri is None:
        return "(needs the sender's and the room's URI, which the message does not name)"
    return content.message_id(
        octets, salt=value.salt, sender_uri=value.sender_uri, room_uri=value.room_uri
    ).hex()


def lines(value: object) -> Iterator[str]:
    """A value as text, one thing a line."""
    match value:
        case mls.Extension() if value.type in _EXTENSIONS:
            yield from _opened(
                f"{ExtensionType(value.type).name.lower()} extension", value.data, _EXTENSIONS[value.type]
            )
        case components.ComponentData() if value.id in _COMPONENTS:
            yield from _opened(
                f"{Component(value.id).name.lower()} component", value.data, _COMPONENTS[value.id]
            )
        case mls.AppDataUpdate(operation=mls.ComponentUpdate(update=update)) if (
            value.component in _UPDATES or value.component in _COMPONENTS
        ):
            codec = _UPDATES.get(value.component) or _COMPONENTS[value.component]
            yield from _opened(f"{Component(value.component).name.lower()} update", update, codec)
        case msgspec.Struct():
            yield type(value).__name__
            for field in value.__struct_fields__:
                yield from _field(field, getattr(value, field))
        case tuple() | list():
            for index, each in enumerate(value):
                yield from _field(str(index), each)
        case dict():
            for key, each in value.items():
                yield from _field(str(key), each)
        case _:
            yield _scalar(value)


def _opened(title: str, data: bytes, codec: Codec[Any]) -> Iterator[str]:
    try:
        inner = codec.decode(data)
    except PeerMisbehaved as problem:
        yield f"{title}: {_scalar(data)} ({problem.notice})"
        return
    yield title
    yield from (f"  {line}" for line in lines(inner))


def _field(name: str, value: object) -> Iterator[str]:
    if isinstance(value, msgspec.Struct) or (isinstance(value, tuple | list | dict) and value):
        inner = list(lines(value))
        if isinstance(value, msgspec.Struct):
            yield f"  {name}: {inner[0]}"
            yield from (f"  {line}" for line in inner[1:])
        else:
            yield f"  {name}:"
            yield from (f"  {line}" for line in inner)
    else:
        yield f"  {name}: {_scalar(value)}"


def _scalar(value: object) -> str:
    match value:
        case bytes() if not value:
            return "(empty)"
        case bytes():
            shown = value.hex() if len(value) <= 48 else f"{value[:40].hex()}... ({len(value)} octets)"
            try:
                text = value.decode()
            except UnicodeDecodeError:
                return shown
            return f"{shown}  {text[:120]!r}" if text.isprintable() and len(text) > 3 else shown
        case str():
            return repr(value)
        case Enum():
            return f"{value.name.lower()} ({value.value})"
        case tuple() | list() | dict():
            return "(none)"
        case _:
            return str(value)
