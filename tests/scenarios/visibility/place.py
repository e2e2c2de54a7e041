"""A homeserver that shows strangers all that it may, real IRC and XMPP servers, and those who must not read along."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp

from bridgekit.testing.person import Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Synapse, find_python
from connectors.irc.testing.inspircd import inspircd
from connectors.irc.testing.ngircd import ngircd
from connectors.xmpp.testing.person import Person as Client
from connectors.xmpp.testing.person import person as client
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, SECRET, Prosody, prosody
from tests.scenarios.irc.peer import Peer, peer

PLAIN, MODERN, XMPP = "plain", "modern", "xmpp"
OPEN_TO_STRANGERS: dict[str, Any] = {
    "allow_guest_access": True,
    "allow_public_rooms_without_auth": True,
    "room_list_publication_rules": [{"action": "allow"}],
}
_numbers = itertools.count(1)


class Outsider:
    """Somebody who tries every door of a room; `got` is all that the homeserver ever gave them of it, as text."""

    def __init__(self, name: str, base_url: str, token: str | None) -> None:
        self.name = name
        self.got: list[str] = []
        self.doors: dict[
            str, str
        ] = {}  # what each way of reading gave the last time, "" where it was refused
        self._base_url = base_url
        self._token = token

    async def try_all(self, room: str, event: str, *, join: bool) -> None:
        """Read the room in every way that there is; refusals are as good as silence."""
        r, e = quote(room, safe=""), quote(event, safe="")
        if join:
            await self._try("knock", "POST", f"/_matrix/client/v3/knock/{r}", {})
            await self._try("join", "POST", f"/_matrix/client/v3/join/{r}", {})
        for door, path in (
            ("messages", f"/_matrix/client/v3/rooms/{r}/messages?dir=b&limit=200"),
            ("context", f"/_matrix/client/v3/rooms/{r}/context/{e}?limit=100"),
            ("event", f"/_matrix/client/v3/rooms/{r}/event/{e}"),
            ("initialSync", f"/_matrix/client/v3/rooms/{r}/initialSync?limit=100"),
            ("state", f"/_matrix/client/v3/rooms/{r}/state"),
            ("summary", f"/_matrix/client/v1/room_summary/{r}"),
            ("old summary", f"/_matrix/client/unstable/im.nheko.summary/rooms/{r}/summary"),
            ("events", f"/_matrix/client/v3/events?room_id={r}&timeout=0"),
            ("hierarchy", f"/_matrix/client/v1/rooms/{r}/hierarchy"),
            ("threads", f"/_matrix/client/v1/rooms/{r}/threads"),
            ("relations", f"/_matrix/client/v1/rooms/{r}/relations/{e}"),
            ("timestamp", f"/_matrix/client/v1/rooms/{r}/timestamp_to_event?ts=0&dir=f"),
            ("publicRooms", "/_matrix/client/v3/publicRooms?limit=100"),
            ("notifications", "/_matrix/client/v3/notifications?limit=100"),
            ("sync", "/_matrix/client/v3/sync?timeout=0&full_state=true"),
        ):
            await self._try(door, "GET", path)
        lists = {"all": {"ranges": [[0, 99]], "required_state": [["*", "*"]], "timeline_limit": 100}}
        wanted = {"lists": lists, "room_subscriptions": {room: {"required_state": [], "timeline_limit": 100}}}
        sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0"
        await self._try("sliding sync", "POST", sliding, wanted)
        for term in ("words", "word", "race"):
            wanted = {"search_categories": {"room_events": {"search_term": term}}}
            await self._try(f"search for {term}", "POST", "/_matrix/client/v3/search", wanted)

    async def _try(self, door: str, method: str, path: str, body: Any = None) -> None:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async with (
            aiohttp.ClientSession(self._base_url, timeout=aiohttp.ClientTimeout(30)) as session,
            session.request(method, path, json=body, headers=headers) as response,
        ):
            self.doors[door] = await response.text() if response.status < 400 else ""
            self.got.append(self.doors[door])

    def through(self, words: str) -> set[str]:
        """The doors that showed these words the last time."""
        return {door for door, text in self.doors.items() if words in text}


def leaked(outsider: Outsider, secrets: list[str]) -> list[str]:
    """The secret words that somebody was given."""
    everything = "\n".join(outsider.got)
    return [word for word in secrets if word in everything]


@dataclass
class Place:
    """Everything that runs. `secrets` are the words that no outsider may ever be given."""

    synapse: Synapse
    bridge: BridgeProcess
    ports: dict[str, int]
    stack: AsyncExitStack
    prosody: Prosody | None = None
    secrets: list[str] = field(default_factory=list)
    outsiders: list[Outsider] = field(default_factory=list)

    async def person(self, stem: str) -> Person:
        account = await self.synapse.register(f"{stem}{next(_numbers)}")
        return await self.stack.enter_async_context(Person(self.synapse.base_url, account))

    async def operator(self, network: str, nick: str, channel: str) -> Peer:
        """Somebody who made the channel, and so is its operator."""
        return await self.stack.enter_async_context(
            peer(self.ports[network], f"{nick}{next(_numbers)}", channel, tags=network == MODERN)
        )

    async def owner(self, network: str, stem: str, *, shuts: dict[str, str] | None = None) -> Owner:
        """Somebody who speaks for a chat of their own; `shuts`: how an XMPP room is configured when it is shut."""
        if network != XMPP:
            channel = f"#vis{network}{next(_numbers)}"
            return Channel(await self.operator(network, stem, channel), channel, f"{network}bridge")
        assert self.prosody is not None, "the place has no XMPP server"
        account = await self.prosody.register(f"{stem}{next(_numbers)}")
        bob = await self.stack.enter_async_context(
            client(*account, port=self.prosody.port, certificate=self.prosody.certificate)
        )
        chat = f"vis{next(_numbers)}@{ROOMS}"
        await bob.join(chat)
        return RoomOwner(bob, chat, shuts or {})

    async def strangers(self) -> None:
        """An unauthenticated reader and a guest, who try at every step."""
        base = self.synapse.base_url
        self.outsiders.append(Outsider("nobody", base, None))
        guest = await self.synapse.request("POST", "/_matrix/client/v3/register?kind=guest", {})
        self.outsiders.append(Outsider("guest", base, guest["access_token"]))

    async def fresh(self) -> Outsider:
        """An account that was never in a room. Who walks into a public room is a member from then on, so each step has
        a new one."""
        account = await self.synapse.register(f"fresh{next(_numbers)}")
        return Outsider("fresh account", self.synapse.base_url, account.access_token)

    async def later(self, owner: Person, room: str) -> Outsider:
        """Somebody who is asked in now: what was said before they came must stay closed to them."""
        account = await self.synapse.register(f"later{next(_numbers)}")
        await owner.invite(room, account.user_id)
        outsider = Outsider("later joiner", self.synapse.base_url, account.access_token)
        r = quote(room, safe="")
        await outsider._try("join", "POST", f"/_matrix/client/v3/join/{r}", {})
        outsider.got.clear()
        return outsider

    async def seen_of_an_open_room(self, owner: Person) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Everybody tries at a room that is open to the world and has no bridge: through which doors each of them gets
        its words, and its name."""
        state = [
            ("m.room.history_visibility", {"history_visibility": "world_readable"}),
            ("m.room.guest_access", {"guest_access": "forbidden"}),
        ]
        room = await owner.create_room(
            preset="public_chat",
            visibility="public",
            name="the-open-room",
            initial_state=[{"type": type, "state_key": "", "content": content} for type, content in state],
        )
        event = await owner.say(room, "the-open-words")
        words, names = {}, {}
        for outsider in (*self.outsiders, await self.fresh()):
            await outsider.try_all(room, event, join=True)
            words[outsider.name] = outsider.through("the-open-words")
            names[outsider.name] = outsider.through("the-open-room")
        return words, names

    async def tries(self, step: str, room: str, event: str, owner: Person) -> None:
        """Everybody tries, a fresh account and somebody who is asked in only now as well; nobody may get a secret."""
        later = await self.later(owner, room)
        for outsider in (*self.outsiders, await self.fresh(), later):
            await outsider.try_all(room, event, join=outsider is not later)
            assert leaked(outsider, self.secrets) == [], f"{step}: {outsider.name} read what they must not"


