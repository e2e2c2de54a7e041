"""What people say: PRIVMSG, NOTICE, CTCP, tags and redactions as facts."""

from __future__ import annotations

import re

import msgspec

from bridgekit.contract.facts import Fact, Message, Reaction, Retraction, Typing, Unreaction
from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import Span, Style, Text, join
from connectors.irc.protocol import bouncer
from connectors.irc.protocol.batches import HISTORY, Batch
from connectors.irc.protocol.outline import OutLine, Urgency
from connectors.irc.protocol.roll import Channel
from connectors.irc.protocol.stamps import Ids, stamp, when
from connectors.irc.protocol.wire import Line, clean, need
from connectors.irc.words.faces import Faces
from connectors.irc.words.format import decode

CTCP = "\x01"
_LEAD = re.compile(r"([^\s:,]{1,64})[:,](?=\s)")
_AT = re.compile(r"(?<!\S)@([^\s:,.!?;]{1,64})")
_NARRATOR = "HistServ!HistServ@localhost"
"""Who tells of comings and goings in a history of Ergo's, where draft/event-playback was not asked for."""
_MAX_REACTION = 64  # code points; an emoji of many parts has about ten


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """Our own words, come back (echo-message, or a labelled answer): `id` is what the network calls them.

    `relayed` is the nick in whose name we said it (RELAYMSG), "" for our own.
    """

    command: str  # PRIVMSG, NOTICE, TAGMSG
    target: str
    text: str
    id: MessageId
    label: str = ""
    relayed: str = ""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one line said."""

    fact: Fact | None = None
    answer: OutLine | None = None
    echo: Echo | None = None


NOTHING = Heard()


class Hearing:
    """Reads what is said on one connection."""

    def __init__(self, faces: Faces, *, login: LoginId | None, version: str) -> None:
        self.faces = faces
        self.state = faces.state
        self.login = login
        self.version = version
        self.ids = Ids()

    def said(self, line: Line, at: int, batch: Batch | None) -> Heard:
        """A PRIVMSG or NOTICE, alone or made of a multiline batch."""
        words, nick = line.param(1), line.nick
        need(line, 0)
        if not nick or ("!" not in line.source and "." in nick) or bouncer.speaks(line):
            return NOTHING  # the server itself speaks, or the bouncer: that is the session's to log
        own = self.state.is_me(nick)
        history = batch.within(HISTORY) if batch is not None else None
        if history is not None and line.source == _NARRATOR:
            return NOTHING
        id = self.ids.of(line, at, history)
        echo = self._echo(line, words, id, batch, own=own)
        if echo is not None and echo.relayed:
            return Heard(echo=echo)
        kind = Kind.NOTICE if line.command == "NOTICE" else Kind.TEXT
        if words.startswith(CTCP):
            name, _, rest = words.strip(CTCP).partition(" ")
            if name.upper() != "ACTION":
                answer = self._ctcp(line, name.upper(), rest, at) if history is None and not echo else None
                return Heard(answer=answer, echo=echo)
            words, kind = rest, Kind.EMOTE
        sender = self.faces.past_speaker(line) if history is not None else self.faces.speaker(line)
        chat, private, lead = self._place(line, sender, own=own)
        channel = None if private else self.state.channel(line.param(0))
        text = _lines(words)
        message = Message(
            chat=chat,
            at=when(line, at),
            private=private,
            sender=sender,
            id=id,
            content=Content(text=join(lead, text) if lead else self._mentions(text, channel), kind=kind),
            reply_to=_reply_to(line),
            replayed=history is not None,
            own=self.login if own else None,
        )
        return Heard(fact=message if message.content.text else None, echo=echo)

    def tagged(self, line: Line, at: int, batch: Batch | None) -> Heard:
        """A TAGMSG: typing, a reaction, or nothing that we know."""
        need(line, 0)
        if not line.nick or (batch is not None and batch.within(HISTORY)):
            return NOTHING
        own = self.state.is_me(line.nick)
        echo = self._echo(line, "", self.ids.of(line, at), batch, own=own)
        sender = self.faces.speaker(line)
        chat, private, lead = self._place(line, sender, own=own)
        if lead:
            return NOTHING
        then, tags = when(line, at), line.tags
        typing = tags.get("+typing") or tags.get("+draft/typing")
        if typing in ("active", "paused", "done"):
            # typing: a client that pauses is still about to say something, but shows no more than its words
            active = typing == "active"
            if echo is not None:
                return Heard(echo=echo)
            return Heard(fact=Typing(chat=chat, at=then, private=private, sender=sender, active=active))
        target = _reply_to(line)
        if target is None:
            return Heard(echo=echo)
        key = tags.get("+draft/react") or tags.get("+react")
        if key:
            return Heard(
                fact=Reaction(
                    chat=chat, at=then, private=private, sender=sender, target=target,
                    key=clean(key)[:_MAX_REACTION], id=MessageId(tags["msgid"]) if tags.get("msgid") else None,
                ),
                echo=echo,
            )  # fmt: skip
        gone = tags.get("+draft/unreact") or tags.get("+unreact")
        if gone:
            return Heard(
                fact=Unreaction(
                    chat=chat, at=then, private=private, sender=sender, target=target,
                    key=clean(gone)[:_MAX_REACTION],
                ),
                echo=echo,
            )  # fmt: skip
        return Heard(echo=echo)

    def redacted(self, line: Line, at: int, batch: Batch | None) -> Heard:
        """A REDACT: `REDACT target msgid [:reason]`."""
        target = MessageId(need(line, 1))
        if not line.nick:
            return NOTHING
        past = batch is not None and batch.within(HISTORY) is not None
        sender = self.faces.past_speaker(line) if past else self.faces.speaker(line)
        own = self.state.is_me(line.nick)
        chat, private, _ = self._place(line, sender, own=own)
        then = when(line, at)
        reason = decode(clean(line.param(2))).body
        fact = Retraction(chat=chat, at=then, private=private, sender=sender, target=target, reason=reason)
        # Without an id of its own: what it names is the message, not the deletion.
        return Heard(fact=fact, echo=None if past else self._echo(line, "", MessageId(""), batch, own=own))

    def multiline(self, batch: Batch, at: int) -> Heard:
        """A whole draft/multiline batch: one message."""
        if not batch.lines:
            return NOTHING
        first = batch.lines[0]
        words: list[str] = []
        for i, line in enumerate(batch.lines):
            if i and "draft/multiline-concat" not in line.tags:
                words.append("\n")
            words.append(line.param(1))
        whole = Line(
            command=first.command,
            params=(batch.head.param(2) or first.param(0), "".join(words)),
            source=batch.head.source or first.source,
            tags={**first.tags, **batch.head.tags},
        )
        return self.said(whole, at, batch) if whole.command in ("PRIVMSG", "NOTICE") else NOTHING

    def _place(self, line: Line, sender: Person, *, own: bool) -> tuple[ChatId, bool, str]:
        """The chat, whether it is private, and what must be said before the words."""
        target = line.param(0)
        bare = self.state.bare_target(target)
        if self.state.is_channel(bare):
            if bare == target:
                return self.faces.channel(bare), False, ""
            # STATUSMSG is for a channel's operators only: the channel's other readers must not see it
            chat = ChatId(sender.id)
            return chat, True, f"[to {target[: len(target) - len(bare)]}{bare}] "
        peer: PersonId = self.faces.person(target).id if own else sender.id
        return ChatId(peer), True, ""

    def _echo(self, line: Line, words: str, id: MessageId, batch: Batch | None, *, own: bool) -> Echo | None:
        relayed = line.tags.get("draft/relaymsg", "")
        by_us = bool(relayed) and self.state.is_me(relayed)
        if not by_us and not own:
            return None
        label = line.tags.get("label", "") or (batch.label if batch is not None else "")
        return Echo(
            command=line.command, target=line.param(0), text=words, id=id, label=label,
            relayed=line.nick if by_us else "",
        )  # fmt: skip

    def _ctcp(self, line: Line, name: str, rest: str, at: int) -> OutLine | None:
        """The answer to a request that was made to us alone; never to a NOTICE."""
        if line.command != "PRIVMSG" or not self.state.is_me(line.param(0)):
            return None
        match name:
            case "VERSION":
                words = f"VERSION {self.version}"
            case "PING":
                words = f"PING {clean(rest)[:64]}"
            case "TIME":
                words = f"TIME {stamp(at)}"
            case "CLIENTINFO":
                words = "CLIENTINFO ACTION CLIENTINFO PING TIME VERSION"
            case _:
                return None
        nick = clean(line.nick, middle=True)
        if not nick:
            return None
        text = f"{CTCP}{clean(words).replace(CTCP, '')}{CTCP}"
        return OutLine(command="NOTICE", params=(nick, text), urgency=Urgency.LAZY)

    def _mentions(self, text: Text, channel: Channel | None) -> Text:
        """Members who are addressed: `nick: words` and `@nick`. A nick alone is too often a word."""
        if channel is None:
            return text
        spans: list[Span] = []
        found = [m for m in (_LEAD.match(text.body),) if m is not None]
        if "@" in text.body:
            found += _AT.finditer(text.body)
        for match in found:
            user = self.state.known(match[1])
            if user is not None and self.state.fold(match[1]) in channel.members:
                spans.append(Span(match.start(), match.end(1), Style.MENTION, self.faces.of(user).id))
        return Text(text.body, (*text.spans, *spans)) if spans else text


def _lines(words: str) -> Text:
    """Each line by itself: no code lasts beyond its line."""
    return decode(words.replace("\r", "").replace("\0", ""))


def _reply_to(line: Line) -> MessageId | None:
    target = line.tags.get("+draft/reply") or line.tags.get("+reply")
    return MessageId(target) if target else None
