"""Erasure: what the bridge has of one person is taken back, as far as each side can, and forgotten."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from bridgekit.contract import verbs
from bridgekit.contract.connector import Network
from bridgekit.contract.errors import (
    Disconnected,
    HomeserverUnavailable,
    LoginRejected,
    MatrixForbidden,
    MatrixRateLimited,
    MatrixRefused,
    NotAllowed,
    RateLimited,
    RemoteError,
)
from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.meeting import ForgetsOwners
from bridgekit.contract.verbs import Verb
from bridgekit.core.ghosts import Namespace
from bridgekit.core.optout import OptOut, OptOuts
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.powers import GIVEN
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.ids import id_at, never_below, new_id
from bridgekit.store.rows import Copy, Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

ASKED = "bridge.erase"
"""Where it is kept who is to be erased, until that is done; no network is called so."""
ERASED = "bridge.erased"
"""Where it is kept which Matrix users were erased, by a hash of theirs: when (ms), and before which number (`new_id`).
Links to their words and files that are on networks open nothing any more. Forgotten when the last of those ends."""
AGAIN = 60.0
"""Seconds until a network that is away is asked again."""
READY = 20.0
"""Seconds to wait for a connection before it counts as away."""


class Report(msgspec.Struct, kw_only=True):
    """How an erasure goes. `taken_back` and `kept` count messages by side; `left` are sentences on what is not gone."""

    user: PersonId
    done: bool = False
    waits: str = ""
    messages: int = 0
    taken_back: dict[str, int] = {}
    kept: dict[str, int] = {}
    left: list[str] = []


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """When a Matrix user was to be erased (ms), and before which number came what they had said by then.

    Clocks are set back, and every homeserver dates its events as it likes: what came before, only the number tells. The
    time says for how long that has to be known.
    """

    at: int
    before: int

    @classmethod
    def read(cls, kept: bytes) -> _Wish:
        at, _, before = kept.partition(b" ")
        # Versions before this one kept the time alone.
        return cls(at=int(at), before=int(before) if before else id_at(int(at)))

    def written(self) -> bytes:
        return f"{self.at} {self.before}".encode()


class Erasure:
    """Erases people of networks by their ghosts' user ids, and Matrix users by their own; taken up after a restart.

    `forget` and `unknown` make other parts forget a person, and one message of a room; `unlink` takes a link apart and
    says why; `describe` lets a link's room say anew what it is bridged to. `lasting` (ms) is how long a link to a file
    works at most; `account` is what somebody of a network is signed in to now, "" where that is not known.
    """

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        accounts: Accounts,
        namespace: Namespace,
        *,
        bot: PersonId,
        optouts: Callable[[], OptOuts],
        unlink: Callable[[PortalKey, str], Awaitable[None]],
        forget: Callable[[NetworkId, PersonId], Awaitable[None]],
        unknown: Callable[[ChatId, int], None],
        describe: Callable[[Link], Awaitable[None]],
        label: Callable[[NetworkId], str],
        lasting: int,
        networks: Mapping[NetworkId, Network],
        account: Callable[[NetworkId, PersonId], str],
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._store = store
        self._registry = registry
        self._ghosts = ghosts
        self._accounts = accounts
        self._unlink = unlink
        self._namespace = namespace
        self._bot = bot
        self._optouts = optouts
        self._forget = forget
        self._unknown = unknown
        self._describe = describe
        self._label = label
        self._spawn = spawn
        self._lasting = lasting
        self._networks = networks
        self._account = account
        self._reports: dict[PersonId, Report] = {}
        self._erased: dict[str, _Wish] = {}
        self._missed: dict[tuple[NetworkId, LoginId | None], float] = {}  # when an account was not there

    async def load(self) -> None:
        """Read whose links are dead, and whose words are not said; called once, before any is opened or said."""
        unended = {_hash(PersonId(user)) for user in await self._store.kv.items(ASKED)}
        for who, kept in (await self._store.kv.items(ERASED)).items():
            wish = _Wish.read(kept)
            if who in unended or wish.at + self._lasting > now():
                self._erased[who] = wish
                never_below(wish.before)  # what they say from now on came later
            else:
                self._store.commit(self._store.kv.put(ERASED, who, None))

    def erasure_of(self, user: PersonId) -> int:
        """The number of the last erasure of somebody on Matrix, 0 where there was none (that matters still)."""
        wish = self._wish(user)
        return wish.before if wish is not None else 0

    def was_erased(self, user: PersonId, since: int) -> bool:
        """Whether somebody was erased after the erasure that had this number."""
        return self.erasure_of(user) > since

    def is_unwanted(self, user: PersonId, number: int) -> bool:
        """Whether somebody was erased, or is about to be, since words of theirs got that number, whatever the clock
        said then."""
        wish = self._wish(user)
        return wish is not None and number < wish.before

    def _wish(self, user: PersonId) -> _Wish | None:
        return self._erased.get(_hash(user)) if self._erased else None

    async def resume(self) -> None:
        """Take up what an earlier run of the bridge has not ended."""
        for user in await self._store.kv.items(ASKED):
            self._begin(PersonId(user))

    async def ask(self, user: PersonId) -> Report:
        """Erase the person; on disk when it returns, and begun. Raises NotAllowed for whom there is nothing of."""
        report = self._reports.get(user)
        if report is not None and not report.done:
            return report
        if user == self._bot or not user.startswith("@") or ":" not in user:
            raise NotAllowed(f"{user} is no user id of a person: it looks like @name:example.org.")
        if self._namespace.is_ours(user) and self._ghosts.person(user) is None:
            raise NotAllowed(f"{user} is a ghost that the bridge does not know.")
        writes = [self._store.kv.put(ASKED, user, b"1")]
        if not self._namespace.is_ours(user):
            wish = self._erased[_hash(user)] = _Wish(at=now(), before=new_id())
            writes.append(self._store.kv.put(ERASED, _hash(user), wish.written()))
        await self._store.commit(*writes)
        return self._begin(user)

    def report(self, user: PersonId) -> Report | None:
        """How the erasure goes, or went since the start; None where nobody asked for it."""
        return self._reports.get(user)

    def _begin(self, user: PersonId) -> Report:
        report = self._reports[user] = Report(user=user)
        log.info("erasure_begins")
        self._spawn(self._erase(user, report))
        return report

    async def _erase(self, user: PersonId, report: Report) -> None:
        ghost = self._namespace.is_ours(user)
        side, person = self._namespace.parse(user) or (None, None)
        if ghost and person is None:  # a long name: only the store knows whose it is
            row = self._ghosts.row(user)
            side, person = (row.network, row.person) if row is not None else (None, None)
        if side is None or person is None:
            side, person = MATRIX, user
        elif ghost:
            # First: what is said meanwhile makes no new copies. And last: it stays so.
            for account in {"", self._account(side, person)}:  # wherever it is used
                wish = OptOut(network=side, person=person, account=account, at=now())
                self._optouts().add(wish)
                self._store.commit(self._store.optouts.put(wish))
            await self._store.commit()
        await self._forget(side, person)
        waiting = await self._messages(side, person, report)
        while waiting:
            report.waits = "A network that has to take messages back is away; it is asked again every minute."
            await asyncio.sleep(AGAIN)
            waiting = [number for number in waiting if not await self._message(number, person, report)]
        report.waits = ""
        if ghost:
            await self._ghost(user, report)
        else:
            await self._own(user)
            await self._unremembered(user, report)
        for name, count in report.kept.items():
            report.left.append(f"{count} messages can still be read on {name}: it cannot take them back.")
        await self._store.commit(self._store.kv.put(ASKED, user, None))
        report.done = True
        log.info("erasure_done", messages=report.messages, taken_back=report.taken_back, kept=report.kept)

    # What was said ---------------------------------------------------------------------------------------------

    async def _messages(self, side: NetworkId, person: PersonId, report: Report) -> list[int]:
        """Take back all that the person said; what has to wait, because a network is away."""
        waiting: dict[int, None] = {}
        begun = -1
        while begun != report.messages:  # what was under way meanwhile is behind where we have looked
            begun = report.messages
            async for number in self._store.copies.said_by(side, person):
                if number not in waiting and not await self._message(number, person, report):
                    waiting[number] = None
        return list(waiting)

    async def _message(self, number: int, person: PersonId, report: Report) -> bool:
        """Take one message back and forget it; False where a network is away."""
        copies = await self._store.copies.by_message(number)
        if not copies:
            return True  # it was taken back otherwise
        fates = Counter[tuple[str, bool]]()
        for place in {(copy.side, copy.chat): None for copy in copies if not copy.origin}:
            parts = [copy for copy in copies if (copy.side, copy.chat) == place and not copy.origin]
            taken = await self._take_back(parts, copies[0], person)
            if taken is None:
                return False
            fates[self._name(place[0]), taken] += 1
        report.messages += copies[0].kind != "edit"
        for (name, taken), count in fates.items():
            tally = report.taken_back if taken else report.kept
            tally[name] = tally.get(name, 0) + count
        await self._store.commit(self._store.copies.forget(number))
        self._unknown(copies[0].room, number)
        return True

    def _name(self, side: NetworkId) -> str:
        return "Matrix" if side == MATRIX else self._label(side)

    async def _take_back(self, parts: list[Copy], origin: Copy, person: PersonId) -> bool | None:
        """Take one side's copy back; None where that side is away."""
        if parts[0].side == MATRIX:
            return all([await self._redact(copy, origin) for copy in parts])
        return await self._retract(parts, origin, person)

    async def _redact(self, copy: Copy, origin: Copy) -> bool:
        ghost = self._namespace.mxid(origin.side, origin.sender)
        txn = f"bk.erase.{copy.message:x}.{copy.part}"
        try:
            await self._client.redact(copy.room, copy.id, txn=txn, user=ghost)
        except MatrixForbidden:
            try:
                await self._client.redact(copy.room, copy.id, txn=f"{txn}.bot")
            except MatrixRefused:
                return False
        except MatrixRefused:
            return False
        return True

    async def _retract(self, parts: list[Copy], origin: Copy, person: PersonId) -> bool | None:
        side = parts[0]
        link = self._link(side)
        if link is None:
            return False
        own = self._registry.logins_on(side.side).get(person) if origin.side == MATRIX else None
        verb: Callable[[Copy], Verb]
        if side.kind == "reaction":
            under = [c for c in await self._store.copies.by_message(side.parent) if c.side == side.side]
            if not under:
                return True  # what it stood under is gone

            def verb(copy: Copy) -> Verb:
                return verbs.Unreact(
                    chat=side.chat,
                    target=under[0].id,
                    reaction=copy.key,
                    id=MessageId(copy.id),
                    said_by=person,
                )
        else:

            def verb(copy: Copy) -> Verb:
                return verbs.Retract(chat=side.chat, target=copy.id, said_by=person)

        for login in dict.fromkeys((link.receiver or own, link.receiver)):
            taken = [await self._perform(side.side, login, verb(copy)) for copy in parts]
            if all(taken) or None in taken:
                return None if None in taken else True
        return False

    def _link(self, copy: Copy) -> PortalKey | None:
        return next(
            (
                link.key
                for link in self._registry.links_of(copy.room)
                if link.key.network == copy.side and link.key.chat == copy.chat
            ),
            None,
        )

    async def _perform(self, network: NetworkId, login: LoginId | None, verb: Verb) -> bool | None:
        supervised = self._accounts.sessions.get((network, login))
        if supervised is None:
            return False
        clock = asyncio.get_running_loop().time
        while True:
            # Of all that waits for a network that is away, the first waits for its connection.
            missed = clock() - self._missed.get((network, login), -AGAIN) < AGAIN
            try:
                async with asyncio.timeout(0 if missed else READY):
                    session = await supervised.ready()
                if type(verb) not in session.capabilities(verb.chat).verbs:
                    return False
                await supervised.perform(verb, session)
            except (Disconnected, TimeoutError):
                if not missed:
                    self._missed[network, login] = clock()
                return None
            except RateLimited as error:
                await asyncio.sleep(error.retry_after or 1.0)
            except (LoginRejected, RemoteError):
                return False
            else:
                return True

    # Who it was ------------------------------------------------------------------------------------------------

    async def _ghost(self, ghost: PersonId, report: Report) -> None:
        for room in self._ghosts.rooms_of(ghost):
            await self._ghosts.leave(ghost, room)
        if self._ghosts.exists(ghost):
            await self._profile(ghost, report)
        self._ghosts.erase(ghost)

    async def _profile(self, ghost: PersonId, report: Report) -> None:
        try:
            await self._client.set_displayname("", user=ghost)
            await self._client.set_avatar_url("", user=ghost)
            await self._client.deactivate(user=ghost)
        except MatrixRefused as error:
            report.left.append(f"The homeserver did not end {ghost}: {error.notice}")
        try:
            await self._client.remove_media_of(ghost)
        except (MatrixRefused, HomeserverUnavailable, MatrixRateLimited):
            report.left.append(
                f"Files that {ghost} has uploaded are for an admin of the homeserver to remove "
                f"(Synapse: DELETE /_synapse/admin/v1/users/{ghost}/media)."
            )

    async def _own(self, user: PersonId) -> None:
        """A Matrix user's own accounts and direct chats, and what was kept of them."""
        for row in [row for row in self._registry.logins.values() if row.login.owner == user]:
            for link in [k for k in self._registry.links if k.receiver == row.login.id]:
                await self._unlink(link, "its owner was erased")
            await self._accounts.close(row.network, row.login.id)
        given = await self._store.kv.items(GIVEN)
        mine = [key for key in given if key.endswith(f" {user}")]
        if mine:
            await self._store.commit(*(self._store.kv.put(GIVEN, key, None) for key in mine))
        for room, portal in list(self._registry.portals.items()):
            if portal.creator != user:
                continue
            if portal.kind == "management":
                await self._leave(room)
            else:
                await self._registry.put_portal(msgspec.structs.replace(portal, creator=self._bot))
        for asked_for in [row for row in self._registry.links.values() if row.creator == user]:
            kept = msgspec.structs.replace(asked_for, creator=self._bot)
            await self._registry.put_link(kept)
            await self._describe(kept)

    async def _unremembered(self, user: PersonId, report: Report) -> None:
        """What networks have kept of a Matrix user goes, now that nothing of theirs is there any more."""
        for network in self._networks.values():
            there: object = network
            if isinstance(there, ForgetsOwners):
                report.left += await there.forget_owner(user)

    async def _leave(self, room: ChatId) -> None:
        try:
            await self._client.leave(room)
        except MatrixRefused:
            log.info("management_room_left_before")
        await self._registry.remove_portal(room)


def _hash(user: PersonId) -> str:
    return hashlib.sha256(user.encode()).hexdigest()
