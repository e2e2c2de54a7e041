"""Commands that connectors bring along."""

from __future__ import annotations

import argparse
from importlib.metadata import EntryPoint

import pytest

from bridgekit import cli


class Greeting:
    about = "Say something."

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("word")
        parser.set_defaults(command=lambda words: 0 if words.word == "hello" else 1)


greeting = Greeting()


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    found: list[EntryPoint] = []
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == "bridgekit.commands" else [])
    return found


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "bridgekit.commands")


def test_a_connectors_command_is_one_of_ours(points: list[EntryPoint]) -> None:
    points.append(point("greet", f"{__name__}:greeting"))
    assert cli.main(["greet", "hello"]) == 0
    assert cli.main(["greet", "bye"]) == 1


def test_a_connector_that_cannot_be_loaded_takes_no_other_command_away(
    points: list[EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    points += [point("odd", "no.such.module:thing"), point("greet", f"{__name__}:greeting")]
    assert cli.main(["greet", "hello"]) == 0
    assert cli.main(["odd"]) == 1
    assert "The commands of no.such.module:thing cannot be loaded" in capsys.readouterr().err


def test_a_command_of_the_bridge_keeps_its_name(points: list[EntryPoint]) -> None:
    points.append(point("run", f"{__name__}:greeting"))
    with pytest.raises(SystemExit):
        cli.main(["run", "hello"])
