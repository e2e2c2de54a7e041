"""What an IRC network must still know after a restart: keys, how far was read, where the puppets were, who is who."""

from __future__ import annotations

import asyncio

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.people import Login
from connectors.irc.protocol.roll import Hit, without_owner
from connectors.irc.words.identity import Identity

SAVE_EVERY = 15.0
"""Seconds between two writes: what a crash may lose is read again from the network, and known by its ids."""
SAVE_SEEN_EVERY = 1.0
MOST_OWN = 1000
MOST_BANS = 100
"""In one channel: an operator may set any number of masks, the last of which count."""
LINGERS_MS = 10 * 60 * 1000
"""So long a server may hold the nick of a connection that is gone; nobody else can have it meanwhile."""
NICKLEN = 30
"""Before a server has told: longer than RFC 1459's nine, which no server of today has."""


class _Record(msgspec.Struct, array_like=True):
    """As it is stored. Times are milliseconds since the epoch; channels are chats' ids."""

    keys: dict[str, str] = {}
    seen: dict[str, int] = {}
    channels: dict[str, list[str]] = {}  # login -> where its puppet was
    nicklen: int = NICKLEN
    spoken: dict[str, int] = {}  # login -> when its owner last said something
    own: dict[str, int] = {}  # what we were called -> when that was so last
    present: int = 0  # when the relay last heard the network
    signs_in: bool = False  # it has let somebody of ours sign in with SASL
    bans: dict[str, dict[str, tuple[Hit, ...]]] = {}  # channel -> mask -> whom of ours it hit
    owners: dict[str, str] = {}  # what a puppet was called -> its Matrix user


