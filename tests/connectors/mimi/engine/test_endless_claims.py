"""Somebody claims key packages without end: what is there is given out once, the rest is told by code, nothing grows.

draft-ietf-mimi-protocol-06 5.2. Over HTTPS such a peer is told to wait long before (`test_provider`).
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from connectors.mimi.service import provider
from connectors.mimi.wire.users import ClientExhausted, ClientMaterial, UserCode
from tests.connectors.mimi.engine.ears import town
from tests.connectors.mimi.engine.test_provider import Scene

CLAIMS = 10_000
PACKAGES = 3


@pytest.mark.timeout(300)
async def test_ten_thousand_claims_get_what_there_is_and_then_a_code(tmp_path: Path):
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin(packages=PACKAGES)
        direct = scene.claim(room="")
        codes: Counter[object] = Counter()
        for number in range(CLAIMS):
            response = await scene.b.provider.key_material(direct, "a.example")
            (client,) = response.clients
            codes[response.code, type(client)] += 1
            if number == 100:
                gc.collect()
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert codes == {
            (UserCode.SUCCESS, ClientMaterial): PACKAGES,
            (UserCode.NO_COMPATIBLE_MATERIAL, ClientExhausted): CLAIMS - PACKAGES,
        }
        assert grown < 200_000, "octets"


async def test_a_hub_remembers_so_many_ways_of_welcomes_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A peer may have as many key packages as it likes."""
    monkeypatch.setattr(provider, "ROUTES", 5)
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin(packages=12)
        for _ in range(12):
            response = await scene.a.provider.key_material(scene.claim(), "a.example")
            assert response.code is UserCode.SUCCESS
        assert len([key for key in scene.a.store if key.startswith("route/")]) == 5
