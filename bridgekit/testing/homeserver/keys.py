"""What the fake homeserver keeps for encryption: keys of devices, identities, and what is sent to devices."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from bridgekit.testing.homeserver.refusals import Json, Refused, invalid

_IDENTITY = ("master_key", "self_signing_key", "user_signing_key")


class KeyWatcher(Protocol):
    """Who wants to hear of keys; each call must return at once."""

    def on_to_device(self, user: str, device: str, event: Json) -> None:
        """An event for a device."""

    def on_devices(self, user: str) -> None:
        """Somebody's devices or identity changed."""

    def on_counts(self, user: str) -> None:
        """Somebody's one-time keys became more or fewer."""


class KeyStore:
    """Devices' keys, as homeservers keep them: nothing is verified, and nothing may be replaced that may not."""

    def __init__(self) -> None:
        self.devices: dict[str, dict[str, Json]] = {}
        self.one_time: dict[str, dict[str, dict[str, Json]]] = {}
        self.fallback: dict[str, dict[str, tuple[str, Json, bool]]] = {}  # key id, key, whether it was used
        self.identities: dict[str, dict[str, Json]] = {}
        self.inboxes: dict[tuple[str, str], deque[Json]] = {}
        self.queues: dict[tuple[str, str], list[Json]] = {}  # as /sync shows them; transactions empty none
        self._former: set[tuple[str, str]] = set()  # users and cross-signing keys that were replaced
        self.watchers: list[KeyWatcher] = []
        self.changed: dict[str, None] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        self._txns: set[tuple[str, ...]] = set()

    def upload(self, user: str, device: str, body: Json) -> Json:
        """POST /keys/upload. Raise `Refused` 400 where a one-time key would be replaced."""
        if (keys := body.get("device_keys")) is not None:
            if keys.get("user_id") != user or keys.get("device_id") != device:
                raise invalid("device_keys are for another device")
            if self.devices.setdefault(user, {}).get(device) != keys:
                self.devices[user][device] = keys
                self._tell_devices(user)
        stock = self.one_time.setdefault(user, {}).setdefault(device, {})
        for id, key in body.get("one_time_keys", {}).items():
            if id in stock and stock[id] != key:
                raise invalid(f"One time key {id} already exists")
            stock[id] = key
        for id, key in body.get("fallback_keys", {}).items():
            self.fallback.setdefault(user, {})[device] = (id, key, False)
        self._tell_counts(user)
        return {"one_time_key_counts": self.counts(user, device)}

    def counts(self, user: str, device: str) -> dict[str, int]:
        """How many one-time keys of each kind a device has left."""
        counts = {"signed_curve25519": 0}
        for id in self.one_time.get(user, {}).get(device, {}):
            kind = id.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def unused_fallbacks(self, user: str, device: str) -> list[str]:
        """The kinds of fallback keys of a device that nobody has taken yet."""
        found = self.fallback.get(user, {}).get(device)
        return [found[0].partition(":")[0]] if found is not None and not found[2] else []

    def upload_identity(self, user: str, body: Json) -> None:
        """POST /keys/device_signing/upload. As in Synapse, what was replaced never comes back: `Refused` 500."""
        own = self.identities.setdefault(user, {})
        new = {name: body[name] for name in _IDENTITY if name in body and body[name] != own.get(name)}
        if any((user, key) in self._former for part in new.values() for key in part["keys"]):
            raise Refused(500, "M_UNKNOWN", "Internal server error")
        self._former |= {(user, key) for name in new if name in own for key in own[name]["keys"]}
        own.update(new)
        self._tell_devices(user)

    def sign(self, body: Json) -> None:
        """POST /keys/signatures/upload: signatures of devices and of master keys are added to what they sign."""
        for user, signed in body.items():
            for id, part in signed.items():
                target = self.devices.get(user, {}).get(id)
                if target is None:
                    master = self.identities.get(user, {}).get("master_key")
                    target = master if master is not None and f"ed25519:{id}" in master["keys"] else None
                if target is not None:
                    signatures = target.setdefault("signatures", {})
                    for who, made in part.get("signatures", {}).items():
                        signatures.setdefault(who, {}).update(made)
            self._tell_devices(user)

    def query(self, asker: str, users: Iterable[str], names: dict[str, dict[str, Json]]) -> Json:
        """POST /keys/query; `names` are the devices with their display names."""
        answer: Json = {"device_keys": {}, "failures": {}, "master_keys": {}, "self_signing_keys": {}}
        for user in users:
            answer["device_keys"][user] = {
                id: {**keys, "unsigned": _shown(names.get(user, {}).get(id))}
                for id, keys in self.devices.get(user, {}).items()
            }
            own = self.identities.get(user, {})
            if "master_key" in own:
                answer["master_keys"][user] = own["master_key"]
            if "self_signing_key" in own:
                answer["self_signing_keys"][user] = own["self_signing_key"]
            if user == asker and "user_signing_key" in own:
                answer["user_signing_keys"] = {user: own["user_signing_key"]}
        return answer

    def claim(self, wanted: dict[str, dict[str, str]]) -> Json:
        """POST /keys/claim: each one-time key goes to one asker; the fallback key to all who come too late."""
        answer: Json = {"one_time_keys": {}, "failures": {}}
        for user, devices in wanted.items():
            for device, kind in devices.items():
                stock = self.one_time.get(user, {}).get(device, {})
                id = next((id for id in stock if id.startswith(f"{kind}:")), None)
                if id is not None:
                    key = stock.pop(id)
                elif (left := self.fallback.get(user, {}).get(device)) is not None:
                    id, key, _ = left
                    self.fallback[user][device] = (id, key, True)
                else:
                    continue
                answer["one_time_keys"].setdefault(user, {})[device] = {id: key}
            self._tell_counts(user)
        return answer

    def send(self, scope: tuple[str, ...], sender: str, type: str, messages: dict[str, Any]) -> None:
        """PUT /sendToDevice; the same `scope` (sender, device, transaction id) does nothing the second time."""
        if scope in self._txns:
            return
        self._txns.add(scope)
        for user, devices in messages.items():
            named = self.devices.get(user, {}) if "*" in devices else devices
            for device in named:
                content = devices.get(device, devices.get("*"))
                event = {"type": type, "sender": sender, "content": content}
                # An appservice is sent what is for its users; the devices' own queues keep it all the same.
                self.queues.setdefault((user, device), []).append(event)
                self.inboxes.setdefault((user, device), deque()).append(event)
                for watcher in self.watchers:
                    watcher.on_to_device(user, device, event)

    def sync(self, user: str, device: str, since: int) -> Json:
        """GET /sync for a device of an appservice's: a hundred events that wait; those before `since` are dropped."""
        queue = self.queues.setdefault((user, device), [])
        dropped = self._dropped.get((user, device), 0)
        del queue[: max(0, since - dropped)]
        self._dropped[user, device] = max(since, dropped)
        events = queue[:100]
        return {
            "next_batch": str(self._dropped[user, device] + len(events)),
            "to_device": {"events": events},
            "device_lists": {"changed": list(self.changed) if since else [], "left": []},
            "device_one_time_keys_count": self.counts(user, device),
            "device_unused_fallback_key_types": self.unused_fallbacks(user, device),
        }

    def take(self, user: str, device: str) -> list[Json]:
        """What was sent to a person's device since it was last asked."""
        inbox = self.inboxes.pop((user, device), deque())
        return list(inbox)

    def forget(self, user: str, device: str) -> None:
        """The device is signed out."""
        for table in (self.devices, self.one_time, self.fallback):
            table.get(user, {}).pop(device, None)
        self._tell_devices(user)

    def _tell_devices(self, user: str) -> None:
        self.changed[user] = None
        for watcher in self.watchers:
            watcher.on_devices(user)

    def _tell_counts(self, user: str) -> None:
        for watcher in self.watchers:
            watcher.on_counts(user)


def _shown(device: Json | None) -> Json:
    name = (device or {}).get("display_name")
    return {"device_display_name": name} if name else {}


def need_device(device: str | None) -> str:
    """The caller's device; raise `Refused` 400 where the call was made without one."""
    if device is None:
        raise Refused(400, "M_UNKNOWN", "To upload keys, you must pass device_id when authenticating")
    return device
