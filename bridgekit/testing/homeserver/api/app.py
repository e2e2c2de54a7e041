"""From a request to its answer: faults, authentication, routing, errors in Matrix form."""

import asyncio
import contextlib
import inspect
import time
import traceback
from collections import Counter, deque
from collections.abc import Awaitable
from typing import NamedTuple
from urllib.parse import unquote

import msgspec
import structlog

from bridgekit.testing.homeserver.api import (  # noqa: F401 - the modules fill the table of routes
    accounts,
    directory,
    history,
    keys,
    media,
    membership,
    sending,
)
from bridgekit.testing.homeserver.api.media import MediaStore
from bridgekit.testing.homeserver.api.routes import Call, Caller, Response, Result, routes
from bridgekit.testing.homeserver.delivery import Delivery
from bridgekit.testing.homeserver.faults import Drop, Fail, Faults, RateLimit, Suffering
from bridgekit.testing.homeserver.http import HANG_UP, Request, ok, respond
from bridgekit.testing.homeserver.keys import KeyStore
from bridgekit.testing.homeserver.refusals import Json, Refused, forbidden
from bridgekit.testing.homeserver.registration import Registration
from bridgekit.testing.homeserver.world import World

log = structlog.get_logger(__name__)

_NOBODY = Caller("", None, "")


class Refusal(NamedTuple):
    """A call that was answered with an error, for tests to look at."""

    method: str
    path: str
    user: str
    status: int
    errcode: str


