"""One server process: started with its output in a file, awaited until it answers, stopped by its pid."""

import asyncio
import contextlib
import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Probe = Callable[[], Awaitable[bool]]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


_claims: deque[int] = deque(maxlen=200)
"""Open sockets (file descriptors) on the ports that were given out last, so that others see that they are taken."""


class ServerUnavailable(Exception):
    """A server cannot be run here; the message is a sentence for a person: what is missing and how to get it."""


class ServerFailed(Exception):
    """A server died before it answered, or never answered; the message ends with the tail of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on.

    Taken from below the range that the kernel hands to outgoing connections (32768 and up), so that no client's
    socket can sit on it while a server is down for a restart. Nobody else is given it, in this process or another,
    before a few hundred more were.
    """
    while True:
        port = random.randint(12000, 32000)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # no server of ours listens on UDP
        with socket.socket() as probe:
            try:
                claim.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        if len(_claims) == _claims.maxlen:
            os.close(_claims.popleft())
        _claims.append(claim.detach())
        return port


def answers(port: int) -> Probe:
    """A probe: does something accept TCP connections on 127.0.0.1:port?"""

    async def probe() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    return probe


def log_says(log: Path, words: str) -> Probe:
    """A probe: do these words stand in that file?"""

    async def probe() -> bool:
        return log.exists() and words in log.read_text(errors="replace")

    return probe


def find_program(name: str, *folders: Path) -> Path | None:
    """The program of that name in one of the folders, on PATH, or where Debian puts daemons; None where it is not."""
    searched = os.pathsep.join(
        [*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    )
    found = shutil.which(name, path=searched)
    return Path(found) if found else None


def unprivileged_user(*preferred: str) -> str | None:
    """Who runs a server that refuses to be root: None (ourselves) unless we are root, else one that exists."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in (*preferred, "nobody") if name in known), "nobody")


@contextmanager
def private_directory(name: str, owner: str | None = None) -> Iterator[Path]:
    """A new folder in the system's temporary folder, owned by that user, gone at the end.

    Not inside a test's own temporary folder: only root may walk through that one when tests run as root.
    """
    with tempfile.TemporaryDirectory(prefix=f"bridgekit-{name}-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        give(folder, owner)
        yield folder


def give(path: Path, owner: str | None) -> None:
    """Make that user the owner of the path; nothing to do where owner is None."""
    if owner is not None:
        entry = pwd.getpwnam(owner)
        os.chown(path, entry.pw_uid, entry.pw_gid)


class ServerProcess:
    """A running server. Holds nothing of an event loop: one loop may start it and another stop it."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    async def wait(self, seconds: float) -> bool:
        """Wait at most so long for the process to end; True if it did."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.running:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def stop(self, grace: float = 10, by: signal.Signals = signal.SIGTERM) -> None:
        """Send `by`, and KILL (with its children) if it is still there after `grace` seconds. Twice is harmless."""
        if self.running:
            self._popen.send_signal(by)
            if not await self.wait(grace):
                self.kill()
        self._popen.wait()

    def kill(self) -> None:
        """KILL the process and its children at once, as a crash of the machine would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def log_tail(self, characters: int = 2000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


def spawn(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    user: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Start a process in a session of its own, its output appended to `log`. It dies when this process dies."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            preexec_fn=_die_with_parent,
        )
    return ServerProcess(name, popen, log)


async def start(
    name: str,
    argv: Sequence[str | Path],
    *,
    ready: Probe,
    log: Path,
    seconds: float = 90,
    user: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> ServerProcess:
    """Start a server and return when `ready` says that it answers.

    Raises ServerFailed, with the tail of the log, if it ends or if `seconds` pass before that.
    """
    server = spawn(name, argv, log=log, user=user, cwd=cwd, env=env)
    try:
        async with asyncio.timeout(seconds):
            while not await ready():
                if not server.running:
                    raise ServerFailed(f"{name} ended before it answered:\n{server.log_tail()}")
                await asyncio.sleep(0.03)
    except TimeoutError:
        server.kill()
        raise ServerFailed(f"{name} did not answer in {seconds:g} s:\n{server.log_tail()}") from None
    except BaseException:
        server.kill()
        raise
    return server


@dataclass(kw_only=True)
class Service:
    """A server that can be stopped and started again with the same command, as often as a test likes."""

    name: str
    argv: Sequence[str | Path]
    ready: Probe
    log: Path
    seconds: float = 90
    user: str | None = None
    cwd: Path | None = None
    env: Mapping[str, str] | None = None
    # What asks it to end in good order, with all that is connected to it.
    stop_signal: signal.Signals = signal.SIGTERM
    _process: ServerProcess | None = field(default=None, init=False)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the running server. Raises RuntimeError while it is stopped."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is stopped")
        return self._process.pid

    async def start(self) -> None:
        """Start it, unless it runs, and return once it answers. Raises ServerFailed."""
        if not self.running:
            self._process = await start(
                self.name,
                self.argv,
                ready=self.ready,
                log=self.log,
                seconds=self.seconds,
                user=self.user,
                cwd=self.cwd,
                env=self.env,
            )

    async def stop(self) -> None:
        """End it in good order; what it keeps on disk stays."""
        if self._process is not None:
            await self._process.stop(by=self.stop_signal)
            self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()


async def run(
    argv: Sequence[str | Path], *, log: Path, user: str | None = None, seconds: float = 180
) -> None:
    """Run a command to its end. Raises ServerFailed, with the tail of its output, if its status is not 0."""
    process = spawn(Path(argv[0]).name, argv, log=log, user=user)
    if not await process.wait(seconds):
        process.kill()
        raise ServerFailed(f"{process.name} took more than {seconds:g} s:\n{process.log_tail()}")
    if process.returncode != 0:
        raise ServerFailed(f"{process.name} failed:\n{process.log_tail()}")


def _die_with_parent() -> None:
    # prctl(2): the kernel ends the server when the thread that started it ends, however that came about.
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
