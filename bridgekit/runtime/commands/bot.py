"""The bot: it explains itself, and obeys commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridgekit.contract.connector import Manifest
from bridgekit.contract.errors import BridgeError, NotAllowed
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.core import wording
from bridgekit.core.commands import split_words
from bridgekit.core.rates import Buckets, Rate
from bridgekit.core.scopes import Scope
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.titles import Titles
from bridgekit.runtime.cases import Case
from bridgekit.runtime.clock import now
from bridgekit.runtime.commands.links import PASSWORD
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.registry import WAITING, Registry

EXPLANATIONS = Rate(1, 10_000)
"""In one remote chat, so that nobody can make the bridge flood it."""
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
        registry: Registry,
        manifests: Mapping[NetworkId, Manifest],
        *,
        rights: Rights,
        commands: Mapping[str, Command],
        exposures: Exposures,
        consenting: Consenting,
        titles: Titles,
        me: PersonId,
        label: Callable[[NetworkId], str],
        silence: Callable[[ChatId, PersonId], int],
    ) -> None:
        """`commands`, by what people type, are added to `help` and `stop`."""
        self._client = client
        self._portals = portals
        self._registry = registry
        self._manifests = manifests
        self._rights = rights
        self._exposures = exposures
        self._consenting = consenting
        self._titles = titles
        self._me = me
        self._label = label
        self._silence = silence
        self._explained: Buckets[PortalKey] = Buckets(EXPLANATIONS)
        self._commands: dict[str, Command] = {"help": self._help, "stop": self._stop, **commands}

    async def obey(self, room: ChatId, case: Case, words: str) -> None:
        """Answer one command where it was given."""
        if case.origin.network != MATRIX:
            if words.lower() not in _HEARD_ALREADY and words.lower().split()[:1] not in (
                ["accept"],
                ["reject"],
            ):
                await self.explain(case.origin)
            return
        source = f"bk.{case.number:x}.answer"
        if await self._has_answered(room, case, source):
            return
        sender: Person = getattr(case.fact, "sender")  # noqa: B009 - only what somebody said is a command
        parts = split_words(words) or ["help"]
        name, rest = parts[0].lower(), parts[1:]
        command = self._commands.get(name)
        try:
            self._rights.may_command(sender.id, name)
            if command is None:
                portal = self._registry.portals.get(room)
                mark = "" if portal is not None and portal.kind == "management" else "!bridge "
                raise NotAllowed(f"There is no command {name}. Say `{mark}help` to see what there is.")
            if _may_hold_a_password(name, rest):
                await self._hide(room, case)
            answer = await command(room, sender.id, rest)
        except BridgeError as error:
            answer = error.notice
        await self._portals.say(room, answer, source=source, since=case.accepted)

    async def greet(self, room: ChatId, case: Case, *, direct: bool) -> None:
        """Say who this is on entering a room, where `case` has invited the bot."""
        source = f"bk.{case.number:x}.greeting"
        if await self._has_answered(room, case, source):
            return
        here = "Every word here is a command" if direct else "In this room, start commands with `!bridge`"
        help = "`help`" if direct else "`!bridge help`"
        words = f"I am a bridge to other networks. {here}; {help} tells what I can do."
        await self._portals.say(room, words, source=source, since=case.accepted)

    async def _has_answered(self, room: ChatId, case: Case, source: str) -> bool:
        """Whether an earlier run has said what it had to say to that."""
        return case.recovering and bool(await self._client.find_sent(room, [source], case.accepted))

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
        seen = self._exposures.visibilities.of(side)
        title = await self._titles.read(link.room)
        lines = [
            f"This chat is bridged to the Matrix room {title}{also} by {self._me}. Linked by {link.creator}."
            if link.state != WAITING
            else f"{link.creator} asks to link this chat to the Matrix room {title}; nothing passes. {link.reason}",
            *wording.what_holds(
                self._consenting.consents(side),
                self._consenting.scopes(side),
                self._consenting.policy(side.network),
            ),
            wording.HOW_TO_OBJECT,
        ]
        if link.state != WAITING and seen is not None:
            lines.insert(1, wording.who_reads(self._exposures.wishes.shown(link.room)))
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
                "  !bridge agree files   let chats that cannot take files or long messages of this encrypted room have",
                "                        links to them (`disagree files` ends the links at once)",
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
                "  !bridge puppet on|off   what you say elsewhere carries your own name in encrypted rooms, too",
                f"  !bridge chat {network} <name>   a direct conversation, with your own account",
                f"  !bridge find {network} <who>   look for people, where they let themselves be found",
                f"  !bridge decline {network} <chat>   to who asked your account into it; linking it agrees",
                f"  !bridge code {network} <chat> [off]   lets whoever has it into a closed chat; say it to me alone",
                "  !bridge reports   what abuse was reported, for the bridge's admins; `done <number>` closes one",
                "Logins hold passwords: give that command in a direct room with me.",
            ]
        )

    async def _stop(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        stopped = self._silence(room, sender)
        if not stopped:
            return "Nothing of what you said here waits to be sent."
        which = "1 message of yours that was" if stopped == 1 else f"{stopped} messages of yours that were"
        return f"Stopped {which} still waiting, or on the way: what became of each, your client shows."
