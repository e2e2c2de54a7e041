"""Walks raw values along the models that they are meant for: unknown keys, secrets in files, relative paths."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from bridgekit.config.source import Place

MAX_SECRET_BYTES = 65536

_SECRETS = (SecretStr, SecretBytes, Secret)


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The model's fields by the key that the file uses."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that a value may have, with unions and annotations taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from leaves(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from leaves(part)
    else:
        yield annotation


def is_a(annotation: Any, *wanted: type) -> bool:
    """May the value be one of the `wanted` types?"""
    plain = (get_origin(leaf) or leaf for leaf in leaves(annotation))
    return any(isinstance(leaf, type) and issubclass(leaf, wanted) for leaf in plain)


def is_secret(annotation: Any) -> bool:
    """Is the value one that is never shown?"""
    return is_a(annotation, *_SECRETS)


def models(annotation: Any) -> list[type[BaseModel]]:
    """The models that the value may be."""
    return [leaf for leaf in leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]


def closest(word: str, known: list[str]) -> str:
    """`; did you mean x?` where one of `known` is near, otherwise nothing."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


class Walk:
    """One walk over raw values: `problems` are found, `secrets` are read on the way.

    The values that `walk` returns are what the model is to validate: `*_file` keys have become what the file
    holds, relative paths have become absolute (from `base`), unknown keys are gone.
    """

    def __init__(self, base: Path, origins: Mapping[Place, str] | None = None) -> None:
        self.base = base
        self.origins = origins or {}
        self.problems: list[tuple[Place, str]] = []
        self.secrets: set[str] = set()
        self.unread: set[Place] = set()  # secrets whose file could not be read: that is problem enough

    def walk(
        self, candidates: list[type[BaseModel]], raw: Any, place: Place, hints: Sequence[str] = ()
    ) -> Any:
        """Walk `raw`, which is to become one of `candidates`; `hints` are further keys that may have been meant."""
        if not isinstance(raw, Mapping):
            return raw
        known: dict[str, Any] = {}
        for model in self._narrow(candidates, raw):
            for key, info in fields(model).items():
                known[key] = known[key] | info.annotation if key in known else info.annotation
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key in known:
                values[key] = self._value(known[key], value, (*place, key))
            elif key.endswith("_file") and is_secret(known.get(key[:-5])):
                name = key[:-5]
                if raw.get(name) is not None and (*place, name) in self.origins:
                    continue  # the environment goes before the file
                if raw.get(name) is not None:
                    self.problems.append(((*place, key), f"is given as well as `{name}`; keep one of them"))
                elif (secret := self._read((*place, key), value)) is not None:
                    values[name] = secret
                else:
                    values[name] = f"unread-{len(self.unread)}"  # so that nobody says that it is missing
                    self.unread.add((*place, name))
            else:
                near = closest(key, [*self._allowed(known), *hints])
                self.problems.append(((*place, key), f"there is no such key{near}"))
        for model in self._narrow(candidates, raw):
            for key, info in fields(model).items():
                if key not in values and isinstance(info.default, Path):
                    values[key] = self.base / info.default
        return values

    def _narrow(self, candidates: list[type[BaseModel]], raw: Mapping[str, Any]) -> list[type[BaseModel]]:
        """Where a union is told apart by a literal (`type: tls`), only the models that fit."""
        fitting = [
            model
            for model in candidates
            if all(
                raw[key] in get_args(info.annotation)
                for key, info in fields(model).items()
                if str(get_origin(info.annotation)) == "typing.Literal" and isinstance(raw.get(key), str)
            )
        ]
        return fitting or candidates

    def _allowed(self, known: dict[str, Any]) -> list[str]:
        return [*known, *(f"{key}_file" for key, annotation in known.items() if is_secret(annotation))]

    def _value(self, annotation: Any, raw: Any, place: Place) -> Any:
        if is_secret(annotation) and isinstance(raw, str):
            if is_a(annotation, SecretStr, SecretBytes):
                self._hide(raw)
            return raw
        if isinstance(raw, str) and is_a(annotation, Path):
            return self.base / Path(raw).expanduser()
        for leaf in leaves(annotation):
            origin, arguments = get_origin(leaf), get_args(leaf)
            if (
                isinstance(raw, Mapping)
                and isinstance(origin, type)
                and issubclass(origin, Mapping)
                and arguments
            ):
                return {key: self._value(arguments[1], value, (*place, key)) for key, value in raw.items()}
            if isinstance(raw, list) and origin in (list, tuple, set, frozenset) and arguments:
                return [self._value(arguments[0], value, (*place, index)) for index, value in enumerate(raw)]
        if candidates := models(annotation):
            return self.walk(candidates, raw, place)
        return raw

    def _read(self, place: Place, name: Any) -> str | None:
        """The secret in the file: its text without the line break at the end."""
        if not isinstance(name, str) or not name:
            self.problems.append((place, "must be the path of a file"))
            return None
        path = self.base / Path(name).expanduser()
        try:
            with path.open("rb") as file:
                text = file.read(MAX_SECRET_BYTES + 1)
            secret = text.decode().rstrip("\r\n")
        except OSError as error:
            self.problems.append((place, f"{path} cannot be read: {(error.strerror or 'error').lower()}"))
            return None
        except UnicodeDecodeError:
            self.problems.append((place, f"{path} is not UTF-8 text"))
            return None
        if not secret or len(text) > MAX_SECRET_BYTES:
            self.problems.append((place, f"{path} is {'too large' if secret else 'empty'}"))
            return None
        self._hide(secret)
        return secret

    def _hide(self, secret: str) -> None:
        if len(secret) >= 6:  # a shorter one would tear words apart, and nobody's token is that short
            self.secrets.add(secret)


def override(
    values: dict[str, Any], env: Mapping[str, str], prefix: str
) -> tuple[dict[Place, str], list[str]]:
    """Put the environment's overrides into `values`, in place.

    `BRIDGEKIT__NETWORKS__MY_NET__SERVERS__0__HOST` is `networks.my-net.servers[0].host`: case and the difference
    between `-` and `_` do not count where the key exists already; a new key is lower case. Returns which variable
    each value came from, and the variables that lead nowhere.
    """
    origins: dict[Place, str] = {}
    lost: list[str] = []
    for variable in sorted(env):
        if variable.startswith(prefix):
            place = _put(values, variable[len(prefix) :].split("__"), env[variable])
            if place is None:
                lost.append(variable)
            else:
                origins[place] = f"environment variable {variable}"
    return origins, lost


def _put(node: Any, parts: list[str], value: str) -> Place | None:
    place: Place = ()
    for depth, part in enumerate(parts):
        key: str | int
        if isinstance(node, list):
            if not part.isdecimal() or int(part) > len(node):
                return None
            key = int(part)
            if key == len(node):
                node.append(None)
        elif isinstance(node, dict) and part:
            key = next((k for k in node if _folded(k) == _folded(part)), part.lower())
            node.setdefault(key, None)
            if depth == len(parts) - 1 and key.endswith("_file"):
                node.pop(key.removesuffix("_file"), None)
        else:
            return None
        place = (*place, key)
        if depth == len(parts) - 1:
            node[key] = value
        elif node[key] is None:
            node[key] = [] if parts[depth + 1] == "0" else {}
        node = node[key]
    return place


def _folded(key: str) -> str:
    return key.lower().replace("-", "_")
