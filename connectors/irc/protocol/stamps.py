"""When a line was said and what it is called, also where the server says neither."""

from __future__ import annotations

import re
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import blake2b

from bridgekit.contract.ids import MessageId
from connectors.irc.protocol.batches import Batch
from connectors.irc.protocol.wire import Line

_MADE = "="  # no server's msgid begins so as far as we know; it marks an id of our own making
_REMEMBERED = 256
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")


def is_real(id: str | None) -> bool:
    """Whether the network knows a message by this id, so that a tag can point at it."""
    return bool(id) and not (id or "").startswith(_MADE)


def when(line: Line, at: int) -> int:
    """Milliseconds since the epoch by server-time, never later than `at`; `at` where the server does not tell."""
    stamp = line.tags.get("time", "")
    if not stamp or not _TIME.fullmatch(stamp):
        return at
    try:
        then = datetime.fromisoformat(f"{stamp[:19]}+00:00")
    except ValueError:
        return at
    millis = int(stamp[20:-1][:3].ljust(3, "0")) if len(stamp) > 20 else 0
    return max(0, min(at, int(then.timestamp()) * 1000 + millis))


def stamp(at: int) -> str:
    """Milliseconds since the epoch as server-time writes them; years are kept to 1970-9999."""
    then = datetime.fromtimestamp(min(max(at, 0) // 1000, 253402300799), UTC)
    return f"{then:%Y-%m-%dT%H:%M:%S}.{max(at, 0) % 1000:03d}Z"


class Ids:
    """Gives a message its id: the server's, or one made of what was said.

    With server-time, a replay has the same id as the message had; several equal messages of one moment are
    counted. Without, each line is its own.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._count = 0

    def of(self, line: Line, at: int, history: Batch | None = None) -> MessageId:
        """The id of a PRIVMSG, NOTICE or TAGMSG; `history` is the batch in which it is told again."""
        if msgid := line.tags.get("msgid", ""):
            return MessageId(msgid)
        parts = [line.tags.get("time", ""), line.nick, line.param(0), line.param(1)]
        if not parts[0]:
            self._count += 1
            return _made(f"{at}.{self._count}", *parts[1:])
        key = _made(*parts)
        seen = history.seen if history is not None else self._seen
        number = seen.get(key, 0) + 1
        seen[key] = number
        if history is None and len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return key if number == 1 else MessageId(f"{key}.{number}")


def _made(*parts: str) -> MessageId:
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=12)
    return MessageId(f"{_MADE}{digest.hexdigest()}")
