"""Accounts: the bridge's own session on every network, and those of Matrix users, opened and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from bridgekit.contract.connector import Manifest, Network, OwnAccounts
from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.meeting import IsInvited, TakesLeave
from bridgekit.contract.people import Login
from bridgekit.core import wording
from bridgekit.runtime.networks.sessions import State, Supervised
from bridgekit.runtime.registry import Registry
from bridgekit.store import LoginRow

Key = tuple[NetworkId, LoginId | None]


class Accounts:
    """Every session, by network and login; the relay's login is None."""

    def __init__(
        self,
        networks: Mapping[NetworkId, Network],
        manifests: Mapping[NetworkId, Manifest],
        registry: Registry,
        *,
        emit: Callable[[NetworkId, LoginId | None, Fact], None],
        changed: Callable[[Supervised], None],
        parted: Callable[[PersonId], Awaitable[None]],
        label: Callable[[NetworkId], str],
    ) -> None:
        """`changed` is told of every session that has news, `parted` of who has no account any more."""
        self.sessions: dict[Key, Supervised] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._turns: dict[LoginId, asyncio.Lock] = {}  # one account is opened and closed by one at a time
        self._networks = networks
        self._manifests = manifests
        self._registry = registry
        self._emit = emit
        self._changed = changed
        self._parted = parted
        self._label = label

    def place_all(self) -> None:
        """The relay of every network, and every login that is kept: from now on they can be waited for."""
        for network in self._networks:
            self._place(network, None)
        for row in self._registry.logins.values():
            if row.network in self._networks:
                self._place(row.network, row.login)

    def start_all(self) -> None:
        """Connect what was placed, and is not connected already."""
        for key in self.sessions.keys() - self._tasks.keys():
            self._start(key)

    def _place(self, network: NetworkId, login: Login | None) -> Key:
        key = (network, login.id if login is not None else None)
        self.sessions[key] = Supervised(
            network,
            self._networks[network],
            login,
            lambda fact: self._emit(*key, fact),
            self._changed,
        )
        return key

    def _start(self, key: Key) -> None:
        self._tasks[key] = asyncio.create_task(self.sessions[key].run(), name=f"session {key[0]}")

    async def stop_all(self) -> None:
        """End every session."""
        for supervised in self.sessions.values():
            supervised.stop()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _stop(self, network: NetworkId, login: LoginId) -> None:
        supervised = self.sessions.pop((network, login), None)
        task = self._tasks.pop((network, login), None)
        if supervised is not None:
            supervised.stop()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # Own accounts ---------------------------------------------------------------------------------------------

    def of(self, network: NetworkId, owner: PersonId) -> LoginId | None:
        """The account of a Matrix user on a network, if they have one."""
        return self._registry.logins_on(network).get(owner)

    def invited(self, side: PortalKey, owner: PersonId) -> Supervised | None:
        """The session of somebody's account that was asked into a shared chat and waits for what its owner says."""
        login = self.of(side.network, owner)
        supervised = self.sessions.get((side.network, login)) if login is not None else None
        if supervised is None or supervised.session is None:
            return None
        session = supervised.session
        return supervised if isinstance(session, IsInvited) and session.is_invited(side.chat) else None

    def may_open(self, network: NetworkId) -> bool:
        """Whether an account can be opened there without asking its owner for anything."""
        return self._networks[network].own_accounts is not OwnAccounts.OFF and not any(
            field.required for field in self._manifests[network].login_fields
        )

    async def open(
        self, network: NetworkId, owner: PersonId, fields: Mapping[str, str] | None = None
    ) -> LoginId:
        """Keep an account and start its session; another of the same owner is replaced. Raises NotAllowed."""
        async with self._turn(_id(network, owner)):
            return await self._open(network, owner, fields or {})

    async def ensure(self, network: NetworkId, owner: PersonId) -> LoginId:
        """The account that somebody has, or one that is opened for them without asking. Raises NotAllowed."""
        async with self._turn(_id(network, owner)):
            known = self.of(network, owner)
            return known if known is not None else await self._open(network, owner, {})

    def _turn(self, login: LoginId) -> asyncio.Lock:
        return self._turns.setdefault(login, asyncio.Lock())

    async def _open(self, network: NetworkId, owner: PersonId, given: Mapping[str, str]) -> LoginId:
        if self._networks[network].own_accounts is OwnAccounts.OFF:
            raise NotAllowed(f"{self._label(network)} is set up without accounts of your own: ask the admin.")
        allowed = {field.name: field for field in self._manifests[network].login_fields}
        if unknown := sorted(given.keys() - allowed.keys()):
            known = ", ".join(f"{f.name}= ({f.title})" for f in allowed.values()) or "nothing"
            raise NotAllowed(f"{self._label(network)} knows no {', '.join(unknown)}; it takes {known}.")
        if missing := [f.title for f in allowed.values() if f.required and not given.get(f.name)]:
            raise NotAllowed(f"{self._label(network)} also needs: {', '.join(missing)}.")
        login = Login(id=_id(network, owner), owner=owner, fields=dict(given))
        if (old := self.of(network, owner)) is not None:
            await self._stop(network, old)
        await self._registry.put_login(LoginRow(login=login, network=network, state="wanted", reason=""))
        self._start(self._place(network, login))
        return login.id

    async def suspend(self, network: NetworkId, login: Login, *, because: str) -> None:
        """Keep the account offline for as long as there is a reason; "": let it back. Nothing of it is forgotten."""
        async with self._turn(login.id):
            running = (network, login.id) in self.sessions
            if because and running:
                await self._stop(network, login.id)
            elif not because and not running and network in self._networks and self._is_kept(login):
                self._start(self._place(network, login))

    def _is_kept(self, login: Login) -> bool:
        row = self._registry.logins.get(login.id)
        return row is not None and row.login == login

    async def close(self, network: NetworkId, login: LoginId) -> None:
        """End the account's session and forget it with its password, and with what its network keeps of it."""
        async with self._turn(login):
            await self._stop(network, login)
            row = self._registry.logins.get(login)
            there: object = self._networks.get(network)
            if row is not None and isinstance(there, TakesLeave):
                await there.take_leave(row.login)
            await self._registry.remove_login(login)
        if row is not None and not self._registry.is_owner(row.login.owner):
            await self._parted(row.login.owner)

    # How they are ----------------------------------------------------------------------------------------------

    def is_ready(self, network: NetworkId, login: LoginId | None = None) -> bool:
        """Whether the session is up."""
        supervised = self.sessions.get((network, login))
        return supervised is not None and supervised.state is State.READY

    def state(self, network: NetworkId, login: LoginId | None = None) -> tuple[str, str]:
        """What a session is doing, and why."""
        supervised = self.sessions.get((network, login))
        return (supervised.state.value, supervised.reason) if supervised is not None else ("not started", "")

    def status(self, network: NetworkId, login: LoginId | None = None) -> str:
        """How a session is, for people."""
        state, reason = self.state(network, login)
        supervised = self.sessions.get((network, login))
        if supervised is not None and supervised.state is State.REJECTED and not supervised.is_final:
            reason = wording.tried_again(reason)
        return f"{state}: {reason}" if reason else state

    def states(self) -> dict[tuple[NetworkId, str], int]:
        """How many sessions of each network are in which state."""
        found: dict[tuple[NetworkId, str], int] = {}
        for (network, _), supervised in self.sessions.items():
            key = (network, supervised.state.value)
            found[key] = found.get(key, 0) + 1
        return found


def _id(network: NetworkId, owner: PersonId) -> LoginId:
    return LoginId(f"{network}/{owner}")
