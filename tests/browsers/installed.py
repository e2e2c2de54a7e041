"""Where `make clients` put the web clients that the lock files beside this file name."""

from __future__ import annotations

from pathlib import Path

from bridgekit.testing.servers.process import ServerUnavailable

_HERE = Path(__file__).parent
_INSTALLED = _HERE.parents[1] / ".lab" / "clients"


def modules(client: str) -> Path:
    """The folder node_modules of a client, as locked. Raises ServerUnavailable where it was not installed."""
    locked = (_HERE / client / "package-lock.json").read_bytes()
    stamp = _INSTALLED / client / ".stamp"  # a copy of the lock file that was installed
    if not stamp.exists() or stamp.read_bytes() != locked:
        raise ServerUnavailable(f"{client} is not installed as locked: run `make clients`, which needs npm.")
    return stamp.parent / "node_modules"
