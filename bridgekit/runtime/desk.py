"""What the admin sees of a running bridge, and has done: the answers of the admin API, from the bridge's parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from bridgekit.admin import views
from bridgekit.admin.api import NotFound
from bridgekit.admin.metrics import Metrics
from bridgekit.contract.connector import Manifest, Network
from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core.model import Permission
from bridgekit.core.protection import Label
from bridgekit.runtime.clock import now
from bridgekit.runtime.commands.meeting import Meeting
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.holding import Holding
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.networks.reports import Filed, Reports
from bridgekit.runtime.people.erasure import Erasure, Report
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Link

UNKNOWN = "unknown"


class Desk:
    """Answers from memory. `obstacle` is what is in a link's way besides its state; `turned_away` is how many private
    messages of strangers were not passed on."""

    def __init__(
        self,
        registry: Registry,
        accounts: Accounts,
        networks: Mapping[NetworkId, Network],
        manifests: Mapping[NetworkId, Manifest],
        portals: Portals,
        protecting: Protecting,
        exposures: Exposures,
        consenting: Consenting,
        holding: Holding,
        erasure: Erasure,
        meeting: Meeting,
        reports: Reports,
        metrics: Metrics,
        *,
        obstacle: Callable[[Link], str],
        turned_away: Callable[[NetworkId], int],
        devices: Callable[[], Mapping[PersonId, str]],
        fingerprints: Callable[[PersonId], Awaitable[Mapping[str, str]]],
        permission: Callable[[PersonId], Permission],
        is_ours: Callable[[PersonId], bool],
        label: Callable[[NetworkId], str],
    ) -> None:
        self._registry = registry
        self._accounts = accounts
        self._networks = networks
        self._manifests = manifests
        self._portals = portals
        self._protecting = protecting
        self._exposures = exposures
        self._consenting = consenting
        self._holding = holding
        self._meeting = meeting
        self._reports = reports
        self._erasure = erasure
        self._metrics = metrics
        self._obstacle = obstacle
        self._turned_away = turned_away
        self._devices = devices
        self._fingerprints = fingerprints
        self._permission = permission
        self._is_ours = is_ours
        self._label = label

    # What is so now -------------------------------------------------------------------------------------------

    def networks(self) -> list[views.NetworkView]:
        """In the order of the config."""
        return [self._network(network, manifest) for network, manifest in self._manifests.items()]

    def _network(self, network: NetworkId, manifest: Manifest) -> views.NetworkView:
        state, reason = self._accounts.state(network, None)
        sides = [side for side in self._registry.links if side.network == network]
        return views.NetworkView(
            network=network,
            name=self._label(network),
            connector=manifest.id,
            state=state,
            reason=reason,
            links=len(sides),
            held=sum(self._holding.count(side) for side in sides),
            turned_away=self._turned_away(network),
            accounts=len(self._registry.logins_on(network)),
            own_accounts=self._networks[network].own_accounts.value,
            fields=[
                views.Field(name=f.name, title=f.title, secret=f.password, required=f.required)
                for f in manifest.login_fields
            ],
            fates=self._metrics.fates(network),
        )

    def rooms(self) -> list[views.RoomView]:
        """Every room that has a link, also one that nobody has agreed to yet."""
        rooms: dict[ChatId, list[Link]] = {}
        for link in self._registry.links.values():
            rooms.setdefault(link.room, []).append(link)
        return [self._room(room, rooms[room]) for room in sorted(rooms)]

    def _room(self, room: ChatId, links: list[Link]) -> views.RoomView:
        label = self._protecting.label(room)
        portal = self._registry.portals.get(room)
        return views.RoomView(
            room=room,
            kind=portal.kind if portal is not None else "channel",
            protection=label.content["protection"],
            matrix=label.content["matrix"],
            words=label.words,
            history=self._exposures.wishes.shown(room).name.lower(),
            links=[self._link(link, label) for link in links],
        )

    def _link(self, link: Link, label: Label) -> views.LinkView:
        side = link.key
        seen = self._exposures.visibilities.of(side)
        held = self._holding.ledger.of(side)
        agreed = {(part["network"], part["chat"]): part.get("agreed") for part in label.content["links"]}
        return views.LinkView(
            network=side.network,
            chat=side.chat,
            name=link.name,
            account=self._owner(side),
            creator=link.creator,
            state=link.state,
            reason=link.reason,
            obstacle=self._obstacle(link),
            since=link.since,
            protection=self._protecting.of(link).name.lower(),
            agreed=agreed.get((side.network, side.chat)),
            exposure=seen.exposure.name.lower() if seen is not None and seen.known else UNKNOWN,
            modes=seen.detail if seen is not None else "",
            consents=[
                views.ConsentView(scopes=sorted(c.scopes), name=c.name, account=c.account, at=c.at)
                for c in self._consenting.consents(side)
                if c.counts(now())
            ],
            held=len(held),
            held_since=held[0].since if held else 0,
        )

    def _owner(self, side: PortalKey) -> str:
        row = self._registry.logins.get(side.receiver) if side.receiver is not None else None
        return row.login.owner if row is not None else side.receiver or ""

    def accounts(self) -> list[views.AccountView]:
        """By network and user."""
        views_ = [self._account(row.network, row.login.owner) for row in self._registry.logins.values()]
        return sorted(views_, key=lambda view: (view.network, view.user))

    def _account(self, network: NetworkId, user: PersonId) -> views.AccountView:
        state, reason = self._accounts.state(network, self._accounts.of(network, user))
        return views.AccountView(network=network, user=user, state=state, reason=reason)

    def reports(self) -> list[views.ReportView]:
        """The oldest first."""
        return [self._report(filed) for filed in self._reports.open]

    def _report(self, filed: Filed) -> views.ReportView:
        report = filed.report
        link = self._registry.links.get(PortalKey(filed.network, report.chat))
        return views.ReportView(
            number=filed.number,
            network=filed.network,
            chat=report.chat,
            room="" if link is None else link.room,
            at=report.at,
            reporter=report.reporter or "",
            accused=report.accused,
            note=report.note,
            messages=report.messages,
            proven=report.proven,
            told=filed.told,
        )

    def devices(self) -> list[views.DeviceView]:
        """By user."""
        return [views.DeviceView(user=user, device=id) for user, id in sorted(self._devices().items())]

    async def device(self, user: PersonId) -> views.DeviceView:
        """With its public keys. Raises NotFound."""
        found = await self._fingerprints(user)
        if not found:
            raise NotFound(f"{user} has no device of the bridge's.")
        return msgspec.convert(
            {"user": user, **{name.replace(" ", "_"): key for name, key in found.items()}}, views.DeviceView
        )

    # What is done ---------------------------------------------------------------------------------------------

    async def open_account(self, network: NetworkId, user: PersonId, fields: dict[str, str]) -> None:
        """Keep an account for somebody who may have one, and start its session. Raises NotAllowed, NotFound."""
        self._known(network)
        self._somebody(user)
        if self._permission(user) in (Permission.NONE, Permission.RELAY):
            raise NotAllowed(f"{user} may have no account here: see `permissions` in the config.")
        await self._accounts.open(network, user, fields)

    async def close_account(self, network: NetworkId, user: PersonId) -> None:
        """End it, and forget it with its conversations. Raises NotFound."""
        login = self._accounts.of(network, user)
        if login is None:
            raise NotFound(f"{user} has no account on {network}.")
        await self._portals.close_account(network, login)

    async def link(self, room: ChatId, network: NetworkId, chat: str, user: PersonId) -> views.LinkView:
        """As if the user, who is trusted here, had said it in the room. Raises BridgeError, NotFound."""
        self._known(network)
        self._somebody(user)
        with self._protecting.answering(room):
            link = await self._portals.link(room, network, chat, user)
        return self._link(link, self._protecting.label(room))

    def _linked(self, network: NetworkId, chat: str) -> Link:
        self._known(network)
        link = self._registry.links.get(self._portals.find_chat(network, chat))
        if link is None:
            raise NotFound(f"{chat} on {network} is not linked.")
        return link

    async def make_code(self, network: NetworkId, chat: str) -> str:
        """Whoever has it may come into the linked chat. Raises BridgeError, NotFound."""
        return await self._meeting.make_code(self._linked(network, chat).key)

    async def end_codes(self, network: NetworkId, chat: str) -> int:
        """How many there were. Raises BridgeError, NotFound."""
        return await self._meeting.end_codes(self._linked(network, chat).key)

    async def unlink(self, network: NetworkId, chat: str) -> None:
        """Raises NotFound where there is no such link, NotAllowed where it stands in the config."""
        link = self._linked(network, chat)
        if link.static:
            raise NotAllowed("That link stands in the bridge's configuration: take it out there.")
        await self._portals.announce(link.key, "This chat is no longer bridged to Matrix.")
        await self._portals.unlink(link.key, reason="unlinked by the bridge's admin")

    async def settle(self, number: int) -> None:
        """A report is dealt with. Raises NotFound."""
        try:
            await self._reports.settle(number)
        except NotAllowed as problem:
            raise NotFound(problem.notice) from None

    async def erase(self, user: PersonId) -> Report:
        """Begin, and tell how it goes. Raises NotAllowed."""
        return await self._erasure.ask(user)

    def erasure(self, user: PersonId) -> Report:
        """How it goes. Raises NotFound."""
        report = self._erasure.report(user)
        if report is None:
            raise NotFound("Nobody asked for that.")
        return report

    def _known(self, network: NetworkId) -> None:
        if network not in self._networks:
            raise NotFound(
                f"There is no network {network}: {', '.join(self._networks) or 'none'} is configured."
            )

    def _somebody(self, user: PersonId) -> None:
        if self._is_ours(user) or not user.startswith("@") or ":" not in user:
            raise NotAllowed(f"{user} is no user id of a person on Matrix: it looks like @name:example.org.")
