"""People of the fake homeserver, driven by a test: what a user does in a client, as one call each."""

from typing import Any

from bridgekit.testing.homeserver.acts import Acts
from bridgekit.testing.homeserver.refusals import Json


class Human:
    """A local user. `room` is an id or an alias everywhere.

    What a client could not do raises `Refused`. Calls that make an event return its id. `id` is the full user id;
    `token` opens the client-server API as this user. On a remote homeserver the account is made by `ready` or
    by the first act, on one in this process it is there at once.
    """

    def __init__(self, acts: Acts, name: str, server: str) -> None:
        self._acts = acts
        self._server = server
        self._has_account = False
        self.id = self._full(name)
        self.token = f"token_of_{self.id}"

    async def ready(self) -> "Human":
        """Make the account if it is not there yet; return the person."""
        if not self._has_account:
            await self._acts.account(self.id, self.token)
            self._has_account = True
        return self

    # Rooms

    async def create_room(self, **options: Any) -> str:
        """Make a room from the fields of POST /createRoom; return its id."""
        await self.ready()
        return await self._acts.create_room(self.id, options)

    async def join(self, room: str) -> str:
        """Join; an unknown alias is asked of its appservice first. Return the room id."""
        await self.ready()
        return await self._acts.join(self.id, room)

    async def leave(self, room: str) -> str:
        """Leave, or turn an invitation down."""
        return await self._member(room, self.id, "leave")

    async def invite(self, room: str, user: str, *, is_direct: bool = False) -> str:
        """Invite somebody by id, or by the name of a local user."""
        return await self._member(room, user, "invite", **({"is_direct": True} if is_direct else {}))

    async def kick(self, room: str, user: str, reason: str | None = None) -> str:
        """Throw somebody out."""
        await self.ready()
        return await self._acts.kick(self.id, room, self._full(user), _reason(reason))

    async def ban(self, room: str, user: str, reason: str | None = None) -> str:
        """Ban somebody."""
        return await self._member(room, user, "ban", **_reason(reason))

    async def unban(self, room: str, user: str) -> str:
        """Lift a ban."""
        return await self._member(room, user, "leave")

    async def set_state(self, room: str, type: str, content: Json, state_key: str = "") -> str:
        """Set any state event."""
        await self.ready()
        return await self._acts.put_state(self.id, room, type, state_key, content)

    async def set_topic(self, room: str, topic: str) -> str:
        """Set the topic."""
        return await self.set_state(room, "m.room.topic", {"topic": topic})

    async def set_name(self, room: str, name: str) -> str:
        """Set the room's name."""
        return await self.set_state(room, "m.room.name", {"name": name})

    async def set_power(self, room: str, user: str, level: int) -> str:
        """Give somebody a power level."""
        levels = await self._acts.get_state(room, "m.room.power_levels", "")
        users = {**(levels.get("users") or {}), self._full(user): level}
        return await self.set_state(room, "m.room.power_levels", {**levels, "users": users})

    async def upgrade(self, room: str, version: str) -> str:
        """Upgrade a room; return the new room's id."""
        await self.ready()
        return await self._acts.upgrade(self.id, room, version)

    # Messages

    async def send(self, room: str, content: Json | str, type: str = "m.room.message") -> str:
        """Send a content, or plain text as m.text."""
        await self.ready()
        return await self._acts.send(self.id, room, type, _content(content))

    async def edit(self, room: str, event_id: str, content: Json | str) -> str:
        """Replace one's message (m.replace), with the customary `* ` fallback."""
        new = _content(content)
        relation = {"rel_type": "m.replace", "event_id": event_id}
        fallback = {**new, "body": f"* {new.get('body', '')}"}
        return await self.send(room, {**fallback, "m.new_content": new, "m.relates_to": relation})

    async def reply(self, room: str, event_id: str, content: Json | str) -> str:
        """Answer a message (m.in_reply_to)."""
        relation = {"m.in_reply_to": {"event_id": event_id}}
        return await self.send(room, {**_content(content), "m.relates_to": relation})

    async def react(self, room: str, event_id: str, key: str) -> str:
        """React to a message (m.annotation)."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.send(room, {"m.relates_to": relation}, "m.reaction")

    async def redact(self, room: str, event_id: str, reason: str | None = None) -> str:
        """Redact an event."""
        await self.ready()
        return await self._acts.redact(self.id, room, event_id, _reason(reason))

    async def upload(self, content: bytes, *, name: str | None = None, mimetype: str = "image/png") -> str:
        """Upload a file; return its mxc URI."""
        await self.ready()
        return await self._acts.upload(self.id, content, mimetype, name)

    async def send_file(
        self, room: str, content: bytes, *, name: str, mimetype: str, msgtype: str = "m.image"
    ) -> str:
        """Upload a file and send it."""
        url = await self.upload(content, name=name, mimetype=mimetype)
        info = {"mimetype": mimetype, "size": len(content)}
        return await self.send(room, {"msgtype": msgtype, "body": name, "url": url, "info": info})

    # What does not last

    async def typing(self, room: str, typing: bool = True, seconds: float = 30.0) -> None:
        """Start or stop typing."""
        await self.ready()
        await self._acts.typing(self.id, room, typing, seconds)

    async def read(self, room: str, event_id: str) -> None:
        """Read up to an event (m.read)."""
        await self.ready()
        await self._acts.read(self.id, room, event_id)

    async def set_displayname(self, name: str) -> None:
        """Change one's name, in every room."""
        await self.ready()
        await self._acts.set_profile(self.id, "displayname", name)

    async def _member(self, room: str, user: str, membership: str, **more: Any) -> str:
        await self.ready()
        content = {"membership": membership, **more}
        return await self._acts.set_membership(self.id, room, self._full(user), content)

    def _full(self, name: str) -> str:
        return name if name.startswith("@") else f"@{name}:{self._server}"


def _content(content: Json | str) -> Json:
    return {"msgtype": "m.text", "body": content} if isinstance(content, str) else content


def _reason(reason: str | None) -> Json:
    return {} if reason is None else {"reason": reason}
