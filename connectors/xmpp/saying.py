"""Verbs at work: in rooms by one of our occupants; what is no saying in a room goes to who does that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_never
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract import verbs
from bridgekit.contract.errors import Disconnected, SendRejected, SendUncertain
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.contract.people import Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Sent, Verb
from connectors.xmpp.deliveries import NotThere
from connectors.xmpp.ruling import Ruling
from connectors.xmpp.stanzas import compose, explain, wire
from connectors.xmpp.stanzas.wire import make
from connectors.xmpp.stream import new_id
from connectors.xmpp.voices import Voice
from connectors.xmpp.watch import Watch
from connectors.xmpp.whispering import Whispering
from connectors.xmpp.writing import Writing, reacted, reference

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession


class Saying:
    """What one session does."""

    def __init__(self, session: XmppSession) -> None:
        self._session = session
        self._writing = Writing(session)
        self._ruling = Ruling(session, self._writing)
        self._whispering = Whispering(session, self._writing)

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb. Raises RemoteError, MatrixError."""
        session = self._session
        if session.stream.lost.done():
            raise Disconnected(session.stream.lost.result())
        if not verb.chat:
            raise SendRejected("That is no address on XMPP.")
        if not session.network.is_room(verb.chat):
            return await self._whispering.perform(verb)
        match verb:
            case verbs.Join():
                await self._join(verb)
                return None
            case verbs.Leave():
                self._leave(verb)
                return None
            case verbs.Depart():
                self._depart(verb)
                return None
            case verbs.SetTyping() | verbs.MarkRead() | verbs.ShowProfile():
                self._fleeting(verb)
                return None
        match verb:
            case (
                verbs.PostMessage() | verbs.EditMessage() | verbs.React() | verbs.Unreact() | verbs.Retract()
            ):
                return await self._said(verb)
        watch = await self._present(verb.chat)
        match verb:
            case verbs.SetTopic():
                await self._ruling.subject(watch, verb)
            case verbs.SetName():
                await self._ruling.name(watch, verb)
            case verbs.SetAvatar():
                raise SendRejected("The bridge cannot change the pictures of rooms on XMPP.")
            case verbs.Invite():
                await self._ruling.invite(watch, verb)
            case verbs.Kick() | verbs.Ban() | verbs.Unban() | verbs.SetRole():
                await self._ruling.administer(watch, verb)
            case verbs.FetchHistory():
                return await self._ruling.fetch(watch, verb)
            case _:
                assert_never(verb)
        return None

    # -- being there

    async def _present(self, chat: ChatId) -> Watch:
        """The room; the relay waits for a join that is under way, an own account goes there by itself."""
        session = self._session
        watch = session.watches.get(chat)
        if watch is None or not watch.room.joined:
            linked = session.login is not None or watch is not None or chat in await session.network.linked()
            if not linked:  # after a reconnect a word may come before the rooms are entered again
                raise SendRejected(f"The bridge is not in {explain.shown(chat)} on XMPP: link it first.")
            if session.login is not None:
                session.network.refuse_who_is_out(chat, session.jid)
            watch = await session.rooms.enter(chat)
        return watch

    async def _join(self, verb: verbs.Join) -> None:
        session = self._session
        if verb.speaker is not None and session.network.is_component:
            session.network.let_in(verb.chat, session.network.address(verb.speaker))
        elif session.login is not None:
            session.network.let_in(verb.chat, session.jid)
        watch = await session.rooms.enter(verb.chat, verb.secret)
        if session.login is None and session.sealing.missing:
            await watch.settled.wait()
            if watch.is_all_sealed:
                self._leave(verbs.Leave(chat=verb.chat))
                raise SendRejected(
                    f"All that is said in {verb.chat} is encrypted with OMEMO, which the bridge could not read there. "
                    f"{session.sealing.missing}"
                )
        await session.sealing.look(verb.chat, watch)
        if session.account is not None:
            session.spawn(session.account.bookmark(verb.chat, session.me.name, keep=True), "xmpp-bookmark")
        if verb.speaker is not None and self._session.network.is_component:
            await self._voice(self._session.watches[verb.chat], verb.speaker)

    def _depart(self, verb: verbs.Depart) -> None:
        session = self._session
        if verb.speaker is None or not session.network.is_component:
            return
        voice = session.voices.get(verb.chat, session.network.address(verb.speaker))
        if voice is not None:
            session.network.left(verb.chat, voice.jid)
            session.voices.leave(voice, verb.reason)

    def _leave(self, verb: verbs.Leave) -> None:
        session = self._session
        watch = session.watches.get(verb.chat)
        if watch is None:
            return
        watch.wanted = False
        if session.account is not None:
            session.spawn(session.account.bookmark(verb.chat, "", keep=False), "xmpp-bookmark")
        for voice in session.voices.of(verb.chat):
            session.voices.leave(voice, verb.reason)
        if watch.entering is not None:
            watch.entering.cancel()
        del session.watches[verb.chat]
        session.network.forget(verb.chat)

    async def _voice(self, watch: Watch, speaker: Person | None) -> Voice:
        """Who says it: the session itself, or the speaker as an occupant, who comes in at the first word."""
        session = self._session
        if speaker is None or not session.network.is_component:
            voice = session.reader(watch.room.jid)
            if voice is None and session.is_ending:
                raise Disconnected("The connection to the XMPP server was lost.")
            if voice is None:
                raise SendRejected(f"The bridge is not in {watch.room.jid} on XMPP now: try again later.")
            return voice
        jid = session.network.address(speaker)
        known = session.voices.get(watch.room.jid, jid)
        if known is not None and known.joined:
            known.used = asyncio.get_running_loop().time()
            return known
        session.network.refuse_who_is_out(watch.room.jid, jid)
        await session.network.pace()
        name = session.network.remember(watch.room.jid, speaker)
        secret = await session.network.secret(watch.room.jid)
        voice = await session.voices.enter(watch.room, jid, name, password=secret)
        session.network.placed(voice, speaker)
        voice.used = asyncio.get_running_loop().time()
        return voice

    # -- saying in rooms

    async def _said(
        self,
        verb: verbs.PostMessage | verbs.EditMessage | verbs.React | verbs.Unreact | verbs.Retract,
        *,
        again: bool = False,
    ) -> Sent | None:
        async with self._writing.in_turn(verb.chat):
            watch = await self._present(verb.chat)
            voice = await self._voice(watch, verb.speaker)
            if isinstance(verb, verbs.React | verbs.Unreact):
                await self._session.network.recall_reactions(verb.chat, watch.index)
            if isinstance(verb, verbs.Retract) and not self._is_own(watch, voice, verb.target):
                await self._ruling.moderate(watch, verb)
                return None
            if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
                said = await self._file(watch, voice, verb)
            else:
                stanza = self._writing.stanza(watch.room.jid, voice.jid, room=True, key=verb.key)
                if not self._writing.fill(
                    stanza, verb, watch.index, speaker=voice.jid, room=True, watch=watch
                ):
                    return None
                said = [stanza]
            for one in said:
                if await self._arrived(watch, one) is None:
                    sealed = await self._session.sealing.seal(watch.room.jid, one, watch)
                    self._writing.out(watch.room.jid, sealed)
                    if isinstance(verb, verbs.Retract):
                        self._retract_0(watch, voice, verb.target)
        try:
            names = [await self._fate(watch, one, verb.key) for one in said]
        except SendRejected as refused:
            if isinstance(verb, verbs.React | verbs.Unreact):
                reacted(verb, watch.index, voice.jid, undo=True)
            if again or not isinstance(refused, NotThere):
                raise
            # The room has forgotten the speaker, and nobody has seen the words: they come in, and say it once more.
            await self._session.rooms.expelled(watch, voice)
            return await self._said(verb, again=True)
        if isinstance(verb, verbs.React | verbs.Unreact):
            self._session.network.keep_reactions(verb.chat, watch.index)
        return Sent(id=names[-1], more=tuple(names[:-1]))

    def _retract_0(self, watch: Watch, voice: Voice, target: MessageId) -> None:
        """Clients of XEP-0424 before 0.4 know a message by its origin-id, also where the room gives ids: they are told
        beside. Nobody waits for what becomes of it."""
        named = watch.index.get(target)
        if named is not None and named.wire and watch.index.believes:
            stanza = self._writing.stanza(watch.room.jid, voice.jid, room=True)
            compose.retract_0(stanza, named.wire)
            self._session.stream.send(stanza)

    async def _arrived(self, watch: Watch, stanza: Element) -> MessageId | None:
        """What the room calls it, if an earlier try, of this bridge or of the one before a crash, has arrived."""
        if not watch.is_certain or self._session.login is not None:
            return None
        await watch.settled.wait()
        if self._session.stream.lost.done():
            raise Disconnected(self._session.stream.lost.result())
        return watch.arrived(stanza.get("id", ""))

    async def _fate(self, watch: Watch, stanza: Element, key: str) -> MessageId:
        """What the room calls it. Where the connection is lost, the archive will tell the next one what arrived."""
        id = stanza.get("id", "")
        if (known := watch.arrived(id)) is not None:
            self._session.deliveries.forget(watch.room.jid, id)
            return known
        try:
            return await self._session.deliveries.fate(watch.room.jid, id)
        except SendUncertain as doubt:
            if key and self._session.login is None and watch.is_certain and self._session.is_ending:
                raise Disconnected(doubt.notice) from None
            raise

    def _is_own(self, watch: Watch, voice: Voice, target: MessageId) -> bool:
        named = watch.index.get(target)
        there = watch.room.occupants.get(voice.nick)
        return named is not None and there is not None and named.sender == there.person

    async def _file(self, watch: Watch, voice: Voice, verb: verbs.PostMessage) -> list[Element]:
        """The file by itself, because its URL must be the whole body (XEP-0066); its caption before it."""
        file = verb.content.file
        assert file is not None
        if not self._session.upload.service:
            raise SendRejected("The XMPP server takes no files.")
        said: list[Element] = []
        stanza = self._writing.stanza(watch.room.jid, voice.jid, room=True, key=verb.key)
        sealed = self._session.sealing.is_on(watch.room.jid)
        if await self._arrived(watch, stanza) is None:
            await self._writing.attach(stanza, file, self._session.jid, sealed=sealed, watch=watch)
        if (verb.content.text and verb.content.text.body != file.name) or verb.prefix:
            if not verb.content.text:
                verb = msgspec.structs.replace(
                    verb, content=msgspec.structs.replace(verb.content, text=plain(file.name))
                )
            caption = self._writing.stanza(watch.room.jid, voice.jid, room=True, key=verb.key, part="caption")
            self._writing.fill(caption, verb, watch.index, speaker=voice.jid, room=True, watch=watch)
            said.append(caption)
        return [*said, stanza]

    def _fleeting(self, verb: verbs.SetTyping | verbs.MarkRead | verbs.ShowProfile) -> None:
        """Nobody goes into a room for that; nobody waits for what becomes of it."""
        session = self._session
        watch = session.watches.get(verb.chat)
        jid = session.jid
        if verb.speaker is not None and session.network.is_component:
            jid = session.network.address(verb.speaker)
        voice = session.voices.get(verb.chat, jid)
        if watch is None or voice is None or not voice.joined:
            return
        if isinstance(verb, verbs.ShowProfile):
            if verb.speaker is not None:
                voice.wanted = session.network.remember(verb.chat, verb.speaker)
                wanted = next(voice.candidates())
                session.network.portray(voice)
                if wanted != voice.nick and wanted not in watch.room.occupants:
                    voice.asked = wanted
                    session.stream.send(
                        compose.enter(verb.chat, wanted, voice.jid, password="", since="", history=False)
                    )
            return
        stanza = make("message", wire.CLIENT, to=verb.chat, from_=voice.jid, id=new_id(), type="groupchat")
        if isinstance(verb, verbs.SetTyping):
            compose.typing(stanza, verb.active)
        else:
            compose.displayed(stanza, reference(verb.target, watch.index, room=True))
        session.stream.send(stanza)
