"""People with matrix-js-sdk (Rust crypto, as in Element), driven over its process's standard streams."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from bridgekit.testing.servers.process import ServerFailed, ServerUnavailable, find_program
from bridgekit.testing.servers.synapse import Account, Synapse
from tests.browsers.installed import modules

_HERE = Path(__file__).parent
_CLIENT = "matrix_js_sdk"
_LINE = 64 * 1024 * 1024
"""The longest answer: a room with all its messages."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the client shows it.

    `failure` is the library's code where it could not be decrypted, `shield` NONE, GREY or RED with the reason in
    `why`; `waiting` while decryption is not through.
    """

    id: str
    sender: str
    body: str
    encrypted: bool
    waiting: bool
    failure: str
    shield: str
    why: str

    @property
    def is_trusted(self) -> bool:
        """Encrypted, read, and nothing to warn of."""
        return self.encrypted and not self.failure and self.shield == "NONE"


class JsClient:
    """One device of somebody, cross-signed by their identity. `strict`: devices that are not are excluded (MSC4153)."""

    def __init__(self, driver: Driver, name: str, account: Account, recovery: str, *, strict: bool) -> None:
        self.id = account.user_id
        self.account = account
        self.recovery = recovery
        self.strict = strict
        self._driver = driver
        self._name = name

    async def create(self, *invite: str, **options: Any) -> str:
        """An encrypted room; fields of POST /createRoom may be added or replaced. Its id."""
        encryption = {
            "type": "m.room.encryption",
            "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        body = {"preset": "private_chat", "invite": list(invite), "initial_state": [encryption], **options}
        return str(await self._call("create", options=body))

    async def invite(self, room: str, user: str) -> None:
        await self._call("invite", room=room, user=user)

    async def join(self, room: str) -> None:
        await self._call("join", room=room)

    async def say(self, room: str, *bodies: str) -> list[str]:
        """Each as a message of its own, all at once; the events' ids."""
        sent: list[str] = await self._call("say", room=room, bodies=list(bodies))
        return sent

    async def read(self, room: str) -> list[Shown]:
        """All messages that have come since this client is here, in order."""
        return msgspec.convert(await self._call("read", room=room), list[Shown])

    async def reads(self, room: str, *bodies: str, seconds: float = 60) -> list[Shown]:
        """The messages that say these, once all can be read. Raises AssertionError with what is there."""
        return await self.until(
            room,
            lambda shown: [s for s in shown if s.body in bodies],
            lambda s: len(s) >= len(bodies),
            seconds,
        )

    async def knows(self, *users: str, seconds: float = 60) -> None:
        """Return when this client knows a cross-signed device of each of them. Raises TimeoutError once it has got to
        know nobody more for so long."""
        known = 0
        async with asyncio.timeout(seconds) as patience:
            while known < len(users):
                found = len(await self._call("known", users=list(users)))
                if found > known:
                    known = found
                    patience.reschedule(asyncio.get_running_loop().time() + seconds)
                await asyncio.sleep(0.1)

    async def knows_device(self, user: str, device: str, seconds: float = 60) -> None:
        """Return when this client knows that device as cross-signed. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not await self._call("signed", user=user, device=device):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def has_heard_of(self, user: str, device: str, seconds: float = 60) -> None:
        """Return when this client knows that device, whoever signed it. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not await self._call("device", user=user, device=device):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def new_identity(self) -> None:
        """Replace the person's identity, as who has lost theirs does; this device is signed by the new one."""
        await self._call("reset", password=self.account.password)

    async def asks_to_verify(self, room: str, user: str, *methods: str) -> list[str]:
        """Which of these methods somebody names once they are ready to be verified in the room."""
        named: list[str] = await self._call("verify", room=room, user=user, methods=list(methods))
        return named

    async def asks_to_verify_device(self, user: str, device: str, *methods: str) -> list[str]:
        """The same in no room, of a device that this client knows."""
        named: list[str] = await self._call("verifyDevice", user=user, device=device, methods=list(methods))
        return named

    async def scan(self, code: bytes) -> None:
        """Hold the camera at a QR code, and see the verification through. Raises ServerFailed with what is wrong."""
        await self._call("scan", code=base64.b64encode(code).decode())

    async def compare(self) -> list[str]:
        """Begin to compare emoji: those that are shown here."""
        shown: list[str] = await self._call("compare")
        return shown

    async def confirm(self) -> None:
        """Say that they are the same, and see the verification through."""
        await self._call("confirm")

    async def has_verified(self, user: str) -> bool:
        """Whether this person has verified that user's identity."""
        return bool(await self._call("verified", user=user))

    async def comes_to_trust(self, user: str, seconds: float = 60) -> None:
        """Return when this person has verified that user's identity. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not await self.has_verified(user):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def picture(self, room: str, user: str, seconds: float = 60) -> dict[str, Any]:
        """The content of somebody's last picture in a room. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not (found := await self._call("picture", room=room, user=user)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return dict(found)

    async def share(self, room: str, data: bytes, name: str, mime: str) -> str:
        """Send a picture, encrypted as clients do; the event's id."""
        sent = await self._call(
            "share", room=room, data=base64.b64encode(data).decode(), name=name, mime=mime
        )
        return str(sent)

    async def opens(self, room: str, user: str, seconds: float = 60) -> bytes:
        """Somebody's last file in a room, in clear: fetched where a login is asked for. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not (found := await self._call("open", room=room, user=user)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return base64.b64decode(found)

    async def fates(self, room: str, event: str) -> list[str]:
        """What bridges said became of a message, in order."""
        return [one["status"] for one in await self._call("fates", room=room) if one["event"] == event]

    async def reopen(self, room: str) -> None:
        """Show the room as after a start of the app: what could not be decrypted is tried once more."""
        await self._call("reopen", room=room)

    async def until(
        self,
        room: str,
        pick: Callable[[list[Shown]], list[Shown]],
        holds: Callable[[list[Shown]], bool],
        seconds: float = 60,
    ) -> list[Shown]:
        """Look at what `pick` leaves of the room until it `holds`. Raises AssertionError with what is there once that
        has not become more for so long."""
        shown: list[Shown] = []
        pause, most = 0.1, 0
        try:
            async with asyncio.timeout(seconds) as patience:
                while not holds(found := pick(shown)):
                    if len(found) > most:
                        most = len(found)
                        patience.reschedule(asyncio.get_running_loop().time() + seconds)
                    await asyncio.sleep(pause)
                    began = time.monotonic()
                    shown = await self.read(room)
                    pause = max(0.1, time.monotonic() - began)  # a long room takes the client long
        except TimeoutError:
            raise AssertionError(
                f"not shown to {self.id} in {seconds:g} s; the last are {shown[-20:]}"
            ) from None
        return found

    async def sleep(self) -> None:
        """Hear nothing until `wake`."""
        await self._call("sleep")

    async def wake(self) -> None:
        """Hear at once of everything that there was."""
        await self._call("wake")

    async def logout(self) -> None:
        """End the session: the device is gone."""
        await self._call("logout")

    async def _call(self, do: str, **more: Any) -> Any:
        return await self._driver.call(do, client=self._name, **more)


class Driver:
    """The process in which the clients live."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    async def login(
        self, synapse: Synapse, account: Account, *, strict: bool = False, recovery: str = ""
    ) -> JsClient:
        """A new device of theirs. `recovery` of an earlier one has the same identity sign it, else one is made."""
        localpart = account.user_id[1:].partition(":")[0]
        login = await synapse.login(localpart, account.password)
        name = f"{localpart} {login.device_id}"
        answer = await self.call(
            "start",
            client=name,
            url=synapse.base_url,
            user=login.user_id,
            device=login.device_id,
            token=login.access_token,
            password=account.password,
            strict=strict,
            recovery=recovery,
        )
        return JsClient(self, name, account, answer["recovery"], strict=strict)

    async def call(self, do: str, seconds: float = 90, **more: Any) -> Any:
        """One request to the process. Raises ServerFailed with the library's words."""
        assert self._process.stdin is not None
        id = next(self._numbers)
        answer = self._asked[id] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(msgspec.json.encode({"id": id, "do": do, **more}) + b"\n")
        await self._process.stdin.drain()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise ServerFailed(f"matrix-js-sdk did not {do} in {seconds:g} s:\n{self._tail()}") from None
        finally:
            del self._asked[id]

    async def listen(self) -> None:
        """Take answers until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = msgspec.json.decode(line)
            waiting = self._asked.get(said["id"])
            if waiting is None or waiting.done():
                continue
            if "error" in said:
                waiting.set_exception(ServerFailed(f"matrix-js-sdk: {said['error']}"))
            else:
                waiting.set_result(said["result"])
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(ServerFailed(f"matrix-js-sdk ended:\n{self._tail()}"))

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


@contextlib.asynccontextmanager
async def driver(folder: Path) -> AsyncIterator[Driver]:
    """A process for clients, while the block lasts. Raises ServerUnavailable where the library or Node is missing."""
    installed = modules(_CLIENT, _HERE)
    node = find_program("node", *sorted(installed.glob("node-*/bin")))
    if node is None:
        raise ServerUnavailable("There is no Node for matrix-js-sdk here: it needs Node 22.")
    log = folder / "matrix-js-sdk.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            node,
            _HERE / _CLIENT / "driver.mjs",
            installed,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            limit=_LINE,
        )
    one = Driver(process, log)
    listening = asyncio.create_task(one.listen(), name="answers of matrix-js-sdk")
    try:
        yield one
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
