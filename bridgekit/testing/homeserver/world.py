"""Everything that the fake homeserver remembers: users, rooms, aliases; and what changes it."""

from collections.abc import Callable
from typing import Any, Protocol

from bridgekit.testing.homeserver.creation import first_state, upgraded_state, version_of
from bridgekit.testing.homeserver.events import Event, encode, strings
from bridgekit.testing.homeserver.refusals import Json, Refused, bad_json, forbidden, not_found
from bridgekit.testing.homeserver.registration import Registration
from bridgekit.testing.homeserver.rooms import Room, with_unsigned


class Watcher(Protocol):
    """Who wants to hear of everything that happens; both calls must return at once."""

    def on_event(self, room: Room, event: Event, encoded: bytes) -> None:
        """An event was accepted into a room; `encoded` is its JSON."""

    def on_ephemeral(self, room: Room, edu: Json) -> None:
        """Somebody types or has read; `edu` is what goes into a transaction's `ephemeral`."""


class World:
    """The homeserver's mind, without HTTP. Every method is synchronous and takes effect at once.

    `wall` returns milliseconds since the epoch, `monotonic` seconds of a clock that all processes share.
    Methods raise `Refused` where a homeserver would answer with an error.
    """

    def __init__(
        self,
        server: str,
        registrations: list[Registration],
        *,
        wall: Callable[[], int],
        monotonic: Callable[[], float],
        salt: str = "",
    ) -> None:
        self.server = server
        self.registrations = registrations
        self.rooms: dict[str, Room] = {}
        self.aliases: dict[str, str] = {}
        self.alias_owners: dict[str, str] = {}
        self.profiles: dict[str, Json] = {}
        self.deactivated: set[str] = set()
        self.joined_by: dict[str, dict[str, None]] = {}
        self.stream: list[Event] = []
        self.arrived: list[float] = []
        self.watchers: list[Watcher] = []
        self._wall = wall
        self._monotonic = monotonic
        self._salt = (salt + "bridgekitfakehomeserver0123456789ABCDEF")[:35]
        self._made = 0

    # Names

    def user_id(self, name: str) -> str:
        """Return `@name:server`, or `name` itself where it is a full id already."""
        return name if name.startswith("@") else f"@{name}:{self.server}"

    def is_local(self, user: str) -> bool:
        """Does the id belong to this homeserver?"""
        return user.endswith(f":{self.server}")

    def room(self, room_id: str) -> Room:
        """Return the room; raise `Refused` 404 where there is none."""
        room = self.rooms.get(room_id)
        if room is None:
            raise not_found(f"Unknown room {room_id}")
        return room

    def resolve(self, room_or_alias: str) -> Room:
        """Return the room of an id or an alias; raise `Refused` 404 where there is none."""
        if room_or_alias.startswith("#"):
            room_id = self.aliases.get(room_or_alias)
            if room_id is None:
                raise not_found(f"Room alias {room_or_alias} not found")
            return self.rooms[room_id]
        return self.room(room_or_alias)

    def register(self, user: str) -> None:
        """Create an account; raise `Refused` 400 M_USER_IN_USE where it exists."""
        if user in self.profiles:
            raise Refused(400, "M_USER_IN_USE", "User ID already taken.")
        self.profiles[user] = {"displayname": user[1:].partition(":")[0]}

    def deactivate(self, user: str) -> None:
        """End an account: it leaves its rooms, has no profile, and can be used by nobody any more."""
        for room_id in list(self.joined_by.get(user, ())):
            self._commit_member(self.rooms[room_id], user, user, {"membership": "leave"})
        self.profiles[user] = {}
        self.deactivated.add(user)

    def _token(self) -> str:
        self._made += 1
        return f"{self._made:08x}{self._salt}"

    # Events

    def commit(
        self,
        room: Room,
        sender: str,
        type: str,
        content: Json,
        *,
        state_key: str | None = None,
        redacts: str | None = None,
        ts: int | None = None,
    ) -> Event:
        """Accept an event that has been authorised. Raise `Refused` 413 if it is too large.

        `ts` (milliseconds) replaces the clock: timestamp massaging (Application Service API).
        """
        self._made += 1
        event = Event(
            event_id=f"${self._made:08x}{self._salt}",
            type=type,
            room_id=room.room_id,
            sender=sender,
            content=content,
            origin_server_ts=self._wall() if ts is None else ts,
            state_key=state_key,
            redacts=redacts,
        )
        encoded = encode(event)
        room.append(event)
        self.stream.append(event)
        self.arrived.append(self._monotonic())
        for watcher in self.watchers:
            watcher.on_event(room, event, encoded)
        return event

    def send(self, sender: str, room_id: str, type: str, content: Json, ts: int | None = None) -> Event:
        """Send a message-like event."""
        room = self.room(room_id)
        room.check_send(sender, type)
        if type == "m.room.redaction":
            raise forbidden("Redactions are sent through /redact")
        return self.commit(room, sender, type, content, ts=ts)

    def redact(
        self, sender: str, room_id: str, event_id: str, content: Json | None = None, ts: int | None = None
    ) -> Event:
        """Redact an event; `content` may hold the reason."""
        room = self.room(room_id)
        room.check_joined(sender)
        target = room.event(event_id)
        room.check_redact(sender, target)
        # The key stands in the content since room version 11, and clients of either kind look in both places.
        content = {**(content or {}), "redacts": event_id}
        return self.commit(room, sender, "m.room.redaction", content, redacts=event_id, ts=ts)

    def put_state(
        self, sender: str, room_id: str, type: str, state_key: str, content: Json, ts: int | None = None
    ) -> Event:
        """Set a state event. The same content again makes no new event, as in Synapse."""
        room = self.room(room_id)
        if type == "m.room.member":
            return self.set_membership(sender, room_id, state_key, content, ts=ts)
        room.check_state(sender, type, state_key, content)
        before = room.state.get((type, state_key))
        if before is not None and before.content == content and before.sender == sender:
            return before
        if type == "m.room.canonical_alias":
            self._check_canonical(room, content)
        return self.commit(room, sender, type, content, state_key=state_key, ts=ts)

    def _check_canonical(self, room: Room, content: Json) -> None:
        for alias in strings([content.get("alias")]) + strings(content.get("alt_aliases")):
            if alias.endswith(f":{self.server}") and self.aliases.get(alias) != room.room_id:
                raise Refused(400, "M_BAD_ALIAS", f"Room alias {alias} does not point to the room")

    # Membership

    def set_membership(
        self, sender: str, room_id: str, target: str, content: Json, *, ts: int | None = None
    ) -> Event:
        """Change `target`'s membership to `content["membership"]`; a join or invite gets the profile keys."""
        room = self.room(room_id)
        wanted = content.get("membership")
        now = room.members.get(target)
        if wanted == "join":
            if sender != target:
                raise forbidden("Cannot force another user to join.")
            room.check_join(target, self._is_joined)
        elif wanted == "invite":
            room.check_invite(sender, target)
        elif wanted == "ban":
            room.check_ban(sender, target)
        elif wanted == "leave" and sender == target:
            room.check_leave(target)
        elif wanted == "leave" and now == "ban":
            room.check_unban(sender, target)
        elif wanted == "leave":
            room.check_kick(sender, target)
        else:
            raise bad_json(f"Unknown membership {wanted!r}")
        if wanted in ("join", "invite"):
            content = {**self._profile_keys(target), **content}
        before = room.state.get(("m.room.member", target))
        if before is not None and before.content == content and wanted != "invite":
            return before
        return self._commit_member(room, sender, target, content, ts)

    def _commit_member(
        self, room: Room, sender: str, target: str, content: Json, ts: int | None = None
    ) -> Event:
        event = self.commit(room, sender, "m.room.member", content, state_key=target, ts=ts)
        rooms = self.joined_by.setdefault(target, {})
        if content["membership"] == "join":
            rooms[room.room_id] = None
        else:
            rooms.pop(room.room_id, None)
        return event

    def _is_joined(self, user: str, room_id: str) -> bool:
        return room_id in self.rooms and user in self.rooms[room_id].joined

    def _profile_keys(self, user: str) -> Json:
        profile = self.profiles.get(user, {})
        return {key: profile[key] for key in ("displayname", "avatar_url") if profile.get(key) is not None}

    def forget(self, user: str, room_id: str) -> None:
        """Forget a room that one has left; raise `Refused` 400 while one is in it."""
        room = self.room(room_id)
        if room.members.get(user) in ("join", "invite"):
            raise Refused(400, "M_UNKNOWN", f"User {user} is in room {room_id}")
        room.forgotten.add(user)

    def set_profile(self, user: str, field: str, value: Any) -> None:
        """Change a profile; a new name or avatar shows in every joined room, as one member event each."""
        profile = self.profiles.setdefault(user, {})
        if profile.get(field) == value:
            return
        if value is None:
            profile.pop(field, None)
        else:
            profile[field] = value
        if field not in ("displayname", "avatar_url"):
            return
        for room_id in list(self.joined_by.get(user, ())):
            self._commit_member(
                self.rooms[room_id], user, user, {**self._profile_keys(user), "membership": "join"}
            )

    # Rooms and aliases

    def create_room(self, creator: str, options: Json) -> Room:
        """Make a room from a body of POST /createRoom; its alias must be free (400 M_ROOM_IN_USE)."""
        version = version_of(options)
        local = options.get("room_alias_name")
        alias = None if not local else f"#{local}:{self.server}"
        if alias is not None and alias in self.aliases:
            raise Refused(400, "M_ROOM_IN_USE", f"Room alias {alias} already taken")
        member = {**self._profile_keys(creator), "membership": "join"}
        initial = list(first_state(creator, options, alias=alias, member=member))
        # Room version 12: the id is the hash of the create event and names no server (MSC4291).
        room_id = f"!{self._token()}" if int(version) >= 12 else f"!{self._token()[:18]}:{self.server}"
        room = self.rooms[room_id] = Room(room_id, version)
        if alias is not None:
            self.add_alias(creator, alias, room_id)
        for type, state_key, content in initial:
            if type == "m.room.member":
                self._commit_member(room, creator, state_key, content)
            else:
                self.commit(room, creator, type, content, state_key=state_key)
        room.published = options.get("visibility") == "public"
        direct = {"is_direct": True} if options.get("is_direct") else {}
        for target in strings(options.get("invite")):
            self.set_membership(creator, room_id, target, {"membership": "invite", **direct})
        return room

    def upgrade(self, user: str, room_id: str, version: str) -> Room:
        """Replace a room: a new one with the old one's state and aliases, a tombstone in the old one."""
        old = self.room(room_id)
        version_of({"room_version": version})
        old.check_state(user, "m.room.tombstone", "", {})
        options = upgraded_state(old, user, version, old.timeline[-1].event_id)
        new = self.create_room(user, options)
        new.published, old.published = old.published, False
        self.commit(
            old,
            user,
            "m.room.tombstone",
            {"body": "This room has been replaced", "replacement_room": new.room_id},
            state_key="",
        )
        for alias in list(old.aliases):
            self.aliases[alias] = new.room_id
            new.aliases.append(alias)
        old.aliases.clear()
        old.changes += 1
        new.changes += 1
        levels = old.content("m.room.power_levels")
        closed = max(50, old.power.users_default + 1)
        if levels:
            quiet = {**levels, "events_default": closed, "invite": closed}
            self.commit(old, user, "m.room.power_levels", quiet, state_key="")
        return new

    def add_alias(self, owner: str, alias: str, room_id: str) -> None:
        """Point an alias at a room; raise `Refused` 409 where it points somewhere already."""
        if alias in self.aliases:
            raise Refused(409, "M_UNKNOWN", f"Room alias {alias} already exists")
        room = self.room(room_id)
        self.aliases[alias] = room_id
        self.alias_owners[alias] = owner
        room.aliases.append(alias)
        room.changes += 1

    def remove_alias(self, alias: str) -> None:
        """Take an alias away; raise `Refused` 404 where there is none."""
        room = self.resolve(alias)
        del self.aliases[alias]
        room.aliases.remove(alias)
        room.changes += 1

    # What does not last

    def set_typing(self, user: str, room_id: str, typing: bool) -> None:
        """Start or stop typing; the room hears the whole list."""
        room = self.room(room_id)
        room.check_joined(user)
        if typing == (user in room.typing):
            return
        if typing:
            room.typing[user] = None
        else:
            del room.typing[user]
        content = {"user_ids": list(room.typing)}
        self._tell(room, {"type": "m.typing", "room_id": room_id, "content": content})

    def set_receipt(
        self, user: str, room_id: str, type: str, event_id: str, thread: str | None = None
    ) -> None:
        """Mark an event as read (`m.read`); a private receipt is kept and told to nobody."""
        room = self.room(room_id)
        room.check_joined(user)
        room.receipts[type, user] = event_id
        if type != "m.read":
            return
        mark: Json = {"ts": self._wall(), **({"thread_id": thread} if thread else {})}
        content = {event_id: {"m.read": {user: mark}}}
        self._tell(room, {"type": "m.receipt", "room_id": room_id, "content": content})

    def _tell(self, room: Room, edu: Json) -> None:
        for watcher in self.watchers:
            watcher.on_ephemeral(room, edu)


def for_invited(room: Room, event: Event) -> bytes:
    """Return an invitation's JSON with the stripped state that Synapse adds for an appservice's own users."""
    return encode(with_unsigned(event, invite_room_state=room.stripped_state()))
