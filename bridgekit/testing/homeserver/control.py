"""The JSON control endpoint of a fake homeserver that runs in a process of its own."""

import base64
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from bridgekit.testing.homeserver.faults import Fault
from bridgekit.testing.homeserver.http import Request, ok
from bridgekit.testing.homeserver.refusals import Json, Refused
from bridgekit.testing.homeserver.server import FakeHomeserver


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One order: the name of a method below, and its arguments."""

    do: str
    args: Json = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it: a `value`, a Matrix refusal [status, errcode, error], or another error's name and text."""

    value: Any = None
    refused: tuple[int, str, str] | None = None
    error: tuple[str, str] | None = None


class Control:
    """Carries orders out. `POST /` with an `Order`; the answer is always 200 with an `Outcome`."""

    def __init__(self, hs: FakeHomeserver) -> None:
        self._hs = hs
        acts = hs.acts
        self._orders: dict[str, Callable[..., Any]] = {
            # people
            "account": acts.account,
            "create_room": acts.create_room,
            "join": acts.join,
            "set_membership": acts.set_membership,
            "kick": acts.kick,
            "put_state": acts.put_state,
            "get_state": acts.get_state,
            "upgrade": acts.upgrade,
            "send": acts.send,
            "redact": acts.redact,
            "upload": self._upload,
            "typing": acts.typing,
            "read": acts.read,
            "set_profile": acts.set_profile,
            "chatter": hs.chatter,
            # looking
            "about": self._about,
            "timeline": hs.timeline,
            "messages": hs.messages,
            "state": hs.state,
            "members": hs.members,
            "joined": hs.joined,
            "invitations": hs.invitations,
            "events": hs.events,
            "arrivals": hs.arrivals,
            "wait_position": hs.wait_position,
            "calls": lambda: hs.calls,
            "unknown_calls": lambda: hs.unknown_calls,
            "refusals": lambda: list(hs.refusals),
            "crashes": lambda: hs.crashes,
            "stats": hs.stats,
            # disturbing
            "fault": self._fault,
            "faults": lambda: hs.faults.rules,
            "heal": self._heal,
            "pause": hs.pause,
            "resume": hs.resume,
            "restart": hs.restart,
            "drop_connections": hs.drop_connections,
            "forget_txns": hs.forget_txns,
            "redeliver": hs.redeliver,
            "settled": hs.settled,
        }

    async def __call__(self, request: Request) -> bytes:
        """Answer one order."""
        try:
            order = msgspec.json.decode(request.body, type=Order)
            value = self._orders[order.do](**order.args)
            if isinstance(value, Awaitable):
                value = await value
            outcome = Outcome(value=value)
        except Refused as refused:
            outcome = Outcome(refused=(refused.status, refused.errcode, refused.error))
        except TimeoutError as error:
            outcome = Outcome(error=("TimeoutError", str(error)))
        except Exception as error:
            outcome = Outcome(error=(type(error).__name__, traceback.format_exc()))
        return ok(msgspec.json.encode(outcome))

    def _about(self) -> Json:
        hs = self._hs
        return {"server_name": hs.server_name, "url": hs.url, "port": hs.port, "position": hs.position}

    async def _upload(self, user: str, content: str, mimetype: str, name: str | None) -> str:
        return await self._hs.acts.upload(user, base64.b64decode(content), mimetype, name)

    def _fault(self, fault: Json, **rule: Any) -> Any:
        return self._hs.fault(fault=msgspec.convert(fault, Fault), **rule)

    def _heal(self, rule: int | None) -> None:
        if rule is None:
            self._hs.faults.clear()
        else:
            self._hs.faults.remove(rule)
