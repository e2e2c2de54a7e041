"""`bridgekit init` makes three files that fit together, and overwrites nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridgekit.cli import main
from bridgekit.cli.init import FILES, init
from bridgekit.config import load
from bridgekit.contract.errors import ConfigError
from bridgekit.matrix import registration


def test_flags_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "new"
    status = main(
        f"init --dir {folder} --server-name example.org --admin @ada:example.org "
        "--homeserver-url http://10.0.0.1:8008 --network parrot=echo --set parrot.times=2 "
        "--set parrot.consent=off".split()
    )
    assert status == 0
    assert "bridgekit check" in capsys.readouterr().out
    config = load(folder / "config.yaml", {})
    assert config.homeserver.url == "http://10.0.0.1:8008"
    assert config.permission("@ada:example.org") == "admin"
    assert config.permission("@bob:example.org") == "user"
    assert config.permission("@eve:elsewhere.example") == "relay"
    assert config.networks["parrot"].config.times == 2  # type: ignore[index]
    assert config.networks["parrot"].consent == "off"  # type: ignore[index]
    assert (
        registration.read(folder / "registration.yaml")["as_token"]
        == config.appservice.as_token.get_secret_value()
    )


def test_every_file_is_for_its_owner_alone(tmp_path: Path):
    main(["init", "--dir", str(tmp_path), "--server-name", "example.org", "--network", "parrot=echo"])
    assert {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in FILES} == dict.fromkeys(
        FILES, 0o600
    )


def test_two_runs_have_different_tokens(tmp_path: Path):
    tokens = set()
    for name in ("a", "b"):
        main(
            [
                "init",
                "--dir",
                str(tmp_path / name),
                "--server-name",
                "example.org",
                "--network",
                "parrot=echo",
            ]
        )
        service = load(tmp_path / name / "config.yaml", {}).appservice
        tokens |= {service.as_token.get_secret_value(), service.hs_token.get_secret_value()}
    assert len(tokens) == 4


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str):
    (tmp_path / name).write_text("mine")
    assert (
        main(["init", "--dir", str(tmp_path), "--server-name", "example.org", "--network", "parrot=echo"])
        == 2
    )
    assert f"{name} is there already; nothing is overwritten" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["init", "--dir", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "--server-name: is required" in told
    assert "--network: name at least one network" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--network", "Parrot=echo"], "--network: Parrot=echo is not NAME=CONNECTOR with a lower case name"),
        (["--network", "parrot"], "--network: parrot is not NAME=CONNECTOR"),
        (["--network", "parrot=ecko"], "no connector called `ecko` is installed; did you mean `echo`?"),
        (["--network", "parrot=echo", "--set", "parrot.tims=2"], "no key parrot.tims; did you mean `parrot.times`?"),
        (["--network", "parrot=echo", "--set", "parrot.consent=of"], "networks.parrot.consent: "),
        (["--network", "parrot=echo", "--set", "parrot.times"], "--set: parrot.times is not KEY=VALUE"),
        (["--network", "parrot=echo", "--set", "parrot.times=9"], "networks.parrot.times: must be 5 or less"),
        (["--network", "parrot=echo", "--homeserver-url", "example.org"], "homeserver.url: must be an http://"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_named_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
):
    assert main(["init", "--dir", str(tmp_path), "--server-name", "example.org", *words]) == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def talk(answers: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield from answers.items()


def test_a_person_is_asked_for_what_is_missing(tmp_path: Path):
    script = talk(
        {
            "The homeserver's name": "example.org",
            "Where the bridge reaches it [http://127.0.0.1:8008]": "",
            "Your Matrix user id [@admin:example.org]": "ada",
            "A network as NAME=CONNECTOR": "parrot=echo",
            "A network as": "",
        }
    )

    def ask(question: str) -> str:
        expected, answer = next(script)
        assert question.startswith(expected)
        return answer

    init(tmp_path, server_name=None, homeserver_url=None, admin=None, networks=[], settings=[], ask=ask)
    config = load(tmp_path / "config.yaml", {})
    assert config.homeserver.url == "http://127.0.0.1:8008"
    assert config.permission("@ada:example.org") == "admin"
    assert list(config.networks) == ["parrot"]


def test_a_connectors_required_keys_are_asked_for(tmp_path: Path):
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "irc.example.org" if question.startswith("net.servers.0.host: ") else ""

    init(
        tmp_path,
        server_name="example.org",
        homeserver_url=None,
        admin=None,
        networks=["net=irc"],
        settings=[],
        ask=ask,
    )
    network = load(tmp_path / "config.yaml", {}).networks["net"]  # type: ignore[index]
    assert network.config.servers[0].host == "irc.example.org"
    assert len(asked) == 3


def test_a_person_who_mistypes_is_asked_again_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    script = iter(
        [
            ("The homeserver's name", ""),
            ("The homeserver's name", "example.org"),
            ("Where the bridge reaches it", ""),
            ("Your Matrix user id", ""),
            ("A network as NAME=CONNECTOR", ""),
            ("A network as NAME=CONNECTOR", "net"),
            ("A network as NAME=CONNECTOR", "net=icr"),
            ("A network as NAME=CONNECTOR", "net=irc"),
            ("A network as NAME=CONNECTOR", ""),
            ("net.servers.0.host: ", ""),
            ("net.servers.0.host: ", "irc.example.org"),
        ]
    )

    def ask(question: str) -> str:
        expected, answer = next(script)
        assert question.startswith(expected)
        return answer

    init(tmp_path, server_name=None, homeserver_url=None, admin=None, networks=[], settings=[], ask=ask)
    network = load(tmp_path / "config.yaml", {}).networks["net"]  # type: ignore[index]
    assert network.config.servers[0].host == "irc.example.org"
    assert capsys.readouterr().out.splitlines()[:3] == [
        "Name at least one.",
        "net is not NAME=CONNECTOR with a lower case name",
        "no connector called `icr` is installed; did you mean `irc`?",
    ]


def test_without_a_person_a_required_key_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"networks.net: --set net.servers.0.host=VALUE is required"):
        init(
            tmp_path,
            server_name="example.org",
            homeserver_url=None,
            admin=None,
            networks=["net=irc"],
            settings=[],
            ask=None,
        )
