"""What a Matrix message says: the content of m.room.message and m.sticker as neutral content (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Content, File, Kind
from bridgekit.contract.text import Span, Style, Text, join, styled
from bridgekit.matrix import permalinks
from bridgekit.matrix.events import AvatarContent, EncryptedFile, Info, Said, present, read
from bridgekit.matrix.html import from_html

HTML = "org.matrix.custom.html"
MENTIONS_SOUGHT = 20
"""At most so many people of `m.mentions` are looked for in a plain body, and at so many places each."""

_KINDS = {"m.text": Kind.TEXT, "m.emote": Kind.EMOTE, "m.notice": Kind.NOTICE, "m.server_notice": Kind.NOTICE}
_FILES = frozenset({"m.image", "m.file", "m.audio", "m.video", "m.sticker"})
_MIMES = {"m.image": "image/png", "m.sticker": "image/png", "m.audio": "audio/ogg", "m.video": "video/mp4"}
_MXC = re.compile(r"mxc://[^/\s?#]+/[A-Za-z0-9_-]+")
_GEO = re.compile(r"geo:(-?\d{1,3}(?:\.\d{1,12})?),(-?\d{1,3}(?:\.\d{1,12})?)(?:[,;].*)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_REPLY_FALLBACK = re.compile(r"> (?:\* )?<@[^\n]*+(?:\n>[^\n]*+)*+\n\n?")

Named = Callable[[PersonId], str]


def content(said: Said, *, answering: bool, named: Named, sticker: bool = False) -> Content:
    """The words and the file of a message.

    `answering`: it is a reply, so the fallback quote at its beginning is dropped. `named` tells what a user is
    called there, "" if that is not known. Raise PeerMisbehaved where there is no body, or no file that can be fetched.
    """
    if said.body is None:
        raise PeerMisbehaved("a message without a body")
    msgtype = "m.sticker" if sticker else said.msgtype
    if msgtype in _FILES:
        if (file := _file(said, msgtype)) is None:
            raise PeerMisbehaved("a file that is not on a homeserver (an mxc:// address)")
        # Client-Server API 11.2.1: the body is a caption if there is a file name, and it is not the body.
        if said.spoiler or said.spoiler_4193:
            reason = clean(said.spoiler_reason_4193 or said.spoiler_reason)
            file = msgspec.structs.replace(file, spoiler=" ".join(reason.split()))
        caption = said.filename != "" and said.filename != said.body
        return Content(text=_text(said, answering, named) if caption else Text(""), file=file)
    if msgtype == "m.location":
        return Content(text=_location(said))
    return Content(text=_text(said, answering, named), kind=_KINDS.get(msgtype, Kind.TEXT))


def _text(said: Said, answering: bool, named: Named) -> Text:
    text: Text | None = None
    if said.formatted_body and said.format == HTML:
        text = from_html(said.formatted_body)
    if not text:  # no HTML, or HTML without a word
        text = Text(clean(said.body or ""))
        if answering and (fallback := _REPLY_FALLBACK.match(text.body)):
            text = Text(text.body[fallback.end() :])
    if said.mentions.user_ids:
        text = _with_mentions(text, said.mentions.user_ids, named)
    return text


def clean(body: str) -> str:
    """A plain body without control characters; CRLF is a newline."""
    if not _CONTROL.search(body):
        return body
    return _CONTROL.sub("", body.replace("\r\n", "\n").replace("\r", "\n"))


def _with_mentions(text: Text, users: list[str], named: Named) -> Text:
    """MENTION spans for those of `users` who are called by name or id and have no pill."""
    spans = list(text.spans)
    pills = {span.value for span in spans if span.style is Style.MENTION}
    taken = [(s.start, s.end) for s in spans if s.style is Style.MENTION or s.style is Style.LINK]
    for user in dict.fromkeys(users[:MENTIONS_SOUGHT]):
        if user in pills or not permalinks.is_user_id(user):
            continue
        for called in (user, named(PersonId(user))):
            found = _find_name(text.body, called)
            if found is not None and not any(found[0] < end and start < found[1] for start, end in taken):
                spans.append(Span(*found, Style.MENTION, user))
                taken.append(found)
                break
    return Text(text.body, tuple(spans)) if len(spans) > len(text.spans) else text


def _find_name(body: str, name: str) -> tuple[int, int] | None:
    """Where `name` first stands as a word of its own, with the @ before it."""
    at = -1
    for _ in range(MENTIONS_SOUGHT if name else 0):
        at = body.find(name, at + 1)
        if at < 0:
            break
        end = at + len(name)
        start = at - 1 if at and body[at - 1] == "@" else at
        if not (start and body[start - 1].isalnum()) and not (end < len(body) and body[end].isalnum()):
            return start, end
    return None


def _location(said: Said) -> Text:
    body = clean(said.body or "").strip()
    uri = said.geo_uri.strip()
    match = _GEO.fullmatch(uri)
    if match is None:
        return Text(body)
    where = f"geo:{match[1]},{match[2]}"
    map_ = f"https://www.openstreetmap.org/?mlat={match[1]}&mlon={match[2]}"
    before, found, after = body.partition(uri)
    lead = before if found or not body else f"{body} "
    return join(lead, styled(where, Style.LINK, map_), after)


def _file(said: Said, msgtype: str) -> File | None:
    """The file; None where it has no address that a homeserver serves."""
    url, key = said.url, None
    if present(said.file):
        try:
            url = read(EncryptedFile, said.file).url
            key = bytes(said.file)
        except PeerMisbehaved:
            return None
    name = _file_name(said.filename or said.body or "")
    return _at(url, name, said.info, _MIMES.get(msgtype, "application/octet-stream"), key)


def picture(content: AvatarContent) -> File | None:
    """What a room shows for itself; None where that is nothing that a homeserver serves."""
    return _at(content.url, "avatar", content.info, "application/octet-stream")


def _at(url: str, name: str, info: Info, mime: str, key: bytes | None = None) -> File | None:
    if not _MXC.fullmatch(url):
        return None
    return File(
        uri=url,
        name=name,
        mime=info.mimetype if _is_mime(info.mimetype) else mime,
        size=info.size,
        width=info.w,
        height=info.h,
        duration=info.duration,
        key=key,
    )


def _file_name(name: str) -> str:
    """A name that is no path, on one line."""
    name = clean(name).replace("\n", " ").replace("\t", " ").replace("\\", "/")
    return name.rpartition("/")[2].strip().lstrip(".")[:200] or "file"


def _is_mime(value: str) -> bool:
    return re.fullmatch(r"[\w.+-]{1,80}/[\w.+-]{1,80}", value, re.ASCII) is not None
