"""`/erase` of the admin listener: who holds the bridge's key may have a person erased, and asks how it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from bridgekit.admin.callers import answered, guarded
from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import PersonId


class Wish(msgspec.Struct):
    """Whom to erase."""

    user: str


def application(
    token: str,
    ask: Callable[[PersonId], Awaitable[msgspec.Struct]],
    report: Callable[[PersonId], msgspec.Struct | None],
) -> web.Application:
    """POST {"user": "@..."} begins and answers 202 with the report; GET ?user=@... reads it again (404: none)."""
    read = msgspec.json.Decoder(Wish).decode

    async def begin(request: web.Request) -> web.Response:
        try:
            wish = read(await request.read())
            return answered(await ask(PersonId(wish.user)), 202)
        except msgspec.MsgspecError:
            return answered({"error": 'The body must be {"user": "@name:example.org"}.'}, 400)
        except NotAllowed as error:
            return answered({"error": error.notice}, 400)

    async def look(request: web.Request) -> web.Response:
        found = report(PersonId(request.query.get("user", "")))
        return answered({"error": "Nobody asked for that."}, 404) if found is None else answered(found)

    app = guarded(token)
    app.router.add_post("", begin)
    app.router.add_get("", look)
    return app
