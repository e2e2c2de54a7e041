"""Somebody with a Matrix account and a client, on any homeserver: they talk, and keep what they see."""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec

from bridgekit.contract.text import Text, plain
from bridgekit.matrix.html import from_html
from bridgekit.testing.servers.synapse import Account, HomeserverRefused
from bridgekit.testing.sightings import Sightings

_FILTER = json.dumps({"room": {"timeline": {"limit": 1000}}, "presence": {"not_types": ["*"]}})
_CLIENT = "/_matrix/client/v3"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event as the person's client has it; `name` is what the sender is called in that room then."""

    room: str
    id: str
    type: str
    sender: str
    name: str
    content: dict[str, Any]
    state_key: str | None = None
    redacts: str = ""

    @property
    def kind(self) -> str:
        """`m.text`, `m.emote` ... of a message, "" of all else."""
        return str(self.content.get("msgtype", "")) if self.type == "m.room.message" else ""

    @property
    def body(self) -> str:
        """The plain words."""
        return str(self.content.get("body", ""))

    @property
    def text(self) -> Text:
        """The words with their formatting."""
        html = self.content.get("formatted_body")
        return rich(self.body, html if isinstance(html, str) else "")

    @property
    def relates(self) -> dict[str, Any]:
        """`m.relates_to`."""
        found = self.content.get("m.relates_to")
        return found if isinstance(found, dict) else {}

    def __str__(self) -> str:
        words = json.dumps(self.content, ensure_ascii=False)
        key = "" if self.state_key is None else f" [{self.state_key}]"
        return f"{self.type}{key} {self.name} ({self.sender}): {words[:300]}"


