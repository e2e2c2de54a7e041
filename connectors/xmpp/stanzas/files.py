"""Files by their addresses: out of band (XEP-0066) and stateless sharing (XEP-0447 with XEP-0446), read and written."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract.filekeys import gcm
from bridgekit.contract.people import File
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.wire import CLIENT, add, children, find, words

KEY_BYTES = 32
MOST = 10
"""Files of one message; what is more is left out."""
_MIME = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "mp4": "video/mp4", "webm": "video/webm", "ogg": "audio/ogg", "opus": "audio/ogg", "mp3": "audio/mpeg",
    "m4a": "audio/mp4", "pdf": "application/pdf", "txt": "text/plain",
}  # fmt: skip


class Shared(msgspec.Struct, frozen=True):
    """One file, and what is said about it."""

    file: File
    about: str = ""


def read(stanza: Element) -> tuple[Shared, ...]:
    """The files that a message shares; what their server says of them is only believed once they were fetched."""
    found: dict[str, Shared] = {}
    for sharing in children(stanza, wire.SFS, "file-sharing")[:MOST]:
        sources = find(sharing, wire.SFS, "sources")
        for source in children(sources, wire.URL_DATA, "url-data"):
            url = source.get("target", "").strip()
            # XEP-0447, 5: without a hash that is checked, sources without TLS MUST be ignored.
            if url.startswith("https://") and _is_address(url):
                found.setdefault(url, _described(url, find(sharing, wire.METADATA, "file")))
                break
    for one in children(stanza, wire.OOB, "x")[:MOST]:
        url = words(find(one, wire.OOB, "url")).strip()
        if url.startswith(("https://", "http://")) and _is_address(url):
            name = _name(url)
            file = File(uri=url, name=name, mime=_mime(name))
            found.setdefault(url, Shared(file, words(find(one, wire.OOB, "desc"))))
    return tuple(found.values())[:MOST]


def read_sealed(body: str) -> tuple[Shared, ...]:
    """The file behind an `aesgcm` address, which is all of an encrypted body (XEP-0454, 3); clients put a small
    picture of it on the next line."""
    address, _, rest = body.strip().partition("\n")
    scheme, _, place = address.partition("://")
    where, _, secret = place.partition("#")
    if scheme != "aesgcm" or not _is_address(place) or (rest and not rest.startswith("data:")):
        return ()
    try:
        key = bytes.fromhex(secret)
    except ValueError:
        return ()
    if len(key) not in (KEY_BYTES + 12, KEY_BYTES + 16):  # 5: twelve bytes of IV, sixteen in old clients
        return ()
    url = f"https://{where}"
    name = _name(url)
    file = File(uri=url, name=name, mime=_mime(name), key=gcm(key[-KEY_BYTES:], key[:-KEY_BYTES]))
    return (Shared(file),)


def sealed_address(url: str, iv: bytes, secret: bytes) -> str:
    """The `aesgcm` address of an encrypted file that lies at `url` (XEP-0454, 3)."""
    return f"aesgcm://{url.partition('://')[2]}#{(iv + secret).hex()}"


def _is_address(url: str) -> bool:
    return len(url) < 4096 and url.isprintable() and " " not in url


def _name(url: str) -> str:
    return url.partition("?")[0].partition("#")[0].rpartition("/")[2][:120] or "file"


def _mime(name: str) -> str:
    return _MIME.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def _described(url: str, about: Element | None) -> Shared:
    def said(name: str) -> str:
        return words(find(about, wire.METADATA, name)).strip()

    # XEP-0446, 4: a name must not lead anywhere.
    name = wire.line(said("name")).replace("/", "_").replace("\\", "_")[:120] or _name(url)
    width, _, height = said("dimensions").partition("x")
    kind = said("media-type").lower()
    return Shared(
        File(
            uri=url,
            name=name,
            mime=kind if _is_mime(kind) else _mime(name),
            size=_count(said("size")),
            width=_count(width),
            height=_count(height),
            duration=_count(said("length")),
        ),
        said("desc"),
    )


def _is_mime(kind: str) -> bool:
    family, slash, rest = kind.partition("/")
    return (
        bool(slash and family.isalpha() and rest)
        and len(kind) < 100
        and kind.isascii()
        and kind.isprintable()
    )


def _count(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else 0


def attach(stanza: Element, url: str, file: File) -> None:
    """Both ways: the body is the URL, or older clients do not show the file."""
    sharing = add(stanza, "file-sharing", wire.SFS, disposition="inline")
    about = add(sharing, "file", wire.METADATA)
    add(about, "media-type", wire.METADATA, file.mime)
    add(about, "name", wire.METADATA, file.name)
    for name, count in (("size", file.size), ("length", file.duration)):
        if count:
            add(about, name, wire.METADATA, str(count))
    if file.width and file.height:
        add(about, "dimensions", wire.METADATA, f"{file.width}x{file.height}")
    add(add(sharing, "sources", wire.SFS), "url-data", wire.URL_DATA, target=url)
    add(stanza, "body", CLIENT, url)
    if file.spoiler is not None:
        add(stanza, "spoiler", wire.SPOILER, file.spoiler)
    holder = add(stanza, "x", wire.OOB)
    add(holder, "url", wire.OOB, url)
    if file.name:
        add(holder, "desc", wire.OOB, file.name)
