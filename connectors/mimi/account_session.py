"""The session of one Matrix user's own account: direct rooms, and their own seat in shared ones."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from bridgekit.contract import verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit
from bridgekit.contract.errors import Disconnected, SendRejected
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Person
from bridgekit.contract.verbs import Sent, Verb, VerbBase
from connectors.mimi import uris
from connectors.mimi.service.searching import Findable
from connectors.mimi.session import MimiSession, capabilities

T = TypeVar("T")

_DIRECT: frozenset[type[VerbBase]] = frozenset(
    {
        verbs.PostMessage,
        verbs.EditMessage,
        verbs.React,
        verbs.Unreact,
        verbs.Retract,
        verbs.MarkRead,
        verbs.Join,  # to ask somebody, or a yes to who asked
        verbs.Leave,  # a no
    }
)


class AccountSession:
    """`contract.Session` of somebody who is hosted by `provider`, for as long as that is up."""

    def __init__(self, provider: MimiSession, owner: PersonId, findable: Findable) -> None:
        self._provider = provider
        self._findable = findable
        self._owner = Person(id=owner, name="")
        self._user = provider.tenants.user(self._owner)
        self._account = provider.tenants.account(self._user)
        self.me = Person(id=PersonId(self._user), name=uris.parse(self._user).name)

    def capabilities(self, chat: ChatId) -> Capabilities:
        """In a direct room what is said there; in a shared one what the provider's own session can."""
        if uris.is_user(chat):
            return capabilities(_DIRECT, speakers=False)
        return self._provider.capabilities(chat)

    async def run(self, emit: Emit) -> None:
        """Be reachable under one's own name until cancelled. Raises Disconnected where the provider ends."""
        await self._provider.tenants.parting.returned(self._user)
        await self._while_up(self._account.run(emit, self._findable))

    def is_invited(self, chat: ChatId) -> bool:
        """Whether they were asked into a shared room and it is theirs to say whether anybody here reads it."""
        return not uris.is_user(chat) and self._account.is_invited(chat)

    async def _while_up(self, deed: Coroutine[Any, Any, T]) -> T:
        """What it gives; Disconnected where the provider ends before that."""
        done = asyncio.create_task(deed, name="mimi account")
        ended = asyncio.create_task(self._provider.closed.wait(), name="mimi provider")
        try:
            await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return await done
        finally:
            for task in (done, ended):
                task.cancel()
            await asyncio.gather(done, ended, return_exceptions=True)
        raise Disconnected("The provider was stopped.")

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb. What is said in a direct room waits until the other has agreed to it."""
        if not uris.is_user(verb.chat):
            return await self._in_shared(verb)
        match verb:
            case verbs.Join():
                await self._account.begin(verb.chat)
            case verbs.Leave():
                await self._account.end(verb.chat)
            case (
                verbs.PostMessage() | verbs.EditMessage() | verbs.React() | verbs.Unreact() | verbs.Retract()
            ):
                room = await self._while_up(self._account.together(verb.chat))
                said = self._provider.speaking.say(verb, room=room, user=self._user)
                return await self._provider.deeds.done(said, f"mimi {type(verb).__name__}")
            case verbs.MarkRead():
                room = await self._while_up(self._account.together(verb.chat))
                await self._provider.speaking.has_read(verb, room=room, user=self._user)
            case _:
                raise SendRejected("Nobody can do that in a direct conversation on this network.")
        return None

    async def _in_shared(self, verb: Verb) -> Sent | None:
        tenants = self._provider.tenants
        match verb:
            case verbs.Join() if self.is_invited(verb.chat):
                await self._while_up(self._account.agree_to(verb.chat))
            case verbs.Leave() if self.is_invited(verb.chat):
                await self._while_up(self._account.decline(verb.chat))
            case verbs.Join():
                await self._provider.deeds.done(
                    tenants.membership.sit_down(verb.chat, self._user), "mimi Join"
                )
            case verbs.Leave():
                await self._provider.deeds.done(
                    tenants.membership.stand_up(verb.chat, self._user), "mimi Leave"
                )
            case _:
                return await self._provider.perform(msgspec.structs.replace(verb, speaker=self._owner))
        return None
