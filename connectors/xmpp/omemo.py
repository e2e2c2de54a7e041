"""One account's device of OMEMO (XEP-0384, 0.8 and as it was before): slixmpp-omemo over the bridge's sealed store."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from xml.etree.ElementTree import Element

import oldmemo.etree
import omemo
import slixmpp
import slixmpp_omemo
import structlog
import twomemo.etree
from omemo.storage import Just, Maybe, Nothing
from omemo.types import DeviceInformation, JSONType
from slixmpp.plugins.base import register_plugin
from slixmpp_omemo import TrustLevel

from bridgekit.contract.connector import Host
from bridgekit.contract.devices import Device, Trust
from bridgekit.contract.errors import PeerMisbehaved, SendRejected
from bridgekit.contract.ids import PersonId
from connectors.xmpp.stanzas import envelope, wire
from connectors.xmpp.stanzas.jids import bare
from connectors.xmpp.stanzas.wire import add, find, make
from connectors.xmpp.stream import Stream

# At their lowest level they log what they encrypt, in clear.
for _name in ("omemo", "slixmpp_omemo", "oldmemo", "twomemo", "doubleratchet", "x3dh"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

START_SECONDS = 60.0
KEYS_PAUSES = (1.0, 3.0)
"""Seconds after which it is tried again to encrypt to somebody of whose devices none can be used."""
MOST_PADDING = 200
MOST_DEVICES = 64
"""Of one person, the newest in their list: the keys of each are asked for, with every message if they are not there."""
_ORDER = [wire.OMEMO_LEGACY, wire.OMEMO_2]
"""Clients that announce both read the old one for certain; the new one is for those who have nothing else."""
_TRUST = {
    TrustLevel.TRUSTED.name: Trust.VERIFIED,
    TrustLevel.BLINDLY_TRUSTED.name: Trust.BLIND,
    TrustLevel.UNDECIDED.name: Trust.UNDECIDED,
    TrustLevel.DISTRUSTED.name: Trust.DISTRUSTED,
}
_LEVEL = {trust: level for level, trust in _TRUST.items()}


class Unopened(Exception):
    """A message stays closed: `why` is a sentence for people, `again` whether another try may open it."""

    def __init__(self, why: str, *, again: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.again = again


class Keys(omemo.Storage):
    """What the library keeps (identity, sessions, trust), sealed under one account's prefix."""

    def __init__(self, host: Host, account: str) -> None:
        super().__init__()
        self._host = host
        self._prefix = f"omemo/{account}"
        self._gathered: dict[str, bytes | None] | None = None

    async def _load(self, key: str) -> Maybe[JSONType]:
        if self._gathered is not None and self._prefix + key in self._gathered:
            found = self._gathered[self._prefix + key]
        else:
            found = await self._host.get(self._prefix + key)
        return Nothing() if found is None else Just(json.loads(found))

    async def _store(self, key: str, value: JSONType) -> None:
        await self._write(key, json.dumps(value).encode())

    async def _delete(self, key: str) -> None:
        await self._write(key, None)

    async def _write(self, key: str, value: bytes | None) -> None:
        if self._gathered is not None:
            self._gathered[self._prefix + key] = value
        else:
            await self._host.put(self._prefix + key, value)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """What is written within is written at the end, all at once, behind all that was emitted within."""
        gathered: dict[str, bytes | None] = {}
        self._gathered = gathered
        try:
            yield
        finally:
            self._gathered = None
            if gathered:
                await self._host.put_all(gathered)


class _Plugin(slixmpp_omemo.XEP_0384):
    """slixmpp's plugin with our storage: trust is blind until somebody has verified a device of the person."""

    default_config: Any = slixmpp_omemo.XEP_0384.default_config | {"keys": None, "turn": None}

    @property
    def storage(self) -> omemo.Storage:
        found: omemo.Storage = self.config["keys"]
        return found

    @property
    def _btbv_enabled(self) -> bool:
        return True

    async def _on_device_list_update(self, msg: Any) -> None:
        """News of somebody's devices wait for their turn: two lists of a new device that are read at once, of the old
        namespace and of the new one, overwrite each other, and the device is believed to know one of them alone."""
        async with self.config["turn"]:
            await super()._on_device_list_update(msg)

    async def _prompt_manual_trust(
        self, manually_trusted: frozenset[DeviceInformation], identifier: str | None
    ) -> None:
        one = min(manually_trusted, key=lambda device: (device.bare_jid, device.device_id))
        raise Undecided(one.bare_jid, fingerprint(one.identity_key))


class Undecided(omemo.TrustDecisionFailed):
    """Somebody of whom a device is verified has one that is not."""

    def __init__(self, person: str, fingerprint: str) -> None:
        super().__init__("undecided")
        self.person = person
        self.fingerprint = fingerprint


def fingerprint(identity_key: bytes) -> str:
    """As clients show it (XEP-0384, 5.3.2): eight groups of eight."""
    return " ".join(omemo.SessionManager.format_identity_key(identity_key))


