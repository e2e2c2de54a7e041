"""Finds the connectors that are installed, ours and anybody's, without importing those that nobody asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from bridgekit.contract.connector import API_VERSION, Connector
from bridgekit.contract.errors import ConfigError

GROUP = "bridgekit.connectors"


class Installed(Mapping[str, Connector]):
    """The installed connectors by name; each is imported when it is first asked for.

    Asking raises KeyError where there is none, and ConfigError where its package cannot be used.
    """

    def __init__(self) -> None:
        self._points: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=GROUP)}
        self._loaded: dict[str, Connector] = {}

    def __getitem__(self, name: str) -> Connector:
        if name not in self._loaded:
            point = self._points[name]
            try:
                connector: Connector = point.load()
                version = connector.manifest.api_version
            except Exception as error:  # whatever a stranger's package does when it is imported
                why = (
                    f"the connector {name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
                )
                raise ConfigError([("", why)]) from error
            if version != API_VERSION:
                why = f"the connector {name} is made for version {version} of the contract, and this is {API_VERSION}"
                raise ConfigError([("", why)])
            self._loaded[name] = connector
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._points))

    def __len__(self) -> int:
        return len(self._points)
