"""A person's own account: what they say from elsewhere (carbons), what was said while we were away, their bookmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from bridgekit.contract import facts
from bridgekit.contract.errors import RemoteError
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Login, Person
from connectors.xmpp.history import Archived
from connectors.xmpp.reopening import Opened
from connectors.xmpp.stanzas import cards, compose, disco, explain, heard, translate, wire
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.jids import bare, domain, normal
from connectors.xmpp.stanzas.wire import add, children, find, make
from connectors.xmpp.stream import Refused, new_id

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

MOST_BOOKMARKS = 50


class Account:
    """What one login's session does beyond rooms."""

    def __init__(self, session: XmppSession, login: Login) -> None:
        self._session = session
        self._login = login
        self._me = bare(session.jid)
        self._last = ""
        self._moved = False
        self._held: list[Element] | None = []  # what comes while the gap before it is being read

    # What is said elsewhere ------------------------------------------------------------------------------------

    def carbon(self, stanza: Element) -> Element | None:
        """The message that another device of ours got or sent (XEP-0280); only our own server tells that (11)."""
        if bare(stanza.get("from", "")) not in ("", self._me):
            return None
        for way in ("received", "sent"):
            forwarded = find(find(stanza, wire.CARBONS, way), wire.FORWARD, "forwarded")
            if forwarded is not None:
                return wire.core(forwarded, "message")
        return None

    def holds(self, stanza: Element) -> bool:
        """Whether the message waits until what was said before it has been told."""
        if self._held is None:
            return False
        self._held.append(stanza)
        return True

    def noted(self, said: Heard) -> None:
        """A message that the own archive has too: from behind it a gap is filled."""
        if given := said.stanza_ids.get(self._me):
            self._last, self._moved = given, True

    def keep(self) -> None:
        """Write down how far the archive was read."""
        if self._moved:
            self._moved = False
            self._session.network.host.put_later(f"last/~{self._me}", f"+{self._last}".encode())

    def took(self, message: Element) -> None:
        """A copy, which may have to be opened first."""
        sender = bare(message.get("from", ""))
        chat = bare(message.get("to", "")) if sender == self._me else sender
        self._session.sealing.take(chat, message, lambda: sender, self.talked)

    def talked(self, opened: Opened, *, archived: Archived | None = None) -> None:
        """A message of a conversation, by either side, that did not come to this device alone."""
        session = self._session
        if archived is not None:
            said = opened.said(archived.said)
        else:
            said = heard.read(opened.stanza, sealed=opened.sealed, why=opened.why)
            said = heard.dated(said, (self._me, domain(self._me)), session.now())
            self.noted(said)
        if said.broken:
            session.network.troubles.met(said.broken)
        mine = bare(said.sender) == self._me
        other = normal(bare(said.to if mine else said.sender))
        if other is None or "@" not in other or other == self._me or session.network.is_room(other):
            return
        if said.type not in ("chat", "normal", "") or session.network.marks.is_ours(said.id):
            return
        person = (
            session.me if mine else Person(id=PersonId(other), name=other.partition("@")[0], account=other)
        )
        if not opened.sealed and session.sealing.is_on(other):
            said = heard.exposed(said)
        index = session.talk(other)
        if opened.retried:
            for fact in translate.replaced(said, ChatId(other), index, person, session.now(), private=True):
                session.tell(fact)
            return
        if index.has(said, person.id, said.stamp or session.now()):
            return
        own = self._login.id if mine else None
        replayed = archived is not None
        for fact in translate.private(
            said, ChatId(other), index, person, session.now(), own=own, replayed=replayed
        ):
            if not isinstance(fact, facts.FLEETING):
                session.tell(fact)

    # At the start ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Copies of what other devices say, what was missed, and the rooms that are bookmarked."""
        for step in (self._copies, self._catch_up, self._look_at_bookmarks):
            try:
                await step()
            except (Refused, TimeoutError, RemoteError) as error:
                self._session.network.host.log.info(
                    "xmpp_account", step=step.__name__, kind=type(error).__name__
                )

    async def _copies(self) -> None:
        """XEP-0280, 4."""
        enable = make("enable", wire.CARBONS)
        await self._session.stream.ask(compose.ask(self._me, self._session.jid, new_id(), enable, kind="set"))

    async def _catch_up(self) -> None:
        """XEP-0313, 4: the own archive, from what was heard last; the first time only the place is learnt.

        Until it is read to its end, the place that is kept is the last that was read; where that fails, the next
        connection goes on there, and what was held back meanwhile comes from the archive then.
        """
        log = self._session.network.host.log
        while True:
            try:
                if await self._is_archived():
                    await self._read_gap()
                break
            except TimeoutError:
                log.info("xmpp_archive_slow")
            except (
                Refused
            ) as refused:  # it does not know the place any more: what was said since then is gone
                log.warning("xmpp_gap_lost", condition=explain.condition(refused.stanza)[0])
                break
        held, self._held = self._held or [], None
        for stanza in held:
            self._session.took(stanza)

    async def _is_archived(self) -> bool:
        session = self._session
        asked = compose.ask(self._me, session.jid, new_id(), make("query", wire.DISCO_INFO))
        return disco.read(await session.stream.ask(asked)).archived

    async def _read_gap(self) -> None:
        session, host = self._session, self._session.network.host
        kept = (await host.get(f"last/~{self._me}") or b"").decode("utf-8", "replace")
        last = self._last or kept[1:]  # where it was interrupted, it goes on from there
        if not kept:
            newest = await session.history.last(self._me, session.jid, 1)
            self._last, self._moved = (newest[-1][0] if newest else ""), True
            self.keep()
            return
        async for page in session.history.after(self._me, session.jid, last):
            messages = [(one.message, bare(one.message.get("from", ""))) for one in page]
            async with session.sealing.opening(messages) as opened:
                for one, clear in zip(page, opened, strict=True):
                    if clear is not None:
                        self._told(clear, one)
                        if clear.again:
                            self._retry(one)
                    self._last, self._moved = one.id, True
            self.keep()

    def _told(self, clear: Opened, one: Archived) -> None:
        try:
            self.talked(clear, archived=one)
        except Exception as error:  # whatever it holds costs itself alone, and is not met again at each start
            self._session.network.troubles.met(error)

    def _retry(self, one: Archived) -> None:
        sender, to = bare(one.message.get("from", "")), bare(one.message.get("to", ""))
        chat = to if sender == self._me else sender

        def then(opened: Opened) -> None:
            self.talked(opened, archived=one)

        self._session.sealing.reopening.later(chat, one.message, sender, then, at=one.at)

    # Bookmarks -------------------------------------------------------------------------------------------------

    async def _look_at_bookmarks(self) -> None:
        """XEP-0402, 3.2: rooms that other devices enter by themselves: told once, nothing is joined for it."""
        session, host = self._session, self._session.network.host
        if await host.get(f"bookmarks/{self._me}"):
            return
        asked = compose.ask(self._me, session.jid, new_id(), cards.ask_items(wire.BOOKMARKS))
        items = find(find(await session.stream.ask(asked), wire.PUBSUB, "pubsub"), wire.PUBSUB, "items")
        linked = set(await session.network.linked())
        for item in children(items, wire.PUBSUB, "item")[:MOST_BOOKMARKS]:
            conference, room = find(item, wire.BOOKMARKS, "conference"), normal(item.get("id", ""))
            if conference is None or room is None or conference.get("autojoin") not in ("true", "1"):
                continue
            if ChatId(room) not in linked:
                session.tell(
                    facts.Invitation(
                        chat=ChatId(room),
                        at=session.now(),
                        sender=Person(id=PersonId(self._me), name="Your list of bookmarks"),
                        name=room,
                    )
                )
        await host.put(f"bookmarks/{self._me}", b"1")

    async def bookmark(self, room: ChatId, nick: str, *, keep: bool) -> None:
        """XEP-0402, 3.3 and 3.4: the account's other devices learn which rooms it is in."""
        # A list that keeps less than ours would refuses this (precondition-not-met): nothing in it is pushed out.
        pubsub = _kept(room, nick) if keep else _removed(room)
        asked = compose.ask(self._me, self._session.jid, new_id(), pubsub, kind="set")
        try:
            await self._session.stream.ask(asked)
        except (Refused, TimeoutError, RemoteError) as error:
            self._session.network.host.log.info("xmpp_bookmark_not_kept", kind=type(error).__name__)


