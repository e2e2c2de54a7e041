"""What a connector may ask of the bridge."""

from __future__ import annotations

from typing import Any, cast

from bridgekit.contract.ids import NetworkId
from bridgekit.runtime.networks.host import NetworkHost
from bridgekit.store import Store


def host(store: Store, network: str) -> NetworkHost:
    nothing = cast(Any, None)
    return NetworkHost(
        NetworkId(network),
        store=store,
        client=nothing,
        registry=nothing,
        owner_on=lambda network, person: None,
        routes=[],
        openers={},
        file_report=nothing,
    )


async def test_values_are_written_together_and_read_by_prefix(store: Store) -> None:
    mine, others = host(store, "one"), host(store, "two")
    await mine.put_all({"room/a": b"1", "room/b": b"2", "key": b"3"})
    await mine.put_all({"room/a": None, "room/c": b"4"})
    assert await mine.items("room/") == {"room/b": b"2", "room/c": b"4"}
    assert await mine.items() == {"key": b"3", "room/b": b"2", "room/c": b"4"}
    assert await others.items() == {}
    assert dict([item async for item in mine.walk("room/")]) == {"room/b": b"2", "room/c": b"4"}
