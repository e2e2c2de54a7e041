"""Verbs to stanzas: what one account or occupant sends. Pure; ids are given."""

from __future__ import annotations

from typing import assert_never
from xml.etree.ElementTree import Element

from bridgekit.contract import verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.people import Content, Kind, Quote, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.split import lines
from bridgekit.contract.text import Text, plain
from bridgekit.contract.verbs import VerbBase
from connectors.xmpp.stanzas import styling, wire
from connectors.xmpp.stanzas.jids import bare
from connectors.xmpp.stanzas.wire import CLIENT, add, children, find, make

MAX_BYTES = 20_000
"""UTF-8 bytes of one body: servers take stanzas of 10,000 bytes at the least (RFC 6120, 13.12), most 256 KiB."""
HARD_LIMIT = 60_000
ROOM_NAME = "muc#roomconfig_roomname"
RETRACTED = "This person took back an earlier message, but your client does not support that."

_ALWAYS: frozenset[type[VerbBase]] = frozenset(
    {
        verbs.PostMessage,
        verbs.EditMessage,
        verbs.React,
        verbs.Unreact,
        verbs.Retract,
        verbs.SetTyping,
        verbs.MarkRead,
    }
)
_ROOM: frozenset[type[VerbBase]] = frozenset(
    {verbs.Join, verbs.Leave, verbs.SetTopic, verbs.Invite, verbs.Kick, verbs.Ban, verbs.Unban, verbs.SetRole}
)


def capabilities(
    *,
    room: bool,
    owned: bool,
    speakers: bool,
    archived: bool,
    certain: bool,
    files: bool,
    tls: bool,
    sealed: bool,
    own: bool,
) -> Capabilities:
    """What can be done in a chat. `owned`: who reads for the session is an owner of the room; `own`: the session is one
    person's; `certain`: the archive tells what arrived; `sealed`: what is said is encrypted for the people there."""
    can = set(_ALWAYS)
    if room:
        can |= _ROOM
        if owned:
            can.add(verbs.SetName)
        if archived:
            can.add(verbs.FetchHistory)
        if speakers or own:
            can.add(verbs.ShowProfile)
        if speakers:
            can.add(verbs.Depart)
    elif own:
        can |= {verbs.Join, verbs.Leave}  # the answer to who asks to be a contact
    if not own and not speakers:
        # One account speaks for many: it has one set of reactions, one mouth and one pair of eyes.
        can -= {verbs.SetTyping, verbs.MarkRead, verbs.React, verbs.Unreact}
    if sealed:
        can -= {
            verbs.React,
            verbs.Unreact,
        }  # most clients read nothing but an encrypted body: it becomes words
    return Capabilities(
        verbs=frozenset(can),
        styles=styling.STYLES,
        kinds=frozenset({Kind.TEXT, Kind.EMOTE}),
        speakers=speakers,
        replies=True,
        files=files,
        max_bytes=MAX_BYTES,
        protection=Protection.BRIDGE if sealed else Protection.TRANSPORT if tls else Protection.CLEAR,
        pipeline=32,
        idempotent=certain,
    )


def message(to: str, sender: str, id: str, *, room: bool) -> Element:
    """An empty message with its ids (XEP-0359, 3: origin-id and id are the same)."""
    stanza = make("message", CLIENT, to=to, from_=sender, id=id, type="groupchat" if room else "chat")
    add(stanza, "origin-id", wire.SID, id=id)
    return stanza


def post(stanza: Element, verb: verbs.PostMessage, *, author: str) -> None:
    """The words of a message; `author` is the address of whom it answers."""
    body = worded(verb.content, verb.prefix)
    quote = verb.reply
    if quote is not None and quote.id:
        body = _answer(stanza, quote, author, body)
    say(stanza, body)
    add(stanza, "active", wire.STATES)


def ask_back(stanza: Element, *, room: bool) -> None:
    """Whoever gets it says so (XEP-0184, 5.1: not in rooms), and whoever reads it (XEP-0333, 4)."""
    if not room:
        add(stanza, "request", wire.RECEIPTS)
    add(stanza, "markable", wire.MARKERS)


def edit(stanza: Element, verb: verbs.EditMessage, wire_id: str) -> None:
    """XEP-0308: the new words, and the id that the old ones had on the wire."""
    say(stanza, worded(verb.content, verb.prefix))
    add(stanza, "replace", wire.CORRECT, id=wire_id)


def say(stanza: Element, body: str) -> None:
    """A body that is neither empty nor too long."""
    if not body.strip():
        raise SendRejected("There is nothing in the message that XMPP can carry.")
    if len(body.encode()) > HARD_LIMIT:
        raise SendRejected("The message is too long for XMPP: send it in parts, or as a file.")
    add(stanza, "body", CLIENT, body)


