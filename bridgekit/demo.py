"""`bridgekit demo`: a bridge between real servers on this machine, with people who talk on both sides."""

from __future__ import annotations

import asyncio
import signal
import time
from importlib.metadata import entry_points

from bridgekit.cli.asking import address, token
from bridgekit.config import load
from bridgekit.testing.servers.process import ServerFailed, ServerUnavailable
from bridgekit.testing.stage import Printer, Show, Stage, stage

GROUP = "bridgekit.demos"
"""Entry points of this group are the networks' parts of the demo (`bridgekit.testing.stage.Show`)."""


def main(once: bool) -> int:
    """Play, and stay up until Ctrl-C; with `once`, play, check and end. 0 where every check passed, else 1."""
    printer = Printer()
    shows: list[Show] = [point.load()() for point in entry_points(group=GROUP)]
    if not shows:
        printer.line(f"No connector that is installed here has a demo (entry points {GROUP}).")
        return 1
    try:
        return asyncio.run(_demo(printer, shows, once=once))
    except (ServerUnavailable, ServerFailed) as error:
        printer.line(str(error))
        return 1
    except KeyboardInterrupt:
        printer.line("Stopped.")
        return 0 if not once else 1


async def _demo(printer: Printer, shows: list[Show], *, once: bool) -> int:
    task = asyncio.current_task()
    if task is not None:  # a terminal that closes ends everything as Ctrl-C does
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    started = time.monotonic()
    printer.line(
        printer.style("bridgekit demo: real servers, the bridge between them, and people who talk", "1")
    )
    printer.line()
    async with stage(printer, shows) as scene:
        await scene.person("alice")
        for show in shows:
            await show.play(scene)
        status = _verdict(scene, time.monotonic() - started)
        if not once:
            _invite(scene, shows)
            await asyncio.Event().wait()
    return status


def _verdict(scene: Stage, seconds: float) -> int:
    scene.printer.heading("The end")
    count = scene.passed + len(scene.failed)
    if scene.failed:
        scene.printer.line(f"  {len(scene.failed)} of {count} checks FAILED, in {seconds:.0f} s:")
        for name in scene.failed:
            scene.printer.line(f"    {name}")
        for said in scene.bridge.complaints()[-10:]:
            scene.printer.line(f"  the bridge said: {said}")
        return 1
    scene.printer.line(f"  all {count} checks ok, in {seconds:.0f} s")
    return 0


def _invite(scene: Stage, shows: list[Show]) -> None:
    printer = scene.printer
    printer.heading("Everything stays up: try it by hand")
    printer.line(
        f"  homeserver   {scene.synapse.base_url}   (any Matrix client; choose it as the homeserver)"
    )
    for person in scene.people:
        printer.line(f"  log in as    {person.id}   password {person.password}")
    for show in shows:
        for line in show.by_hand():
            printer.line(f"  {line}")
    config = load(scene.bridge.path)
    printer.line(f"  the bridge   its page is {address(config)}/#{token(config)}")
    printer.line(f"               its log is {scene.bridge.log}")
    printer.line()
    printer.line("  What is said shows up here as well. Ctrl-C ends it all.")
