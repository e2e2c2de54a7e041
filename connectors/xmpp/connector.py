"""The XMPP connector: its manifest, and a network for each section of the config."""

from __future__ import annotations

from typing import Any

from bridgekit.contract.connector import Host, LoginField, Manifest, Network
from bridgekit.contract.errors import ConfigError
from connectors.xmpp.config import XmppConfig

MISSING = "XMPP needs the package slixmpp, which is not installed: pip install 'slixmpp>=1.10'."


class XmppConnector:
    """`contract.Connector` for XMPP. Its networks share nothing."""

    manifest = Manifest(
        id="xmpp",
        name="XMPP",
        config=XmppConfig,
        login_fields=(
            LoginField(name="jid", title="Address (name@server)"),
            LoginField(name="password", title="Password", password=True),
            LoginField(name="server", title="Host to connect to (if DNS does not say)"),
        ),
        example_chat="room@conference.example.org",
    )

    def network(self, config: Any, host: Host) -> Network:
        """The shared state of one network. No IO. Raises ConfigError where slixmpp is missing."""
        if not isinstance(config, XmppConfig):
            raise TypeError("an XMPP network needs an XmppConfig")
        try:
            from connectors.xmpp.network import XmppNetwork
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.partition(".")[0] != "slixmpp":
                raise
            raise ConfigError([("", MISSING)]) from missing
        return XmppNetwork(config, host)


connector = XmppConnector()
