"""Policy lists at work: followed in their rooms, applied to accounts and ghosts, and written to when a network bans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError, NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core import wording
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.core.policies import TYPES, Policies, ban_event
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.lenient import quiet
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.networks.sessions import State, Supervised
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import Registry
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
"""Seconds between two tries to enter a list's room."""
REMEMBERED = 10_000
"""People whose standing need not be looked up for every message."""


class PolicyLists:
    """Which rooms are followed, and what follows from what stands in them. An admin of the bridge is never barred."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        ghosts: Ghosts,
        accounts: Callable[[], Accounts],
        namespace: Namespace,
        *,
        permission: Callable[[PersonId], Permission],
        label: Callable[[NetworkId], str],
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._ghosts = ghosts
        self._accounts = accounts
        self._namespace = namespace
        self._granted = permission
        self._label = label
        self._spawn = spawn
        self._policies = Policies()
        self._wanted: frozenset[str] = frozenset()
        self._lists: frozenset[str] = frozenset()  # those of them that are applied, and not only written to
        self._rooms: dict[str, ChatId] = {}  # by how the config names them
        self._applied: set[ChatId] = set()
        self._write_to = ""
        self._known: dict[PersonId, str] = {}
        self._told_full = False

    def __bool__(self) -> bool:
        """Whether there is any rule to look at."""
        return len(self._policies) > 0

    # Following -------------------------------------------------------------------------------------------------

    def follow(self, lists: tuple[str, ...], write_to: str) -> None:
        """Follow exactly these rooms (ids or aliases), and write bans of networks to `write_to`; "" is nowhere."""
        wanted = frozenset((*lists, *((write_to,) if write_to else ())))
        # One that was only written to until now is read as a new one is.
        new = (wanted - self._wanted) | ((frozenset(lists) - self._lists) & self._rooms.keys())
        self._wanted, self._lists, self._write_to = wanted, frozenset(lists), write_to
        for name in [name for name in self._rooms if name not in self._lists]:
            self._policies.forget(self._rooms[name])
            self._applied.discard(self._rooms[name])
        for name in [name for name in self._rooms if name not in wanted]:
            del self._rooms[name]
        self._known.clear()
        for name in sorted(new):
            self._spawn(self._enter(name))

    async def _enter(self, name: str) -> None:
        wait = FIRST_WAIT
        while name in self._wanted:
            try:
                room = await self._client.join(name)
                self._rooms[name] = room
                if name in self._lists:
                    self._applied.add(room)
                    await self._read(room)
                log.info("policy_list_followed", rules=len(self._policies))
                return
            except BridgeError as error:
                log.warning("policy_list_not_read", list=name, reason=error.notice, retry_in=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _read(self, room: ChatId) -> None:
        state = await self._client.room_state(room)
        self._policies.forget(room)
        for event in state:
            if event.get("type") in TYPES and isinstance(event.get("content"), dict):
                self._policies.heard(room, event["type"], str(event.get("state_key")), event["content"])
        await self._apply()

    def is_list(self, room: ChatId) -> bool:
        """Whether the room is a list that is applied."""
        return room in self._applied

    async def changed(self, room: ChatId, type: str, key: str, content: dict[str, Any]) -> None:
        """A state event of a list's room."""
        if type in TYPES and self._policies.heard(room, type, key, content):
            await self._apply()

    async def redacted(self, room: ChatId) -> None:
        """Something was taken out of a list's room: a rule, perhaps."""
        await self._read(room)

    # Applying --------------------------------------------------------------------------------------------------

    def barred(self, user: PersonId) -> str:
        """Why a Matrix user or a ghost is barred, as a sentence; "" for who is not. Cheap."""
        if not len(self._policies):
            return ""
        why = self._known.get(user)
        if why is None:
            if self._namespace.is_ours(user):
                rule = self._policies.bars_ghost(user)
            elif self._granted(user) is Permission.ADMIN:
                rule = None
            else:
                rule = self._policies.bars_user(user)
            why = wording.by_policy(rule.reason) if rule is not None else ""
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[user] = why
        return why

    def permission(self, user: PersonId) -> Permission:
        """What the admin lets a Matrix user do, and the lists do not forbid."""
        return Permission.NONE if self.barred(user) else self._granted(user)

    async def _apply(self) -> None:
        """The lists say something new: who is barred now is not there any more, who no longer is may come back."""
        self._known.clear()
        if self._policies.full and not self._told_full:
            self._told_full = True
            log.error("policy_lists_full", rules=len(self._policies))
        for room, portal in list(self._registry.portals.items()):
            if portal.kind != "channel":
                continue
            for ghost in sorted(self._ghosts.present(room)):
                if why := self.barred(ghost):
                    await quiet(self._ghosts.leave, ghost, room, why)
        accounts = self._accounts()
        for row in list(self._registry.logins.values()):
            await accounts.suspend(row.network, row.login, because=self.barred(row.login.owner))

    # Writing ---------------------------------------------------------------------------------------------------

    def session_changed(self, supervised: Supervised) -> None:
        """An account was rejected: where its network has banned it, that is written down for others to follow."""
        banned = supervised.banned and supervised.state is State.REJECTED
        if banned and supervised.login is not None and self._write_to:
            self._spawn(self._write(supervised.login.owner, supervised.id, supervised.reason))

    async def _write(self, user: PersonId, network: NetworkId, reason: str) -> None:
        room = self._rooms.get(self._write_to)
        try:
            if room is None:
                raise NotAllowed("The bridge is not in the room of the list.")
            type, key, content = ban_event(user, f"Banned on {self._label(network)}: {reason}")
            await self._client.put_state(room, type, content, state_key=key)
            log.info("ban_written", network=network)
            if self.is_list(room):  # the homeserver does not send our own words back to us
                await self.changed(room, type, key, content)
        except BridgeError as error:
            log.error("ban_not_written", network=network, reason=error.notice)
