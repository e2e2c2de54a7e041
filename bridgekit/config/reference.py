"""Writes down every config key: as JSON Schema for editors, as Markdown for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Secret, SecretStr, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bridgekit.config.model import Config, NetworkSection
from bridgekit.config.shape import fields, is_a, is_secret, leaves, models
from bridgekit.config.types import Address, spell_duration
from bridgekit.contract.connector import Connector
from bridgekit.contract.errors import ConfigError

Rows = list[tuple[str, str, str, str]]


def usable(connectors: Mapping[str, Connector]) -> dict[str, Connector]:
    """Those of the installed connectors that can be loaded."""
    loaded = {}
    for name in connectors:
        try:
            loaded[name] = connectors[name]
        except ConfigError:
            continue
    return loaded


def schema(connectors: Mapping[str, Connector]) -> dict[str, Any]:
    """The JSON Schema of the file, with the keys of the installed connectors."""
    sections: list[Any] = [
        create_model(
            f"Network_{name}",
            __base__=(NetworkSection, connector.manifest.config),
            connector=(Literal[name], ...),  # type: ignore[arg-type]
        )
        for name, connector in usable(connectors).items()
    ]
    kinds: Any = sections[0] if len(sections) == 1 else Any
    for kind in sections[:1] if len(sections) > 1 else []:
        kinds = kind
        for other in sections[1:]:
            kinds = kinds | other
    whole = create_model("Config", __base__=Config, networks=(dict[str, kinds], {}))
    document = whole.model_json_schema(by_alias=True)
    document["title"] = "The configuration of bridgekit"
    for part in [document, *document.get("$defs", {}).values()]:
        _finish(part)
    return document


def _finish(part: dict[str, Any]) -> None:
    """Let each secret be given as the path of a file; write addresses as the file has them."""
    properties: dict[str, Any] = part.get("properties", {})
    for name in list(properties):
        if properties[name].get("title") == "host:port":
            properties[name]["default"] = str(Address(*properties[name]["default"]))
        variants = [properties[name], *properties[name].get("anyOf", [])]
        if any(
            variant.get("writeOnly") or variant.get("$ref", "").endswith("DatabaseUrl")
            for variant in variants
        ):
            properties[f"{name}_file"] = {"type": "string", "title": f"A file that holds {name}"}
            if name in part.get("required", []):
                part["required"].remove(name)


def reference(connectors: Mapping[str, Connector]) -> str:
    """Every key, its type, its default and its meaning, as Markdown."""
    parts = [
        "# Configuration",
        "",
        "Written by `bridgekit config reference`; a test compares it with the code. `config.example.yaml` is a whole "
        "file to start from.",
        "",
        "- Unknown keys are refused, and all problems are told at once: `bridgekit check`.",
        "- Relative paths start at the folder of the config file.",
        "- Any single value may come from the environment instead: `BRIDGEKIT__APPSERVICE__AS_TOKEN` is "
        "`appservice.as_token`.",
        "- Each key marked *secret* may also be given as `<key>_file`, the path of a file that holds it.",
        "- Times are seconds, or `90s`, `10m`, `12h`, `7d`.",
        "",
    ]
    top: Rows = []
    for key, info in fields(Config).items():
        if key == "networks":
            continue
        if section := models(info.annotation):
            parts += _table(f"## {key}", section[0].__doc__ or "", _rows(section[0], ""), info)
        else:
            top.append(_row(key, info))
    parts += _table("## Top level", "", top)
    parts += _table(
        "## networks.&lt;id&gt;", f"{_description(fields(Config)['networks'])}", _rows(NetworkSection, "")
    )
    for name, connector in usable(connectors).items():
        manifest = connector.manifest
        title = f"## networks.&lt;id&gt; with `connector: {name}`"
        parts += _table(title, f"{manifest.name}: {_first(manifest.config)}", _rows(manifest.config, ""))
    return "\n".join(parts).rstrip() + "\n"


def _table(title: str, about: str, rows: Rows, info: FieldInfo | None = None) -> list[str]:
    optional = (
        " Optional: without it there are no links." if info is not None and info.default is None else ""
    )
    lines = [title, "", *([_squeeze(about) + optional, ""] if about else [])]
    if not rows:
        return [*lines, "No keys of its own.", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    return [*lines, *(f"| `{key}` | {kind} | {default} | {why} |" for key, kind, default, why in rows), ""]


def _rows(model: type[BaseModel], prefix: str) -> Rows:
    rows: Rows = []
    for key, info in fields(model).items():
        rows.append(_row(prefix + key, info))
        for suffix, inner in _inner(info.annotation):
            rows += _rows(inner, f"{prefix}{key}{suffix}.")
    return rows


def _inner(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models inside the value, and how one of them is addressed."""
    for leaf in leaves(annotation):
        origin = get_origin(leaf)
        if origin in (list, tuple):
            yield from (("[]", model) for model in models(get_args(leaf)[0]))
        elif origin is dict:
            yield from ((".&lt;key&gt;", model) for model in models(get_args(leaf)[1]))
        else:
            yield from (("", model) for model in models(leaf))


def _row(key: str, info: FieldInfo) -> tuple[str, str, str, str]:
    return key, _kind(info), _default(info), _description(info)


def _description(info: FieldInfo) -> str:
    return _squeeze(info.description or "").replace("|", "\\|")


def _kind(info: FieldInfo) -> str:
    title = next(
        (extra.json_schema.get("title") for extra in info.metadata if hasattr(extra, "json_schema")), None
    )
    if title:
        return str(title)
    if is_secret(info.annotation):
        return "secret"
    return " or ".join(dict.fromkeys(filter(None, map(_name, leaves(info.annotation)))))


def _name(leaf: Any) -> str:
    origin = get_origin(leaf)
    if origin in (list, tuple, set, frozenset):
        return f"list of {_name(next(leaves(get_args(leaf)[0])))}"
    if origin is dict:
        return "keys and values"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(leaf))
    if leaf is type(None):
        return ""
    if isinstance(leaf, type) and issubclass(leaf, Enum):
        return ", ".join(f"`{member.value}`" for member in leaf)
    if isinstance(leaf, type) and issubclass(leaf, BaseModel):
        return "section"
    if isinstance(leaf, type) and issubclass(leaf, Path):
        return "path"
    return {str: "text", int: "number", float: "number", bool: "true, false"}.get(leaf, "text")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True) if info.default_factory is None else _made(info)
    if isinstance(value, Secret) and not isinstance(value, SecretStr):
        return f"`{value}`"
    if (
        value is None
        or value is PydanticUndefined
        or isinstance(value, BaseModel)
        or is_a(info.annotation, SecretStr)
    ):
        return ""
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple | dict | set | frozenset) and not hasattr(value, "_fields"):
        return f"`{', '.join(map(str, value))}`" if value else ""
    if isinstance(value, int) and _kind(info) == "time":
        return f"`{spell_duration(value)}`"
    return f"`{value}`" if str(value) else ""


def _made(info: FieldInfo) -> Any:
    try:
        return info.default_factory()  # type: ignore[misc, call-arg]
    except TypeError:  # it wants the other values
        return None


def _first(model: type[BaseModel]) -> str:
    return _squeeze((model.__doc__ or "").strip().partition("\n\n")[0])


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
