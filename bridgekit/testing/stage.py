"""The demo's stage: a homeserver, the bridge as a process, people who talk; what they see is printed and checked."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bridgekit.contract.text import Span, Style, Text, join, plain
from bridgekit.testing.person import Event, Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import HomeserverRefused, Synapse, find_python
from bridgekit.testing.sightings import NotSeen

if TYPE_CHECKING:
    from bridgekit.testing.nio_client import NioClient

T = TypeVar("T")

SERVER = "demo.test"
WIDTH = 100
"""Characters of somebody's words that are printed."""

_CODES = {Style.BOLD: "1", Style.ITALIC: "3", Style.UNDERLINE: "4", Style.STRIKE: "9", Style.CODE: "7"}


class NotAsExpected(Exception):
    """Something arrived and is not what it should be; the message says what."""


_TROUBLE = (NotSeen, NotAsExpected, HomeserverRefused, TimeoutError, OSError)


class Show(Protocol):
    """A network's part of the demo: an entry point of the group `bridgekit.demos`, made without arguments."""

    title: str
    """What it brings in a few words: "an IRC server"."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """Start the network's server. Raises ServerUnavailable, ServerFailed."""

    def about(self) -> str:
        """The server in a few words, and a sentence where it only stands in for a real one."""

    def networks(self) -> Mapping[str, Any]:
        """That part of the bridge's config."""

    async def play(self, stage: "Stage") -> None:
        """The script."""

    def by_hand(self) -> list[str]:
        """What to type to join in, line by line."""


class Printer:
    """Writes the play as it goes."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._brief = False
        self._alike: tuple[str, ...] = ()
        self._count = 0

    def line(self, words: str = "") -> None:
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()

    def style(self, words: str, *codes: str) -> str:
        """The words in a terminal's style, plain where there is no terminal."""
        return f"\x1b[{';'.join(codes)}m{words}\x1b[0m" if self.colours and codes and words else words

    def heading(self, words: str) -> None:
        self.line()
        self.line(self.style(words, "1"))

    @contextmanager
    def brief(self) -> Iterator[None]:
        """Of many deeds of one kind, show the first and count the others."""
        self._brief = True
        try:
            yield
        finally:
            self._brief = False
            self._settle(())

    def _settle(self, alike: tuple[str, ...]) -> None:
        if self._count > 1:
            self.line(self.style(f"            … and {self._count - 1} more", "2"))
        self._alike, self._count = alike, 0

    def deed(self, side: str, who: str, deed: str, words: Text | str) -> None:
        """Somebody says or sees something."""
        if self._brief:
            if self._alike != (side, who, deed):
                self._settle((side, who, deed))
            self._count += 1
            if self._count > 1:
                return
        shown = self.rich(words if isinstance(words, Text) else plain(words))
        mark = self.style(f"[{side}]".ljust(9), "2")
        self.line(f"  {mark} {who} {deed}: {shown}")

    def spoken(self, side: str, who: str, lead: str, words: Text) -> None:
        """Somebody sees what somebody else said; `lead` is how a client shows who that is."""
        self.deed(side, who, "sees", join(lead, words))

    def rich(self, text: Text) -> str:
        """The words on one line with their formatting."""
        body = text.body
        tail = f"… ({len(body.encode()):,} bytes)" if len(body) > WIDTH else ""
        text = text.slice(0, WIDTH)
        edges = sorted({0, len(text.body), *(e for s in text.spans for e in (s.start, s.end))})
        parts = []
        for start, end in pairwise(edges):
            codes = [c for s in text.spans if s.start <= start and s.end >= end and (c := _code(s))]
            parts.append(self.style(text.body[start:end].replace("\n", " ⏎ "), *codes))
        return "".join(parts) + tail

    def note(self, words: str) -> None:
        """Something that is so, and is no check."""
        self._settle(())
        self.line(f"  {self.style('--', '2')}     {words}")

    def verdict(self, name: str, problem: str, seconds: float) -> None:
        """How a check ended."""
        self._settle(())
        if problem:
            self.line(f"  {self.style('FAILED', '1', '31')} {name}")
            for line in problem.splitlines():
                self.line(f"         {line}")
        else:
            self.line(f"  {self.style('ok', '32')}     {name} {self.style(f'({seconds:.1f} s)', '2')}")


def _code(span: Span) -> str:
    if span.style is Style.COLOR and span.value and len(span.value) == 7:
        red, green, blue = (int(span.value[i : i + 2], 16) for i in (1, 3, 5))
        return f"38;2;{red};{green};{blue}"
    return _CODES.get(span.style, "")


