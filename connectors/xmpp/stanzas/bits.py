"""Bits of Binary (XEP-0231), read without trust: small pictures that a message only names."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from urllib.parse import parse_qsl, urlencode
from xml.etree.ElementTree import Element

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.people import File
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.wire import find, words

MOST_BYTES = 512 * 1024
SCHEME = "bob:?"
# XEP-0231, 4: algo+hash@bob.xmpp.org.
_CID = re.compile(r"(sha1|sha-1|sha-256|sha256)\+([0-9a-f]{40,64})@bob\.xmpp\.org")
_ALGORITHMS = {"sha1": "sha1", "sha-1": "sha1", "sha256": "sha256", "sha-256": "sha256"}


def shown(message: Element) -> File | None:
    """The picture that is all that the XHTML-IM of a message shows (a sticker); among words, what stands for one
    stays. Its address says whom to ask for it, and as whom."""
    body = find(find(message, wire.XHTML_IM, "html"), wire.XHTML, "body")
    if body is None or "".join(body.itertext()).strip():
        return None
    images = list(body.iter(f"{{{wire.XHTML}}}img"))
    if len(images) != 1:
        return None
    scheme, _, cid = images[0].get("src", "").partition(":")
    if scheme.lower() != "cid" or not _CID.fullmatch(cid):
        return None
    where = {"cid": cid, "from": message.get("from", ""), "to": message.get("to", "")}
    name = wire.line(images[0].get("alt", "")).strip(":").replace("/", "_")[:100] or "picture"
    return File(uri=SCHEME + urlencode(where), name=name, mime="image/png")


def asked(file: File) -> tuple[str, str, str]:
    """The cid, whom to ask for it, and which address of ours it was shown to, and may ask."""
    where = dict(parse_qsl(file.uri.removeprefix(SCHEME)))
    return where.get("cid", ""), where.get("from", ""), where.get("to", "")


def decoded(cid: str, data: Element | None) -> bytes:
    """The bytes that a <data/> holds. Raises PeerMisbehaved where they are not those that the cid names."""
    match = _CID.fullmatch(cid)
    encoded = words(data)
    if match is None or data is None or len(encoded) > MOST_BYTES * 3 // 2:
        raise PeerMisbehaved("The picture is none, or too large.")
    try:
        found = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise PeerMisbehaved("The picture could not be read.") from None
    digest = hashlib.new(_ALGORITHMS[match[1]], found, usedforsecurity=False).hexdigest()
    if digest != match[2]:  # XEP-0231, 8: who may choose the bytes of another's cid could show anything
        raise PeerMisbehaved("The picture is not the one that was named.")
    return found
