"""What a chat cannot carry, turned into what it can, or into a refusal with a reason."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import assert_never

import msgspec

from bridgekit.contract import split, verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.people import Content, File, Kind, Person, Quote
from bridgekit.contract.text import Span, Style, Text, excerpt, join, plain
from bridgekit.contract.verbs import Verb
from bridgekit.core.ghosts import clipped, shown

RECENT = 5 * 60_000
"""A reply within this many ms needs no quote: everybody still sees what is answered."""
QUOTE_CHARS = 60
LONGEST_NAME = 32
"""Characters of a name before somebody's words: a longer one would leave no room for them in a line."""
LONGEST_FILE_NAME = 80
"""Characters of a file's name before its link."""
LONGEST_REASON = 100
"""Characters of why a file is hidden."""
LEAST = 8
"""Bytes of a shortened message that are worth showing before its link."""
LONG_FACTOR = 5
"""Without a public address for links, this many times the allowed lines are sent all the same."""

NO_ADDRESS = "this bridge has no public address to link to"
FOREIGN = "only what is said on Matrix is put under a link"
SEALED_ROOM = (
    "what is said in an encrypted room is not laid open under a link before a moderator here agrees to that with "
    "`!bridge agree files`"
)
SEALED_FILE = "an encrypted one is not laid open under a link"


class Refusal(msgspec.Struct, frozen=True):
    """It is not done. `notice` is the sentence for the sender; empty where nobody needs to be told."""

    notice: str


class Aids(msgspec.Struct, frozen=True, kw_only=True):
    """What degrading may lean on: `text_link` and `file_link` are URLs that work for the other side ("" if there
    is no public address), `before` are the words that an edit replaces, `about` those that a reaction is
    under, `label` is what people call the network, `now` milliseconds. `linkless` says why there is no link."""

    label: str
    now: int = 0
    text_link: str = ""
    file_link: str = ""
    before: str = ""
    about: str = ""
    linkless: str = NO_ADDRESS


def fit(verb: Verb, can: Capabilities, aids: Aids) -> tuple[Verb, ...] | Refusal:
    """The verbs, all in `can.verbs`, that come nearest to `verb`. Pure; raises nothing."""
    match verb:
        case verbs.PostMessage():
            return _post(verb, can, aids)
        case verbs.EditMessage():
            return _edit(verb, can, aids)
        case verbs.React() | verbs.Unreact():
            return _reaction(verb, can, aids)
        case verbs.Retract() if not verb.target and verbs.Retract in can.verbs:
            return Refusal(f"The message has no name on {aids.label}: it can still be read there.")
        case verbs.ShowProfile(speaker=Person()) if not can.speakers:
            return Refusal("")  # there the relay has one name, and it is its own
        case verbs.Depart() | verbs.SetRole(shown=True) if not can.speakers:
            return Refusal("")  # nor is anybody shown there who could leave, or have a role
        case _ if type(verb) in can.verbs:
            return (verb,)
        case verbs.Retract():
            return Refusal(f"{aids.label} cannot take messages back: it can still be read there.")
        case verbs.SetTopic():
            return Refusal(f"The topic cannot be changed from here on {aids.label}.")
        case verbs.SetName():
            return Refusal(f"The name of the chat cannot be changed from here on {aids.label}.")
        case verbs.Kick() | verbs.Ban() | verbs.Unban() | verbs.Invite() | verbs.SetRole():
            deed = type(verb).__name__.lower()
            return Refusal(f"The bridge cannot do that on {aids.label}: {deed} {verb.person.name}.")
        case (
            verbs.SetAvatar()  # a chat without pictures is none the worse
            | verbs.SetTyping()
            | verbs.MarkRead()
            | verbs.Join()
            | verbs.Leave()
            | verbs.Depart()
            | verbs.ShowProfile()
            | verbs.FetchHistory()
        ):
            return Refusal("")
        case _:
            assert_never(verb)


# Words ------------------------------------------------------------------------------------------------------


def _post(verb: verbs.PostMessage, can: Capabilities, aids: Aids) -> tuple[Verb, ...] | Refusal:
    if verbs.PostMessage not in can.verbs:
        return Refusal(f"Nothing can be said on {aids.label} from here.")
    content = verb.content
    if content.file is not None and not can.files:
        if not aids.file_link:
            return Refusal(
                f"{aids.label} takes no files, and {aids.linkless}: {content.file.name} was not sent."
            )
        text = _with_link(content.file, content.text, can, aids)
        if isinstance(text, Refusal):
            return text
        content, aids = Content(text=text, kind=content.kind), msgspec.structs.replace(aids, text_link="")
    elif content.file is not None:
        content = _warned(content, content.file)
    content, reply = _answering(verb, content, can, aids)
    worded = _worded(content, verb.speaker, can, aids)
    if isinstance(worded, Refusal):
        return worded
    content, prefix = worded
    return (
        msgspec.structs.replace(
            verb,
            content=content,
            reply=reply,
            prefix=prefix,
            thread=verb.thread if can.threads else None,
            speaker=verb.speaker if can.speakers else None,
        ),
    )


