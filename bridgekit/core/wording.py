"""Every sentence that people read about who may read: settings, consent, the gate, moderation. In one place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bridgekit.contract.devices import Device, Trust
from bridgekit.contract.people import Person
from bridgekit.contract.policy import Exposure
from bridgekit.contract.reports import AbuseReport

if TYPE_CHECKING:
    from bridgekit.core.scopes import Consent

LONGEST_TITLE = 80
"""Characters of a room's name that somebody on a network reads."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_ADDRESS = re.compile(r"#[^\s\x00-\x1f\x7f]{1,240}:[A-Za-z0-9.:\[\]-]{1,240}")

# Settings -----------------------------------------------------------------------------------------------------

HISTORY_IS = {
    Exposure.PRESENT: "only who is there can read it",
    Exposure.JOINED: "only its members can read it",
    Exposure.INVITED: "who is invited can read it",
    Exposure.SHARED: "who joins later can read what was said before",
    Exposure.WORLD_READABLE: "the whole world can read it without joining",
}
JOIN_IS = (
    "only who is invited can join",
    "everybody can ask to be let in",
    "the members of other rooms can join",
    "everybody can join",
)
GUESTS_MAY = "guests without an account can join"
IS_LISTED = "it stands in the public room directory"
HAS_ALIAS = "it can be found by its address"
UNLIST = "take the room out of the room directory"
UNALIAS = "remove the room's published address"


def mend(type: str, value: str) -> str:
    """What to do about one setting that the bridge has no power over."""
    return f"set {type} to {value}"


def paused(name: str, label: str, exposing: Sequence[str]) -> str:
    """Why nothing passes from a link."""
    return (
        f"Messages from {name} on {label} are held back: in this Matrix room {listed(exposing)}, "
        "and that is more than the chat allows."
    )


UNSETTLED = "The room is just being compared with what its chats allow."


IN_ORDER = "It waits behind what was said before it."


def replaced(new: str, bot: str) -> str:
    """Why nothing passes from a link whose room was replaced."""
    return (
        f"The Matrix room was replaced by {new}, and the bridge is not in that one yet. What is said here waits, and "
        f"goes there as soon as somebody invites {bot}."
    )


def let_me_in(bot: str, new: str) -> str:
    """For those who can do something about it."""
    return (
        f"The bridge is not let into the new room {new}: invite it there ({bot}). What its chats say meanwhile waits, "
        "and is lost only if their links are taken apart."
    )


CANNOT_COME = "The bridge has a fault and cannot come in; its log says more."


def invitation_waits(room: str, why: str) -> str:
    """For who asked the bridge, or somebody on a network, into a room that cannot be entered now."""
    return f"I was asked into {room} and cannot come yet. {why} I go on trying for a day."


def without_file(name: str) -> str:
    """What stands for a file that may not be passed on."""
    return f"[{name or 'a file'}: not passed on, because the chat has not agreed to that]"


def laid_open(person: str) -> str:
    """How a room's files and long messages leave it, and who has agreed to that."""
    return (
        f"Files and long messages of this room are put under addresses: {person} has agreed. "
        "`!bridge disagree files` ends that."
    )


def passes_again(name: str, label: str) -> str:
    """What was in the way is mended."""
    return f"Messages from {name} on {label} pass again."


def how_to_mend(steps: Sequence[str]) -> str:
    """What somebody with power in the room can do about it."""
    return f"Somebody with power in the Matrix room has to {listed(steps)}, or give the bridge the power to do it."


