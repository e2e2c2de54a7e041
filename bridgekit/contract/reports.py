"""Reports of abuse: what people of a network tell whoever answers for it."""

from __future__ import annotations

import msgspec

from bridgekit.contract.ids import ChatId, PersonId


class AbuseReport(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody reports `accused` for what they did in `chat`; `at` is when that came, ms since the epoch.

    `accused` and `reporter` are people of the network, or Matrix users by their user id; a `reporter` of None does not
    say who they are. Of the `messages` that they show, `proven` are surely the accused's; what is in them is not kept.
    `note` are the reporter's own words.
    """

    chat: ChatId
    at: int
    accused: PersonId
    reporter: PersonId | None = None
    note: str = ""
    messages: int = 0
    proven: int = 0