def _worded(
    content: Content, speaker: Person | None, can: Capabilities, aids: Aids
) -> tuple[Content, str] | Refusal:
    """The content in a kind, in styles and of a length that the chat has, and the prefix that says who speaks."""
    content, prefix = _spoken(content, speaker, can)
    text = _shortened(_carried(content.text, can.styles), can, aids)
    if isinstance(text, Refusal):
        return text
    return Content(text=text, kind=content.kind, file=content.file), prefix


def _with_link(file: File, caption: Text, can: Capabilities, aids: Aids) -> Text | Refusal:
    """A caption, shortened where it would leave no room, and below it the file's link."""
    name = clipped(shown(file.name), LONGEST_FILE_NAME) or "file"
    size = f" ({_size(file.size)})" if file.size else ""
    words = f"{_warning(file)}{name}{size}: {aids.file_link}"
    if not caption or caption.body == file.name:
        return plain(words)
    whole = join(caption, "\n", words)
    if not aids.text_link or _fits(whole, can):
        return whole
    lines, size_left = can.max_lines - 1, can.max_bytes - split.utf8_size(plain(words)) - 1
    room = msgspec.structs.replace(
        can,
        max_lines=max(1, lines) if can.max_lines else 0,
        max_bytes=max(1, size_left) if can.max_bytes else 0,
    )
    short = _shortened(caption, room, aids)
    return short if isinstance(short, Refusal) else join(short, "\n", words)


def _warned(content: Content, file: File) -> Content:
    """The content of a file whose caption says that it is better not looked at unasked: few clients hide it."""
    if not (warning := _warning(file)):
        return content
    text = join(warning, content.text) if content.text else plain(warning.rstrip())
    return msgspec.structs.replace(content, text=text)


def _warning(file: File) -> str:
    return "" if file.spoiler is None else _spoiler(clipped(shown(file.spoiler), LONGEST_REASON))


def _spoiler(reason: str | None) -> str:
    return f"[spoiler{': ' + reason if reason else ''}] "


def _size(count: int) -> str:
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def _answering(
    verb: verbs.PostMessage, content: Content, can: Capabilities, aids: Aids
) -> tuple[Content, Quote | None]:
    """The content with what it answers in words, where the chat cannot show that by itself."""
    quote = verb.reply
    if quote is None or (can.replies and quote.id):
        return content, quote
    author = shown(quote.author)
    if not author or content.kind is Kind.EMOTE:
        return content, None
    if quote.words and aids.now - quote.at > RECENT:
        lead = f"“{excerpt(plain(quote.words), QUOTE_CHARS)}” ← {author}: "
    else:
        lead = f"{author}: "
    if content.text.body.startswith(lead):
        return content, None
    return Content(text=join(lead, content.text), kind=content.kind, file=content.file), None


def _spoken(content: Content, speaker: Person | None, can: Capabilities) -> tuple[Content, str]:
    """The content in a kind that the chat has, and the prefix that says who speaks."""
    # A name is one line and has nothing that hides or turns: it must not pass for somebody else's words.
    name = clipped(shown(speaker.name) or shown(speaker.id), LONGEST_NAME) if speaker is not None else ""
    if speaker is None or can.speakers:
        if content.kind in can.kinds:
            return content, ""
        if content.kind is Kind.EMOTE:
            name = f"{name} " if name else ""
            return Content(text=join("* ", name, content.text), file=content.file), ""
        return Content(text=content.text, file=content.file), ""
    kind = content.kind if content.kind is Kind.NOTICE and Kind.NOTICE in can.kinds else Kind.TEXT
    prefix = f"* {name} " if content.kind is Kind.EMOTE else f"<{name}> "
    return Content(text=content.text, kind=kind, file=content.file), prefix


def _carried(text: Text, styles: frozenset[Style]) -> Text:
    """The text in the styles that the chat has; a link keeps its address and a spoiler its warning."""
    if all(s.style in styles for s in text.spans):
        return text
    notes: list[tuple[int, str]] = []
    for span in text.spans:
        if span.style in styles:
            continue
        shown = text.body[span.start : span.end]
        if span.style is Style.LINK and span.value and span.value not in (shown, f"mailto:{shown}"):
            notes.append((span.end, f" ({span.value})"))
        elif span.style is Style.SPOILER:
            notes.append((span.start, _spoiler(span.value)))
        elif span.style is Style.QUOTE:
            lines = [span.start, *(i + 1 for i in range(span.start, span.end - 1) if text.body[i] == "\n")]
            notes += [(i, "> ") for i in lines]
    return _with_notes(text, notes).keep(styles)


