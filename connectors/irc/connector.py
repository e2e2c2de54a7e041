"""The IRC connector: its manifest, and a network for each section of the config."""

from __future__ import annotations

from typing import Any

from bridgekit.contract.connector import Host, LoginField, Manifest
from connectors.irc.config import IrcConfig
from connectors.irc.ident import IdentServer
from connectors.irc.network import IrcNetwork


class IrcConnector:
    """`contract.Connector` for IRC. Its networks share nothing but an ident server on the same address."""

    manifest = Manifest(
        id="irc",
        name="IRC",
        config=IrcConfig,
        login_fields=(
            LoginField(name="nick", title="Nick"),
            LoginField(name="account", title="Account (if it is not the nick)"),
            LoginField(name="password", title="Account password (SASL)", password=True),
            LoginField(name="server_password", title="Server password (bouncers)", password=True),
        ),
        example_chat="#channel",
    )

    def __init__(self) -> None:
        self._idents: dict[str, IdentServer] = {}

    def network(self, config: Any, host: Host) -> IrcNetwork:
        """The shared state of one network. No IO."""
        if not isinstance(config, IrcConfig):
            raise TypeError("an IRC network needs an IrcConfig")
        ident = None
        if config.ident_listen:
            ident = self._idents.setdefault(config.ident_listen, IdentServer(config.ident_listen))
        return IrcNetwork(config, host, ident)


connector = IrcConnector()
