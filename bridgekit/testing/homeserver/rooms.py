"""One room: its state, its timeline, and who may do what in it (pure; ids and times come from outside)."""

from collections.abc import Callable

import msgspec

from bridgekit.testing.homeserver.events import Event, objects, redacted, strings
from bridgekit.testing.homeserver.power import PowerLevels
from bridgekit.testing.homeserver.refusals import Json, Refused, forbidden, not_found


class Room:
    """The state and the timeline of a room, and the authorization rules that guard them.

    `append` never refuses: callers ask the `check_*` methods first, which raise `Refused` 403 M_FORBIDDEN.
    """

    def __init__(self, room_id: str, version: str, aliases: list[str] | None = None) -> None:
        self.room_id = room_id
        self.version = version
        self.timeline: list[Event] = []
        self.state: dict[tuple[str, str], Event] = {}
        self.members: dict[str, str] = {}
        self.joined: dict[str, None] = {}
        self.aliases: list[str] = aliases or []
        self.published = False
        self.forgotten: set[str] = set()
        self.typing: dict[str, None] = {}
        self.receipts: dict[tuple[str, str], str] = {}
        self.changes = 0  # counts changes of membership and aliases, for caches of who is interested
        self._index: dict[str, int] = {}
        self._relations: dict[str, list[str]] = {}
        self._power: PowerLevels | None = None

    # What is there

    @property
    def creators(self) -> frozenset[str]:
        """The sender of m.room.create and, since room version 12, its additional creators."""
        create = self.state.get(("m.room.create", ""))
        if create is None:
            return frozenset()
        additional = create.content.get("additional_creators") if self.supreme_creators else None
        return frozenset({create.sender, *strings(additional)})

    @property
    def supreme_creators(self) -> bool:
        """Do creators stand above every level (MSC4289, room version 12)?"""
        return self.version.isdecimal() and int(self.version) >= 12

    @property
    def power(self) -> PowerLevels:
        """The power levels now."""
        if self._power is None:
            event = self.state.get(("m.room.power_levels", ""))
            creators = self.creators
            self._power = PowerLevels(
                None if event is None else event.content, creators, creators if self.supreme_creators else ()
            )
        return self._power

    def content(self, type: str, state_key: str = "") -> Json:
        """Return the content of a state event, {} where there is none."""
        event = self.state.get((type, state_key))
        return {} if event is None else event.content

    def position(self, event_id: str) -> int:
        """Return the event's place in the timeline; raise `Refused` 404 if it is not in this room."""
        place = self._index.get(event_id)
        if place is None:
            raise not_found("Event not found.")
        return place

    def event(self, event_id: str) -> Event:
        """Return an event as it is now (redacted if it was); raise `Refused` 404 if it is not here."""
        return self.timeline[self.position(event_id)]

    def relations(self, event_id: str, rel_type: str | None = None, type: str | None = None) -> list[Event]:
        """Return the events that relate to `event_id`, oldest first."""
        found = [self.timeline[self._index[child]] for child in self._relations.get(event_id, ())]
        return [
            event
            for event in found
            if (rel_type is None or event.relates_to.get("rel_type") == rel_type)
            and (type is None or event.type == type)
        ]

    # What may be done

    def check_joined(self, user: str) -> None:
        """Only members send."""
        if user not in self.joined:
            raise forbidden(f"User {user} not in room {self.room_id}")

    def check_reader(self, user: str) -> None:
        """Who is or was a member reads, and anybody where the history is world readable."""
        if user in self.joined or self.members.get(user) in ("leave", "ban"):
            return
        if self.content("m.room.history_visibility").get("history_visibility") != "world_readable":
            raise forbidden(f"User {user} not in room {self.room_id}, and room previews are disabled")

    def check_send(self, user: str, type: str) -> None:
        """May `user` send a message-like event of this type?"""
        if user not in self.joined:
            raise forbidden(f"User {user} not in room {self.room_id}")
        power = self.power
        needed = power.to_send(type, state=False)
        if power.of(user) < needed:
            raise _underpowered(power.of(user), needed)

    def check_state(self, user: str, type: str, state_key: str, content: Json) -> None:
        """May `user` put this state event (not m.room.member) into the room?"""
        self.check_joined(user)
        if type == "m.room.create":
            raise forbidden("A room has one m.room.create")
        power = self.power
        needed = power.to_send(type, state=True)
        if power.of(user) < needed:
            raise _underpowered(power.of(user), needed)
        if state_key.startswith("@") and state_key != user:
            raise forbidden("You are not allowed to set others state")
        if type == "m.room.power_levels":
            power.check_change(user, content)

    def check_redact(self, user: str, target: Event) -> None:
        """May `user` redact `target`: one's own needs the send level, another's the redact level too."""
        self.check_send(user, "m.room.redaction")
        if target.sender != user and self.power.of(user) < self.power.to("redact"):
            raise forbidden("You don't have permission to redact events")

    def check_join(self, user: str, joined_elsewhere: Callable[[str, str], bool]) -> None:
        """May `user` join? `joined_elsewhere(user, room_id)` serves restricted rooms (MSC3083)."""
        now = self.members.get(user)
        if now == "ban":
            raise forbidden(f"{user} is banned from the room")
        if now in ("join", "invite"):
            return
        rules = self.content("m.room.join_rules")
        rule = rules.get("join_rule", "invite")
        if rule == "public":
            return
        if rule in ("restricted", "knock_restricted"):
            allowed = [str(entry.get("room_id")) for entry in objects(rules.get("allow"))]
            if any(joined_elsewhere(user, room_id) for room_id in allowed):
                return
        raise forbidden("You are not invited to this room.")

    def check_invite(self, user: str, target: str) -> None:
        """May `user` invite `target`?"""
        self.check_joined(user)
        now = self.members.get(target)
        if now == "ban":
            raise forbidden(f"{target} is banned from the room")
        if now == "join":
            raise forbidden(f"{target} is already in the room.")
        self._check_action(user, "invite")

    def check_leave(self, user: str) -> None:
        """May `user` leave, or turn an invitation down?"""
        if self.members.get(user) not in ("join", "invite", "knock"):
            raise forbidden(f"User {user} not in room {self.room_id}")

    def check_kick(self, user: str, target: str) -> None:
        """May `user` throw `target` out, or take an invitation back?"""
        self.check_joined(user)
        if self.members.get(target) not in ("join", "invite", "knock"):
            raise forbidden("The target user is not in the room")
        self._check_action(user, "kick", target)

    def check_ban(self, user: str, target: str) -> None:
        """May `user` ban `target`?"""
        self.check_joined(user)
        self._check_action(user, "ban", target)

    def check_unban(self, user: str, target: str) -> None:
        """May `user` lift the ban of `target`?"""
        self.check_joined(user)
        if self.members.get(target) != "ban":
            raise forbidden("Cannot unban user who was not banned")
        self._check_action(user, "ban")

    def _check_action(self, user: str, action: str, target: str | None = None) -> None:
        power = self.power
        if power.of(user) < power.to(action):
            raise forbidden(f"You don't have permission to {action} users")
        if target is not None and target != user and power.of(user) <= power.of(target):
            raise forbidden(f"You cannot {action} user {target}.")

    # What happens

    def append(self, event: Event) -> None:
        """Put an authorised event at the end of the timeline and follow what it changes."""
        self._index[event.event_id] = len(self.timeline)
        self.timeline.append(event)
        if event.state_key is not None:
            self._follow_state(event)
        elif event.redacts is not None:
            self._follow_redaction(event)
        relation = event.content.get("m.relates_to")
        if isinstance(relation, dict):
            parent = relation.get("event_id")
            if isinstance(parent, str):
                self._relations.setdefault(parent, []).append(event.event_id)

    def _follow_state(self, event: Event) -> None:
        key = event.state_key
        assert key is not None
        self.state[event.type, key] = event
        if event.type == "m.room.member":
            membership = event.content.get("membership", "leave")
            self.members[key] = membership
            self.changes += 1
            if membership == "join":
                self.joined[key] = None
                self.forgotten.discard(key)
            else:
                self.joined.pop(key, None)
                self.typing.pop(key, None)
        elif event.type in ("m.room.power_levels", "m.room.create"):
            self._power = None

    def _follow_redaction(self, event: Event) -> None:
        place = self._index.get(event.redacts or "")
        if place is None:
            return
        target = self.timeline[place]
        if "redacted_because" in target.unsigned:
            return
        self.timeline[place] = left = redacted(target, event)
        if target.state_key is not None and self.state.get((target.type, target.state_key)) is target:
            self.state[target.type, target.state_key] = left
            if target.type == "m.room.power_levels":
                self._power = None
        parent = target.relates_to.get("event_id")
        if isinstance(parent, str) and target.event_id in self._relations.get(parent, ()):
            self._relations[parent].remove(target.event_id)

    def stripped_state(self) -> list[Json]:
        """Return what an invited user is shown of the room (Client-Server API, "Stripped state")."""
        shown = ("create", "name", "avatar", "topic", "join_rules", "canonical_alias", "encryption")
        found = (self.state.get((f"m.room.{name}", "")) for name in shown)
        return [
            {"type": event.type, "state_key": "", "sender": event.sender, "content": event.content}
            for event in found
            if event is not None
        ]


def with_unsigned(event: Event, **unsigned: object) -> Event:
    """Return the event with more keys in `unsigned`."""
    return msgspec.structs.replace(event, unsigned={**event.unsigned, **unsigned})


def _underpowered(has: float, needs: int) -> Refused:
    return forbidden(
        f"You don't have permission to post that to the room. user_level ({has:g}) < send_level ({needs})"
    )
