"""The component as a gateway (XEP-0100): people sign up or off (XEP-0077), and look somebody up by a command (0050)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from slixmpp.plugins.xep_0004.stanza import Form

from bridgekit.contract.connector import Host
from connectors.xmpp.stanzas.jids import domain, local_of, normal

if TYPE_CHECKING:
    from connectors.xmpp.stream import Stream

_MXID = re.compile(r"@[^\s:@]{1,250}:[A-Za-z0-9.:\[\]-]{1,250}")
ABOUT = (
    "Whoever is on Matrix can speak to you here, under an address like alice\\3aexample.org@{domain}. To stop that, "
    "remove this registration; to allow it again, register."
)
MOST = 10_000
"""People who may have signed off; there are no more names than that to remember."""


class Gateway:
    """Who does not want to be spoken to, and what the component answers about that."""

    def __init__(self, host: Host, jid: str) -> None:
        self._host = host
        self._jid = domain(jid)
        self._off: set[str] | None = None

    async def load(self) -> None:
        """Read who has signed off."""
        if self._off is None:
            kept = await self._host.get("signed-off")
            self._off = set(msgspec.json.decode(kept, type=list[str])) if kept else set()

    def is_off(self, jid: str) -> bool:
        """Whether somebody does not want to be spoken to."""
        return self._off is not None and jid in self._off

    async def _sign(self, jid: str, *, off: bool) -> bool:
        await self.load()
        assert self._off is not None
        if off and len(self._off) >= MOST:
            return False
        (self._off.add if off else self._off.discard)(jid)
        await self._host.put("signed-off", msgspec.json.encode(sorted(self._off)))
        return True

    def serve(self, stream: Stream) -> None:
        """Answer on a component's stream, by slixmpp's plugins."""
        xmpp = stream.plugins(("xep_0004", "xep_0050", "xep_0066", "xep_0077", "xep_0100"), xep_0100={
            "component_name": "Matrix", "type": "matrix", "needs_registration": False,
        }, xep_0077={"form_fields": set(), "form_instructions": ABOUT.format(domain=self._jid)})  # fmt: skip
        register = xmpp["xep_0077"]
        register.api.register(self._user, "user_get")
        register.api.register(self._on, "user_validate")
        register.api.register(self._remove, "user_remove")
        xmpp["xep_0050"].add_command(node="find", name="Find somebody on Matrix", handler=self._find)

    # XEP-0077 --------------------------------------------------------------------------------------------------

    async def _user(self, jid: Any, node: Any, ifrom: Any, iq: Any) -> dict[str, str] | None:
        return None if self.is_off(str(iq["from"].bare)) else {}

    async def _on(self, jid: Any, node: Any, ifrom: Any, registration: Any) -> None:
        await self._sign(str(ifrom.bare), off=False)

    async def _remove(self, jid: Any, node: Any, ifrom: Any, iq: Any) -> None:
        if self.is_off(str(iq["from"].bare)) or not await self._sign(str(iq["from"].bare), off=True):
            raise KeyError("nobody is registered under this address")

    # XEP-0050 --------------------------------------------------------------------------------------------------

    def _find(self, iq: Any, session: dict[str, Any]) -> dict[str, Any]:
        session["payload"] = self._form(
            "form", "Whom do you want to speak to?", ("mxid", "text-single", "Matrix id (@name:server)", "")
        )
        session["next"] = self._found
        session["has_next"] = False
        return session

    def _found(self, payload: Any, session: dict[str, Any]) -> dict[str, Any]:
        asked = str((payload.get_values() or {}).get("mxid") or "").strip()
        session["next"] = None
        session["has_next"] = False
        if not _MXID.fullmatch(asked):
            session["payload"] = None
            session["notes"] = [("error", "A Matrix id looks like @alice:example.org.")]
            return session
        jid = normal(f"{local_of(asked, asked)}@{self._jid}") or ""
        session["payload"] = self._form("result", "", ("jid", "jid-single", "Address on XMPP", jid))
        return session

    @staticmethod
    def _form(kind: str, title: str, field: tuple[str, str, str, str]) -> Any:
        form = Form()
        form["type"] = kind
        form["title"] = title
        name, type, label, value = field
        form.add_field(var=name, ftype=type, label=label, value=value)
        return form
