"""Verbs at their side: what a plan has to know of a room, and its verbs done there, if they still may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Session
from bridgekit.contract.errors import (
    Disconnected,
    LoginRejected,
    MatrixForbidden,
    RemoteError,
    SendRejected,
    SendUncertain,
    WouldExpose,
)
from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.contract.policy import Protection
from bridgekit.contract.verbs import Sent, Verb
from bridgekit.core.degrade import FOREIGN, NO_ADDRESS, SEALED_FILE, SEALED_ROOM, Aids, Refusal, fit
from bridgekit.core.ghosts import Namespace
from bridgekit.core.membership import Mode
from bridgekit.core.model import RELAY, Context, Permission, SideView, matrix_side
from bridgekit.core.protection import SEALED, may_not_reach
from bridgekit.matrix.links import Links
from bridgekit.runtime.cases import Case, Tracked
from bridgekit.runtime.clock import now
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.policing import PolicyLists
from bridgekit.runtime.gates.underway import UnderWay
from bridgekit.runtime.networks.accounts import Key
from bridgekit.runtime.networks.sessions import Supervised
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.members import Members
from bridgekit.runtime.registry import OPEN, PAUSED, WAITING, Registry
from bridgekit.runtime.traffic.matrix_side import MatrixSide
from bridgekit.runtime.traffic.recall import Ids
from bridgekit.runtime.traffic.steps import Elsewhere, GoesBack, Overtaken, Step
from bridgekit.store import Store
from bridgekit.store.rows import Link

log = structlog.get_logger(__name__)


class Performing:
    """Plans' contexts and verbs' performers for every room."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        matrix: MatrixSide,
        sessions: dict[Key, Supervised],
        links: Links,
        namespace: Namespace,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        permission: Callable[[PersonId], Permission],
        members: Members,
        mode: Callable[[PortalKey], Mode],
        grants: Callable[[NetworkId], bool],
        policies: PolicyLists,
        puppets: bool,
        is_encrypted: Callable[[ChatId], bool],
        protecting: Protecting,
        saying: Callable[[PortalKey, str], None],
        said: Callable[[PortalKey, MessageId], None],
        cleared: Callable[[PortalKey], bool],
        passes: Callable[[PortalKey], Awaitable[None]],
        goes_back: Callable[[Case], bool],
        replaced: Callable[[ChatId], object],
        is_replaced: Callable[[ChatId], Awaitable[bool]],
        under_way: UnderWay,
        unwelcome: Callable[[Link], str],
        erasure: Callable[[PersonId], int],
    ) -> None:
        self._store = store
        self._registry = registry
        self._ghosts = ghosts
        self._matrix = matrix
        self._sessions = sessions
        self._links = links
        self._namespace = namespace
        self._bot = bot
        self._label = label
        self._permission = permission
        self._members = members
        self._mode = mode
        self._grants = grants
        self._policies = policies
        self._puppets = puppets
        self._is_encrypted = is_encrypted
        self._protecting = protecting
        self._saying = saying
        self._said = said
        self._cleared = cleared
        self._passes = passes
        self._goes_back = goes_back
        self._replaced = replaced
        self._is_replaced = is_replaced
        self._under_way = under_way
        self._unwelcome = unwelcome
        self._erasure = erasure
        self._views: dict[ChatId, tuple[object, tuple[SideView, ...]]] = {}

    # Context -------------------------------------------------------------------------------------------------

    def context(self, room: ChatId, case: Case, known: dict[MessageId, Tracked]) -> Context:
        """All that planning this case may know."""
        fact, origin = case.fact, case.origin
        permission = Permission.USER
        if origin.network == MATRIX and (doer := _doer(fact)) is not None:
            permission = self._permission(doer.id)
        portal = self._registry.portals.get(room)
        barred = ""
        if self._policies and origin.network != MATRIX and (doer := _doer(fact)) is not None:
            barred = self._policies.barred(self._namespace.mxid(origin.network, doer.id))
        return Context(
            number=case.number,
            origin=origin,
            sides=self._sides(room),
            namespace=self._namespace,
            known={id: tracked.known() for id, tracked in known.items()},
            owner=self._owner(room),
            barred=barred,
            made=portal is not None and portal.made,
            management=portal is not None and portal.kind == "management",
            permission=permission,
            puppets=self._puppets,
            counterpart=self.counterpart,
            owner_of=self._owner_of,
            **(self._who_is_there(room, origin) if not isinstance(fact, _SAID) else {}),
        )

    def _who_is_there(self, room: ChatId, origin: PortalKey) -> dict[str, Any]:
        """What only those facts need that are about people's coming and going."""
        return {
            "present": self._ghosts.present(room),
            "own": {
                supervised.session.me.id
                for (network, _), supervised in self._sessions.items()
                if network == origin.network and supervised.session is not None
            },
            "is_user": lambda who: who != self._bot,
            "mode": self._mode(origin),
            "remains": lambda person, read: self._members.remains(room, origin, person, read=read),
            "misnamed": lambda ghost, person: not self._ghosts.is_called(ghost, origin.network, person),
            "was_here": self._ghosts.exists,
        }

    def _sides(self, room: ChatId) -> tuple[SideView, ...]:
        links = self._registry.links_of(room)
        protecting = self._protecting
        stamp = (self._registry.changes, protecting.changes, len(links))
        cached = self._views.get(room)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        sides = [SideView(key=matrix_side(room), label="Matrix", protection=protecting.matrix(room))]
        for link in links:
            key = link.key
            # A direct chat is spoken in by the login that it belongs to; a shared one by everybody's own.
            logins = self._registry.logins_on(key.network)
            if key.receiver is not None:
                logins = {who: login for who, login in logins.items() if login == key.receiver}
            sides.append(
                SideView(
                    key=key,
                    label=self._label(key.network),
                    open=link.state in (OPEN, PAUSED),
                    reason=link.reason,
                    logins=logins,
                    grants=self._grants(key.network),
                    name=link.name,
                    protection=protecting.of(link),
                    agreed=protecting.agreed(link),
                )
            )
        views = tuple(sides)
        self._views[room] = (stamp, views)
        return views

    def _owner(self, room: ChatId) -> PersonId | None:
        for link in self._registry.links_of(room):
            if link.key.receiver is not None:
                return self._owner_of(link.key.receiver)
        return None

    def _owner_of(self, login: LoginId) -> PersonId | None:
        row = self._registry.logins.get(login)
        return row.login.owner if row is not None else None

    def counterpart(self, person: PersonId, origin: PortalKey, side: PortalKey) -> PersonId | None:
        """Whom `side` knows as the person whom `origin` calls `person`; None where it knows nobody."""
        if origin.network == MATRIX:
            return self.remote_person(person, side.network)
        owner = self._bot if self._is_relay(origin.network, person) else self.owner_on(origin.network, person)
        mxid = owner or self._namespace.mxid(origin.network, person)
        if side.network == MATRIX:
            return mxid
        return self.remote_person(owner, side.network) if owner is not None else None

    def remote_person(self, mxid: PersonId, network: NetworkId) -> PersonId | None:
        """Who a Matrix user id is on a network: a ghost's person, or a user's own account that is online."""
        parsed = self._namespace.parse(mxid)
        if parsed is not None:
            return parsed[1] if parsed[0] == network else None
        login = self._registry.logins_on(network).get(mxid)
        supervised = self._sessions.get((network, login)) if login is not None else None
        if supervised is not None and supervised.session is not None:
            return supervised.session.me.id
        return None

    def _is_relay(self, network: NetworkId, person: PersonId) -> bool:
        supervised = self._sessions.get((network, None))
        session = supervised.session if supervised is not None else None
        return session is not None and session.me.id == person

    def owner_on(self, network: NetworkId, person: PersonId) -> PersonId | None:
        """The Matrix user whose own account is `person` on the network now."""
        for owner, login in self._registry.logins_on(network).items():
            supervised = self._sessions.get((network, login))
            session = supervised.session if supervised is not None else None
            if session is not None and session.me.id == person:
                return owner
        return None

    # Verbs ---------------------------------------------------------------------------------------------------

    def pipeline(self, side: PortalKey) -> int:
        """How many verbs of one account may be under way on a side."""
        supervised = self._sessions.get((side.network, side.receiver))
        session = supervised.session if supervised is not None else None
        return max(1, session.capabilities(side.chat).pipeline) if session is not None else 1

    async def perform(self, room: ChatId, step: Step, ids: Ids) -> Sent | None:
        """Do one step on its side. Raises BridgeError; Disconnected means that it is to be tried again, Elsewhere
        that it is to be planned again, for another room, and GoesBack that it has to wait for its link's gate."""
        side = step.action.side
        takes_back = isinstance(step.action.verb, verbs.Retract | verbs.Unreact)
        if takes_back and ids.about is not None and side in ids.about.unsaid:
            return None
        if side.network == MATRIX:
            origin = step.case.origin
            if origin not in self._registry.links and not isinstance(step.action.verb, verbs.Leave):
                raise SendRejected("The chat was unlinked before this was passed on.")
            if self._is_back(room, step):
                return None
            while True:
                if self._has_moved(room, step):
                    raise Elsewhere
                self._check_guard(room, step, self._protecting.matrix(room))
                if not self._cleared(origin) and step.shows:
                    # The room was opened too far (or the link closed) while this was on its way.
                    if not step.case.durable:
                        return None
                    try:
                        await self._passes(origin)
                    except WouldExpose:
                        if self._has_moved(room, step):
                            raise Elsewhere from None
                        if self._may_pass_later(origin):
                            raise GoesBack from None
                        raise
                    continue
                if step.shows and self._goes_back(step.case):
                    if not step.case.durable:
                        return None
                    raise GoesBack
                self._under_way.set_out(room)
                try:
                    return await self._matrix.perform(room, step, ids)
                except Overtaken:
                    log.info("send_overtaken", network=origin.network)
                except MatrixForbidden:
                    if self._has_moved(room, step) or (
                        self._is_for_the_room(step) and await self._is_replaced(room)
                    ):
                        raise Elsewhere from None
                    raise
                finally:
                    self._under_way.ended(room)
        if not step.case.durable and not self._is_there(step):
            return None  # it is worth nothing when the session is back
        self._check_link(step)
        supervised, stands_in = await self._account(step)
        if stands_in and isinstance(step.action.verb, _OF_ONESELF):
            self._follows_later(step)
            return None
        session = await supervised.ready()
        can = session.capabilities(side.chat)
        entered = side.receiver is not None or side.chat in supervised.joined
        if not entered and self._may_enter(side, step.action.verb, can):
            # Before it is marked: what waits for a door to open has certainly not been sent.
            await supervised.enter(side.chat, session)
            can = session.capabilities(side.chat)
        step.worded = True
        verb = step.action.verb
        if stands_in:
            sender: Person | None = getattr(step.case.fact, "sender", None)
            verb = msgspec.structs.replace(verb, speaker=sender)
        if isinstance(verb, verbs.Leave):
            supervised.joined.discard(side.chat)
        protection = self._given(side, can.protection)
        verb = self._without_quote(room, _named(verb, ids), ids, side, protection)
        address, linkless = self._address(room, step, verb)
        verb = _with_address(verb, address, linkless)
        fitted = fit(verb, can, self._aids(room, step, ids, verb, protection, address, linkless))
        if isinstance(fitted, Refusal):
            raise SendRejected(fitted.notice)
        if isinstance(verb, verbs.EditMessage):
            step.said_anew = any(isinstance(one, verbs.PostMessage) for one in fitted)
        if isinstance(verb, verbs.Retract) and ids.about is not None:
            fitted = tuple(_every_part(fitted, ids.about.ids.get(side, ())))
        if step.case.durable and not can.idempotent and not step.marked:
            step.marked = True
            outbox = self._store.outbox
            await self._store.commit(
                *(outbox.sending(one.case.number, one.index) for one in (step, *step.edits))
            )
        if step.turn is not None and not await step.turn.come():
            raise Disconnected("What was said before this has to be said again first.")
        step.begun = True
        for one in fitted:
            if isinstance(one, verbs.PostMessage) and one.prefix:
                self._saying(side, one.prefix + one.content.text.body)
        sent = await self._all(room, step, supervised, session, fitted)
        if sent is not None and sent.id:
            for id in (sent.id, *sent.more):
                self._said(side, id)
        return sent

    def _has_moved(self, room: ChatId, step: Step) -> bool:
        """Whether a step is about a room that was replaced, and can be done in the other one."""
        link = self._registry.links.get(step.case.origin)
        gone = link is not None and (link.room != room or self._replaced(room))
        return bool(gone) and self._is_for_the_room(step)

    def _may_pass_later(self, side: PortalKey) -> bool:
        """Whether the link waits for nobody's consent: what stands in its way is told, and may go."""
        link = self._registry.links.get(side)
        return link is not None and link.state != WAITING

    @staticmethod
    def _is_for_the_room(step: Step) -> bool:
        """Whether a step is as good in the room that replaces another; what takes something back is about the old."""
        return step.case.durable and step.shows and not isinstance(step.action.verb, verbs.Retract)

    def _check_link(self, step: Step) -> None:
        """Raise SendRejected where the chat does not want to hear of the room any more."""
        verb = step.action.verb
        if isinstance(verb, verbs.Leave):
            return
        link = self._registry.links.get(step.action.side)
        if link is None:
            raise SendRejected("The chat was unlinked before this was passed on.")
        if link.state == WAITING:
            raise SendRejected(link.reason)
        takes_back = isinstance(verb, verbs.Retract | verbs.Unreact)
        if link.key.receiver is not None and not takes_back and (why := self._unwelcome(link)):
            raise SendRejected(why)

    def _given(self, side: PortalKey, protection: Protection) -> Protection:
        """What a chat gives this moment, of which a session says `protection`; the label may be behind that."""
        if (link := self._registry.links.get(side)) is not None and protection is not self._protecting.of(
            link
        ):
            self._protecting.saw(side)
            protection = min(protection, self._protecting.of(link))
        return protection

    def _check_guard(self, room: ChatId, step: Step, protection: Protection) -> None:
        """Raise SendRejected where a step would tell a side, which gives `protection`, what may not go there any more.

        The plan has asked the same; since then the side may have become weaker, or an agreement been taken back.
        """
        case = step.case
        if isinstance(step.action.verb, _TELLING) and not isinstance(case.fact, facts.Missed):
            why = self._barred(room, case.origin, case.protection, step.action.side, protection)
            if why:
                raise SendRejected(why)

    def _barred(
        self, room: ChatId, origin: PortalKey, said: Protection, side: PortalKey, protection: Protection
    ) -> str:
        """Why words that were said on `origin`, under that protection, may not go to `side`; "" where they may."""
        if protection >= SEALED or max(said, self._now_given(room, origin)) < SEALED:
            return ""  # asked of every message, and nearly always so: what is not sealed cannot be laid open
        sides = self._sides(room)
        gone = SideView(key=side, label=self._label(side.network), name=side.chat)
        target = next((view for view in sides if view.key == side), gone)
        return may_not_reach(sides, origin, said, msgspec.structs.replace(target, protection=protection))

    def _now_given(self, room: ChatId, side: PortalKey) -> Protection:
        """What a side of the room gives this moment; what the Matrix side does, where it is none (any more)."""
        link = self._registry.links.get(side)
        if link is None or link.room != room:
            return self._protecting.matrix(room)
        return self._protecting.of(link)

    def _without_quote(
        self, room: ChatId, verb: Verb, ids: Ids, side: PortalKey, protection: Protection
    ) -> Verb:
        """The verb without the words that it answers, where those may not go there (any more), or were taken back."""
        if not isinstance(verb, verbs.PostMessage) or verb.reply is None or not verb.reply.words:
            return verb
        said = ids.replied
        if (
            said is not None
            and said.words
            and not self._barred(room, said.origin, said.protection, side, protection)
        ):
            return verb
        return msgspec.structs.replace(verb, reply=msgspec.structs.replace(verb.reply, words=""))

    async def _all(
        self, room: ChatId, step: Step, supervised: Supervised, session: Session, fitted: Sequence[Verb]
    ) -> Sent | None:
        """Do the verbs that one became, over one session; where not all of them went, it is not begun again."""
        sent: Sent | None = None
        for number, one in enumerate(fitted):
            try:
                self._check_link(step)
                protection = session.capabilities(step.action.side.chat).protection
                self._check_guard(room, step, self._given(step.action.side, protection))
                sent = await supervised.perform(one, session)
            except RemoteError as error:
                if number:
                    raise SendUncertain(f"Only a part of it was sent. {error.notice}") from error
                raise
        return sent

    def _is_back(self, room: ChatId, step: Step) -> bool:
        """Whether somebody whose ghost was to leave has come again meanwhile."""
        verb, origin = step.action.verb, step.case.origin
        if not isinstance(verb, verbs.Leave) or verb.speaker is None:
            return False
        if not self._members.is_anywhere(room, origin, verb.speaker.id):
            return False
        who = self.counterpart(verb.speaker.id, origin, step.action.side)
        return who is not None and self._namespace.is_ours(who)

    def _may_enter(self, side: PortalKey, verb: Verb, can: Capabilities) -> bool:
        leaves = isinstance(verb, verbs.Leave | verbs.Join | verbs.Depart)
        return not leaves and verbs.Join in can.verbs and side in self._registry.links

    def _is_there(self, step: Step) -> bool:
        """Whether the acting account is connected, and in the chat."""
        side = step.action.side
        login = LoginId(step.actor) if step.actor != RELAY else None
        supervised = self._sessions.get((side.network, login))
        if supervised is None or supervised.session is None:
            return False
        return login is None or side.receiver is not None or side.chat in supervised.joined

    async def _account(self, step: Step) -> tuple[Supervised, bool]:
        """The session that acts: the sender's own, or (True) the relay in their name where that cannot be used."""
        side, stands_in = step.action.side, False
        login = LoginId(step.actor) if step.actor != RELAY else None
        supervised = self._sessions.get((side.network, login))
        if login is not None and side.receiver is None:
            try:
                if supervised is None:
                    raise LoginRejected("This account is not known any more.")
                if supervised.session is None:
                    # Once waited for in vain, it is not waited for with every message until it is back.
                    async with asyncio.timeout(0.0 if supervised.given_up else OWN_ACCOUNT_SECONDS):
                        await supervised.ready()
                supervised.given_up = False
            except (LoginRejected, TimeoutError):
                if supervised is not None:
                    if supervised.banned and not isinstance(step.action.verb, _OF_ONESELF):
                        raise SendRejected(OUTLAWED.format(network=self._label(side.network))) from None
                    supervised.given_up = True
                supervised, stands_in = self._sessions.get((side.network, None)), True
        if supervised is None:
            raise SendRejected(f"{self._label(side.network)} is not configured any more.")
        return supervised, stands_in

    def _follows_later(self, step: Step) -> None:
        """Somebody's account cannot follow them into a chat or out of it now, and nobody else can in its place."""
        side = step.action.side
        account = self._sessions.get((side.network, LoginId(step.actor)))
        if account is not None and isinstance(step.action.verb, verbs.Leave):
            account.leave_later(side.chat)

    def _address(self, room: ChatId, step: Step, verb: Verb, *, words: bool = False) -> tuple[str, str]:
        """Where everybody can read a message's file, or its `words`, or those where it has no file; "", and why, where
        nobody can."""
        if not isinstance(verb, verbs.PostMessage | verbs.EditMessage):
            return "", NO_ADDRESS
        file, event = None if words or isinstance(verb, verbs.EditMessage) else verb.content.file, step.event
        if file is not None and file.key is None and file.uri.startswith(("https://", "http://")):
            return file.uri, ""
        if not self._links.are_public:
            return "", NO_ADDRESS
        since = self._since(step)
        if event is not None and self._is_encrypted(room):
            agreement = self._protecting.laid_open(room)
            if agreement is None:
                return "", SEALED_ROOM
            if file is None:
                return self._links.sealed_text(room, event, agreement.id, since=since) or "", ""
            return self._links.sealed_media(room, event, agreement.id, file.name, since=since) or "", ""
        if file is None:
            return (self._links.text(room, event, since=since) if event is not None else None) or "", FOREIGN
        if file.key is not None:
            return "", SEALED_FILE
        if event is not None and file.uri.startswith("mxc://"):
            return self._links.file(room, event, file.name, since=since) or "", FOREIGN
        return self._links.media(file.uri, file.name) or "", FOREIGN

    def _since(self, step: Step) -> int:
        """The erasure that the sender of a Matrix event has behind them; 0: none."""
        sender = getattr(step.case.fact, "sender", None)
        return self._erasure(sender.id) if isinstance(sender, Person) else 0

    def _aids(
        self,
        room: ChatId,
        step: Step,
        ids: Ids,
        verb: Verb,
        protection: Protection,
        address: str,
        linkless: str,
    ) -> Aids:
        about = ids.about
        if about is not None and self._barred(
            room, about.origin, about.protection, step.action.side, protection
        ):
            about = None
        text_link, file_link = address, ""
        if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
            (text_link, why), file_link = self._address(room, step, verb, words=True), address
            linkless = linkless or why
        return Aids(
            label=self._label(step.action.side.network),
            now=now(),
            text_link=text_link,
            file_link=file_link,
            linkless=linkless,
            before=about.words_on(step.action.side)
            if about is not None and isinstance(verb, verbs.EditMessage)
            else "",
            about=about.words if about is not None else "",
        )


