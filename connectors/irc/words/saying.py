"""Words on their way out: cut to what a line carries, in the form that the network has for them."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from msgspec.structs import replace

from bridgekit.contract import split
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Content, Kind
from bridgekit.contract.text import Span, Style, Text, join
from bridgekit.contract.verbs import PostMessage
from connectors.irc.protocol.nicks import speaker_nick
from connectors.irc.protocol.outline import OutLine, Settings
from connectors.irc.protocol.stamps import is_real
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import clean
from connectors.irc.words.format import cost, encode
from connectors.irc.words.identity import View

CTCP = "\x01"
_ACTION = f"{CTCP}ACTION {CTCP}"
_LEAST = 16  # bytes; with less room than this there is no saying anything
_MULTILINE = "draft/multiline"
_MAX_NICK = 32


def can_tag(name: str, state: State) -> bool:
    """Whether the client-only tag `+name` reaches the others."""
    return "message-tags" in state.caps and state.support.may_send_tag(name)


def separators(state: State, target: str) -> str:
    """What may stand between a speaker and our mark in RELAYMSG; "" where we cannot relay.

    Ergo offers it to everybody, and lets only operators of the channel use it: whoever was refused may once they are
    something else there.
    """
    channel = state.channel(target)
    if "draft/relaymsg" not in state.caps or channel is None or unrelayed(state, target):
        return ""
    return state.caps.value("draft/relaymsg") or "/"


def unrelayed(state: State, target: str) -> bool:
    """Whether a RELAYMSG to that channel was refused to who we are there now."""
    channel = state.channel(target)
    return channel is not None and channel.unrelayed == state.prefixes(target, state.nick)


def post(verb: PostMessage, target: str, state: State, people: View, settings: Settings) -> list[OutLine]:
    """The lines that say it, in order. Raises SendRejected where there is nothing to say or no way to."""
    kind = verb.content.kind
    text = _shown(verb, state, people, settings)
    prefix = encode(Text(clean(verb.prefix)))
    tags: dict[str, str] = {}
    if verb.reply is not None:
        if verb.reply.id is not None and is_real(verb.reply.id) and can_tag("draft/reply", state):
            tags["+draft/reply"] = str(verb.reply.id)[:256]
        # In a channel also beside the tag: most clients do not show it, and who is answered wants to be called.
        named = kind is not Kind.EMOTE and (not tags or state.is_channel(target))
        if named and verb.reply.author and not _addressed(text, verb.reply.author):
            text = join(f"{clean(verb.reply.author)}: ", text)
    command, params, budget = _way(verb, target, state)
    wrapper = len(_ACTION) if kind is Kind.EMOTE else 0
    room = budget - wrapper - len(prefix.encode())
    if room < _LEAST:
        raise SendRejected("The network leaves no room for words in a line to there.")
    if command != "RELAYMSG" and kind is not Kind.EMOTE and _MULTILINE in state.caps:
        batches = _batched(text, prefix, command, params, room, tags, verb.key, state)
        if batches:
            return batches
    out: list[OutLine] = []
    for line in split.lines(text):
        for piece in split.pieces(line, room, cost):
            words = prefix + encode(piece)
            if kind is Kind.EMOTE:
                words = f"{CTCP}ACTION {words}{CTCP}"
            out.append(
                OutLine(command=command, params=(*params, words), tags={} if out else tags, echoed=True)
            )
    if not out:
        raise SendRejected("The message was empty.")
    if kind is Kind.EMOTE and _MULTILINE in state.caps and len(out) > settings.max_lines:
        whole = Content(text=join("* ", verb.content.text))  # CTCP knows no batches
        return post(replace(verb, content=whole), target, state, people, settings)
    return out


def _way(verb: PostMessage, target: str, state: State) -> tuple[str, tuple[str, ...], int]:
    """The command, what stands before the words, and how many bytes they may have."""
    if verb.speaker is not None and (separator := separators(state, target)):
        nick = speaker_nick(verb.speaker.name, separator[0], min(_MAX_NICK, state.support.nicklen))
        ours = state.support.linelen - len(f"RELAYMSG {target} {nick} :\r\n".encode())
        # The others see `:nick!user@host PRIVMSG target :`, with a user and host of the server's making
        theirs = state.budget("PRIVMSG", target) - max(0, len(nick) - len(state.nick))
        return "RELAYMSG", (target, nick), min(ours, theirs)
    command = "NOTICE" if verb.content.kind is Kind.NOTICE else "PRIVMSG"
    return command, (target,), state.budget(command, target)


def _shown(verb: PostMessage, state: State, people: View, settings: Settings) -> Text:
    """The words without what may not stand on the wire, and with people called by their nicks."""
    text = _clean(verb.content.text)
    if any(s.style is Style.MENTION for s in text.spans):
        text = _named(text, people)
    return _warned(text) if settings.formatting else Text(text.body)


def _addressed(text: Text, author: str) -> bool:
    return text.body.startswith((f"{author}: ", f"{author}, "))


def _clean(text: Text) -> Text:
    """Lone surrogates and the control characters that are no line end go; offsets are kept true."""
    if text.body.isprintable():
        return text
    body = text.body.replace("\r\n", " \n").replace("\r", "\n")
    body = "".join(
        c if c == "\n" or not ("\ud800" <= c <= "\udfff" or c < " " or c == "\x7f") else " " for c in body
    )
    return Text(body, text.spans)


def _named(text: Text, people: View) -> Text:
    """Each mention becomes the nick that the person has now, which is what a client of IRC looks for."""
    parts: list[Text | str] = []
    at = 0
    for span in sorted((s for s in text.spans if s.style is Style.MENTION), key=lambda s: s.start):
        nick = people.nick(PersonId(span.value)) if span.value else None
        if nick is None or span.start < at:
            continue
        name, around = clean(nick), text.slice(span.start, span.start + 1)
        spans = tuple(Span(0, len(name), s.style, s.value) for s in around.spans) if name else ()
        parts += [text.slice(at, span.start), Text(name, spans)]
        at = span.end
    return join(*parts, text.slice(at, len(text.body))) if parts else text


def _warned(text: Text) -> Text:
    """The reason of each spoiler stands before it: the colours that hide the words cannot say it."""
    parts: list[Text | str] = []
    at = 0
    for span in sorted(
        (s for s in text.spans if s.style is Style.SPOILER and s.value), key=lambda s: s.start
    ):
        parts += [text.slice(at, span.start), f"[{clean(span.value or '')}] "]
        at = span.start
    return join(*parts, text.slice(at, len(text.body))) if parts else text


# Several lines in one message -------------------------------------------------------------------------------


def _batched(
    text: Text, prefix: str, command: str, params: tuple[str, ...], room: int, tags: dict[str, str], key: str,
    state: State,
) -> list[OutLine]:  # fmt: skip
    """The message as draft/multiline batches, as many as it needs; [] where one plain line is enough."""
    body = text.body.strip("\n")
    start = text.body.find(body) if body else 0
    text = text.slice(start, start + len(body))
    if not body or ("\n" not in body and cost(text) <= room):
        return []
    fields = state.caps.fields(_MULTILINE)
    most_bytes, most_lines = (
        _number(fields.get("max-bytes", ""), 4096),
        _number(fields.get("max-lines", ""), 100),
    )
    out: list[OutLine] = []
    for number, pack in enumerate(_packed(_lines_of(text, room, prefix), prefix, most_bytes, most_lines)):
        ref = "b" + blake2b(f"{number}\0{key}\0{body}".encode("utf-8", "replace"), digest_size=6).hexdigest()
        head = (f"+{ref}", _MULTILINE, *params)
        out.append(OutLine(command="BATCH", params=head, tags={} if number else tags, echoed=True))
        for words, goes_on in pack:
            line_tags = {"batch": ref, "draft/multiline-concat": ""} if goes_on else {"batch": ref}
            out.append(OutLine(command=command, params=(*params, words), tags=line_tags, glued=True))
        out.append(OutLine(command="BATCH", params=(f"-{ref}",), glued=True))
    return out


def _packed(
    lines: list[tuple[str, bool]], prefix: str, most_bytes: int, most_lines: int
) -> Iterator[list[tuple[str, bool]]]:
    """The pieces by batches; none begins with an empty line, or goes on from the one before."""
    pack: list[tuple[str, bool]] = []
    size = 0
    for words, goes_on in lines:
        more = len(words.encode()) + (0 if goes_on or not pack else 1)
        if pack and (len(pack) >= most_lines or size + more > most_bytes):
            yield pack
            words, goes_on = words.removeprefix(" ") if goes_on else words, False
            pack, size, more = [], 0, len(words.encode())
        if pack or words != prefix:
            pack.append((words, goes_on))
            size += more
    if pack:
        yield pack


def _lines_of(text: Text, room: int, prefix: str) -> list[tuple[str, bool]]:
    """Each line of the message in pieces: (words, whether they continue the line before).

    With a prefix nothing continues: readers without multiline see each piece as a line of its own.
    """
    out: list[tuple[str, bool]] = []
    start = 0
    for raw in text.body.split("\n"):
        line = text.slice(start, start + len(raw))
        start += len(raw) + 1
        at = 0
        for piece in split.pieces(line, room - 1, cost) or [Text("")]:
            # The space at a cut belongs to the message: the pieces are put together again without one
            skipped = not raw.startswith(piece.body, at) and raw.startswith(" " + piece.body, at)
            goes_on = at > 0 and not prefix
            out.append((prefix + (" " if skipped and goes_on else "") + encode(piece), goes_on))
            at += len(piece.body) + skipped
    return out


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else default
