"""Getting into rooms and staying there: what a room is, whether it still has us, and the way back in."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from bridgekit.contract import facts
from bridgekit.contract.errors import Disconnected, RemoteError, SendRejected, SendUncertain
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.policy import Visibility
from connectors.xmpp.catchingup import CatchingUp
from connectors.xmpp.stanzas import compose, disco, explain, wire
from connectors.xmpp.stanzas.jids import domain
from connectors.xmpp.stanzas.rooms import Room
from connectors.xmpp.stanzas.wire import make
from connectors.xmpp.stream import Refused, new_id
from connectors.xmpp.voices import Voice
from connectors.xmpp.watch import GAP, READERS, Watch

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

LOOK = 5.0
RETRY = 60.0


class Staying:
    """One session's rooms."""

    def __init__(self, session: XmppSession) -> None:
        self._session = session
        self._catching_up = CatchingUp(session)
        self._loop = asyncio.get_running_loop()

    async def enter_at_start(self, chat: str) -> None:
        try:
            await self.enter(chat)
        except SendRejected as refused:
            closed = facts.ChatClosed(chat=ChatId(chat), at=self._session.now(), reason=refused.notice)
            self._session.tell(closed)
            if (watch := self._session.watches.get(chat)) is not None and watch.wanted:
                self._session.spawn(self._return(watch), "xmpp-return")
        except Disconnected:
            return  # or told to leave

    async def enter(self, chat: str, secret: str = "") -> Watch:
        """Be in the room as its reader. Raises SendRejected with the room's reason, Disconnected."""
        watch = self._session.watches.get(chat)
        if watch is None:
            room = Room(chat, domain(self._session.jid) if self._session.network.is_component else "")
            room.ours, room.coming = self._session.network.ours(chat), self._session.network.coming(chat)
            watch = self._session.watches[chat] = Watch(
                room, self._session.tell, self._session.network.marks, self._session.network.troubles.met
            )
            if self._session.login is None:
                await self._session.network.recall_place(watch)
        watch.wanted = True
        if watch.room.joined:
            return watch
        if watch.entering is None:
            watch.entering = self._loop.create_task(self._enter(watch, secret), name="xmpp-entering")
            watch.entering.add_done_callback(lambda done: _entered(watch, done))
        entering = watch.entering
        await asyncio.wait([entering])
        if entering.cancelled():
            raise Disconnected("The connection to the XMPP server was lost.")
        entering.result()
        return watch

    async def _enter(self, watch: Watch, secret: str) -> None:
        await self._ask_about(watch, strict=True)
        watch.hold(GAP)
        watch.settled.clear()
        name = self._session.me.name if self._session.login is not None else self._session.network.config.nick
        if secret:
            await self._session.network.keep_secret(watch.room.jid, secret)
        password = secret or await self._session.network.secret(watch.room.jid)
        if self._session.login is None:
            await self._session.network.expect_guests(watch.room)
        # Without an archive, the room's own memory fills the gap, as far as it goes (XEP-0045, 7.2.14).
        since = wire.stamp(watch.last_at) if watch.last_at and not watch.room.about.archived else ""
        await self._session.voices.enter(
            watch.room, self._session.jid, name, password=password, history=bool(since), since=since
        )

    async def _ask_about(self, watch: Watch, *, strict: bool = False) -> None:
        """What the room is; it decides who is who, so it is asked before it is entered.

        Where it does not say, who is who stays as it was, and who may read is unknown.
        """
        watch.answered = False
        try:
            info = make("query", wire.DISCO_INFO)
            answer = await self._session.stream.ask(
                compose.ask(watch.room.jid, self._session.jid, new_id(), info)
            )
        except Refused as refused:
            if strict and explain.condition(refused.stanza)[0] in (
                "item-not-found", "remote-server-not-found", "remote-server-timeout", "gone",
            ):  # fmt: skip
                raise SendRejected(explain.joining(refused.stanza, watch.room.jid)) from None
        except TimeoutError:
            raise SendRejected(f"The server of {watch.room.jid} does not answer: try again later.") from None
        except SendUncertain as lost:
            raise Disconnected(lost.notice) from None
        else:
            watch.room.about = about = disco.read(answer)
            watch.answered = True
            watch.room.nonanonymous = about.shows_addresses
            watch.index.believes = about.gives_ids

    def look_at(self, watch: Watch) -> None:
        """The room's configuration changed: who may read it now? What is said from here on waits for the answer."""
        watch.hold(READERS)
        if watch.looking is not None:
            watch.looking.cancel()
        watch.looking = self._session.spawn(self._look(watch), "xmpp-look")

    async def _look(self, watch: Watch) -> None:
        pause, moderated = LOOK, watch.room.moderated
        while watch.room.joined and not self._session.is_ending:
            with contextlib.suppress(RemoteError):
                await self._ask_about(watch)
            self._session.tell(self.visibility(watch))
            if watch.room.moderated is not moderated:  # what a role means is another now
                moderated = watch.room.moderated
                self._session.tell(watch.room.roster(self._session.now()))
            watch.release(READERS)
            self._session.sealing.weigh(watch)
            await self._named(watch)
            if watch.answered:
                return
            await asyncio.sleep(pause)
            pause = min(RETRY, 2 * pause)
        watch.release(READERS)

    async def _named(self, watch: Watch) -> None:
        """Tell the room's name where it is another than it was, also before a restart."""
        if not watch.answered or self._session.login is not None:
            return
        network, room = self._session.network, watch.room
        before, name = await network.name_of(room.jid), room.name
        if before == name:
            return
        if before:
            self._session.tell(facts.ChatName(chat=room.chat, at=self._session.now(), name=name))
        await network.keep_name(room.jid, name)

    def visibility(self, watch: Watch) -> Fact:
        return facts.ChatVisibility(
            chat=watch.room.chat,
            at=self._session.now(),
            visibility=disco.visibility(watch.room.about) if watch.answered else Visibility(),
        )

    async def settle(self, watch: Watch) -> None:
        """Just in: what was missed comes first, then what was said meanwhile."""
        try:
            await self._named(watch)
            if watch.room.about.archived and self._session.login is None:
                await self._catching_up.run(watch)
        finally:
            watch.release(GAP)
            watch.settled.set()
        if not watch.answered:
            self.look_at(watch)
        self._session.sealing.weigh(watch)
        self._session.network.keep_places(self._session)
        await self._session.network.return_guests(self._session, watch)

    async def ask_room(self, watch: Watch) -> None:
        """XEP-0410: whether the room still thinks that we are in it."""
        watch.heard_at = self._loop.time()
        ping = compose.ask(
            f"{watch.room.jid}/{watch.room.nick}", self._session.jid, new_id(), make("ping", wire.PING)
        )
        try:
            await self._session.stream.ask(ping)
        except Refused as refused:
            condition = explain.condition(refused.stanza)[0]
            if condition in ("service-unavailable", "feature-not-implemented", "item-not-found"):
                return  # 3.4: joined, whatever became of the ping
            if condition in ("remote-server-not-found", "remote-server-timeout"):
                return  # nobody can tell
            await self.forgotten(watch)
        except (TimeoutError, RemoteError):
            return

    async def forgotten(self, watch: Watch) -> None:
        watch.room.left()
        self._session.voices.emptied(watch.room.jid)
        await self.enter_at_start(watch.room.jid)

    async def expelled(self, watch: Watch, voice: Voice) -> None:
        """The room says that one of ours is not in it; for the reader, it is entered again."""
        if self._session.voices.get(watch.room.jid, voice.jid) is not voice:
            return  # it has been seen to
        if voice.jid == self._session.jid:
            await self.forgotten(watch)
        else:
            self._session.voices.forget(voice)

    def fell_out(self, watch: Watch, *, final: bool) -> None:
        """We were put out; unless that was meant, we come back."""
        self._session.voices.emptied(watch.room.jid)
        if watch.wanted and not final:
            self._session.spawn(self._return(watch), "xmpp-return")

    async def _return(self, watch: Watch) -> None:
        await asyncio.sleep(RETRY / 6)
        while watch.wanted and not watch.room.joined:
            try:
                await self.enter(watch.room.jid)
                return
            except SendRejected:
                await asyncio.sleep(RETRY)
            except Disconnected:
                return  # or told to leave


def _entered(watch: Watch, done: asyncio.Task[None]) -> None:
    watch.entering = None
    if not done.cancelled() and done.exception() is not None:
        watch.release(GAP)
