"""A scripted IRC server: as plain as 1993 or with every IRCv3 extension, with people in it who need no sockets."""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from connectors.irc.testing.ircd_client import Client
from connectors.irc.testing.ircd_line import In, Out, fold
from connectors.irc.testing.ircd_people import Channel, User

PLAIN: dict[str, str] = {}
"""A server without CAP at all."""
FULL: dict[str, str] = {
    "message-tags": "",
    "server-time": "",
    "batch": "",
    "echo-message": "",
    "labeled-response": "",
    "account-tag": "",
    "account-notify": "",
    "extended-join": "",
    "away-notify": "",
    "chghost": "",
    "setname": "",
    "invite-notify": "",
    "multi-prefix": "",
    "userhost-in-names": "",
    "standard-replies": "",
    "cap-notify": "",
    "sasl": "PLAIN,SCRAM-SHA-256,EXTERNAL",
    "draft/chathistory": "",
    "draft/event-playback": "",
    "draft/message-redaction": "",
}
"""Everything that the modern servers have."""
PREFIXES = "qaohv"


class Received(msgspec.Struct, frozen=True):
    """One line of one of the bridge's connections: when (monotonic seconds), by whom, what."""

    at: float
    nick: str
    line: str


class Ircd:
    """The server. `caps` is PLAIN, FULL or your own; `accounts` maps account names to passwords.

    Everything that the connections sent stands in `received`. Faults are plain attributes and methods.
    """

    def __init__(
        self,
        *,
        caps: dict[str, str] = PLAIN,
        accounts: dict[str, str] | None = None,
        isupport: str = "",
        name: str = "irc.test",
        tls: ssl.SSLContext | None = None,
        first_id: int = 1,
    ) -> None:
        self.caps = dict(caps)
        self.accounts = accounts or {}
        self.name = name
        self.isupport = isupport
        self.tls = tls
        self.port = 0
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.clients: list[Client] = []
        self.received: list[Received] = []
        self.password = ""
        self.external_account = ""
        self.refuse: str = ""  # an ERROR line's text that greets every new connection
        self.censored = ""  # a word that no channel message may have
        self.flood_kick = False
        self.refused_caps: set[str] = set()  # offered, and NAKed all the same
        self.silent = False  # answers nothing any more: a half-open socket
        self.delay = 0.0  # seconds before a line that was received is handled
        self.history_page = 1000  # so much of a history comes at once, whatever is asked for
        self.host_of_clients = "client.example"
        self.max_lead = 0.0
        self.services_echo = False
        self.whox = True
        self.nicklen = 30
        self.cuts_nicks = True  # False: who wants a longer one is refused, as on ngircd
        self.trust_user = True  # False: no ident, a "~" before the user name
        self._ids = itertools.count(first_id)  # two servers that name messages alike look like one network
        self._server: asyncio.Server | None = None
        self._heard = asyncio.Event()

    # -- life

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Ircd]:
        """Run it for the length of an `async with`."""
        await self.start(port)
        try:
            yield self
        finally:
            await self.stop()

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen on `host`; the same port again after a stop. The port comes back."""
        loop = asyncio.get_running_loop()
        wanted = port or self.port
        self._server = await loop.create_server(
            lambda: Client(self), host, wanted, ssl=self.tls, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Drop everybody with a socket and listen no more; channels and made-up people stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in list(self.clients):
            client.abort()
        await asyncio.sleep(0)

    # -- who and where

    def user(
        self, nick: str, *channels: str, account: str = "", service: bool = False, host: str = "user.example"
    ) -> User:
        """Somebody without a socket, made at the first call."""
        user = self.users.get(fold(nick))
        if user is None:
            user = self.users[fold(nick)] = User(self, nick, account=account, host=host)
            user.service = service
        return user.join(*channels)

    def crowd(self, count: int, channel: str, prefix: str = "user") -> list[User]:
        """`count` people in `channel`."""
        return [self.user(f"{prefix}{i}", channel) for i in range(count)]

    def find(self, nick: str) -> User:
        """Whoever is called so now. Raises KeyError."""
        return self.users[fold(nick)]

    def channel(self, name: str) -> Channel:
        """The channel, made at the first call."""
        return self.channels.setdefault(fold(name), Channel(name))

    def client(self, nick: str) -> Client:
        """The connection of somebody with a socket. Raises KeyError."""
        client = self.find(nick).client
        if client is None:
            raise KeyError(nick)
        return client

    # -- what was said to us

    def record(self, nick: str, line: str) -> None:
        """Keep it for the test."""
        self.received.append(Received(time.monotonic(), nick, line))
        self._heard.set()

    def lines(self, pattern: str = "", *, nick: str = "") -> list[str]:
        """What the connections sent that matches the expression."""
        found = re.compile(pattern)
        return [r.line for r in self.received if found.search(r.line) and nick in ("", r.nick)]

    async def heard(self, pattern: str, *, count: int = 1, seconds: float = 60.0) -> list[str]:
        """Wait until `count` lines match. Raises TimeoutError with all that came instead."""
        try:
            async with asyncio.timeout(seconds):
                while len(found := self.lines(pattern)) < count:
                    self._heard.clear()
                    await self._heard.wait()
                return found
        except TimeoutError:
            came = "\n".join(r.line for r in self.received[-30:])
            raise TimeoutError(
                f"{pattern!r} did not come {count} times; the last lines were:\n{came}"
            ) from None

    async def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until `condition()` is true. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any condition of a test, with no event of its own
                await asyncio.sleep(0.005)

    async def drained(self) -> None:
        """Wait until every connection has taken most of what was sent to it."""
        while any(client.backlog > 1 << 18 for client in self.clients):  # noqa: ASYNC110 - the transports tell nobody
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    # -- faults

    def drop(self, nick: str) -> None:
        """Cut somebody's connection without a word."""
        self.client(nick).abort()

    def kill(self, nick: str, text: str) -> None:
        """Closing Link: `text`."""
        self.client(nick).fail(text)

    def split(self, nicks: Iterable[str], servers: str = "hub.example leaf.example") -> None:
        """These people are lost in a netsplit."""
        for nick in list(nicks):
            self.quit(self.find(nick), servers)

    # -- what happens

    def tags(self, user: User | None) -> dict[str, str]:
        """The tags of a new message of `user`."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        tags = {"time": now, "msgid": f"m{next(self._ids)}"}
        if user is not None and user.account:
            tags["account"] = user.account
        return tags

    def message(self, user: User, command: str, target: str, text: str | None, tags: dict[str, str]) -> str:
        """Deliver a message of any kind; its msgid comes back."""
        tags = {**tags, **self.tags(user)}
        out = Out(user.mask, command, (target,) if text is None else (target, text), tags=tags, user=user)
        if target[:1] in "#&":
            channel = self.channel(target)
            if command != "TAGMSG":
                channel.history.append(out)
            self.to_channel(channel, out, but=user)
        elif (other := self.users.get(fold(target))) is not None and other is not user:
            self.send_to(other, out)
        if user.client is not None:
            user.client.echo(out, silent=self._is_service(target) and not self.services_echo)
        return tags["msgid"]

    def relay(self, user: User, target: str, nick: str, text: str) -> bool:
        """Say it in another's name; False where the user is no operator there, as on Ergo."""
        channel = self.channel(target)
        if "o" not in channel.members.get(user, set()):
            return False
        tags = {**self.tags(None), "draft/relaymsg": user.nick}
        source = f"{nick}!{user.nick}@{self.name}"
        out = Out(source, "PRIVMSG", (channel.name, text), tags=tags, user=user)
        channel.history.append(out)
        self.to_channel(channel, out, but=user)
        if user.client is not None:
            user.client.echo(out)
        return True

    def redact(self, user: User, target: str, msgid: str, reason: str) -> bool:
        """Take a message back; False if there is none."""
        channel = self.channel(target)
        found = next((o for o in channel.history if o.tags.get("msgid") == msgid), None)
        if found is None or (found.user is not user and "o" not in channel.members.get(user, set())):
            return False
        channel.history.remove(found)
        params = (target, msgid, *([reason] if reason else []))
        out = Out(user.mask, "REDACT", params, tags=self.tags(user), user=user)
        self.to_channel(channel, out, but=user, cap="draft/message-redaction")
        if user.client is not None:
            user.client.echo(out)
        return True

    def part(self, user: User, channel: Channel, command: str, source: str, params: tuple[str, ...]) -> None:
        """Somebody leaves a channel, by PART or KICK."""
        self.to_channel(channel, Out(source, command, params, tags=self.tags(None)))
        channel.members.pop(user, None)
        channel.sockets.pop(user, None)
        user.channels.pop(fold(channel.name), None)

    def mode(self, source: str, channel: Channel, change: tuple[str, ...]) -> None:
        """Apply and announce a mode change."""
        arguments = list(change[1:])
        add = True
        for letter in change[0] if change else "":
            if letter in "+-":
                add = letter == "+"
            elif letter in PREFIXES:
                modes = channel.members.get(self.users.get(fold(arguments.pop(0)), User(self, "?")), set())
                (modes.add if add else modes.discard)(letter)
            elif letter == "b":
                mask = arguments.pop(0)
                (channel.bans.append if add else channel.bans.remove)(mask)
            elif add:
                channel.modes[letter] = arguments.pop(0) if letter in "kl" else ""
            else:
                channel.modes.pop(letter, None)
        self.to_channel(channel, Out(source, "MODE", (channel.name, *change)))

    def topic(self, source: str, channel: Channel, text: str) -> None:
        """Set and announce a topic."""
        channel.topic = text
        self.to_channel(channel, Out(source, "TOPIC", (channel.name, text), tags=self.tags(None)))

    def rename(self, user: User, nick: str) -> None:
        """A nick change, told to everybody who sees it."""
        out = Out(user.mask, "NICK", (nick,), user=user)
        witnesses = self.witnesses(user)
        if self.users.get(fold(user.nick)) is user:
            del self.users[fold(user.nick)]
        user.nick = nick
        self.users[fold(nick)] = user
        for client in witnesses:
            client.send(out)

    def quit(self, user: User, reason: str) -> None:
        """Somebody leaves the server."""
        out = Out(user.mask, "QUIT", (reason,), tags=self.tags(None))
        for client in self.witnesses(user):
            if client is not user.client:
                client.send(out)
        for channel in user.channels.values():
            channel.members.pop(user, None)
            channel.sockets.pop(user, None)
        user.channels.clear()
        if self.users.get(fold(user.nick)) is user:
            del self.users[fold(user.nick)]

    def log_in(self, user: User, account: str) -> None:
        """`user` is now known as `account`; "" is a logout."""
        user.account = account
        for client in self.witnesses(user):
            if client is not user.client:
                client.send(Out(user.mask, "ACCOUNT", (account or "*",)), cap="account-notify")

    # -- delivery

    def witnesses(self, user: User) -> list[Client]:
        """The connections that share a channel with `user`, and their own."""
        seen = {id(user.client): user.client} if user.client else {}
        for channel in user.channels.values():
            seen.update((id(client), client) for client in channel.sockets.values())
        return list(seen.values())

    def to_channel(
        self,
        channel: Channel,
        out: Out,
        *,
        but: User | None = None,
        cap: str = "",
        extended_join: bool = False,
    ) -> None:
        """To every connection in the channel."""
        for user, client in list(channel.sockets.items()):
            if user is not but:
                if extended_join and "extended-join" not in client.caps:
                    client.send(Out(out.source, out.command, out.params[:1], tags=out.tags))
                else:
                    client.send(out, cap=cap)

    def send_to(self, user: User, out: Out) -> None:
        """To one person."""
        if user.client is not None:
            user.client.send(out)
        else:
            user.heard.append(out)

    def _is_service(self, nick: str) -> bool:
        user = self.users.get(fold(nick))
        return user is not None and user.service

    def handle(self, client: Client, line: In) -> None:
        """What a service does when it is spoken to: IDENTIFY."""
        user = client.user
        if not self._is_service(line.params[0]) or line.command == "TAGMSG":
            return
        words = line.params[1].split()
        service = self.find(line.params[0])
        if words[:1] == ["IDENTIFY"] and words[-1] in self.accounts.values():
            account = next(a for a, p in self.accounts.items() if p == words[-1])
            self.log_in(user, account)
            client.numeric("900", user.mask, account, f"You are now logged in as {account}")
            service.notice(user.nick, "You are now identified.")
        else:
            service.notice(user.nick, "Invalid password.")


if __name__ == "__main__":
    from connectors.irc.testing.ircd_control import main

    main()
