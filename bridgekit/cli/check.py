"""`bridgekit check`: everything that must be right before the bridge can run, one line each."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from aiohttp import web

from bridgekit import logs
from bridgekit.admin.server import Part, Readiness, serve
from bridgekit.cli.registering import document
from bridgekit.config import Config, Installed, load, unusable
from bridgekit.contract.errors import BridgeError, ConfigError
from bridgekit.contract.ids import PersonId

if TYPE_CHECKING:
    from bridgekit.store import Store

PATIENCE = 30.0
"""Seconds for each question to the homeserver and the database."""


def check(path: Path) -> int:
    """Print one line per check; 0 if all is well, 1 otherwise."""
    logs.setup("critical")  # the lines below say it all
    try:
        config = load(path)
    except ConfigError as error:
        for where, why in error.problems:
            _line(False, "config", f"{where}: {why}" if where else why)
        return 1
    links = sum(len(network.links) for network in config.networks.values())
    well = _tell(
        "config",
        [f"{where}: {why}" for where, why in unusable(config, Installed())],
        f"{config.path} is valid: {_count(len(config.networks), 'network')}, {_count(links, 'link')}",
    )
    results = [well, _registration(config), asyncio.run(_store(config)), asyncio.run(_homeserver(config))]
    if results[-1]:  # otherwise nothing more can be learnt
        results.append(asyncio.run(_encryption(config)))
    return 0 if all(results) else 1


def _registration(config: Config) -> bool:
    from bridgekit.matrix import registration

    file = config.appservice.registration
    if not file.exists():
        return _tell(
            "registration", [f"{file} is not there; write it with: bridgekit registration --write"], ""
        )
    try:
        differences = registration.compare(document(config), registration.read(file))
    except ConfigError as error:
        return _tell("registration", [f"{where} {why}" for where, why in error.problems], "")
    well = _tell("registration", differences, f"{file} belongs to the config")
    if not well:
        _note(
            "registration",
            "`bridgekit registration --write` writes it anew; give the homeserver that, and restart it",
        )
    return well


async def _store(config: Config) -> bool:
    """Look at the key and the database, and make neither."""
    from bridgekit.store import SealingKey, Store
    from bridgekit.store.driver import LOCKED
    from bridgekit.store.urls import sqlite_path

    url, file = config.store.url.get_secret_value(), config.store.key_file
    try:
        key, path = SealingKey.load(file), sqlite_path(url)
        new = path is not None and not path.exists()
        if key is None and not new:
            lost = f"{file} is not there, and {config.store.url} cannot be read without the key that it was made with"
            return _tell("store", [lost], "")
        if key is None or new:
            return _tell_of_new(
                [*([file] if key is None else []), *([path] if path is not None and new else [])]
            )
        async with asyncio.timeout(PATIENCE):
            store, unseen = await Store.look(url, key)
            try:
                notes = [] if unseen else await _left(store, config)
            finally:
                await store.close()
    except ConfigError as error:
        problems = [why for _, why in error.problems]
        if problems == [LOCKED] and (part := (await _parts_of_running_bridge(config)).get("store")):
            problems = [part.detail] * (not part.ok)
        return _tell("store", problems, f"{config.store.url} is open in the running bridge")
    except TimeoutError:
        return _tell("store", [f"{config.store.url} does not answer"], "")
    well = _tell("store", [], f"{config.store.url} opens, and {file.name} fits")
    if unseen:
        notes = [f"the next start brings the database up to date ({_count(unseen, 'step')})"]
    for sentence in notes:
        _note("store", sentence)
    return well


def _tell_of_new(files: list[Path]) -> bool:
    """What is made at the first start needs a folder that can be written."""
    problems = [
        f"{file} cannot be made: {file.parent} is no folder that this user may write"
        for file in files
        if not os.access(file.parent, os.W_OK | os.X_OK)
    ]
    return _tell(
        "store", problems, f"{' and '.join(file.name for file in files)} will be made at the first start"
    )


async def _left(store: Store, config: Config) -> list[str]:
    """What the database holds and the config does not, in sentences."""
    from bridgekit.runtime.linking.remains import remains
    from bridgekit.runtime.linking.succession import bot_before
    from bridgekit.runtime.registry import Registry

    registry = Registry(store)
    await registry.load()
    bot = PersonId(f"@{config.appservice.bot}:{config.homeserver.server_name}")
    before = await bot_before(store, bot)
    changed = (
        f"the bot was {before} and will be {bot}: at the next start it follows into those of its "
        f"{_count(len(registry.portals), 'room')} that let it in, and tells who linked the others"
    )
    return [changed] * (before is not None) + [
        f"{network} is not in the config, and {left} of it remain: an admin may say `!bridge forget {network}`"
        for network, left in remains(registry, config.networks).items()
    ]


async def _parts_of_running_bridge(config: Config) -> Mapping[str, Part]:
    """How the parts of this config's bridge are, if it runs now."""
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{config.admin.listen}/health/ready") as answer,
        ):
            return msgspec.json.decode(await answer.read(), type=Readiness).parts
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
        return {}


