"""The registration that belongs to a config."""

from __future__ import annotations

import re
from typing import Any

from bridgekit.config import Config
from bridgekit.matrix import registration


def document(config: Config) -> dict[str, Any]:
    """The registration as a plain document, tokens included."""
    service = config.appservice
    built = registration.build(
        id=service.id,
        url=service.url,
        as_token=service.as_token.get_secret_value(),
        hs_token=service.hs_token.get_secret_value(),
        sender_localpart=service.bot,
        server_name=config.homeserver.server_name,
        prefix=service.prefix,
        protocols=tuple(sorted({network.connector for network in config.networks.values()})),
    )
    if service.double_puppets:
        everybody = f"@.*:{re.escape(config.homeserver.server_name)}".replace("\\-", "-")
        built["namespaces"]["users"].append({"exclusive": False, "regex": everybody})
    return built
