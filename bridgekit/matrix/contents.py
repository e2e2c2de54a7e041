"""Verbs out to Matrix: the event types and contents that say them (pure)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bridgekit.contract.people import Content, File, Kind
from bridgekit.contract.split import pieces
from bridgekit.contract.text import Style, Text, excerpt
from bridgekit.contract.verbs import EditMessage, PostMessage, React
from bridgekit.matrix import permalinks
from bridgekit.matrix.events import SPOILER
from bridgekit.matrix.html import to_html, to_plain

EventContent = tuple[str, dict[str, Any]]
"""An event type and its content."""

MAX_CONTENT = 60_000
"""Bytes of JSON in one content; an event may have 65,536 with everything around it (Client-Server API, 1.8)."""
SOURCE = "org.bridgekit.source"
"""Names, in the content, what the event was made from."""

_MSGTYPES = {Kind.TEXT: "m.text", Kind.EMOTE: "m.emote", Kind.NOTICE: "m.notice"}
# Synapse refuses NUL; no client shows the others; a lone surrogate cannot be encoded at all.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_encode = msgspec.json.Encoder().encode


def contents(verb: PostMessage | EditMessage | React, *, source: str = "") -> list[EventContent]:
    """The events that perform `verb`, in order; only a text too long for one event makes several.

    `chat`, ids and mentions are the Matrix side's. `source`, if given, stands in each content. A message without
    words and file is none. An edit is always one event: what does not fit is left out, and an ellipsis says so.
    """
    match verb:
        case PostMessage():
            found = _post(verb)
        case EditMessage():
            found = [("m.room.message", _edit(verb))]
        case React():
            relation = {"rel_type": "m.annotation", "event_id": verb.target, "key": _clean(verb.reaction)}
            found = [("m.reaction", {"m.relates_to": relation})]
    if source:
        for _, made in found:
            made[SOURCE] = source
    return found


def content(verb: PostMessage | EditMessage | React, *, source: str = "") -> EventContent:
    """The only event, or the first. Raise ValueError for a message that says nothing."""
    found = contents(verb, source=source)
    if not found:
        raise ValueError("a message without words and file")
    return found[0]


def _post(verb: PostMessage) -> list[EventContent]:
    text = _cleaned(verb.content.text)
    file = verb.content.file
    relation = _relation(verb)
    if file is None:
        if not text.body:
            return []
        made = _words(text, verb.content.kind)
    else:
        made = _with_file(file, text)
    if relation:
        made["m.relates_to"] = relation
    if _fits(text, made):
        return [("m.room.message", made)]
    return [("m.room.message", part) for part in _parts(verb, text)]


def _parts(verb: PostMessage, text: Text) -> list[dict[str, Any]]:
    """The pieces of a long text: the first answers (and carries the file), all are in the thread."""
    kind = verb.content.kind
    found: list[dict[str, Any]] = []
    relation = _relation(verb)
    room = MAX_CONTENT - len(_encode(relation)) - 4_000  # what a file and the other fields may take
    for piece in pieces(text, room, _size):
        if verb.content.file is not None and not found:
            made = _with_file(verb.content.file, piece)
        else:
            made = _words(piece, kind)
        if relation:
            made["m.relates_to"] = relation
        found.append(made)
        relation = _relation(PostMessage(chat=verb.chat, content=verb.content, thread=verb.thread))
    return found


def _edit(verb: EditMessage) -> dict[str, Any]:
    text = _cleaned(verb.content.text)
    new = _new_content(verb.content, text)
    made = _edited(verb, text, new)
    if _fits(text, made, twice=True):
        return made
    # The fallback is for clients that know no edits: a line is enough for them.
    short = Text(excerpt(text, 1_000))
    if len(_encode(made := _edited(verb, short, new))) <= MAX_CONTENT:
        return made
    first = pieces(text, MAX_CONTENT - 10_000, _size)[0]
    return _edited(verb, short, _new_content(verb.content, Text(first.body + "…", first.spans)))


def _new_content(said: Content, text: Text) -> dict[str, Any]:
    return _with_file(said.file, text) if said.file is not None else _words(text, said.kind)


def _edited(verb: EditMessage, shown: Text, new: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "msgtype": new["msgtype"],
        "body": f"* {to_plain(shown) or new['body']}",
        # Client-Server API 11.22.4: here stand only those whom the edit mentions anew; nobody is woken twice.
        "m.mentions": {},
        "m.new_content": new,
        "m.relates_to": {"rel_type": "m.replace", "event_id": verb.target},
    }
    if (html := to_html(shown)) is not None:
        made["format"] = "org.matrix.custom.html"
        made["formatted_body"] = f"* {html}"
    return made


def _words(text: Text, kind: Kind) -> dict[str, Any]:
    made: dict[str, Any] = {"msgtype": _MSGTYPES[kind], "body": text.body, "m.mentions": {}}
    if text.spans:
        _dress(made, text)
    return made


def _dress(made: dict[str, Any], text: Text) -> None:
    """Add what styled text has beside its plain body."""
    made["body"] = to_plain(text)
    if (html := to_html(text)) is not None:
        made["format"] = "org.matrix.custom.html"
        made["formatted_body"] = html
    users = dict.fromkeys(
        s.value for s in text.spans if s.style is Style.MENTION and s.value and permalinks.is_user_id(s.value)
    )
    if users:
        made["m.mentions"] = {"user_ids": list(users)}


def _with_file(file: File, caption: Text) -> dict[str, Any]:
    """A file message; with a caption, the body is the caption and `filename` the name (11.2.1)."""
    kind, _, _ = file.mime.partition("/")
    name = _clean(file.name)[:200] or "file"
    numbers = {"size": file.size, "w": file.width, "h": file.height, "duration": file.duration}
    info = {"mimetype": file.mime[:100]} | {key: value for key, value in numbers.items() if value}
    made: dict[str, Any] = {
        "msgtype": f"m.{kind}" if kind in ("image", "audio", "video") else "m.file",
        "body": caption.body or name,
        "filename": name,
        "info": info,
        "m.mentions": {},
    }
    if file.key is not None:
        made["file"] = {**msgspec.json.decode(file.key), "url": file.uri}
    else:
        made["url"] = file.uri
    if file.spoiler is not None:
        made[SPOILER] = True
        if reason := _clean(file.spoiler)[:200]:
            made[f"{SPOILER}.reason"] = reason
    if caption.spans:
        _dress(made, caption)
    return made


def avatar_content(file: File | None, source: str = "") -> dict[str, Any]:
    """m.room.avatar with a Matrix file, and the mark of where that came from; without a file, nothing is shown."""
    if file is None:
        return {}
    numbers = {"size": file.size, "w": file.width, "h": file.height}
    info = {"mimetype": file.mime[:100]} | {key: value for key, value in numbers.items() if value}
    return {"url": file.uri, "info": info} | ({SOURCE: source} if source else {})


def _relation(verb: PostMessage) -> dict[str, Any]:
    """`m.relates_to`; {} for a message on its own. No fallback quote is written (MSC2781)."""
    answered = verb.reply.id if verb.reply is not None else None
    if verb.thread is None:
        return {"m.in_reply_to": {"event_id": answered}} if answered else {}
    return {
        "rel_type": "m.thread",
        "event_id": verb.thread,
        "is_falling_back": not answered,
        "m.in_reply_to": {"event_id": answered or verb.thread},
    }


def _fits(text: Text, made: dict[str, Any], *, twice: bool = False) -> bool:
    # No code point takes more than six bytes of JSON, so most messages need not be encoded to be measured.
    words = len(text.body) + len(made.get("formatted_body", ""))
    if words * (12 if twice else 6) + 4_096 <= MAX_CONTENT and "file" not in made and len(text.spans) < 50:
        return True
    return len(_encode(made)) <= MAX_CONTENT


def _size(text: Text) -> int:
    """Bytes of JSON that the words and their mentions take."""
    return len(_encode(_words(text, Kind.TEXT)))


def _cleaned(text: Text) -> Text:
    body = _clean(text.body)
    return text if body is text.body else Text(body, text.spans)


def _clean(body: str) -> str:
    """The same number of code points, without those that Matrix cannot carry."""
    return body if body.isprintable() or not _CONTROL.search(body) else _CONTROL.sub("\ufffd", body)
