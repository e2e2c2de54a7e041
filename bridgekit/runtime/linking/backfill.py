"""What was said in a chat before it was linked: as much of it as its network would tell every newcomer."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from bridgekit.contract import verbs
from bridgekit.contract.ids import LoginId, NetworkId, PortalKey
from bridgekit.contract.policy import Exposure, Visibility
from bridgekit.runtime.lenient import quiet
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.runtime.registry import OPEN, Registry

log = structlog.get_logger(__name__)


async def backfill(
    side: PortalKey,
    count: int,
    registry: Registry,
    sessions: Mapping[tuple[NetworkId, LoginId | None], Supervised],
) -> None:
    """Bring the last `count` messages into the room of a new link, with the time at which they were said.

    Only where the chat's network shows its past to whoever joins now: nobody in the room could have read it otherwise.
    """
    link = registry.links.get(side)
    if not count or side.receiver is not None or link is None or link.state != OPEN:
        return
    seen = registry.visibility.get(side, Visibility())
    if not seen.known or seen.exposure < Exposure.SHARED:
        return
    relay = sessions.get((side.network, None))
    if relay is None or relay.session is None:
        return
    if verbs.FetchHistory in relay.session.capabilities(side.chat).verbs:
        log.info("history_brought", network=side.network, most=count)
        await quiet(relay.perform, verbs.FetchHistory(chat=side.chat, limit=count))
