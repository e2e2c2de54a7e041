"""Questions about many people at once, where the homeserver may fail over one of them.

Another appservice, or the homeserver's own storage, may answer for somebody with an error every time (Synapse passes on
a 500): that somebody is left out, and everybody else is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from bridgekit.contract.errors import HomeserverUnavailable
from bridgekit.contract.ids import PersonId

log = structlog.get_logger(__name__)

T = TypeVar("T")
TRIES = 3
"""So often all are asked for together, before one by one."""
SILENT = 3
"""When nobody of so many was answered, it is about nobody, and no more are asked for."""


async def ask_for(
    users: Sequence[PersonId], ask: Callable[[Sequence[PersonId], int], Awaitable[T]]
) -> tuple[list[tuple[Sequence[PersonId], T]], list[PersonId]]:
    """The answers with whom they are about, and those for whom there is none now.

    `ask` takes people and how often it may fail, and raises HomeserverUnavailable then. Raises its other errors.
    """
    if not users:
        return [], []
    try:
        return [(users, await ask(users, TRIES))], []
    except HomeserverUnavailable:
        pass
    answers: list[tuple[Sequence[PersonId], T]] = []
    silent: list[PersonId] = list(users) if len(users) == 1 else []
    for n, user in enumerate(users if len(users) > 1 else ()):
        if n >= SILENT and not answers:
            silent += users[n:]
            break
        try:
            answers.append(([user], await ask([user], 1)))
        except HomeserverUnavailable:
            silent.append(user)
    log.warning("keys_not_told", people=len(silent), of=len(users))
    return answers, silent
