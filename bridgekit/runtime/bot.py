"""The bot: explains itself, links rooms, and keeps people's own accounts, on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog

from bridgekit.contract.connector import Manifest, Session
from bridgekit.contract.devices import KeepsDevices, Trust
from bridgekit.contract.errors import BridgeError, NotAllowed
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.core import wording
from bridgekit.core.commands import split_words
from bridgekit.core.corrections import power_of
from bridgekit.core.direct import WITH_WHOM
from bridgekit.core.model import Permission
from bridgekit.core.questions import WANTED
from bridgekit.core.rates import Buckets, Rate
from bridgekit.core.roles import number
from bridgekit.core.scopes import Policy, Scope
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.accounts import Accounts, Key
from bridgekit.runtime.cases import Case
from bridgekit.runtime.consenting import Consenting
from bridgekit.runtime.directs import Directs
from bridgekit.runtime.exposure import Exposures
from bridgekit.runtime.lenient import allowed, now
from bridgekit.runtime.making import Making
from bridgekit.runtime.meeting import Meeting
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.protecting import Protecting
from bridgekit.runtime.readers import Readers
from bridgekit.runtime.registry import OPEN, WAITING, Registry
from bridgekit.runtime.remains import Remains
from bridgekit.runtime.sessions import Supervised
from bridgekit.runtime.shielding import Shields
from bridgekit.runtime.titles import Titles
from bridgekit.store.rows import Link

log = structlog.get_logger(__name__)

EXPLANATIONS = Rate(1, 10_000)
"""In one remote chat, so that nobody can make the bridge flood it."""
FOR_EVERYBODY = ("status", "stop")
"""Commands of those, too, who may do no more than be relayed."""
REQUESTS = Rate(10, 60_000)
"""Commands of one user that make the bridge connect, knock or speak somewhere."""
PASSWORD = "password="
GONE = "this network is not in the bridge's configuration any more"


_LINK_WORDS = frozenset(scope.value for scope in Scope)


def _may_hold_a_password(command: str, words: list[str]) -> bool:
    if command == "link":
        return any(word not in _LINK_WORDS for word in words[2:]) or any(PASSWORD in word for word in words)
    return command == "login"


_HEARD_ALREADY = frozenset({"grant", "revoke", "optout", "optin"})
"""What people of a network say to the bridge as `!bridge ...` and are answered elsewhere."""


class Bot:
    """Commands, from Matrix rooms (`!bridge ...`, or plain words in a direct room with the bot) and from chats."""

    def __init__(
        self,
        client: MatrixClient,
        portals: Portals,
        making: Making,
        registry: Registry,
        accounts: Accounts,
        manifests: dict[NetworkId, Manifest],
        remains: Remains,
        protecting: Protecting,
        directs: Directs,
        *,
        exposures: Exposures,
        consenting: Consenting,
        titles: Titles,
        readers: Readers,
        shields: Shields,
        held: Callable[[PortalKey], int],
        obstacle: Callable[[Link], str],
        me: PersonId,
        label: Callable[[NetworkId], str],
        permission: Callable[[PersonId], Permission],
        silence: Callable[[ChatId, PersonId], int],
        fingerprints: Callable[[PersonId], Awaitable[Mapping[str, str]]],
        sessions: Mapping[Key, Supervised],
    ) -> None:
        self._client = client
        self._portals = portals
        self._making = making
        self._registry = registry
        self._accounts = accounts
        self._manifests = manifests
        self._remains = remains
        self._protecting = protecting
        self._directs = directs
        self._me = me
        self._label = label
        self._permission = permission
        self._exposures = exposures
        self._consenting = consenting
        self._titles = titles
        self._readers = readers
        self._shields = shields
        self._held = held
        self._obstacle = obstacle
        self._silence = silence
        self._fingerprints = fingerprints
        self._sessions = sessions
        self._explained: Buckets[PortalKey] = Buckets(EXPLANATIONS)
        self._asked: Buckets[PersonId] = Buckets(REQUESTS)
        self.meeting = Meeting(
            portals, registry, accounts, label=label, permitted=self._need_power, spend=self._spend
        )
        self._commands: dict[str, Callable[[ChatId, PersonId, list[str]], Awaitable[str]]] = {
            "help": self._help,
            "status": self._status,
            "networks": self._networks,
            "link": self._link,
            "unlink": self._unlink,
            "agree": self._agree,
            "disagree": self._disagree,
            "revoke": self._revoke,
            "strangers": self._strangers,
            "accept": self._accept,
            "reject": self._reject,
            "login": self._login,
            "logout": self._logout,
            "chat": self._chat,
            "forget": self._forget,
            "stop": self._stop,
            "verify": self._verify,
            "devices": self._devices,
            "trust": self._trust,
            "distrust": self._distrust,
            **self.meeting.commands,
        }

    async def obey(self, room: ChatId, case: Case, words: str) -> None:
        """Answer one command where it was given."""
        if case.origin.network != MATRIX:
            if words.lower() not in _HEARD_ALREADY and words.lower().split()[:1] not in (
                ["accept"],
                ["reject"],
            ):
                await self.explain(case.origin)
            return
        sender: Person = getattr(case.fact, "sender")  # noqa: B009 - only what somebody said is a command
        parts = split_words(words) or ["help"]
        name, rest = parts[0].lower(), parts[1:]
        command = self._commands.get(name)
        try:
            allowed_to = self._permission(sender.id)
            if allowed_to is Permission.NONE or (
                allowed_to is Permission.RELAY and name not in FOR_EVERYBODY
            ):
                raise NotAllowed("You are not allowed to command this bridge: ask its admin.")
            if command is None:
                portal = self._registry.portals.get(room)
                mark = "" if portal is not None and portal.kind == "management" else "!bridge "
                raise NotAllowed(f"There is no command {name}. Say `{mark}help` to see what there is.")
            if _may_hold_a_password(name, rest):
                await self._hide(room, case)
            answer = await command(room, sender.id, rest)
        except BridgeError as error:
            answer = error.notice
        await self._portals.say(room, answer)

    def _spend(self, sender: PersonId) -> None:
        """What follows makes the bridge connect, knock or speak somewhere. Raises NotAllowed where that is too much
        at once."""
        if not self._asked.take(sender, now()):
            raise NotAllowed("You ask for more than I do at once: try again in a minute.")

    async def greet(self, room: ChatId, *, direct: bool) -> None:
        """Say who this is on entering a room."""
        here = "Every word here is a command" if direct else "In this room, start commands with `!bridge`"
        words = f"I am a bridge to other networks. {here}; `help` tells what I can do."
        await self._portals.say(room, words if direct else words.replace("`help`", "`!bridge help`"))

    async def _hide(self, room: ChatId, case: Case) -> None:
        """A command that may hold a password does not stay in the room."""
        if case.event is None:
            return
        try:
            await self._client.redact(
                room, case.event, txn=f"bk.{case.number:x}.hide", reason="may hold a password"
            )
        except BridgeError:
            await self._portals.say(room, "Please delete your message yourself if it holds a password.")

    async def explain(self, side: PortalKey) -> None:
        """What people on a network read when they ask who this is."""
        if not self._explained.take(side, now()):
            return
        link = self._registry.links.get(side)
        if link is None:
            return
        others = [self._label(o.key.network) for o in self._registry.links_of(link.room) if o.key != side]
        also = f" and {', '.join(others)}" if others else ""
        seen = self._exposures.visibility(side)
        title = await self._titles.read(link.room)
        lines = [
            f"This chat is bridged to the Matrix room {title}{also} by {self._me}. Linked by {link.creator}."
            if link.state != WAITING
            else f"{link.creator} asks to link this chat to the Matrix room {title}; nothing passes. {link.reason}",
            *wording.what_holds(
                self._consenting.consents(side), self._consenting.scopes(side), self._policy(side)
            ),
            wording.HOW_TO_OBJECT,
        ]
        if link.state != WAITING and seen is not None:
            lines.insert(1, wording.who_reads(self._exposures.shown(link.room)))
        for line in lines:
            await self._portals.announce(side, line)

    # Commands ------------------------------------------------------------------------------------------------

    async def _help(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        example = next((m.example_chat for m in self._manifests.values() if m.example_chat), "#chat")
        network = next(iter(self._manifests), "network")
        return "\n".join(
            [
                "I pass messages between this homeserver and other networks. In a room, start with `!bridge`:",
                f"  !bridge link {network} {example}   link this room to a chat (you need to be a moderator here)",
                "    add what its operators shall be asked for besides: history, public",
                "    a chat with a password: add password=...",
                f"  !bridge unlink {network} {example}   take that back",
                f"  !bridge agree {network} {example}   let words of this encrypted room go to a chat that is not",
                "                                 (`disagree` takes that back)",
                f"  !bridge revoke {network} {example}   take its operators' consent back: the link closes at once",
                "  !bridge strangers   whose messages wait for a nod; `accept <who>` or `reject <who>` decides",
                "  !bridge stop   say nothing more of what you said here and what still waits to be sent",
                "  !bridge status   what this room is linked to, and how your accounts are doing",
                "  !bridge networks   where I can go",
                "  !bridge verify [user]   the fingerprints of my device, or of a ghost's",
                f"  !bridge devices [{network} {example}]   the keys that a chat is encrypted to, where it is",
                "  !bridge trust <fingerprint>   you have compared it; new devices of theirs then wait for that",
                "  !bridge distrust <fingerprint>   nothing more is encrypted to that device or read from it",
                f"  !bridge login {network} [field=value ...]   speak with an account of your own",
                f"  !bridge logout {network}",
                f"  !bridge chat {network} <name>   a direct conversation, with your own account",
                f"  !bridge find {network} <who>   look for people, where they let themselves be found",
                f"  !bridge decline {network} <chat>   to who asked your account into it; linking it agrees",
                f"  !bridge code {network} <chat> [off]   lets whoever has it into a closed chat; say it to me alone",
                "Logins hold passwords: give that command in a direct room with me.",
            ]
        )

    async def _verify(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """What can be compared of the bot or a ghost, and how clients do it."""
        user = PersonId(words[0]) if words else self._me
        found = await self._fingerprints(user)
        if not found:
            return f"{user} has no device: I have one, and those who have spoken in an encrypted room."
        lines = [f"{user}:", *(f"  {name}: {value}" for name, value in found.items())]
        lines.append(
            "To have your client verify it: ask for a verification of that user in an encrypted room with them. The "
            "emoji of this side appear in that room, and in the bridge's log; where it has a camera, a QR code does."
        )
        return "\n".join(lines)

    async def _devices(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """Whose keys a chat is encrypted to, for who may speak for the room."""
        link = await self._link_of(room, sender, "devices", words)
        found = await self._keeper(link).devices(link.key.chat)
        return wording.devices(link.name, self._label(link.key.network), found)

    async def _trust(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._judged(room, sender, "trust", words, Trust.VERIFIED)

    async def _distrust(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._judged(room, sender, "distrust", words, Trust.DISTRUSTED)

    async def _judged(
        self, room: ChatId, sender: PersonId, command: str, words: list[str], trust: Trust
    ) -> str:
        """Say what is thought of a device. Its key is the account's: who relays for many asks the bridge's admin."""
        if not words:
            raise NotAllowed(f"Say `!bridge {command} <fingerprint>`: `!bridge devices` shows them.")
        for link in self._registry.links_of(room):
            keeper = self._session(link)
            if keeper is None or not isinstance(keeper, KeepsDevices):
                continue
            if link.key.receiver is None and self._permission(sender) is not Permission.ADMIN:
                raise NotAllowed(
                    "Everybody's words go through that account: only an admin of this bridge decides."
                )
            if link.key.receiver is not None:
                await self._link_of(room, sender, command, [])
            device = await keeper.judge(link.key.chat, "".join(words), trust)
            if device is not None:
                log.info("device_judged", network=link.key.network, trust=trust)
                return wording.judged(device)
        raise NotAllowed("Nobody whom this room is linked to has a device with that fingerprint.")

    def _session(self, link: Link) -> Session | None:
        supervised = self._sessions.get((link.key.network, link.key.receiver))
        return supervised.session if supervised is not None else None

    def _keeper(self, link: Link) -> KeepsDevices:
        session = self._session(link)
        if session is None:
            raise NotAllowed(f"{self._label(link.key.network)} is not connected now.")
        if not isinstance(session, KeepsDevices):
            raise NotAllowed(f"{self._label(link.key.network)} does not encrypt from device to device.")
        return session

    async def _networks(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        admin = self._permission(sender) is Permission.ADMIN
        lines = []
        for network, manifest in self._manifests.items():
            strangers = self._directs.turned_away[network] if admin else 0
            lines.append(
                f"{network}: {self._label(network)} ({manifest.name}), {self._accounts.status(network, None)}; "
                f"private conversations {WITH_WHOM[self._directs.policy(network)]}"
                + (f" ({wording.turned_away(strangers)})" if strangers else "")
            )
        if admin:
            lines += [
                f"{network}: {GONE}; {left} of it remain. `!bridge forget {network}` takes that away."
                for network, left in self._remains.all().items()
            ]
        return "\n".join(lines) or "No networks are configured."

    async def _status(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        lines = []
        for link in self._registry.links_of(room):
            seen = self._registry.visibility.get(link.key)
            modes = f" (modes {seen.detail})" if seen is not None and seen.detail else ""
            state = self._obstacle(link) or ("open" if link.state == OPEN else f"{link.state}: {link.reason}")
            if self._remains.are_of(link.key.network):
                state = f"{GONE}. `!bridge unlink {link.key.network} {link.name}` takes the link away."
            lines.append(f"{link.name} on {self._label(link.key.network)}: {state}{modes}")
            if (
                link.key.receiver is None
                and link.state != WAITING
                and self._policy(link.key) is not Policy.OFF
            ):
                lines += wording.what_holds(
                    self._consenting.consents(link.key),
                    self._consenting.scopes(link.key),
                    self._policy(link.key),
                )
            if blocked := self._readers.explained(link.key):
                lines.append(blocked)
            elif held := self._held(link.key):
                lines.append(wording.holding(held, link.name, self._label(link.key.network), []).rstrip())
            if waiting := self._shields.strangers(link.key):
                lines.append(wording.strangers(link.name, waiting))
        for row in self._registry.logins.values():
            if row.login.owner == sender:
                status = self._accounts.status(row.network, row.login.id)
                if self._remains.are_of(row.network):
                    status = f"{GONE}. `!bridge logout {row.network}` takes the account away."
                lines.append(f"Your account on {self._label(row.network)}: {status}")
        return "\n".join(lines) or "This room is not linked, and you have no accounts here."

    async def _link(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        scopes = {scope.value: scope for scope in Scope}
        secret = next((word.removeprefix(PASSWORD) for word in words[2:] if word.startswith(PASSWORD)), "")
        asked = [scopes[word] for word in words[2:] if word in scopes]
        wrong: list[str] = []  # everything at once: nobody should have to try three times
        if len(words) != 2 + bool(secret) + len(asked) or any(PASSWORD in word for word in words[:2]):
            wrong.append(
                f"Say `!bridge link <network> <chat>`, with `{PASSWORD}...` where it has one, and what its operators "
                f"shall be asked for besides: {', '.join(scopes)}."
            )
        network, name = (NetworkId(words[0]), words[1]) if len(words) > 1 else (NetworkId(""), "")
        try:
            if name and not any(PASSWORD in word for word in words[:2]):  # a password is not said again
                self._portals.find_chat(network, name)  # a slip of the pen is no request
        except NotAllowed as error:
            wrong.append(error.notice)
        try:
            await self._need_power(room, sender)
        except NotAllowed as error:
            wrong.append(error.notice)
        if wrong:
            raise NotAllowed(" ".join(wrong))
        wanted = WANTED | frozenset(asked)
        self._spend(sender)
        with self._protecting.answering(room):
            link = await self._portals.link(room, network, name, sender, secret=secret, wanted=wanted)
            protection = await self._protecting.in_words(room)
        label = self._label(network)
        if link.state != OPEN:
            return wording.not_open_yet(link.name, label, link.reason)
        return (
            f"This room is now linked to {link.name} on {label}: what is said here can be read there, and what is "
            f"said there can be read here. {protection}"
        )

    async def _agree(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._protecting.agree(await self._link_of(room, sender, "agree", words), sender)

    async def _disagree(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        link = await self._link_of(room, sender, "disagree", words)
        if not await self._protecting.end(link.key, sender):
            raise NotAllowed(f"Nobody has agreed to anything about {link.name}.")
        return f"Taken back. What went to {link.name} until now is still there."

    async def _link_of(self, room: ChatId, sender: PersonId, command: str, words: list[str]) -> Link:
        """The link that a command is about, for who may say so: the room's own people, whatever the admin may do."""
        links = self._registry.links_of(room)
        if words:
            network, name = NetworkId(words[0]), words[1] if len(words) > 1 else ""
            # A direct chat is named like a shared one: what it is called is what the bridge said of it.
            named = self._portals.named(network, name)
            chat = named[0] if named is not None else self._portals.find_chat(network, name).chat
            links = [link for link in links if (link.key.network, link.key.chat) == (network, chat)]
        if len(links) != 1:
            raise NotAllowed(
                f"Say `!bridge {command} <network> <chat>`; `!bridge status` shows what is linked here."
            )
        if links[0].creator != sender or links[0].key.receiver is None:  # a direct chat is its owner's
            await self._need_power(room, sender, admin=False)
        return links[0]

    async def _unlink(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        await self._need_power(room, sender)
        links = self._registry.links_of(room)
        if words:
            network, name = NetworkId(words[0]), words[1] if len(words) > 1 else ""
            gone = self._remains.link(room, network, name) if self._remains.are_of(network) else None
            side = gone.key if gone is not None else self._portals.find_chat(network, name)
            links = [link for link in links if link.key == side]
        if len(links) != 1:
            raise NotAllowed(
                "Say `!bridge unlink <network> <chat>`; `!bridge status` shows what is linked here."
            )
        link = links[0]
        if link.static:
            raise NotAllowed(
                "That link stands in the bridge's configuration: only its admin can remove it there."
            )
        await self._portals.announce(link.key, "This chat is no longer bridged to Matrix.")
        await self._portals.unlink(link.key, reason=f"unlinked by {sender}")
        return f"This room is no longer linked to {link.name} on {self._label(link.key.network)}."

    async def _revoke(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        await self._need_power(room, sender)
        if len(words) != 2:
            raise NotAllowed("Say `!bridge revoke <network> <chat>`.")
        side = self._portals.find_chat(NetworkId(words[0]), words[1])
        link = self._registry.links.get(side)
        if link is None or link.room != room:
            raise NotAllowed("There is no such link in this room.")
        if self._policy(side) is Policy.OFF:
            raise NotAllowed(wording.NOBODY_WAS_ASKED)
        self._consenting.revoke(side, sender)
        return f"The link to {link.name} on {self._label(side.network)} is closed: nothing passes any more."

    async def _strangers(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        lines = [
            wording.strangers(link.name, waiting)
            for link in self._registry.links_of(room)
            if (waiting := self._shields.strangers(link.key))
        ]
        return "\n".join(lines) or wording.NO_STRANGERS

    async def _accept(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._nod(room, sender, words, accepts=True)

    async def _reject(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        return await self._nod(room, sender, words, accepts=False)

    async def _nod(self, room: ChatId, sender: PersonId, words: list[str], *, accepts: bool) -> str:
        """Decide about a stranger, wherever in the room's chats somebody of that name waits."""
        if not words:
            raise NotAllowed("Say `!bridge accept <who>` or `!bridge reject <who>`.")
        await self._need_power(room, sender, moderator=True)
        who = " ".join(words)
        said = [
            await self._shields.nod(link.key, person, accepts=accepts, by=sender)
            for link in self._registry.links_of(room)
            if (person := self._shields.find(link.key, who)) is not None
        ]
        return "\n".join(said) or wording.nobody_waits(who)

    def _policy(self, side: PortalKey) -> Policy:
        return self._consenting.policy(side.network)

    async def _need_power(
        self, room: ChatId, sender: PersonId, *, admin: bool = True, moderator: bool = False
    ) -> None:
        """Linking is for those who may change the room (the level of m.bridge, else state_default); what concerns
        people, for those who may put somebody out."""
        if admin and self._permission(sender) is Permission.ADMIN:
            return
        levels = await self._client.patient.state(room, "m.room.power_levels")
        power = power_of(levels, sender)
        have, need = power.level, power.needs.get("m.bridge", power.default)
        if moderator:
            need = number((levels or {}).get("kick"), 50)
        if have < need and sender not in await self._client.patient.creators(room):
            raise NotAllowed(f"You need power level {need} in this room for that; you have {have}.")

    async def _login(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        network = self._network(words)
        fields: dict[str, str] = {}
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if not equals:
                raise NotAllowed(
                    f"Say `login {network} field=value ...`, with quotes around what has spaces."
                )
            fields[name] = value
        self._spend(sender)
        await self._accounts.open(network, sender, fields)
        return (
            f"Your account on {self._label(network)} is being signed in. `!bridge status` shows how it does."
        )

    async def _logout(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        gone = bool(words) and self._remains.are_of(NetworkId(words[0]))
        network = NetworkId(words[0]) if gone else self._network(words)
        login = self._accounts.of(network, sender)
        if login is None:
            raise NotAllowed(f"You have no account on {self._label(network)} here.")
        await self._portals.close_account(network, login)
        return f"Your account on {self._label(network)} was taken away from the bridge, with its password."

    async def _chat(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        network = self._network(words)
        login = self._accounts.of(network, sender)
        if login is None:
            raise NotAllowed(self._making.no_login(network))
        if len(words) != 2:
            raise NotAllowed(f"Say `!bridge chat {network} <name>`.")
        side, person = self._portals.find_person(network, words[1], login)
        self._spend(sender)
        if (link := self._registry.links.get(side)) is None:
            if why := await self._directs.refusal(sender, network, person):
                raise NotAllowed(why)
            await self._making.direct(side, person, sender)
            return f"You are invited to a room with {words[1]}."
        if await allowed(self._client.patient.invite(link.room, sender)):
            return f"There is a room with {words[1]} already: you are invited to it."
        return f"There is a room with {words[1]} already, and you are in it."

    async def _stop(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        stopped = self._silence(room, sender)
        if not stopped:
            return "Nothing of what you said here waits to be sent."
        which = "1 message of yours that was" if stopped == 1 else f"{stopped} messages of yours that were"
        return f"Stopped {which} still waiting, or on the way: what became of each, your client shows."

    async def _forget(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """For admins: what is left of a network that is not configured any more."""
        if self._permission(sender) is not Permission.ADMIN:
            raise NotAllowed("Only an admin of this bridge can do that.")
        network = NetworkId(words[0]) if words else NetworkId("")
        if not self._remains.are_of(network):
            left = ", ".join(self._remains.all())
            raise NotAllowed(
                f"Say `!bridge forget <network>`: something is left of {left}."
                if left
                else "Nothing is left of any network that is not configured."
            )
        return f"Nothing is left of {network}: {await self._remains.forget(network)} were taken away."

    def _network(self, words: list[str]) -> NetworkId:
        if not words or words[0] not in self._manifests:
            raise NotAllowed(f"Say which network: {', '.join(self._manifests) or 'none is configured'}.")
        return NetworkId(words[0])
