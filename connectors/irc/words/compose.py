"""From verbs to lines: the speaking half of the connector's translation."""

from __future__ import annotations

from typing import assert_never

from bridgekit.contract import verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Kind, Person, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.split import by_bytes
from bridgekit.contract.text import Style, Text, plain
from bridgekit.contract.verbs import Verb
from connectors.irc.protocol import modes
from connectors.irc.protocol.masks import hits, muting
from connectors.irc.protocol.outline import BanMask, OutLine, Settings, Urgency
from connectors.irc.protocol.people import WHOX_FIELDS, WHOX_TOKEN
from connectors.irc.protocol.stamps import is_real, stamp
from connectors.irc.protocol.standing import letter
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import clean
from connectors.irc.words.format import STYLES, encode
from connectors.irc.words.identity import View
from connectors.irc.words.saying import can_tag, post, separators

__all__ = ["BanMask", "OutLine", "Settings", "Urgency", "after_join", "after_names", "capabilities", "lines"]

_MAX_REACTION = 64
_MAX_NAME = 200  # bytes; longer than any network's channels and nicks
_OF_CHANNELS = (
    verbs.Join,
    verbs.Leave,
    verbs.SetTopic,
    verbs.Invite,
    verbs.Kick,
    verbs.Ban,
    verbs.Unban,
    verbs.SetRole,
)


def lines(verb: Verb, state: State, people: View, settings: Settings, *, key: str = "") -> list[OutLine]:
    """What to send to do `verb`, in order; `key` is a channel's password for Join.

    Raises SendRejected, with a sentence for its sender, where it cannot be done here; nothing of it is sent then.
    """
    target = _target(verb.chat, state, people)
    if isinstance(verb, _OF_CHANNELS) and not state.is_channel(target):
        raise SendRejected("That can be done only in a channel.")
    match verb:
        case verbs.PostMessage():
            return post(verb, target, state, people, settings)
        case verbs.EditMessage():
            said = verbs.PostMessage(
                chat=verb.chat, speaker=verb.speaker, content=verb.content, prefix=f"{verb.prefix}* "
            )
            return post(said, target, state, people, settings)
        case verbs.React():
            return [_react(target, verb.target, "react", verb.reaction, state)]
        case verbs.Unreact():
            return [_react(target, verb.target, "unreact", verb.reaction, state)]
        case verbs.Retract():
            return [_retract(verb, target, state)]
        case verbs.SetTopic():
            topic = _shorter(verb.topic, min(state.support.topiclen, state.budget("TOPIC", target)))
            return [OutLine(command="TOPIC", params=(target, topic), urgency=Urgency.MODERATION)]
        case verbs.SetName():
            raise SendRejected("A channel cannot be renamed on this network.")
        case verbs.Depart():
            raise SendRejected("Nobody on this network is shown by another's account.")
        case verbs.SetAvatar():
            raise SendRejected("A channel has no picture on this network.")
        case verbs.SetTyping():
            if not can_tag("typing", state):
                raise SendRejected("This network does not show who is typing.")
            tags = {"+typing": "active" if verb.active else "done"}
            return [OutLine(command="TAGMSG", params=(target,), tags=tags, urgency=Urgency.LAZY)]
        case verbs.MarkRead():
            raise SendRejected("This network does not show what has been read.")
        case verbs.Join():
            return [_join(target, verb.secret or key, state)]
        case verbs.Leave():
            reason = _shorter(verb.reason, state.budget("PART", target))
            params = (target, reason) if reason else (target,)
            return [OutLine(command="PART", params=params, urgency=Urgency.MODERATION)]
        case verbs.Invite():
            nick = _nick(verb.person, people)
            return [OutLine(command="INVITE", params=(nick, target), urgency=Urgency.MODERATION)]
        case verbs.Kick():
            return [_kick(_nick(verb.person, people), target, verb.reason, state)]
        case verbs.Ban():
            return _ban(verb, target, state, people, settings)
        case verbs.Unban():
            return _unban(verb, target, state, people, settings)
        case verbs.SetRole(role=Role.MUTED):
            return _mute(verb, target, state, people, settings)
        case verbs.SetRole():
            return _set_role(verb, target, state, people)
        case verbs.ShowProfile():
            raise SendRejected("Names on this network are nicks, and they stay as they are.")
        case verbs.FetchHistory():
            return [_history(verb, target, state)]
        case _:
            assert_never(verb)


