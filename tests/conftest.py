"""The real servers as fixtures, one of each for a run; where one is missing, fail in CI and skip elsewhere."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings

from bridgekit.testing.servers.postgres import Postgres
from bridgekit.testing.servers.postgres import postgres as run_postgres
from bridgekit.testing.servers.process import ServerUnavailable
from bridgekit.testing.servers.synapse import Synapse
from bridgekit.testing.servers.synapse import synapse as run_synapse
from connectors.irc.testing.ergo import Ergo
from connectors.irc.testing.ergo import ergo as run_ergo
from connectors.irc.testing.ergo import find_binary as find_ergo
from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.inspircd import inspircd as run_inspircd
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.testing.ngircd import ngircd as run_ngircd
from connectors.irc.testing.soju import Soju
from connectors.irc.testing.soju import find_binaries as find_soju
from connectors.irc.testing.soju import soju as run_soju

Server = TypeVar("Server")

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

MEMORY = Path("/dev/shm")
"""Where what tests write lies in memory (Linux): nobody pulls the plug here, so few commits have to wait for a disk."""
DISK = tempfile.gettempdir()


def pytest_configure() -> None:
    """Put all files of the tests and of their servers into memory, unless TMPDIR says where or there is little room."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 1024**3:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def run_for_all_tests(launch: Callable[[], AbstractAsyncContextManager[Server]]) -> Iterator[Server]:
    """Run a server while the generator is held, on a loop of its own, so that it outlives the loop of each test."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        server = launch()
        started = runner.run(server.__aenter__())
        try:
            yield started
        finally:
            runner.run(server.__aexit__(None, None, None))


def _require_servers() -> Generator[None, object, object]:
    """Where a server cannot be had, by a fixture or by the test itself: fail if $CI is set, else skip and say why."""
    try:
        return (yield)
    except ServerUnavailable as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _require_servers())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _require_servers())


@pytest.fixture(scope="session")
def synapse() -> Iterator[Synapse]:
    """A homeserver shared by all tests: choose user names and aliases that nobody else has."""
    yield from run_for_all_tests(run_synapse)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A database server shared by all tests: `await postgres.create_database()` gives an empty database."""
    yield from run_for_all_tests(run_postgres)


@pytest.fixture(scope="session")
def ngircd() -> Iterator[Ngircd]:
    """A plain IRC server shared by all tests: choose channel names and nicks that nobody else has."""
    yield from run_for_all_tests(run_ngircd)


@pytest.fixture(scope="session")
def inspircd() -> Iterator[Inspircd]:
    """A modern IRC server with services shared by all tests: choose channels and nicks that nobody else has."""
    yield from run_for_all_tests(run_inspircd)


@pytest.fixture(scope="session")
def ergo() -> Iterator[Ergo]:
    """An IRC server with every extension shared by all tests: choose channels and nicks that nobody else has. Not every
    system has one: where there is none, its tests are skipped, in CI as well."""
    try:
        find_ergo()
    except ServerUnavailable as missing:
        pytest.skip(str(missing))
    yield from run_for_all_tests(run_ergo)


@pytest.fixture(scope="session")
def soju() -> Iterator[Soju]:
    """A bouncer shared by all tests: `await soju.add_account(...)` gives one that nobody else has.

    Not every Debian has it: where it is not installed, its tests are skipped, also in CI.
    """
    try:
        find_soju()
    except ServerUnavailable as missing:
        pytest.skip(str(missing))
    yield from run_for_all_tests(run_soju)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder where each commit waits for the disk, for who is killed at random: the moments between two writes are as
    long as they are for an admin."""
    with tempfile.TemporaryDirectory(prefix="bridgekit-killed-", dir=DISK) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """What one test set up of the logs is no other test's business."""
    yield
    structlog.reset_defaults()
