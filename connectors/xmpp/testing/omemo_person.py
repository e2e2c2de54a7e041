"""Somebody on XMPP with OMEMO: a stock slixmpp-omemo client, as its own documentation has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import aiohttp
import omemo
import slixmpp
from omemo.storage import Just, Maybe, Nothing
from omemo.types import DeviceInformation, JSONType
from slixmpp.exceptions import IqError
from slixmpp.plugins.base import register_plugin
from slixmpp_omemo import XEP_0384, TrustLevel

from bridgekit.testing.sightings import Sightings
from connectors.xmpp import tls
from connectors.xmpp.testing.person import SECONDS


class _Memory(omemo.Storage):
    """What the library keeps, for as long as the test lasts."""

    def __init__(self) -> None:
        super().__init__(True)
        self._kept: dict[str, JSONType] = {}

    async def _load(self, key: str) -> Maybe[JSONType]:
        return Just(self._kept[key]) if key in self._kept else Nothing()

    async def _store(self, key: str, value: JSONType) -> None:
        self._kept[key] = value

    async def _delete(self, key: str) -> None:
        self._kept.pop(key, None)


class _Stock(XEP_0384):
    """The plugin with a storage in memory and blind trust."""

    default_config: Any = XEP_0384.default_config | {"memory": None, "turn": None}

    @property
    def storage(self) -> omemo.Storage:
        found: omemo.Storage = self.config["memory"]
        return found

    @property
    def _btbv_enabled(self) -> bool:
        return True

    async def _on_device_list_update(self, msg: Any) -> None:
        async with self.config["turn"]:  # or lists of two namespaces that come at once overwrite each other
            await super()._on_device_list_update(msg)

    async def _prompt_manual_trust(
        self, manually_trusted: frozenset[DeviceInformation], identifier: str | None
    ) -> None:
        for device in manually_trusted:
            manager = await self.get_session_manager()
            await manager.set_trust(device.bare_jid, device.identity_key, TrustLevel.TRUSTED.name)


class Words:
    """One message as it was read. `sealed`: it came encrypted and was opened; `failed` why it was not."""

    def __init__(self, stanza: Any, body: str, *, sealed: bool, failed: str = "") -> None:
        self.sender = str(stanza["from"])
        self.id = str(stanza["id"])
        self.body = body
        self.sealed = sealed
        self.failed = failed
        self.xml = stanza.xml

    def __str__(self) -> str:
        return f"{self.sender}: {self.body!r} sealed={self.sealed} {self.failed}"


class OmemoPerson:
    """One account with a device, online. `seen` are the messages that it could or could not read."""

    def __init__(self, jid: str, password: str, *, port: int, certificate: Path, memory: _Memory) -> None:
        self.jid = jid
        self.seen: Sightings[Words] = Sightings(show=str)
        self._port = port
        self._tls = tls.context(certificate)
        self._xmpp: Any = slixmpp.ClientXMPP(jid, password, ssl_context=self._tls)
        self._xmpp.enable_direct_tls = False
        for number in (30, 45, 60, 163, 199, 280, 363, 380, 454):
            self._xmpp.register_plugin(f"xep_{number:04}")
        register_plugin(_Stock, "xep_0384")
        self._turn = asyncio.Lock()
        self._xmpp.register_plugin("xep_0384", {"memory": memory, "turn": self._turn})
        self._xmpp.add_event_handler("message", self._heard)
        self._xmpp.add_event_handler("groupchat_message", self._heard)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self.jid.partition("@")[0]

    async def open(self) -> None:
        ready = asyncio.Event()
        self._xmpp.add_event_handler("omemo_initialized", lambda _: ready.set())
        self._xmpp.connect("127.0.0.1", self._port)
        async with asyncio.timeout(SECONDS):
            await ready.wait()
        self._xmpp.send_presence()
        await self._xmpp.get_roster()

    async def close(self) -> None:
        xmpp = self._xmpp
        for task in self._tasks:
            task.cancel()
        manager = await xmpp["xep_0384"].get_session_manager()
        await manager.shutdown()
        xmpp.cancel_connection_attempt()
        if xmpp.transport is not None:
            xmpp.transport.abort()
            while xmpp.transport is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for name in list(xmpp.scheduled_events):
            xmpp.cancel_schedule(name)
        if (filters := xmpp._run_out_filters) is not None:
            filters.cancel()
            await asyncio.gather(filters, return_exceptions=True)

    async def _heard(self, stanza: Any) -> None:
        plugin = self._xmpp["xep_0384"]
        if not plugin.is_encrypted(stanza):
            if stanza["body"]:
                self.seen.add(Words(stanza, stanza["body"], sealed=False))
            return
        try:
            opened, _ = await plugin.decrypt_message(stanza)
        except Exception as error:
            self.seen.add(Words(stanza, "", sealed=True, failed=f"{type(error).__name__}: {error}"))
            return
        if opened["body"]:
            self.seen.add(Words(stanza, opened["body"], sealed=True))

    async def join(self, room: str) -> None:
        await self._xmpp["xep_0045"].join_muc_wait(
            slixmpp.JID(room), self.name, maxstanzas=0, timeout=SECONDS
        )

    async def configure(self, room: str, **fields: str) -> None:
        """Change the room's configuration: `muc#roomconfig_` fields."""
        muc = self._xmpp["xep_0045"]
        form = await muc.get_room_config(slixmpp.JID(room))
        form["type"] = "submit"
        for name, value in fields.items():
            form.field[f"muc#roomconfig_{name}"]["value"] = value
        await muc.set_room_config(slixmpp.JID(room), form)

    async def let_in(self, room: str, jid: str) -> None:
        """Make somebody a member."""
        await self._xmpp["xep_0045"].set_affiliation(slixmpp.JID(room), "member", jid=slixmpp.JID(jid))

    async def finds_device_of(self, jid: str) -> None:
        """Wait until somebody has published a device, with its keys. Raises TimeoutError."""
        pubsub, kept = self._xmpp["xep_0060"], "eu.siacs.conversations.axolotl"
        async with asyncio.timeout(60):
            while True:
                try:
                    listed = await pubsub.get_items(jid, f"{kept}.devicelist")
                    (device,) = listed.xml.iterfind(f".//{{{kept}}}device")
                    await pubsub.get_items(jid, f"{kept}.bundles:{device.get('id')}")
                    break
                except (IqError, ValueError):
                    await asyncio.sleep(0.2)
        async with self._turn:
            await self._xmpp["xep_0384"].refresh_device_lists({slixmpp.JID(jid)}, force_download=True)

    async def list_devices(self, more: Iterable[int]) -> None:
        """Say that there are more of them, before this one."""
        kept = "eu.siacs.conversations.axolotl"
        manager = await self._xmpp["xep_0384"].get_session_manager()
        own, _ = await manager.get_own_device_information()
        listed = Element(f"{{{kept}}}list")
        for device in (*more, own.device_id):
            SubElement(listed, f"{{{kept}}}device", id=str(device))
        await self._xmpp["xep_0060"].publish(self.jid, f"{kept}.devicelist", id="current", payload=listed)

    async def say(self, to: str, body: str, *people: str) -> str:
        """Say it encrypted: to `people` (in a room), or to the address itself; the message's id."""
        stanza = self._xmpp.make_message(mto=slixmpp.JID(to), mtype="groupchat" if people else "chat")
        stanza["body"] = body
        recipients = {slixmpp.JID(one) for one in people or (to,)}
        async with self._turn:
            sealed, errors = await self._xmpp["xep_0384"].encrypt_message(stanza, recipients)
        assert sealed is not None
        assert not errors, errors
        sealed["eme"]["namespace"] = "eu.siacs.conversations.axolotl"
        sealed.send()
        return str(sealed["id"])

    async def share(self, to: str, data: bytes, name: str, *people: str) -> None:
        """Upload a file encrypted, and say its address encrypted (XEP-0454), as `say` does."""
        sealed, secret = self._xmpp["xep_0454"].encrypt(BytesIO(data))
        slots = self._xmpp["xep_0363"]
        service = (await slots.find_upload_service())["from"]
        slot = (await slots.request_slot(service, name, len(sealed)))["http_upload_slot"]
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls)) as session,
            session.put(slot["put"]["url"], data=sealed, headers=_headers(slot)) as response,
        ):
            assert response.status in (200, 201), response.status
        await self.say(to, self._xmpp["xep_0454"].format_url(slot["get"]["url"], secret), *people)

    async def open_file(self, address: str) -> bytes:
        """The file at an `aesgcm` address, in clear."""
        scheme, _, place = address.partition("://")
        where, _, secret = place.partition("#")
        assert scheme == "aesgcm", address
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls)) as session,
            session.get(f"https://{where}") as response,
        ):
            clear: bytes = self._xmpp["xep_0454"].decrypt(BytesIO(await response.read()), secret)
            return clear

    def say_in_clear(self, to: str, body: str, *, room: bool = False) -> None:
        self._xmpp.send_message(mto=slixmpp.JID(to), mbody=body, mtype="groupchat" if room else "chat")

    async def reads(self, body: str, *, seconds: float = SECONDS) -> Words:
        """The next message with exactly these words. Raises NotSeen."""
        return await self.seen.take(lambda w: w.body == body, seconds, f"{self.name}: “{body[:60]}”")

    async def fingerprint(self) -> str:
        """Of this device."""
        manager = await self._xmpp["xep_0384"].get_session_manager()
        own, _ = await manager.get_own_device_information()
        return " ".join(manager.format_identity_key(own.identity_key))


def _headers(slot: Any) -> dict[str, str]:
    return {header["name"]: header["value"] for header in slot["put"]["substanzas"]}


@asynccontextmanager
async def omemo_person(
    jid: str, password: str, *, port: int, certificate: Path
) -> AsyncIterator[OmemoPerson]:
    """Online with a device of its own while the block lasts."""
    one = OmemoPerson(jid, password, port=port, certificate=certificate, memory=_Memory())
    await one.open()
    try:
        yield one
    finally:
        await one.close()
