"""`bridgekit demo --once`: the whole play, as a user starts it, and with the stand-in for a server that is missing."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bridgekit import demo
from bridgekit.testing.servers.process import ServerUnavailable
from bridgekit.testing.servers.synapse import find_python
from connectors.irc.testing.ngircd import find_binary

CODE = "from bridgekit.cli import main; import sys; sys.exit(main())"


async def test_every_check_of_the_demo_is_ok():
    find_python()
    find_binary()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE, "demo", "--once", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "FAILED" not in said.decode()
    assert "ngircd, 127.0.0.1" in said.decode()
    assert "InspIRCd; and a scripted one, NOT a real server" in said.decode()
    assert "images, IRC to Matrix: IRC carries none" in said.decode()  # what cannot be shown is said


def test_without_an_irc_server_the_scripted_one_stands_in_and_the_demo_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def missing() -> None:
        raise ServerUnavailable("ngircd is not installed.")

    def missing_too() -> None:
        raise ServerUnavailable("InspIRCd is not installed.")

    find_python()
    monkeypatch.setattr("connectors.irc.testing.demo.ngircd", missing)
    monkeypatch.setattr("connectors.irc.testing.demo.inspircd", missing_too)
    status = demo.main(once=True)
    said = capsys.readouterr().out
    assert status == 0, said
    assert "NOT a real server: bridgekit's own scripted ircd stands in. ngircd is not installed." in said
    assert "in place of InspIRCd, bridgekit's own scripted ircd. InspIRCd is not installed." in said


def test_without_a_homeserver_the_demo_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("BRIDGEKIT_SYNAPSE_PYTHON", "/nowhere/python")
    assert demo.main(once=True) == 1
    assert "run `make synapse`" in capsys.readouterr().out
