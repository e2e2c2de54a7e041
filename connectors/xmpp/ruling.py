"""What is asked of a room, and not said in it: its subject, who may be there and do what, its past."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never
from xml.etree.ElementTree import Element

from bridgekit.contract import verbs
from bridgekit.contract.errors import SendRejected, SendUncertain
from bridgekit.contract.verbs import Sent
from connectors.xmpp.history import Archived
from connectors.xmpp.stanzas import compose, explain, wire
from connectors.xmpp.stream import Refused, new_id
from connectors.xmpp.watch import Watch
from connectors.xmpp.writing import Writing

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession


class Ruling:
    """One session's; each raises SendRejected with the room's reason."""

    def __init__(self, session: XmppSession, writing: Writing) -> None:
        self._session = session
        self._writing = writing

    async def subject(self, watch: Watch, verb: verbs.SetTopic) -> None:
        stanza = compose.subject(
            watch.room.jid, self._session.jid, self._session.network.marks.make(new_id()), verb.topic
        )
        before, watch.room.topic = watch.room.topic, wire.clean(verb.topic)[:2000]
        self._writing.out(watch.room.jid, stanza, explain.naming)
        try:
            await self._session.deliveries.fate(watch.room.jid, stanza.get("id", ""))
        except SendRejected:
            watch.room.topic = before
            raise

    async def name(self, watch: Watch, verb: verbs.SetName) -> None:
        """An owner's right: the room's form is sent back as it is, but for its name (XEP-0045, 10.2)."""
        room, me = watch.room.jid, self._session.jid
        form = await self._ask(compose.configuration(room, me, new_id()), room, explain.configuring)
        iq = compose.renamed(form, room, me, new_id(), verb.name)
        if iq is None:
            raise SendRejected(f"{room} has no name that could be changed.")
        await self._ask(iq, room, explain.configuring)

    async def invite(self, watch: Watch, verb: verbs.Invite) -> None:
        session, room, me, id = self._session, watch.room, self._session.jid, new_id()
        jid = room.address_of(verb.person.id)
        if not jid or "@" not in jid:
            raise SendRejected(
                f"{explain.shown(verb.person.name)} has no address on XMPP that the bridge can see."
            )
        if "muc_membersonly" in room.about.features:
            self._writing.out(room.jid, compose.let_in(room.jid, me, id, jid, verb.reason), explain.inviting)
            await self._writing.proof(room.jid, me, id, there=f"{room.jid}/{room.nick}")
            return
        secret = await session.network.secret(room.jid)
        self._writing.out(jid, compose.invite(room.jid, me, id, jid, reason=verb.reason, password=secret))
        await self._writing.proof(jid, me, id)

    async def administer(
        self, watch: Watch, verb: verbs.Kick | verbs.Ban | verbs.Unban | verbs.SetRole
    ) -> None:
        nick = watch.room.nick_of(verb.person.id) or ""
        jid = watch.room.address_of(verb.person.id)
        if isinstance(verb, verbs.SetRole) and verb.shown:
            jid = self._session.network.address(verb.person)
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
        who = explain.shown(verb.person.name)
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

    async def moderate(self, watch: Watch, verb: verbs.Retract) -> None:
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

    async def fetch(self, watch: Watch, verb: verbs.FetchHistory) -> Sent:
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

    async def _ask(
        self, iq: Element, chat: str, why: Callable[[Element, str], str] = explain.administering
    ) -> Element:
        try:
            return await self._session.stream.ask(iq)
        except Refused as refused:
            raise SendRejected(why(refused.stanza, chat)) from None
        except TimeoutError:
            raise SendUncertain(f"{chat} did not say whether it was done.") from None
