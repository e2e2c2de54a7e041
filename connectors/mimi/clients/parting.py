"""Who is reached here no more, because their account was taken away: they leave, and their keys are forgotten.

What is to be done is on disk until it is done: a hub that is away is told when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, SendUncertain
from connectors.mimi.clients.accounts import Account
from connectors.mimi.clients.directs import Direct, Directs
from connectors.mimi.clients.errands import Errand
from connectors.mimi.clients.hubs import Hubs
from connectors.mimi.clients.inviting import Inviting
from connectors.mimi.clients.membership import Membership
from connectors.mimi.clients.packages import Packages
from connectors.mimi.clients.readers import Readers
from connectors.mimi.clients.seats import Seats
from connectors.mimi.mls import MemberEngine
from connectors.mimi.service.provider import Provider

PREFIX = "parting/"
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0


class Parting:
    """`account` knows every account, `later` does an errand."""

    def __init__(
        self,
        host: Host,
        engine: MemberEngine,
        *,
        seats: Seats,
        readers: Readers,
        directs: Directs,
        packages: Packages,
        provider: Provider,
        hubs: Hubs,
        membership: Membership,
        inviting: Inviting,
        account: Callable[[str], Account],
        later: Callable[[Errand], None],
    ) -> None:
        self._host = host
        self._engine = engine
        self._seats = seats
        self._readers = readers
        self._directs = directs
        self._packages = packages
        self._provider = provider
        self._hubs = hubs
        self._membership = membership
        self._inviting = inviting
        self._account = account
        self._later = later
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Take up what an earlier process began; it goes on as soon as errands are done."""
        for key in await self._host.items(PREFIX):
            self._begin(key.removeprefix(PREFIX))

    async def begin(self, user: str) -> None:
        """From now on nobody reaches them, and nothing is told to them."""
        await self._host.put_all(parted(user))
        self._begin(user)

    def _begin(self, user: str) -> None:
        self._account(user).leaving = True
        self._later(partial(self._part, user))

    async def returned(self, user: str) -> None:
        """They have an account again: what was not left yet stays."""
        if not self._account(user).leaving:
            return
        await self._host.put(f"{PREFIX}{user}", None)
        self._account(user).leaving = False
        if (task := self._under_way.get(user)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _part(self, user: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not self._account(user).leaving or user in self._under_way:
            return
        self._under_way[user] = task
        wait = FIRST_WAIT
        try:
            while True:
                try:
                    return await self._parted(user)
                except (Disconnected, SendUncertain) as problem:
                    self._host.log.info("hub_away", why=problem.notice[:200])
                    asked = problem.retry_after or 0.0
                await asyncio.sleep(max(wait, asked))
                wait = min(wait * 2, LONGEST_WAIT)
        finally:
            del self._under_way[user]

    async def _parted(self, user: str) -> None:
        """Raises Disconnected and SendUncertain where it is to be tried again."""
        # First of all the keys: nobody brings them in from now on.
        await self._packages.withdraw(user, self._provider)
        for direct in self._directs.of_user(user):
            await self._leave(direct)
        for room in self._seats.of(user):
            if self._readers.is_unread(room, user):
                await self._stand_up(room, user)
        await self._host.put_all(
            {
                f"{PREFIX}{user}": None,
                **await self._account(user).rows(),
                **self._seats.let_go(user),
            }
        )
        self._account(user).leaving = False
        self._host.log.info("account_gone")

    async def _stand_up(self, room: str, user: str) -> None:
        """A hub that does not let them go has been told; their client has no keys there any more."""
        try:
            await self._membership.part(room, user)
        except (Disconnected, SendUncertain):
            raise
        except (BridgeError, self._engine.MlsError) as problem:
            self._host.log.warning("not_let_go", room=room, why=type(problem).__name__)
            await self._seats.forget(user, room)

    async def _leave(self, direct: Direct) -> None:
        room, seat = direct.room, self._readers.seat(direct.room)
        together = seat is not None and bool(seat.leaves(direct.other, self._seats.people))
        if seat is not None and together:
            await self._stand_up(room, direct.user)
        else:
            await self._inviting.withdraw(room, direct.other)
        if not together and self._hubs.is_ours(room):
            await self._provider.end_room(room)
        await self._seats.forget(direct.user, room)
        await self._directs.forget(room)


def parted(user: str) -> dict[str, bytes]:
    """What is to be stored so that a user is gone, whoever comes to do it."""
    return {f"{PREFIX}{user}": b""}
