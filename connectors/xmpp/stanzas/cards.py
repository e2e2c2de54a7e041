"""Names and pictures as people publish them: vCards (XEP-0054, 0153) and avatars (0084), read and written."""

from __future__ import annotations

import base64
import binascii
import hashlib
from xml.etree.ElementTree import Element

import msgspec

from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.wire import add, children, find, make, words

MOST_BYTES = 512 * 1024
"""Of a picture; what is larger is none."""
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


class Picture(msgspec.Struct, frozen=True):
    """A picture, and the type that its bytes show."""

    data: bytes
    mime: str

    @property
    def digest(self) -> str:
        """By which it is announced (XEP-0153, 3.1 and XEP-0084, 4.1: the SHA-1 of the bytes in hex)."""
        return hashlib.sha1(self.data, usedforsecurity=False).hexdigest()


def picture(encoded: str) -> Picture | None:
    """The picture in base64; None where it is none, or too large."""
    if len(encoded) > MOST_BYTES * 3 // 2:
        return None
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return of_bytes(data)


def of_bytes(data: bytes) -> Picture | None:
    """The same from its bytes."""
    if len(data) > MOST_BYTES:
        return None
    for start, mime in _STARTS:
        if data.startswith(start):
            return Picture(data, mime)
    return Picture(data, "image/webp") if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def announced(presence: Element) -> str | None:
    """The digest of the picture that a presence announces, "" for none; None where it does not say (XEP-0153, 4.2)."""
    photo = find(find(presence, wire.VCARD_UPDATE, "x"), wire.VCARD_UPDATE, "photo")
    if photo is None:
        return None
    digest = words(photo).strip().lower()
    return digest if len(digest) == 40 and digest.isalnum() and digest.isascii() else ""


def ask_card() -> Element:
    return make("vCard", wire.VCARD)


def read_card(answer: Element) -> tuple[str, Picture | None]:
    """The name (the full one, else the nick) and the picture of a vCard."""
    card = find(answer, wire.VCARD, "vCard")
    name = words(find(card, wire.VCARD, "FN")) or words(find(card, wire.VCARD, "NICKNAME"))
    photo = words(find(find(card, wire.VCARD, "PHOTO"), wire.VCARD, "BINVAL"))
    return wire.line(name)[:100], picture(photo) if photo else None


def ask_items(node: str, item: str = "") -> Element:
    """The newest item of a node of somebody's own (XEP-0060, 6.5; XEP-0163)."""
    pubsub = make("pubsub", wire.PUBSUB)
    items = add(pubsub, "items", wire.PUBSUB, node=node, max_items="" if item else "1")
    if item:
        add(items, "item", wire.PUBSUB, id=item)
    return pubsub


def read_metadata(answer: Element) -> str:
    """The digest of the picture that can be had in-band, "" where there is none (XEP-0084, 4.2)."""
    for item in children(
        find(find(answer, wire.PUBSUB, "pubsub"), wire.PUBSUB, "items"), wire.PUBSUB, "item"
    ):
        for info in children(find(item, wire.AVATAR_META, "metadata"), wire.AVATAR_META, "info"):
            if info.get("id") and not info.get("url"):
                return info.get("id", "")
    return ""


def read_data(answer: Element) -> Picture | None:
    """The bytes (XEP-0084, 4.1)."""
    for item in children(
        find(find(answer, wire.PUBSUB, "pubsub"), wire.PUBSUB, "items"), wire.PUBSUB, "item"
    ):
        return picture(words(find(item, wire.AVATAR_DATA, "data")))
    return None


def card(name: str, picture: Picture | None) -> Element:
    """A vCard."""
    made = make("vCard", wire.VCARD)
    if line := wire.line(name):
        add(made, "FN", wire.VCARD, line)
        add(made, "NICKNAME", wire.VCARD, line)
    if picture is not None:
        photo = add(made, "PHOTO", wire.VCARD)
        add(photo, "TYPE", wire.VCARD, picture.mime)
        add(photo, "BINVAL", wire.VCARD, base64.b64encode(picture.data).decode())
    return made


def items(node: str, picture: Picture | None) -> Element | None:
    """What a node of XEP-0084 holds: the metadata, the bytes; None of any other. Without a picture they are empty."""
    if node not in (wire.AVATAR_META, wire.AVATAR_DATA):
        return None
    pubsub = make("pubsub", wire.PUBSUB)
    holder = add(pubsub, "items", wire.PUBSUB, node=node)
    if picture is None:
        return pubsub
    item = add(holder, "item", wire.PUBSUB, id=picture.digest)
    if node == wire.AVATAR_DATA:
        add(item, "data", wire.AVATAR_DATA, base64.b64encode(picture.data).decode())
    else:
        about = {"id": picture.digest, "type": picture.mime, "bytes": str(len(picture.data))}
        add(add(item, "metadata", wire.AVATAR_META), "info", wire.AVATAR_META, **about)
    return pubsub


def announce(presence: Element, digest: str) -> None:
    """Say in a presence which picture its sender has, "" for none (XEP-0153, 3.1)."""
    add(add(presence, "x", wire.VCARD_UPDATE), "photo", wire.VCARD_UPDATE, digest)
