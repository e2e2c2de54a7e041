"""The fake homeserver in another process, held like one in this process, save that every call is awaited."""

import asyncio
import base64
import contextlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from bridgekit.testing.homeserver.api.app import Refusal
from bridgekit.testing.homeserver.control import Order, Outcome
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.faults import Fault, Rule
from bridgekit.testing.homeserver.people import Human
from bridgekit.testing.homeserver.refusals import Json, Refused
from bridgekit.testing.homeserver.registration import Registration
from bridgekit.testing.homeserver.traffic import Said

T = TypeVar("T")


class ControlFailed(Exception):
    """The other process could not carry an order out; the message holds its traceback."""


class _Wire:
    """The control endpoint, and the acts of people across it."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def order(self, do: str, kind: type[T] | Any, /, **args: Any) -> Any:
        """Have an order carried out; return its value as `kind`. Raise what the method would raise."""
        body = msgspec.json.encode(Order(do=do, args=args))
        async with self._session.post(self._url, data=body) as response:
            outcome = msgspec.json.decode(await response.read(), type=Outcome)
        if outcome.refused is not None:
            raise Refused(*outcome.refused)
        if outcome.error is not None:
            if outcome.error[0] == "TimeoutError":
                raise TimeoutError(outcome.error[1])
            raise ControlFailed(outcome.error[1])
        return msgspec.convert(outcome.value, kind)

    async def account(self, user: str, token: str) -> None:
        await self.order("account", None, user=user, token=token)

    async def create_room(self, user: str, options: Json) -> str:
        return str(await self.order("create_room", str, user=user, options=options))

    async def join(self, user: str, room: str) -> str:
        return str(await self.order("join", str, user=user, room=room))

    async def set_membership(self, user: str, room: str, target: str, content: Json) -> str:
        args = {"user": user, "room": room, "target": target, "content": content}
        return str(await self.order("set_membership", str, **args))

    async def kick(self, user: str, room: str, target: str, content: Json) -> str:
        return str(await self.order("kick", str, user=user, room=room, target=target, content=content))

    async def put_state(self, user: str, room: str, type: str, state_key: str, content: Json) -> str:
        args = {"user": user, "room": room, "type": type, "state_key": state_key, "content": content}
        return str(await self.order("put_state", str, **args))

    async def get_state(self, room: str, type: str, state_key: str) -> Json:
        return dict(await self.order("get_state", Json, room=room, type=type, state_key=state_key))

    async def upgrade(self, user: str, room: str, version: str) -> str:
        return str(await self.order("upgrade", str, user=user, room=room, version=version))

    async def send(self, user: str, room: str, type: str, content: Json) -> str:
        return str(await self.order("send", str, user=user, room=room, type=type, content=content))

    async def redact(self, user: str, room: str, event_id: str, content: Json) -> str:
        return str(await self.order("redact", str, user=user, room=room, event_id=event_id, content=content))

    async def upload(self, user: str, content: bytes, mimetype: str, name: str | None) -> str:
        text = base64.b64encode(content).decode()
        return str(await self.order("upload", str, user=user, content=text, mimetype=mimetype, name=name))

    async def typing(self, user: str, room: str, typing: bool, seconds: float) -> None:
        await self.order("typing", None, user=user, room=room, typing=typing, seconds=seconds)

    async def read(self, user: str, room: str, event_id: str) -> None:
        await self.order("read", None, user=user, room=room, event_id=event_id)

    async def set_profile(self, user: str, field: str, value: str | None) -> None:
        await self.order("set_profile", None, user=user, field=field, value=value)


class RemoteFakeHomeserver:
    """The methods of `FakeHomeserver`, all of them coroutines; `user(name)` gives the same `Human`.

    Made by `spawn` (a process of its own, ended with the block) or `connect` (one that runs already).
    """

    def __init__(self, wire: _Wire, about: Json, pid: int | None = None) -> None:
        self._wire = wire
        self.server_name: str = about["server_name"]
        self.url: str = about["url"]
        self.port: int = about["port"]
        self.pid = pid
        self._humans: dict[str, Human] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, control_url: str, *, pid: int | None = None
    ) -> AsyncIterator["RemoteFakeHomeserver"]:
        """Hold the fake homeserver behind a control endpoint, such as `http://127.0.0.1:9000/`."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            wire = _Wire(session, control_url)
            yield cls(wire, await wire.order("about", Json), pid)

    @classmethod
    @contextlib.asynccontextmanager
    async def spawn(
        cls,
        *registrations: Registration | Json | str | Path,
        server_name: str = "hs.test",
        port: int = 0,
        seed: int = 0,
        retry: tuple[float, float] = (0.02, 1.0),
        batch: int = 100,
    ) -> AsyncIterator["RemoteFakeHomeserver"]:
        """Run one in a process of its own (on uvloop), and end it with the block.

        Raise RuntimeError if it does not start within 20 seconds.
        """
        with tempfile.TemporaryDirectory(prefix="fake-homeserver-") as folder:
            words = [
                sys.executable,
                "-m",
                "bridgekit.testing.homeserver",
                "--port",
                str(port),
                "--control",
                "0",
            ]
            words += ["--server-name", server_name, "--seed", str(seed), "--batch", str(batch)]
            words += ["--retry", str(retry[0]), str(retry[1]), "--until-stdin-closes"]
            for number, source in enumerate(registrations):
                path = Path(folder) / f"registration-{number}.yaml"
                path.write_text(json.dumps(Registration.of(source).as_dict()))  # JSON is YAML
                words += ["--registration", str(path)]
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            try:
                assert process.stdout is not None
                async with asyncio.timeout(20):
                    line = await process.stdout.readline()
                if not line:
                    raise RuntimeError("the fake homeserver did not start")
                async with cls.connect(json.loads(line)["control"], pid=process.pid) as remote:
                    yield remote
            finally:
                await _end(process)

    def user(self, name: str) -> Human:
        """Return a person by local name or full id; the account is made by the first act."""
        human = Human(self._wire, name, self.server_name)
        return self._humans.setdefault(human.id, human)

    async def chatter(
        self,
        room: str,
        speakers: list[str],
        each: int,
        *,
        rate: float | None = None,
        first: int = 0,
        text: str = "hello",
    ) -> list[Said]:
        """See `FakeHomeserver.chatter`."""
        args = {"room": room, "speakers": speakers, "each": each, "rate": rate, "first": first, "text": text}
        return list(await self._wire.order("chatter", list[Said], **args))

    async def timeline(self, room: str) -> list[Event]:
        """Return a room's events, oldest first."""
        return list(await self._wire.order("timeline", list[Event], room=room))

    async def messages(self, room: str) -> list[Event]:
        """Return a room's m.room.message events, oldest first."""
        return list(await self._wire.order("messages", list[Event], room=room))

    async def state(self, room: str, type: str, state_key: str = "") -> Json | None:
        """Return the content of a state event, None where there is none."""
        found: Json | None = await self._wire.order(
            "state", Json | None, room=room, type=type, state_key=state_key
        )
        return found

    async def members(self, room: str) -> dict[str, str]:
        """Return everybody's membership."""
        return dict(await self._wire.order("members", dict[str, str], room=room))

    async def joined(self, room: str) -> list[str]:
        """Return who is in the room, in the order of joining."""
        return list(await self._wire.order("joined", list[str], room=room))

    async def invitations(self, user: str) -> list[str]:
        """Return the rooms that a user is invited to."""
        return list(await self._wire.order("invitations", list[str], user=user))

    async def position(self) -> int:
        """How many events there are in all rooms together."""
        return int((await self._wire.order("about", Json))["position"])

    async def events(self, since: int = 0) -> list[Event]:
        """Return the events of all rooms in the order of arrival."""
        return list(await self._wire.order("events", list[Event], since=since))

    async def arrivals(
        self, room: str | None = None, since: int = 0, type: str = "m.room.message"
    ) -> list[tuple[Event, float]]:
        """Return events of a type with the time.monotonic() of their arrival."""
        args = {"room": room, "since": since, "type": type}
        return list(await self._wire.order("arrivals", list[tuple[Event, float]], **args))

    async def wait_for(
        self, wanted: Callable[[Event], bool], timeout: float = 60.0, *, since: int = 0
    ) -> Event:
        """Return the first event, past or to come, for which `wanted` is true; raise TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                events = await self.events(since)
                for event in events:
                    if wanted(event):
                        return event
                since += len(events)
                await self.wait_position(since, timeout)

    async def wait_position(self, position: int, timeout: float = 20.0) -> int:
        """Return the position once it is past `position`, or when `timeout` is over."""
        return int(await self._wire.order("wait_position", int, position=position, timeout=timeout))

    async def calls(self) -> Counter[str]:
        """How often each endpoint was called."""
        return Counter(await self._wire.order("calls", dict[str, int]))

    async def unknown_calls(self) -> list[str]:
        """Calls that the homeserver does not know."""
        return list(await self._wire.order("unknown_calls", list[str]))

    async def refusals(self) -> list[Refusal]:
        """The last thousand error answers."""
        return list(await self._wire.order("refusals", list[Refusal]))

    async def crashes(self) -> list[str]:
        """Tracebacks of the fake's own bugs."""
        return list(await self._wire.order("crashes", list[str]))

    async def stats(self) -> dict[str, dict[str, int]]:
        """Return the counters of the sending side, by appservice id."""
        return dict(await self._wire.order("stats", dict[str, dict[str, int]]))

    async def fault(
        self,
        pattern: str,
        fault: Fault,
        *,
        p: float = 1.0,
        times: int | None = None,
        skip: int = 0,
        user: str | None = None,
    ) -> Rule:
        """Put a fault in force; return its rule as it is now (see `faults` for later)."""
        args = {"pattern": pattern, "fault": fault, "p": p, "times": times, "skip": skip, "user": user}
        rule: Rule = await self._wire.order("fault", Rule, **args)
        return rule

    async def faults(self) -> list[Rule]:
        """Return the rules in force, with their `hits`."""
        return list(await self._wire.order("faults", list[Rule]))

    async def heal(self, rule: Rule | None = None) -> None:
        """Take one rule back, or all."""
        await self._wire.order("heal", None, rule=None if rule is None else rule.id)

    async def pause(self) -> None:
        """Go down: refuse connections, deliver nothing."""
        await self._wire.order("pause", None)

    async def resume(self) -> None:
        """Come back on the same port."""
        await self._wire.order("resume", None)

    async def restart(self, *, down: float = 0.0, redeliver: int = 0) -> None:
        """Restart: connections drop, transaction ids are forgotten, old transactions come again."""
        await self._wire.order("restart", None, down=down, redeliver=redeliver)

    async def drop_connections(self) -> None:
        """Cut every connection, and go on."""
        await self._wire.order("drop_connections", None)

    async def forget_txns(self) -> None:
        """Forget the transaction ids of sends."""
        await self._wire.order("forget_txns", None)

    async def redeliver(self, count: int = 1) -> None:
        """Deliver the last accepted transactions again."""
        await self._wire.order("redeliver", None, count=count)

    async def settled(self, timeout: float = 60.0) -> None:
        """Return once the appservices have accepted everything; raise TimeoutError."""
        await self._wire.order("settled", None, timeout=timeout)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