class Owner(Protocol):
    """Somebody who speaks for a chat, with their own client."""

    chat: str

    def say(self, words: str) -> None: ...
    async def agree(self) -> None:
        """Answer the bridge's question with yes."""

    async def asked(self) -> None:
        """Wait for the bridge's question."""

    async def shut(self) -> None:
        """Make the chat secret."""

    async def open(self) -> None:
        """Take that back."""


@dataclass
class Channel:
    """An operator of an IRC channel."""

    peer: Peer
    chat: str
    bridge: str
    code: str = ""

    def say(self, words: str) -> None:
        self.peer.say(self.chat, words)

    async def asked(self) -> None:
        self.code = await code_for(self.peer)

    async def agree(self) -> None:
        self.peer.say(self.bridge, f"{self.code} yes")

    async def shut(self) -> None:
        self.peer.mode(self.chat, "+s")

    async def open(self) -> None:
        self.peer.mode(self.chat, "-s")


@dataclass
class RoomOwner:
    """The owner of an XMPP room; its opposite configuration opens it again."""

    client: Client
    chat: str
    shuts: dict[str, str]
    asker: str = ""
    code: str = ""

    def say(self, words: str) -> None:
        self.client.say(self.chat, words)

    async def asked(self) -> None:
        heard = await self.client.sees(
            lambda s: s.kind == "message" and re.search(r"bk-\w{4}-\w{4} yes", s.body), "a question", 40
        )
        found = re.search(r"bk-\w{4}-\w{4}", heard.body)
        assert found is not None
        self.asker, self.code = heard.sender, found.group()

    async def agree(self) -> None:
        self.client.say(self.asker, f"{self.code} yes", room=False)

    async def shut(self) -> None:
        await self.client.administer(
            self.chat,
            f"<item affiliation='member' jid='bridge@{COMPONENT}'/>",  # it stays where only members are
        )
        await self.client.configure(self.chat, **self.shuts)

    async def open(self) -> None:
        await self.client.configure(
            self.chat, **{name: "1" if value == "0" else "0" for name, value in self.shuts.items()}
        )