OWN_ACCOUNT_SECONDS = 30.0
"""Somebody whose own account does not get in for this long is heard through the relay, by name."""
OUTLAWED = "{network} has banned your account there, and nobody says it in your place."
_OF_ONESELF = (verbs.Join, verbs.Leave)
"""What nobody can do in another's place: the relay that left a chat for somebody would take it from everybody."""
_TELLING = (
    verbs.PostMessage,
    verbs.EditMessage,
    verbs.React,
    verbs.SetTopic,
    verbs.SetName,
    verbs.SetAvatar,
    verbs.SetTyping,
    verbs.MarkRead,
)
"""What tells one side what was said or done on another."""
_SAID = (facts.Message, facts.Edit, facts.Reaction)
"""What is planned without a look at who is in the room: the hot path."""


def _every_part(fitted: tuple[Verb, ...], parts: tuple[MessageId, ...]) -> Iterator[Verb]:
    """A message that took several is taken back in all its parts."""
    for verb in fitted:
        if isinstance(verb, verbs.Retract):
            yield from (msgspec.structs.replace(verb, target=part) for part in parts)
        else:
            yield verb


def _with_address(verb: Verb, address: str, linkless: str) -> Verb:
    """A message whose file says where else it can be read, or why nowhere."""
    if not isinstance(verb, verbs.PostMessage) or verb.content.file is None:
        return verb
    file = msgspec.structs.replace(verb.content.file, link=address, linkless="" if address else linkless)
    return msgspec.structs.replace(verb, content=msgspec.structs.replace(verb.content, file=file))


def _doer(fact: object) -> Person | None:
    """Whose permission counts."""
    named = (getattr(fact, name, None) for name in ("sender", "actor", "person"))
    return next((who for who in named if who is not None), None)


def _named(verb: Verb, ids: Ids) -> Verb:
    """The verb with the ids that its side gave to the messages it is about."""
    match verb:
        case verbs.PostMessage(reply=reply) if reply is not None or ids.thread is not None:
            if reply is not None:
                reply = msgspec.structs.replace(reply, id=ids.reply)
            return msgspec.structs.replace(verb, reply=reply, thread=ids.thread)
        case verbs.Unreact():
            return msgspec.structs.replace(verb, target=ids.parent or MessageId(""), id=ids.target)
        case verbs.EditMessage() | verbs.React() | verbs.Retract():
            return msgspec.structs.replace(verb, target=ids.target or MessageId(""))
        case verbs.MarkRead():
            if ids.target is None:
                raise SendRejected("")
            return msgspec.structs.replace(verb, target=ids.target)
        case _:
            return verb
