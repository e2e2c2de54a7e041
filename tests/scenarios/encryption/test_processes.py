"""Several processes with one registration, on Synapse: none resets the keys of another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from bridgekit.matrix.addressee import ELSEWHERE
from bridgekit.store.driver import LOCKED
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import spawn
from tests.scenarios.encryption.lab import NETWORK, Gathering, Lab, gathering

OURS = ("@bridgebot:", "@_bk_")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def second(lab: Lab, folder: Path, here: Gathering, **store: Any) -> BridgeProcess:
    """Another process for the same registration, which is linked to the same room; the same store if none is given."""
    first = lab.bridge.config
    network = {
        **first["networks"][NETWORK],
        "nick": lab.new("other"),
        "links": [{"chat": here.channel, "room": here.room}],
    }
    other = BridgeProcess(
        folder,
        homeserver_url=lab.synapse.base_url,
        server_name=lab.synapse.server_name,
        networks={NETWORK: network},
        permissions=first["permissions"],
    )
    tokens = {name: first["appservice"][name] for name in ("as_token", "hs_token")}
    other.config["appservice"] |= tokens
    other.config["store"] = store or first["store"]
    other.path.write_text(json.dumps(other.config))
    return other


@contextlib.asynccontextmanager
async def beside(other: BridgeProcess, folder: Path) -> AsyncIterator[None]:
    """The other process, while the block lasts; it has taken what it may of the homeserver."""
    process = spawn("bridgekit", other.service.argv, log=other.log, cwd=folder)
    try:
        async with asyncio.timeout(90):
            while not refusals(other):
                assert process.running, process.log_tail()
                await asyncio.sleep(0.2)
        yield
        assert process.running, process.log_tail()
    finally:
        await process.stop()


def refusals(other: BridgeProcess) -> list[str]:
    said = [one for one in other.complaints() if one["event"] == "encryption_unavailable"]
    return [one["reason"] for one in said]


def published(lab: Lab, users: Iterable[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """What Synapse knows of the keys of the bridge's users (of all that have any), but for one-time keys."""
    queries = (
        "SELECT user_id, device_id, key_json FROM e2e_device_keys_json",
        "SELECT user_id, device_id, display_name FROM devices WHERE NOT hidden",
        "SELECT user_id, keytype, keydata FROM e2e_cross_signing_keys",
        "SELECT user_id, device_id, key_id, key_json FROM e2e_fallback_keys_json",
    )
    found: dict[str, list[tuple[Any, ...]]] = {user: [] for user in users}
    with contextlib.closing(sqlite3.connect(lab.synapse.folder / "homeserver.db")) as database:
        for query in queries:
            for user, *row in sorted(database.execute(query).fetchall()):
                if user in found or (not users and user.startswith(OURS)):
                    found.setdefault(user, []).append(tuple(row))
    return found


def one_time_keys(lab: Lab, users: Iterable[str]) -> set[tuple[str, str]]:
    """(device, key id) of the one-time keys of these of the bridge's users."""
    query = "SELECT user_id, device_id, key_id FROM e2e_one_time_keys_json"
    with contextlib.closing(sqlite3.connect(lab.synapse.folder / "homeserver.db")) as database:
        rows = database.execute(query).fetchall()
    return {(device, key) for user, device, key in rows if user in users}


async def test_no_other_process_resets_the_keys(lab: Lab, tmp_path: Path) -> None:
    """One on the same store does not start. One with a store of its own, which the homeserver does not speak to, may
    make no keys, though it is linked to the same room and channel."""
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await bob.say(here.channel, "there is one of you")
        await here.everybody_reads("there is one of you")
        before = published(lab)
        keys = one_time_keys(lab, before)
        assert {lab.bridge.bot, lab.ghost(bob.nick)} <= before.keys()

        folder = made(tmp_path / "same")
        other = second(lab, folder, here)
        process = spawn("bridgekit", other.service.argv, log=other.log, cwd=folder)
        try:
            assert await process.wait(90), process.log_tail()
            assert process.returncode == 2, process.log_tail()
            assert LOCKED in " ".join(other.log.read_text().split())
        finally:
            process.kill()

        folder = made(tmp_path / "other")
        store = {"url": f"sqlite:///{folder}/bridge.db", "key_file": str(folder / "bridge.key")}
        other = second(lab, folder, here, **store)
        async with beside(other, folder):
            await bob.sees(lambda h: h.nick == other.config["networks"][NETWORK]["nick"], 90)
            await bob.say(here.channel, "there are two of you")
            await here.everybody_reads("there are two of you")
            await here.alice.say(here.room, "and one of them reads")
            await bob.sees(lambda h: "and one of them reads" in h.words, 60)
            assert refusals(other) == [ELSEWHERE]

        await bob.say(here.channel, "there is one again")
        await here.everybody_reads("there is one again")
        assert published(lab, before) == before
        assert one_time_keys(lab, before) <= keys, "people may have taken some; none are new"
        assert await here.flaws() == []