def capabilities(state: State, chat: ChatId, settings: Settings) -> Capabilities:
    """What can be done in `chat` on this connection today."""
    channel = state.is_channel(chat)
    tags = "message-tags" in state.caps
    can: set[type[verbs.VerbBase]] = {verbs.PostMessage}
    if channel:
        can |= set(_OF_CHANNELS)
    if can_tag("typing", state):
        can.add(verbs.SetTyping)
    pointing = tags and state.msgids and can_tag("draft/reply", state)
    speakers = settings.relays and channel and bool(separators(state, chat))
    if (
        pointing and can_tag("draft/react", state) and not speakers
    ):  # a TAGMSG would be the relay's own reaction
        can |= {verbs.React, verbs.Unreact}
    if "draft/message-redaction" in state.caps and state.msgids:
        can.add(verbs.Retract)
    if "draft/chathistory" in state.caps:
        can.add(verbs.FetchHistory)
    multiline = "draft/multiline" in state.caps and not speakers  # RELAYMSG is a line each
    return Capabilities(
        verbs=frozenset(can),
        styles=STYLES if settings.formatting else frozenset({Style.MENTION}),
        kinds=frozenset({Kind.TEXT, Kind.EMOTE, Kind.NOTICE}),
        speakers=speakers,
        replies=pointing,
        max_lines=max(settings.max_lines, _number(state.caps.fields("draft/multiline").get("max-lines", "")))
        if multiline
        else settings.max_lines,
        line_bytes=max(1, state.budget("PRIVMSG", chat)),
        protection=Protection.TRANSPORT if settings.tls else Protection.CLEAR,
    )


def after_join(state: State, channel: str) -> list[OutLine]:
    """What to ask for as soon as we are in `channel`: its modes."""
    name = clean(channel, middle=True)
    if not state.is_channel(name):
        return []
    return [OutLine(command="MODE", params=(name,), urgency=Urgency.MODERATION)]


def after_names(state: State, channel: str) -> list[OutLine]:
    """What to ask for once everybody in `channel` was named: WHO(X), for hosts and accounts."""
    name = clean(channel, middle=True)
    if not state.is_channel(name):
        return []
    fields = (f"{WHOX_FIELDS},{WHOX_TOKEN}",) if state.support.whox else ()
    return [OutLine(command="WHO", params=(name, *fields), urgency=Urgency.LAZY)]


# Where and whom ---------------------------------------------------------------------------------------------


def _target(chat: ChatId, state: State, people: View) -> str:
    """The channel as the network writes it, or the nick of the person whose private chat it is."""
    if state.is_channel(chat):
        known = state.channel(chat)
        name = known.name if known is not None else str(chat)
        wrong = name != clean(name, middle=True) or "," in name or "\x07" in name
        if wrong or not 1 < len(name.encode()) <= _MAX_NAME:
            raise SendRejected(f"{clean(name)} cannot be a channel's name on this network.")
        return name
    nick = people.nick(PersonId(chat))
    if nick is None:
        raise SendRejected(
            f"{clean(chat)} is not on the network now: it is not sent, so that no stranger gets it."
        )
    return _clean_nick(nick)


def _nick(person: Person, people: View) -> str:
    nick = people.nick(person.id)
    if nick is None:
        raise SendRejected(f"{clean(person.name)} is not on the network now.")
    return _clean_nick(nick)


def _clean_nick(nick: str) -> str:
    # A target is a list at each comma; "@" and "!" would make it a mask or another server's
    if (
        nick != clean(nick, middle=True)
        or not nick
        or len(nick.encode()) > _MAX_NAME
        or set(nick) & set(",!@*?$")
    ):
        raise SendRejected(f"{clean(nick)[:_MAX_NAME]} cannot be a nick.")
    return nick


def _shorter(words: str, limit: int) -> str:
    """One line of at most `limit` bytes, with an ellipsis where something was cut."""
    words = encode(Text(clean(words))).strip()
    if len(words.encode()) <= limit:
        return words
    if limit < 8:
        return ""
    return by_bytes(plain(words), limit - 3)[0].body + "…"


# Verbs ------------------------------------------------------------------------------------------------------


def _react(target: str, message: MessageId, tag: str, key: str, state: State) -> OutLine:
    if not can_tag(f"draft/{tag}", state) or not can_tag("draft/reply", state):
        raise SendRejected("This network has no reactions.")
    if not is_real(message):
        raise SendRejected("The network does not know that message any more.")
    tags = {f"+draft/{tag}": clean(key)[:_MAX_REACTION], "+draft/reply": _id(message)}
    return OutLine(command="TAGMSG", params=(target,), tags=tags, echoed=True)


def _id(message: MessageId) -> str:
    if len(message) > 256 or message != clean(message):
        raise SendRejected("The network does not know that message.")
    return str(message)


def _retract(verb: verbs.Retract, target: str, state: State) -> OutLine:
    if "draft/message-redaction" not in state.caps or not is_real(verb.target):
        raise SendRejected("This network cannot take that message back: it can still be read there.")
    id = _id(verb.target)
    if id != clean(id, middle=True):
        raise SendRejected("The network does not know that message.")
    reason = _shorter(verb.reason, state.budget(f"REDACT {id}", target))
    params = (target, id, reason) if reason else (target, id)
    return OutLine(command="REDACT", params=params, urgency=Urgency.MODERATION)


def _join(target: str, secret: str, state: State) -> OutLine:
    if secret and (secret != clean(secret, middle=True) or "," in secret or len(secret) > 100):
        raise SendRejected(
            f"The key of {target} cannot be one: it has a space, a comma or begins with a colon."
        )
    params = (target, secret) if secret else (target,)
    return OutLine(command="JOIN", params=params, urgency=Urgency.MODERATION)


