"""A session is kept alive with patience, and given up where its login is no use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridgekit.contract import facts, verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, OwnAccounts
from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, SendRejected
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId
from bridgekit.contract.people import Content, Login, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Sent, Verb
from bridgekit.runtime.networks import sessions
from bridgekit.runtime.networks.sessions import FIRST_WAIT, LONGEST_STAY, LONGEST_WAIT, State, Supervised

POST = verbs.PostMessage(chat=ChatId("#a"), content=Content(text=plain("hello")))
LOGIN = Login(id=LoginId("login-1"), owner=PersonId("@ann:example.org"))
LOST = Disconnected("The line is dead.")


class Dice(random.Random):
    """Always falls on `share` of the way up."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self._share


class Call:
    """One connection: ends when the test says how."""

    def __init__(self) -> None:
        self.me = Person(id=PersonId("bot"), name="bot")
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False
        self.performed: list[Verb] = []
        self.answer: Exception | Sent = Sent()

    def capabilities(self, chat: ChatId) -> Capabilities:
        return Capabilities(verbs=frozenset({verbs.PostMessage}))

    async def run(self, emit: Emit) -> None:
        emit(facts.Resync(chat=ChatId("#a"), at=1, reason="new"))
        await self.over

    async def perform(self, verb: Verb) -> Sent | None:
        self.performed.append(verb)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Line:
    """A network: each connection is a Call, unless `refuse` says why there is none."""

    own_accounts = OwnAccounts.ON_REQUEST
    asks_first = False
    retells = False

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.tries = 0
        self.refuse: Callable[[], Exception | None] = lambda: None

    @asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[Call]:
        self.tries += 1
        if (error := self.refuse()) is not None:
            raise error
        call = Call()
        self.calls.append(call)
        try:
            yield call
        finally:
            call.closed = True

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        return None

    def chat_name(self, chat: ChatId) -> str:
        return chat

    def whereabouts(self, chat: ChatId) -> str:
        return ""

    def direct(self, person: PersonId) -> ChatId | None:
        return None

    def is_service(self, person: PersonId) -> bool:
        return False


class Watch:
    """A supervised session, what became of it, and how long it wanted to wait each time."""

    def __init__(self, *, login: Login | None = None, share: float = 1.0) -> None:
        self.line = Line()
        self.states: list[tuple[State, str]] = []
        self.pauses: list[float] = []
        self.heard: list[facts.Fact] = []
        self.most_pauses = 3
        self.supervised = Supervised(
            NetworkId("example"),
            self.line,
            login,
            self.heard.append,
            lambda s: self.states.append((s.state, s.reason)),
            dice=Dice(share),
            sleep=self._sleep,
        )
        self.task: asyncio.Task[None] | None = None

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) >= self.most_pauses:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - whatever a test waits for
                await asyncio.sleep(0)

    async def ready(self, count: int = 1) -> Call:
        await self.until(lambda: len(self.line.calls) >= count and self.supervised.session is not None)
        return self.line.calls[-1]


@pytest.fixture
async def watching() -> AsyncIterator[Callable[..., Watch]]:
    watches: list[Watch] = []

    def start(**settings: Any) -> Watch:
        watch = Watch(**settings)
        watches.append(watch)
        watch.task = asyncio.create_task(watch.supervised.run())
        return watch

    yield start
    for watch in watches:
        assert watch.task is not None
        watch.task.cancel()
        with suppress(asyncio.CancelledError):
            await watch.task
        assert all(call.closed for call in watch.line.calls)


Start = Callable[..., Watch]


async def test_a_session_is_ready_and_its_facts_are_heard(watching: Start):
    watch = watching()
    await watch.ready()
    await watch.until(lambda: watch.heard)
    assert watch.states == [(State.READY, "")]
    assert watch.heard == [facts.Resync(chat=ChatId("#a"), at=1, reason="new")]


async def test_each_failure_doubles_the_wait_up_to_a_limit(watching: Start):
    watch = watching()
    watch.most_pauses = 12
    watch.line.refuse = lambda: LOST
    await watch.until(lambda: len(watch.pauses) == 12)
    assert watch.pauses[:4] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert watch.pauses[-1] == LONGEST_WAIT
    assert watch.states[-1] == (State.WAITING, "The line is dead.")
    assert watch.supervised.reconnects == 12


async def test_jitter_takes_off_up_to_half_of_the_wait(watching: Start):
    """So that a thousand sessions that were lost together do not come back together."""
    watch = watching(share=0.0)
    watch.line.refuse = lambda: LOST
    await watch.until(lambda: len(watch.pauses) == 3)
    assert watch.pauses == [0.5 * FIRST_WAIT, FIRST_WAIT, 2 * FIRST_WAIT]


async def test_the_network_may_ask_for_a_longer_wait(watching: Start):
    watch = watching()
    watch.line.refuse = lambda: Disconnected("Too many connections.", retry_after=600)
    await watch.until(lambda: watch.pauses)
    assert watch.pauses[0] == 600


