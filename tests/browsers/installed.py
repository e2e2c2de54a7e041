"""Where `make clients` put the clients that lock files in the tests name."""

from __future__ import annotations

from pathlib import Path

from bridgekit.testing.servers.process import ServerUnavailable

_HERE = Path(__file__).parent
_INSTALLED = _HERE.parents[1] / ".lab" / "clients"


def modules(client: str, place: Path = _HERE) -> Path:
    """The folder node_modules of a client whose lock file is in `place`/`client`, as locked.

    Raises ServerUnavailable where it was not installed.
    """
    locked = (place / client / "package-lock.json").read_bytes()
    stamp = _INSTALLED / client / ".stamp"  # a copy of the lock file that was installed
    if not stamp.exists() or stamp.read_bytes() != locked:
        log = stamp.with_name("npm.log")
        why = f" npm's last words: {log.read_text()[-500:]}" if log.exists() else ""
        raise ServerUnavailable(
            f"{client} is not installed as locked: run `make clients`, which needs npm.{why}"
        )
    return stamp.parent / "node_modules"
