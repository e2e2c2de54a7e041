"""The hub's answer to a commit or a message is lost: nobody loses the room, nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import SendUncertain
from connectors.mimi.service.peers import Answer, Endpoint, Peers
from tests.connectors.mimi.engine.pair import ROOM, Pair


class Losing:
    """Loses the answers to the next calls of an endpoint: after the hub heard them, or the calls themselves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._left: dict[Endpoint, int] = {}
        self._heard = True
        post = Peers.post
        losing = self

        async def lossy(peers: Peers, domain: str, endpoint: Endpoint, target: str, body: bytes) -> Answer:
            if losing._left.get(endpoint, 0):
                losing._left[endpoint] -= 1
                if losing._heard:
                    await post(peers, domain, endpoint, target, body)
                raise SendUncertain("The answer was lost.")
            return await post(peers, domain, endpoint, target, body)

        patch.setattr(Peers, "post", lossy)

    def next(self, endpoint: Endpoint, count: int, *, heard: bool) -> None:
        self._left[endpoint], self._heard = count, heard


@pytest.mark.parametrize("heard", [True, False])
async def test_a_lost_answer_to_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: bool):
    pair = Pair(tmp_path)
    losing = Losing(monkeypatch)
    async with pair.up():
        await pair.b.says("bob", "first", key="k1")
        losing.next(Endpoint.SUBMIT_MESSAGE, 1, heard=heard)
        sent = await pair.b.says("bob", "second", key="k2")
        await pair.b.says("bob", "third", key="k3")
        await pair.a.reads("third")
    seen = [fact.id for fact in pair.a.heard if isinstance(fact, facts.Message)]
    assert list(dict.fromkeys(pair.a.bodies)) == ["first", "second", "third"]
    assert seen.count(sent) == (2 if heard else 1), "the bridge knows it again by its id"


@pytest.mark.parametrize("heard", [True, False])
async def test_a_lost_answer_to_the_commit_of_one_who_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: bool
):
    pair = Pair(tmp_path)
    losing = Losing(monkeypatch)
    async with pair.up():
        losing.next(Endpoint.UPDATE, 1, heard=heard)
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        await pair.a.says("ann", "hello bob")
        await pair.b.reads("hello bob")
        await pair.b.says("ben", "me too")
        await pair.a.reads("me too")
        await pair.a.says("ann", "and ben")
        await pair.b.reads("and ben")


@pytest.mark.parametrize("heard", [True, False])
async def test_a_process_that_ends_before_it_has_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: bool
):
    """What was on disk when the commit was under way is what the next process has. Others went on meanwhile."""
    pair = Pair(tmp_path)
    async with pair.a.up():
        async with pair.b.up():
            await pair.b.says("bob", "hello")
            await pair.a.reads("hello")
            on_disk: dict[str, bytes] = {}
            asked, post = asyncio.Event(), Peers.post

            async def dying(
                peers: Peers, domain: str, endpoint: Endpoint, target: str, body: bytes
            ) -> Answer:
                """From the first commit on the hub hears nothing more from there."""
                if domain == "a.example":
                    if not on_disk:
                        on_disk.update(pair.b.kept)
                        if heard:
                            await post(peers, domain, endpoint, target, body)
                    asked.set()
                    raise SendUncertain("The process ends.")
                return await post(peers, domain, endpoint, target, body)

            monkeypatch.setattr(Peers, "post", dying)
            saying = asyncio.create_task(pair.b.says("ben", "said again", key="k9"))
            await asked.wait()
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
        monkeypatch.setattr(Peers, "post", post)
        for number in range(3):
            await pair.a.says(f"ann{number}", f"meanwhile {number}")
        pair.b.kept = dict(on_disk)
        pair.b.heard.clear()
        async with pair.b.up():
            await pair.b.reads("meanwhile 2")
            assert pair.b.bodies == ["meanwhile 0", "meanwhile 1", "meanwhile 2"]
            await pair.b.says("ben", "said again", key="k9")
            await pair.a.reads("said again")
            await pair.b.says("bob", "back")
            await pair.a.reads("back")
            await pair.a.says("ann", "welcome")
            await pair.b.reads("welcome")
    assert pair.a.bodies == ["hello", "said again", "back"]


async def test_a_lost_answer_to_a_commit_of_the_bridge_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        # Somebody at the hub leaves: whoever speaks next commits that first, here the follower.
        await pair.a.session.perform(verbs.SetTopic(chat=ROOM, topic="cats"))
        await pair.b.hears(facts.Topic, lambda t: t.topic == "cats")
        losing = Losing(monkeypatch)
        losing.next(Endpoint.UPDATE, 2, heard=True)
        await pair.b.says("ben", "one")
        await pair.a.reads("one")
        await pair.a.says("ann", "two")
        await pair.b.reads("two")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_hub_that_is_busy_or_broken_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
):
    """RFC 9110 15.6.4: a 503 is no refusal of what was said; nor is a 429 (RFC 6585 4)."""
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello", key="k1")
        post, left = Peers.post, [Answer(status, b"", 1.0)]

        async def busy(peers: Peers, domain: str, endpoint: Endpoint, target: str, body: bytes) -> Answer:
            if endpoint is Endpoint.SUBMIT_MESSAGE and left:
                return left.pop()
            return await post(peers, domain, endpoint, target, body)

        monkeypatch.setattr(Peers, "post", busy)
        await pair.b.says("bob", "second", key="k2")
        await pair.a.reads("second")
    assert (left, pair.a.bodies) == ([], ["hello", "second"])
