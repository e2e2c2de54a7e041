"""Shows a config without its secrets, and names the secrets that nobody may ever write down."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from ruamel.yaml import YAML

from bridgekit.config.model import Config
from bridgekit.config.types import DatabaseUrl


def show(config: Config) -> str:
    """The config as YAML, with defaults, files and the environment taken in, and every secret as asterisks."""
    values = config.model_dump(mode="json", exclude_none=True)
    for name, network in config.networks.items():
        keys = values["networks"][name]
        own = keys.pop("config", None)
        if isinstance(network.config, BaseModel):
            own = network.config.model_dump(mode="json", exclude_none=True)
        keys |= own if isinstance(own, dict) else {}
    return to_yaml(values)


def to_yaml(values: dict[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    out = io.StringIO()
    yaml: Any = YAML(typ="safe", pure=True)  # its attributes are typed by what they are at first
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 1000
    yaml.dump(values, out)
    return out.getvalue()


def secrets(config: Config) -> frozenset[str]:
    """Every secret in the config that is long enough to be told from a word: tokens, passwords, keys."""
    return frozenset(secret for secret in _secrets(config) if len(secret) >= 4)


def _secrets(value: Any) -> Iterator[str]:
    match value:
        case DatabaseUrl():
            password = urlsplit(value.get_secret_value()).password
            if password:
                yield from {password, unquote(password)}
        case SecretStr():
            yield value.get_secret_value()
        case SecretBytes():
            yield value.get_secret_value().decode(errors="replace")
        case Secret():
            yield str(value.get_secret_value())
        case BaseModel():
            for _, part in value:
                yield from _secrets(part)
        case Mapping():
            for part in value.values():
                yield from _secrets(part)
        case list() | tuple() | set() | frozenset():
            for part in value:
                yield from _secrets(part)
