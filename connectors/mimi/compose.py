"""Verbs to MIMI messages. Pure: salts and what an original said come in."""

from __future__ import annotations

from typing import assert_never

import msgspec

from bridgekit.contract import verbs
from bridgekit.contract.errors import PeerMisbehaved, SendRejected
from bridgekit.contract.ids import MessageId
from bridgekit.contract.people import Content, Kind
from bridgekit.contract.text import Text, join
from connectors.mimi.messages.content import read_id
from connectors.mimi.messages.markdown_out import to_markdown
from connectors.mimi.messages.parts import (
    MARKDOWN,
    PLAIN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    Semantics,
    SinglePart,
    origin,
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What a message of ours says beside the verb: who sends it where, and what it takes over from an original.

    `topic` and `in_reply_to` are the original's for an edit: only its body may change (the draft's security
    considerations, "Rendering and authorization of edits and deletes").
    """

    salt: bytes
    sender_uri: str
    room_uri: str
    topic: bytes = b""
    in_reply_to: bytes | None = None


def octets(message: MessageId) -> bytes:
    """The id of the message that `name` named. Raises SendRejected for anything else."""
    try:
        return read_id(bytes.fromhex(message.partition("/")[0]))
    except (ValueError, PeerMisbehaved):
        raise SendRejected("The message that this refers to was never on the other side.") from None


Said = verbs.PostMessage | verbs.EditMessage | verbs.React | verbs.Unreact | verbs.Retract
"""The verbs that become messages."""


def to_content(verb: Said, envelope: Envelope, *, file: ExternalPart | None = None) -> MimiContent:
    """The message that does `verb`. `file` is the uploaded file of a PostMessage, sealed.

    Raises SendRejected where it refers to something that was never on the other side.
    """
    match verb:
        case verbs.PostMessage():
            reply = verb.reply.id if verb.reply else None
            return _message(
                envelope,
                _body(verb.content, verb.prefix, file),
                in_reply_to=None if reply is None else octets(reply),
            )
        case verbs.EditMessage():
            return _message(
                envelope,
                _body(verb.content, verb.prefix, None),
                replaces=octets(verb.target),
                in_reply_to=envelope.in_reply_to,
            )
        case verbs.React():
            return _message(envelope, _reaction(verb.reaction), in_reply_to=octets(verb.target))
        case verbs.Unreact():
            if verb.id is None:
                raise SendRejected(
                    "That reaction was never on the other side, so it cannot be taken back there."
                )
            return _message(
                envelope,
                NullPart(disposition=Disposition.REACTION),
                replaces=octets(verb.id),
                in_reply_to=octets(verb.target),
            )
        case verbs.Retract():
            return _message(
                envelope, NullPart(), replaces=octets(verb.target), in_reply_to=envelope.in_reply_to
            )
        case _:
            assert_never(verb)


def _message(
    envelope: Envelope, part: Part, *, replaces: bytes | None = None, in_reply_to: bytes | None = None
) -> MimiContent:
    return MimiContent(
        salt=envelope.salt,
        part=part,
        replaces=replaces,
        topic=envelope.topic,
        in_reply_to=in_reply_to,
        extensions=origin(envelope.sender_uri, envelope.room_uri),
    )


def _body(content: Content, prefix: str, file: ExternalPart | None) -> Part:
    text = content.text
    if content.kind is Kind.EMOTE:
        text = join("* ", text)
    if prefix:
        text = join(prefix, text)
    if file is None:
        return _text(text)
    if not text:
        return file
    return MultiPart(semantics=Semantics.PROCESS_ALL, parts=(_text(text), file))


def _text(text: Text) -> SinglePart:
    # Words without a look are plain text, which nobody can mistake.
    kind, words = (MARKDOWN, to_markdown(text)) if text.spans else (PLAIN, text.body)
    return SinglePart(content_type=kind, content=words.encode("utf-8", "replace"))


def _reaction(key: str) -> SinglePart:
    return SinglePart(
        disposition=Disposition.REACTION, content_type=PLAIN, content=key.encode("utf-8", "replace")
    )