_OPTIONS = (
    ("FORM_TYPE", "http://jabber.org/protocol/pubsub#publish-options"),
    ("pubsub#persist_items", "true"),
    ("pubsub#max_items", "max"),
    ("pubsub#send_last_published_item", "never"),
    ("pubsub#access_model", "whitelist"),
)
"""XEP-0402, 5: a list of bookmarks is its owner's alone."""


def _kept(room: ChatId, nick: str) -> Element:
    pubsub = make("pubsub", wire.PUBSUB)
    item = add(add(pubsub, "publish", wire.PUBSUB, node=wire.BOOKMARKS), "item", wire.PUBSUB, id=room)
    add(add(item, "conference", wire.BOOKMARKS, autojoin="true"), "nick", wire.BOOKMARKS, nick)
    form = add(add(pubsub, "publish-options", wire.PUBSUB), "x", wire.DATA, type="submit")
    for name, value in _OPTIONS:
        add(add(form, "field", wire.DATA, var=name), "value", wire.DATA, value)
    return pubsub


def _removed(room: ChatId) -> Element:
    pubsub = make("pubsub", wire.PUBSUB)
    add(add(pubsub, "retract", wire.PUBSUB, node=wire.BOOKMARKS, notify="true"), "item", wire.PUBSUB, id=room)
    return pubsub
