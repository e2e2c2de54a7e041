"""Calls that the bridge can do without: what goes wrong with them is logged and holds nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import structlog

from bridgekit.contract.errors import BridgeError, MatrixRefused

log = structlog.get_logger(__name__)


async def allowed(call: Coroutine[Any, Any, object]) -> bool:
    """Do it where the room lets the bridge; says whether it did. Other errors are raised."""
    try:
        await call
    except MatrixRefused as error:
        log.debug("not_allowed_in_room", reason=error.notice)
        return False
    return True


P = ParamSpec("P")
SECONDS = 30.0


async def quiet(work: Callable[P, Coroutine[Any, Any, object]], *args: P.args, **more: P.kwargs) -> None:
    """Do it if it can be done within `SECONDS`."""
    try:
        async with asyncio.timeout(SECONDS):
            await work(*args, **more)
    except (BridgeError, TimeoutError) as error:
        log.info("left_undone", kind=type(error).__name__)
