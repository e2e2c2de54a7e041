"""Lines as the scripted ircd reads and writes them: written apart from the connector's own, to be its witness."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.irc.testing.ircd_people import User

_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ[]\\~", "abcdefghijklmnopqrstuvwxyz{}|^")
_BARE = {"BATCH", "MODE", "329", "354"}  # where no server puts a colon before the last word
_ESCAPES = ((":", ";"), ("s", " "), ("r", "\r"), ("n", "\n"))


def fold(name: str) -> str:
    """RFC 1459 casemapping."""
    return name.translate(_FOLD)


class In:
    """One line of a client."""

    __slots__ = ("command", "params", "tags")

    def __init__(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace")
        self.tags: dict[str, str] = {}
        if text.startswith("@"):
            head, _, text = text.partition(" ")
            for item in head[1:].split(";"):
                key, _, value = item.partition("=")
                self.tags[key] = _unescape(value)
        if text.startswith(":"):
            text = text.partition(" ")[2]
        middle, colon, last = text.partition(" :")
        words = middle.split()
        self.command = words[0].upper() if words else ""
        self.params = [*words[1:], *([last] if colon else [])]


class Out:
    """One line of the server; `tags` are cut to what each client asked for."""

    __slots__ = ("command", "params", "source", "tags", "user")

    def __init__(
        self,
        source: str,
        command: str,
        params: tuple[str, ...],
        *,
        tags: dict[str, str] | None = None,
        user: User | None = None,
    ) -> None:
        self.source = source
        self.command = command
        self.params = params
        self.tags = tags or {}
        self.user = user

    def text(self) -> bytes:
        """Without tags, cut to 510 bytes as a server would, with its line end."""
        *middle, last = self.params or ("",)
        parts = [f":{self.source}", self.command, *middle]
        if self.params:
            parts.append(last if self.command in _BARE and " " not in last and last else f":{last}")
        return " ".join(parts).encode()[:510] + b"\r\n"


def tag_head(tags: dict[str, str]) -> bytes:
    """`@a=b;c ` or nothing."""
    if not tags:
        return b""
    items = [f"{key}={_escape(value)}" if value else key for key, value in tags.items()]
    return f"@{';'.join(items)} ".encode()


def _escape(value: str) -> str:
    value = value.replace("\\", "\\\\")
    for letter, char in _ESCAPES:
        value = value.replace(char, f"\\{letter}")
    return value


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    chars = iter(value)
    known = dict(_ESCAPES)
    return "".join(
        known.get(second, second) if char == "\\" and (second := next(chars, "")) else char for char in chars
    )
