"""What the server's refusals mean, in sentences that say what to do."""

from __future__ import annotations

import re
from enum import StrEnum

from connectors.irc.protocol.wire import Line
from connectors.irc.words.format import decode


class Closing(StrEnum):
    """Why a server ends a connection."""

    THROTTLED = "throttled"  # wait longer
    BANNED = "banned"  # stay away for hours, tell the user and the admin
    TOO_MANY = "too_many"  # fewer connections at a time
    KILLED = "killed"  # somebody wanted it so: wait, and stop if it happens again
    OTHER = "other"


# {channel}, {nick} and {words} (the server's own) are put in
_SENTENCES: dict[str, str] = {
    "401": "There is no {nick} on the network now: try again when they are back.",
    "402": "There is no {nick} on the network now: try again when they are back.",
    "403": "There is no {channel}: check how it is written.",
    "404": "{channel} does not let the bridge speak: ask an operator for voice (+v), or to lift +m or the ban.",
    "405": "The bridge is in as many channels as this network allows: leave one first.",
    "406": "There was no {nick} on the network.",
    "407": "The network takes fewer targets at a time: try them one by one.",
    "411": "The message named nobody to receive it.",
    "412": "The message was empty.",
    "415": "The network does not allow messages to {channel}.",
    "417": "The message is longer than the network allows: send it in parts.",
    "421": "The network's server does not know how to do that.",
    "432": "The network does not allow the nick {nick}: choose another one.",
    "433": "The nick {nick} is taken: choose another one, or get it back from NickServ.",
    "435": "The nick cannot be changed by who is banned in {channel}: ask an operator there.",
    "436": "The nick {nick} is taken on another server: choose another one.",
    "437": "{channel} cannot be had for the moment, after a split of the network: try again in some minutes.",
    "438": "The nick was changed too often: wait some minutes.",
    "439": "The network wants a pause before the next message to somebody new: wait a minute.",
    "441": "{nick} is not in {channel}.",
    "442": "The bridge is not in {channel}: it has to join first.",
    "443": "{nick} is in {channel} already.",
    "447": "Nicks cannot be changed while in {channel}.",
    "448": "The network forbids the channel {channel}.",
    "461": "The network's server wanted to know more than it was told.",
    "464": "The server's password is wrong: correct it in the configuration.",
    "465": "The network has banned this connection: its operators can say why.",
    "467": "{channel} has a key already: take it away first.",
    "470": "{channel} sends everybody on to {forward}: link that channel instead.",
    "471": "{channel} is full: try again when somebody has left, or ask an operator to raise the limit.",
    "472": "This network has no such mode.",
    "473": "{channel} is invite-only: ask an operator to invite the bridge.",
    "474": "The bridge is banned from {channel}: ask an operator to lift the ban.",
    "475": "{channel} needs a key (its password): link it again with the right one.",
    "476": "{channel} cannot be a channel's name on this network.",
    "477": "{channel} is only for who is signed in: register the nick and sign in with NickServ or SASL.",
    "478": "The ban list of {channel} is full: an operator has to remove some.",
    "480": "{channel} lets nobody join for the moment because too many came at once: try again in a minute.",
    "481": "Only the network's operators may do that.",
    "482": "Only an operator of {channel} can do that: ask one to make the bridge an operator.",
    "484": "{nick} is protected by the network and cannot be touched.",
    "485": "Only the founder of {channel} can do that.",
    "486": "{nick} takes private messages only from people who are signed in: sign in with NickServ or SASL.",
    "489": "{channel} lets in only TLS connections: turn TLS on for this network.",
    "490": "{channel} lets in only TLS connections: turn TLS on for this network.",
    "494": "{nick} takes no private messages from strangers.",
    "495": "{channel} wants a pause before one who was put out comes back: try again in a minute.",
    "500": "Too many joined {channel} at once: try again in a minute.",
    "502": "A mode can be set only on oneself.",
    "517": "The network has turned that command off.",
    "519": "Only the network's administrators may enter {channel}.",
    "520": "Only the network's operators may enter {channel}.",
    "531": "{nick} takes no private messages from here.",
    "716": "{nick} takes private messages only from people on their list; they were told that you wrote.",
    "723": "The bridge lacks the rights on this server to do that.",
    "742": "A lock on the modes of {channel} forbids that.",
    "768": "{channel} takes no such setting.",
    "902": "The account is locked: ask the network's operators.",
    "904": "The network refused the account's name or password: correct them and sign in again.",
    "905": "The sign-in was longer than the network allows.",
    "906": "The sign-in was broken off.",
    "907": "The account is signed in already.",
    "908": "The network offers other ways to sign in: {nick}.",
}

