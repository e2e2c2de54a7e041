"""Groups shared with ts-mls on Node: custom extensions and authenticated data beside the messages."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bridgekit_mls as mls
import pytest

from bridgekit.testing.servers.process import ServerUnavailable
from tests.mls.people import ROOM, Client, read

HERE = Path(__file__).parent / "ts_mls"
CUSTOM = 0xF001


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ts-mls by npm, as its lock file says; nothing is written into the source tree."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise ServerUnavailable("ts-mls needs node and npm")
    folder = tmp_path_factory.mktemp("ts-mls")
    for name in ("package.json", "package-lock.json", "peer.mjs"):
        shutil.copy(HERE / name, folder)

    async def install() -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            npm,
            "ci",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output

    status, output = asyncio.run(install())
    if status:
        raise ServerUnavailable(f"npm ci for ts-mls failed: {output.decode(errors='replace')[-300:]}")
    return folder


class Theirs:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **given}).encode() + b"\n")
        await self._process.stdin.drain()
        answer = json.loads(await self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer["ok"]

    async def ask_bytes(self, command: str, **given: Any) -> bytes:
        return bytes.fromhex(await self.ask(command, **given))

    async def process(self, message: bytes) -> Any:
        return await self.ask("process", message=message.hex())

    async def shares(self, group: mls.Group) -> bool:
        seen = await self.ask("look")
        secret = group.export_secret("interop", b"", 32).hex()
        return (seen["epoch"], seen["secret"]) == (group.epoch, secret)


@pytest.fixture
async def theirs(installed: Path) -> AsyncIterator[Theirs]:
    process = await asyncio.create_subprocess_exec(
        "node",
        "peer.mjs",
        cwd=installed,
        env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        yield Theirs(process)
    finally:
        process.kill()
        await process.wait()


def accept(group: mls.Group, message: bytes) -> mls.ReceivedCommit | mls.ReceivedProposal:
    received = group.process(message)
    assert isinstance(received, mls.ReceivedCommit | mls.ReceivedProposal)
    group.accept(received)
    return received


def able(name: str) -> Client:
    return Client.of(name, capabilities=mls.Capabilities(extensions=[CUSTOM]))


async def test_their_key_package_joins_our_group_with_a_custom_extension(theirs: Theirs):
    package = await theirs.ask_bytes("start", name="bob", extensions=[CUSTOM])
    group = mls.Group.create(able("alice").identity, ROOM, extensions={CUSTOM: b"custom"})
    staged = group.commit(add=[package], with_tree=True)
    group.merge_commit()
    assert staged.welcome is not None
    await theirs.ask("join", welcome=staged.welcome.hex())
    assert await theirs.shares(group)
    assert [CUSTOM, b"custom".hex()] in (await theirs.ask("look"))["extensions"]
    heard = await theirs.process(group.encrypt(b"to ts-mls", aad=b"aad out"))
    assert heard == {"kind": "applicationMessage", "data": b"to ts-mls".hex(), "aad": b"aad out".hex()}
    message = await theirs.ask_bytes("encrypt", data=b"from ts-mls".hex(), aad=b"aad in".hex())
    received = read(group, message)
    assert (received.data, received.aad, received.sender.name) == (b"from ts-mls", b"aad in", b"bob")


async def test_we_join_their_group_with_a_custom_extension(theirs: Theirs):
    alice = able("alice")
    await theirs.ask("start", name="bob", extensions=[CUSTOM])
    await theirs.ask("create", group=ROOM.hex(), extensions=[[CUSTOM, b"theirs".hex()]])
    made = await theirs.ask("commit", add=[alice.package().message.hex()])
    group = mls.Group.join(alice.identity, alice.packages, bytes.fromhex(made["welcome"]))
    assert group.extensions[CUSTOM] == b"theirs"
    assert await theirs.shares(group)
    assert (await theirs.process(group.encrypt(b"thanks")))["data"] == b"thanks".hex()


async def test_add_update_remove_cross_both_ways_with_aad_on_the_commits(theirs: Theirs):
    alice, carol, dave = Client.of("alice"), Client.of("carol"), Client.of("dave")
    package = await theirs.ask_bytes("start", name="bob")
    hers = mls.Group.create(alice.identity, ROOM)
    staged = hers.commit(add=[package], with_tree=True)
    hers.merge_commit()
    assert staged.welcome is not None
    await theirs.ask("join", welcome=staged.welcome.hex())
    # Ours: add and update, then an update alone.
    staged = hers.commit(add=[carol.package().message], update=True, aad=b"ours")
    assert (await theirs.process(staged.message))["aad"] == b"ours".hex()
    hers.merge_commit()
    carols = carol.join(staged)
    assert await theirs.shares(carols)
    # Theirs: an empty commit, which is an update; then an add.
    made = await theirs.ask("commit", aad=b"theirs".hex())
    for group in (hers, carols):
        assert accept(group, bytes.fromhex(made["commit"])).aad == b"theirs"
    made = await theirs.ask("commit", add=[dave.package().message.hex()])
    for group in (hers, carols):
        accept(group, bytes.fromhex(made["commit"]))
    daves = mls.Group.join(dave.identity, dave.packages, bytes.fromhex(made["welcome"]))
    assert await theirs.shares(daves)
    # They propose a removal, we commit it; then they remove by a commit of their own.
    proposal = await theirs.ask_bytes("propose", remove=carols.leaf, aad=b"bye".hex())
    for group in (hers, carols, daves):
        assert accept(group, proposal).aad == b"bye"
    staged = hers.commit()
    await theirs.process(staged.message)
    for group in (carols, daves):
        accept(group, staged.message)
    hers.merge_commit()
    assert not carols.active
    assert await theirs.shares(hers)
    made = await theirs.ask("commit", remove=[daves.leaf])
    for group in (hers, daves):
        accept(group, bytes.fromhex(made["commit"]))
    assert not daves.active
    assert await theirs.shares(hers)


async def test_an_update_that_we_propose_is_committed_by_them(theirs: Theirs):
    package = await theirs.ask_bytes("start", name="bob")
    hers = mls.Group.create(Client.of("alice").identity, ROOM)
    staged = hers.commit(add=[package], with_tree=True)
    hers.merge_commit()
    assert staged.welcome is not None
    await theirs.ask("join", welcome=staged.welcome.hex())
    before = hers.members[0].encryption_key
    await theirs.process(hers.propose_update())
    made = await theirs.ask("commit")
    accept(hers, bytes.fromhex(made["commit"]))
    assert hers.members[0].encryption_key != before
    assert await theirs.shares(hers)
