"""The registration document that the homeserver's administrator installs, and what is wrong with it, in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridgekit.matrix.client import MatrixClient

Document = dict[str, Any]


def build(
    *,
    id: str,
    url: str | None,
    as_token: str,
    hs_token: str,
    sender_localpart: str,
    server_name: str,
    prefix: str = "_bk_",
    protocols: tuple[str, ...] = (),
) -> Document:
    """The registration as a plain document. Ghosts are `@<prefix>...`, portal aliases `#<prefix>...`."""
    raise NotImplementedError


def write(document: Document, path: Path) -> None:
    """Write it as YAML, readable by its owner only (mode 0600), replacing the file at once."""
    raise NotImplementedError


def read(path: Path) -> Document:
    """Read a registration. Raises ConfigError."""
    raise NotImplementedError


def compare(ours: Document, theirs: Document) -> list[str]:
    """How the installed document differs from ours, each as a sentence that never shows a token."""
    raise NotImplementedError


async def check_homeserver(client: MatrixClient, document: Document, *, ping: bool = True) -> list[str]:
    """What keeps the homeserver and the bridge from working together, each with what to do about it."""
    raise NotImplementedError
