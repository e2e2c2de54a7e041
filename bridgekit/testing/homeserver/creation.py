"""What a new room starts with: the state events of createRoom and of a room upgrade, in order (pure)."""

from collections.abc import Iterator
from typing import NamedTuple

from bridgekit.testing.homeserver.events import strings
from bridgekit.testing.homeserver.refusals import Json, Refused, bad_json, invalid
from bridgekit.testing.homeserver.rooms import Room

DEFAULT_VERSION = "10"
KNOWN_VERSIONS = tuple(str(number) for number in range(1, 13))

# Client-Server API, POST /createRoom, "preset": join rule, history visibility, guest access.
_PRESETS = {
    "private_chat": ("invite", "shared", "can_join"),
    "trusted_private_chat": ("invite", "shared", "can_join"),
    "public_chat": ("public", "shared", "forbidden"),
}

# Client-Server API, "m.room.tombstone / Server behaviour": what an upgrade carries over.
_CARRIED = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.power_levels",
)


class Initial(NamedTuple):
    """One state event to put into a new room."""

    type: str
    state_key: str
    content: Json


def version_of(options: Json) -> str:
    """Return the room version that createRoom asks for; raise `Refused` 400 for one that nobody knows."""
    version = options.get("room_version", DEFAULT_VERSION)
    if not isinstance(version, str):
        raise bad_json("room_version must be a string")
    if version not in KNOWN_VERSIONS:
        raise Refused(400, "M_UNSUPPORTED_ROOM_VERSION", "Your homeserver does not support this room version")
    return version


def first_state(creator: str, options: Json, *, alias: str | None, member: Json) -> Iterator[Initial]:
    """Yield the state of a new room in the order of the specification; invitations are not among it.

    `options` is the body of POST /createRoom, `member` the content of the creator's join.
    Raise `Refused` 400 for an unknown preset or version and for malformed initial state.
    """
    version = version_of(options)
    public = options.get("visibility") == "public"
    preset = options.get("preset") or ("public_chat" if public else "private_chat")
    if not isinstance(preset, str) or preset not in _PRESETS:
        raise invalid(f"'{preset}' is not a valid preset")
    join_rule, history, guests = _PRESETS[preset]
    creation = {**(options.get("creation_content") or {}), "room_version": version}
    if int(version) < 11:
        creation["creator"] = creator  # room version 11 dropped it (MSC2175)
    yield Initial("m.room.create", "", creation)
    yield Initial("m.room.member", creator, member)

    supreme = int(version) >= 12
    trusted = strings(options.get("invite")) if preset == "trusted_private_chat" else []
    users = dict.fromkeys(trusted, 100) if supreme else dict.fromkeys([creator, *trusted], 100)
    levels: Json = {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50,
            "m.room.avatar": 50,
            "m.room.tombstone": 150 if supreme else 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 50 if preset == "public_chat" else 0,
        "historical": 100,
    }
    levels.update(options.get("power_level_content_override") or {})
    if supreme and creator in levels["users"]:  # MSC4289
        raise Refused(400, "M_UNKNOWN", f"Creator user {creator} must not appear in content.users.")
    given = list(_initial_state(options))
    overridden = {(event.type, event.state_key) for event in given}
    defaults = [Initial("m.room.power_levels", "", levels)]
    if alias is not None:
        defaults.append(Initial("m.room.canonical_alias", "", {"alias": alias}))
    defaults += [
        Initial("m.room.join_rules", "", {"join_rule": join_rule}),
        Initial("m.room.history_visibility", "", {"history_visibility": history}),
        Initial("m.room.guest_access", "", {"guest_access": guests}),
    ]
    yield from (event for event in defaults if (event.type, event.state_key) not in overridden)
    yield from given
    for field in ("name", "topic"):
        if isinstance(options.get(field), str):
            yield Initial(f"m.room.{field}", "", {field: options[field]})


def upgraded_state(old: Room, creator: str, version: str, tombstone: str) -> Json:
    """Return the createRoom body of the room that replaces `old`; `tombstone` is the last event id there."""
    inherited = old.content("m.room.create")
    create = {key: value for key, value in inherited.items() if key not in ("creator", "room_version")}
    create["predecessor"] = {"room_id": old.room_id, "event_id": tombstone}
    state: list[Json] = []
    for type in _CARRIED:
        event = old.state.get((type, ""))
        if event is None:
            continue
        content = event.content
        if type == "m.room.power_levels" and int(version) >= 12:
            users = content.get("users")
            users = users if isinstance(users, dict) else {}
            content = {**content, "users": {user: level for user, level in users.items() if user != creator}}
        state.append({"type": type, "state_key": "", "content": content})
    state += [
        {"type": "m.room.member", "state_key": user, "content": {"membership": "ban"}}
        for user, membership in old.members.items()
        if membership == "ban"
    ]
    return {"room_version": version, "creation_content": create, "initial_state": state}


def _initial_state(options: Json) -> Iterator[Initial]:
    for event in options.get("initial_state") or ():
        match event:
            case {"type": "m.room.create"}:
                raise bad_json("m.room.create belongs into creation_content")
            case {"type": "m.room.member", "content": {"membership": "ban"}, "state_key": str() as user}:
                yield Initial("m.room.member", user, event["content"])
            case {"type": "m.room.member"}:
                raise bad_json("of memberships, initial_state takes bans only")
            case {"type": str() as type, "content": dict() as content}:
                yield Initial(type, str(event.get("state_key", "")), content)
            case _:
                raise bad_json("initial_state needs events with a type and content")
