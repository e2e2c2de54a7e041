"""What the contract suite says: a verb of every kind, hostile words, and what counts as a sentence."""

from __future__ import annotations

import re

from bridgekit.contract import verbs
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.contract.people import Content, File, Kind, Person, Quote, Role
from bridgekit.contract.text import Span, Style, Text, plain
from bridgekit.contract.verbs import PostMessage, Verb

MARK = "EVILMARK"
"""Hostile words put this where a command or header would begin: no peer may read one that does."""

HOSTILE: dict[str, str] = {
    "line ends": f"hello\r\n{MARK} one\r{MARK} two\n{MARK} three",
    "nul": f"hello\0\0{MARK}\0",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\x9f",
    "unicode line ends": f"hello\u2028{MARK}\u2029{MARK}\u0085{MARK}\v{MARK}\f{MARK}",
    "bidi": "\u202eevil\u2066 nested \u2067\u2069\u202c",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufeff",
    "markup": f'"><script>{MARK}</script>&lt;/body&gt;]]>\u003c!--',
    "one long word": "x" * 20_000,
    "many combining marks": "e" + "\u0301" * 5_000,
    "a family of emoji": "👨\u200d👩\u200d👧\u200d👦" * 500,
    "spaces": " \t\u00a0\u3000 ",
    "a leading mark": f":{MARK} /{MARK} @{MARK} !{MARK}",
}

SURROGATES = "a\ud800b\udfffc"
"""No text at all: neither JSON nor a fact on disk can hold it, so the bridge never hands it over."""

_SENTENCE = re.compile(r"\S+( \S+){2,}", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_sentence(notice: str) -> bool:
    """Whether a person can read it: three words or more, in one line, of bearable length, with no bare error code."""
    return (
        _SENTENCE.fullmatch(notice.strip()) is not None
        and len(notice) <= 600
        and not _CONTROL.search(notice)
        and not notice[0].isdigit()
    )


def post(chat: ChatId, words: str, *, prefix: str = "", kind: Kind = Kind.TEXT) -> PostMessage:
    """Plain words."""
    return PostMessage(chat=chat, content=Content(text=plain(words), kind=kind), prefix=prefix)


def harmless(chat: ChatId) -> list[Verb]:
    """What anybody may do in a chat, in an order in which it makes sense."""
    return [
        verbs.Join(chat=chat),
        verbs.SetTyping(chat=chat, active=True),
        post(chat, "typed"),
        verbs.SetTyping(chat=chat, active=False),
        verbs.ShowProfile(chat=chat),
        verbs.FetchHistory(chat=chat, limit=5),
        verbs.Leave(chat=chat),
        verbs.Join(chat=chat),
    ]


def one_of_each(chat: ChatId, person: Person, words: str, target: MessageId) -> list[Verb]:
    """A verb of every type with `words` wherever words can stand; Leave comes last, so that the others find a chat."""
    content = Content(text=plain(words))
    speaker = Person(id=person.id, name=words or "somebody")
    styled = Text(words, tuple(Span(0, len(words), style, words) for style in Style)) if words else Text("")
    return [
        verbs.Join(chat=chat),
        verbs.PostMessage(chat=chat, content=content, key=words, prefix="", at=1),
        verbs.PostMessage(chat=chat, content=Content(text=styled), speaker=speaker, prefix="<x> "),
        verbs.PostMessage(
            chat=chat, content=content, reply=Quote(id=target, author=words, words=words, at=1), thread=target
        ),
        verbs.EditMessage(chat=chat, target=target, content=content, key=words),
        verbs.React(chat=chat, target=target, reaction=words),
        verbs.Unreact(chat=chat, target=target, reaction=words),
        verbs.Retract(chat=chat, target=target, reason=words),
        verbs.SetTopic(chat=chat, topic=words),
        verbs.SetName(chat=chat, name=words),
        verbs.SetAvatar(chat=chat, avatar=File(uri="mxc://hs.test/nothing", name=words)),
        verbs.SetAvatar(chat=chat, avatar=None),
        verbs.SetTyping(chat=chat, active=True),
        verbs.MarkRead(chat=chat, target=target),
        verbs.Invite(chat=chat, person=person, reason=words),
        verbs.SetRole(chat=chat, person=person, role=Role.VOICE),
        verbs.SetRole(chat=chat, person=speaker, role=Role.NONE, shown=True),
        verbs.Depart(chat=chat, speaker=speaker, reason=words),
        verbs.Kick(chat=chat, person=person, reason=words),
        verbs.Ban(chat=chat, person=person, reason=words),
        verbs.Unban(chat=chat, person=person, reason=words),
        verbs.ShowProfile(chat=chat, speaker=speaker),
        verbs.FetchHistory(chat=chat, limit=10),
        verbs.Leave(chat=chat, reason=words),
    ]
