"""A room as one of our occupants sees it (XEP-0045): who is there, what they may do, and what presences mean."""

from __future__ import annotations

import hashlib
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Member, Person, Role
from connectors.xmpp.stanzas import cards, explain, wire
from connectors.xmpp.stanzas.disco import About
from connectors.xmpp.stanzas.heard import Heard, codes
from connectors.xmpp.stanzas.jids import bare, domain, normal, resource
from connectors.xmpp.stanzas.wire import core, find, words

MOST_KNOWN = 20_000
REPLAY = 60_000
"""Milliseconds after we have come in during which a room may still be telling what was said before."""


class Occupant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody in the room now. `jid` is the real address where we see it, `shown` whether everybody does."""

    nick: str
    person: PersonId
    affiliation: str = "none"
    role: str = "none"
    jid: str = ""
    photo: str = ""  # the digest of the picture that they announce
    ours: str = ""  # the bare address, where it is one of our own


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """A presence stanza from a room, read once."""

    nick: str
    to: str
    available: bool
    affiliation: str
    role: str
    jid: str
    occupant: str
    codes: frozenset[int]
    new_nick: str
    actor: str
    reason: str
    destroyed: bool
    venue: str  # where a room that is destroyed goes on
    error: str
    said: str
    photo: str | None


def read(stanza: Element) -> Presence:
    """The parts of a presence. Raises nothing."""
    muc = find(stanza, wire.MUC_USER, "x")
    item = find(muc, wire.MUC_USER, "item")
    actor = find(item, wire.MUC_USER, "actor")
    destroyed = find(muc, wire.MUC_USER, "destroy")
    reason = words(find(item if destroyed is None else destroyed, wire.MUC_USER, "reason"))
    kind = stanza.get("type", "")
    occupant = find(stanza, wire.OCCUPANT, "occupant-id")
    get = item.get if item is not None else lambda name, default="": default
    return Presence(
        nick=resource(stanza.get("from", "")),
        to=stanza.get("to", ""),
        available=kind == "",
        affiliation=get("affiliation", "none"),
        role=get("role", "none"),
        jid=bare(get("jid", "")),
        occupant=occupant.get("id", "") if occupant is not None else "",
        codes=codes(muc),
        new_nick=get("nick", ""),
        actor=actor.get("nick", "") if actor is not None else "",
        reason=reason or words(core(stanza, "status")),
        destroyed=destroyed is not None,
        venue=(normal(destroyed.get("jid", "")) or "") if destroyed is not None else "",
        error=explain.condition(stanza)[0] if kind == "error" else "",
        said=kind,
        photo=cards.announced(stanza),
    )


def role_of(affiliation: str, role: str, *, moderated: bool) -> Role:
    """owner 100, admin 75, moderator 50; in a moderated room a voice is what a visitor lacks, and where it is not
    moderated, a visitor is somebody whose voice was taken away."""
    if affiliation == "owner":
        return Role.OWNER
    if affiliation == "admin":
        return Role.ADMIN
    if role == "moderator":
        return Role.MODERATOR
    if moderated:
        return Role.VOICE if role == "participant" else Role.NONE
    return Role.MUTED if role == "visitor" else Role.NONE


def is_put_out(presence: Presence) -> bool:
    """Whether somebody else has put this occupant out."""
    return not presence.available and not presence.error and departure(presence)[0] is not Change.LEAVE


def departure(presence: Presence) -> tuple[Change, str]:
    """How somebody went, by the room's status codes (XEP-0045, 15.6.2), and why."""
    reason = presence.reason
    if 301 in presence.codes or presence.affiliation == "outcast":
        return Change.BAN, reason
    if 333 in presence.codes:
        return Change.LEAVE, reason or "lost the connection"  # a technical failure is not a kick
    if presence.codes & {321, 322}:
        return Change.KICK, reason or "the room is for members only"
    return (Change.KICK if 307 in presence.codes else Change.LEAVE), reason


