"""Verbs into messages, in their turn and on their way: what saying in rooms and saying alone have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from bridgekit.contract import verbs
from bridgekit.contract.errors import Disconnected, SendRejected, SendUncertain
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import File
from bridgekit.contract.verbs import Verb
from connectors.xmpp.stanzas import compose, explain, files, wire
from connectors.xmpp.stanzas.index import OWN, Index
from connectors.xmpp.stanzas.jids import bare, domain
from connectors.xmpp.stanzas.wire import make
from connectors.xmpp.stream import Refused, new_id
from connectors.xmpp.watch import Watch

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

PROOF_SECONDS = 10.0
FORGOTTEN = "The bridge does not know that message on XMPP any more: it cannot be changed."


class Writing:
    """One session's."""

    def __init__(self, session: XmppSession) -> None:
        self._session = session
        self._turns: dict[ChatId, asyncio.Lock] = {}

    @asynccontextmanager
    async def in_turn(self, chat: ChatId) -> AsyncIterator[None]:
        """One after the other, as the calls came; who is cancelled here has said nothing."""
        turn = self._turns.setdefault(chat, asyncio.Lock())
        try:
            async with turn:
                yield
        except asyncio.CancelledError:
            raise Disconnected("The bridge stopped before this was sent.") from None

    def stanza(self, to: str, sender: str, *, room: bool, key: str = "", part: str = "") -> Element:
        """An empty message; with a key its id is the same at every try."""
        token = f"{key}/{part}/{to}" if key else new_id()
        return compose.message(to, sender, self._session.network.marks.make(token), room=room)

    def out(self, to: str, stanza: Element, why: Callable[[Element, str], str] = explain.saying) -> None:
        """From here on it is on its way; `why` explains a refusal."""
        id = stanza.get("id", "")
        self._session.deliveries.expect(to, id, why)
        try:
            self._session.stream.send(stanza)
        except Disconnected:
            self._session.deliveries.forget(to, id)
            raise

    async def proof(self, to: str, me: str, id: str, *, there: str = "") -> None:
        """What `out` sent, and nobody echoes, has not been refused: servers keep the order, so that would come before
        the answer of their domain, or of `there`. Raises SendRejected, SendUncertain."""
        session = self._session
        waiting = asyncio.ensure_future(session.deliveries.fate(bare(to), id, PROOF_SECONDS + 5))
        ping = compose.ask(there or domain(to), me, new_id(), make("ping", wire.PING))
        asking = asyncio.ensure_future(session.stream.ask(ping, PROOF_SECONDS))
        try:
            await asyncio.wait({waiting, asking}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                await waiting
                return
            try:
                await asking
            except Refused:
                pass
            except TimeoutError:
                raise SendUncertain(
                    f"The server of {explain.shown(bare(to))} does not answer: it may have arrived."
                ) from None
        except asyncio.CancelledError:
            raise SendUncertain("The bridge did not wait for the answer: it may have arrived.") from None
        finally:
            for task in (waiting, asking):
                task.cancel()
            await asyncio.gather(waiting, asking, return_exceptions=True)

    def fill(
        self, stanza: Element, verb: Verb, index: Index, *, speaker: str, room: bool, watch: Watch | None
    ) -> bool:
        """Put what the verb says into the message; False where there is nothing to say."""
        match verb:
            case verbs.PostMessage():
                author = self._author(verb, index, watch) if verb.reply is not None else ""
                compose.post(stanza, verb, author=author or stanza.get("to", ""))
                self.ask_back(stanza, watch)
            case verbs.EditMessage():
                named = index.get(verb.target)
                if named is None or not named.wire:
                    raise SendRejected(FORGOTTEN)
                compose.edit(stanza, verb, named.wire)
            case verbs.React() | verbs.Unreact():
                if isinstance(verb, verbs.React) and not wire.line(verb.reaction):
                    raise SendRejected("There is nothing in the reaction that XMPP can carry.")
                compose.reactions(
                    stanza, reference(verb.target, index, room=room), reacted(verb, index, speaker)
                )
            case verbs.Retract():
                compose.retract(stanza, reference(verb.target, index, room=room))
            case _:
                return False
        return True

    def _author(self, verb: verbs.PostMessage, index: Index, watch: Watch | None) -> str:
        """The address of whom a message answers (XEP-0461, 3.1: in a room, the occupant's)."""
        named = index.get(verb.reply.id) if verb.reply is not None and verb.reply.id else None
        if named is None:
            return ""
        if watch is None:
            return str(named.sender)
        nick = watch.room.nick_of(named.sender)
        return f"{watch.room.jid}/{nick}" if nick is not None else ""

    @staticmethod
    def ask_back(stanza: Element, watch: Watch | None) -> None:
        """Among few; in a room that anybody enters, everybody would tell everybody what they have read."""
        if watch is None or "muc_membersonly" in watch.room.about.features:
            compose.ask_back(stanza, room=watch is not None)

    async def attach(
        self, stanza: Element, file: File, me: str, *, sealed: bool, watch: Watch | None
    ) -> None:
        """Put the file where XMPP finds it, and its address into the message."""
        if sealed:
            compose.say(stanza, await self._session.upload.put_sealed(file, me))
        else:
            files.attach(stanza, await self._session.upload.put(file, me), file)
        self.ask_back(stanza, watch)


def reacted(
    verb: verbs.React | verbs.Unreact, index: Index, speaker: str, *, undo: bool = False
) -> frozenset[str]:
    """The speaker's whole set is now this (XEP-0444, 3); `undo`: the room has refused it."""
    who, key = PersonId(f"{bare(speaker)}{OWN}"), frozenset({wire.line(verb.reaction)})
    keys = index.reactions(verb.target, who)
    keys = keys | key if isinstance(verb, verbs.React) is not undo else keys - key
    index.react(verb.target, who, keys)
    return keys


def reference(target: MessageId, index: Index, *, room: bool) -> str:
    """By which id others know a message: the stanza-id in a room that gives them, else the id on the wire."""
    if not target:
        raise SendRejected(FORGOTTEN)
    if room and index.believes:
        return target
    named = index.get(target)
    return named.wire if named is not None and named.wire else target.rpartition("/")[2] or target