async def code_for(who: Peer) -> str:
    """The code that the bridge sent to an operator."""
    heard = await who.sees(
        lambda h: h.kind == "notice" and bool(re.search(r"bk-\w{4}-\w{4} yes", h.words)),
        40,
        what="a question",
    )
    found = re.search(r"bk-\w{4}-\w{4}", heard.words)
    assert found is not None
    return found.group()


@asynccontextmanager
async def place(
    *, rooms: bool = False, homeserver: dict[str, Any] | None = None, **section: Any
) -> AsyncIterator[Place]:
    """One Synapse of its own, ngircd, InspIRCd with services (with `rooms`: Prosody as well), and a bridge that asks
    before it links; `section` is what its config says of each network besides, `homeserver` what Synapse's says."""
    async with AsyncExitStack() as stack:
        ports: dict[str, int] = {}
        networks: dict[str, Any] = {}
        server: Prosody | None = None
        if rooms:
            server = await stack.enter_async_context(prosody())
            networks[XMPP] = {
                "connector": "xmpp",
                "name": "XMPP",
                "mode": "component",
                "jid": COMPONENT,
                "secret": SECRET,
                "port": server.component_port,
                "gate": "relay-allowed",  # who may read Matrix, and not who sits in the room, is looked at here
                **section,
            }
        ports[PLAIN] = (await stack.enter_async_context(ngircd())).port
        ports[MODERN] = (await stack.enter_async_context(inspircd())).port
        folder = stack.enter_context(private_directory("visibility"))
        (folder / "synapse").mkdir()
        (folder / "bridge").mkdir()
        synapse = Synapse(
            folder / "synapse", find_python(), "vis.test", [], OPEN_TO_STRANGERS | (homeserver or {})
        )
        for name, port in ports.items():
            networks[name] = {
                "connector": "irc",
                "name": name.title(),
                "nick": f"{name}bridge",
                "servers": [{"host": "127.0.0.1", "port": port, "tls": False}],
                "flood": {"refill": 0, "lead_max": 0},
                **section,
            }
        bridge = BridgeProcess(
            folder / "bridge",
            homeserver_url=synapse.base_url,
            server_name=synapse.server_name,
            networks=networks,
            permissions={"@bridgeadmin:vis.test": "admin", "vis.test": "user"},
        )
        synapse.registrations.append(bridge.registration)
        await synapse.start()
        stack.push_async_callback(synapse.stop)
        await bridge.start()
        stack.push_async_callback(bridge.stop)
        yield Place(synapse, bridge, ports, stack, server)


async def settled(seconds: float = 1.0) -> None:
    """What travels arrives."""
    await asyncio.sleep(seconds)
