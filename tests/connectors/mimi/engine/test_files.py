"""Files between two providers: sealed where they lie, fetched through the hub, opened at the other end."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import RemoteError
from bridgekit.contract.people import File
from connectors.mimi.messages import attachment
from connectors.mimi.service.peers import Credentials, Endpoint, Peers
from tests.connectors.mimi.engine.pair import Pair, Side

PICTURE = b"\x89PNG\r\n\x1a\n" + secrets.token_bytes(200_000)


def picture(side: Side) -> File:
    """A file that is with the side's homeserver."""
    side.host.media["mxc://hs/cat"] = PICTURE
    return File(uri="mxc://hs/cat", name="cat.png", mime="image/png", size=len(PICTURE))


async def sent(by: Side, to: Side) -> facts.Message:
    await by.says("ann", "", file=picture(by), key="f1")
    return await to.hears(facts.Message, lambda m: m.content.file is not None)


async def fetched(side: Side, file: File) -> bytes:
    """What the bridge of that side gets of it."""
    assert side.host.opener is not None
    async with side.host.opener(file) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("from_hub", [True, False])
async def test_a_file_arrives_whole(tmp_path: Path, from_hub: bool):
    pair = Pair(tmp_path)
    async with pair.up():
        by, to = (pair.a, pair.b) if from_hub else (pair.b, pair.a)
        file = (await sent(by, to)).content.file
        assert file is not None
        assert (file.name, file.mime, file.size, file.via) == ("cat.png", "image/png", len(PICTURE), "mimi")
        assert await fetched(to, file) == PICTURE


async def test_what_lies_there_is_sealed_and_always_the_same(tmp_path: Path):
    """The same octets each time: their hash stands in the message."""
    pair = Pair(tmp_path)
    async with pair.up():
        file = (await sent(pair.a, pair.b)).content.file
        assert file is not None
        config = pair.b.config
        credentials = Credentials(config.certificate, config.key, config.authorities)
        async with Peers(config.domain, credentials, config.peers) as peers:
            answers = [await peers.get("a.example", Endpoint.PROXY_DOWNLOAD, file.uri) for _ in range(2)]
            unknown = await peers.get("a.example", Endpoint.PROXY_DOWNLOAD, file.uri[:-2] + "00")
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert len(answers[0].body) == len(PICTURE) + attachment.TAG
    assert PICTURE[:64] not in answers[0].body
    assert unknown.status == 403


async def test_a_file_that_was_changed_is_not_shown(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.up():
        file = (await sent(pair.a, pair.b)).content.file
        assert file is not None
        pair.a.host.media["mxc://hs/cat"] = PICTURE[:-1] + b"?"
        with pytest.raises(RemoteError, match="not the one that was sent"):
            await fetched(pair.b, file)


async def test_a_file_that_is_gone_is_refused_with_a_sentence(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.up():
        file = (await sent(pair.b, pair.a)).content.file
        assert file is not None
        del pair.b.host.media["mxc://hs/cat"]
        with pytest.raises(RemoteError, match="server answers 404"):
            await fetched(pair.a, file)
