"""MIMI messages to facts. Pure: who sent it and when is told by MLS and the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import assert_never

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import Text, join
from connectors.mimi.messages import attachment
from connectors.mimi.messages.hypertext import from_html
from connectors.mimi.messages.markdown_in import from_markdown
from connectors.mimi.messages.parts import (
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    Semantics,
    SinglePart,
)
from connectors.mimi.messages.status import Report, Status

MAX_REACTION = 64  # UTF-8 octets: a longer "reaction" is a reply in disguise
MAX_MESSAGES = 8  # of one MIMI message, which may hold any number of files

_MEDIA = frozenset({"image", "audio", "video"})
_FETCHED = re.compile(r"https?://", re.IGNORECASE)


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message with what the network says of it.

    `thread` is the first message of its topic, where it is not that itself; `became` is how many messages the one
    that it replaces became here, as far as is known. `moderates`: its sender may delete what others said.
    """

    id: bytes
    content: MimiContent
    chat: ChatId
    sender: Person
    at: int
    private: bool = False
    replayed: bool = False
    thread: MessageId | None = None
    became: int = MAX_MESSAGES
    moderates: bool = False


def name(id: bytes, number: int = 0) -> MessageId:
    """What the bridge calls the message `id`, or the one numbered `number` of several that it became."""
    return MessageId(f"{id.hex()}/{number + 1}" if number else id.hex())


def to_facts(received: Received) -> list[Fact]:
    """What happened: nothing, where the message says nothing."""
    content = received.content
    part, target = content.part, content.replaces
    if isinstance(part, NullPart):
        return [] if target is None else _retractions(received, target)
    if part.disposition == Disposition.REACTION and content.in_reply_to is not None:
        keys = reactions(part)
        if keys is not None and target is None:
            return _reactions(received, content.in_reply_to, received.id, keys)
        if keys is not None and target is not None:
            # Later versions name the first one, so what is taken back later goes by that name too.
            return [
                *_retractions(received, target),
                *_reactions(received, content.in_reply_to, target, keys),
            ]
    contents = list(to_contents(part))
    if target is not None:
        return [
            facts.Edit(
                chat=received.chat,
                at=received.at,
                private=received.private,
                sender=received.sender,
                target=name(target),
                content=contents[0],
                id=name(received.id),
            )
        ]
    reply_to = None if content.in_reply_to is None else name(content.in_reply_to)
    return [
        facts.Message(
            chat=received.chat,
            at=received.at,
            private=received.private,
            sender=received.sender,
            id=name(received.id, number),
            content=each,
            reply_to=reply_to,
            thread=received.thread,
            replayed=received.replayed,
        )
        for number, each in enumerate(contents)
    ]


def _reactions(received: Received, target: bytes, id: bytes, keys: Sequence[str]) -> list[Fact]:
    return [
        facts.Reaction(
            chat=received.chat,
            at=received.at,
            private=received.private,
            sender=received.sender,
            target=name(target),
            key=key,
            id=name(id, number),
        )
        for number, key in enumerate(keys)
    ]


def _retractions(received: Received, target: bytes) -> list[Fact]:
    """Of all that the message became here; what never crossed is no loss."""
    return [
        facts.Retraction(
            chat=received.chat,
            at=received.at,
            private=received.private,
            sender=received.sender,
            target=name(target, number),
            own=not received.moderates,
        )
        for number in range(received.became)
    ]


def reactions(part: Part) -> list[str] | None:
    """The emojis of a reaction, None where it is something else (5.3: one part each, never two in one)."""
    match part:
        case SinglePart() if media_type(part.content_type).startswith("text/"):
            key = _decoded(part.content).strip()
            return [key] if key and len(key.encode()) <= MAX_REACTION and "\n" not in key else None
        case MultiPart(semantics=Semantics.PROCESS_ALL):
            found: list[str] = []
            for inner in part.parts:
                if (keys := reactions(inner)) is None:
                    return None
                found += keys
            return list(dict.fromkeys(found))[:MAX_MESSAGES]
        case _:
            return None


def receipts(
    reports: Sequence[Report], *, chat: ChatId, sender: Person, at: int, private: bool
) -> list[Fact]:
    """What `sender` has read, of a status report; the other states have no counterpart on Matrix."""
    return [
        facts.Receipt(chat=chat, at=at, private=private, sender=sender, target=name(report.id))
        for report in reports
        if report.status == Status.READ
    ]


def to_contents(part: Part) -> Iterator[Content]:
    """What a message says, as one or more messages of words and at most one file each."""
    words: Text | None = None
    file = None
    given = 0
    pieces = list(_pieces(part))
    for index, piece in enumerate(pieces):
        if isinstance(piece, Text):
            if file is not None:
                yield _content(words, file)
                words, file, given = None, None, given + 1
            words = piece if words is None else join(words, "\n", piece)
        else:
            if file is not None:
                yield _content(words, file)
                words, file, given = None, None, given + 1
            file = piece
        if given == MAX_MESSAGES - 1 and index + 1 < len(pieces):
            words, file = Text(f"(and {len(pieces) - index} more parts, which are not shown here)"), None
            break
    yield _content(words, file)


def _content(words: Text | None, part: ExternalPart | None) -> Content:
    if part is None:
        return Content(text=words or Text(""))
    if words is None and part.description not in ("", part.filename):
        words = Text(part.description)
    return Content(text=words or Text(""), file=attachment.to_file(part))


def _pieces(part: Part) -> Iterator[Text | ExternalPart]:
    """The words and files of a part, in order."""
    if not _support(part):
        yield Text(_unsupported(part))
        return
    match part:
        case NullPart():
            return
        case SinglePart():
            yield _words(part)
        case ExternalPart(disposition=Disposition.SESSION):
            yield Text(f"{part.description}: {part.url}" if part.description else part.url)
        case ExternalPart():
            yield part
        case MultiPart(semantics=Semantics.CHOOSE_ONE):
            yield from _pieces(max(part.parts, key=_support))  # of equals the first: the sender's preference
        case MultiPart():
            shown = [inner for inner in part.parts if _support(inner)]
            told = [inner for inner in shown if inner.disposition != Disposition.PREVIEW]
            for inner in told or shown:
                yield from _pieces(inner)
        case _:
            assert_never(part)


def _support(part: Part) -> int:
    """How well a part can be shown, 0: not at all."""
    match part:
        case NullPart():
            return 1
        case SinglePart():
            match media_type(part.content_type):
                case "text/markdown":
                    return 4
                case "text/plain":
                    return 3
                case "text/html":
                    return 2
            return 0
        case ExternalPart():
            return 3 if _FETCHED.match(part.url) else 0
        case MultiPart(semantics=Semantics.SINGLE_UNIT):
            return min(map(_support, part.parts))
        case MultiPart():
            return max(map(_support, part.parts))
        case _:
            assert_never(part)


def _unsupported(part: Part) -> str:
    if isinstance(part, SinglePart | ExternalPart):
        kind = media_type(part.content_type)
        if kind.partition("/")[0] in _MEDIA:
            return f"(a file of type {kind} that travels within the message, which is not shown here)"
        return f"(a message of type {kind or 'unknown'}, which is not shown here)"
    return "(a message of several parts, which are not shown here)"


def _words(part: SinglePart) -> Text:
    words = _decoded(part.content)
    match media_type(part.content_type):
        case "text/markdown":
            return from_markdown(words)
        case "text/html":
            return from_html(words)
        case _:
            return Text(words)


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


def media_type(content_type: str) -> str:
    """The type and subtype in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()