class Stage:
    """Where the script is played. `alice` is the admin of the bridge; others are made with `person`."""

    def __init__(
        self, printer: Printer, synapse: Synapse, bridge: BridgeProcess, stack: contextlib.AsyncExitStack
    ) -> None:
        self._stack = stack
        self.printer = printer
        self.synapse = synapse
        self.bridge = bridge
        self.passed = 0
        self.failed: list[str] = []
        self.people: list[Person] = []

    async def keep(self, somebody: AbstractAsyncContextManager[T]) -> T:
        """Enter it, and leave it when the stage is struck."""
        return await self._stack.enter_async_context(somebody)

    async def person(self, localpart: str) -> Person:
        """Somebody with an account; what others say where they are is printed as they see it."""
        account = await self.synapse.register(localpart, f"{localpart}-of-the-demo")
        person = await self.keep(Person(self.synapse.base_url, account))
        person.seen.watch = lambda event: self._watch(person, event)
        self.people.append(person)
        return person

    async def with_encryption(self, person: Person) -> "NioClient | None":
        """They on another device, one with encryption; None, and a line that says why, where matrix-nio is missing."""
        try:
            from bridgekit.testing.nio_client import nio_client
        except ImportError as missing:
            self.printer.line(f"  not shown: matrix-nio with encryption is not installed ({missing})")
            return None
        folder = self.bridge.folder.parent / f"nio of {person.name}"
        return await self.keep(nio_client(self.synapse, person.account, folder))

    def _watch(self, person: Person, event: Event) -> None:
        if event.sender == person.id:
            return
        if event.type == "m.room.message":
            shape = {"m.emote": "* {} ", "m.notice": "-{}- "}.get(event.kind, "<{}> ")
            self.printer.spoken("Matrix", person.name, shape.format(event.name), event.text)

    def says(self, side: str, who: str, words: Text | str, deed: str = "says") -> None:
        """Print what somebody does, before they do it."""
        self.printer.deed(side, who, deed, words)

    def note(self, words: str) -> None:
        """Print what cannot be shown, and why."""
        self.printer.note(words)

    async def act(self, title: str, work: Awaitable[None]) -> None:
        """One part of the script; where it cannot go on, that is FAILED as well, and the next part begins."""
        self.printer.heading(title)
        try:
            await work
        except _TROUBLE as error:
            self.printer.verdict(title, str(error) or type(error).__name__, 0)
            self.failed.append(title)

    async def check(self, name: str, work: Awaitable[object]) -> None:
        """Await what shows that something works; it is ok, or FAILED with the reason, and the play goes on."""
        started = time.monotonic()
        problem = ""
        try:
            await work
        except _TROUBLE as error:
            problem = str(error) or type(error).__name__
        self.printer.verdict(name, problem, time.monotonic() - started)
        if problem:
            self.failed.append(name)
        else:
            self.passed += 1


def same(found: object, wanted: object, what: str) -> None:
    """Raise NotAsExpected unless both are equal."""
    if found != wanted:
        raise NotAsExpected(f"{what}: expected {wanted!r:.400}, and it is {found!r:.400}")


def true(fact: object, what: str) -> None:
    """Raise NotAsExpected unless it holds."""
    if not fact:
        raise NotAsExpected(what)


async def eventually(ask: Callable[[], Awaitable[object]], what: str, seconds: float = 60) -> None:
    """Ask again and again until the answer is yes. Raises NotAsExpected."""
    try:
        async with asyncio.timeout(seconds):
            while not await ask():  # noqa: ASYNC110  (what other processes know)
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotAsExpected(f"{what} did not come true in {seconds:g} s") from None


@contextmanager
def _step(printer: Printer, words: str) -> Iterator[Callable[[str], None]]:
    started = time.monotonic()
    where: list[str] = []
    yield where.append
    dots = "." * max(3, 34 - len(words))
    spent = printer.style(f"{time.monotonic() - started:5.1f} s", "2")
    printer.line(f"  {words} {printer.style(dots, '2')} {spent}  {' '.join(where)}".rstrip())


@asynccontextmanager
async def stage(printer: Printer, shows: list[Show]) -> AsyncIterator[Stage]:
    """Everything that the play needs, while the block lasts. Raises ServerUnavailable, ServerFailed."""
    python = find_python()
    async with contextlib.AsyncExitStack() as stack:
        networks: dict[str, Any] = {}
        for show in shows:
            with _step(printer, show.title) as tell:
                await stack.enter_async_context(show.open())
                tell(show.about())
            networks |= show.networks()
        folder = stack.enter_context(private_directory("demo"))
        home = folder / "synapse"
        home.mkdir()
        synapse = Synapse(home, python, SERVER, [])
        bridge = _bridge(folder, synapse, networks)
        synapse.registrations.append(bridge.registration)
        with _step(printer, "a homeserver") as tell:
            await synapse.start()
            stack.push_async_callback(synapse.stop)
            tell(f"Synapse, SQLite, {synapse.base_url}")
        with _step(printer, "a bridge") as tell:
            await bridge.start()
            stack.push_async_callback(bridge.stop)
            tell(f"bridgekit run, SQLite, process {bridge.service.pid}")
        yield Stage(printer, synapse, bridge, stack)


def _bridge(folder: Path, synapse: Synapse, networks: Mapping[str, Any]) -> BridgeProcess:
    home = folder / "bridge"
    home.mkdir()
    permissions = {f"@alice:{SERVER}": "admin", SERVER: "user"}
    return BridgeProcess(
        home,
        homeserver_url=synapse.base_url,
        server_name=SERVER,
        networks=networks,
        permissions=permissions,
    )