class Room:
    """What is known of one room. `read_presence` says what happened; `ours` are nicks of our own occupants.

    `home` is the domain whose addresses are all ours, "" where there is none.
    """

    def __init__(self, jid: str, home: str = "") -> None:
        self.jid = jid
        self.home = home
        self.chat = ChatId(jid)
        self.about = About()
        self.joined = False
        self.nick = ""
        self.nonanonymous = False
        self.topic: str | None = None
        self.hears_visitors = False  # visitors have been heard although the room is not moderated
        self.ours: dict[str, str] = {}  # our occupants' nicks, as the room agreed, and their addresses
        self.coming: dict[
            str, int
        ] = {}  # nicks that ours ask for now; whose they are, the room has yet to say
        self.expected: set[str] = set()  # nicks that ours had when the connection was lost
        self._open: list[Presence] = []  # of such nicks, in their order
        self.occupants: dict[str, Occupant] = {}
        self.replays_until = 0  # until when (ms) what the room sends may be its history
        self.own: set[PersonId] = set()  # who is, or has been, one of ours
        self._shown: dict[str, PersonId] = {}  # by occupant-id, where everybody's address is shown
        self._known: dict[str, PersonId] = {}  # by occupant-id
        self._names: dict[PersonId, str] = {}

    # Who is who ------------------------------------------------------------------------------------------------

    def identity(self, nick: str, *, occupant: str = "", jid: str = "") -> PersonId:
        """A real address where everybody sees it, else the occupant-id (XEP-0421), else the nick."""
        if self.nonanonymous and jid:
            return PersonId(jid)
        if self.about.names_occupants and occupant:
            if self.nonanonymous and (shown := self._shown.get(occupant)) is not None:
                return shown
            if (known := self._known.get(occupant)) is not None:
                return known
            digest = hashlib.sha256(occupant.encode("utf-8", "surrogatepass")).hexdigest()[:20]
            if len(self._known) < MOST_KNOWN:
                self._known[occupant] = PersonId(f"{self.jid}/={digest}")
            return PersonId(f"{self.jid}/={digest}")
        if nick in self.occupants:
            return self.occupants[nick].person
        person, count = PersonId(f"{self.jid}/{nick}"), 1
        while self._is_there(person):  # who came under this nick has another one now, and stays who they are
            count += 1
            person = PersonId(f"{self.jid}/{nick}~{count}")
        return person

    def _is_there(self, person: PersonId) -> bool:
        there = self.occupants.get(self._names.get(person, ""))
        return there is not None and there.person == person

    def person(self, heard: Heard) -> Person:
        """Who said it."""
        there = self.occupants.get(heard.nick)
        if there is not None and not heard.stamp:
            return Person(id=there.person, name=heard.nick)
        real = heard.real if heard.stamp else ""  # anybody may write one into what they say now
        if self.nonanonymous and not real and not (self.about.names_occupants and heard.occupant):
            return Person(
                id=PersonId(f"{self.jid}/{heard.nick}"), name=heard.nick
            )  # whose nick it was, nobody says
        return Person(id=self.identity(heard.nick, occupant=heard.occupant, jid=real), name=heard.nick)

    def is_stranger(self, heard: Heard) -> bool:
        """Whether an archive says who said it, and they are here and none of ours."""
        if not heard.real and not (self.about.names_occupants and heard.occupant):
            return False
        person = self.person(heard).id
        nick = self.nick_of(person)
        ours = nick in self.ours or nick in self.expected or nick == self.nick or person in self.own
        return nick is not None and not ours

    def nick_of(self, person: PersonId) -> str | None:
        """What somebody who is there is called now."""
        return self._names[person] if self._is_there(person) else None

    def address_of(self, person: PersonId) -> str:
        """The real bare address of somebody, "" where we do not see it."""
        nick = self.nick_of(person)
        if nick is not None:
            return self.occupants[nick].jid
        return person if "/" not in person else ""

    @property
    def moderated(self) -> bool:
        return "muc_moderated" in self.about.features

    @property
    def name(self) -> str:
        """What people call it."""
        return self.about.name or self.jid

    @property
    def is_owned(self) -> bool:
        """Whether the occupant who reads for us is an owner of it."""
        there = self.occupants.get(self.nick)
        return there is not None and there.affiliation == "owner"

    def left(self) -> None:
        """We are not in the room any more: what we knew of who is there is old."""
        self.joined = False
        self.occupants = {}
        self.topic = None
        self._open = []
        self.replays_until = 0

    # What happens ----------------------------------------------------------------------------------------------

    def read_presence(self, presence: Presence, at: int) -> list[Fact]:
        """A presence addressed to the occupant who reads for us. Order: everybody, then ourselves (7.1)."""
        if not presence.nick:
            return []  # the room's own: what it can, and how it looks
        if presence.available and self.home and domain(presence.jid) == self.home:
            self.ours.setdefault(presence.nick, presence.jid)  # it may stand there since before a restart
        # XEP-0045, 10.9: who is put out because the room is destroyed need not be told that it is they.
        own = 110 in presence.codes or (presence.nick == self.nick and presence.available is not self.joined)
        if not own and presence.nick != self.nick and (whose := self._whose(presence.nick)):
            return self._about_ours(presence, whose, at)
        asked = presence.nick in self.coming or presence.nick in self.expected
        if not own and asked and presence.nick not in self.occupants:
            self._open.append(presence)  # ours, or a stranger who was quicker
            return []
        if 100 in presence.codes:
            self.nonanonymous = True  # 172 and 174 come in messages
        if presence.available:
            return self._there(presence, at, own=own)
        return self._gone(presence, at, own=own)

    def agreed(self, nick: str, at: int) -> list[Fact]:
        """The room has said whether `nick` is one of ours now: what it meanwhile told of it is read."""
        waited = [one for one in self._open if one.nick == nick]
        self._open = [one for one in self._open if one.nick != nick]
        if waited and not waited[-1].available:
            return []  # whoever it was has gone, or is one of ours under another nick
        return [fact for one in waited for fact in self.read_presence(one, at)]

    def _whose(self, nick: str) -> str:
        there = self.occupants.get(nick)
        return self.ours.get(nick, "") or (there.ours if there is not None else "")

    def _about_ours(self, presence: Presence, whose: str, at: int) -> list[Fact]:
        """One of our own comes and goes as we want it, save where somebody else has put them out."""
        if presence.available:
            self._there(presence, at, own=False)
            there = self.occupants[presence.nick]
            self.occupants[presence.nick] = msgspec.structs.replace(there, ours=whose)
            self.own.add(there.person)
            return []
        self._gone(presence, at, own=False)
        if self.ours.get(presence.nick) == whose:
            del self.ours[presence.nick]
        if 303 in presence.codes and presence.new_nick:
            self.ours[presence.new_nick] = whose
        change, reason = departure(presence)
        if change is Change.LEAVE:
            return []
        # 8.2, 9.1: the room need not say who did it; it was none of ours.
        actor = self._actor(presence.actor) or Person(id=PersonId(self.jid), name="a moderator")
        who = Person(id=PersonId(whose), name=presence.nick, account=whose)
        return [
            facts.Membership(chat=self.chat, at=at, person=who, change=change, actor=actor, reason=reason)
        ]

    def _there(self, presence: Presence, at: int, *, own: bool) -> list[Fact]:
        nick = presence.nick
        before = self.occupants.get(nick)
        person = (
            before.person
            if before is not None
            else self.identity(nick, occupant=presence.occupant, jid=presence.jid)
        )
        now = Occupant(
            nick=nick,
            person=person,
            affiliation=presence.affiliation,
            role=presence.role,
            jid=presence.jid,
            photo=presence.photo
            if presence.photo is not None
            else before.photo
            if before is not None
            else "",
        )
        self.occupants[nick] = now
        self._names[person] = nick
        if self.nonanonymous and presence.occupant and presence.jid and len(self._shown) < MOST_KNOWN:
            self._shown[presence.occupant] = person
        if len(self._names) > MOST_KNOWN:
            self._names = {one.person: one.nick for one in self.occupants.values()}
        if own:
            self.nick = nick
            if not self.joined:
                self.joined = True
                self.replays_until = at + REPLAY
                return [self._opened(at), self.roster(at)]
            return []
        if not self.joined:
            return []
        role = self._role(now)
        who = Person(id=person, name=nick)
        if before is None:
            came: list[Fact] = [facts.Membership(chat=self.chat, at=at, person=who, change=Change.JOIN)]
            return [*came, facts.RoleChange(chat=self.chat, at=at, person=who, role=role)] if role else came
        if role != self._role(before):
            return [facts.RoleChange(chat=self.chat, at=at, person=who, role=role)]
        return []

    def _gone(self, presence: Presence, at: int, *, own: bool) -> list[Fact]:
        nick = presence.nick
        occupant = self.occupants.pop(nick, None)
        if 303 in presence.codes and presence.new_nick and occupant is not None:
            # The new presence follows; the person is the same (7.6).
            renamed = msgspec.structs.replace(occupant, nick=presence.new_nick)
            self.occupants[presence.new_nick] = renamed
            self._names[occupant.person] = presence.new_nick
            if own:
                self.nick = presence.new_nick
                return []
            if occupant.ours or nick in self.ours:
                return []
            who = Person(id=occupant.person, name=presence.new_nick)
            return [facts.Profile(chat=self.chat, at=at, person=who, previous=nick)]
        if own:
            self.left()
            return [self._closed(presence, at)]
        if occupant is None or not self.joined:
            return []
        who = Person(id=occupant.person, name=nick)
        change, reason = departure(presence)
        actor = self._actor(presence.actor) if change is not Change.LEAVE else None
        return [
            facts.Membership(chat=self.chat, at=at, person=who, change=change, actor=actor, reason=reason)
        ]

    def _actor(self, nick: str) -> Person | None:
        if not nick:
            return None
        there = self.occupants.get(nick)
        return Person(id=there.person if there else PersonId(f"{self.jid}/{nick}"), name=nick)

    def _role(self, occupant: Occupant) -> Role:
        role = role_of(occupant.affiliation, occupant.role, moderated=self.moderated)
        return Role.NONE if role is Role.MUTED and self.hears_visitors else role

    def spoke(self, nick: str, at: int) -> list[Fact]:
        """Somebody says something now. Whether a visitor may, where the room is not moderated, is up to the server
        (XEP-0045, 5.1.1); one that lets them has muted nobody."""
        there = self.occupants.get(nick)
        if there is None or self._role(there) is not Role.MUTED:
            return []
        muted = [one for one in self.occupants.values() if self._role(one) is Role.MUTED]
        self.hears_visitors = True
        return [
            facts.RoleChange(
                chat=self.chat, at=at, person=Person(id=one.person, name=one.nick), role=Role.NONE
            )
            for one in muted
        ]

    def _opened(self, at: int) -> Fact:
        return facts.ChatOpened(chat=self.chat, at=at, name=self.name)

    def roster(self, at: int) -> Fact:
        """Everybody who is there, less our own."""
        members = tuple(
            Member(person=Person(id=one.person, name=one.nick), role=self._role(one))
            for one in self.occupants.values()
            if one.nick != self.nick and one.nick not in self.ours and not one.ours
        )
        return facts.Roster(chat=self.chat, at=at, members=members)

    def _closed(self, presence: Presence, at: int) -> Fact:
        why = f": {presence.reason}" if presence.reason else "."
        by = f" by {presence.actor}" if presence.actor else ""
        final = False
        if presence.destroyed:
            reason, final = f"The room {self.jid} was destroyed{why}", True
            if presence.venue:
                reason += f" It goes on in {presence.venue}."
        elif 301 in presence.codes:
            reason, final = f"The bridge was banned from {self.jid}{by}{why}", True
        elif 333 in presence.codes:
            reason = f"{self.jid} lost sight of the bridge for technical reasons{why}"
        elif 332 in presence.codes:
            reason = f"The server of {self.jid} shuts down{why}"
        elif presence.codes & {321, 322}:
            reason, final = f"{self.jid} is for members only now, and the bridge is none{why}", True
        elif 307 in presence.codes:
            reason = f"The bridge was kicked out of {self.jid}{by}{why}"
        else:
            reason = f"The bridge is not in {self.jid} any more{why}"
        return facts.ChatClosed(chat=self.chat, at=at, reason=reason[:500], final=final)
