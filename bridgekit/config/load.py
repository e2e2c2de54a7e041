"""Loads the config: YAML, then the environment, then secrets from files, then every problem at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bridgekit.config.chats import wrong_chats
from bridgekit.config.connectors import Installed
from bridgekit.config.model import Config, NetworkSection, Store
from bridgekit.config.partial import complaints
from bridgekit.config.problems import explain
from bridgekit.config.shape import Walk, closest, fields, is_secret, models, override
from bridgekit.config.source import Place, Source, read, spell
from bridgekit.contract import ids
from bridgekit.contract.connector import Connector
from bridgekit.contract.errors import ConfigError

ENV_PREFIX = "BRIDGEKIT__"


def load(
    path: str | Path,
    env: Mapping[str, str] = os.environ,
    connectors: Mapping[str, Connector] | None = None,
) -> Config:
    """Read and validate the config file at `path`; relative paths in it start at its folder.

    `env` overrides any single value: `BRIDGEKIT__APPSERVICE__AS_TOKEN` is `appservice.as_token`. `connectors` are
    the installed ones where not given. Raises ConfigError with everything that is wrong, each problem with its path.
    """
    source = read(Path(path))
    source.origins, lost = override(source.values, env, ENV_PREFIX)
    loading = _Loading(source, Installed() if connectors is None else connectors)
    loading.problems += [((), f"the environment variable {name} names no key") for name in lost]
    config = loading.config()
    if loading.problems or config is None:
        raise ConfigError(loading.report())
    config._path = source.path.absolute()
    return config


class _Loading:
    """One load: what was found wrong so far, and what must never be shown."""

    def __init__(self, source: Source, connectors: Mapping[str, Connector]) -> None:
        self.source = source
        self.connectors = connectors
        self.problems: list[tuple[Place, str]] = []
        self.walk = Walk(source.path.absolute().parent, source.origins)

    def config(self) -> Config | None:
        values = dict(self.source.values)
        networks = values.pop("networks", None)
        walked = self.walk.walk([Config], values, ())
        self._absolute_database(walked)
        walked["networks"] = self._networks(networks)
        self.problems += self.walk.problems
        config: Config | None = self._validate(Config, walked, ())
        return config

    def _networks(self, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return {} if raw is None else raw
        return {name: self._network(name, value, ("networks", name)) for name, value in raw.items()}

    def _network(self, name: str, raw: Any, place: Place) -> Any:
        if name == ids.MATRIX:
            self.problems.append((place, "no network may be called so: it is the Matrix side itself"))
        elif not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
            self.problems.append(
                (place, "a network's id has up to 32 lower case letters, digits and hyphens, a letter first")
            )
        if not isinstance(raw, dict):
            return raw
        ours = fields(NetworkSection)
        network: dict[str, Any] = self.walk.walk(
            [NetworkSection], {k: v for k, v in raw.items() if k in ours}, place
        )
        rest = {k: v for k, v in raw.items() if k not in ours}
        network["name"] = network.get("name") or name
        model = self._connector_model(raw.get("connector"), (*place, "connector"))
        if model is not None:
            config = network["config"] = self._validate(
                model, self.walk.walk([model], rest, place, hints=list(ours)), place
            )
            if config is not None:
                connector = self.connectors[raw["connector"]]
                self.problems += wrong_chats(connector, config, raw.get("links"), place)
        return network

    def _connector_model(self, name: Any, place: Place) -> type[BaseModel] | None:
        """The model of the connector's own keys; None, and a problem noted, where there is no such connector."""
        if not isinstance(name, str):
            return None  # the model says that it is required
        try:
            model: type[BaseModel] = self.connectors[name].manifest.config
        except KeyError:
            known = list(self.connectors)
            near = closest(name, known) or f"; there is {', '.join(known) or 'none'}"
            self.problems.append((place, f"no connector called `{name}` is installed{near}"))
            return None
        except ConfigError as error:
            self.problems += [(place, why) for _, why in error.problems]
            return None
        if taken := sorted(fields(model).keys() & fields(NetworkSection).keys()):
            self.problems.append(
                (place, f"the connector {name} has keys that belong to the bridge: {', '.join(taken)}")
            )
            return None
        return model

    def _validate(self, model: type[BaseModel], values: Any, place: Place) -> Any:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for where, why in explain(error, place):
                if where in self.walk.unread:
                    continue
                if why == "is required":
                    why += self._how_to_give(model, where[len(place) :], where)
                self.problems.append((where, why))
            if isinstance(values, Mapping):
                self.problems += complaints(model, values, place)
            return None

    def _how_to_give(self, model: type[BaseModel], inside: Place, where: Place) -> str:
        """For a secret: the other places where it may be written."""
        candidates = [model]
        annotation: Any = None
        for part in inside:
            if isinstance(part, str):
                infos = [fields(m)[part] for m in candidates if part in fields(m)]
                annotation = infos[0].annotation if infos else None
                candidates = [m for info in infos for m in models(info.annotation)]
        if annotation is None or not is_secret(annotation) or not isinstance(where[-1], str):
            return ""
        variable = ENV_PREFIX + "__".join(str(part).upper().replace("-", "_") for part in where)
        return f": here, in a file named by `{where[-1]}_file`, or in the environment as {variable}"

    def _absolute_database(self, values: dict[str, Any]) -> None:
        store = values.setdefault("store", {})
        if not isinstance(store, dict):
            return
        store.setdefault("key_file", self.walk.base / Store.model_fields["key_file"].default)
        url = store.setdefault("url", Store.model_fields["url"].default.get_secret_value())
        if isinstance(url, str) and (found := re.fullmatch(r"sqlite:///([^/?].*)", url)):
            store["url"] = f"sqlite:///{self.walk.base / found[1]}"

    def report(self) -> list[tuple[str, str]]:
        """The problems in the order of the file, with paths and lines, and without any secret."""
        lines = []
        for place, why in self.problems:
            for secret in self.walk.secrets:
                why = why.replace(secret, "********")
            origin = self.source.origin(place)
            lines.append((self.source.line(place), spell(place), f"{why} ({origin})" if origin else why))
        return list(dict.fromkeys((path, why) for _, path, why in sorted(lines, key=lambda entry: entry[0])))