async def _encryption(config: Config) -> bool:
    """A running bridge knows whether keys reach it; without one, only the making of devices can be tried."""
    from bridgekit.matrix.check import check_devices
    from bridgekit.matrix.client import MatrixClient

    if (part := (await _parts_of_running_bridge(config)).get("encryption")) is not None:
        return _tell(
            "encryption",
            [part.detail] if not part.ok else [],
            "the running bridge has a device, and gets keys",
        )
    bot = PersonId(f"@{config.appservice.bot}:{config.homeserver.server_name}")
    token = config.appservice.as_token.get_secret_value()
    try:
        async with asyncio.timeout(PATIENCE), MatrixClient(config.homeserver.url, token, bot=bot) as client:
            problems = await check_devices(client)
    except TimeoutError:
        problems = [f"{config.homeserver.url} does not answer"]
    well = "the homeserver lets the bridge make devices; whether keys arrive, a running bridge knows"
    return _tell("encryption", problems, well)


async def _homeserver(config: Config) -> bool:
    from bridgekit.matrix.check import check_homeserver
    from bridgekit.matrix.client import MatrixClient

    bot = PersonId(f"@{config.appservice.bot}:{config.homeserver.server_name}")
    token = config.appservice.as_token.get_secret_value()
    try:
        async with (
            _answering_pings(config),
            asyncio.timeout(PATIENCE),
            MatrixClient(config.homeserver.url, token, bot=bot) as client,
        ):
            problems = await check_homeserver(client, document(config))
    except BridgeError as error:
        problems = [error.notice]
    except TimeoutError:
        problems = [f"{config.homeserver.url} does not answer"]
    return _tell(
        "homeserver", problems, f"{config.homeserver.url} knows the registration, and reaches the bridge"
    )


@asynccontextmanager
async def _answering_pings(config: Config) -> AsyncIterator[None]:
    """Stand in for the bridge while the homeserver tries the way back (MSC2659); a running bridge answers itself.

    Everything but a ping is refused, so that the homeserver keeps it for the bridge.
    """
    expected = f"Bearer {config.appservice.hs_token.get_secret_value()}"

    async def answer(request: web.Request) -> web.Response:
        if not request.path.endswith("/ping"):
            return web.json_response(
                {"errcode": "M_UNKNOWN", "error": "bridgekit check is running"}, status=503
            )
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected.encode()):
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "wrong hs_token"}, status=403)
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(ConfigError):  # the address is taken: by the bridge, or the ping will tell
            await stack.enter_async_context(serve(app, config.appservice.listen))
        yield


def _tell(name: str, problems: list[str], well: str) -> bool:
    for problem in problems:
        _line(False, name, problem)
    if not problems:
        _line(True, name, well)
    return not problems


def _line(well: bool, name: str, sentence: str) -> None:
    print(f"{'ok  ' if well else 'FAIL'}  {name:<12}  {sentence}", flush=True)


def _note(name: str, sentence: str) -> None:
    print(f"note  {name:<12}  {sentence}", flush=True)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