def _with_notes(text: Text, notes: list[tuple[int, str]]) -> Text:
    """The text with words put in at offsets; spans grow around what is put inside them."""
    if not notes:
        return text
    notes.sort(key=lambda n: n[0])
    places = [at for at, _ in notes]
    lengths = [0, *accumulate(len(words) for _, words in notes)]
    parts: list[str] = []
    last = 0
    for at, words in notes:
        parts += [text.body[last:at], words]
        last = at
    parts.append(text.body[last:])
    spans = (
        Span(
            s.start + lengths[bisect_right(places, s.start)],
            s.end + lengths[bisect_left(places, s.end)],
            s.style,
            s.value,
        )
        for s in text.spans
    )
    return Text("".join(parts), tuple(spans))


def _lines(text: Text, can: Capabilities) -> int:
    """How many lines a text takes: what counts as one here must not become many on the wire, and empty ones are not
    sent (`split.lines`)."""
    body = text.body
    short = not can.max_lines or can.line_bytes == 0 or len(body) * 4 <= can.line_bytes
    if short and "\n" not in body and "\r" not in body:
        return 1
    # CR, LF and CRLF all end a line.
    said = [line for line in body.replace("\r", "\n").split("\n") if line]
    if short:
        return max(1, len(said))
    return max(1, sum(-(-split.utf8_size(plain(line)) // can.line_bytes) for line in said))


def _fits(text: Text, can: Capabilities) -> bool:
    if can.max_bytes and split.utf8_size(text) > can.max_bytes:
        return False
    return not can.max_lines or _lines(text, can) <= can.max_lines


def _shortened(text: Text, can: Capabilities, aids: Aids) -> Text | Refusal:
    if _fits(text, can):
        return text
    lines, size = _lines(text, can), split.utf8_size(text) if can.max_bytes else 0
    if aids.text_link:
        tail = f" [{lines} line{'s' if lines > 1 else ''}: {aids.text_link} ]"
        lead = plain(excerpt(text, 200))
        room = can.max_bytes - len(tail.encode())
        if not can.max_bytes or split.utf8_size(lead) <= room:
            return join(lead, tail)
        if room >= LEAST:
            return join(split.by_bytes(lead, room)[0], tail)
    if size > can.max_bytes or lines > LONG_FACTOR * can.max_lines:
        return Refusal(
            f"The message is too long for {aids.label} ({lines} lines, {split.utf8_size(text)} bytes) and "
            f"{aids.linkless}: send it in parts."
        )
    return text


def _edit(verb: verbs.EditMessage, can: Capabilities, aids: Aids) -> tuple[Verb, ...] | Refusal:
    if verbs.EditMessage in can.verbs and verb.target:
        content = verb.content
        if content.file is not None and not can.files:  # it was linked when it was first said
            text = content.text or plain(content.file.name)
            content = Content(text=join(_warning(content.file), text), kind=content.kind)
        elif content.file is not None:
            content = _warned(content, content.file)
        worded = _worded(content, verb.speaker, can, aids)
        if isinstance(worded, Refusal):
            return worded
        content, prefix = worded
        speaker = verb.speaker if can.speakers else None
        return (msgspec.structs.replace(verb, content=content, prefix=prefix, speaker=speaker),)
    words = substitution(aids.before, verb.content.text.body)
    text = plain(words) if words else join("* ", verb.content.text)
    said = verbs.PostMessage(
        chat=verb.chat, speaker=verb.speaker, key=verb.key, content=Content(text=text), at=aids.now
    )
    return _post(said, can, aids)


def substitution(before: str, after: str) -> str:
    """`s/old/new/` where one short stretch of one line changed and that says it in fewer words; else "".

    The convention of chat rooms without edits; only where the old stretch stands once, so that it is clear.
    """
    if not before or "\n" in before or "\n" in after or before == after:
        return ""
    old, new = before.split(" "), after.split(" ")
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    cut = " ".join(old[start : len(old) - end])
    put = " ".join(new[start : len(new) - end])
    words = f"s/{cut}/{put}/"
    clear = cut and "/" not in cut + put and before.count(cut) == 1 and before.replace(cut, put) == after
    return words if clear and len(words) < len(after) // 2 + 12 and len(cut) <= 40 and len(put) <= 40 else ""


def _reaction(verb: verbs.React | verbs.Unreact, can: Capabilities, aids: Aids) -> tuple[Verb, ...] | Refusal:
    native = type(verb) in can.verbs and (verb.target or getattr(verb, "id", None))
    if native and (verb.speaker is None or can.speakers):
        return (verb,)
    if isinstance(verb, verbs.Unreact):
        return Refusal("")
    words = f"reacted {verb.reaction}" + (f" to “{excerpt(plain(aids.about), 40)}”" if aids.about else "")
    said = verbs.PostMessage(
        chat=verb.chat,
        speaker=verb.speaker,
        key=verb.key,
        content=Content(text=plain(words), kind=Kind.EMOTE),
        at=aids.now,
    )
    return _post(said, can, aids)