class Memory:
    """Loaded once, changed in memory, written every now and then with the bridge's own commits."""

    def __init__(self, host: Host, identity: Identity) -> None:
        self._host = host
        self._identity = identity
        self._record: _Record | None = None
        self._dirty = False
        self._identity_saved = 0
        self._saved_at = 0.0
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read it, the first time; what cannot be read is nothing."""
        async with self._loading:
            if self._record is not None:
                return
            raw, people = await self._host.get("memory"), await self._host.get("identity")
            try:
                self._record = msgspec.msgpack.decode(raw, type=_Record) if raw else _Record()
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._record = _Record()
            if people:
                self._identity.restore(people)
            self._identity_saved = self._identity.version

    def tick(self) -> None:
        """Write it down if it is time."""
        if self._host.now() - self._saved_at >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write down what changed."""
        self._saved_at = self._host.now()
        if self._dirty and self._record is not None:
            self._dirty = False
            self._host.put_later("memory", msgspec.msgpack.encode(self._record))
        if self._identity.version != self._identity_saved:
            self._identity_saved = self._identity.version
            self._host.put_later("identity", self._identity.export())

    def key(self, channel: str) -> str:
        """The password of a channel, "" where none is known."""
        return self._now.keys.get(self._identity.chat(channel), "")

    def keep_key(self, channel: str, key: str) -> None:
        """Remember a channel's password."""
        channel = self._identity.chat(channel)
        if self._now.keys.get(channel) != key:
            self._now.keys[channel] = key
            self._dirty = True

    def bans(self, channel: str) -> dict[str, tuple[Hit, ...]]:
        """The masks that hit people of ours, and stood there when we last looked."""
        return self._now.bans.get(self._identity.chat(channel), {})

    def keep_ban(self, channel: str, mask: str, hit: tuple[Hit, ...]) -> None:
        """Remember whom of ours a mask hit; nobody: it is gone, or was none of theirs."""
        chat = self._identity.chat(channel)
        bans = self._now.bans.get(chat, {})
        if bans.get(mask, ()) == hit:
            return
        after = {one: found for one, found in bans.items() if one != mask} | ({mask: hit} if hit else {})
        self._now.bans[chat] = dict(list(after.items())[-MOST_BANS:])
        if not after:
            del self._now.bans[chat]
        self._dirty = True
        self.save()

    def seen(self, channel: str) -> int:
        """When the last message that we saw there was said, 0 where we saw none."""
        return self._now.seen.get(channel, 0)

    def keep_seen(self, channel: str, at: int) -> None:
        """Remember how far we have read, never backwards; for whoever has handed on everything up to there.

        It is on disk within a second: behind a crash, what was said since would count as unread once more.
        """
        if at > self._now.seen.get(channel, 0):
            self._now.seen[channel] = at
            self._dirty = True
            if self._host.now() - self._saved_at >= SAVE_SEEN_EVERY:
                self.save()

    @property
    def present(self) -> int:
        """When the relay last heard the network, 0 where it never has."""
        return self._now.present

    def keep_present(self, at: int) -> None:
        """The relay heard the network then; it is on disk with what else is written."""
        if at > self._now.present:
            self._now.present = at
            self._dirty = True

    @property
    def signs_in(self) -> bool:
        """Whether one of us has signed in there with SASL: where none is offered now, services are away."""
        return self._now.signs_in

    def keep_signed_in(self) -> None:
        """One of us has."""
        if not self._now.signs_in:
            self._now.signs_in = self._dirty = True

    def begin(self, channel: str) -> None:
        """We read the channel from now on: what is said from here is ours to fetch, and nothing before."""
        if channel not in self._now.seen:
            self._now.seen[channel] = int(self._host.now() * 1000)
            self._dirty = True
            self.save()

    def keep_own(self, nick: str, login: Login | None) -> None:
        """We are called so now: the relay, or somebody's puppet."""
        own, owners = self._now.own, self._now.owners
        nick = self._identity.fold(nick)
        if len(own) >= MOST_OWN and nick not in own:
            oldest = min(own, key=lambda one: own[one])
            del own[oldest]
            owners.pop(oldest, None)
        own[nick] = int(self._host.now() * 1000)
        if login is not None:
            owners[nick] = login.owner
        self._dirty = True

    def was_own(self, nick: str, at: int) -> bool:
        """Whether one of us was called `nick` when something was said: also a connection whose end nobody told us."""
        return at <= self._now.own.get(self._identity.fold(nick), 0) + LINGERS_MS

    def channels(self, login: str) -> list[str]:
        """Where the login's puppet was."""
        return self._now.channels.get(login, [])

    def keep_channels(self, login: str, *, came: str = "", left: str = "") -> None:
        """The puppet is in one more, or in one less."""
        left = self._identity.chat(left)
        before = self._now.channels.get(login, [])
        after = [c for c in before if c != left]
        if came and (came := self._identity.chat(came)) not in after:
            after.append(came)
        if after != before:
            self._now.channels[login] = after
            self._dirty = True

    def forget_account(self, login: str) -> None:
        """The account was taken away."""
        self._now.channels.pop(login, None)
        self._now.spoken.pop(login, None)
        self._dirty = True
        self.save()

    def forget_owner(self, owner: str) -> list[str]:
        """A Matrix user is erased; in which channels a ban of theirs stands, whose end cannot be told any more."""
        for nick in [nick for nick, one in self._now.owners.items() if one == owner]:
            del self._now.owners[nick]
            self._now.own.pop(nick, None)
        banned = []
        for chat, bans in list(self._now.bans.items()):
            after = {mask: left for mask, hit in bans.items() if (left := without_owner(hit, owner))}
            if after == bans:
                continue
            banned.append(self._identity.channel(chat))
            self._now.bans[chat] = after
            if not after:
                del self._now.bans[chat]
        self._dirty = True
        self.save()
        return banned

    def spoken(self, login: str) -> int:
        """When the login's owner last said something, 0 where that is not known."""
        return self._now.spoken.get(login, 0)

    def keep_spoken(self, login: str, at: int) -> None:
        """The owner said something; hours are exact enough."""
        if at - self._now.spoken.get(login, 0) > 3_600_000:
            self._now.spoken[login] = at
            self._dirty = True

    @property
    def nicklen(self) -> int:
        """The network's longest nick, as it said last."""
        return self._now.nicklen

    @nicklen.setter
    def nicklen(self, length: int) -> None:
        if length != self._now.nicklen:
            self._now.nicklen = length
            self._dirty = True

    @property
    def _now(self) -> _Record:
        if self._record is None:
            self._record = _Record()
        return self._record