class Person:
    """`async with Person(base_url, account)`: logged in and syncing. What is refused raises HomeserverRefused.

    `seen` are the events of all rooms in the order in which they came, the person's own too. Every call that makes
    an event returns its id.
    """

    def __init__(
        self, base_url: str, account: Account, *, watch: Callable[[Event], None] | None = None
    ) -> None:
        self.account = account
        self.id = account.user_id
        self.password = account.password
        self.base_url = base_url
        self.seen: Sightings[Event] = Sightings(watch=watch, show=str)
        self.invitations: Sightings[tuple[str, str]] = Sightings()
        """(room, who invited)"""
        self.names: dict[tuple[str, str], str] = {}
        self.typing: dict[str, list[str]] = {}
        self.read_by: Sightings[tuple[str, str]] = Sightings()
        """(event, who has read up to it)"""
        self._token = account.access_token
        self._invited: set[str] = set()
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The localpart."""
        return self.id[1:].partition(":")[0]

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(60)
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"}, timeout=timeout
        )
        try:
            since = await self._sync("", 0)
        except BaseException:
            await self._http.close()
            raise
        self._task = asyncio.create_task(self._follow(since), name=f"sync of {self.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._http.close()

    # What they do --------------------------------------------------------------------------------------------

    async def create_room(self, **options: Any) -> str:
        """Make a room from the fields of POST /createRoom; its id."""
        return str((await self.call("POST", "/createRoom", options))["room_id"])

    async def join(self, room: str) -> str:
        """Join by id or alias; the room's id."""
        return str((await self.call("POST", f"/join/{_q(room)}", {}))["room_id"])

    async def leave(self, room: str) -> None:
        await self.call("POST", f"/rooms/{_q(room)}/leave", {})

    async def invite(self, room: str, user: str) -> None:
        await self.call("POST", f"/rooms/{_q(room)}/invite", {"user_id": user})

    async def kick(self, room: str, user: str, reason: str = "") -> None:
        await self.call("POST", f"/rooms/{_q(room)}/kick", {"user_id": user, "reason": reason})

    async def ban(self, room: str, user: str, reason: str = "") -> None:
        await self.call("POST", f"/rooms/{_q(room)}/ban", {"user_id": user, "reason": reason})

    async def send(self, room: str, type: str, content: Mapping[str, Any]) -> str:
        """Any event."""
        path = f"/rooms/{_q(room)}/send/{_q(type)}/{self.name}{next(self._numbers)}"
        return str((await self.call("PUT", path, content))["event_id"])

    async def say(
        self,
        room: str,
        body: str,
        *,
        html: str = "",
        kind: str = "m.text",
        more: Mapping[str, Any] | None = None,
    ) -> str:
        """A message; `more` is merged into its content."""
        content: dict[str, Any] = {"msgtype": kind, "body": body, "m.mentions": {}, **(more or {})}
        if html:
            content |= {"format": "org.matrix.custom.html", "formatted_body": html}
        return await self.send(room, "m.room.message", content)

    async def reply(self, room: str, to: str, body: str) -> str:
        """Answer an event."""
        return await self.say(room, body, more={"m.relates_to": {"m.in_reply_to": {"event_id": to}}})

    async def edit(self, room: str, target: str, body: str) -> str:
        """Put other words in place of a message's."""
        new = {"msgtype": "m.text", "body": body, "m.mentions": {}}
        relation = {"rel_type": "m.replace", "event_id": target}
        return await self.say(room, f"* {body}", more={"m.new_content": new, "m.relates_to": relation})

    async def react(self, room: str, target: str, key: str) -> str:
        """Annotate a message."""
        relation = {"rel_type": "m.annotation", "event_id": target, "key": key}
        return await self.send(room, "m.reaction", {"m.relates_to": relation})

    async def redact(self, room: str, target: str) -> str:
        """Take an event back."""
        path = f"/rooms/{_q(room)}/redact/{_q(target)}/{self.name}{next(self._numbers)}"
        return str((await self.call("PUT", path, {}))["event_id"])

    async def send_file(self, room: str, data: bytes, name: str, mime: str, kind: str = "m.file") -> str:
        """Upload and send a file."""
        more = {"url": await self.upload(data, name, mime), "info": {"mimetype": mime, "size": len(data)}}
        return await self.say(room, name, kind=kind, more=more)

    async def upload(self, data: bytes, name: str, mime: str) -> str:
        """Store a file with the homeserver; its `mxc` address."""
        path = f"{self.base_url}/_matrix/media/v3/upload?filename={quote(name)}"
        async with self._http.post(path, data=data, headers={"Content-Type": mime}) as response:
            return str((await response.json())["content_uri"])

    async def set_state(self, room: str, type: str, content: Mapping[str, Any], key: str = "") -> str:
        path = f"/rooms/{_q(room)}/state/{_q(type)}/{_q(key)}"
        return str((await self.call("PUT", path, content))["event_id"])

    async def state(self, room: str, type: str, key: str = "") -> dict[str, Any]:
        """The content of a state event. Raises HomeserverRefused where there is none."""
        found: dict[str, Any] = await self.call("GET", f"/rooms/{_q(room)}/state/{_q(type)}/{_q(key)}")
        return found

    async def members(self, room: str) -> dict[str, str]:
        """Who is in the room, and their names in it."""
        joined = (await self.call("GET", f"/rooms/{_q(room)}/joined_members"))["joined"]
        return {user: member.get("display_name") or user for user, member in joined.items()}

    async def has_read(self, room: str, event: str) -> None:
        """Show that they have read up to an event."""
        await self.call("POST", f"/rooms/{_q(room)}/receipt/m.read/{_q(event)}", {})

    async def set_name(self, name: str) -> None:
        await self.call("PUT", f"/profile/{_q(self.id)}/displayname", {"displayname": name})

    async def set_picture(self, data: bytes, mime: str) -> None:
        picture = {"avatar_url": await self.upload(data, "me", mime)}
        await self.call("PUT", f"/profile/{_q(self.id)}/avatar_url", picture)

    async def set_typing(self, room: str, typing: bool = True) -> None:
        body = {"typing": typing, "timeout": 20000} if typing else {"typing": False}
        await self.call("PUT", f"/rooms/{_q(room)}/typing/{_q(self.id)}", body)

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call of the client-server API (`path` after /_matrix/client/v3, quoted); its JSON."""
        async with self._http.request(method, f"{self.base_url}{_CLIENT}{path}", json=body) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                raise HomeserverRefused(f"{method} {path.partition('?')[0]}: {response.status} {answer}")
            return answer

    # What they see -------------------------------------------------------------------------------------------

    async def sees(
        self, room: str, matches: Callable[[Event], bool], seconds: float = 60, what: str = "the event"
    ) -> Event:
        """The next event of others in the room that matches and was not taken before. Raises NotSeen."""
        return await self.seen.take(
            lambda e: e.room == room and e.sender != self.id and matches(e), seconds, f"{self.name}: {what}"
        )

    async def reads(self, room: str, body: str, seconds: float = 60) -> Event:
        """The next message with exactly these words. Raises NotSeen."""
        return await self.sees(
            room, lambda e: e.type == "m.room.message" and e.body == body, seconds, f"“{body[:60]}”"
        )

    async def invitation(self, seconds: float = 60) -> tuple[str, str]:
        """The next invitation: room, and who it is from. Raises NotSeen."""
        return await self.invitations.take(lambda _: True, seconds, f"{self.name}: an invitation")

    async def _follow(self, since: str) -> None:
        while True:
            try:
                since = await self._sync(since, 20_000)
            except (aiohttp.ClientError, HomeserverRefused, TimeoutError, ValueError):
                await asyncio.sleep(0.2)  # the homeserver is away; it comes back

    async def _sync(self, since: str, wait: int) -> str:
        path = f"/sync?filter={quote(_FILTER)}&timeout={wait}" + (f"&since={quote(since)}" if since else "")
        answer = await self.call("GET", path)
        rooms = answer.get("rooms", {})
        for room, news in rooms.get("invite", {}).items():
            self._asked_in(room, news.get("invite_state", {}).get("events", []))
        for part in ("join", "leave"):
            for room, news in rooms.get(part, {}).items():
                self._invited.discard(room)
                for raw in news.get("state", {}).get("events", []):
                    self._learn(room, raw)
                for raw in news.get("timeline", {}).get("events", []):
                    self._learn(room, raw)
                    self.seen.add(self._event(room, raw))
                for raw in news.get("ephemeral", {}).get("events", []):
                    if raw.get("type") == "m.typing":
                        self.typing[room] = raw["content"]["user_ids"]
                    elif raw.get("type") == "m.receipt":
                        for event, kinds in raw["content"].items():
                            for reader in kinds.get("m.read", {}):
                                self.read_by.add((event, reader))
        return str(answer["next_batch"])

    def _asked_in(self, room: str, state: Sequence[Mapping[str, Any]]) -> None:
        if room in self._invited:
            return
        self._invited.add(room)
        for raw in state:
            if raw.get("type") == "m.room.member" and raw.get("state_key") == self.id:
                self.invitations.add((room, raw["sender"]))

    def _learn(self, room: str, raw: Mapping[str, Any]) -> None:
        if raw["type"] == "m.room.member" and raw["content"].get("membership") == "join":
            self.names[room, raw["state_key"]] = raw["content"].get("displayname") or raw["state_key"]

    def _event(self, room: str, raw: Mapping[str, Any]) -> Event:
        return Event(
            room=room,
            id=raw["event_id"],
            type=raw["type"],
            sender=raw["sender"],
            name=self.names.get((room, raw["sender"]), raw["sender"]),
            content=raw["content"],
            state_key=raw.get("state_key"),
            redacts=raw.get("redacts") or raw["content"].get("redacts") or "",
        )


def rich(body: str, html: str = "") -> Text:
    """What a client shows of a message: its formatted words, or the plain ones where it has no others."""
    return from_html(html) if html else plain(body)


def _q(part: str) -> str:
    return quote(part, safe="")
