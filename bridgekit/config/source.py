"""Reads YAML into plain values and remembers on which line each of them stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bridgekit.contract.errors import ConfigError

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""

MAX_BYTES = 1 << 20


def spell(place: Place) -> str:
    """`("a", "b", 0)` is `a.b[0]`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


class Source:
    """One config file's values and where they stand. `lines` counts from 1."""

    def __init__(self, path: Path, values: dict[str, Any], lines: dict[Place, int]) -> None:
        self.path = path
        self.values = values
        self.lines = lines
        self.origins: dict[Place, str] = {}  # what does not come from the file, and where it comes from

    def origin(self, place: Place) -> str:
        """`config.yaml line 12`, or the line of what holds it, or the environment variable; empty where unknown."""
        while place:
            if place in self.origins:
                return self.origins[place]
            if place in self.lines:
                return f"{self.path.name} line {self.lines[place]}"
            place = place[:-1]
        return ""

    def line(self, place: Place) -> int:
        """The line of the value, or of what holds it; 0 where it is not from the file."""
        return next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), 0)


def read(path: Path) -> Source:
    """Read the file. Raises ConfigError where it cannot be read or is not a YAML mapping."""
    try:
        text = path.read_bytes()
        if len(text) > MAX_BYTES:
            raise ConfigError([("", f"{path} is larger than a config can be ({len(text)} bytes)")])
        document = YAML(typ="rt", pure=True).load(text.decode())
    except FileNotFoundError:
        why = f"{path} is not there: `bridgekit init` writes one, `--config FILE` names another"
        raise ConfigError([("", why)]) from None
    except OSError as error:
        raise ConfigError([("", f"{path} cannot be read: {(error.strerror or 'error').lower()}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([("", f"{path} is not UTF-8 text")]) from None
    except MarkedYAMLError as error:
        # Its own words may quote a value, and a value may be a secret: only name the key and the line.
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        twice = re.match(r'found duplicate key "([\w-]{1,60})"', error.problem or "")
        why = (
            f"the key `{twice[1]}` is written twice"
            if twice
            else "this is not YAML; look at its indents, colons and quotes"
        )
        raise ConfigError([("", f"{why} ({path.name} line {line})")]) from None
    except (YAMLError, ValueError, RecursionError):
        raise ConfigError([("", f"{path} is not YAML")]) from None
    lines: dict[Place, int] = {}
    problems: list[tuple[str, str]] = []
    values = _plain(document, (), lines, problems)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        problems.append(("", f"{path} must hold keys and values"))
    if problems:
        raise ConfigError(problems)
    return Source(path, values, lines)


def _plain(node: Any, place: Place, lines: dict[Place, int], problems: list[tuple[str, str]]) -> Any:
    match node:
        case CommentedMap():
            values = {}
            for key, value in node.items():
                name = key if isinstance(key, str) else str(key)
                if key in node.lc.data:
                    lines[(*place, name)] = node.lc.key(key)[0] + 1
                values[name] = _plain(value, (*place, name), lines, problems)
            return values
        case CommentedSeq():
            for index in range(len(node)):
                lines[(*place, index)] = node.lc.item(index)[0] + 1
            return [_plain(value, (*place, index), lines, problems) for index, value in enumerate(node)]
        case bool() | None:
            return node
        case int():
            return int(node)
        case float():
            return float(node)
        case str():
            return str(node)
        case _:
            problems.append((spell(place), "must be a plain value (write dates in quotes, use no tags)"))
            return None
