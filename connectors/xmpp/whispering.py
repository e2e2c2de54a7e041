"""Saying something to one person: nobody echoes it, so its fate is the order that servers keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridgekit.contract import verbs
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.contract.verbs import Sent, Verb
from connectors.xmpp.stanzas import compose, explain, wire
from connectors.xmpp.stanzas.index import Named
from connectors.xmpp.stanzas.jids import bare
from connectors.xmpp.stanzas.wire import make
from connectors.xmpp.stream import new_id
from connectors.xmpp.writing import Writing, reacted

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession


class Whispering:
    """One session's, by any of its addresses."""

    def __init__(self, session: XmppSession, writing: Writing) -> None:
        self._session = session
        self._writing = writing

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb in a conversation between two. Raises RemoteError, MatrixError."""
        session = self._session
        to = session.network.route(session, verb.chat)
        me = session.jid
        if verb.speaker is not None and session.network.is_component:
            me = session.network.address(verb.speaker)
        index = session.talk(verb.chat, ours=bare(me))
        if session.network.gateway.is_off(to) and not isinstance(verb, verbs.Leave):
            raise SendRejected(f"{explain.shown(to)} does not want to be spoken to from here.")
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
        async with self._writing.in_turn(verb.chat):
            said = [self._writing.stanza(to, me, room=False)]
            if isinstance(verb, verbs.PostMessage) and verb.content.file is not None:
                if not session.upload.service:
                    raise SendRejected("The XMPP server takes no files.")
                file = verb.content.file
                sealed = session.sealing.is_on(verb.chat)
                await self._writing.attach(said[0], file, me, sealed=sealed, watch=None)
                if verb.content.text and verb.content.text.body != file.name:
                    said.insert(0, self._writing.stanza(to, me, room=False))
            if isinstance(verb, verbs.React | verbs.Unreact):
                await session.network.recall_reactions(f"{bare(me)} {verb.chat}", index)
            if len(said) > 1 or not isinstance(verb, verbs.PostMessage) or verb.content.file is None:
                self._writing.fill(said[0], verb, index, speaker=me, room=False, watch=None)
            said = [await session.sealing.seal(verb.chat, one, None) for one in said]
            ids = [MessageId(one.get("id", "")) for one in said]
            for id, one in zip(ids, said, strict=True):
                index.put(Named(id, PersonId(bare(me)), id, 0, id))
                self._writing.out(bare(to), one)
        try:
            for id in ids:
                await self._writing.proof(to, me, id)
        except SendRejected:
            if isinstance(verb, verbs.React | verbs.Unreact):
                reacted(verb, index, me, undo=True)
            raise
        if isinstance(verb, verbs.React | verbs.Unreact):
            session.network.keep_reactions(f"{bare(me)} {verb.chat}", index)
        return Sent(id=ids[-1], more=tuple(ids[:-1]))
