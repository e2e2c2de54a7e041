"""Our occupants in rooms: who of ours is where under which nick, how they come in, and when they go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

from bridgekit.contract.errors import Disconnected, SendRejected
from connectors.xmpp.stanzas import compose, explain
from connectors.xmpp.stanzas.jids import bare, nick, node
from connectors.xmpp.stanzas.rooms import Presence, Room

JOIN_SECONDS = 25.0
TRIES = 6


class Voice:
    """One of ours in one room. `jid` is the full address it speaks from."""

    def __init__(self, room: Room, jid: str, name: str) -> None:
        self.room = room
        self.jid = jid
        self.wanted = name
        self.nick = ""
        self.joined = False
        self.used = 0.0
        self.asked = ""  # the nick that the room has been asked for, and has not answered about
        self.photo = ""  # the digest of the picture that the room was told of
        self.entering: asyncio.Future[None] | None = None

    def is_in(self) -> bool:
        """Whether the room has let it in."""
        return self.joined

    def candidates(self) -> Iterator[str]:
        """Nicks to try: the name, then the name with something behind it."""
        stem = nick(self.wanted) or nick(node(self.jid)) or "somebody"
        yield stem
        for count in range(2, TRIES + 1):
            yield f"{stem} ({count})"


class Voices:
    """All of them on one connection."""

    def __init__(
        self, send: Callable[[Element], None], agreed: Callable[[str, str], None] = lambda room, nick: None
    ) -> None:
        """`agreed` is told of a room and a nick whenever it is clear whether one of ours has it there."""
        self._send = send
        self._agreed = agreed
        self._all: dict[tuple[str, str], Voice] = {}
        self._lost = False

    def get(self, room: str, jid: str) -> Voice | None:
        return self._all.get((room, jid))

    def of(self, room: str) -> list[Voice]:
        """Everybody of ours in a room."""
        return [voice for (where, _), voice in self._all.items() if where == room]

    def all(self) -> list[Voice]:
        return list(self._all.values())

    async def enter(
        self, room: Room, jid: str, name: str, *, password: str = "", history: bool = False, since: str = ""
    ) -> Voice:
        """Be in the room, as `name` or nearly so. Raises SendRejected with the room's reason, Disconnected."""
        voice = self._all.get((room.jid, jid))
        if voice is None:
            voice = self._all[room.jid, jid] = Voice(room, jid, name)
        if voice.is_in():
            return voice
        if voice.entering is not None:  # somebody else is at it
            await asyncio.wait([voice.entering])
            if voice.is_in():
                return voice
        refusal: Element | None = None
        for count, candidate in enumerate(voice.candidates()):
            if count and candidate in room.occupants and room.ours.get(candidate) != bare(jid):
                continue  # it is taken, as far as we see; the name itself may be ours from before a restart
            refusal = await self._try(voice, candidate, password, history=history, since=since)
            if refusal is None:
                return voice
            if explain.condition(refusal)[0] != "conflict":
                break
        self._all.pop((room.jid, jid), None)
        if refusal is None:
            raise SendRejected(f"Every nick that the bridge tried in {room.jid} is taken.")
        raise SendRejected(explain.joining(refusal, room.jid))

    async def _try(
        self, voice: Voice, candidate: str, password: str, *, history: bool, since: str
    ) -> Element | None:
        """None once it is in, the error presence where the room refuses."""
        if self._lost:
            raise Disconnected("The connection to the XMPP server was lost.")
        voice.nick = candidate
        coming = voice.room.coming
        coming[candidate] = coming.get(candidate, 0) + 1
        voice.entering = asyncio.get_running_loop().create_future()
        try:
            self._send(
                compose.enter(
                    voice.room.jid, candidate, voice.jid, password=password, since=since, history=history
                )
            )
            async with asyncio.timeout(JOIN_SECONDS):
                await voice.entering
        except TimeoutError:
            raise SendRejected(f"{voice.room.jid} does not answer: try again later.") from None
        except _Refusal as refused:
            return refused.stanza
        finally:
            coming[candidate] -= 1
            if not coming[candidate]:
                del coming[candidate]
            voice.entering.cancel()  # nothing to do where it is done
            voice.entering = None
            self._agreed(voice.room.jid, candidate)
        return None

    def read(self, presence: Presence, stanza: Element, room: str) -> Voice | None:
        """A presence for one of ours; the voice that it was addressed to."""
        voice = self._all.get((room, presence.to))
        if voice is None:
            return None
        waiting = voice.entering if voice.entering is not None and not voice.entering.done() else None
        if presence.error:
            voice.asked = ""
            if waiting is not None:
                waiting.set_exception(_Refusal(stanza))
            return voice
        own = 110 in presence.codes or (
            presence.nick == voice.nick and presence.available is not voice.joined
        )
        if not own:
            return voice
        if presence.available and 201 in presence.codes and not voice.joined:
            # 10.1.1: it had gone, and is ours now, and locked. The bridge makes no rooms, and shuts nobody out of one.
            self.leave(voice)
            if waiting is not None:
                waiting.set_exception(_Refusal(compose.nowhere()))
        elif presence.available:
            # 110 says that it is ours; 210, that the service gave another one (7.2.3).
            self._renamed(voice, presence.nick)
            voice.joined = True
            if waiting is not None:
                waiting.set_result(None)
        elif 303 in presence.codes and presence.new_nick:
            self._renamed(voice, presence.new_nick)
        else:
            self.forget(voice)
            if waiting is not None:
                waiting.set_exception(_Refusal(stanza))
        return voice

    def _renamed(self, voice: Voice, name: str) -> None:
        if voice.room.ours.get(voice.nick) == bare(voice.jid):
            del voice.room.ours[voice.nick]
        voice.nick, voice.asked = name, ""
        voice.room.ours[name] = bare(voice.jid)

    def forget(self, voice: Voice) -> None:
        """It is not in its room."""
        voice.joined = False
        if voice.room.ours.get(voice.nick) == bare(voice.jid):
            del voice.room.ours[voice.nick]
        self._all.pop((voice.room.jid, voice.jid), None)

    def leave(self, voice: Voice, reason: str = "") -> None:
        """Go, and be forgotten."""
        self._send(compose.leave(voice.room.jid, voice.nick, voice.jid, reason))
        self.forget(voice)

    def emptied(self, room: str) -> None:
        """Nobody of ours is in the room any more, whatever the room says."""
        for voice in self.of(room):
            self.forget(voice)

    def lost(self) -> None:
        """The connection is gone."""
        self._lost = True
        for voice in self.all():
            if voice.entering is not None and not voice.entering.done():
                voice.entering.set_exception(Disconnected("The connection to the XMPP server was lost."))
                voice.entering.exception()
            self.forget(voice)


class _Refusal(Exception):
    def __init__(self, stanza: Element) -> None:
        super().__init__("the room refused")
        self.stanza = stanza