async def test_a_session_that_lasted_starts_its_backoff_anew(
    watching: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sessions, "STEADY", -1.0)
    watch = watching()
    watch.most_pauses = 10
    for count in (1, 2, 3):
        (await watch.ready(count)).over.set_exception(LOST)
    await watch.until(lambda: len(watch.pauses) == 3)
    assert watch.pauses == [FIRST_WAIT] * 3


async def test_a_slow_failure_to_connect_is_no_lasting_session(
    watching: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sessions, "STEADY", -1.0)
    watch = watching()
    watch.line.refuse = lambda: LOST
    await watch.until(lambda: len(watch.pauses) == 3)
    assert watch.pauses == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]


async def test_a_lost_session_is_closed_before_the_next_one_opens(watching: Start):
    watch = watching()
    first = await watch.ready()
    first.over.set_exception(LOST)
    second = await watch.ready(2)
    assert (first.closed, second.closed) == (True, False)
    assert [state for state, _ in watch.states] == [
        State.READY,
        State.WAITING,
        State.CONNECTING,
        State.READY,
    ]


async def test_a_reader_that_simply_ends_is_a_lost_session(watching: Start):
    watch = watching()
    (await watch.ready()).over.set_result(None)
    await watch.ready(2)
    assert (State.WAITING, "The session ended.") in watch.states


async def test_a_fault_of_the_connector_is_logged_and_tried_again(watching: Start):
    watch = watching()
    (await watch.ready()).over.set_exception(ZeroDivisionError())
    await watch.ready(2)
    assert (State.WAITING, "The connector has a fault; the log says more.") in watch.states


@pytest.mark.parametrize("where", ["connecting", "reading"])
async def test_a_rejected_login_is_not_tried_again(watching: Start, where: str):
    watch = watching(login=LOGIN)
    rejected = LoginRejected("The password is wrong: log in again.")
    if where == "connecting":
        watch.line.refuse = lambda: rejected
    else:
        (await watch.ready()).over.set_exception(rejected)
    assert watch.task is not None
    await watch.task
    assert watch.line.tries == 1
    assert watch.states[-1] == (State.REJECTED, "The password is wrong: log in again.")
    with pytest.raises(LoginRejected, match="The password is wrong"):
        await watch.supervised.perform(POST)


@pytest.mark.parametrize("login", [None, LOGIN], ids=["relay", "own"])
async def test_why_an_account_was_rejected_stands_in_the_log_once(watching: Start, login: Login | None):
    """Nobody owns the relay: without this line the admin would hear of it from nowhere."""
    with capture_logs() as logs:
        watch = watching(login=login)
        watch.line.refuse = lambda: LoginRejected("The network has banned this connection.")
        assert watch.task is not None
        await watch.task
    (entry,) = [entry for entry in logs if entry["event"] == "session_rejected"]
    assert entry["log_level"] == "error"
    assert entry["network"] == "example"
    assert entry["own"] is (login is not None)
    assert entry["reason"] == "The network has banned this connection."


BANNED = LoginBanned("You are banned: spam", retry_after=3600.0)


async def test_a_ban_is_asked_about_ever_more_seldom(watching: Start):
    watch = watching(share=0.0)
    watch.most_pauses = 2000  # three years and more
    watch.line.refuse = lambda: BANNED
    await watch.until(lambda: len(watch.pauses) == 2000)
    assert watch.pauses[:6] == [3600.0 * 2**n for n in range(5)] + [LONGEST_STAY]
    assert watch.pauses[-1] == LONGEST_STAY


async def test_of_a_ban_everybody_hears_once_and_nobody_waits(watching: Start):
    watch = watching()
    watch.line.refuse = lambda: BANNED
    await watch.until(lambda: len(watch.pauses) == 3)
    assert watch.states == [(State.REJECTED, "You are banned: spam")]
    with pytest.raises(LoginRejected, match="spam"):
        await watch.supervised.perform(POST)
    assert watch.supervised.banned
    assert not watch.supervised.is_final


@pytest.mark.parametrize("where", ["connecting", "reading"])
async def test_who_was_banned_is_back_when_the_ban_is_over(watching: Start, where: str):
    watch = watching()
    if where == "connecting":
        tries = iter([BANNED, BANNED])
        watch.line.refuse = lambda: next(tries, None)
        await watch.ready()
    else:
        (await watch.ready()).over.set_exception(BANNED)
        await watch.ready(2)
    assert not watch.supervised.banned
    assert watch.states[-2:] == [(State.REJECTED, "You are banned: spam"), (State.READY, "")]
    assert watch.supervised.reconnects == 0


async def test_who_is_let_in_and_banned_at_once_is_no_guest_again(watching: Start):
    """A network that bans behind the welcome (a DNSBL, an operator's script) is not asked every hour for ever."""
    watch = watching(share=0.0)
    (await watch.ready()).over.set_exception(BANNED)
    (await watch.ready(2)).over.set_exception(BANNED)
    await watch.until(lambda: len(watch.pauses) == 2)
    assert watch.pauses == [3600.0, 7200.0]


