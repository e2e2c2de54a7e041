"""The few things that people do, as primitives: what `Human` stands on, in this process or across a wire."""

from typing import Protocol

from bridgekit.testing.homeserver.api.app import App
from bridgekit.testing.homeserver.api.media import Medium
from bridgekit.testing.homeserver.refusals import Json


class Acts(Protocol):
    """Each act is done by a local `user`; `room` is an id or an alias. All raise `Refused`."""

    async def account(self, user: str, token: str) -> None:
        """Make an account if there is none, and let `token` stand for it in the client-server API."""

    async def create_room(self, user: str, options: Json) -> str:
        """Make a room from a createRoom body; return its id."""

    async def join(self, user: str, room: str) -> str:
        """Join; an unknown alias is asked of its appservice. Return the room id."""

    async def set_membership(self, user: str, room: str, target: str, content: Json) -> str:
        """Invite, ban, leave ... `target`; return the event id."""

    async def kick(self, user: str, room: str, target: str, content: Json) -> str:
        """Throw `target` out; return the event id."""

    async def put_state(self, user: str, room: str, type: str, state_key: str, content: Json) -> str:
        """Set a state event; return its id."""

    async def get_state(self, room: str, type: str, state_key: str) -> Json:
        """Return a state event's content, {} where there is none."""

    async def upgrade(self, user: str, room: str, version: str) -> str:
        """Upgrade a room; return the new room's id."""

    async def send(self, user: str, room: str, type: str, content: Json) -> str:
        """Send a message-like event; return its id."""

    async def redact(self, user: str, room: str, event_id: str, content: Json) -> str:
        """Redact an event; return the id of the redaction."""

    async def upload(self, user: str, content: bytes, mimetype: str, name: str | None) -> str:
        """Upload a file; return its mxc URI."""

    async def typing(self, user: str, room: str, typing: bool, seconds: float) -> None:
        """Start or stop typing."""

    async def read(self, user: str, room: str, event_id: str) -> None:
        """Read up to an event (m.read)."""

    async def set_profile(self, user: str, field: str, value: str | None) -> None:
        """Change one's profile, in every room."""


class LocalActs:
    """The acts in this process."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._world = app.world

    async def account(self, user: str, token: str) -> None:
        if user not in self._world.profiles:
            self._world.register(user)
        self._app.give_token(user, token)

    async def create_room(self, user: str, options: Json) -> str:
        return self._world.create_room(user, options).room_id

    async def join(self, user: str, room: str) -> str:
        room_id = await self._app.find_room(room)
        if user not in self._world.room(room_id).joined:
            self._world.set_membership(user, room_id, user, {"membership": "join"})
        return room_id

    async def set_membership(self, user: str, room: str, target: str, content: Json) -> str:
        return self._world.set_membership(user, self._id(room), target, content).event_id

    async def kick(self, user: str, room: str, target: str, content: Json) -> str:
        self._world.resolve(room).check_kick(user, target)
        return await self.set_membership(user, room, target, {**content, "membership": "leave"})

    async def put_state(self, user: str, room: str, type: str, state_key: str, content: Json) -> str:
        return self._world.put_state(user, self._id(room), type, state_key, content).event_id

    async def get_state(self, room: str, type: str, state_key: str) -> Json:
        return self._world.resolve(room).content(type, state_key)

    async def upgrade(self, user: str, room: str, version: str) -> str:
        return self._world.upgrade(user, self._id(room), version).room_id

    async def send(self, user: str, room: str, type: str, content: Json) -> str:
        return self._world.send(user, self._id(room), type, content).event_id

    async def redact(self, user: str, room: str, event_id: str, content: Json) -> str:
        return self._world.redact(user, self._id(room), event_id, content).event_id

    async def upload(self, user: str, content: bytes, mimetype: str, name: str | None) -> str:
        return self._app.media.upload(Medium(content, mimetype, name, user))

    async def typing(self, user: str, room: str, typing: bool, seconds: float) -> None:
        self._app.set_typing(user, self._id(room), typing, seconds)

    async def read(self, user: str, room: str, event_id: str) -> None:
        self._world.set_receipt(user, self._id(room), "m.read", event_id)

    async def set_profile(self, user: str, field: str, value: str | None) -> None:
        self._world.set_profile(user, field, value)

    def _id(self, room: str) -> str:
        return self._world.resolve(room).room_id
