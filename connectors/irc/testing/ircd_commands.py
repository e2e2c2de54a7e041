"""The commands of the scripted ircd's clients."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from connectors.irc.testing.ircd_line import In, Out, fold

if TYPE_CHECKING:
    from connectors.irc.testing.ircd_client import Client
    from connectors.irc.testing.ircd_people import Channel, User

_BEFORE = {"CAP", "NICK", "USER", "PASS", "WEBIRC", "AUTHENTICATE", "PING", "PONG", "QUIT"}
_WHY = {
    "471": "Cannot join channel (+l)",
    "473": "Cannot join channel (+i)",
    "474": "Cannot join channel (+b)",
    "475": "Cannot join channel (+k)",
    "477": "You need to be identified to a registered account to join this channel",
    "404": "Cannot send to channel",
    "403": "No such channel",
}
SIGN_OF = dict(zip("qaohv", "~&@%+", strict=True))


def perform(client: Client, line: In) -> None:
    """Do one command. Raises IndexError, KeyError or ValueError where parameters are missing."""
    if not client.registered and line.command not in _BEFORE:
        client.numeric("451", "You have not registered")
        return
    ircd, user, p = client.ircd, client.user, line.params
    match line.command:
        case "CAP":
            client.cap(p)
        case "AUTHENTICATE":
            client.authenticate(p[0])
        case "PASS":
            client.password = p[0]
        case "WEBIRC":
            client.webirc = p
        case "USER":
            client.named(p[0], p[3])
        case "NICK":
            _nick(client, p[0])
        case "PING":
            client.answer(Out(ircd.name, "PONG", (ircd.name, p[0])))
        case "PONG":
            pass
        case "QUIT":
            reason = f"Quit: {p[0]}" if p else "Quit"
            ircd.quit(user, reason)
            client.registered = False
            client.fail(reason)
        case "JOIN":
            keys = p[1].split(",") if len(p) > 1 else []
            for i, name in enumerate(p[0].split(",")):
                _join(client, name, keys[i] if i < len(keys) else "")
        case "PART":
            for name in p[0].split(","):
                channel = ircd.channel(name)
                if user in channel.members:
                    ircd.part(user, channel, "PART", user.mask, (channel.name, *p[1:]))
                else:
                    client.numeric("442", name, "You're not on that channel")
        case "NAMES":
            names(client, ircd.channel(p[0]))
        case "WHO":
            _who(client, p)
        case "WHOIS":
            _whois(client, p[-1])
        case "MODE":
            _mode(client, p)
        case "TOPIC":
            _topic(client, p)
        case "PRIVMSG" | "NOTICE" | "TAGMSG":
            _message(client, line)
        case "REDACT":
            if not ircd.redact(user, p[0], p[1], p[2] if len(p) > 2 else ""):
                client.answer(
                    Out(ircd.name, "FAIL", ("REDACT", "REDACT_FORBIDDEN", p[0], p[1], "You may not do that"))
                )
        case "RELAYMSG" if "draft/relaymsg" in ircd.caps:
            if not ircd.relay(user, p[0], p[1], p[2]):
                refused = ("RELAYMSG", "PRIVS_NEEDED", "You cannot relay messages to this channel")
                client.answer(Out(ircd.name, "FAIL", refused))
        case "KICK":
            channel = ircd.channel(p[0])
            if not _operator(client, channel):
                return
            if fold(p[1]) not in ircd.users or ircd.find(p[1]) not in channel.members:
                client.numeric("441", p[1], p[0], "They aren't on that channel")
                return
            ircd.part(ircd.find(p[1]), channel, "KICK", user.mask, (channel.name, p[1], *p[2:]))
        case "INVITE":
            if fold(p[0]) not in ircd.users:
                client.numeric("401", p[0], "No such nick/channel")
                return
            client.numeric("341", p[0], p[1])
            ircd.find(p[0]).heard.append(Out(user.mask, "INVITE", (p[0], p[1]), user=user))
            if ircd.find(p[0]).client is not None:
                ircd.send_to(ircd.find(p[0]), Out(user.mask, "INVITE", (p[0], p[1]), user=user))
        case "AWAY":
            user.away = p[0] if p else ""
            client.numeric("306" if user.away else "305", "You have been marked as being away")
        case "SETNAME":
            user.realname = p[0]
            for witness in ircd.witnesses(user):
                witness.send(Out(user.mask, "SETNAME", (p[0],)), cap="setname")
        case "CHATHISTORY" if "draft/chathistory" in ircd.caps:
            _history(client, p)
        case _:
            client.numeric("421", line.command, "Unknown command")


def _nick(client: Client, nick: str) -> None:
    ircd, user = client.ircd, client.user
    if len(nick) > ircd.nicklen and not ircd.cuts_nicks:
        client.numeric("432", nick, f"Nickname too long, max. {ircd.nicklen} characters")
        return
    nick = nick[: ircd.nicklen]
    if not nick or nick[0].isdigit() or nick[0] == "-" or any(c in " ,:!@#" or ord(c) < 33 for c in nick):
        client.numeric("432", nick or "*", "Erroneous nickname")
        return
    holder = ircd.users.get(fold(nick))
    if holder is not None and holder is not user:
        client.numeric("433", nick, "Nickname is already in use")
        return
    if client.registered:
        ircd.rename(user, nick)
        return
    user.nick = nick
    client.try_register()


def _join(client: Client, name: str, key: str) -> None:
    ircd, user = client.ircd, client.user
    if name[:1] != "#" or " " in name or "\x07" in name:
        client.numeric("403", name, _WHY["403"])
        return
    channel = ircd.channel(name)
    if user in channel.members:
        return
    if channel.forward:
        client.numeric("470", name, channel.forward, "Forwarding to another channel")
        _join(client, channel.forward, key)
        return
    why = channel.refuse
    if not why and "k" in channel.modes and channel.modes["k"] != key:
        why = "475"
    if not why and "i" in channel.modes:
        why = "473"
    if not why and any(_matches(mask, user) for mask in channel.bans):
        why = "474"
    if why:
        client.numeric(why, name, _WHY.get(why, "Cannot join channel"))
        return
    first = not channel.members
    channel.sockets[user] = client
    user.join(name, prefix="")
    if first:
        channel.members[user].add("o")
    if channel.topic:
        client.numeric("332", channel.name, channel.topic)
        client.numeric("333", channel.name, "somebody!some@where", "1700000000")
    names(client, channel)


def names(client: Client, channel: Channel) -> None:
    """353 and 366."""
    words = []
    for member, modes in channel.members.items():
        signs = "".join(SIGN_OF[m] for m in "qaohv" if m in modes)
        if "multi-prefix" not in client.caps:
            signs = signs[:1]
        words.append(signs + (member.mask if "userhost-in-names" in client.caps else member.nick))
    per_line = 6 if "userhost-in-names" in client.caps else 12
    for i in range(0, len(words), per_line):
        client.numeric("353", "=", channel.name, " ".join(words[i : i + per_line]))
    client.numeric("366", channel.name, "End of /NAMES list.")


def _who(client: Client, p: list[str]) -> None:
    ircd = client.ircd
    whom: list[User] = []
    if p[0][:1] == "#":
        whom = list(ircd.channel(p[0]).members)
    elif fold(p[0]) in ircd.users:
        whom = [ircd.find(p[0])]
    for member in whom:
        flags = "G" if member.away else "H"
        if len(p) > 1 and p[1].startswith("%") and ircd.whox:
            wanted, _, token = p[1][1:].partition(",")
            values = {
                "t": token, "c": p[0], "u": member.user, "h": member.host, "s": ircd.name, "n": member.nick,
                "f": flags, "a": member.account or "0", "r": member.realname, "i": "127.0.0.1", "d": "0", "l": "0",
            }  # fmt: skip
            client.numeric("354", *(values[c] for c in "tcuihsnfdlar" if c in wanted and c in values))
        else:
            client.numeric(
                "352", p[0], member.user, member.host, ircd.name, member.nick, flags, f"0 {member.realname}"
            )
    client.numeric("315", p[0], "End of /WHO list.")


def _whois(client: Client, nick: str) -> None:
    user = client.ircd.users.get(fold(nick))
    if user is None:
        client.numeric("401", nick, "No such nick/channel")
    else:
        client.numeric("311", user.nick, user.user, user.host, "*", user.realname)
        if user.account:
            client.numeric("330", user.nick, user.account, "is logged in as")
    client.numeric("318", nick, "End of /WHOIS list.")


def _mode(client: Client, p: list[str]) -> None:
    ircd = client.ircd
    if p[0][:1] != "#":
        if len(p) > 1:
            client.answer(Out(client.user.mask, "MODE", (p[0], p[1])))
        else:
            client.numeric("221", "+i")
        return
    if fold(p[0]) not in ircd.channels:
        client.numeric("403", p[0], _WHY["403"])
        return
    channel = ircd.channel(p[0])
    if len(p) == 1:
        letters = "".join(channel.modes)
        client.numeric("324", channel.name, f"+{letters}", *(v for v in channel.modes.values() if v))
        client.numeric("329", channel.name, "1700000000")
    elif p[1].lstrip("+") == "b" and len(p) == 2:
        for mask in channel.bans:
            client.numeric("367", channel.name, mask, "somebody", "1700000000")
        client.numeric("368", channel.name, "End of channel ban list")
    elif _operator(client, channel):
        ircd.mode(client.user.mask, channel, tuple(p[1:]))


def _topic(client: Client, p: list[str]) -> None:
    channel = client.ircd.channel(p[0])
    if len(p) > 1:
        if "t" not in channel.modes or _operator(client, channel):
            client.ircd.topic(client.user.mask, channel, p[1])
    elif channel.topic:
        client.numeric("332", channel.name, channel.topic)
        client.numeric("333", channel.name, "somebody!some@where", "1700000000")
    else:
        client.numeric("331", channel.name, "No topic is set")


def _operator(client: Client, channel: Channel) -> bool:
    if channel.members.get(client.user, set()) & set("qaoh"):
        return True
    client.numeric("482", channel.name, "You're not channel operator")
    return False


def _message(client: Client, line: In) -> None:
    ircd, user = client.ircd, client.user
    target = line.params[0]
    text = None if line.command == "TAGMSG" else line.params[1]
    if text == "":
        client.numeric("412", "No text to send")
        return
    if target[:1] == "#":
        if fold(target) not in ircd.channels:
            client.numeric("403", target, _WHY["403"])
            return
        channel = ircd.channel(target)
        modes = channel.members.get(user)
        muted = channel.mute or (
            "404" if ("n" in channel.modes and modes is None) or ("m" in channel.modes and not modes) else ""
        )
        if ircd.censored and text is not None and ircd.censored in text:
            muted = "404"
        if muted:
            client.numeric(muted, target, _WHY.get(muted, "Refused"))
            return
    elif fold(target) not in ircd.users:
        client.numeric("401", target, "No such nick/channel")
        return
    tags = {k: v for k, v in line.tags.items() if k.startswith("+")}
    ircd.message(user, line.command, target, text, tags)
    ircd.handle(client, line)


def _history(client: Client, p: list[str]) -> None:
    ircd = client.ircd
    kind, target, *bounds = p
    messages = list(ircd.channel(target).history)
    limit = min(int(bounds[-1]), ircd.history_page)

    def key(bound: str) -> int:
        name, _, value = bound.partition("=")
        for i, out in enumerate(messages):
            if (name == "msgid" and out.tags["msgid"] == value) or (
                name == "timestamp" and out.tags["time"] > value
            ):
                return i if name == "msgid" else i - 1
        return len(messages) - 1 if name == "timestamp" else -1

    match kind.upper():
        case "LATEST":
            found = messages[key(bounds[0]) + 1 if bounds[0] != "*" else 0 :][-limit:]
        case "AFTER":
            found = messages[key(bounds[0]) + 1 :][:limit]
        case "BEFORE":
            found = messages[: max(key(bounds[0]), 0)][-limit:]
        case _:
            client.answer(
                Out(ircd.name, "FAIL", ("CHATHISTORY", "UNKNOWN_COMMAND", kind, "Unknown subcommand"))
            )
            return
    if "draft/event-playback" not in client.caps:
        found = [out for out in found if out.command in ("PRIVMSG", "NOTICE")]
    client.batch("chathistory", target, messages=found)


def _matches(mask: str, user: User) -> bool:
    return fnmatch.fnmatchcase(fold(user.mask), fold(mask).replace("[", "[[]"))
