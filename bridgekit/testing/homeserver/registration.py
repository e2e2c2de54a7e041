"""The registration of an appservice, and which users, aliases, rooms and events are its business (pure)."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

from bridgekit.testing.homeserver.events import Event


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """One regex of a registration; it is matched from the start of the id, as homeservers do."""

    regex: str
    exclusive: bool = True


class Namespaces(msgspec.Struct, frozen=True, kw_only=True):
    """What a registration claims."""

    users: tuple[Namespace, ...] = ()
    aliases: tuple[Namespace, ...] = ()
    rooms: tuple[Namespace, ...] = ()


_RENAMED = {"msc4190": "io.element.msc4190", "msc3202": "org.matrix.msc3202"}


class Registration(msgspec.Struct, frozen=True, kw_only=True, dict=True, rename=_RENAMED):
    """An appservice registration (Application Service API, "Registration"); unknown keys are ignored.

    `url` None means that nothing is ever sent to the appservice.
    """

    id: str
    as_token: str
    hs_token: str
    sender_localpart: str
    url: str | None = None
    namespaces: Namespaces = Namespaces()
    rate_limited: bool = True
    receive_ephemeral: bool = False
    msc4190: bool = False
    msc3202: bool = False
    protocols: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: "Registration | dict[str, Any] | str | Path") -> "Registration":
        """Accept a registration as itself, as a plain dict, or as the path of its YAML file.

        Raise `msgspec.ValidationError` where required keys are missing.
        """
        if isinstance(source, Registration):
            return source
        plain: Any = (
            YAML(typ="safe", pure=True).load(Path(source)) if isinstance(source, str | Path) else source
        )
        return msgspec.convert(_without_none(plain), cls)

    def as_dict(self) -> dict[str, Any]:
        """Return it as the plain dict that `of` accepts."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @cached_property
    def _claims(self) -> dict[str, list[tuple[re.Pattern[str], bool]]]:
        return {
            kind: [(re.compile(space.regex), space.exclusive) for space in spaces]
            for kind, spaces in (
                ("users", self.namespaces.users),
                ("aliases", self.namespaces.aliases),
                ("rooms", self.namespaces.rooms),
            )
        }

    @cached_property
    def _known_users(self) -> dict[str, bool]:
        return {}

    def claims_user(self, user: str) -> bool:
        """Is the user in one of the user namespaces? (The bot is not, unless a regex says so.)"""
        known = self._known_users.get(user)
        if known is None:
            known = self._known_users[user] = self._matches("users", user)
        return known

    def claims_alias(self, alias: str) -> bool:
        """Is the alias in one of the alias namespaces?"""
        return self._matches("aliases", alias)

    def claims_room(self, room_id: str) -> bool:
        """Is the room id in one of the room namespaces?"""
        return self._matches("rooms", room_id)

    def excludes(self, kind: str, value: str) -> bool:
        """Does an exclusive namespace of this `kind` ("users", "aliases", "rooms") hold the value?"""
        return any(exclusive and regex.match(value) for regex, exclusive in self._claims[kind])

    def owns_user(self, user: str, server: str) -> bool:
        """May the appservice act as this user: its bot, or a user of its namespaces?"""
        return user == f"@{self.sender_localpart}:{server}" or self.claims_user(user)

    def wants(self, event: Event, server: str) -> bool:
        """Is the event this appservice's business by its sender or its target, whatever the room?"""
        if self.owns_user(event.sender, server):
            return True
        target = event.state_key if event.type == "m.room.member" else None
        return target is not None and self.owns_user(target, server)

    def _matches(self, kind: str, value: str) -> bool:
        return any(regex.match(value) for regex, _ in self._claims[kind])


def _without_none(source: dict[str, Any]) -> dict[str, Any]:
    """Drop keys without a value: `rooms:` with nothing behind it is common in real files."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in source.items()
        if value is not None or key == "url"
    }
