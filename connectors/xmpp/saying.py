"""Verbs at work: in rooms by one of our occupants, in private by one of our addresses; each with its fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, assert_never
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract import verbs
from bridgekit.contract.errors import Disconnected, SendRejected, SendUncertain
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import File, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Sent, Verb
from connectors.xmpp import compose, explain, files, wire
from connectors.xmpp.deliveries import NotThere
from connectors.xmpp.history import Archived
from connectors.xmpp.index import OWN, Index, Named
from connectors.xmpp.jids import bare
from connectors.xmpp.stream import Refused, new_id
from connectors.xmpp.voices import Voice
from connectors.xmpp.watch import Watch
from connectors.xmpp.wire import make

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

FORGOTTEN = "The bridge does not know that message on XMPP any more: it cannot be changed."
PROOF_SECONDS = 10.0


class Saying:
    """What one session does."""

    def __init__(self, session: XmppSession) -> None:
        self._session = session
        self._turns: dict[ChatId, asyncio.Lock] = {}

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb. Raises RemoteError, MatrixError."""
        session = self._session
        if session.stream.lost.done():
            raise Disconnected(session.stream.lost.result())
        if not verb.chat:
            raise SendRejected("That is no address on XMPP.")
        if not session.network.is_room(verb.chat):
            return await self._private(verb)
        match verb:
            case verbs.Join():
                await self._join(verb)
                return None
            case verbs.Leave():
                self._leave(verb)
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
                await self._subject(watch, verb)
            case verbs.Invite():
                self._invite(watch, verb)
            case verbs.Kick() | verbs.Ban() | verbs.Unban() | verbs.SetRole():
                await self._administer(watch, verb)
            case verbs.FetchHistory():
                return await self._fetch(watch, verb)
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
                raise SendRejected(f"The bridge is not in {_shown(chat)} on XMPP: link it first.")
            if session.login is not None:
                session.network.refuse_who_is_out(chat, session.jid)
            watch = await session.enter(chat)
        return watch

    async def _join(self, verb: verbs.Join) -> None:
        session = self._session
        if verb.speaker is not None and session.network.is_component:
            session.network.let_in(verb.chat, session.network.address(verb.speaker))
        elif session.login is not None:
            session.network.let_in(verb.chat, session.jid)
        watch = await session.enter(verb.chat, verb.secret)
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

    def _leave(self, verb: verbs.Leave) -> None:
        session = self._session
        watch = session.watches.get(verb.chat)
        if watch is None:
            return
        if verb.speaker is not None:
            voice = session.voices.get(verb.chat, session.network.address(verb.speaker))
            if voice is not None:
                session.network.left(verb.chat, voice.jid)
                session.voices.leave(voice, verb.reason)
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
        async with self._in_turn(verb.chat):
            watch = await self._present(verb.chat)
            voice = await self._voice(watch, verb.speaker)
            if isinstance(verb, verbs.React | verbs.Unreact):
                await self._session.network.recall_reactions(verb.chat, watch.index)
            if isinstance(verb, verbs.Retract) and not self._is_own(watch, voice, verb.target):
                await self._moderate(watch, verb)
                return None
            if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
                said = await self._file(watch, voice, verb)
            else:
                stanza = self._stanza(watch.room.jid, voice.jid, room=True, key=verb.key)
                if not self._fill(stanza, verb, watch.index, speaker=voice.jid, room=True, watch=watch):
                    return None
                said = [stanza]
            for one in said:
                if await self._arrived(watch, one) is None:
                    sealed = await self._session.sealing.seal(watch.room.jid, one, watch)
                    self._out(watch.room.jid, sealed)
                    if isinstance(verb, verbs.Retract):
                        self._retract_0(watch, voice, verb.target)
        try:
            names = [await self._fate(watch, one, verb.key) for one in said]
        except SendRejected as refused:
            if isinstance(verb, verbs.React | verbs.Unreact):
                _reacted(verb, watch.index, voice.jid, undo=True)
            if again or not isinstance(refused, NotThere):
                raise
            # The room has forgotten the speaker, and nobody has seen the words: they come in, and say it once more.
            await self._session.expelled(watch, voice)
            return await self._said(verb, again=True)
        if isinstance(verb, verbs.React | verbs.Unreact):
            self._session.network.keep_reactions(verb.chat, watch.index)
        return Sent(id=names[-1], more=tuple(names[:-1]))

    def _retract_0(self, watch: Watch, voice: Voice, target: MessageId) -> None:
        """Clients of XEP-0424 before 0.4 know a message by its origin-id, also where the room gives ids: they are told
        beside. Nobody waits for what becomes of it."""
        named = watch.index.get(target)
        if named is not None and named.wire and watch.index.believes:
            stanza = self._stanza(watch.room.jid, voice.jid, room=True)
            compose.retract_0(stanza, named.wire)
            self._session.stream.send(stanza)

    @asynccontextmanager
    async def _in_turn(self, chat: ChatId) -> AsyncIterator[None]:
        """One after the other, as the calls came; who is cancelled here has said nothing."""
        turn = self._turns.setdefault(chat, asyncio.Lock())
        try:
            async with turn:
                yield
        except asyncio.CancelledError:
            raise Disconnected("The bridge stopped before this was sent.") from None

    def _stanza(self, to: str, sender: str, *, room: bool, key: str = "", part: str = "") -> Element:
        """An empty message; with a key its id is the same at every try."""
        token = f"{key}/{part}/{to}" if key else new_id()
        return compose.message(to, sender, self._session.network.marks.make(token), room=room)

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

    def _out(self, to: str, stanza: Element, why: Callable[[Element, str], str] = explain.saying) -> None:
        """From here on it is on its way; `why` explains a refusal."""
        id = stanza.get("id", "")
        self._session.deliveries.expect(to, id, why)
        try:
            self._session.stream.send(stanza)
        except Disconnected:
            self._session.deliveries.forget(to, id)
            raise

    def _fill(
        self, stanza: Element, verb: Verb, index: Index, *, speaker: str, room: bool, watch: Watch | None
    ) -> bool:
        """Put what the verb says into the message; False where there is nothing to say."""
        match verb:
            case verbs.PostMessage():
                author = self._author(verb, index, watch) if verb.reply is not None else ""
                compose.post(stanza, verb, author=author or stanza.get("to", ""), room=room)
            case verbs.EditMessage():
                named = index.get(verb.target)
                if named is None or not named.wire:
                    raise SendRejected(FORGOTTEN)
                compose.edit(stanza, verb, named.wire)
            case verbs.React() | verbs.Unreact():
                if isinstance(verb, verbs.React) and not wire.line(verb.reaction):
                    raise SendRejected("There is nothing in the reaction that XMPP can carry.")
                compose.reactions(
                    stanza, _reference(verb.target, index, room=room), _reacted(verb, index, speaker)
                )
            case verbs.Retract():
                compose.retract(stanza, _reference(verb.target, index, room=room))
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

    def _is_own(self, watch: Watch, voice: Voice, target: MessageId) -> bool:
        named = watch.index.get(target)
        there = watch.room.occupants.get(voice.nick)
        return named is not None and there is not None and named.sender == there.person

    async def _moderate(self, watch: Watch, verb: verbs.Retract) -> None:
        """XEP-0425: what others said is taken back by the room, if the bridge is a moderator there."""
        xmlns = watch.room.about.moderates
        if not xmlns:
            raise SendRejected(
                f"{watch.room.jid} does not let moderators take messages back: it can still be read there."
            )
        me = self._session.jid
        await self._ask(
            compose.moderate(watch.room.jid, me, new_id(), verb.target, verb.reason, xmlns), watch.room.jid
        )

    async def _file(self, watch: Watch, voice: Voice, verb: verbs.PostMessage) -> list[Element]:
        """The file by itself, because its URL must be the whole body (XEP-0066); its caption before it."""
        file = verb.content.file
        assert file is not None
        if not self._session.upload.service:
            raise SendRejected("The XMPP server takes no files.")
        said: list[Element] = []
        stanza = self._stanza(watch.room.jid, voice.jid, room=True, key=verb.key)
        sealed = self._session.sealing.is_on(watch.room.jid)
        if await self._arrived(watch, stanza) is None:
            await self._attach(stanza, file, self._session.jid, sealed=sealed)
        if (verb.content.text and verb.content.text.body != file.name) or verb.prefix:
            if not verb.content.text:
                verb = msgspec.structs.replace(
                    verb, content=msgspec.structs.replace(verb.content, text=plain(file.name))
                )
            caption = self._stanza(watch.room.jid, voice.jid, room=True, key=verb.key, part="caption")
            self._fill(caption, verb, watch.index, speaker=voice.jid, room=True, watch=watch)
            said.append(caption)
        return [*said, stanza]

    async def _attach(self, stanza: Element, file: File, me: str, *, sealed: bool) -> None:
        """Put the file where XMPP finds it, and its address into the message."""
        if sealed:
            compose.say(stanza, await self._session.upload.put_sealed(file, me))
        else:
            files.attach(stanza, await self._session.upload.put(file, me), file)

    async def _subject(self, watch: Watch, verb: verbs.SetTopic) -> None:
        stanza = compose.subject(
            watch.room.jid, self._session.jid, self._session.network.marks.make(new_id()), verb.topic
        )
        before, watch.room.topic = watch.room.topic, wire.clean(verb.topic)[:2000]
        self._out(watch.room.jid, stanza, explain.naming)
        try:
            await self._session.deliveries.fate(watch.room.jid, stanza.get("id", ""))
        except SendRejected:
            watch.room.topic = before
            raise

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
                if wanted != voice.nick and wanted not in watch.room.occupants:
                    session.stream.send(
                        compose.enter(verb.chat, wanted, voice.jid, password="", since="", history=False)
                    )
            return
        stanza = make("message", wire.CLIENT, to=verb.chat, from_=voice.jid, id=new_id(), type="groupchat")
        if isinstance(verb, verbs.SetTyping):
            compose.typing(stanza, verb.active)
        else:
            compose.displayed(stanza, _reference(verb.target, watch.index, room=True))
        session.stream.send(stanza)

    def _invite(self, watch: Watch, verb: verbs.Invite) -> None:
        jid = watch.room.address_of(verb.person.id)
        if not jid or "@" not in jid:
            raise SendRejected(f"{_shown(verb.person.name)} has no address on XMPP that the bridge can see.")
        for stanza in compose.invite(watch.room.jid, self._session.jid, new_id(), jid, verb.reason):
            self._session.stream.send(stanza)

    async def _administer(
        self, watch: Watch, verb: verbs.Kick | verbs.Ban | verbs.Unban | verbs.SetRole
    ) -> None:
        nick = watch.room.nick_of(verb.person.id) or ""
        jid = watch.room.address_of(verb.person.id)
        role = affiliation = ""
        match verb:
            case verbs.Kick():
                role = "none"
            case verbs.Ban():
                affiliation = "outcast"
            case verbs.Unban():
                affiliation = "none"
            case verbs.SetRole():
                affiliation, role = compose.roles(verb.role, moderated=watch.room.moderated)
            case _:
                assert_never(verb)
        who = _shown(verb.person.name)
        if affiliation and not jid:
            raise SendRejected(f"The bridge does not see the address of {who} in {watch.room.jid}.")
        if not affiliation and not nick:
            raise SendRejected(f"{who} is not in {watch.room.jid} now.")
        reason = getattr(verb, "reason", "")
        iq = compose.administer(
            watch.room.jid,
            self._session.jid,
            new_id(),
            nick="" if affiliation else nick,
            jid=jid if affiliation else "",
            role=role,
            affiliation=affiliation,
            reason=reason,
        )
        await self._ask(iq, watch.room.jid)

    async def _fetch(self, watch: Watch, verb: verbs.FetchHistory) -> Sent:
        session = self._session
        if not watch.room.about.archived:
            raise SendRejected(f"{watch.room.jid} keeps no archive.")
        most = (
            min(verb.limit, session.network.config.history)
            if verb.limit > 0
            else session.network.config.history
        )
        try:
            if verb.since:
                found = list[Archived]()
                async for page in session.history.since(watch.room.jid, session.jid, verb.since):
                    found += page[: most - len(found)]
                    if len(found) >= most:
                        break
            else:
                found = await session.history.last(watch.room.jid, session.jid, most)
        except Refused as refused:
            raise SendRejected(explain.reading(refused.stanza, watch.room.jid)) from None
        except TimeoutError:
            raise SendRejected(f"The archive of {watch.room.jid} does not answer.") from None
        async with session.sealing.page(watch, found) as opened:
            return Sent(note=f"{watch.archived(opened, again=True)} messages")

    async def _ask(self, iq: Element, chat: str) -> None:
        try:
            await self._session.stream.ask(iq)
        except Refused as refused:
            raise SendRejected(explain.administering(refused.stanza, chat)) from None
        except TimeoutError:
            raise SendUncertain(f"{chat} did not say whether it was done.") from None

    # -- saying in private

    async def _private(self, verb: Verb) -> Sent | None:
        session = self._session
        to = session.network.route(session, verb.chat)
        me = session.jid
        if verb.speaker is not None and session.network.is_component:
            me = session.network.address(verb.speaker)
        index = session.talk(verb.chat, ours=bare(me))
        if session.network.gateway.is_off(to) and not isinstance(verb, verbs.Leave):
            raise SendRejected(f"{_shown(to)} does not want to be spoken to from here.")
        match verb:
            case (
                verbs.PostMessage() | verbs.EditMessage() | verbs.React() | verbs.Unreact() | verbs.Retract()
            ):
                pass
            case verbs.SetTyping() | verbs.MarkRead():
                stanza = make("message", wire.CLIENT, to=to, from_=me, id=new_id(), type="chat")
                if isinstance(verb, verbs.SetTyping):
                    compose.typing(stanza, verb.active)
                else:
                    compose.displayed(stanza, verb.target)
                session.stream.send(stanza)
                return None
            case verbs.Join() | verbs.Leave():
                await session.network.contacts.answer(session, bare(me), to, isinstance(verb, verbs.Join))
                return None
            case verbs.ShowProfile():
                return None
            case _:
                raise SendRejected("That cannot be done in a conversation between two on XMPP.")
        async with self._in_turn(verb.chat):
            said = [self._stanza(to, me, room=False)]
            if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
                if not session.upload.service:
                    raise SendRejected("The XMPP server takes no files.")
                file = verb.content.file
                await self._attach(said[0], file, me, sealed=session.sealing.is_on(verb.chat))
                if verb.content.text and verb.content.text.body != file.name:
                    said.insert(0, self._stanza(to, me, room=False))
            if isinstance(verb, verbs.React | verbs.Unreact):
                await session.network.recall_reactions(f"{bare(me)} {verb.chat}", index)
            if len(said) > 1 or not isinstance(verb, verbs.PostMessage) or verb.content.file is None:
                self._fill(said[0], verb, index, speaker=me, room=False, watch=None)
            said = [await session.sealing.seal(verb.chat, one, None) for one in said]
            ids = [MessageId(one.get("id", "")) for one in said]
            for id, one in zip(ids, said, strict=True):
                index.put(Named(id, PersonId(bare(me)), id, 0, id))
                self._out(bare(to), one)
        try:
            for id in ids:
                await self._proof(to, me, id)
        except SendRejected:
            if isinstance(verb, verbs.React | verbs.Unreact):
                _reacted(verb, index, me, undo=True)
            raise
        if isinstance(verb, verbs.React | verbs.Unreact):
            session.network.keep_reactions(f"{bare(me)} {verb.chat}", index)
        return Sent(id=ids[-1], more=tuple(ids[:-1]))

    async def _proof(self, to: str, me: str, id: str) -> None:
        """Nobody echoes a private message; but servers keep the order, so its refusal comes before this answer."""
        session = self._session
        waiting = asyncio.ensure_future(session.deliveries.fate(bare(to), id, PROOF_SECONDS + 5))
        ping = compose.ask(bare(to).rpartition("@")[2], me, new_id(), make("ping", wire.PING))
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
                    f"The server of {_shown(bare(to))} does not answer: it may have arrived."
                ) from None
        except asyncio.CancelledError:
            raise SendUncertain("The bridge did not wait for the answer: it may have arrived.") from None
        finally:
            for task in (waiting, asking):
                task.cancel()
            await asyncio.gather(waiting, asking, return_exceptions=True)


def _reacted(
    verb: verbs.React | verbs.Unreact, index: Index, speaker: str, *, undo: bool = False
) -> frozenset[str]:
    """The speaker's whole set is now this (XEP-0444, 3); `undo`: the room has refused it."""
    who, key = PersonId(f"{bare(speaker)}{OWN}"), frozenset({wire.line(verb.reaction)})
    keys = index.reactions(verb.target, who)
    keys = keys | key if isinstance(verb, verbs.React) is not undo else keys - key
    index.react(verb.target, who, keys)
    return keys


def _reference(target: MessageId, index: Index, *, room: bool) -> str:
    """By which id others know a message: the stanza-id in a room that gives them, else the id on the wire."""
    if not target:
        raise SendRejected(FORGOTTEN)
    if room and index.believes:
        return target
    named = index.get(target)
    return named.wire if named is not None and named.wire else target.rpartition("/")[2] or target


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)[:100] or "The address"
