"""The configuration: one validated model, read from one file, with every problem told at once."""

from bridgekit.config.chats import unusable
from bridgekit.config.connectors import Installed
from bridgekit.config.load import ENV_PREFIX, load
from bridgekit.config.model import (
    Admin,
    Appservice,
    Ceiling,
    Config,
    Homeserver,
    Link,
    Log,
    LogFormat,
    LogLevel,
    Messages,
    Network,
    NetworkSection,
    Public,
    StatusEvents,
    Store,
)
from bridgekit.config.show import secrets, show, to_yaml
from bridgekit.config.types import Address, DatabaseUrl
from bridgekit.contract.errors import ConfigError

__all__ = [
    "ENV_PREFIX",
    "Address",
    "Admin",
    "Appservice",
    "Ceiling",
    "Config",
    "ConfigError",
    "DatabaseUrl",
    "Homeserver",
    "Installed",
    "Link",
    "Log",
    "LogFormat",
    "LogLevel",
    "Messages",
    "Network",
    "NetworkSection",
    "Public",
    "StatusEvents",
    "Store",
    "load",
    "secrets",
    "show",
    "to_yaml",
    "unusable",
]