async def test_a_verb_that_is_withdrawn_costs_no_connection(watching: Start):
    """`Session.perform` raises Disconnected where it is cancelled before anything left: the line is well."""
    watch = watching()
    call = await watch.ready()

    async def withdrawn(verb: Verb) -> Sent | None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Disconnected("It was withdrawn before it was sent.") from None
        return None

    call.perform = withdrawn  # type: ignore[method-assign]
    saying = asyncio.create_task(watch.supervised.perform(POST))
    await asyncio.sleep(0)
    saying.cancel()
    with pytest.raises(Disconnected):
        await saying
    assert watch.supervised.session is call
    assert watch.line.tries == 1


async def test_who_wants_to_speak_waits_for_the_session(watching: Start):
    watch = watching()
    waiting = asyncio.create_task(watch.supervised.perform(POST))
    assert await waiting == Sent()
    assert watch.line.calls[0].performed == [POST]


async def test_who_waits_hears_of_a_rejection(watching: Start):
    watch = watching(login=LOGIN)
    tries = iter([LOST, LOST, LoginRejected("You are banned.")])
    watch.line.refuse = lambda: next(tries)
    with pytest.raises(LoginRejected, match="You are banned"):
        await watch.supervised.ready()


async def test_a_verb_that_finds_the_connection_dead_starts_the_next_one(watching: Start):
    watch = watching()
    first = await watch.ready()
    first.answer = LOST
    with pytest.raises(Disconnected):
        await watch.supervised.perform(POST)
    assert await watch.supervised.perform(POST) == Sent()
    assert first.closed
    assert [len(call.performed) for call in watch.line.calls] == [1, 1]


async def test_a_late_failure_on_the_old_connection_leaves_the_new_one_alone(watching: Start):
    watch = watching()
    first = await watch.ready()
    gate = asyncio.Event()

    async def late(verb: Verb) -> Sent | None:
        await gate.wait()
        raise LOST

    first.perform = late  # type: ignore[method-assign]
    late_one = asyncio.create_task(watch.supervised.perform(POST))
    await asyncio.sleep(0)
    first.over.set_exception(LOST)
    second = await watch.ready(2)
    gate.set()
    with pytest.raises(Disconnected):
        await late_one
    await asyncio.sleep(0.01)
    assert not second.closed
    assert watch.supervised.session is second


async def test_what_is_refused_does_not_end_the_session(watching: Start):
    watch = watching()
    first = await watch.ready()
    first.answer = SendRejected("You are banned from #a.")
    with pytest.raises(SendRejected):
        await watch.supervised.perform(POST)
    assert watch.supervised.session is first
    assert watch.pauses == []


async def test_a_stop_wakes_everybody_who_waits(watching: Start):
    watch = watching(login=LOGIN)
    watch.line.refuse = lambda: LOST
    await watch.until(lambda: len(watch.pauses) == 3)
    waiting: list[Awaitable[object]] = [
        asyncio.create_task(watch.supervised.perform(POST)),
        asyncio.create_task(watch.supervised.ready()),
    ]
    await asyncio.sleep(0)
    watch.supervised.stop()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in found] == [LoginRejected, LoginRejected]
    assert watch.supervised.state is State.STOPPED


async def test_which_chats_were_entered_is_forgotten_with_the_session(watching: Start):
    watch = watching(login=LOGIN)
    first = await watch.ready()
    watch.supervised.joined.add(ChatId("#a"))
    first.over.set_exception(LOST)
    await watch.ready(2)
    assert watch.supervised.joined == set()


async def test_what_was_meant_for_a_lost_connection_is_not_said_on_the_next_one(watching: Start):
    watch = watching()
    first = await watch.ready()
    first.over.set_exception(LOST)
    second = await watch.ready(2)
    with pytest.raises(Disconnected):
        await watch.supervised.perform(POST, first)
    assert (first.performed, second.performed) == ([], [])
    assert watch.supervised.session is second


async def test_many_who_speak_in_a_chat_enter_it_once(watching: Start):
    watch = watching(login=LOGIN)
    session = await watch.ready()
    await asyncio.gather(*(watch.supervised.enter(ChatId("#a"), session) for _ in range(5)))
    assert session.performed == [verbs.Join(chat=ChatId("#a"))]


@pytest.mark.parametrize(("login", "knocks"), [(None, 1), (LOGIN, 2)])
async def test_a_relay_that_is_not_let_in_does_not_knock_for_every_message(
    watching: Start, login: Login | None, knocks: int
):
    watch = watching(login=login)
    session = await watch.ready()
    session.answer = SendRejected("You are banned from #a.")
    for _ in range(2):
        with suppress(SendRejected):
            await watch.supervised.enter(ChatId("#a"), session)
    assert len(session.performed) == knocks
