"""`/api/v1` of the admin listener: how the bridge does, and what its admin may have done; one table of all calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web

from bridgekit.admin import views
from bridgekit.admin.callers import answered, guarded
from bridgekit.contract.errors import BridgeError, NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId

log = structlog.get_logger(__name__)


class NotFound(BridgeError):
    """There is no such thing."""


class Desk(Protocol):
    """Who answers. Whatever is refused is raised as a BridgeError, with a sentence."""

    def networks(self) -> list[views.NetworkView]: ...
    def rooms(self) -> list[views.RoomView]: ...
    def accounts(self) -> list[views.AccountView]: ...
    def reports(self) -> list[views.ReportView]: ...
    async def settle(self, number: int) -> None: ...
    def devices(self) -> list[views.DeviceView]: ...
    async def device(self, user: PersonId) -> views.DeviceView: ...
    async def open_account(self, network: NetworkId, user: PersonId, fields: dict[str, str]) -> None: ...
    async def close_account(self, network: NetworkId, user: PersonId) -> None: ...
    async def link(self, room: ChatId, network: NetworkId, chat: str, user: PersonId) -> views.LinkView: ...
    async def unlink(self, network: NetworkId, chat: str) -> None: ...
    async def make_code(self, network: NetworkId, chat: str) -> str: ...
    async def end_codes(self, network: NetworkId, chat: str) -> int: ...
    async def erase(self, user: PersonId) -> msgspec.Struct: ...
    def erasure(self, user: PersonId) -> msgspec.Struct: ...


class Call(msgspec.Struct, frozen=True):
    """One call: what it does in a sentence, what it takes (a body, or words of the query), and what it answers."""

    method: str
    path: str
    summary: str
    do: Callable[[Desk, Any], Awaitable[Any]]
    answer: type
    body: type | None = None
    query: tuple[str, ...] = ()
    status: int = 200


class Query(dict[str, str]):
    """The words of a query; raises NotAllowed for one that is missing."""

    def __missing__(self, name: str) -> str:
        raise NotAllowed(f"Say which: ?{name}=...")


async def _networks(desk: Desk, _query: Query) -> views.Networks:
    return views.Networks(desk.networks())


async def _rooms(desk: Desk, _query: Query) -> views.Rooms:
    return views.Rooms(desk.rooms())


async def _link(desk: Desk, wish: views.LinkWish) -> views.LinkView:
    return await desk.link(ChatId(wish.room), NetworkId(wish.network), wish.chat, PersonId(wish.user))


async def _unlink(desk: Desk, query: Query) -> views.Done:
    await desk.unlink(NetworkId(query["network"]), query["chat"])
    return views.Done()


async def _code(desk: Desk, wish: views.CodeWish) -> views.Code:
    return views.Code(await desk.make_code(NetworkId(wish.network), wish.chat))


async def _end_codes(desk: Desk, query: Query) -> views.Done:
    await desk.end_codes(NetworkId(query["network"]), query["chat"])
    return views.Done()


async def _accounts(desk: Desk, _query: Query) -> views.Accounts:
    return views.Accounts(desk.accounts())


async def _open(desk: Desk, wish: views.AccountWish) -> views.AccountView:
    network, user = NetworkId(wish.network), PersonId(wish.user)
    await desk.open_account(network, user, wish.fields)
    return next(view for view in desk.accounts() if (view.network, view.user) == (network, user))


async def _close(desk: Desk, query: Query) -> views.Done:
    await desk.close_account(NetworkId(query["network"]), PersonId(query["user"]))
    return views.Done()


async def _reports(desk: Desk, _query: Query) -> views.Reports:
    return views.Reports(desk.reports())


async def _settle(desk: Desk, query: Query) -> views.Done:
    await desk.settle(_number(query["number"]))
    return views.Done()


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 16):
        raise NotAllowed(f"{word[:40]} is no number.")
    return int(word)


async def _devices(desk: Desk, _query: Query) -> views.Devices:
    return views.Devices(desk.devices())


async def _device(desk: Desk, query: Query) -> views.DeviceView:
    return await desk.device(PersonId(query["user"]))


async def _erase(desk: Desk, wish: views.ErasureWish) -> msgspec.Struct:
    return await desk.erase(PersonId(wish.user))


async def _erasure(desk: Desk, query: Query) -> msgspec.Struct:
    return desk.erasure(PersonId(query["user"]))


def calls(report: type) -> tuple[Call, ...]:
    """All there are; `report` is what an erasure answers."""
    return (
        Call(
            "GET",
            "/networks",
            "Every network, how it does, and what it asks of an account.",
            _networks,
            views.Networks,
        ),
        Call("GET", "/rooms", "Every linked room with its label and its links.", _rooms, views.Rooms),
        Call(
            "PUT",
            "/links",
            "Link a room to a chat, as if somebody had done so in the room; the answer says whether it is open.",
            _link,
            views.LinkView,
            body=views.LinkWish,
        ),
        Call("DELETE", "/links", "Take a link apart.", _unlink, views.Done, query=("network", "chat")),
        Call(
            "POST",
            "/codes",
            "Make a code that lets whoever has it into a closed chat, where its network knows such codes.",
            _code,
            views.Code,
            body=views.CodeWish,
        ),
        Call(
            "DELETE",
            "/codes",
            "No code lets anybody into that chat any more.",
            _end_codes,
            views.Done,
            query=("network", "chat"),
        ),
        Call(
            "GET", "/accounts", "Every account of somebody's own, and how it does.", _accounts, views.Accounts
        ),
        Call(
            "PUT",
            "/accounts",
            "Keep an account for a Matrix user and sign it in; another one of theirs there is replaced.",
            _open,
            views.AccountView,
            body=views.AccountWish,
            status=202,
        ),
        Call(
            "DELETE",
            "/accounts",
            "Sign an account out and forget it with its password and its direct conversations.",
            _close,
            views.Done,
            query=("network", "user"),
        ),
        Call(
            "GET",
            "/reports",
            "Every report of abuse that no admin has dealt with.",
            _reports,
            views.Reports,
        ),
        Call(
            "DELETE",
            "/reports",
            "A report is dealt with: it is forgotten.",
            _settle,
            views.Done,
            query=("number",),
        ),
        Call("GET", "/devices", "The bot and the ghosts that have a device.", _devices, views.Devices),
        Call("GET", "/device", "The public keys of one of them.", _device, views.DeviceView, query=("user",)),
        Call(
            "POST",
            "/erasures",
            "Erase a person: what the bridge has of them is taken back and forgotten.",
            _erase,
            report,
            body=views.ErasureWish,
            status=202,
        ),
        Call(
            "GET",
            "/erasures",
            "How an erasure goes, or went since the start.",
            _erasure,
            report,
            query=("user",),
        ),
    )


def application(token: str, desk: Desk, table: Sequence[Call], description: object) -> web.Application:
    """Answers every call of `table`, and `/openapi.json` with its description, to those who show the token.

    400 for what cannot be read or is not allowed, 404 where there is no such thing, 502 where the homeserver or a
    network refused it; each with `{"error": a sentence}`.
    """
    app = guarded(token)
    for call in table:
        app.router.add_route(call.method, call.path, _handler(desk, call))

    async def described(_request: web.Request) -> web.Response:
        return answered(description)

    app.router.add_get("/openapi.json", described)
    return app


def _handler(desk: Desk, call: Call) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    read: Callable[[bytes], Any] | None = (
        msgspec.json.Decoder(call.body).decode if call.body is not None else None
    )

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            asked = _read(read, await request.read()) if read is not None else Query(request.query)
            return answered(await call.do(desk, asked), call.status)
        except msgspec.MsgspecError as error:
            return answered(views.Refusal(f"That cannot be read: {error}."), 400)
        except NotAllowed as error:
            return answered(views.Refusal(error.notice), 400)
        except NotFound as error:
            return answered(views.Refusal(error.notice), 404)
        except BridgeError as error:
            log.info("api_refused", call=f"{call.method} {call.path}", reason=error.notice)
            return answered(views.Refusal(error.notice), 502)

    return handle


def _read(read: Callable[[bytes], Any], body: bytes) -> Any:
    """What a body says. Raises MsgspecError, whatever is wrong with it."""
    try:
        return read(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
