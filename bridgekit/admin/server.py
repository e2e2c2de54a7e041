"""The admin listener: `/health/live`, `/health/ready` and `/metrics`; later parts are added as sub-applications."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from bridgekit import __version__
from bridgekit.admin.metrics import CONTENT_TYPE, Metrics
from bridgekit.config import Address
from bridgekit.contract.errors import ConfigError

LARGEST = 64 * 1024
"""Bytes of a request's body, in all parts."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that the bridge needs: the homeserver, the store, one network's session.

    `detail` is a sentence for people. Where `needed` is False, the bridge is ready without it.
    """

    ok: bool
    detail: str = ""
    needed: bool = True


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What `/health/ready` answers."""

    ready: bool
    version: str
    parts: Mapping[str, Part]


Look = Callable[[], Mapping[str, Part]] | Callable[[], Awaitable[Mapping[str, Part]]]
"""Tells the state of each part now: `homeserver`, `store`, `network.<id>`."""


def application(
    metrics: Metrics, look: Look, parts: Mapping[str, web.Application] | None = None
) -> web.Application:
    """The admin listener's application; `parts` are further applications by their prefix (`/api`)."""

    async def live(_request: web.Request) -> web.Response:
        return _json({"live": True, "version": __version__})

    async def ready(_request: web.Request) -> web.Response:
        found = look()
        states = await found if isinstance(found, Awaitable) else found
        all_well = all(part.ok for part in states.values() if part.needed)
        answer = Readiness(ready=all_well, version=__version__, parts=states)
        return _json(answer, status=200 if all_well else 503)

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(client_max_size=LARGEST)  # the outermost one's counts
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/metrics", exposition)
    for prefix, part in (parts or {}).items():
        app.add_subapp(prefix, part)
    return app


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer), status=status, content_type="application/json", headers=_HEADERS
    )


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program has this port; stop that one, or choose another"
        case errno.EACCES:
            return "ports below 1024 are not for everybody; choose a higher one"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case _:
            return (error.strerror or str(error)).lower()


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@asynccontextmanager
async def serve(app: web.Application, listen: Address, key: str = "") -> AsyncIterator[Address]:
    """Serve `app` inside the block; yields the address with the port that it got.

    Raises ConfigError if the address is taken; `key` is the config key that it came from.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError([(key, f"nothing can listen on {listen}: {_why(error)}")]) from error
        yield Address(listen.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()
