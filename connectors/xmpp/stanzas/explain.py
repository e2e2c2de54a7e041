"""Stanza errors (RFC 6120 8.3, XEP-0045) as sentences for people."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.jids import normal
from connectors.xmpp.stanzas.wire import core, find, local, words

_JOIN = {
    "conflict": "Every nick that the bridge tried in {chat} is taken.",
    "forbidden": "The bridge is banned from {chat}: ask its admins to let it in.",
    "item-not-found": "There is no room {chat}, or it is locked while somebody configures it.",
    "not-allowed": "Only the server's admins may make a room like {chat}: it does not exist yet.",
    "not-authorized": "{chat} needs a password: give it to the bridge, or ask for a room without one.",
    "registration-required": "{chat} is for members only: ask its admins to make the bridge a member.",
    "service-unavailable": "{chat} is full, or its server cannot be reached: try again later.",
    "jid-malformed": "The server of {chat} does not take such an address.",
    "remote-server-not-found": "The server of {chat} cannot be found: check the address.",
    "remote-server-timeout": "The server of {chat} does not answer: try again later.",
    "gone": "The room {chat} was destroyed.",
}
_SAY = {
    "forbidden": "{chat} does not let the bridge speak: it is moderated, and somebody has to give it a voice.",
    "not-acceptable": "{chat} did not take it: the sender is not in the room, or it is not allowed there.",
    "not-allowed": "{chat} does not allow that.",
    "not-authorized": "{chat} does not allow that: more rights are needed.",
    "item-not-found": "{chat} is not there: check the address.",
    "service-unavailable": "{chat} cannot be written to: there is no such address, or nobody takes messages there.",
    "recipient-unavailable": "{chat} is not there now: try again later.",
    "policy-violation": "The server of {chat} refused it: it is against a rule there.",
    "resource-constraint": "The server of {chat} is too busy: try again later.",
    "remote-server-not-found": "The server of {chat} cannot be found: check the address.",
    "remote-server-timeout": "The server of {chat} does not answer: try again later.",
    "feature-not-implemented": "The server of {chat} cannot do that.",
    "jid-malformed": "The server of {chat} does not take such an address.",
    "bad-request": "The server of {chat} did not understand it.",
}
_ADMINISTER = {
    "forbidden": "{chat} does not let the bridge do that: ask its admins to make it a moderator, or an admin.",
    "not-allowed": "{chat} does not let the bridge do that to somebody with as many rights as itself, or more.",
    "item-not-found": "{chat} does not know that person, or that message, any more.",
}
_INVITE = {
    "forbidden": "{chat} lets its admins alone invite people: ask one of them to, or to make the bridge an admin.",
    "not-allowed": "{chat} lets nobody invite people: ask its admins to allow that.",
}
_NAME = {"forbidden": "{chat} lets its moderators alone change the subject, and the bridge is none."}
_CONFIGURE = {"forbidden": "{chat} lets its owners alone change its name, and the bridge is none."}
_READ = {
    "forbidden": "{chat} does not let the bridge read its archive.",
    "not-allowed": "{chat} does not let the bridge read its archive.",
}
_CONTROL = dict.fromkeys(range(32), " ") | {127: " "}


def condition(stanza: Element) -> tuple[str, str]:
    """The condition and the server's own words of an error stanza; "undefined-condition" where there is none."""
    error = core(stanza, "error")
    found, text = "undefined-condition", ""
    for child in error if error is not None else ():
        if wire.tag(child).startswith(f"{{{wire.STANZAS}}}"):
            if local(child) == "text":
                text = words(child)
            else:
                found = local(child)
    return found, " ".join(text.translate(_CONTROL).split())[:200]


def joining(stanza: Element, chat: str) -> str:
    """Why the room did not let us in."""
    found, text = condition(stanza)
    made = _sentence(_JOIN.get(found, "{chat} did not let the bridge in ({condition})."), chat, found, text)
    venue = _venue(stanza)
    return f"{made} It goes on in {venue}." if venue else made


def _venue(stanza: Element) -> str:
    """RFC 6120, 8.3.3.5: <gone/> may hold the URI of where it is now; "" where that is no room."""
    gone = words(find(core(stanza, "error"), wire.STANZAS, "gone")).strip()
    return (normal(gone[5:].partition("?")[0]) or "") if gone.startswith("xmpp:") else ""


def saying(stanza: Element, chat: str) -> str:
    """Why something was not done."""
    return _refused(stanza, chat, {})


def administering(stanza: Element, chat: str) -> str:
    """Why a room did not do what its moderators and admins may ask it for."""
    return _refused(stanza, chat, _ADMINISTER)


def inviting(stanza: Element, chat: str) -> str:
    """Why somebody was not asked in."""
    return _refused(stanza, chat, _INVITE)


def naming(stanza: Element, chat: str) -> str:
    """Why a room kept its subject."""
    return _refused(stanza, chat, _NAME)


def configuring(stanza: Element, chat: str) -> str:
    """Why a room is configured as it was."""
    return _refused(stanza, chat, _CONFIGURE)


def reading(stanza: Element, chat: str) -> str:
    """Why an archive told nothing."""
    return _refused(stanza, chat, _READ)


def _refused(stanza: Element, chat: str, better: dict[str, str]) -> str:
    found, text = condition(stanza)
    pattern = better.get(found) or _SAY.get(found, "{chat} refused it ({condition}).")
    return _sentence(pattern, chat, found, text)


def _sentence(pattern: str, chat: str, found: str, text: str) -> str:
    made = pattern.format(chat=shown(chat), condition=found.replace("-", " "))
    return f"{made} The server says: {text}" if text else made


def put_out(chat: str, by: str, reason: str) -> str:
    """Why somebody's words do not go into a room that they were put out of."""
    who = f" by {by}" if by else ""
    why = f": {reason}" if reason else ""
    return f"You were put out of {chat}{who}{why}"[:400] + " (to go in again, say it once more in a minute)"


def shown(name: str) -> str:
    """An address or a name as it can stand in a sentence."""
    return "".join(c if c.isprintable() else "?" for c in name)[:120] or "The address"