class App:
    """All that stands between the wire and the world.

    `calls` counts by route, `unknown_calls` lists what no endpoint answers ("METHOD path"), `refusals` the last
    thousand errors, `crashes` the tracebacks of the fake's own bugs.
    """

    def __init__(
        self,
        world: World,
        faults: Faults,
        deliveries: dict[str, Delivery],
        *,
        max_upload: int = 50 * 1024 * 1024,
    ) -> None:
        self.world = world
        self.faults = faults
        self.deliveries = deliveries
        self.media = MediaStore(world.server, max_upload)
        self.devices: dict[str, dict[str, Json]] = {}
        self.keys = KeyStore()
        self.presence: dict[str, Json] = {}
        self.account_data: dict[tuple[str, str, str], Json] = {}
        self.typing_timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self.txns: dict[tuple[str, str], bytes] = {}
        self.device_txns: dict[tuple[str, ...], bytes] = {}
        self.calls: Counter[str] = Counter()
        self.unknown_calls: list[str] = []
        self.refusals: deque[Refusal] = deque(maxlen=1000)
        self.crashes: list[str] = []
        self.knows_appservices = True
        self._owners: dict[bytes, Registration | str] = {}
        self._token_devices: dict[bytes, str] = {}
        for registration in world.registrations:
            self._owners[registration.as_token.encode()] = registration

    def wall(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def forget_txns(self) -> None:
        """Forget the transaction ids of sends, as Synapse does after an hour and at every restart."""
        self.txns.clear()

    def check_alias(self, caller: Caller, alias: str) -> None:
        """Raise `Refused` 400 M_EXCLUSIVE if the caller may not make this alias."""
        if caller.registration is not None:
            if not caller.registration.claims_alias(alias):
                text = "This application service has not reserved this kind of alias."
                raise Refused(400, "M_EXCLUSIVE", text)
        elif any(registration.excludes("aliases", alias) for registration in self.world.registrations):
            raise Refused(400, "M_EXCLUSIVE", "This alias is reserved by an application service.")

    async def find_room(self, room_or_alias: str) -> str:
        """Return a room id; an unknown alias is first asked of the appservices that claim it.

        Raise `Refused` 404 where nobody knows it.
        """
        if room_or_alias.startswith("#") and room_or_alias not in self.world.aliases:
            for delivery in self.deliveries.values():
                if await delivery.knows_alias(room_or_alias):
                    break
        return self.world.resolve(room_or_alias).room_id

    def set_typing(self, user: str, room_id: str, typing: bool, seconds: float) -> None:
        """Start or stop typing; it stops by itself after `seconds`."""
        self.world.set_typing(user, room_id, typing)
        timer = self.typing_timers.pop((user, room_id), None)
        if timer is not None:
            timer.cancel()
        if typing:
            loop = asyncio.get_running_loop()
            self.typing_timers[user, room_id] = loop.call_later(seconds, self._stop_typing, user, room_id)

    def _stop_typing(self, user: str, room_id: str) -> None:
        self.typing_timers.pop((user, room_id), None)
        with contextlib.suppress(Refused):
            self.world.set_typing(user, room_id, False)

    def close(self) -> None:
        """Stop the timers."""
        for timer in self.typing_timers.values():
            timer.cancel()
        self.typing_timers.clear()

    def give_token(self, user: str, token: str, device: str | None = None) -> None:
        """Let `token` stand for a user, on a device of theirs if one is named."""
        self._owners[token.encode()] = user
        if device is not None:
            self._token_devices[token.encode()] = device

    def __call__(self, request: Request) -> bytes | Awaitable[bytes]:
        """Answer a request, after whatever the faults have in store for it."""
        if self.faults.rules:
            user = request.query.get("user_id")
            suffering = self.faults.draw(request.method, unquote(request.path), user)
            if suffering is not None:
                return self._suffer(request, suffering)
        return self._answer(request)

    async def _suffer(self, request: Request, suffering: Suffering) -> bytes:
        if suffering.before:
            await asyncio.sleep(suffering.before)
        response = HANG_UP
        end = suffering.end
        if end is None or (isinstance(end, Drop | Fail) and end.after_effect):
            answer = self._answer(request)
            response = answer if isinstance(answer, bytes) else await answer
        if suffering.after:
            await asyncio.sleep(suffering.after)
        match end:
            case None:
                return response
            case Drop():
                return HANG_UP
            case Fail(status=status, errcode=errcode):
                return respond(status, Refused(status, errcode, "a fault made on purpose").body())
            case RateLimit(retry_after_ms=wait, header=header, body=body):
                extra = {"retry_after_ms": wait} if body else {}
                # RFC 9110 10.2.3: whole seconds; rounded up, so that nobody comes back too early.
                headers = {"Retry-After": str(-(-wait // 1000))} if header else None
                refused = Refused(429, "M_LIMIT_EXCEEDED", "Too Many Requests", **extra)
                return respond(429, refused.body(), headers=headers)

    def _answer(self, request: Request) -> bytes | Awaitable[bytes]:
        try:
            result = self._dispatch(request)
        except Refused as refused:
            return self._refuse(request, refused)
        except Exception:
            return self._crash(request)
        if type(result) is bytes:
            return ok(result)
        if inspect.isawaitable(result):
            return self._answer_later(request, result)
        return _render(result)

    async def _answer_later(self, request: Request, result: Awaitable[Result]) -> bytes:
        try:
            return _render(await result)
        except Refused as refused:
            return self._refuse(request, refused)
        except Exception:
            return self._crash(request)

    def _dispatch(self, request: Request) -> Result | Awaitable[Result]:
        route, args, known = routes.find(request.method, request.path)
        if route is None:
            self.unknown_calls.append(f"{request.method} {unquote(request.path)}")
            raise Refused(405 if known else 404, "M_UNRECOGNIZED", "Unrecognized request")
        self.calls[route.name] += 1
        caller = _NOBODY if route.public else self._caller(request)
        return route.endpoint(Call(self, request, caller, args))

    def owner_of_token(self, request: Request) -> Registration | str:
        """Return the appservice, or the user, whose token the request bears; raise `Refused` 401."""
        header = request.header(b"authorization")
        # The query parameter is the form before Matrix 1.11, and still answered by homeservers.
        token = header[7:] if header[:7] == b"Bearer " else request.query.get("access_token", "").encode()
        if not token:
            raise Refused(401, "M_MISSING_TOKEN", "Missing access token")
        owner = self._owners.get(token)
        if owner is None or not (self.knows_appservices or isinstance(owner, str)):
            raise Refused(401, "M_UNKNOWN_TOKEN", "Invalid access token passed.", soft_logout=False)
        return owner

    def _caller(self, request: Request) -> Caller:
        owner = self.owner_of_token(request)
        if isinstance(owner, str):
            token = request.header(b"authorization")[7:]
            return Caller(owner, None, owner, self._token_devices.get(token))
        bot = f"@{owner.sender_localpart}:{self.world.server}"
        if not request.query_string:
            return Caller(bot, owner, owner.id)
        query = request.query
        user = query.get("user_id", bot)
        if user != bot:
            if not owner.claims_user(user):
                raise forbidden(f"Application service cannot masquerade as this user ({user}).")
            if user not in self.world.profiles:
                raise forbidden(f"Application service has not registered this user ({user})")
            if user in self.world.deactivated:
                raise Refused(403, "M_USER_DEACTIVATED", "This account has been deactivated")
        device = query.get("device_id")
        if device is not None and device not in self.devices.get(user, ()):
            raise Refused(400, "M_UNKNOWN_DEVICE", f"Application service has no device {device} for {user}")
        return Caller(user, owner, owner.id, device)

    def _refuse(self, request: Request, refused: Refused) -> bytes:
        user = request.query.get("user_id", "")
        refusal = Refusal(request.method, unquote(request.path), user, refused.status, refused.errcode)
        self.refusals.append(refusal)
        return respond(refused.status, refused.body())

    def _crash(self, request: Request) -> bytes:
        self.crashes.append(traceback.format_exc())
        log.exception("fake_homeserver_bug", method=request.method, path=unquote(request.path))
        return respond(500, Refused(500, "M_UNKNOWN", "Internal server error").body())


def _render(result: Result) -> bytes:
    if isinstance(result, bytes):
        return ok(result)
    if isinstance(result, Response):
        return respond(result.status, result.body, content_type=result.content_type, headers=result.headers)
    return ok(msgspec.json.encode(result))