def worded(content: Content, prefix: str) -> str:
    """The body: styles as marks, a prefix before every line that says who speaks."""
    if not prefix:
        body = wire.clean(styling.write(_clean(content.text)))
        return f"/me {body}" if content.kind is Kind.EMOTE and body.strip() else body
    # Marks around whole lines would not stand at the start of one: a prefix comes first.
    said = [wire.clean(styling.write(_clean(line))) for line in lines(content.text)]
    return "\n".join(f"{wire.line(prefix)} {line}" if line.strip() else "" for line in said).strip("\n")


def _clean(text: Text) -> Text:
    return text if text.body.isprintable() or text.spans else plain(wire.clean(text.body))


def _answer(stanza: Element, quote: Quote, author: str, body: str) -> str:
    """XEP-0461, with the words for clients that do not know it marked as such (XEP-0428)."""
    add(stanza, "reply", wire.REPLY, to=author, id=quote.id or "")
    words = wire.clean(quote.words or "").strip().splitlines()[:4]
    if not words:
        return body
    name = wire.line(quote.author)
    lead = (f"> {name}:\n" if name else "") + "".join(f"> {line[:200]}\n" for line in words)
    fallback = add(stanza, "fallback", wire.FALLBACK, for_=wire.REPLY)
    add(fallback, "body", wire.FALLBACK, start="0", end=str(len(lead)))
    return lead + body


def reactions(stanza: Element, target: str, keys: frozenset[str]) -> None:
    """XEP-0444: the whole set; archives are asked to keep it."""
    holder = add(stanza, "reactions", wire.REACTIONS, id=target)
    for key in sorted(keys):
        add(holder, "reaction", wire.REACTIONS, key)
    add(stanza, "store", wire.HINTS)


def retract(stanza: Element, target: str) -> None:
    """XEP-0424, with words for those who do not know it (XEP-0428)."""
    add(stanza, "retract", wire.RETRACT, id=target)
    add(stanza, "fallback", wire.FALLBACK, for_=wire.RETRACT)
    add(stanza, "body", CLIENT, RETRACTED)
    add(stanza, "store", wire.HINTS)


def retract_0(stanza: Element, origin: str) -> None:
    """The same as clients wrote it before XEP-0424 0.4: by the origin-id, also in rooms; without words, which `retract`
    has said."""
    add(add(stanza, "apply-to", wire.FASTEN, id=origin), "retract", wire.RETRACT_0)
    add(stanza, "store", wire.HINTS)


def moderate(to: str, sender: str, id: str, target: str, reason: str, xmlns: str) -> Element:
    """XEP-0425: a moderator asks the room to take a message back."""
    iq = make("iq", CLIENT, to=to, from_=sender, id=id, type="set")
    if xmlns == wire.MODERATE:
        asked = add(iq, "moderate", wire.MODERATE, id=target)
        add(asked, "retract", wire.RETRACT)
    else:
        asked = add(add(iq, "apply-to", wire.FASTEN, id=target), "moderate", wire.MODERATE_0)
        add(asked, "retract", wire.RETRACT_0)
    if reason:
        add(asked, "reason", asked.tag[1:].partition("}")[0], reason)
    return iq


def typing(stanza: Element, active: bool) -> None:
    """XEP-0085; nobody needs to keep it (XEP-0334)."""
    add(stanza, "composing" if active else "paused", wire.STATES)
    add(stanza, "no-store", wire.HINTS)


def displayed(stanza: Element, target: str) -> None:
    """XEP-0333."""
    add(stanza, "displayed", wire.MARKERS, id=target)
    add(stanza, "no-store", wire.HINTS)


def received(to: str, sender: str, id: str, answered: str) -> Element:
    """XEP-0184, 5.3: the receipt for a message."""
    stanza = make("message", CLIENT, to=to, from_=sender, id=id, type="chat")
    add(stanza, "received", wire.RECEIPTS, id=answered)
    add(stanza, "store", wire.HINTS)
    return stanza


def subject(room: str, sender: str, id: str, words: str) -> Element:
    """XEP-0045, 8.1."""
    stanza = make("message", CLIENT, to=room, from_=sender, id=id, type="groupchat")
    add(stanza, "subject", CLIENT, words[:2000])
    return stanza


def enter(room: str, nick: str, sender: str, *, password: str, since: str, history: bool) -> Element:
    """XEP-0045, 7.2.2; `history`: the room's own replay, where there is no archive to ask."""
    stanza = make("presence", CLIENT, to=f"{bare(room)}/{wire.line(nick)}", from_=sender)
    muc = add(stanza, "x", wire.MUC)
    if password:
        add(muc, "password", wire.MUC, password)
    if not history:
        add(muc, "history", wire.MUC, maxstanzas="0")
    elif since:
        add(muc, "history", wire.MUC, since=since)
    return stanza


def present(room: str, nick: str, sender: str) -> Element:
    """XEP-0045, 7.7: an occupant's presence, once more."""
    return make("presence", CLIENT, to=f"{room}/{nick}", from_=sender)


