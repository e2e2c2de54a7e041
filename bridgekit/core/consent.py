"""The consent desk of one network: asks the operators of a chat, hears their answers, and notices when they go.

It has no socket, clock or dice of its own: every call is given `now` (ms) and `dice`, and returns decisions for
the runtime to carry out in their order.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Member, Person
from bridgekit.core import wording
from bridgekit.core.answers import Answer, Word, answer_in, digest, same, word_in
from bridgekit.core.operators import ChatFile, Seat
from bridgekit.core.questions import (
    DAY,
    HOUR,
    WANTED,
    WITHDRAWN,
    Announce,
    Ask,
    Decision,
    Dice,
    Drop,
    Inform,
    Keep,
    Note,
    Rules,
    Say,
    Weigh,
)
from bridgekit.core.rates import Buckets
from bridgekit.core.scopes import Consent, Policy, Scope, in_force, without_person

LASTS = 60_000
"""Milliseconds after which a lost role is written down: a mode that flips writes nothing, and bridges are restarted."""


class Desk:
    """The consents of one network's chats."""

    def __init__(self, network: NetworkId, label: str, rules: Rules) -> None:
        self.network = network
        self.label = label
        self.rules = rules
        self._files: dict[ChatId, ChatFile] = {}
        self._questions: Buckets[ChatId] = Buckets(rules.questions)
        self._personal: Buckets[tuple[ChatId, PersonId]] = Buckets(rules.personal)
        self._tries: Buckets[PersonId] = Buckets(rules.tries)
        self._replies: Buckets[PersonId] = Buckets(rules.replies)

    # What there is -------------------------------------------------------------------------------------------

    def open(
        self,
        side: PortalKey,
        *,
        name: str,
        room: str,
        by: str,
        wanted: frozenset[Scope] = WANTED,
        consents: Iterable[Consent] = (),
        asks: Iterable[Ask] = (),
        members: Iterable[Member] | None = None,
    ) -> None:
        """There is a link, or somebody wants one: `by` (for people) asked for it, and `room` is what people call the
        room. With what the store knows of it, and who is in the chat, where that is known by now; nobody is asked
        before `want`, `hear` or `tick`."""
        file = self._files[side.chat] = ChatFile(
            side, name=name, room=room, by=by, operator=self.rules.operator
        )
        file.wanted = wanted
        file.consents = {c.id: c for c in consents}
        file.asks = {a.id: a for a in asks}
        file.lost = {c.id: c.lost for c in file.consents.values() if c.lost}
        if members is not None:
            file.roster(members)

    def called(self, side: PortalKey, room: str) -> None:
        """The link's room has this title from now on."""
        if (file := self._files.get(side.chat)) is not None:
            file.room = room

    def close(self, side: PortalKey) -> list[Decision]:
        """The link is gone, whoever saw to that: open questions are void. Its consents stay on record."""
        file = self._files.pop(side.chat, None)
        return [Drop(id) for id in file.asks] if file is not None else []

    def erase(self, network: NetworkId, person: PersonId, now: int) -> list[Decision]:
        """Somebody of the network, or of Matrix, is to be known no more. What they agreed to holds on as the word of
        one who is no operator any more: somebody else is asked in time."""
        out: list[Decision] = []
        for file in self._files.values():
            if network == self.network:
                out += file.void(person)
            elif file.by == person:
                file.by = wording.ERASED
            if network == MATRIX:
                out += file.unnamed(person)
            for consent in list(file.consents.values()):
                if (kept := without_person(consent, network, person)) != consent:
                    out.append(file.keep(kept))
            file.count_lost(now)
        return out

    def consents(self, side: PortalKey) -> tuple[Consent, ...]:
        """What was answered for the chat, for `exposure.LinkView`."""
        file = self._files.get(side.chat)
        return tuple(file.consents.values()) if file is not None else ()

    def scopes(self, side: PortalKey, now: int) -> frozenset[Scope]:
        """What holds for the chat now."""
        return in_force(self.rules.policy, self.consents(side), now)

    def speaks_for(self, side: PortalKey, person: Person) -> bool:
        """Whether who speaks now is an operator of the chat, and not somebody else under the same name."""
        file = self._files.get(side.chat)
        seat = file.seat_of(person.id) if file is not None else None
        return seat is not None and seat.is_same(person)

    # What happens --------------------------------------------------------------------------------------------

    def want(
        self, side: PortalKey, now: int, dice: Dice, scopes: frozenset[Scope] = WANTED
    ) -> list[Decision]:
        """Somebody on Matrix wants the link, with these scopes: ask for what is missing."""
        file = self._files[side.chat]
        file.wanted = scopes | {Scope.BRIDGE}
        file.told_nobody = False
        file.unanswered = 0
        file.count_lost(now)
        out: list[Decision] = [*file.wanted_anew(now)]
        out += self._weighed(file, now)
        if self.rules.policy is not Policy.REQUIRED:
            holds = sorted(in_force(self.rules.policy, file.consents.values(), now))
            out.append(Announce(side, wording.linked(file.name, file.room, file.by, holds)))
        out += self._seek(file, now, dice, loud=True)
        return out

    def hear(self, side: PortalKey, fact: Fact, now: int, dice: Dice) -> list[Decision]:
        """A fact of the network; `side` is the chat where it happened, which may be a private one."""
        if isinstance(fact, facts.Message):
            return self._message(side, fact, now, dice)
        file = self._files.get(side.chat)
        if file is None:
            return []
        out: list[Decision] = []
        match fact:
            case facts.Roster(members=members):
                out += file.roster(members)
            case facts.RoleChange(person=person, role=role):
                out += file.seat(person, role)
            case facts.Membership(person=person, change=Change.LEAVE | Change.KICK | Change.BAN):
                out += file.gone(person.id)
            case facts.Profile(person=person) if (seat := file.seat_of(person.id)) is not None:
                out += file.seat(person, seat.role)
            case _:
                return []
        file.count_lost(now)
        if file.wanted and not file.asks:
            out += self._seek(file, now, dice)
        return out

    def withdraw(self, side: PortalKey, by: PersonId, now: int, dice: Dice) -> list[Decision]:
        """Somebody on Matrix with the right to do it takes the link back; it closes at once, and no operator of the
        chat opens it again before somebody on Matrix wants it anew."""
        file = self._files.get(side.chat)
        if file is None:
            return []
        person = Person(id=by, name=by)
        no = self._no(file, person, WITHDRAWN, now, dice, by_matrix=True)
        return [*no, *self._revoke(side, by, now), Note("consent_revoked", side)]

    def _revoke(self, side: PortalKey, by: str, now: int) -> list[Decision]:
        """Whatever was agreed to holds no more; `by` is who takes it back, for people."""
        file = self._files.get(side.chat)
        if file is None:
            return []
        out: list[Decision] = [Drop(id) for id in file.asks]
        file.asks.clear()
        file.wanted = frozenset()  # nobody is asked again unless somebody wants the link anew
        counting = [c for c in file.consents.values() if c.counts(now)]
        out += [file.keep(msgspec.structs.replace(c, ended=now, ended_by=by)) for c in counting]
        words = wording.revoked(file.name, self.label, by)
        out += [Inform(side, words), Announce(side, words), *self._weighed(file, now)]
        return out

    def tick(self, now: int, dice: Dice) -> list[Decision]:
        """Time has passed; call it once a minute or so."""
        out: list[Decision] = []
        for file in list(self._files.values()):
            out += self._expire(file, now)
            out += self._lose(file, now)
            youngest = max((a.at for a in file.asks.values()), default=0)
            missing = bool(file.wanted - in_force(self.rules.policy, file.consents.values(), now))
            renewing = any(c.until and c.counts(now) for c in file.consents.values())
            if (missing or renewing) and now - youngest >= self.rules.patience:
                out += self._seek(file, now, dice)
            out += self._weighed(file, now)
        return out

    # Questions -----------------------------------------------------------------------------------------------

    def _missing(self, file: ChatFile, now: int) -> tuple[frozenset[Scope], str]:
        """The scopes to ask for, and the name of the operator whose answer is running out."""
        lasting = [c for c in file.consents.values() if not c.until]
        missing = file.wanted - in_force(self.rules.policy, lasting, now)
        for consent in file.consents.values():
            if consent.until and consent.counts(now):
                return missing | consent.scopes, consent.name
        return missing, ""

    def _seek(self, file: ChatFile, now: int, dice: Dice, *, loud: bool = False) -> list[Decision]:
        """Ask the operator who is most likely to answer, if something is missing and there were not many questions."""
        missing, again = self._missing(file, now)
        if file.withheld or not missing or (file.unanswered >= self.rules.unanswered and not loud):
            return []
        refused = file.refused(now, self.rules.refusal)
        if Scope.BRIDGE in refused or missing <= refused:
            days = self.rules.refusal // DAY
            return [Inform(file.side, wording.refused_before(file.name, self.label, days))] if loud else []
        missing -= refused
        free = file.free()
        if not free:
            if not file.asks and not file.told_nobody and (file.seen or loud):
                file.told_nobody = True
                return [Inform(file.side, wording.nobody_to_ask(file.name, self.label))]
            return []
        for seat in free:
            if self._personal.of((file.side.chat, seat.person.id), now).wait(now) == 0:
                out = self._ask(file, seat, missing, again, now, dice)
                if out and loud:
                    out.append(Inform(file.side, wording.asked(file.name, self.label)))
                return out
        return self._held_back(file, now)

    def _ask(
        self, file: ChatFile, seat: Seat, scopes: frozenset[Scope], again: str, now: int, dice: Dice
    ) -> list[Decision]:
        chat, person = file.side.chat, seat.person
        if not self._questions.take(chat, now):
            return self._held_back(file, now)
        self._personal.take((chat, person.id), now)
        file.overflow = 0
        throw = dice()
        words = wording.question(
            name=file.name,
            label=self.label,
            room=file.room,
            by=file.by,
            scopes=sorted(scopes),
            code=throw.code,
            days=max(1, self.rules.code // DAY),
            again=again,
        )
        ask = Ask(
            id=throw.id,
            side=file.side,
            person=person.id,
            name=person.name,
            account=seat.account,
            scopes=scopes,
            digest=digest(throw.code, person.id),
            wording=words.replace(throw.code, "…"),
            at=now,
            expires=now + self.rules.code,
        )
        file.asks[ask.id] = ask
        return [Keep(ask), Say(person, words), Note("consent_asked", file.side)]

    def _held_back(self, file: ChatFile, now: int) -> list[Decision]:
        """There were many questions: say so in the log once an hour."""
        if file.overflow and now - file.overflow < HOUR:
            return []
        file.overflow = now
        return [Note("consent_questions_held_back", file.side)]

    # Answers and commands --------------------------------------------------------------------------------------

    def _message(self, side: PortalKey, fact: facts.Message, now: int, dice: Dice) -> list[Decision]:
        if fact.replayed or fact.own is not None or fact.sender.bot:
            return []
        if fact.private and side.receiver is None and (answer := answer_in(fact.content)) is not None:
            return self._answered(fact.sender, answer, now)
        file = self._files.get(side.chat)
        word = word_in(fact.content) if file is not None and not fact.private else None
        if file is None or word not in (Word.GRANT, Word.REVOKE):
            return []
        seat = file.seat_of(fact.sender.id)
        if seat is None or not seat.is_same(fact.sender):
            return [
                *self._reply(fact.sender, wording.not_operator(file.name), now),
                Note("consent_not_operator", side),
            ]
        if word is Word.GRANT:
            return self._volunteered(file, seat, now, dice)
        if Scope.BRIDGE not in self.scopes(side, now) or self.rules.policy is Policy.OFF:
            return self._reply(fact.sender, wording.nothing_to_revoke(file.name), now)
        return [
            *self._no(file, seat.person, "!bridge revoke", now, dice),
            *self._revoke(side, fact.sender.name, now),
            Note("consent_revoked", side),
        ]

    def _volunteered(self, file: ChatFile, seat: Seat, now: int, dice: Dice) -> list[Decision]:
        """An operator asks to be asked; that overrides an earlier no, because it is the chat's own wish."""
        if file.withheld:
            return self._reply(seat.person, wording.withheld(file.name), now)
        missing, again = self._missing(file, now)
        scopes = missing or WANTED - in_force(self.rules.policy, file.consents.values(), now)
        if not scopes:
            return self._reply(seat.person, wording.NOTHING_TO_GRANT, now)
        out = file.void(seat.person.id)
        asked = self._ask(file, seat, scopes, again, now, dice)
        if not any(isinstance(d, Say) for d in asked):
            asked += self._reply(seat.person, wording.ask_later(file.name), now)
        return out + asked

    def _answered(self, sender: Person, answer: Answer, now: int) -> list[Decision]:
        if self._tries.of(sender.id, now).wait(now):
            return []  # told once, when the last try was used up
        found = self._find(answer.code, sender.id)
        if found is None:
            return self._wrong(sender, wording.NO_SUCH_CODE, "consent_code_unknown", now)
        file, ask = found
        seat = file.seat_of(sender.id)
        if seat is None or not seat.is_same(sender):
            void = file.void(sender.id) if file.seen else []
            return void + self._wrong(
                sender, wording.not_operator(file.name), "consent_not_operator", now, file.side
            )
        if seat.account != ask.account:
            return file.void(sender.id) + self._wrong(
                sender, wording.ANOTHER_ACCOUNT, "consent_account_differs", now, file.side
            )
        if now >= ask.expires:
            return self._wrong(sender, wording.NO_SUCH_CODE, "consent_code_expired", now, file.side)
        if not answer.clear:
            return self._reply(sender, wording.BAD_ANSWER, now)
        del file.asks[ask.id]
        out: list[Decision] = [Drop(ask.id)]
        if answer.scopes:  # what they left out they do not want, and are not asked for again
            file.wanted -= ask.scopes - answer.scopes
        scopes = ask.scopes if answer.scopes is None else answer.scopes
        consent = Consent(
            id=ask.id,
            side=file.side,
            scopes=scopes or ask.scopes,
            person=sender.id,
            name=sender.name,
            account=ask.account,
            at=now,
            wording=ask.wording,
            granted=bool(scopes),
        )
        out.append(file.keep(consent))
        if not consent.granted:
            out += self._refused(file, sender, consent.scopes, now)
            return out + self._weighed(file, now)
        out += file.void()
        for other in list(file.consents.values()):  # what was running out has its successor
            if other.id != consent.id and other.until and other.counts(now):
                ended = msgspec.structs.replace(other, ended=now, ended_by="renewed")
                out.append(file.keep(ended))
        holds = sorted(scopes)
        out += [
            Say(sender, wording.thanks(file.name, holds)),
            Inform(file.side, wording.agreed(file.name, self.label, sender.name, holds)),
            Announce(file.side, wording.linked(file.name, file.room, file.by, holds)),
            Note("consent_granted", file.side),
        ]
        return out + self._weighed(file, now)

    def _no(
        self, file: ChatFile, person: Person, words: str, now: int, dice: Dice, *, by_matrix: bool = False
    ) -> list[Decision]:
        """Keep somebody's no, so that the same question does not come back at once."""
        consent = Consent(
            id=dice().id,
            side=file.side,
            scopes=frozenset({Scope.BRIDGE}),
            person=person.id,
            name=person.name,
            account=person.account or "",
            at=now,
            wording=words,
            granted=False,
            by_matrix=by_matrix,
        )
        return [file.keep(consent)]

    def _refused(self, file: ChatFile, sender: Person, scopes: frozenset[Scope], now: int) -> list[Decision]:
        """An operator does not agree to these scopes; what was running out, and would have needed that, ends."""
        days = self.rules.refusal // DAY
        out: list[Decision] = [*file.void()]
        over = [c for c in file.consents.values() if c.until and c.counts(now) and c.scopes & scopes]
        out += [file.keep(msgspec.structs.replace(c, ended=now, ended_by=sender.name)) for c in over]
        out.append(Note("consent_refused", file.side))
        if Scope.BRIDGE in in_force(self.rules.policy, file.consents.values(), now):
            refused = sorted(scopes)
            words = wording.refused_more(file.name, self.label, sender.name, refused)
            return [
                *out,
                Say(sender, wording.refused_more_noted(file.name, refused, days)),
                Inform(file.side, words),
            ]
        out.append(Say(sender, wording.refused_noted(file.name, days)))
        if any(Scope.BRIDGE in c.scopes for c in over):
            words = wording.not_renewed(file.name, self.label, sender.name)
            return [*out, Inform(file.side, words), Announce(file.side, words)]
        return [*out, Inform(file.side, wording.refused(file.name, self.label, sender.name))]

    def _find(self, code: str, person: PersonId) -> tuple[ChatFile, Ask] | None:
        """The question with this code that went to this person."""
        wanted = digest(code, person)
        found = None
        for file in self._files.values():
            for ask in file.asks.values():
                if same(ask.digest, wanted) and ask.person == person:
                    found = file, ask
        return found

    def _wrong(
        self, sender: Person, words: str, event: str, now: int, side: PortalKey | None = None
    ) -> list[Decision]:
        tries = self._tries.of(sender.id, now)
        tries.take(now)
        last = tries.wait(now) > 0
        if last:
            return [Say(sender, wording.TOO_MANY_CODES), Note("consent_codes_guessed", side)]
        return [*self._reply(sender, words, now), Note(event, side)]

    def _reply(self, person: Person, words: str, now: int) -> list[Decision]:
        """Tell somebody, unless they make the bridge say the same again and again."""
        return [Say(person, words)] if self._replies.take(person.id, now) else []

    # Operators come and go -------------------------------------------------------------------------------------

    def _lose(self, file: ChatFile, now: int) -> list[Decision]:
        out: list[Decision] = []
        for consent in list(file.consents.values()):
            if not consent.counts(now):
                continue
            since = file.lost.get(consent.id, 0)
            if not since:
                if consent.lost or consent.until:
                    out.append(file.keep(msgspec.structs.replace(consent, lost=0, until=0)))
                continue
            if not consent.until and now - since >= self.rules.grace:
                days = max(1, self.rules.renewal // DAY)
                words = wording.role_lost(file.name, self.label, consent.name, days)
                until = now + self.rules.renewal
                out.append(file.keep(msgspec.structs.replace(consent, lost=since, until=until)))
                out += [Inform(file.side, words), Announce(file.side, words)]
                out.append(Note("consent_runs_out", file.side))
                file.told_nobody = True  # said just now, in other words
                file.unanswered = 0
            elif not consent.lost and now - since >= LASTS:
                out.append(file.keep(msgspec.structs.replace(consent, lost=since)))
        return out

    def _expire(self, file: ChatFile, now: int) -> list[Decision]:
        out: list[Decision] = []
        for ask in list(file.asks.values()):
            if now >= ask.expires:
                del file.asks[ask.id]
                file.unanswered += 1
                out.append(Drop(ask.id))
        for consent in list(file.consents.values()):
            if consent.granted and not consent.ended and consent.until and now >= consent.until:
                ended = msgspec.structs.replace(consent, ended=consent.until, ended_by="no operator")
                words = wording.expired(file.name, self.label)
                out += [file.keep(ended), Inform(file.side, words), Announce(file.side, words)]
                out.append(Note("consent_expired", file.side))
        return out

    def _weighed(self, file: ChatFile, now: int) -> list[Decision]:
        scopes = in_force(self.rules.policy, file.consents.values(), now)
        if scopes == file.shown:
            return []
        file.shown = scopes
        return [Weigh(file.side, scopes)]
