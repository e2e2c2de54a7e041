"""`bridgekit run`: the bridge until a signal ends it, and the config anew when a signal asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from bridgekit import __version__, logs
from bridgekit.config import Config, Installed, load, secrets
from bridgekit.contract.errors import ConfigError

if TYPE_CHECKING:
    from bridgekit.runtime.bridge import Bridge

log = structlog.get_logger(__name__)


def run(path: Path) -> int:
    """Run until SIGTERM or SIGINT; 0 after a stop that was asked for. Raises ConfigError and other BridgeErrors."""
    config = load(path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config, path))


async def _run(config: Config, path: Path) -> int:
    from bridgekit.runtime.bridge import Bridge  # a config with problems is told before all of this is loaded

    _log_as(config)
    stop = asyncio.Event()
    task = asyncio.current_task()
    started = False

    def end() -> None:
        # While it starts there is nothing to drain, and a second signal means it: both cancel.
        if task is not None and (stop.is_set() or not started):
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # while it starts: the config is new anyway
    try:
        async with Bridge(config, Installed()) as bridge:
            started = True
            _settle_garbage()
            loop.add_signal_handler(signal.SIGHUP, reload, bridge, path)
            log.info("bridge_runs", version=__version__, networks=list(config.networks))
            _tell_systemd("READY=1")
            await stop.wait()
            _tell_systemd("STOPPING=1")
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
    log.info("bridge_stopped")
    return 0


def reload(bridge: Bridge, path: Path) -> None:
    """Read the config again and let the bridge take over what it can; a config with problems changes nothing."""
    try:
        config = load(path)
    except ConfigError as error:
        for where, why in error.problems:
            log.error("config_refused", path=where, why=why)
        return
    _log_as(config)
    fixed = bridge.reload(config)
    log.info("config_reloaded", after_a_restart=fixed)


def _settle_garbage() -> None:
    """What is loaded by now stays to the end: the collector need not walk it again and again.

    That took a tenth of the CPU under load, in pauses of up to 90 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 10)


def _log_as(config: Config) -> None:
    logs.setup(config.log.level, config.log.format, secrets=secrets(config))


def _tell_systemd(state: str) -> None:
    """sd_notify(3): a datagram to the socket that systemd names, if it does."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), f"\0{name[1:]}" if name.startswith("@") else name)
