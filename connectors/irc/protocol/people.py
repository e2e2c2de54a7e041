"""Who people are: what WHO, WHOIS and the notifications of IRCv3 tell about those whom we can see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from connectors.irc.protocol.changes import Change, UserChanged, WhoEnded
from connectors.irc.protocol.roll import User
from connectors.irc.protocol.wire import Line, need

if TYPE_CHECKING:
    from connectors.irc.protocol.state import State

WHOX_FIELDS = "%tcuhnfar"
WHOX_TOKEN = "152"


def _who(state: State, line: Line) -> list[Change]:
    # me, channel, user, host, server, nick, flags, "hops realname"
    user = state.known(need(line, 5))
    if user is not None:
        user.realname = line.param(7).partition(" ")[2]
        _whoed(state, user, line.param(2), line.param(3), line.param(6))
    return []


def _whox(state: State, line: Line) -> list[Change]:
    # me, token, channel, user, host, nick, flags, account, realname: the order of WHOX_FIELDS
    if line.param(1) != WHOX_TOKEN:
        return []
    user = state.known(need(line, 5))
    if user is not None:
        user.account = "" if line.param(7) in ("0", "*") else line.param(7)
        user.realname = line.param(8)
        _whoed(state, user, line.param(3), line.param(4), line.param(6))
    return []


def _whoed(state: State, user: User, name: str, host: str, flags: str) -> None:
    user.user, user.host = name, host
    user.away = flags.startswith("G")
    user.bot = bool(state.support.bot) and state.support.bot in flags
    if state.is_me(user.nick):
        state.user, state.host = name, host


def _who_end(state: State, line: Line) -> list[Change]:
    channel = state.channel(line.param(1))
    return [WhoEnded(channel)] if channel is not None else []


def _whois(state: State, line: Line) -> list[Change]:
    nick, name, host = need(line, 1), line.param(2), line.param(3)
    if state.is_me(nick) and name and host:
        state.user, state.host = name, host
    user = state.known(nick)
    if user is not None and name and host:
        user.user, user.host, user.realname = name, host, line.param(5) or user.realname
    return []


def _whois_account(state: State, line: Line) -> list[Change]:
    user = state.known(need(line, 1))
    return _user_is(user, "account", line.param(2))


def _whois_bot(state: State, line: Line) -> list[Change]:
    if (user := state.known(need(line, 1))) is not None:
        user.bot = True
    return []


def _own_host(state: State, line: Line) -> list[Change]:
    user, at, host = need(line, 1).rpartition("@")
    state.host, state.user = host, user if at else state.user
    return []


def _logged_in(state: State, line: Line) -> list[Change]:
    mask, state.account = line.param(1), line.param(2)
    _, bang, rest = mask.partition("!")
    user, at, host = rest.rpartition("@")
    if bang and at and user and host and "*" not in rest:  # before 001 some servers say *!*@*
        state.user, state.host = user, host
    return _user_is(state.known(state.nick), "account", state.account)


def _logged_out(state: State, line: Line) -> list[Change]:
    state.account = ""
    return _user_is(state.known(state.nick), "account", "")


def _own_away(state: State, line: Line) -> list[Change]:
    state.away = line.command == "306"
    return []


def _away(state: State, line: Line) -> list[Change]:
    return _user_is(state.known(line.nick), "away", bool(line.param(0)))


def _account(state: State, line: Line) -> list[Change]:
    account = need(line, 0)
    return _user_is(state.known(line.nick), "account", "" if account == "*" else account)


def _chghost(state: State, line: Line) -> list[Change]:
    name, host = need(line, 0), need(line, 1)
    if state.is_me(line.nick):
        state.user, state.host = name, host
    user = state.known(line.nick)
    if user is None:
        return []
    user.user = name
    return _user_is(user, "host", host)


def _setname(state: State, line: Line) -> list[Change]:
    return _user_is(state.known(line.nick), "realname", need(line, 0))


def _user_is(user: User | None, what: str, value: str | bool) -> list[Change]:
    if user is None or getattr(user, what) == value:
        return []
    setattr(user, what, value)
    return [UserChanged(user, what)]


LEARN: dict[str, Callable[[State, Line], list[Change]]] = {
    "352": _who,
    "354": _whox,
    "315": _who_end,
    "311": _whois,
    "330": _whois_account,
    "335": _whois_bot,
    "396": _own_host,
    "900": _logged_in,
    "901": _logged_out,
    "305": _own_away,
    "306": _own_away,
    "AWAY": _away,
    "ACCOUNT": _account,
    "CHGHOST": _chghost,
    "SETNAME": _setname,
}