def leave(room: str, nick: str, sender: str, reason: str) -> Element:
    """XEP-0045, 7.14."""
    stanza = make("presence", CLIENT, to=f"{room}/{nick}", from_=sender, type="unavailable")
    if reason:
        add(stanza, "status", CLIENT, reason[:500])
    return stanza


def nowhere() -> Element:
    """What is answered where there is no room (XEP-0045, 7.2.8)."""
    stanza = make("presence", CLIENT, type="error")
    add(add(stanza, "error", CLIENT, type="cancel"), "item-not-found", wire.STANZAS)
    return stanza


def administer(
    room: str,
    sender: str,
    id: str,
    *,
    nick: str = "",
    jid: str = "",
    role: str = "",
    affiliation: str = "",
    reason: str = "",
) -> Element:
    """XEP-0045, 8 and 9: a role goes by nick, an affiliation by address."""
    iq = make("iq", CLIENT, to=room, from_=sender, id=id, type="set")
    query = add(iq, "query", wire.MUC_ADMIN)
    item = add(query, "item", wire.MUC_ADMIN, nick=nick, jid=jid, role=role, affiliation=affiliation)
    if reason:
        add(item, "reason", wire.MUC_ADMIN, reason[:500])
    return iq


def configuration(room: str, sender: str, id: str) -> Element:
    """XEP-0045, 10.2: an owner asks for the form that the room is configured by."""
    iq = make("iq", CLIENT, to=room, from_=sender, id=id, type="get")
    add(iq, "query", wire.MUC_OWNER)
    return iq


def renamed(answer: Element, room: str, sender: str, id: str, name: str) -> Element | None:
    """The answer to `configuration`, filled in as it is but for the room's name; None where the form has no name."""
    form = find(find(answer, wire.MUC_OWNER, "query"), wire.DATA, "x")
    fields = {
        field.get("var", ""): [wire.words(value) for value in children(field, wire.DATA, "value")]
        for field in children(form, wire.DATA, "field")
    }
    if ROOM_NAME not in fields:
        return None
    fields[ROOM_NAME] = [wire.line(name)]
    iq = make("iq", CLIENT, to=room, from_=sender, id=id, type="set")
    filled = add(add(iq, "query", wire.MUC_OWNER), "x", wire.DATA, type="submit")
    for var, values in fields.items():
        if not (var and values):
            continue  # words for whoever fills it in by hand, and what is set to nothing
        field = add(filled, "field", wire.DATA, var=var)
        for value in values:
            add(field, "value", wire.DATA, value)
    return iq


def invite(room: str, sender: str, id: str, person: str, *, reason: str, password: str) -> Element:
    """A direct invitation (XEP-0249, 2), which no room has to allow."""
    direct = make("message", CLIENT, to=person, from_=sender, id=id)
    asked = add(direct, "x", wire.CONFERENCE, jid=room, reason=reason[:500])
    if password:
        asked.set("password", wire.clean(password))
    return direct


def let_in(room: str, sender: str, id: str, person: str, reason: str) -> Element:
    """A mediated invitation (XEP-0045, 7.8.2): a members-only room lets in whom it names."""
    mediated = make("message", CLIENT, to=room, from_=sender, id=id)
    asked = add(add(mediated, "x", wire.MUC_USER), "invite", wire.MUC_USER, to=person)
    if reason:
        add(asked, "reason", wire.MUC_USER, reason[:500])
    return mediated


def roles(role: Role, *, moderated: bool) -> tuple[str, str]:
    """(affiliation, role) that a role means in a room; "" is left as it is. See `rooms.role_of`."""
    match role:
        case Role.OWNER:
            return "owner", ""
        case Role.ADMIN:
            return "admin", ""
        case Role.MODERATOR | Role.HALF_MODERATOR:
            return "", "moderator"
        case Role.VOICE:
            return "", "participant"
        case Role.NONE:
            return "", "visitor" if moderated else "participant"
        case Role.MUTED:
            return "", "visitor"
        case _:
            assert_never(role)


def ask(to: str, sender: str, id: str, payload: Element, *, kind: str = "get") -> Element:
    """An IQ."""
    iq = make("iq", CLIENT, to=to, from_=sender, id=id, type=kind)
    iq.append(payload)
    return iq


def archive(
    queryid: str, *, after: str = "", before: str | None = None, since: str = "", most: int = 50
) -> Element:
    """XEP-0313, 4, a page of it by XEP-0059; `before=""` is the last page."""
    query = make("query", wire.MAM, queryid=queryid)
    if since:
        form = add(query, "x", wire.DATA, type="submit")
        kind = add(form, "field", wire.DATA, var="FORM_TYPE", type="hidden")
        add(kind, "value", wire.DATA, wire.MAM)
        add(add(form, "field", wire.DATA, var="start"), "value", wire.DATA, since)
    page = add(query, "set", wire.RSM)
    add(page, "max", wire.RSM, str(most))
    if after:
        add(page, "after", wire.RSM, after)
    if before is not None:
        add(page, "before", wire.RSM, before)
    return query
