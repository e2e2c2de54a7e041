"""Which function answers which call: the table of endpoints, and what each of them is given."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from bridgekit.testing.homeserver.events import decode_object
from bridgekit.testing.homeserver.http import Request, decode_segment
from bridgekit.testing.homeserver.refusals import Json, bad_json, forbidden, invalid
from bridgekit.testing.homeserver.registration import Registration
from bridgekit.testing.homeserver.world import World

if TYPE_CHECKING:
    from bridgekit.testing.homeserver.api.app import App

_VERSIONS = frozenset({"r0", "v1", "v3", "unstable"})


class Caller(NamedTuple):
    """Who calls: the user that the call acts as, and the appservice behind it, if it is one.

    `scope` is whose transaction ids count: an appservice's id or a user's token, never the single ghost.
    """

    user: str
    registration: Registration | None
    scope: str
    device: str | None = None


class Response(NamedTuple):
    """An answer that is not simply a 200 with JSON."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] | None = None


class Call:
    """One call that was routed and authenticated."""

    __slots__ = ("app", "args", "caller", "request", "world")

    def __init__(self, app: "App", request: Request, caller: Caller, args: list[str]) -> None:
        self.app = app
        self.world: World = app.world
        self.request = request
        self.caller = caller
        self.args = args

    @property
    def user(self) -> str:
        """The user that the call acts as."""
        return self.caller.user

    def json(self) -> Json:
        """Return the body, a JSON object; raise `Refused` 400 for anything else."""
        return decode_object(self.request.body)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string of the JSON body; raise `Refused` 400 where it is missing or something else."""
        value = self.json().get(key, default)
        if not isinstance(value, str):
            raise bad_json(f"'{key}' must be a string")
        return value

    def number(self, name: str, default: int, most: int) -> int:
        """Return a query parameter as a number from 0 up to `most`; raise `Refused` 400 for no number."""
        text = self.request.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdecimal():
            raise invalid(f"Query parameter {name} must be a non-negative integer")
        return min(int(text), most)

    def timestamp(self) -> int | None:
        """Return `?ts=` in milliseconds; only an appservice may set it (Application Service API, "ts")."""
        if not self.request.query_string or "ts" not in self.request.query:
            return None
        if self.caller.registration is None:
            raise forbidden("Timestamp massaging is for application services")
        return self.number("ts", 0, 2**53)


Result = Json | bytes | Response
"""A JSON object, its bytes, or a whole response."""

Endpoint = Callable[[Call], Result | Awaitable[Result]]


class Route(NamedTuple):
    """An endpoint and its name for statistics, such as "PUT rooms/*/send/*/*"."""

    endpoint: Endpoint
    name: str
    public: bool


class _Node:
    __slots__ = ("children", "routes", "wild")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.wild: _Node | None = None
        self.routes: dict[str, Route] = {}


class Routes:
    """A tree of path segments; `*` stands for one segment of any value."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, method: str, *patterns: str, public: bool = False) -> Callable[[Endpoint], Endpoint]:
        """Decorate the endpoint of `method` on these paths below `/_matrix/`, without their version."""

        def register(endpoint: Endpoint) -> Endpoint:
            for pattern in patterns:
                node = self._root
                for segment in pattern.split("/"):
                    if segment == "*":
                        node.wild = node.wild or _Node()
                        node = node.wild
                    else:
                        node = node.children.setdefault(segment, _Node())
                name = f"{method} {pattern.removeprefix('client/')}"
                node.routes[method] = Route(endpoint, name, public)
            return endpoint

        return register

    def find(self, method: str, path: str) -> tuple[Route | None, list[str], bool]:
        """Return the route, its decoded arguments, and whether the path is known at all."""
        segments = path.split("/")
        if len(segments) < 4 or segments[1] != "_matrix":
            return None, [], False
        del segments[:2]
        if segments[1] in _VERSIONS:
            del segments[1]
        node = self._root
        args: list[str] = []
        for segment in segments:
            child = node.children.get(segment)
            if child is None:
                child = node.wild
                if child is None:
                    return None, args, False
                args.append(decode_segment(segment))
            node = child
        return node.routes.get(method), args, bool(node.routes)


routes = Routes()
