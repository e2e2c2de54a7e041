"""What modes mean: who may read a channel, and what its people may do."""

from __future__ import annotations

from bridgekit.contract.people import Role
from bridgekit.contract.policy import Entry, Exposure, Visibility
from connectors.irc.protocol.isupport import Support
from connectors.irc.protocol.roll import Channel

ROLES: dict[str, Role] = {
    "q": Role.OWNER,
    "a": Role.ADMIN,
    "o": Role.MODERATOR,
    "h": Role.HALF_MODERATOR,
    "v": Role.VOICE,
}
_LETTERS = {role: letter for letter, role in ROLES.items()}


def role(letters: str) -> Role:
    """The highest role of a member's prefix modes."""
    return max((ROLES[letter] for letter in letters if letter in ROLES), default=Role.NONE)


def letter(wanted: Role, support: Support) -> str:
    """The prefix mode of this server that gives `wanted`, or the next lower; "" where there is none."""
    for step in sorted(_LETTERS, reverse=True):
        if step <= wanted and _LETTERS[step] in support.prefix_modes:
            return _LETTERS[step]
    return ""


def mode_words(channel: Channel) -> str:
    """The channel's modes for people: "+nst", never with a key."""
    return f"+{''.join(sorted(channel.modes))}" if channel.modes else ""


def visibility(channel: Channel, support: Support) -> Visibility:
    """Who may read the channel today. What is not known is the most secret."""
    if channel.modes is None:
        return Visibility()
    on = channel.modes.keys()
    secret = bool(on & {"s", "p"})
    # Where there is +R, +r only says that services know the channel (InspIRCd, UnrealIRCd); elsewhere it keeps
    # out who is not signed in (Solanum)
    gate = "R" if "R" in "".join(support.chanmodes) else "r"
    if on & {"i", "k"}:
        entry = Entry.INVITE
    else:
        entry = Entry.KNOCK if gate in on else Entry.OPEN
    return Visibility(
        exposure=Exposure.JOINED if secret or entry is not Entry.OPEN else Exposure.SHARED,
        entry=entry,
        listed=not secret,
        moderated="m" in on,
        known=True,
        detail=mode_words(channel),
    )