def _kick(nick: str, target: str, reason: str, state: State) -> OutLine:
    words = _shorter(reason, min(state.support.kicklen, state.budget(f"KICK {nick}", target)))
    params = (target, nick, words) if words else (target, nick)
    return OutLine(command="KICK", params=params, urgency=Urgency.MODERATION)


def _mask(nick: str, state: State, choice: BanMask) -> str:
    """The mask that hits one person; a host that others share (a gateway, a bridge) is not banned whole."""
    user = state.known(nick)
    host = clean(user.host, middle=True) if user is not None else ""
    shared = (
        any(other.host == host and other is not user for other in state.users.values()) if host else False
    )
    match choice:
        case BanMask.HOST if host and not shared:
            return f"*!*@{host}"
        case BanMask.BOTH | BanMask.HOST if host:
            return f"{nick}!*@{host}"
        case _:
            return f"{nick}!*@*"


def _ban(verb: verbs.Ban, target: str, state: State, people: View, settings: Settings) -> list[OutLine]:
    nick = _nick(verb.person, people)
    mask = _mask(nick, state, settings.ban_mask)
    out = [OutLine(command="MODE", params=(target, "+b", mask), urgency=Urgency.MODERATION)]
    channel = state.channel(target)
    if channel is not None and state.fold(nick) in channel.members:
        out.append(_kick(nick, target, verb.reason, state))
    return out


def _unban(verb: verbs.Unban, target: str, state: State, people: View, settings: Settings) -> list[OutLine]:
    """Take away every mask that hit the person; where none is known, the masks that a ban would set."""
    channel = state.channel(target)
    nick = people.nick(verb.person.id) or verb.person.name
    user = state.known(nick)
    source = state.fold(f"{nick}!{user.user}@{user.host}") if user is not None else ""
    masks: list[str] = []
    for mask, hit in channel.bans.items() if channel is not None else ():
        literal = state.fold(mask.partition("!")[0]) == state.fold(nick)
        if (
            literal
            or any(id == verb.person.id for id, _, _ in hit)
            or (source and hits(state.fold(mask), source))
        ):
            masks.append(mask)
    if not masks:
        nick = _clean_nick(nick)
        masks = list(dict.fromkeys((_mask(nick, state, settings.ban_mask), f"{nick}!*@*")))
    changes = [(False, "b", mask) for mask in masks if mask and mask == clean(mask, middle=True)]
    return [
        OutLine(command="MODE", params=(target, *params), urgency=Urgency.MODERATION)
        for params in modes.write(changes, min(state.support.modes, 2))
    ]


def _set_role(verb: verbs.SetRole, target: str, state: State, people: View) -> list[OutLine]:
    """Give the mode of the role, and take the higher ones away; those below do no harm."""
    nick = _nick(verb.person, people)
    order = state.support.prefix_modes
    wanted = letter(verb.role, state.support) if verb.role > Role.NONE else ""
    has = state.prefixes(target, nick)
    if verb.role > Role.NONE and not wanted:
        raise SendRejected("This network has no such role.")
    changes = [(True, wanted, nick)] if wanted and wanted not in has else []
    above = [mode for mode in has if not wanted or order.find(mode) < order.find(wanted)]
    changes += [(False, mode, nick) for mode in above]
    channel = state.channel(target)
    for (sort, mask), hit in channel.quiets.items() if channel is not None else ():
        if any(id == verb.person.id for id, _ in hit) and mask == clean(mask, middle=True):
            changes.append((False, sort, mask))
    return [
        OutLine(command="MODE", params=(target, *params), urgency=Urgency.MODERATION)
        for params in modes.write(changes, state.support.modes)
    ]


def _mute(verb: verbs.SetRole, target: str, state: State, people: View, settings: Settings) -> list[OutLine]:
    """Keep somebody from speaking; a role with which they could do so all the same is taken away first."""
    nick = _nick(verb.person, people)
    found = muting(_mask(nick, state, settings.ban_mask), state.support)
    if found is None:
        raise SendRejected("This network cannot mute one person: ban them, or moderate the channel.")
    changes = [(False, mode, nick) for mode in state.prefixes(target, nick)]
    changes.append((True, *found))
    return [
        OutLine(command="MODE", params=(target, *params), urgency=Urgency.MODERATION)
        for params in modes.write(changes, state.support.modes)
    ]


def _history(verb: verbs.FetchHistory, target: str, state: State) -> OutLine:
    if "draft/chathistory" not in state.caps:
        raise SendRejected("This network keeps no history.")
    most = state.support.chathistory or verb.limit
    limit = str(max(1, min(verb.limit, most)))
    if verb.since:
        params = ("AFTER", target, f"timestamp={stamp(verb.since)}", limit)
    else:
        params = ("LATEST", target, "*", limit)
    return OutLine(command="CHATHISTORY", params=params, urgency=Urgency.LAZY)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