_FAILS: dict[str, str] = {
    "ACCOUNT_REQUIRED": "The network wants one to be signed in for that: sign in with NickServ or SASL.",
    "CANNOT_SEND": "{channel} does not take that message.",
    "INVALID_TARGET": "There is no {channel} to send that to.",
    "MESSAGE_ERROR": "The network does not give out the history of {channel}.",
    "INVALID_MSGID": "The network does not know that message any more.",
    "UNKNOWN_MSGID": "The network does not know that message any more.",
    "REDACT_FORBIDDEN": "The network does not allow that message to be taken back.",
    "REDACT_WINDOW_EXPIRED": "The message is too old to be taken back on this network.",
    "MULTILINE_MAX_BYTES": "The message is longer than the network allows: send it in parts.",
    "MULTILINE_MAX_LINES": "The message has more lines than the network allows: send it in parts.",
    "NEED_REGISTRATION": "The connection is not ready yet: try again in a moment.",
    "RATE_LIMITED": "The network asks to slow down: wait a minute.",
    "TEMPORARILY_UNAVAILABLE": "The network cannot do that for the moment: try again later.",
    "INVALID_UTF8": "The network takes only UTF-8.",
    "NOT_PRIVED": "Only an operator of {channel} can do that: ask one to make the bridge an operator.",
    "PRIVS_NEEDED": "Only an operator of {channel} can do that: ask one to make the bridge an operator.",
    "INVALID_NICK": "The network does not allow the nick {nick}.",
}

_CANNOT_JOIN = {
    "403": True,
    "405": False,
    "437": False,
    "448": True,
    "470": True,
    "471": False,
    "473": False,
    "474": True,
    "475": True,
    "476": True,
    "477": True,
    "480": False,
    "489": True,
    "490": True,
    "495": False,
    "500": False,
    "519": True,
    "520": True,
}
_CLOSINGS: tuple[tuple[Closing, re.Pattern[str]], ...] = tuple(
    (closing, re.compile(words, re.IGNORECASE))
    for closing, words in (
        # What stands first wins: "Too many connections from your host (throttled)" needs fewer, not later
        (
            Closing.TOO_MANY,
            r"too many (?:user |host |local |global |unknown )?(?:connections|sessions|clones|users|clients)"
            r"|no more connections|clones? (?:limit|detected)|session limit"
            r"|max(?:imum)? connections|connections? limit",
        ),
        (
            Closing.THROTTLED,
            r"throttl|too fast|too many times|try(?:ing)? (?:again|to reconnect|later)|reconnect(?:ing)? too",
        ),
        (
            Closing.BANNED,
            r"\b[gkzdq]\W?lined?\b|\bshun|\bbanned\b|\bakill|\bdnsbl\b|not welcome|blacklist|bad user info"
            r"|\bk-?line|autokill|access denied|not authori[sz]ed|\bdrone|\bproxy\b",
        ),
        (Closing.OTHER, r"collision"),  # two halves of a network met: nobody wanted it so
        (Closing.KILLED, r"\bkill(?:ed)?\b|nickname regained|ghost command"),
    )
)

_WHOSE = re.compile(r"closing link:? (?:\(\S+@\S+\)|[^\s(]\S*) (?:by \S+ )?(?=[(\[])", re.IGNORECASE)
"""What servers put before their reason: our own nick, user name and host, in which any word may stand."""


def explain(line: Line, channel: str = "") -> str:
    """A whole sentence for the person concerned, for a numeric error or a FAIL; never only the number.

    `channel` is what it was about where the line does not say.
    """
    words = decode(line.params[-1]).body.strip() if line.params else ""
    if line.command == "FAIL":  # standard-replies: FAIL command code [context ...] :description
        about = next(iter(line.params[2:-1]), "")
        sentence = _FAILS.get(line.param(1), "")
        if line.param(0) == "CHATHISTORY" and len(line.params) > 4:  # its context: the subcommand, the target
            about = line.param(3)
            sentence = _FAILS["MESSAGE_ERROR"]
    else:
        about = line.param(1) if len(line.params) > 2 else ""
        sentence = _SENTENCES.get(line.command, "")
        if line.command == "437" and "topic" in words.lower():  # InspIRCd, twice within a second
            sentence = "The topic of {channel} was changed a moment ago: try again in some seconds."
    if not sentence:
        return (
            f"The network says: {_sentence(words)}" if words else "The network refused that without a reason."
        )
    forward = line.param(2) if line.command == "470" else ""
    return _fill(
        sentence, channel=channel or about, nick=about or channel, forward=forward or "another channel"
    )


def cannot_join(line: Line) -> bool | None:
    """None where the numeric does not refuse a JOIN, else whether trying again is no use before somebody acts."""
    return _CANNOT_JOIN.get(line.command)


def closing(reason: str) -> Closing:
    """What an ERROR line, or a numeric 463-466, says about the next connection."""
    reason = _WHOSE.sub("", reason)
    return next((found for found, words in _CLOSINGS if words.search(reason)), Closing.OTHER)


def _fill(sentence: str, *, channel: str, nick: str, forward: str) -> str:
    """The sentence with its names, or without those that the server left out."""
    if not channel:
        sentence = sentence.replace("no {channel}", "no such channel")
    if not nick:
        sentence = sentence.replace("no {nick}", "no such person").replace("The nick {nick}", "That nick")
    starts = (sentence.startswith("{channel}") and not channel) or (
        sentence.startswith("{nick}") and not nick
    )
    filled = sentence.format(channel=channel or "the channel", nick=nick or "this person", forward=forward)
    return filled[0].upper() + filled[1:] if starts else filled


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."