class Omemo:
    """The device of the account `jid`; one thing is done with its keys at a time."""

    def __init__(self, stream: Stream, host: Host, jid: str) -> None:
        self._jid = bare(jid)
        self._host = host
        self._keys = Keys(host, self._jid)
        self._turn = asyncio.Lock()
        self._held: list[tuple[Any, omemo.Message, str]] | None = None
        self._log: structlog.typing.FilteringBoundLogger = host.log
        register_plugin(_Plugin)
        plugins = stream.plugins(
            ("xep_0060", "xep_0163", "xep_0334", "xep_0384"),
            xep_0384={"keys": self._keys, "turn": self._turn},
        )
        self._plugin: Any = plugins["xep_0384"]
        self._manager: omemo.SessionManager | None = None

    async def start(self) -> None:
        """Publish what others need to encrypt to us. Raises TimeoutError, and what the library has for a server that
        keeps no such things."""
        async with asyncio.timeout(START_SECONDS), self._turn:
            manager = self._manager = await self._plugin.get_session_manager()
        self._send = manager._send_message
        manager._send_message = self._hold
        self._update = manager.update_device_list
        manager.update_device_list = self._shortened

    async def stop(self) -> None:
        """End what the library keeps running."""
        if self._manager is not None:
            await self._manager.shutdown()
        self._plugin.plugin_end()  # it cancels what it has begun, and looks after none of its tasks
        for _ in range(3):
            await asyncio.sleep(0)

    async def _hold(self, message: omemo.Message, person: str) -> None:
        """What the library says by itself while a message is opened goes out when that is on disk."""
        if self._held is None:
            await self._send(message, person)
        else:
            self._held.append((self._send, message, person))

    async def _shortened(self, namespace: str, person: str, devices: dict[int, str | None]) -> None:
        """Our own list is left whole: the library publishes it."""
        if person != self._jid:
            devices = dict(list(devices.items())[-MOST_DEVICES:])
        await self._update(namespace, person, devices)

    @property
    def _library(self) -> omemo.SessionManager:
        if self._manager is None:
            raise Unopened("The bridge's own encryption is not ready yet.", again=True)
        return self._manager

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """`open` is called within; the keys move on when what was told of the messages is on its way to the disk."""
        async with self._turn:
            held: list[tuple[Any, omemo.Message, str]] = []
            self._held = held
            try:
                async with self._keys.together():
                    yield
            finally:
                self._held = None
            for send, message, person in held:
                try:
                    await send(message, person)
                except Exception as error:  # somebody's broken keys, in the library's many words
                    self._log.info("xmpp_omemo_not_answered", kind=type(error).__name__)

    async def open(self, stanza: Element, sender: str) -> Element | None:
        """The message in clear, said by `sender` (a bare address); None where it only carries keys. Raises Unopened."""
        manager = self._library
        legacy, new = find(stanza, wire.OMEMO_LEGACY, "encrypted"), find(stanza, wire.OMEMO_2, "encrypted")
        if not sender:
            raise Unopened(
                "An encrypted message was said here by somebody whose address the bridge does not see."
            )
        try:
            if legacy is not None and (new is None or not await self._is_for_us(new, sender)):
                message = await oldmemo.etree.parse_message(legacy, sender, self._jid, manager)
                plain, *_ = await manager.decrypt(message)
                if plain is None:
                    return None
                body = make("body", wire.CLIENT, plain.decode("utf-8"))
                return envelope.opened(stanza, [body], whole=False)
            if new is not None:
                plain, *_ = await manager.decrypt(twomemo.etree.parse_message(new, sender))
                if plain is None:
                    return None
                room = stanza.get("type") == "groupchat"
                to = bare(stanza.get("from", "")) if room else self._jid
                if sender == self._jid and not room:  # a copy of what another device of ours said
                    to = bare(stanza.get("to", "")) or self._jid
                inside = envelope.unpack(plain, sender=sender, to=to, room=room)
                return envelope.opened(stanza, inside, whole=True)
        except omemo.MessageNotForUs:
            if _only_keys(legacy) and _only_keys(new):
                return None
            raise Unopened(NOT_FOR_US) from None
        except omemo.SenderDistrusted:
            raise Unopened("An encrypted message came from a device that is not trusted here.") from None
        except (omemo.SenderNotFound, omemo.XMPPInteractionFailed) as error:
            self._log.info("xmpp_omemo_not_yet", kind=type(error).__name__)
            raise Unopened(NOT_YET, again=True) from None
        except (omemo.OMEMOException, PeerMisbehaved) as error:
            self._log.info("xmpp_omemo_not_opened", kind=type(error).__name__)
            raise Unopened(BROKEN) from None
        except Exception as error:  # what a stranger has sent may break the library anywhere
            self._log.warning("xmpp_omemo_broke", kind=type(error).__name__)
            raise Unopened(BROKEN) from None
        raise Unopened(UNKNOWN)

    async def _is_for_us(self, new: Element, sender: str) -> bool:
        mine = (await self._library.get_own_device_information())[0].device_id
        keys = twomemo.etree.parse_message(new, sender).keys
        return any((key.bare_jid, key.device_id) == (self._jid, mine) for key, _ in keys)

    async def seal(self, stanza: Element, people: frozenset[str]) -> Element:
        """The message, encrypted to every trusted device of these people and of our own. Raises SendRejected."""
        body = wire.core(stanza, "body")
        if body is None or not body.text:
            raise SendRejected("There is nothing in the message that can be encrypted.")
        padding = secrets.token_hex(secrets.randbelow(MOST_PADDING) // 2)
        stamp = wire.stamp(int(self._host.now() * 1000))
        plain = {
            wire.OMEMO_LEGACY: body.text.encode(),
            wire.OMEMO_2: envelope.pack(stanza, stamp=stamp, padding=padding),
        }
        try:
            messages, errors = await self._encrypted(people, plain)
        except Unopened as unready:
            raise SendRejected(unready.why) from None
        except omemo.NoEligibleDevices as nobody:
            who = ", ".join(sorted(nobody.bare_jids))
            raise SendRejected(
                f"It was not sent, because it cannot be encrypted to {who}: no device that is trusted."
            ) from None
        except Undecided as undecided:
            raise SendRejected(
                f"It was not sent: {undecided.person} has a device that nobody has verified "
                f"({undecided.fingerprint}). Say `!bridge trust` or `!bridge distrust` with that fingerprint."
            ) from None
        except omemo.OMEMOException as error:
            self._log.warning("xmpp_omemo_not_sealed", kind=type(error).__name__)
            raise SendRejected(
                "It was not sent, because it could not be encrypted: try again later."
            ) from None
        for left_out in errors:
            self._log.info("xmpp_omemo_device_left_out", kind=type(left_out.exception).__name__)
        made = envelope.outside(stanza)
        for message in messages:
            of = oldmemo.etree if message.namespace == wire.OMEMO_LEGACY else twomemo.etree
            made.append(of.serialize_message(message))
            add(made, "encryption", wire.EME, namespace=message.namespace, name="OMEMO")
        return made

    async def _encrypted(self, people: frozenset[str], plain: dict[str, bytes]) -> Any:
        """A client that has just begun tells of its device before its keys are there: a moment is waited for them."""
        for pause in (*KEYS_PAUSES, 0.0):
            try:
                async with self._turn:
                    await self._plugin.refresh_device_lists({slixmpp.JID(person) for person in people})
                    async with self._keys.together():
                        return await self._library.encrypt(people, plain, _ORDER)
            except omemo.NoEligibleDevices:
                if not pause:
                    raise
            await asyncio.sleep(pause)

    async def has_devices(self, person: str) -> bool:
        """Whether somebody has a device that can be encrypted to, as far as their server says now."""
        async with self._turn:
            await self._plugin.refresh_device_lists({slixmpp.JID(person)})
            found = await self._library.get_device_information(person)
        return any(is_active for device in found for _, is_active in device.active)

    async def devices(self, people: frozenset[str]) -> list[Device]:
        """What is known of the devices of these people; our own device comes first."""
        async with self._turn:
            own, others = await self._library.get_own_device_information()
            found = [one for who in sorted(people) for one in await self._library.get_device_information(who)]
        return [_shown(own, own=True), *(_shown(one) for one in sorted((*others, *found), key=_place))]

    async def judge(self, people: frozenset[str], print: str, trust: Trust) -> Device | None:
        """Trust a device by its fingerprint, or not; None where these people have no such device."""
        wanted = "".join(print.split()).lower()
        async with self._turn:
            for person in sorted(people | {self._jid}):
                for one in await self._library.get_device_information(person):
                    if "".join(fingerprint(one.identity_key).split()) == wanted:
                        await self._library.set_trust(person, one.identity_key, _LEVEL[trust])
                        return _shown(one._replace(trust_level_name=_LEVEL[trust]))
        return None


NOT_FOR_US = (
    "An encrypted message was said here for which the bridge has no key: ask its sender to say it again. "
    "Their client encrypts to the bridge's device from now on."
)
NOT_YET = "An encrypted message that the bridge cannot open yet was said here: it tries again."
BROKEN = "An encrypted message was said here that could not be opened: ask its sender to say it again."
UNKNOWN = "An encrypted message was said here in a way that the bridge does not know."


def _only_keys(encrypted: Element | None) -> bool:
    """Whether a message says nothing (XEP-0384, 4.3: it only moves keys on)."""
    return encrypted is None or not any(wire.local(child) == "payload" for child in encrypted)


def _place(device: DeviceInformation) -> tuple[str, int]:
    return device.bare_jid, device.device_id


def _shown(device: DeviceInformation, *, own: bool = False) -> Device:
    return Device(
        person=PersonId(device.bare_jid),
        id=str(device.device_id),
        fingerprint=fingerprint(device.identity_key),
        trust=_TRUST.get(device.trust_level_name, Trust.UNDECIDED),
        own=own,
        active=any(is_active for _, is_active in device.active),
    )
