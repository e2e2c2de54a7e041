"""Relays of others: who repeats in a room what the bridge has passed on there, with the speaker's name before it,
closes a circle in which every word goes round for ever, with one name more each time."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator

from bridgekit.contract.facts import Message
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.rates import Buckets, Rate

REMEMBERED = 5000
"""Messages that were passed on last, in all rooms together."""
WHILE = 60_000
"""Milliseconds within which a relay repeats what it hears."""
ONCE = Rate(1, 600_000)
"""Whoever quotes somebody word for word is heard; who does it twice in ten minutes relays."""
MOST_NAMES = 20
_NAMED = re.compile(
    r"(?:<([^<>\n]{1,80})>|\[([^\[\]\n]{1,80})\]|\(([^()\n]{1,80})\)|([^\s:<\[(][^\s:]{0,79}):)\s+"
)


class Repeats:
    """What was passed on in the last minute, and who repeats it."""

    def __init__(self) -> None:
        # By room and hash of the words: who said them, when. Nobody's words stay here.
        self._passed: OrderedDict[tuple[ChatId, int], tuple[str, int]] = OrderedDict()
        self._quotes: Buckets[tuple[ChatId, PersonId]] = Buckets(ONCE)
        self._let: OrderedDict[int, None] = OrderedDict()  # by number: quotes that were passed on

    def hear(self, room: ChatId, number: int, fact: Message, now: int) -> bool:
        """Whether a message on any side of the room only repeats what was passed on there, and is not to be passed on
        itself; what is, is remembered. `number` is the message's own: what had to wait is heard again by the same one.
        `now` in milliseconds."""
        if fact.own is not None or fact.replayed:
            return False
        words = fact.content.text.body.strip()
        if number not in self._let and self._is_repeated(room, words, now):
            if not self._quotes.take((room, fact.sender.id), now):
                return True
            self._let[number] = None
            if len(self._let) > REMEMBERED:
                self._let.popitem(last=False)
        if words:
            key = room, hash(words)
            self._passed[key] = fact.sender.name, now
            self._passed.move_to_end(key)
            if len(self._passed) > REMEMBERED:
                self._passed.popitem(last=False)
        return False

    def _is_repeated(self, room: ChatId, words: str, now: int) -> bool:
        for name, rest, sure in _heads(words):
            said = self._passed.get((room, hash(rest)))
            if sure and said is not None and now - said[1] < WHILE and _bare(said[0]) in _bare(name):
                return True
        return False


def _heads(words: str) -> Iterator[tuple[str, str, bool]]:
    """Each name that stands before the words, what follows it, and whether only relays write so: people, too, begin
    with the name of whom they answer and a colon."""
    found = 0
    while found < MOST_NAMES and (head := _NAMED.match(words)) is not None:
        found += 1
        name, words = next(filter(None, head.groups())), words[head.end() :]
        yield name, words, not head[4] or found > 1 or _NAMED.match(words) is not None


def _bare(name: str) -> str:
    """A name without what relays put into it, so that nobody is called by it."""
    return "".join(char for char in name.casefold() if char.isalnum()) or name
