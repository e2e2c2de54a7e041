"""`/api/v1` of the admin listener: how each room is protected, and by which keys the bridge's users are known.

Names of rooms, chats and users are in it, so it wants the token; nothing that was said, and no secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from bridgekit.admin.callers import answered, guarded
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.protection import Label


def application(
    token: str,
    labels: Callable[[], Mapping[ChatId, Label]],
    devices: Callable[[], Mapping[PersonId, str]],
    fingerprints: Callable[[PersonId], Awaitable[Mapping[str, str]]],
) -> web.Application:
    """GET /rooms: the label of every linked room, as its state `org.bridgekit.protection` and in words.

    GET /devices: who has a device, and its id; with ?user=@...: that one's, with its public keys (404: none).
    """

    async def rooms(_request: web.Request) -> web.Response:
        found = [{"room": room, **label.content, "words": label.words} for room, label in labels().items()]
        return answered({"rooms": found})

    async def keys(request: web.Request) -> web.Response:
        user = request.query.get("user")
        if user is None:
            return answered(
                {"devices": [{"user": who, "device": id} for who, id in sorted(devices().items())]}
            )
        found: Mapping[str, Any] = await fingerprints(PersonId(user))
        if not found:
            return answered({"error": f"{user} has no device of the bridge's."}, 404)
        return answered({"user": user, **{name.replace(" ", "_"): key for name, key in found.items()}})

    app = guarded(token)
    app.router.add_get("/rooms", rooms)
    app.router.add_get("/devices", keys)
    return app
