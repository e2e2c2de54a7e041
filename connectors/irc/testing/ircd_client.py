"""One connection to the scripted ircd: its registration, its capabilities, its pace."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, cast

from connectors.irc.testing import ircd_commands
from connectors.irc.testing.ircd_line import In, Out, fold, tag_head
from connectors.irc.testing.ircd_people import User

if TYPE_CHECKING:
    from connectors.irc.testing.ircd import Ircd

ITERATIONS = 4096
SALT = b"scripted salt"


class Client(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, ircd: Ircd) -> None:
        self.ircd = ircd
        self.user: User = User(ircd, "*", user="unknown", host=ircd.host_of_clients)
        self.user.client = self
        self.registered = False
        self.caps: set[str] = set()
        self.password = ""
        self.webirc: list[str] = []
        self.lead = 0.0
        self.deaf = False  # what arrives is lost
        self._negotiating = False
        self._named = False
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._label = ""
        self._answers: list[tuple[Out, dict[str, str]]] | None = None
        self._mechanism = ""
        self._auth = b""
        self._scram: tuple[str, str, str] | None = None
        self._batches = 0

    # -- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer: tuple[str, int] = transport.get_extra_info("peername")[:2]
        self.ircd.clients.append(self)
        if self.ircd.refuse:
            self.fail(self.ircd.refuse)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self in self.ircd.clients:
            self.ircd.clients.remove(self)
        if self.registered:
            self.registered = False
            self.ircd.quit(self.user, "Connection closed")

    def data_received(self, data: bytes) -> None:
        if self.ircd.silent or self.deaf:
            return
        if self.ircd.delay:
            asyncio.get_running_loop().call_later(self.ircd.delay, self._take, data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            if self._transport is None:
                return
            if raw := raw.rstrip(b"\r"):
                self._line(raw)

    def _line(self, raw: bytes) -> None:
        self.ircd.record(self.user.nick, raw.decode("utf-8", "replace"))
        now = time.monotonic()
        if self.registered:
            self.lead = max(self.lead - now, 0.0) + now + 2.0 if self.lead else now + 2.0
            self.ircd.max_lead = max(self.ircd.max_lead, self.lead - now)
            if self.ircd.flood_kick and self.lead - now > 10.0 + 2.0:
                self.fail("Excess Flood")
                return
        line = In(raw)
        self._label = line.tags.get("label", "") if "labeled-response" in self.caps else ""
        if self._label:
            self._answers = []
        try:
            ircd_commands.perform(self, line)
        except (IndexError, KeyError, ValueError):
            self.numeric("461", line.command or "*", "Not enough parameters")
        if self._answers is not None:
            self._flush_answers()

    def write(self, data: bytes) -> None:
        """Bytes, as they are."""
        if self._transport is not None and not self._transport.is_closing() and not self.ircd.silent:
            self._transport.write(data)

    @property
    def backlog(self) -> int:
        """Bytes that the other end has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def abort(self) -> None:
        """Gone, without a word."""
        if self._transport is not None:
            self._transport.abort()
            self.connection_lost(None)

    def fail(self, reason: str) -> None:
        """ERROR, and the end."""
        self.write(f"ERROR :Closing Link: {self.ircd.host_of_clients} ({reason})\r\n".encode())
        if self._transport is not None:
            self._transport.close()

    # -- out

    def send(self, out: Out, *, cap: str = "") -> None:
        """Send it with the tags that this client understands; `cap`: only if that one is on."""
        if cap and cap not in self.caps:
            return
        if out.command == "TAGMSG" and "message-tags" not in self.caps:
            return
        if self._answers is not None and out.source == self.user.mask:
            self._answers.append((out, {}))  # what their own command brought about
            return
        tags = self._tags(out) if out.tags else {}
        self.write(tag_head(tags) + out.text())

    def answer(self, out: Out, tags: dict[str, str] | None = None) -> None:
        """Send it as (a part of) the answer to the labelled command, if it had a label."""
        if self._answers is not None:
            self._answers.append((out, tags or {}))
        else:
            self.write(tag_head({**(self._tags(out) if out.tags else {}), **(tags or {})}) + out.text())

    def numeric(self, numeric: str, *params: str) -> None:
        """One numeric to this client."""
        self.answer(Out(self.ircd.name, numeric, (self.user.nick, *params)))

    def echo(self, out: Out, *, silent: bool = False) -> None:
        """What the client said, if it asked to hear itself."""
        if (
            "echo-message" in self.caps
            and not silent
            and (out.command != "TAGMSG" or "message-tags" in self.caps)
        ):
            self.answer(out)

    def batch(self, kind: str, *params: str, messages: list[Out]) -> None:
        """Several messages as one batch."""
        self._batches += 1
        name = f"b{self._batches}"
        self.answer(Out(self.ircd.name, "BATCH", (f"+{name}", kind, *params)))
        for number, out in enumerate(messages):
            lines = out.params[-1].split("\n")
            if len(lines) == 1:
                self.answer(out, {"batch": name})
                continue
            inner = f"{name}m{number}"  # draft/multiline
            self.answer(
                Out(out.source, "BATCH", (f"+{inner}", "draft/multiline", out.params[0]), tags=out.tags),
                {"batch": name},
            )
            for words in lines:
                self.answer(Out(out.source, out.command, (out.params[0], words)), {"batch": inner})
            self.answer(Out(out.source, "BATCH", (f"-{inner}",)))
        self.answer(Out(self.ircd.name, "BATCH", (f"-{name}",)))

    def _tags(self, out: Out) -> dict[str, str]:
        wanted: dict[str, str] = {}
        for key, value in out.tags.items():
            match key:
                case "time":
                    on = "server-time" in self.caps
                case "account":
                    on = "account-tag" in self.caps
                case _:
                    on = "message-tags" in self.caps
            if on:
                wanted[key] = value
        return wanted

    def _flush_answers(self) -> None:
        answers, self._answers = self._answers or [], None
        label = {"label": self._label}
        if not answers:
            self.write(tag_head(label) + Out(self.ircd.name, "ACK", ()).text())
        elif len(answers) == 1:
            out, extra = answers[0]
            self.write(tag_head({**label, **self._tags(out), **extra}) + out.text())
        else:
            self._batches += 1
            name = f"l{self._batches}"
            self.write(
                tag_head(label) + Out(self.ircd.name, "BATCH", (f"+{name}", "labeled-response")).text()
            )
            for out, extra in answers:
                self.write(tag_head({"batch": name, **self._tags(out), **extra}) + out.text())
            self.write(Out(self.ircd.name, "BATCH", (f"-{name}",)).text())

    # -- registration

    def cap(self, params: list[str]) -> None:
        """CAP, where the server has any."""
        offered = self.ircd.caps
        if not offered:
            self.numeric("421", "CAP", "Unknown command")
            return
        nick = self.user.nick
        match params[0].upper():
            case "LS":
                self._negotiating = not self.registered
                names = [f"{k}={v}" if v and len(params) > 1 else k for k, v in offered.items()]
                half = len(names) // 2 if len(params) > 1 else 0
                if half:
                    self.answer(Out(self.ircd.name, "CAP", (nick, "LS", "*", " ".join(names[:half]))))
                self.answer(Out(self.ircd.name, "CAP", (nick, "LS", " ".join(names[half:]))))
            case "REQ":
                self._negotiating = not self.registered
                asked = params[1].split()
                if all(name.lstrip("-") in offered for name in asked) and not self.ircd.refused_caps & set(
                    asked
                ):
                    for name in asked:
                        (self.caps.discard if name.startswith("-") else self.caps.add)(name.lstrip("-"))
                    self.answer(Out(self.ircd.name, "CAP", (nick, "ACK", params[1])))
                else:
                    self.answer(Out(self.ircd.name, "CAP", (nick, "NAK", params[1])))
            case "LIST":
                self.answer(Out(self.ircd.name, "CAP", (nick, "LIST", " ".join(self.caps))))
            case "END":
                self._negotiating = False
                self.try_register()

    def authenticate(self, chunk: str) -> None:
        """SASL PLAIN, SCRAM-SHA-256 and EXTERNAL."""
        ircd = self.ircd
        if chunk == "*":
            self.numeric("906", "SASL authentication aborted")
            return
        if not self._mechanism:
            self._mechanism = chunk
            if chunk not in ircd.caps.get("sasl", "").split(","):
                self._mechanism = ""
                self.numeric("908", ircd.caps.get("sasl", ""), "are available SASL mechanisms")
                self.numeric("904", "SASL authentication failed")
                return
            self.write(b"AUTHENTICATE +\r\n")
            return
        self._auth += b"" if chunk == "+" else chunk.encode()
        if len(chunk) == 400:
            return
        message, self._auth = base64.b64decode(self._auth), b""
        match self._mechanism:
            case "PLAIN":
                _, account, password = message.decode().split("\0")
                self._finish(account if ircd.accounts.get(account) == password else "")
            case "EXTERNAL":
                self._finish(ircd.external_account)
            case _:
                self._scram_step(message.decode())

    def _scram_step(self, message: str) -> None:
        if not message:
            self._finish(self._scram[0] if self._scram else "")
            return
        fields = {part[0]: part[2:] for part in message.split(",") if part[1:2] == "="}
        if self._scram is None:
            nonce = fields["r"] + "server"
            first = f"r={nonce},s={base64.b64encode(SALT).decode()},i={ITERATIONS}"
            self._scram = (fields["n"], message.removeprefix("n,,"), first)
            self._challenge(first)
            return
        account, bare, first = self._scram
        salted = hashlib.pbkdf2_hmac("sha256", self.ircd.accounts.get(account, "").encode(), SALT, ITERATIONS)
        key = hmac.digest(salted, b"Client Key", "sha256")
        auth = f"{bare},{first},{message.rpartition(',p=')[0]}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if account not in self.ircd.accounts or base64.b64decode(fields["p"]) != proof:
            self._finish("")
            return
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), auth, "sha256")
        self._challenge(f"v={base64.b64encode(server).decode()}")

    def _challenge(self, message: str) -> None:
        self.write(b"AUTHENTICATE " + base64.b64encode(message.encode()) + b"\r\n")

    def _finish(self, account: str) -> None:
        self._mechanism, self._scram = "", None
        if not account:
            self.numeric("904", "SASL authentication failed")
            return
        self.user.account = account
        self.numeric("900", self.user.mask, account, f"You are now logged in as {account}")
        self.numeric("903", "SASL authentication successful")

    def named(self, user: str, realname: str) -> None:
        """USER."""
        self.user.user = user if self.ircd.trust_user else f"~{user}"[:10]
        self.user.realname = realname
        self._named = True
        self.try_register()

    def try_register(self) -> None:
        """Welcome them once everything is there."""
        ircd, user = self.ircd, self.user
        if self.registered or self._negotiating or not self._named or user.nick == "*":
            return
        if ircd.password and self.password != ircd.password:
            self.numeric("464", "Password incorrect")
            self.fail("Access denied: Bad password")
            return
        if fold(user.nick) in ircd.users:
            self.numeric("433", user.nick, "Nickname is already in use")
            user.nick = "*"
            return
        if self.webirc:
            user.host = self.webirc[2]
        self.registered = True
        ircd.users[fold(user.nick)] = user
        self.numeric("001", f"Welcome to the scripted network, {user.mask}")
        self.numeric("002", f"Your host is {ircd.name}, running version scripted-1")
        self.numeric("003", "This server was created for a test")
        self.numeric("004", ircd.name, "scripted-1", "iow", "biklmnopstv")
        tokens = (
            f"CASEMAPPING=rfc1459 CHANTYPES=# PREFIX=(qaohv)~&@%+ CHANMODES=b,k,l,imnpst NICKLEN={ircd.nicklen} "
            f"NETWORK=Scripted STATUSMSG=@+ TOPICLEN=390 {'WHOX ' if ircd.whox else ''}"
            f"{'MSGREFTYPES=msgid,timestamp ' if 'draft/chathistory' in ircd.caps else ''}{ircd.isupport}"
        ).split()
        self.numeric("005", *tokens, "are supported by this server")
        self.numeric("422", "There is no message of the day")
