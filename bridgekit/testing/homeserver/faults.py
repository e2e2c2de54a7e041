"""What can go wrong on purpose: rules that match calls and say what each suffers (pure, seeded)."""

import fnmatch
import random
import re
from typing import assert_never

import msgspec


class Delay(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer comes later: `seconds`, or a random time from `seconds` up to `up_to`.

    The wait lies before the effect, or after it where `after_effect` is set.
    """

    seconds: float
    up_to: float | None = None
    after_effect: bool = False


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """429 M_LIMIT_EXCEEDED without effect: `retry_after_ms` in the body, Retry-After in the header."""

    retry_after_ms: int = 1000
    header: bool = True
    body: bool = True


class Fail(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An answer with `status`; with `after_effect` the call took effect all the same (a proxy's 504)."""

    status: int = 502
    errcode: str = "M_UNKNOWN"
    after_effect: bool = False


class Drop(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The connection is lost; with `after_effect` the call took effect and only its answer is lost.

    aiohttp's client repeats an idempotent call (so every PUT) once by itself, at once and without a word: there
    it takes two strikes in a row (`times=2`) for the caller to feel one.
    """

    after_effect: bool = False


class Repeat(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """For transactions only: after its 200 the same transaction is delivered `times` more."""

    times: int = 1


Fault = Delay | RateLimit | Fail | Drop | Repeat


class Rule(msgspec.Struct, kw_only=True):
    """One fault and the calls that it befalls.

    `pattern` is a glob over "METHOD path", the path percent-decoded and without its query:
    `"PUT */send/*"`, `"*"`, `"PUT /_matrix/app/v1/transactions/*"` (what the homeserver sends).
    Of the matching calls the first `skip` are spared; each later one suffers with probability `p`, until
    `times` have. `user` narrows it to calls that act as that user.
    """

    pattern: str
    fault: Fault
    p: float = 1.0
    times: int | None = None
    skip: int = 0
    user: str | None = None
    id: int = 0
    seen: int = 0
    hits: int = 0


class Suffering(msgspec.Struct, frozen=True, kw_only=True):
    """What one call suffers: waits in seconds, and at most one way of ending badly."""

    before: float = 0.0
    after: float = 0.0
    end: RateLimit | Fail | Drop | None = None
    repeat: int = 0


class Faults:
    """The rules in force. Every rule rolls dice of its own, so one rule never changes what another does."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._made = 0
        self.rules: list[Rule] = []
        self._compiled: dict[int, tuple[re.Pattern[str], random.Random]] = {}

    def add(
        self,
        pattern: str,
        fault: Fault,
        *,
        p: float = 1.0,
        times: int | None = None,
        skip: int = 0,
        user: str | None = None,
    ) -> Rule:
        """Put a rule in force and return it; its `hits` say how often it struck."""
        self._made += 1
        rule = Rule(pattern=pattern, fault=fault, p=p, times=times, skip=skip, user=user, id=self._made)
        dice = random.Random(f"{self._seed}:{self._made}")
        self._compiled[rule.id] = (re.compile(fnmatch.translate(pattern)), dice)
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule | int) -> None:
        """Take a rule back; one that is gone already is no error."""
        wanted = rule if isinstance(rule, int) else rule.id
        self.rules = [kept for kept in self.rules if kept.id != wanted]
        self._compiled.pop(wanted, None)

    def clear(self) -> None:
        """Take all rules back."""
        self.rules = []
        self._compiled.clear()

    def draw(self, method: str, path: str, user: str | None = None) -> Suffering | None:
        """Roll for one call; return None where nothing befalls it.

        Waits of several rules add up; of several bad ends the first rule's wins.
        """
        call = f"{method} {path}"
        before = after = 0.0
        end: RateLimit | Fail | Drop | None = None
        repeat = struck = 0
        for rule in self.rules:
            regex, dice = self._compiled[rule.id]
            if not regex.match(call) or (rule.user is not None and rule.user != user):
                continue
            rule.seen += 1
            if rule.seen <= rule.skip or (rule.times is not None and rule.hits >= rule.times):
                continue
            if rule.p < 1.0 and dice.random() >= rule.p:
                continue
            rule.hits += 1
            struck += 1
            match rule.fault:
                case Delay(seconds=seconds, up_to=up_to, after_effect=late):
                    wait = seconds if up_to is None else dice.uniform(seconds, up_to)
                    if late:
                        after += wait
                    else:
                        before += wait
                case RateLimit() | Fail() | Drop() as bad:
                    end = end or bad
                case Repeat(times=times):
                    repeat += times
                case other:
                    assert_never(other)
        return Suffering(before=before, after=after, end=end, repeat=repeat) if struck else None
