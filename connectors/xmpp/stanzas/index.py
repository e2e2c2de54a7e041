"""The names of messages: stanza-ids, ids of the wire and what the bridge calls them; and sets of reactions."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import msgspec

from bridgekit.contract.ids import MessageId, PersonId
from connectors.xmpp.stanzas.heard import Heard

KEPT = 3000
"""Messages of one chat whose names are remembered."""
OWN = "|own"
"""Behind an address: the set of reactions is what the bridge itself says in that name."""
OWN_KEPT = 500
"""Own sets of one chat that are kept on disk, the newest."""
COPY_MS = 600_000
"""How far apart two copies of one message (a resend, a carbon, an archive's) may seem to be."""


class Named(msgspec.Struct, frozen=True):
    """One message: the bridge's id, who said it, its id on the wire, and when it was first heard (ms)."""

    id: MessageId
    sender: PersonId
    wire: str
    at: int
    origin: str = ""
    said: str = ""


class Index:
    """What is known of the messages of one chat. In a room, only the room's own stanza-id is believed."""

    def __init__(self, trusted: str | None = None) -> None:
        self.trusted = trusted  # who gives stanza-ids that may be believed: the room itself (XEP-0359, 6)
        self.believes = trusted is not None
        self._by_id: OrderedDict[MessageId, Named] = OrderedDict()
        self._by_wire: OrderedDict[tuple[PersonId, str], MessageId] = OrderedDict()
        self._sets: OrderedDict[tuple[MessageId, PersonId], frozenset[str]] = OrderedDict()
        self._nameless = 0
        self.recalled = False  # the own sets have been read from disk

    def name(self, heard: Heard, sender: PersonId, at: int, *, archived: str = "") -> MessageId:
        """What the message is called; `archived` is the archive's id, which is the stanza-id (XEP-0313, 5.1.3).

        Without one, the id on the wire names it. That has to be unique within a stream alone (RFC 6120, 8.1.3): other
        words under it, or the same an hour later (`at`: ms), are another message.
        """
        if given := archived or self._given(heard):
            return MessageId(_safe(given))
        wire = heard.id or heard.origin_id
        if not wire and heard.stamp:
            wire = _digest(f"{heard.stamp}\0{_words(heard)}")
        elif not wire:
            self._nameless += 1
            wire = f"{at}.{self._nameless}"
        if self.trusted is None:
            name = MessageId(_safe(wire))
        else:  # whoever may choose an id must not be able to choose somebody else's
            name = MessageId(f"{_digest(sender)[:8]}/{_safe(wire)}")
        count, called = 1, name
        while (other := self._by_id.get(called)) is not None and not _is_copy(other, heard, at):
            count += 1
            called = MessageId(f"{name}~{count}")
        return called

    def _given(self, heard: Heard) -> str:
        return heard.stanza_ids.get(self.trusted or "", "") if self.believes else ""

    def has(self, heard: Heard, sender: PersonId, at: int) -> bool:
        """Whether a copy of these words, which have an id on the wire, has been here."""
        says = heard.text is not None or heard.files or heard.encrypted
        return bool(says and heard.id and not heard.replaces) and self.name(heard, sender, at) in self._by_id

    def reopened(self, heard: Heard, sender: PersonId) -> MessageId | None:
        """What a message is called that has come before and could not be read then."""
        if given := self._given(heard):
            return MessageId(_safe(given))
        return self.by_wire(sender, heard.id or heard.origin_id)

    def keep(self, id: MessageId, heard: Heard, sender: PersonId, at: int) -> Named:
        """Remember a message; one that is known stays as it was."""
        wire = heard.id or heard.origin_id
        return self.put(
            Named(id, sender, wire, at, heard.origin_id, "" if heard.encrypted else _words(heard))
        )

    def put(self, named: Named) -> Named:
        """Remember it under all its names."""
        old = self._by_id.get(named.id)
        if old is not None:
            return old
        self._by_id[named.id] = named
        for wire in {named.wire, named.origin} - {""}:
            self._by_wire[named.sender, wire] = named.id
        if len(self._by_id) > KEPT:
            gone = self._by_id.popitem(last=False)[1]
            for wire in {gone.wire, gone.origin} - {""}:
                if self._by_wire.get((gone.sender, wire)) == gone.id:
                    del self._by_wire[gone.sender, wire]
        return named

    def alias(self, sender: PersonId, wire: str, id: MessageId) -> None:
        """`sender` may also mean `id` by this id of the wire."""
        if id in self._by_id and len(self._by_wire) < 3 * KEPT:
            self._by_wire.setdefault((sender, wire), id)

    def get(self, id: str) -> Named | None:
        return self._by_id.get(MessageId(_safe(id)))

    def by_wire(self, sender: PersonId, wire: str) -> MessageId | None:
        """The message that `sender` sent under this id."""
        return self._by_wire.get((sender, wire))

    def anybody(self, wire: str) -> MessageId | None:
        """The newest message that anybody sent under this id."""
        return next((id for (_, one), id in reversed(self._by_wire.items()) if one == wire), None)

    def own(self, sender: PersonId, id: str) -> MessageId:
        """What a message of `sender` is called that they mean by `id`, and that is not remembered here."""
        if self.trusted is None or self.believes:
            return MessageId(_safe(id))
        return MessageId(f"{_digest(sender)[:8]}/{_safe(id)}")

    def referred(self, id: str) -> MessageId:
        """The message that somebody means by `id`: a stanza-id first, else an id of the wire."""
        if (named := self.get(id)) is not None:
            return named.id
        return self.anybody(id) or MessageId(_safe(id))

    def react(self, target: MessageId, sender: PersonId, keys: frozenset[str]) -> tuple[list[str], list[str]]:
        """The full set of `sender` under `target` is now `keys` (XEP-0444): what came, and what went."""
        before = self.reactions(target, sender)
        self._sets.pop((target, sender), None)
        self._sets[target, sender] = keys
        if len(self._sets) > KEPT:
            self._sets.popitem(last=False)
        return sorted(keys - before), sorted(before - keys)

    def own_sets(self) -> list[tuple[MessageId, PersonId, list[str]]]:
        """What those whom the bridge speaks for have put under messages, the newest last."""
        found = [
            (target, who, sorted(keys))
            for (target, who), keys in self._sets.items()
            if keys and who.endswith(OWN)
        ]
        return found[-OWN_KEPT:]

    def recall(self, sets: list[tuple[MessageId, PersonId, list[str]]]) -> None:
        """The own sets of before a restart; what has been put since stays."""
        self.recalled = True
        for target, who, keys in sets:
            self._sets.setdefault((target, who), frozenset(keys))

    def reactions(self, target: MessageId, sender: PersonId) -> frozenset[str]:
        return self._sets.get((target, sender), frozenset())


def _is_copy(known: Named, heard: Heard, at: int) -> bool:
    """Whether `heard` is `known` again. What is sealed opens once: its copies have no words to compare."""
    if heard.encrypted or not known.said:
        return True
    return known.said == _words(heard) and abs((heard.stamp or at) - known.at) < COPY_MS


def _words(heard: Heard) -> str:
    """What tells the words of one message from those of another, and keeps none of them."""
    words = heard.text.body if heard.text is not None else ""
    return _digest("\0".join([words, *(shared.file.uri for shared in heard.files)]))


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _safe(id: str) -> str:
    """An id is opaque and fits on one line; a long one is cut to a hash."""
    if len(id) > 200 or not id.isprintable():
        return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return id
