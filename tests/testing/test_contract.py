"""The contract suite passes a connector that keeps its promises, and fails each one that breaks one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel

from bridgekit.contract.connector import Connector, LoginField, Manifest
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import File, Login
from bridgekit.testing.contract import Bench, ConnectorContract, bench, opened
from bridgekit.testing.contract.samples import HOSTILE, is_sentence
from bridgekit.testing.host import FakeHost
from tests.testing.plaza import Fault, Plaza, PlazaConfig, PlazaConnector, PlazaNetwork


class TestAnHonestConnector(ConnectorContract):
    @pytest.fixture
    def peer(self) -> Plaza:
        return Plaza()

    @pytest.fixture
    def connector(self, peer: Plaza) -> Connector:
        return PlazaConnector(peer)

    @pytest.fixture
    def config(self) -> PlazaConfig:
        return PlazaConfig()

    @pytest.fixture
    def login(self) -> Login:
        return Login(id=LoginId("ann"), owner=PersonId("@ann:example.org"))


SUITE = ConnectorContract()
Check = Callable[[Bench], Awaitable[None]]


def _injects(bench: Bench) -> Awaitable[None]:
    return SUITE.test_hostile_words_inject_nothing(bench, "line ends")


def _hostile(bench: Bench) -> Awaitable[None]:
    return SUITE.test_hostile_words_anywhere_else_inject_nothing(bench, "nul")


BROKEN: list[tuple[Fault, Check]] = [
    (Fault.SAYS_TWICE, SUITE.test_a_message_reaches_the_other_side_once),
    (Fault.SAYS_TWICE, SUITE.test_a_message_to_a_person_alone_reaches_them),
    (Fault.NAMES_ONE_LINE, SUITE.test_each_line_of_a_relayed_message_names_the_speaker),
    (Fault.NAMES_ONE_LINE, _injects),
    (Fault.INJECTS, _injects),
    (Fault.LOSES_ORDER, SUITE.test_pipelined_messages_keep_the_order_of_the_calls),
    (Fault.SAYS_NOTHING, SUITE.test_a_message_reaches_the_other_side_once),
    (Fault.SAYS_NOTHING, SUITE.test_every_verb_under_way_has_a_fate_when_the_connection_is_lost),
    (Fault.BREAKS_ON_VERBS, SUITE.test_every_verb_is_performed_or_refused_with_a_sentence),
    (Fault.BREAKS_ON_VERBS, _hostile),
    (Fault.MUMBLES, SUITE.test_nothing_can_be_said_in_a_chat_that_is_not_there),
    (Fault.NEVER_ENDS, SUITE.test_a_lost_connection_ends_the_reader_with_disconnected),
    (Fault.PUBLISHES, SUITE.test_what_is_said_to_the_account_alone_is_private),
    (Fault.REPEATS_IDS, SUITE.test_the_same_words_twice_are_two_messages),
    (Fault.HEARS_ITSELF, SUITE.test_what_the_session_itself_said_is_not_heard_as_somebody_elses),
    (Fault.TELLS_NONSENSE, SUITE.test_what_is_said_in_a_shared_chat_is_a_shared_message),
    (Fault.DENIES, SUITE.test_a_verb_may_be_cancelled_at_any_moment),
]


@pytest.mark.parametrize(
    ("fault", "check"), BROKEN, ids=[f"{f.name.lower()}-{c.__name__}" for f, c in BROKEN]
)
async def test_a_broken_promise_is_found(fault: Fault, check: Check, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "PATIENCE", 0.2)
    with pytest.raises((AssertionError, TimeoutError, KeyError)):
        await _checked(Plaza(fault), check)


async def _checked(plaza: Plaza, check: Check) -> None:
    async with opened(PlazaNetwork(plaza), plaza) as session:
        await session.enter(session.shared)
        await check(session)


async def test_a_task_that_is_left_behind_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "PATIENCE", 0.2)
    network = PlazaNetwork(plaza := Plaza(Fault.LEAKS))
    with pytest.raises((AssertionError, TimeoutError)):
        await SUITE.test_a_session_that_was_never_read_closes_as_well(network)
    assert plaza.sessions == []
    for task in network._leaks:
        task.cancel()
    await asyncio.gather(*network._leaks, return_exceptions=True)


async def test_a_bare_code_for_a_reason_is_found():
    plaza = Plaza(Fault.MUMBLES)
    with pytest.raises(AssertionError):
        await SUITE.test_who_is_not_let_in_is_told_why(PlazaNetwork(plaza), plaza)


class Loose(BaseModel):
    """It takes whatever it is given, and explains nothing."""

    password: str = ""


class LooseConnector(PlazaConnector):
    manifest = Manifest(
        id="Loose",
        name="",
        config=Loose,
        api_version=99,
        login_fields=(LoginField(name="password", title=""),),
    )


def test_a_sloppy_manifest_is_found():
    sloppy: Connector = LooseConnector(Plaza())
    for check in (
        SUITE.test_the_manifest_names_the_connector_as_config_files_may,
        SUITE.test_it_is_written_for_this_version_of_the_contract,
        SUITE.test_the_config_is_a_model_that_forbids_what_it_does_not_know,
        SUITE.test_every_key_of_the_config_is_described,
        SUITE.test_a_login_asks_for_each_thing_once_and_hides_secrets,
    ):
        with pytest.raises(AssertionError):
            check(sloppy)


@pytest.mark.parametrize(
    ("notice", "good"),
    [
        ("You are banned from #a.", True),
        ("#lobby is invite-only: ask an operator to invite the bridge", True),
        ("404", False),
        ("404 Not Found here", False),
        ("Failed", False),
        ("", False),
        ("It failed\nTraceback follows here", False),
        ("word " * 300, False),
    ],
)
def test_a_sentence_can_be_read_by_a_person(notice: str, good: bool):
    assert is_sentence(notice) is good


def test_no_two_hostile_texts_are_alike():
    assert len(set(HOSTILE.values())) == len(HOSTILE)


# The host in memory -----------------------------------------------------------------------------------------


async def test_what_is_kept_outlives_a_restart():
    kept: dict[str, bytes] = {}
    host = FakeHost(kept=kept)
    await host.put("key", b"value")
    host.put_later("other", b"more")
    host.put_later("other", None)
    assert await FakeHost(kept=kept).get("key") == b"value"
    assert kept == {"key": b"value"}


def test_the_clock_stands_where_it_was_set():
    host = FakeHost()
    host.set_clock(1000.0)
    host.advance(5)
    assert host.now() == 1005.0


async def test_media_are_streamed_and_what_is_missing_is_a_matrix_error():
    host = FakeHost()
    host.media["mxc://example.org/a"] = b"x" * 100_000
    async with host.open_media(File(uri="mxc://example.org/a", name="a")) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"x" * 100_000
    with pytest.raises(Exception, match="no such file"):
        async with host.open_media(File(uri="mxc://example.org/b", name="b")):
            pass


async def test_the_linked_chats_are_what_the_test_says():
    host = FakeHost(linked=[ChatId("#a")])
    host.linked.append(ChatId("#b"))
    assert await host.chats() == ["#a", "#b"]
