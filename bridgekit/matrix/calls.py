"""The thin calls of the Client-Server API (v1.12) about messages, people, rooms and the directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix import shapes
from bridgekit.matrix.shapes import Json, Page, RawPage
from bridgekit.matrix.transport import SECONDS, Homeserver, quoted

CS = "/_matrix/client/v3"
SLOW_SECONDS = 180.0
"""Joins and new rooms may wait for other servers."""
MOST_REASON = 1000
"""Characters of a reason that are kept: with 64 KiB the event is refused, and whoever was to go stays."""

T = TypeVar("T")

_event_id = msgspec.json.Decoder(shapes.EventId).decode
_room_id = msgspec.json.Decoder(shapes.RoomId).decode
json_object = msgspec.json.Decoder(Json).decode
_objects = msgspec.json.Decoder(list[Json]).decode
_encode = msgspec.json.Encoder().encode


class Calls:
    """Calls to one homeserver, as `bot` unless `user=` says otherwise.

    Each raises a MatrixError with a sentence for people: HomeserverUnavailable (`certain` is False where it may
    have taken effect), MatrixRateLimited, MatrixForbidden, MatrixRefused. Patient calls wait for the homeserver
    and repeat until they are done or cancelled rather than raise the first two; but a new room whose fate is
    unknown is not asked for again, and another server that does not answer ours is waited for three times only.
    """

    def __init__(self, homeserver: Homeserver, bot: PersonId, *, patient: bool = False) -> None:
        self.homeserver = homeserver
        self.bot = bot
        self._patient = patient

    # messages

    async def redact(
        self, room: ChatId, event: MessageId, *, txn: str, reason: str = "", user: PersonId | None = None
    ) -> MessageId:
        """Take an event back; returns the redaction's id."""
        path = f"{_room(room)}/redact/{quoted(event)}/{quoted(txn)}"
        body = _because(reason)
        return (await self._call("redact", "PUT", path, body, _event_id, user=user, room=room)).event_id

    async def event(self, room: ChatId, event: MessageId, *, user: PersonId | None = None) -> Json | None:
        """One event as the homeserver shows it to `user`; None where there is none or it may not be seen."""
        path = f"{_room(room)}/event/{quoted(event)}"
        return await none_if_missing(self._call("event", "GET", path, None, json_object, user=user))

    async def messages(
        self,
        room: ChatId,
        *,
        start: str | None = None,
        backwards: bool = True,
        limit: int = 100,
        filter: Mapping[str, Any] | None = None,
        user: PersonId | None = None,
    ) -> Page:
        """A page of the timeline, from `start` (None: the newest, or the oldest forwards)."""
        query: dict[str, str | int] = {"dir": "b" if backwards else "f", "limit": limit}
        if start is not None:
            query["from"] = start
        if filter is not None:
            query["filter"] = _encode(filter).decode()
        decode = msgspec.json.Decoder(Page).decode
        return await self._call(
            "messages", "GET", f"{_room(room)}/messages", None, decode, user=user, query=query
        )

    async def raw_messages(
        self, room: ChatId, *, start: str | None = None, limit: int = 100, user: PersonId | None = None
    ) -> RawPage:
        """A page of the timeline backwards, from `start` (None: the newest), with each event as its JSON."""
        query: dict[str, str | int] = {"dir": "b", "limit": limit}
        if start is not None:
            query["from"] = start
        decode = msgspec.json.Decoder(RawPage).decode
        return await self._call(
            "messages", "GET", f"{_room(room)}/messages", None, decode, user=user, query=query
        )

    async def typing(
        self, room: ChatId, active: bool, *, milliseconds: int = 30_000, user: PersonId | None = None
    ) -> None:
        """Show that the user types, for so long, or no longer does."""
        path = f"{_room(room)}/typing/{quoted(user or self.bot)}"
        body: Json = {"typing": True, "timeout": milliseconds} if active else {"typing": False}
        await self._call("typing", "PUT", path, body, json_object, user=user)

    async def receipt(
        self, room: ChatId, event: MessageId, *, kind: str = "m.read", user: PersonId | None = None
    ) -> None:
        """Show that the user has read up to `event`."""
        path = f"{_room(room)}/receipt/{quoted(kind)}/{quoted(event)}"
        await self._call("receipt", "POST", path, {}, json_object, user=user)

    # people

    async def register(self, localpart: str) -> None:
        """Make a user of our namespace; that it exists already is success."""
        body = {"type": "m.login.application_service", "username": localpart, "inhibit_login": True}
        try:
            await self._call("register", "POST", f"{CS}/register", body, json_object)
        except MatrixRefused as error:
            if error.errcode != "M_USER_IN_USE":
                raise

    async def deactivate(self, *, user: PersonId) -> None:
        """End one of our users for good: they leave their rooms, and their profile is removed. An appservice needs
        no password for its own (Synapse; elsewhere it may be refused)."""
        body = {"erase": True}
        await self._call(
            "deactivate",
            "POST",
            f"{CS}/account/deactivate",
            body,
            json_object,
            user=user,
            timeout=SLOW_SECONDS,
        )

    async def remove_media_of(self, user: PersonId) -> int:
        """Delete all files that the user has uploaded; how many those were. Synapse's admin API: MatrixForbidden
        unless the bot is one of its admins, MatrixRefused (404) on other homeservers."""
        path = f"/_synapse/admin/v1/users/{quoted(user)}/media"
        answer = await self._call("remove_media", "DELETE", path, None, json_object, timeout=SLOW_SECONDS)
        total = answer.get("total")
        return total if isinstance(total, int) else 0

    async def set_displayname(self, name: str, *, user: PersonId | None = None) -> None:
        """Change the user's name; empty takes it away."""
        path = f"{CS}/profile/{quoted(user or self.bot)}/displayname"
        await self._call("profile", "PUT", path, {"displayname": name}, json_object, user=user)

    async def set_avatar_url(self, mxc: str, *, user: PersonId | None = None) -> None:
        """Change the user's picture; empty takes it away."""
        path = f"{CS}/profile/{quoted(user or self.bot)}/avatar_url"
        await self._call("profile", "PUT", path, {"avatar_url": mxc}, json_object, user=user)

    async def profile(self, person: PersonId, *, user: PersonId | None = None) -> Json | None:
        """A person's `displayname` and `avatar_url`, where set; None where nobody is called so."""
        return await none_if_missing(
            self._call(
                "profile",
                "GET",
                f"{CS}/profile/{quoted(person)}",
                None,
                json_object,
                user=user,
                federates=True,
            )
        )

    # rooms

    async def create_room(self, *, user: PersonId | None = None, **options: Any) -> ChatId:
        """Make a room; `options` are the keys of the spec's POST /createRoom."""
        answer = await self._call(
            "create_room",
            "POST",
            f"{CS}/createRoom",
            options,
            _room_id,
            user=user,
            timeout=SLOW_SECONDS,
            once=True,
        )
        return answer.room_id

    async def join(
        self, room: ChatId | str, *, via: Iterable[str] = (), reason: str = "", user: PersonId | None = None
    ) -> ChatId:
        """Join a room by id or alias; `via` are servers that know it. Being there already is success."""
        servers = list(via)
        query = {"via": servers, "server_name": servers} if servers else None  # server_name: before v1.12
        body = _because(reason)
        answer = await self._call(
            "join",
            "POST",
            f"{CS}/join/{quoted(room)}",
            body,
            _room_id,
            user=user,
            query=query,
            timeout=SLOW_SECONDS,
            federates=True,
        )
        return answer.room_id

    async def invite(
        self, room: ChatId, person: PersonId, *, reason: str = "", user: PersonId | None = None
    ) -> None:
        """Ask a person in."""
        await self._about(room, "invite", person, reason, user)

    async def kick(
        self, room: ChatId, person: PersonId, *, reason: str = "", user: PersonId | None = None
    ) -> None:
        """Put a person out, or take an invitation back."""
        await self._about(room, "kick", person, reason, user)

    async def ban(
        self, room: ChatId, person: PersonId, *, reason: str = "", user: PersonId | None = None
    ) -> None:
        """Put a person out for good."""
        await self._about(room, "ban", person, reason, user)

    async def unban(
        self, room: ChatId, person: PersonId, *, reason: str = "", user: PersonId | None = None
    ) -> None:
        """Let a person come back."""
        await self._about(room, "unban", person, reason, user)

    async def leave(self, room: ChatId, *, reason: str = "", user: PersonId | None = None) -> None:
        """Leave, or decline an invitation."""
        body = _because(reason)
        await self._call(
            "leave",
            "POST",
            f"{_room(room)}/leave",
            body,
            json_object,
            user=user,
            timeout=SLOW_SECONDS,
            federates=True,
        )

    async def forget(self, room: ChatId, *, user: PersonId | None = None) -> None:
        """Forget a room that was left."""
        await self._call("forget", "POST", f"{_room(room)}/forget", {}, json_object, user=user)

    async def joined_rooms(self, *, user: PersonId | None = None) -> list[ChatId]:
        """The rooms that the user is in."""
        decode = msgspec.json.Decoder(shapes.JoinedRooms).decode
        return (
            await self._call("joined_rooms", "GET", f"{CS}/joined_rooms", None, decode, user=user)
        ).joined_rooms

    async def joined_members(
        self, room: ChatId, *, user: PersonId | None = None
    ) -> dict[PersonId, dict[str, str | None]]:
        """Who is in the room, each with `display_name` and `avatar_url`, where set."""
        decode = msgspec.json.Decoder(shapes.JoinedMembers).decode
        return (
            await self._call("members", "GET", f"{_room(room)}/joined_members", None, decode, user=user)
        ).joined

    async def members(
        self, room: ChatId, *, membership: str | None = None, user: PersonId | None = None
    ) -> list[Json]:
        """The room's m.room.member events, or those with one membership."""
        query = {"membership": membership} if membership else None
        decode = msgspec.json.Decoder(shapes.Chunk).decode
        return (
            await self._call("members", "GET", f"{_room(room)}/members", None, decode, user=user, query=query)
        ).chunk

    async def put_state(
        self,
        room: ChatId,
        type: str,
        content: Mapping[str, Any],
        *,
        state_key: str = "",
        user: PersonId | None = None,
    ) -> MessageId:
        """Set one piece of the room's state; returns the event's id."""
        return (
            await self._call(
                "state", "PUT", _state(room, type, state_key), content, _event_id, user=user, room=room
            )
        ).event_id

    async def state(
        self, room: ChatId, type: str, state_key: str = "", *, user: PersonId | None = None
    ) -> Json | None:
        """The content of one piece of the room's state; None where there is none."""
        return await none_if_missing(
            self._call("state", "GET", _state(room, type, state_key), None, json_object, user=user)
        )

    async def room_state(self, room: ChatId, *, user: PersonId | None = None) -> list[Json]:
        """Every state event of the room."""
        return await self._call("room_state", "GET", f"{_room(room)}/state", None, _objects, user=user)

    async def creators(self, room: ChatId, *, user: PersonId | None = None) -> frozenset[str]:
        """Who stands above all power levels: from room version 12 on (MSC4289) those who made the room."""
        return (await self.created(room, user=user))[1]

    async def created(self, room: ChatId, *, user: PersonId | None = None) -> tuple[str, frozenset[str]]:
        """The room's version, "1" where none is told, and who stands above all its power levels."""
        path, query = _state(room, "m.room.create", ""), {"format": "event"}
        found = await none_if_missing(
            self._call("state", "GET", path, None, json_object, user=user, query=query)
        )
        content = found.get("content") if found is not None else None
        if found is None or not isinstance(content, dict):
            return "1", frozenset()
        version = content.get("room_version")
        if not _counts_creators(version):
            return version if isinstance(version, str) else "1", frozenset()
        more = content.get("additional_creators")
        makers = [found.get("sender"), *(more if isinstance(more, list) else [])]
        return str(version), frozenset(str(one) for one in makers)

    async def successor(self, room: ChatId, *, user: PersonId | None = None) -> ChatId | None:
        """The room that replaced this one (m.room.tombstone), if it was upgraded."""
        content = await self.state(room, "m.room.tombstone", user=user)
        target = (content or {}).get("replacement_room")
        return ChatId(target) if isinstance(target, str) and target else None

    async def replacer(self, room: ChatId, *, user: PersonId | None = None) -> PersonId | None:
        """Who replaced this room by another (the sender of m.room.tombstone), if it was."""
        path, query = _state(room, "m.room.tombstone", ""), {"format": "event"}
        found = await none_if_missing(
            self._call("state", "GET", path, None, json_object, user=user, query=query)
        )
        sender = (found or {}).get("sender")
        return PersonId(sender) if isinstance(sender, str) else None

    async def predecessor(self, room: ChatId, *, user: PersonId | None = None) -> ChatId | None:
        """The room that this one replaced (m.room.create), if any."""
        before = ((await self.state(room, "m.room.create", user=user)) or {}).get("predecessor")
        target = before.get("room_id") if isinstance(before, dict) else None
        return ChatId(target) if isinstance(target, str) and target else None

    # the directory

    async def resolve_alias(
        self, alias: str, *, user: PersonId | None = None
    ) -> tuple[ChatId, list[str]] | None:
        """The room behind an alias and the servers that know it; None where there is none."""
        decode = msgspec.json.Decoder(shapes.Alias).decode
        found = await none_if_missing(
            self._call("alias", "GET", _alias(alias), None, decode, user=user, federates=True)
        )
        return None if found is None else (found.room_id, found.servers)

    async def aliases(self, room: ChatId, *, user: PersonId | None = None) -> list[str]:
        """The room's aliases on this homeserver; for its members, and for everybody where all may read it."""
        decode = msgspec.json.Decoder(shapes.Aliases).decode
        return (await self._call("aliases", "GET", f"{_room(room)}/aliases", None, decode, user=user)).aliases

    async def put_alias(self, alias: str, room: ChatId, *, user: PersonId | None = None) -> None:
        """Point a new alias at the room."""
        await self._call("alias", "PUT", _alias(alias), {"room_id": room}, json_object, user=user)

    async def delete_alias(self, alias: str, *, user: PersonId | None = None) -> None:
        """Remove an alias; that there is none is success."""
        await none_if_missing(self._call("alias", "DELETE", _alias(alias), None, json_object, user=user))

    async def set_directory_visibility(
        self, room: ChatId, public: bool, *, user: PersonId | None = None
    ) -> None:
        """List the room in the homeserver's public directory, or no longer."""
        body = {"visibility": "public" if public else "private"}
        await self._call(
            "directory", "PUT", f"{CS}/directory/list/room/{quoted(room)}", body, json_object, user=user
        )

    async def directory_visibility(self, room: ChatId, *, user: PersonId | None = None) -> bool:
        """Whether the room is listed in the homeserver's public directory."""
        found = await self._call(
            "directory", "GET", f"{CS}/directory/list/room/{quoted(room)}", None, json_object, user=user
        )
        return found.get("visibility") == "public"

    # within

    async def _about(
        self, room: ChatId, verb: str, person: PersonId, reason: str, user: PersonId | None
    ) -> None:
        body = {"user_id": person, **_because(reason)}
        await self._call(verb, "POST", f"{_room(room)}/{verb}", body, json_object, user=user, federates=True)

    async def _call(
        self,
        call: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        decode: Callable[[bytes], T],
        *,
        user: PersonId | None = None,
        query: Mapping[str, Any] | None = None,
        timeout: float = SECONDS,
        once: bool = False,
        federates: bool = False,
        room: ChatId | None = None,
    ) -> T:
        return await self.homeserver.request(
            method,
            path,
            decode=decode,
            body=None if body is None else _encode(body),
            user=user,
            query=query,
            timeout=timeout,
            patient=self._patient,
            repeatable=not once,
            federates=federates,
            call=call,
            room=room,
        )


def _room(room: ChatId) -> str:
    return f"{CS}/rooms/{quoted(room)}"


def _because(reason: str) -> Json:
    if len(reason) > MOST_REASON:
        reason = reason[: MOST_REASON - 1] + "…"
    return {"reason": reason} if reason else {}


def _counts_creators(version: object) -> bool:
    return isinstance(version, str) and (not version.isdecimal() or int(version) >= 12)


def _state(room: ChatId, type: str, state_key: str) -> str:
    return f"{_room(room)}/state/{quoted(type)}/{quoted(state_key)}"


def _alias(alias: str) -> str:
    return f"{CS}/directory/room/{quoted(alias)}"


async def none_if_missing(answer: Awaitable[T]) -> T | None:
    """The answer, None where there is no such thing."""
    try:
        return await answer
    except MatrixRefused as error:
        if error.status == 404 and error.errcode != "M_UNRECOGNIZED":
            return None
        raise