def listed(parts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


SOMEBODY = "Somebody"
ERASED = "somebody who was erased"
"""What stands in the place of a name that is kept no more."""
ERASED_WORDS = "Who said it was erased."


def undone(what: str, by: str) -> str:
    """A setting was put back."""
    return f"{by} made this room more open than its chats allow; the bridge has put that back: {what}."


def kept_until_heard(chats: Sequence[str], labels: Sequence[str], undone: Sequence[str]) -> str:
    """Why a room is no more open than it was left: it is not known what its chats allow. `undone` was put back for
    that; empty where the bridge could not."""
    done = (
        f"the bridge has put back what was opened since: {', '.join(undone)}"
        if undone
        else "it was opened further since, and the bridge has no power to put that back, so please do it"
    )
    return (
        f"{listed(chats)} on {listed(labels)} {'has' if len(chats) == 1 else 'have'} not been heard since the bridge "
        f"was away, so nobody knows how open {'it' if len(chats) == 1 else 'they'} may be here. Until then this room "
        f"stays as it was before: {done}. What is allowed is opened then by itself; only addresses, and rooms whose "
        "members may come in, have to be set again."
    )


EXPOSED = "more people could read it than its chat allows"


def taken_back(count: int) -> str:
    """Words that were said while the room was too open are gone from it."""
    were = "1 message that came" if count == 1 else f"{count} messages that came"
    return (
        f"{were} in while this room was more open than its chats allow could be read by people whom they were not "
        f"meant for: {'it was' if count == 1 else 'they were'} taken back here."
    )


def became(name: str, label: str, exposure: Exposure, detail: str) -> str:
    """The visibility of a linked chat has changed, for both sides."""
    modes = f" ({detail})" if detail else ""
    return f"{name} on {label} has changed who may read it{modes}. In its Matrix room now {HISTORY_IS[exposure]}."


def flickered(name: str, label: str, times: int) -> str:
    """A linked chat's visibility changed again and again, for both sides, now that it does not any more."""
    return (
        f"Who may read {name} on {label} was changed {times} times in a short while. What was most secret counted; "
        "now its last word does."
    )


# Consent ------------------------------------------------------------------------------------------------------

SCOPES = {
    "bridge": "what is said here and in the Matrix room can be read in both",
    "media": "files and pictures are passed on and kept on a Matrix server",
    "history": "people who join the Matrix room later can read what was said before",
    "public": "everybody in the world can read it, and the room may stand in public lists",
}


def room_title(room: str, name: object, alias: object) -> str:
    """What people outside Matrix are told of which room it is: its name and its address, its id where it has neither.

    Whoever may change the room chose the name: it is quoted, on one line, and not longer than names are.
    """
    called = " ".join(_UNSEEN.sub(" ", name).replace('"', "'").split()) if isinstance(name, str) else ""
    called = called if len(called) <= LONGEST_TITLE else f"{called[: LONGEST_TITLE - 1].rstrip()}…"
    address = alias if isinstance(alias, str) and _ADDRESS.fullmatch(alias) else ""
    if called:
        return f'"{called}" ({address})' if address else f'"{called}"'
    return address or room


def waits_for_consent(name: str, label: str) -> str:
    """Why a link is not open."""
    return f"Nobody who speaks for {name} on {label} has agreed to the link yet."


def waits_for_a_wish(name: str, label: str) -> str:
    """Why a link is not open that Matrix's side has taken back."""
    return (
        f"The link to {name} on {label} was taken back from here: ask for it anew with `!bridge link`, and those who "
        "speak for the chat are asked."
    )


def question(
    *, name: str, label: str, room: str, by: str, scopes: Sequence[str], code: str, days: int, again: str = ""
) -> str:
    """What an operator is asked. `again` is the name of the operator whose answer no longer stands."""
    why = (
        f"{again}, who had agreed to it, is no operator of {name} any more, so it needs another yes."
        if again
        else f"You are asked because you are an operator of {name}."
    )
    also = [scope for scope in SCOPES if scope not in scopes]
    return "\n".join(
        [
            f"{by} asks to link {name} on {label} to the Matrix room {room}. {why}",
            *(f"{scope}: {SCOPES[scope]}." for scope in SCOPES if scope in scopes),
            f"If you agree to that, answer: {code} yes",
            *(
                [f"To agree to other things as well, name all of them: {code} {' '.join(SCOPES)}"]
                if also
                else []
            ),
            f"If you do not agree, answer: {code} no",
            f"The code is for you alone and holds for {days} days. Any operator can take it back later by saying "
            f"!bridge revoke in {name}.",
        ]
    )


def link_waits(name: str, label: str, why: str, seconds: float) -> str:
    """To who asked for a link, at once, while there is no connection to make it over."""
    away = f"{label} is not connected now" + (f" ({why.rstrip('.')})" if why else "")
    return f"{away}: I wait up to {seconds:.0f} s for it, and then say whether {name} is linked."


def not_entered(name: str, label: str, why: str, seconds: float, *, connected: bool) -> str:
    """Why a chat was not entered that nothing was heard of in time."""
    because = f" ({why.rstrip('.')})" if why else ""
    if not connected:
        return f"{label} is not connected{because}, so {name} is not linked: say it again when it is."
    return f"{label} did not let the bridge into {name} within {seconds:.0f} s{because}: try again later."


def not_open_yet(name: str, label: str, reason: str) -> str:
    """To who linked a room, where nothing passes yet."""
    return f"The link to {name} on {label} is made, and nothing passes yet. {reason}"


def what_holds(consents: Iterable[Consent], scopes: Iterable[str], policy: str) -> list[str]:
    """What a chat's people have agreed to, for whoever asks."""
    holding = sorted(scopes)
    if not holding:
        return ["Nobody who speaks for this chat has agreed to a link."]
    agreed = [c for c in consents if c.granted and not c.ended]
    if not agreed:
        why = {"off": "the chat belongs to the bridge's admin", "announced": "the chat was told"}.get(
            policy, ""
        )
        return [f"Agreed to: {', '.join(holding)}" + (f" ({why})." if why else ".")]
    who = listed(dict.fromkeys(f"{c.name} on {_day(c.at)}" for c in agreed))
    return [f"Agreed to: {', '.join(holding)} (by {who})."]


HOW_TO_OBJECT = "Say !optout and your messages stay here; operators close the link by saying !bridge revoke."
NOBODY_WAS_ASKED = "Nobody had to agree to this link: take it apart with `!bridge unlink`."


def who_reads(exposure: Exposure) -> str:
    """How far the Matrix side is open."""
    return f"In the Matrix room {HISTORY_IS[max(exposure, Exposure.JOINED)]}."


def _day(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d}"


def thanks(name: str, scopes: Sequence[str]) -> str:
    """To an operator who agreed."""
    return (
        f"Thank you: noted for {name} with your name and the time: {', '.join(scopes)}. "
        f"Say !bridge revoke in {name} to take it back."
    )


def refused_noted(name: str, days: int) -> str:
    """To an operator who refused."""
    return f"Noted: {name} is not linked, and the bridge does not ask again for {days} days."


def refused_more_noted(name: str, scopes: Sequence[str], days: int) -> str:
    """To an operator who refused what would have come on top of what holds."""
    return (
        f"Noted: {', '.join(scopes)} is not agreed to for {name}, and the bridge does not ask for it again for {days} "
        f"days. What holds besides stays: say !bridge revoke in {name} to take that back."
    )


def linked(name: str, room: str, by: str, scopes: Sequence[str]) -> str:
    """What a chat is told when it is linked."""
    means = "; ".join(SCOPES[scope] for scope in SCOPES if scope in scopes)
    return (
        f"{name} is linked to the Matrix room {room} ({by}): {means}. Say !bridge for more, or !optout and your "
        "messages stay here."
    )


def agreed(name: str, label: str, who: str, scopes: Sequence[str]) -> str:
    """What the Matrix room is told."""
    return f"{who}, an operator of {name} on {label}, has agreed to: {', '.join(scopes)}."


def refused(name: str, label: str, who: str) -> str:
    """What the Matrix room is told."""
    return f"{who}, an operator of {name} on {label}, does not want it to be linked."


def refused_more(name: str, label: str, who: str, scopes: Sequence[str]) -> str:
    """What the Matrix room is told where the rest holds."""
    return f"{who}, an operator of {name} on {label}, does not agree to: {', '.join(scopes)}."


def not_renewed(name: str, label: str, who: str) -> str:
    """Why a link has closed, for both sides."""
    return f"{who}, an operator of {name} on {label}, does not want it to be linked any more: the link is closed."


def refused_before(name: str, label: str, days: int) -> str:
    """What the Matrix room is told where somebody asks again after a no."""
    return (
        f"An operator of {name} on {label} has said no to that within the last {days} days: the bridge does not ask "
        f"again. An operator can still say !bridge grant in {name}."
    )


def revoked(name: str, label: str, by: str) -> str:
    """Why a link has closed, for both sides."""
    return f"{by} has taken back the consent to link {name} on {label}: the link is closed."


def taken_with_consent(name: str) -> str:
    """The fate of words that were not shown yet when their chat's consent was taken back."""
    return f"Those who speak for {name} took back their consent before it could be shown."


def unsaid(count: int, name: str, label: str) -> str:
    """What the room is told of words that were held when the consent was taken back."""
    were = "message was" if count == 1 else "messages were"
    return f"{count} {were} held back until the consent of {name} on {label} was taken back, and will not be shown."


def asked(name: str, label: str) -> str:
    """What the Matrix room is told while an answer is awaited."""
    return f"An operator of {name} on {label} has been asked in private; nothing passes until one agrees."


def nobody_to_ask(name: str, label: str) -> str:
    """What the Matrix room is told where there is nobody to ask."""
    return (
        f"The bridge sees no operator of {name} on {label} whom it could ask. "
        f"An operator can say !bridge grant in {name} at any time."
    )


def role_lost(name: str, label: str, who: str, days: int) -> str:
    """The operator who agreed no longer has the role."""
    return (
        f"{who}, who had agreed to the link, is no operator of {name} on {label} any more. Unless another operator "
        f"agrees within {days} days (!bridge grant in {name}), the link closes."
    )


def expired(name: str, label: str) -> str:
    """Why a link has closed."""
    return f"No operator of {name} on {label} stands behind the link any more: it is closed."


NO_SUCH_CODE = (
    "That is no code that the bridge is waiting for: it was answered, it has expired, its link is gone, "
    "or it never was one. An operator who does not want a link says !bridge revoke in the chat."
)
TOO_MANY_CODES = "Too many wrong codes: the bridge does not listen to codes from you for an hour."
ANOTHER_ACCOUNT = (
    "You are not signed in to the account that the question went to: "
    "sign in to it, or say !bridge grant in the chat."
)
BAD_ANSWER = "Answer with the code and yes, no, or what you agree to: bridge, media, history, public."


def not_operator(name: str) -> str:
    """To somebody who answers or commands without the role."""
    return f"Only an operator of {name} can say that, and the bridge does not see you as one now."


def ask_later(name: str) -> str:
    """To an operator who asks for a question while there were too many."""
    return f"There were many questions about {name} just now: say it again in an hour."


def withheld(name: str) -> str:
    """To an operator who wants to agree to what Matrix's side has taken back."""
    return f"The Matrix side has taken back the link of {name}: somebody there has to ask for it anew first."


def nothing_to_revoke(name: str) -> str:
    """There is no consent."""
    return f"Nobody has agreed to a link of {name}: there is nothing to take back."


NOTHING_TO_GRANT = "Nothing is waiting for an answer here: all that was asked for has been agreed to."

# Opting out ---------------------------------------------------------------------------------------------------

OMITTED = "A message is not shown here: who wrote it does not want to be bridged."
OPTED_OUT = (
    "From now on your messages stay here: nothing that you say is passed on by this bridge. "
    "Say !optin to change that."
)
OPTED_IN = "Your messages are passed on again. Say !optout to change that."
ALREADY_OUT = "You have opted out already. Say !optin to change that."
OUT_WITH_ACCOUNT = (
    "This name has opted out with another account, and its messages stay here: sign in to that account and say !optin "
    "to change that."
)
OUT_WITH_THIS_ACCOUNT = (
    "You have opted out, and you are signed in now: your messages stay here wherever this account is used. Say !optin, "
    "signed in to it, to change that."
)
ALREADY_IN = "You have not opted out. Say !optout and your messages stay here."

# Private conversations ------------------------------------------------------------------------------------------

NOT_BLOCKED = "You have not blocked private messages from there. Say !block and none reaches you."
OUT_SO_NOT_PASSED_ON = (
    "This was not passed on: you have opted out, and your private messages stay here too. "
    "Say !optin to change that."
)
NOT_TAKEN = (
    "This was not passed on to Matrix: by this bridge people there are written to by those who are in a linked chat "
    "with them."
)
"""For a stranger who writes to a Matrix user."""


def blocked(owner: str) -> str:
    """From now on `owner` (a Matrix user; "" is all of them) does not reach whoever said so."""
    return (
        f"From now on {owner or 'nobody on Matrix'} {'cannot' if owner else 'can'} write to you in private by this "
        f"bridge. Say !unblock {owner or 'all'}, in private, to change that."
    )


def blocked_with_account(owner: str) -> str:
    """Whoever blocks `owner` without an account has signed in to one."""
    return (
        f"You are signed in now: that {owner or 'nobody on Matrix'} {'cannot' if owner else 'can'} write to you in "
        f"private by this bridge holds wherever this account is used. Say !unblock {owner or 'all'}, in private and "
        f"signed in to it, to change that."
    )


def blocked_already(owner: str) -> str:
    """It is so already."""
    return (
        f"{owner or 'Nobody on Matrix'} {'cannot' if owner else 'can'} write to you in private by this bridge. "
        f"Say !unblock {owner or 'all'}, in private, to change that."
    )


def unblocked(owner: str) -> str:
    """They may write again."""
    return (
        f"{owner or 'People on Matrix'} can write to you in private again. "
        f"Say !block {owner or 'all'}, in private, to change that."
    )


def takes_no_messages(name: str) -> str:
    """Why somebody cannot be written to: by their own word."""
    return f"{name} does not take private messages from you."


def asks_no_more(name: str) -> str:
    """What becomes of an invitation to a private conversation."""
    return f"{name} has taken back asking to talk with you: there is nothing to answer any more."


def asks_in_no_more(name: str, chat: str, label: str) -> str:
    """To whom it was said that they are asked into a chat."""
    return f"{name} has taken back asking you into {chat} on {label}: there is nothing to answer any more."


def wants_no_bridge(name: str) -> str:
    """Why there is no private conversation with who opted out."""
    return f"{name} does not want to be bridged: there are no private conversations with them here."


def no_conversations(label: str) -> str:
    """Where the admin has turned them off."""
    return f"Private conversations with people on {label} are turned off on this bridge."


def not_passed_on(label: str) -> str:
    """For who writes to a Matrix user where private conversations are turned off."""
    return f"This was not passed on to Matrix. {no_conversations(label)}"


def is_a_stranger(name: str, label: str) -> str:
    """Why somebody cannot be written to, and what to do."""
    return (
        f"On {label} private conversations are for people who share a linked chat: join a room that is linked to a "
        f"chat where {name} is."
    )


def turned_away(count: int) -> str:
    """For an admin, how many private messages of strangers went nowhere since the start."""
    return f"{count} private message{'s' if count != 1 else ''} turned away since the start"


# The gate -----------------------------------------------------------------------------------------------------

LOOKING = "The bridge is just looking who is there."
HAS_NO_ACCOUNT = "they have not signed in"
MAY_HAVE_NO_ACCOUNT = "they may have no account there"


def blocker(user: str, name: str, label: str, why: str, *, minutes: int, removes: bool) -> str:
    """Who holds a room up, why, since when, and what to do."""
    then = (
        "who stays unseen is taken out of the room"
        if removes
        else "the homeserver does not let the bridge take them out"
    )
    return (
        f"{user} is in this room and is not seen in {name} on {label} ({why}), since {_minutes(minutes)}. "
        f"Sign in, join {name}, or leave this room; {then}."
    )


def holding(count: int, name: str, label: str, blockers: Sequence[str]) -> str:
    """What is held."""
    return (
        f"{count} message{'s' if count != 1 else ''} from {name} on {label} "
        f"{'are' if count != 1 else 'is'} held. {' '.join(blockers)}"
    )


def removed(name: str, label: str, why: str) -> str:
    """The reason that a person reads who is taken out of a room."""
    return (
        f"Nobody reads {name} on {label} unseen, and your account is not in it ({why}). "
        "Sign in, then come back: you are welcome."
    )


def held_to_the_end(name: str, label: str) -> str:
    """The fate of a message that was held when its link was taken apart."""
    return f"It was held back until the link to {name} on {label} was closed, and was never shown on the other side."


def never_shown(count: int, name: str, label: str) -> str:
    """What the room is told where a link ends while something of it is held."""
    were = "message was" if count == 1 else "messages were"
    return f"{count} {were} held back until the link to {name} on {label} ended, and will not be shown."


def _minutes(count: int) -> str:
    return "less than a minute" if count < 1 else f"{count} minute{'s' if count != 1 else ''}"


# Moderation ---------------------------------------------------------------------------------------------------


def one_sided(deed: str, who: str, done: Sequence[str], not_done: Sequence[tuple[str, str]]) -> str:
    """A ban or kick that holds on some sides only. `not_done` are (side, why); no side where `why` names it."""
    where = f" in {listed(done)}" if done else ""
    return f"{who} is {deed}{where}, but not everywhere. {_lacking(not_done)}"


def roles_one_sided(who: Sequence[str], not_done: Sequence[tuple[str, str]]) -> str:
    """Roles that were given, or people who were muted, on some sides only."""
    return f"What {listed(who)} may do has changed here, but not everywhere. {_lacking(not_done)}"


def _lacking(not_done: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{side}: {why}" if side else why for side, why in not_done)


def by_policy(reason: str) -> str:
    """Why a policy list keeps somebody out."""
    return f"A policy list that this bridge follows bars this account{': ' + reason if reason else '.'}"


def too_fast(seconds: int) -> str:
    """To somebody whose messages wait."""
    return f"You write faster than this bridge passes on: your messages follow within {seconds} seconds."


def flooded(who: str, count: int) -> str:
    """What is told once where a flood was not passed on."""
    return f"{count} messages from {who} were not passed on: they came faster than people can read."


FLOOD = "It came in a flood, faster than people can read, and was not passed on."


def quarantined(who: str, name: str) -> str:
    """What the room's moderators read."""
    return (
        f"{who} is new in {name}: their messages wait for a nod. "
        f"Say `!bridge accept {who}` or `!bridge reject {who}`."
    )


def more_strangers(name: str) -> str:
    """What the room's moderators read where there are too many strangers to name each."""
    return f"More people are new in {name}, and their messages wait: `!bridge strangers` shows who they are."


def strangers(name: str, waiting: Sequence[tuple[str, int]]) -> str:
    """Whose messages wait for a nod, and how many."""
    who = listed(f"{person} ({count} message{'s' if count != 1 else ''})" for person, count in waiting)
    return f"In {name} these wait for a nod: {who}. Say `!bridge accept <who>` or `!bridge reject <who>`."


NO_STRANGERS = "Nobody's messages wait for a nod."


def nobody_waits(who: str) -> str:
    """To who nods to somebody that the bridge does not know."""
    return f"Nobody called {who} waits for a nod, or ever did: `!bridge strangers` shows who does."


def nodded(who: str, name: str, by: str) -> str:
    """An operator has let a stranger in."""
    return f"{by} has nodded: what {who} says in {name} is passed on."


def shaken(who: str, name: str, by: str, count: int) -> str:
    """An operator does not want a stranger's words."""
    held = f" {count} held message{'s' if count != 1 else ''} of theirs will not be shown." if count else ""
    return f"{by} does not want it: nothing that {who} says in {name} is passed on.{held}"


STRANGER_WAITS = (
    "You are new here: your messages wait until an operator has nodded, and are passed on to Matrix then. "
    "An operator of this chat can say !bridge accept and your name there."
)
REJECTED = "An operator has decided not to pass it on."
ENOUGH_WAITS = "It was not passed on: enough of what they said waits for a nod already."


def only_the_first(who: str, name: str, count: int) -> str:
    """What the room's moderators read where a stranger goes on and on."""
    return f"The first {count} messages of {who} in {name} wait for a nod; what they say on top is not passed on."


# Devices ------------------------------------------------------------------------------------------------------

_TRUST = {
    Trust.BLIND: "not compared",
    Trust.VERIFIED: "verified",
    Trust.UNDECIDED: "new, waits for `!bridge trust` or `!bridge distrust`",
    Trust.DISTRUSTED: "not trusted",
}


def devices(name: str, label: str, found: Sequence[Device]) -> str:
    """Whose keys a chat is encrypted to; compare them over another way before you trust them."""
    lines = [f"{name} on {label} is encrypted for:"]
    for one in found:
        what = "the bridge's own device" if one.own else _TRUST[one.trust]
        lines.append(
            f"  {one.person}, {one.id}: {one.fingerprint} ({what if one.active else f'{what}; not used now'})"
        )
    return "\n".join(lines)


def judged(device: Device) -> str:
    """What was kept."""
    if device.trust is Trust.VERIFIED:
        return (
            f"That device of {device.person} is verified. Nothing is encrypted to new devices of theirs before "
            "those are verified, too."
        )
    return f"Nothing is encrypted to that device of {device.person} any more, and nothing read that it says."


# How people come together ----------------------------------------------------------------------------------------


def found(network: str, label: str, people: Sequence[Person]) -> str:
    """Whom somebody looked for."""
    if not people:
        return f"Nobody on {label} lets themselves be found by that."
    lines = [f"Found on {label}:", *(f"  {one.name}: `!bridge chat {network} {one.id}`" for one in people)]
    return "\n".join(lines)


def code(network: str, name: str, made: str) -> str:
    """Passed on by hand."""
    return (
        f"Whoever has this code may come into {name}: {made}\nFrom another bridge: `!bridge link {network} {name} "
        f"password={made}`. `code {network} {name} off` ends it, and all others of that chat."
    )


def codes_ended(name: str, count: int) -> str:
    """Who came in by one stays."""
    return f"No code lets anybody into {name} any more; there {'was 1' if count == 1 else f'were {count}'}."


# Reports of abuse ------------------------------------------------------------------------------------------------

NO_REPORTS = "No reports of abuse are open."
REPORTS_ALONE = "Reports name people: say that in a room where you are alone with me."
LONGEST_NOTE = 300


def abuse_report(number: int, label: str, report: AbuseReport) -> str:
    """One report, for an admin: who, whom and where, in the reporter's own words. Nothing of what was reported."""
    by = "somebody who does not say who they are" if report.reporter is None else report.reporter
    shown = f"{report.messages} message{'' if report.messages == 1 else 's'} shown"
    proof = f"{shown}, {report.proven} proven to be theirs" if report.messages else "no messages shown"
    note = " ".join(_UNSEEN.sub(" ", report.note).split())
    said = f": “{note[:LONGEST_NOTE]}{'…' if len(note) > LONGEST_NOTE else ''}”" if note else ""
    return f"Report {number}, {label}: {by} reports {report.accused} in {report.chat} ({proof}){said}"


def abuse_reported(reports: Sequence[str], *, more: int) -> str:
    """What admins read when reports have come."""
    rest = [f"There {'is 1' if more == 1 else f'are {more}'} more."] if more else []
    how = "`!bridge reports done <number>` closes one that you have dealt with."
    return "\n".join(["Abuse was reported:", *reports, *rest, how])


def abuse_reports(reports: Sequence[str], *, more: int) -> str:
    """What an admin reads who asks."""
    if not reports:
        return NO_REPORTS
    rest = [f"There {'is 1' if more == 1 else f'are {more}'} more: `bridgekit api reports`."] if more else []
    return "\n".join([*reports, *rest])


def no_such_report(number: int) -> str:
    """Who closes one that is not there."""
    return f"There is no open report {number}: `!bridge reports` lists them."


def report_settled(number: int) -> str:
    """It is forgotten."""
    return f"Report {number} is closed, and forgotten."


# Accounts -----------------------------------------------------------------------------------------------------


def tried_again(reason: str) -> str:
    """Why an account is turned away, and that it is not for ever."""
    return f"{reason.rstrip('.')}. The bridge tries again by itself, ever more seldom: once a day at last."


def turned_us_away(label: str, reason: str) -> str:
    """The admins: a network does not take the bridge's own account."""
    return f"{label} has turned the bridge away, and nothing passes to it or from it until that is mended: {reason}"


# Other bridges --------------------------------------------------------------------------------------------------


def bridged_already(name: str, bot: str) -> str:
    """Why a link is refused."""
    return (
        f"{bot} bridges this room to {name} already: a second bridge would say everything twice. "
        "Take that bridge out of the room first."
    )


def linked_already(name: str, room: str, other: str) -> str:
    """Why a link is refused."""
    return f"{name} is linked to {room} already, over {other}: a second link would say everything twice."


def repeated(who: str) -> str:
    """To a room in which somebody else's relay repeats what the bridge has passed on."""
    return (
        f"{who} repeats what this bridge has passed on already: another relay connects the same chats, and every word "
        "would go round for ever. Take one of the two away."
    )


def loop(name: str, label: str, other: str, other_label: str) -> str:
    """To a room in which the bridge hears its own words."""
    return (
        f"{name} on {label} and {other} on {other_label} are the same chat: the bridge hears there what it said here. "
        "Its own words are not passed on again; unlink one of the two."
    )


# What is missing ----------------------------------------------------------------------------------------------


EXACTLY = 10 * 60_000
"""Milliseconds below which a time is told to the second."""


def missed(reason: str, since: int, until: int) -> str:
    """What a chat's readers will not read, and why; times are ms since the epoch."""
    return f"{reason} What was said there {_between(since, until)}, if anything, is missing here."


def homeserver_trouble(reason: str, since: int, until: int) -> str:
    """To the bridge's admins, when it is over; times are ms since the epoch."""
    return f"⚠ I could do nothing {_between(since, until)}. {reason} That is over now."


def _between(since: int, until: int) -> str:
    exact = until - since < EXACTLY
    begin, end = _utc(since, exact), _utc(until, exact)
    if begin[:10] == end[:10]:
        end = end[11:]
    return f"between {begin} and {end} UTC"


def _utc(at: int, exact: bool) -> str:
    """To the minute, or `exact` to the second; years are kept to 1970-9999."""
    seconds = ":%S" if exact else ""
    return f"{datetime.fromtimestamp(min(max(at, 0) // 1000, 253402300799), UTC):%Y-%m-%d %H:%M{seconds}}"
