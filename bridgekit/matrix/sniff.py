"""What a file is, by its first bytes (pure). After the WHATWG standard "MIME Sniffing", as far as chat needs it."""

from __future__ import annotations

import re

HEAD_BYTES = 512
OCTETS = "application/octet-stream"

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_MIME = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")


def sniff(head: bytes, declared: str = "") -> str:
    """The type of a file that starts with `head`; what the server `declared` where the bytes tell nothing.

    A declared image, audio or video type that the bytes do not show is not believed.
    """
    for start, mime in _STARTS:
        if head.startswith(start):
            return _refined(mime, declared)
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head.startswith(b"OggS"):
        return "video/ogg" if b"theora" in head else "audio/ogg"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 != 0xF0:
        return "audio/mpeg"  # a frame of layer III without a tag before it
    if head[:1] == b"\xff" and head[1:2] in (b"\xf1", b"\xf9"):
        return "audio/aac"
    declared = declared.lower()
    if not _MIME.fullmatch(declared) or declared.partition("/")[0] in ("image", "audio", "video"):
        # SVG is text, and an image that is text may hold scripts.
        declared = declared if declared == "image/svg+xml" else ""
    if declared and declared != OCTETS:
        return declared
    return "text/plain" if head and _is_text(head) else OCTETS


def _refined(mime: str, declared: str) -> str:
    """A container may hold something more special, which only the server can know."""
    if mime == "application/zip" and declared.startswith("application/"):
        return declared if _MIME.fullmatch(declared) and declared != OCTETS else mime
    if mime == "video/webm" and declared in ("audio/webm", "video/x-matroska", "audio/x-matroska"):
        return declared
    return mime


def _is_text(head: bytes) -> bool:
    if any(byte < 32 and byte not in b"\t\n\x0c\r\x1b" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # a character that is cut at the end
    return True
