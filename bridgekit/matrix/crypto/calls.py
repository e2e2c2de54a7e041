"""The calls of end-to-end encryption, as one of our users (Client-Server API v1.12, MSC4190)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.calls import CS, json_object
from bridgekit.matrix.crypto import devices
from bridgekit.matrix.transport import Homeserver, quoted, quoted_once

Json = dict[str, Any]
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

AT_ONCE = 50
"""Devices in one sendToDevice: about 100 kB."""
OTHERS_SECONDS = 10_000
"""Milliseconds that the homeserver may wait for others in a query or a claim."""
_DEVICE_ONLY = '{"room":{"rooms":[]},"presence":{"types":[]},"account_data":{"types":[]}}'
NO_DEVICES = (
    "The homeserver does not let the bridge make devices of its own, so it cannot take part in encrypted rooms; "
    "`bridgekit check` says what is missing."
)

NONSENSE = "The homeserver answers a question about keys with something else."


class _Counts(msgspec.Struct):
    one_time_key_counts: dict[str, int] = {}


class _Claimed(msgspec.Struct):
    one_time_keys: dict[PersonId, msgspec.Raw] = {}


class _Device(msgspec.Struct):
    device_id: str


class _Devices(msgspec.Struct):
    devices: list[_Device] = []


class _Membership(msgspec.Struct):
    membership: str = ""


class _Member(msgspec.Struct):
    state_key: PersonId
    content: _Membership


class _Members(msgspec.Struct):
    chunk: list[_Member] = []


class _ToDevice(msgspec.Struct, frozen=True):
    events: list[Json] = []


class _Lists(msgspec.Struct, frozen=True):
    changed: list[PersonId] = []
    left: list[PersonId] = []


class Synced(msgspec.Struct):
    """What /sync says to a device."""

    next_batch: str
    to_device: _ToDevice = _ToDevice()
    device_lists: _Lists = _Lists()
    device_one_time_keys_count: dict[str, int] = {}
    device_unused_fallback_key_types: list[str] = []


_synced = msgspec.json.Decoder(Synced).decode
_counts = msgspec.json.Decoder(_Counts).decode
_devices = msgspec.json.Decoder(_Devices).decode
_claimed = msgspec.json.Decoder(_Claimed).decode
_members = msgspec.json.Decoder(_Members).decode


class KeyCalls:
    """Patient calls, but for `sync`: they wait for the homeserver, and raise MatrixRefused where it will not, or where
    what it answers is not what was asked for."""

    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver
        self._txns = itertools.count(time.time_ns() // 1000)

    async def put_device(self, user: PersonId, device: str, name: str) -> None:
        """Make a device without a login (MSC4190), or name the one there is."""
        try:
            await self._call(
                "put_device",
                "PUT",
                f"{CS}/devices/{quoted(device)}",
                {"display_name": name},
                json_object,
                user,
            )
        except MatrixRefused as error:
            if error.status in (401, 403, 404):
                raise MatrixRefused(NO_DEVICES, errcode=error.errcode, status=error.status) from error
            raise

    async def device_names(self, user: PersonId) -> list[str]:
        """What the user's devices are called."""
        found = await self._call("devices", "GET", f"{CS}/devices", None, _devices, user)
        return [device.device_id for device in found.devices]

    async def remove_device(self, user: PersonId, device: str) -> None:
        """Remove a device (MSC4190)."""
        await self._call("delete_device", "DELETE", f"{CS}/devices/{quoted(device)}", {}, json_object, user)

    async def upload(self, user: PersonId, device: str, body: Mapping[str, Any]) -> int:
        """Publish device keys, one-time keys and fallback keys; how many one-time keys there are now."""
        counts = await self._call("keys_upload", "POST", f"{CS}/keys/upload", body, _counts, user, device)
        return counts.one_time_key_counts.get("signed_curve25519", 0)

    async def upload_identity(self, user: PersonId, body: Mapping[str, Any]) -> None:
        """Publish cross-signing keys; an appservice needs no further authentication for it (MSC4190)."""
        path = f"{CS}/keys/device_signing/upload"
        await self._call("keys_identity", "POST", path, body, json_object, user)

    async def query(
        self, users: Iterable[PersonId], *, user: PersonId, tries: int | None = None
    ) -> devices.Answer:
        """The devices and identities of people; after so many `tries` that fail it raises HomeserverUnavailable."""
        body = {"device_keys": {who: [] for who in users}, "timeout": OTHERS_SECONDS}
        path = f"{CS}/keys/query"
        return await self._call("keys_query", "POST", path, body, devices.answer, user, tries=tries)

    async def claim(
        self,
        wanted: Mapping[PersonId, Mapping[str, str]],
        *,
        user: PersonId,
        device: str,
        tries: int | None = None,
    ) -> dict[PersonId, dict[str, dict[str, Any]]]:
        """One one-time key of each device: by user, device and key id; `tries` as for `query`.

        Whose part of the answer is nonsense is left out.
        """
        body = {"one_time_keys": wanted, "timeout": OTHERS_SECONDS}
        path = f"{CS}/keys/claim"
        found = await self._call("keys_claim", "POST", path, body, _claimed, user, device, tries=tries)
        return {
            who: {id: keys for id, keys in part.items() if isinstance(keys, dict)}
            for who, part in devices.readable(found.one_time_keys).items()
        }

    async def send(
        self, type: str, messages: Sequence[tuple[PersonId, str, Json]], *, user: PersonId, device: str
    ) -> None:
        """Send an event to each of these (user, device)."""
        for start in range(0, len(messages), AT_ONCE):
            body: dict[PersonId, dict[str, Json]] = {}
            for who, which, content in messages[start : start + AT_ONCE]:
                body.setdefault(who, {})[which] = content
            path = f"{CS}/sendToDevice/{quoted(type)}/{quoted_once(f'bk{next(self._txns)}')}"
            await self._call("to_device", "PUT", path, {"messages": body}, json_object, user, device)

    async def sync(self, user: PersonId, device: str, since: str) -> Synced:
        """What waits for a device, at most a hundred events of it; what was answered before `since` is gone."""
        query = {"timeout": 0, "set_presence": "offline", "filter": _DEVICE_ONLY} | (
            {"since": since} if since else {}
        )
        return await self._call(
            "sync", "GET", f"{CS}/sync", None, _synced, user, device, query, patient=False
        )

    async def present(self, room: ChatId, user: PersonId | None) -> frozenset[PersonId]:
        """Who may read what is said in the room now: who is in it, and who is asked into it where they will be shown
        it (Client-Server API, "Room History Visibility")."""
        path = f"{CS}/rooms/{quoted(room)}/members"
        found = await self._call(
            "members", "GET", path, None, _members, user, query={"not_membership": "leave"}
        )
        by: dict[str, list[PersonId]] = {"join": [], "invite": []}
        for member in found.chunk:
            by.get(member.content.membership, []).append(member.state_key)
        if by["invite"]:
            history = (await self._state(room, "m.room.history_visibility", user) or {}).get(
                "history_visibility"
            )
            if history == "joined":
                by["invite"].clear()
        return frozenset(by["join"] + by["invite"])

    async def settings(self, room: ChatId, user: PersonId | None) -> Json | None:
        """The content of the room's m.room.encryption; None where it has none."""
        return await self._state(room, "m.room.encryption", user)

    async def _state(self, room: ChatId, type: str, user: PersonId | None) -> Json | None:
        try:
            path = f"{CS}/rooms/{quoted(room)}/state/{type}/"
            return await self._call("state", "GET", path, None, json_object, user)
        except MatrixRefused as error:
            if error.status == 404:
                return None
            raise

    async def _call(
        self,
        call: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        decode: Callable[[bytes], T],
        user: PersonId | None,
        device: str | None = None,
        query: Mapping[str, Any] | None = None,
        *,
        patient: bool = True,
        tries: int | None = None,
    ) -> T:
        def read(answer: bytes) -> T | None:
            try:
                return decode(answer)
            # JSON, so no proxy's page: asked again, the homeserver would say it again, for ever.
            except (msgspec.ValidationError, RecursionError):
                return None

        found = await self._homeserver.request(
            method,
            path,
            decode=read,
            body=None if body is None else _encode(body),
            user=user,
            device=device,
            query=query,
            patient=patient,
            tries=tries,
            call=call,
        )
        if found is None:
            raise MatrixRefused(NONSENSE)
        return found
