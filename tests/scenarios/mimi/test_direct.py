"""People of two providers who talk alone: consent first, then a group of two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridgekit.testing.nio_client import NioClient, nio_client
from tests.scenarios.mimi.lab import NETWORK, Lab, Provider, uri

WITHIN = 120.0


@dataclass(frozen=True, kw_only=True)
class Two:
    """Ann is with the first provider and asks, Ben is with the second and is asked."""

    lab: Lab
    ann: NioClient
    ben: NioClient

    def ghost_of_ben(self) -> str:
        return self.lab.a.bridge.ghost(NETWORK, uri(self.ben))

    def ghost_of_ann(self) -> str:
        return self.lab.b.bridge.ghost(NETWORK, uri(self.ann))

    async def ask(self) -> str:
        """Ann asks Ben's ghost into a room, encrypted and for two: the ghost comes."""
        room = await self.ann.encrypted_room(self.ghost_of_ben(), power=100)
        return room
