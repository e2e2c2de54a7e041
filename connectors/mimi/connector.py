"""The MIMI connector: its manifest, and a network for each section of the config."""

from __future__ import annotations

from typing import Any

from bridgekit.contract.connector import Host, LoginField, Manifest, Network
from bridgekit.contract.errors import ConfigError
from connectors.mimi.config import MimiConfig

MISSING = "MIMI needs what is not installed: pip install 'cbor2>=6.3' 'markdown-it-py>=4'."


class MimiConnector:
    """`contract.Connector` for MIMI. Its networks share nothing."""

    manifest = Manifest(
        id="mimi",
        name="MIMI",
        config=MimiConfig,
        example_chat="mimi://example.org/r/club",
        login_fields=(
            LoginField(
                name="findable",
                title="Who may find you: `handle` (by your exact name), `name` (by parts of it), or nobody",
            ),
        ),
    )

    def network(self, config: Any, host: Host) -> Network:
        """The shared state of one provider. No IO. Raises ConfigError where a part is not installed."""
        if not isinstance(config, MimiConfig):
            raise TypeError("a MIMI network needs a MimiConfig")
        try:
            from connectors.mimi.network import MimiNetwork
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.partition(".")[0] not in ("cbor2", "markdown_it"):
                raise
            raise ConfigError([("", MISSING)]) from missing
        return MimiNetwork(config, host)


connector = MimiConnector()
