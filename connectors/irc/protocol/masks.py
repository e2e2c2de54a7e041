"""Ban masks: nick!user@host with `*` and `?`, and the account masks of today's servers."""

from __future__ import annotations

import re

from connectors.irc.protocol.isupport import Support
from connectors.irc.protocol.roll import Channel, User
from connectors.irc.protocol.state import State

MANY = 3
"""A mask that hits more of those present is meant for a network or a flood, not for somebody."""
_QUIET = re.compile(r"(?:m|~q|~quiet):(\S+)")
_ACCOUNT = re.compile(r"(?:\$a:|~a:|~account:|[aR]:)(\S+)")


def muted(letter: str, mask: str) -> str | None:
    """The mask of those whom a list mode keeps from speaking, not from being there; None where it does not.

    `+q` of Solanum and its kin, `+b m:` of InspIRCd, `+b ~q:` and `+b ~quiet:` of UnrealIRCd.
    """
    if letter == "q":
        return mask
    found = _QUIET.fullmatch(mask) if letter == "b" else None
    return found[1] if found is not None else None


def muting(mask: str, support: Support) -> tuple[str, str] | None:
    """The letter and the parameter that mute `mask` on this server; None where nothing does."""
    if "q" in support.chanmodes[0] and "q" not in support.prefix_modes:
        return "q", mask
    prefix, _, letters = support.tokens.get("EXTBAN", "").partition(",")
    if not prefix and "m" in letters:
        return "b", f"m:{mask}"
    return ("b", f"~q:{mask}") if prefix == "~" and "q" in letters else None


def hits(mask: str, source: str) -> bool:
    """Whether `mask` matches `source`; the caller has folded both. At most |mask| * |source| steps."""
    m = s = 0
    star, back = -1, 0
    while s < len(source):
        if m < len(mask) and mask[m] == "*":
            star, back = m, s
            m += 1
        elif m < len(mask) and mask[m] in ("?", source[s]):
            m, s = m + 1, s + 1
        elif star >= 0:
            back += 1
            m, s = star + 1, back
        else:
            return False
    return all(char == "*" for char in mask[m:])


def singled_out(mask: str, channel: Channel, state: State) -> list[User]:
    """The members whom `mask` hits, none where it hits more than `MANY`, or us."""
    found: list[User] = []
    account = _ACCOUNT.fullmatch(mask)
    folded = state.fold(mask)
    nick = folded.partition("!")[0]
    literal = not account and "!" in mask and "*" not in nick and "?" not in nick
    keys = [nick] if literal else list(channel.members)
    for key in keys:
        user = state.users.get(key) if key in channel.members else None
        if user is None:
            continue
        if account:
            hit = bool(user.account) and state.fold(user.account or "") == state.fold(account[1])
        else:
            hit = hits(folded, state.fold(f"{user.nick}!{user.user}@{user.host}"))
        if hit:
            found.append(user)
            if len(found) > MANY:
                return []
    return [] if any(state.is_me(user.nick) for user in found) else found
