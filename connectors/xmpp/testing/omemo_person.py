"""Somebody on XMPP with OMEMO: a stock slixmpp-omemo client, as its own documentation has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import omemo
import slixmpp
from omemo.storage import Just, Maybe, Nothing
from omemo.types import DeviceInformation, JSONType
from slixmpp.plugins.base import register_plugin
from slixmpp_omemo import XEP_0384, TrustLevel

from bridgekit.testing.sightings import Sightings
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

    default_config: Any = XEP_0384.default_config | {"memory": None}

    @property
    def storage(self) -> omemo.Storage:
        found: omemo.Storage = self.config["memory"]
        return found

    @property
    def _btbv_enabled(self) -> bool:
        return True

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
        self._xmpp: Any = slixmpp.ClientXMPP(jid, password)
        self._xmpp.enable_direct_tls = False
        self._xmpp.ca_certs = certificate
        for name in ("xep_0030", "xep_0045", "xep_0060", "xep_0163", "xep_0199", "xep_0280", "xep_0380"):
            self._xmpp.register_plugin(name)
        register_plugin(_Stock, "xep_0384")
        self._xmpp.register_plugin("xep_0384", {"memory": memory})
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

    async def say(self, to: str, body: str, *people: str) -> str:
        """Say it encrypted: to `people` (in a room), or to the address itself; the message's id."""
        stanza = self._xmpp.make_message(mto=slixmpp.JID(to), mtype="groupchat" if people else "chat")
        stanza["body"] = body
        recipients = {slixmpp.JID(one) for one in people or (to,)}
        sealed, errors = await self._xmpp["xep_0384"].encrypt_message(stanza, recipients)
        assert sealed is not None
        assert not errors, errors
        sealed["eme"]["namespace"] = "eu.siacs.conversations.axolotl"
        sealed.send()
        return str(sealed["id"])

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
