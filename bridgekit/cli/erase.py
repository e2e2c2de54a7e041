"""`bridgekit erase`: asks the running bridge to erase a person, and tells how that goes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp

from bridgekit.cli.asking import address, token
from bridgekit.config import load

SECONDS = 1.0


def erase(path: Path, user: str) -> int:
    """Return 0 when all is taken back, or as much of it as can be; what is not is printed. 1: nothing was
    begun, or the bridge stopped meanwhile and goes on when it runs again."""
    config = load(path)
    return asyncio.run(_erase(f"{address(config)}/api/v1/erasures", token(config), user))


async def _erase(url: str, token: str, user: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(30)) as http:
        try:
            async with http.post(url, json={"user": user}) as answer:
                report: dict[str, Any] = await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            print(
                f"The bridge does not answer at {url}. It has to run: messages are taken back over its connections.",
                file=sys.stderr,
            )
            return 1
        if "error" in report:
            print(report["error"], file=sys.stderr)
            return 1
        print(f"{user} is being erased. Should you or the bridge stop, that goes on at its next start.")
        told = ""
        while not report["done"]:
            if report["waits"] and report["waits"] != told:
                told = report["waits"]
                print(told)
            await asyncio.sleep(SECONDS)
            try:
                async with http.get(url, params={"user": user}) as answer:
                    report = await answer.json()
            except (aiohttp.ClientError, TimeoutError):
                print(
                    "The bridge does not answer any more; the erasure goes on when it runs again.",
                    file=sys.stderr,
                )
                return 1
    print(f"{report['messages']} messages:")
    for name, count in report["taken_back"].items():
        print(f"  {count} taken back on {name}")
    for sentence in report["left"]:
        print(f"  {sentence}")
    print("What the bridge kept of them is gone.")
    return 0
