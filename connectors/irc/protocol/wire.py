"""One line of IRC: from bytes and to bytes, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from bridgekit.contract.errors import PeerMisbehaved

MAX_TAGS = 8191  # message-tags: 8191 bytes of tags from a server, the "@" and the space counted
MAX_CLIENT_TAGS = 4096  # message-tags: what a client may send, "@" and space counted
MAX_LINE = 8192  # RFC 1459 says 512; LINELEN and real servers go further

_UNESCAPE = {":": ";", "s": " ", "\\": "\\", "r": "\r", "n": "\n"}
_ESCAPE = str.maketrans({";": "\\:", " ": "\\s", "\\": "\\\\", "\r": "\\r", "\n": "\\n", "\0": ""})
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_COMMAND = re.compile(r"[A-Za-z]+|[0-9]{3}")
_TAG_KEY = re.compile(r"\+?(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9-]+")
_BREAKS = re.compile(r"[\r\n]+")


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one side said to the other. `command` is upper case or three digits; tag values are unescaped."""

    command: str
    params: tuple[str, ...] = ()
    source: str = ""
    tags: dict[str, str] = {}

    @property
    def nick(self) -> str:
        """The source up to "!" or "@": a nick or a server's name."""
        return parts(self.source)[0]

    @property
    def user(self) -> str:
        """The user name of the source, "" where none was given."""
        return parts(self.source)[1]

    @property
    def host(self) -> str:
        """The host of the source, "" where none was given."""
        return parts(self.source)[2]

    def param(self, index: int) -> str:
        """Parameter `index`, "" where the line is shorter."""
        return self.params[index] if -len(self.params) <= index < len(self.params) else ""


@lru_cache(maxsize=1024)  # each line asks for them several times, and the same few people say most
def parts(source: str) -> tuple[str, str, str]:
    """The nick (or a server's name), the user name and the host of a source, "" for what is not given."""
    nick, _, rest = source.partition("!")
    user, at, _ = rest.rpartition("@")
    return nick.partition("@")[0], user if at else rest, source.rpartition("@")[2] if "@" in source else ""


def parse(raw: bytes) -> Line | None:
    """Read one line, with or without its line end; None for an empty one (RFC 1459 2.3: silently ignored).

    UTF-8, or Latin-1 where it is not UTF-8. Raises PeerMisbehaved, and nothing else, for a line that is too
    long, has a line end or NUL inside, or has no command.
    """
    raw = raw.rstrip(b"\r\n")
    if not raw:
        return None
    if len(raw) > MAX_TAGS + MAX_LINE:
        raise PeerMisbehaved("The server sent a line that is too long.")
    if b"\0" in raw or b"\r" in raw or b"\n" in raw:
        raise PeerMisbehaved("The server sent a line with a control character that none may have.")
    tags: dict[str, str] = {}
    if raw.startswith(b"@"):
        head, _, raw = raw.partition(b" ")
        if len(head) + 1 > MAX_TAGS:
            raise PeerMisbehaved("The server sent more tags than a line may have.")
        tags = _tags(_text(head[1:]))
    if len(raw) > MAX_LINE:
        raise PeerMisbehaved("The server sent a line that is too long.")
    rest = _text(raw).lstrip(" ")
    source = ""
    if rest.startswith(":"):
        source, _, rest = rest[1:].partition(" ")
        rest = rest.lstrip(" ")
    head_text, colon, trailing = rest.partition(" :")
    words = [word for word in head_text.split(" ") if word]
    if not words:
        if not source and not tags and not colon:
            return None
        raise PeerMisbehaved("The server sent a line without a command.")
    if colon:
        words.append(trailing)
    return Line(command=words[0].upper(), params=tuple(words[1:]), source=source, tags=tags)


def build(command: str, *params: str, tags: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one line with its CR LF. Only the last parameter may be empty, hold spaces or begin with ":".

    Raises ValueError for anything that would be more or other than one line: clean the parts first. The caller
    keeps to 512 bytes; tags over a client's 4096 bytes are a ValueError.
    """
    if not _COMMAND.fullmatch(command):
        raise ValueError("not an IRC command")
    parts: list[str] = [command]
    for param in params[:-1]:
        if not param or " " in param or param.startswith(":"):
            raise ValueError("a middle parameter is empty, has a space or begins with a colon")
        parts.append(param)
    if params:
        last = params[-1]
        parts.append(f":{last}" if not last or " " in last or last.startswith(":") else last)
    line = " ".join(parts)
    if "\r" in line or "\n" in line or "\0" in line:
        raise ValueError("CR, LF or NUL in a line")
    head = _tag_bytes(tags) if tags else b""
    return head + line.encode("utf-8", "replace") + b"\r\n"


def clean(text: str, *, middle: bool = False) -> str:
    """`text` as one parameter may hold it: line ends become a space, NUL and lone surrogates go.

    `middle`: cut at the first space, without leading colons; it may come out empty.
    """
    if "\0" in text:
        text = text.replace("\0", "")
    if not text.isprintable():
        text = _BREAKS.sub(" ", text).encode("utf-8", "ignore").decode()
    if middle:
        text = text.lstrip(" :").partition(" ")[0]
    return text


def need(line: Line, index: int) -> str:
    """Parameter `index`, which the command cannot be without. Raises PeerMisbehaved where it is missing or empty."""
    if index >= len(line.params) or not line.params[index]:
        raise PeerMisbehaved(f"The server sent {line.command} with too few parameters.")
    return line.params[index]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for item in text.split(";"):
        key, _, value = item.partition("=")
        if key:
            tags[key] = _unescape(value) if "\\" in value else value  # message-tags: the last one counts
    return tags


def _unescape(value: str) -> str:
    # message-tags: an unknown escape is the character itself, a lone backslash at the end is dropped
    return _ESCAPED.sub(lambda m: _UNESCAPE.get(m[1], m[1]), value)


def _tag_bytes(tags: Mapping[str, str]) -> bytes:
    items: list[str] = []
    for key, value in tags.items():
        if not _TAG_KEY.fullmatch(key):
            raise ValueError("not a tag's name")
        escaped = value.translate(_ESCAPE)
        items.append(f"{key}={escaped}" if escaped else key)
    head = f"@{';'.join(items)} ".encode("utf-8", "replace")
    if len(head) > MAX_CLIENT_TAGS:
        raise ValueError("more tags than a client may send")
    return head
