"""The registration document that the homeserver's administrator installs, and how two of them differ (in sentences)."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridgekit.contract.errors import ConfigError

Document = dict[str, Any]

SECRETS = frozenset({"as_token", "hs_token"})
REQUIRED = ("id", "url", "as_token", "hs_token", "sender_localpart", "namespaces")
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
# Both spellings of one thing; a homeserver reads the one that it knows.
_ASKED = {
    "receive_ephemeral": "typing notices and receipts do not arrive",
    "de.sorunome.msc2409.push_ephemeral": "typing notices and receipts do not arrive from older homeservers",
    "org.matrix.msc3202": "encrypted rooms cannot be bridged: the keys do not arrive",
    "io.element.msc4190": "encrypted rooms cannot be bridged: the bridge cannot make its devices",
}


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
    """The registration as a plain document (Application Service API, "Registration").

    Ghosts are `@<prefix>...`, aliases of portals `#<prefix>...`, both ours alone. Raises ConfigError.
    """
    problems = [
        (name, f"{value!r} has characters that a Matrix user id may not have")
        for name, value in (("sender_localpart", sender_localpart), ("prefix", prefix))
        if not _LOCALPART.fullmatch(value)
    ]
    problems += [
        (name, "is empty") for name, value in (("as_token", as_token), ("hs_token", hs_token)) if not value
    ]
    if as_token and as_token == hs_token:
        problems.append(("hs_token", "is the same as as_token: whoever reads the one may then do both"))
    if problems:
        raise ConfigError(problems)
    server = re.escape(server_name).replace("\\-", "-")  # as people write it; the same expression
    start = re.escape(prefix).replace("\\-", "-")
    return {
        "id": id,
        "url": url,
        "as_token": as_token,
        "hs_token": hs_token,
        "sender_localpart": sender_localpart,
        "rate_limited": False,
        "receive_ephemeral": True,
        "de.sorunome.msc2409.push_ephemeral": True,
        "org.matrix.msc3202": True,
        "io.element.msc4190": True,
        "protocols": list(protocols),
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@{start}.*:{server}"}],
            "aliases": [{"exclusive": True, "regex": f"#{start}.*:{server}"}],
            "rooms": [],
        },
    }


def write(document: Document, path: Path) -> None:
    """Write it as YAML, readable by its owner only (mode 0600), replacing the file at once."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600 from the start
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("# What the homeserver must know of the bridge. It holds two secrets.\n")
            yaml.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: Path) -> Document:
    """Read a registration. Raises ConfigError where there is none, or it is none."""
    try:
        document = YAML(typ="safe", pure=True).load(path)
    except OSError as error:
        raise ConfigError([(str(path), f"cannot be read: {error.strerror}")]) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), "is not YAML")]) from error
    if not isinstance(document, dict):
        raise ConfigError([(str(path), "is no registration")])
    missing = [(f"{path}: {key}", "is missing") for key in REQUIRED if key not in document]
    if missing:
        raise ConfigError(missing)
    return document


def compare(ours: Document, theirs: Document) -> list[str]:
    """How the installed document differs from ours, each as a sentence that never shows a token."""
    found: list[str] = []
    for key in ("id", "url", "as_token", "hs_token", "sender_localpart"):
        mine, installed = ours.get(key), theirs.get(key)
        if mine == installed:
            continue
        if key in SECRETS:
            found.append(f"`{key}` differs from the bridge's.")
        elif key not in theirs:
            found.append(f"`{key}` is missing; the bridge has {mine!r}.")
        else:
            found.append(f"`{key}` is {installed!r}; the bridge has {mine!r}.")
    for kind, name in (("users", "ghosts"), ("aliases", "addresses of portals")):
        wanted = _namespaces(ours, kind)
        installed_spaces = _namespaces(theirs, kind)
        for regex in wanted:
            if regex not in installed_spaces:
                found.append(f"The namespace of the {name}, {regex!r}, is missing in `namespaces.{kind}`.")
            elif wanted[regex] and not installed_spaces[regex]:
                found.append(f"The namespace {regex!r} is not exclusive: others could make users in it.")
        found += [
            f"`namespaces.{kind}` also claims {regex!r}, which the bridge does not use."
            for regex in installed_spaces
            if regex not in wanted
        ]
    for key, consequence in _ASKED.items():
        if ours.get(key) and not theirs.get(key):
            found.append(f"`{key}` is not true: {consequence}.")
    if theirs.get("rate_limited", True) and not ours.get("rate_limited", True):
        found.append("`rate_limited` is not false: a busy channel will lag behind.")
    if set(ours.get("protocols") or ()) != set(theirs.get("protocols") or ()):
        found.append("`protocols` differs: people may not find the bridge's networks by their client.")
    return found


def _namespaces(document: Document, kind: str) -> dict[str, bool]:
    spaces = document.get("namespaces")
    listed = spaces.get(kind) if isinstance(spaces, dict) else None
    return {
        space["regex"]: bool(space.get("exclusive"))
        for space in listed or ()
        if isinstance(space, dict) and isinstance(space.get("regex"), str)
    }
