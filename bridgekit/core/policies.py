"""Policy lists (MSC2313, Client-Server API "Moderation policy lists"): rules read, matched and written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, PersonId


class Kind(StrEnum):
    """What a rule is about."""

    USER = "m.policy.rule.user"
    SERVER = "m.policy.rule.server"


_TYPES: dict[str, Kind] = {
    **{kind.value: kind for kind in Kind},
    # What lists were written with before the specification had them.
    "m.room.rule.user": Kind.USER,
    "m.room.rule.server": Kind.SERVER,
    "org.matrix.mjolnir.rule.user": Kind.USER,
    "org.matrix.mjolnir.rule.server": Kind.SERVER,
}
TYPES = frozenset(_TYPES)
"""The state events of a policy list."""
_BANS = frozenset({"m.ban", "org.matrix.mjolnir.ban"})
_LONGEST = 255
MOST_RULES = 100_000
"""Rules of one list that are read; a list is written by others."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One ban. `entity` is a glob over a user id, a server name or a room id."""

    kind: Kind
    entity: str
    reason: str = ""
    list: ChatId


def matches(glob: str, text: str) -> bool:
    """Whether `text` is what `glob` says: `*` is any number of characters, `?` exactly one. Linear in their product."""
    at = mark = 0
    star = -1
    for_glob = 0
    while at < len(text):
        if for_glob < len(glob) and glob[for_glob] == "*":
            star, mark = for_glob, at
            for_glob += 1
        elif for_glob < len(glob) and glob[for_glob] in ("?", text[at]):
            for_glob += 1
            at += 1
        elif star >= 0:
            mark += 1
            at, for_glob = mark, star + 1
        else:
            return False
    return all(char == "*" for char in glob[for_glob:])


def server_of(user: str) -> str:
    """The server of a user id, without its port: rules name the host."""
    server = user.partition(":")[2]
    if server.startswith("["):  # an IPv6 address
        return server.partition("]")[0] + "]"
    return server.partition(":")[0].lower()


class Policies:
    """The rules of all lists that the bridge follows."""

    def __init__(self) -> None:
        self._rules: dict[tuple[ChatId, Kind, str], Rule] = {}
        self._exact: dict[Kind, dict[str, dict[tuple[ChatId, Kind, str], Rule]]] = {kind: {} for kind in Kind}
        self._globs: dict[Kind, dict[tuple[ChatId, Kind, str], Rule]] = {kind: {} for kind in Kind}

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def full(self) -> bool:
        """Whether there are so many rules that no more are read: the admin should know."""
        return len(self._rules) >= MOST_RULES

    def heard(self, list: ChatId, type: str, state_key: str, content: Mapping[str, Any]) -> bool:
        """A state event of a list room: a rule, or none any more (redacted, emptied, or not a ban). Raises nothing;
        says whether that changed what is barred."""
        kind = _TYPES.get(type)
        if kind is None:
            return False
        key = list, kind, f"{type}|{state_key}"
        rule = _rule(list, kind, content)
        old = self._rules.get(key)
        if old == rule or (old is None and self.full):
            return False
        if old is not None:
            self._remove(key, old)
        if rule is not None:
            self._rules[key] = rule
            if "*" in rule.entity or "?" in rule.entity:
                self._globs[kind][key] = rule
            else:
                self._exact[kind].setdefault(rule.entity, {})[key] = rule
        return True

    def _remove(self, key: tuple[ChatId, Kind, str], rule: Rule) -> None:
        del self._rules[key]
        if self._globs[rule.kind].pop(key, None) is None:
            same = self._exact[rule.kind][rule.entity]
            del same[key]
            if not same:
                del self._exact[rule.kind][rule.entity]

    def forget(self, list: ChatId) -> None:
        """The bridge no longer follows this list."""
        for key, rule in [(k, r) for k, r in self._rules.items() if k[0] == list]:
            self._remove(key, rule)

    def bars_user(self, user: PersonId) -> Rule | None:
        """The rule that bars a Matrix user id, by itself or by its server: puppets and ghosts alike."""
        return self._find(Kind.USER, user) or self._find(Kind.SERVER, server_of(user))

    def bars_ghost(self, ghost: PersonId) -> Rule | None:
        """The rule that bars a ghost by its user id. A ban of the bridge's own server is no ban of everybody on the
        other networks."""
        return self._find(Kind.USER, ghost)

    def _find(self, kind: Kind, entity: str) -> Rule | None:
        if exact := self._exact[kind].get(entity):
            return next(iter(exact.values()))
        return next((r for r in self._globs[kind].values() if matches(r.entity, entity)), None)


def _rule(list: ChatId, kind: Kind, content: Mapping[str, Any]) -> Rule | None:
    entity, recommendation, reason = (content.get(k) for k in ("entity", "recommendation", "reason"))
    if not isinstance(entity, str) or not 0 < len(entity) <= _LONGEST or str(recommendation) not in _BANS:
        return None
    if kind is Kind.SERVER:
        entity = entity.lower()
    return Rule(kind=kind, entity=entity, reason=reason[:500] if isinstance(reason, str) else "", list=list)


def ban_event(user: PersonId, reason: str) -> tuple[str, str, dict[str, Any]]:
    """Type, state key and content of the rule that bars one user id: how a network's own ban is written into a list.

    The state key is the same for the same user, so that a second ban replaces the first.
    """
    literal = user.replace("*", "?")  # in an id these are characters, in a rule they are not
    key = f"rule:{hashlib.sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
    return Kind.USER.value, key, {"entity": literal, "recommendation": "m.ban", "reason": reason[:500]}
