"""The commands: what they print, and with which status they end."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bridgekit import __version__
from bridgekit.cli import main, parser
from bridgekit.testing.servers.process import free_port


@pytest.fixture
def config(tmp_path: Path) -> str:
    main(["init", "--dir", str(tmp_path), "--server-name", "example.org", "--network", "parrot=echo"])
    return str(tmp_path / "config.yaml")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"bridgekit {__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["db"], ["config"], ["db", "copy"], ["run", "--fast"], ["demo", "--on"]]
)
def test_wrong_usage_ends_with_status_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: bridgekit" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run"], ["config", "show"], ["db", "migrate"], ["registration"]])
def test_a_config_that_cannot_be_used_ends_with_status_2_and_sentences(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "config.yaml"
    path.write_text("homeserver: {url: 5}\nlgo: {}\n")
    assert main([*words, "-c", str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "homeserver.url: must be a text" in told.err
    assert "lgo: there is no such key; did you mean `log`?" in told.err
    assert "Traceback" not in told.err


def test_config_show_masks_the_secrets(config: str, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert main(["config", "show", "-c", config]) == 0
    shown = YAML(typ="safe", pure=True).load(capsys.readouterr().out)
    assert shown["appservice"]["as_token"] == "**********"
    assert shown["networks"]["parrot"] == {
        "connector": "echo", "name": "parrot", "space": False, "members": "gradual", "grant_roles": False,
        "links": [], "times": 1, "consent": "required", "direct": "known",
        "ceiling": {"history": "shared", "join": "public", "listed": True, "media": True},
    }  # fmt: skip


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]):
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "The configuration of bridgekit"


def test_config_reference_is_markdown(capsys: pytest.CaptureFixture[str]):
    assert main(["config", "reference"]) == 0
    assert capsys.readouterr().out.startswith("# Configuration\n")


def test_the_registration_is_printed_or_written(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    capsys.readouterr()
    assert main(["registration", "-c", config]) == 0
    yaml = YAML(typ="safe", pure=True)
    printed = yaml.load(capsys.readouterr().out)
    file = tmp_path / "registration.yaml"
    assert printed == yaml.load(file)
    file.unlink()
    assert main(["registration", "--write", "-c", config]) == 0
    assert printed == yaml.load(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_double_puppets_are_in_the_registration(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("BRIDGEKIT__APPSERVICE__DOUBLE_PUPPETS", "true")
    capsys.readouterr()
    main(["registration", "-c", config])
    users = YAML(typ="safe", pure=True).load(capsys.readouterr().out)["namespaces"]["users"]
    assert users[1] == {"exclusive": False, "regex": r"@.*:example\.org"}


def test_a_database_that_is_away_is_another_status_than_a_config_that_cannot_be_used(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The unit in docs/operating.md tries again, but after status 2."""
    monkeypatch.setenv("BRIDGEKIT__STORE__URL", f"postgresql://someone@127.0.0.1:{free_port()}/x")
    assert main(["run", "-c", config]) == 1
    assert "The PostgreSQL database cannot be opened" in capsys.readouterr().err


def test_the_config_is_found_by_the_environment(config: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BRIDGEKIT_CONFIG", config)
    assert main(["config", "show"]) == 0


def test_the_dashboard_has_the_key_of_the_bridge_and_makes_none(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    capsys.readouterr()
    assert main(["dashboard", "-c", config]) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#[0-9a-f]{64}\n", capsys.readouterr().out)
    (tmp_path / "bridgekit.key").unlink()
    for words in (["dashboard"], ["api", "rooms"], ["erase", "--user", "@_bk_parrot_x:example.org"]):
        assert main([*words, "-c", config]) == 2
        assert "bridgekit.key is not there" in capsys.readouterr().err
    assert not (tmp_path / "bridgekit.key").exists()


def test_a_database_is_made_backed_up_and_copied(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    capsys.readouterr()
    assert main(["db", "migrate", "-c", config]) == 0
    assert re.search(r"bridgekit\.db: \d+ migrations run", capsys.readouterr().out)
    assert main(["db", "migrate", "-c", config]) == 0
    assert "the schema is up to date" in capsys.readouterr().out
    assert main(["db", "backup", "-c", config, str(tmp_path / "backup.db")]) == 0
    assert (tmp_path / "backup.db").exists()
    assert main(["db", "backup", "-c", config, str(tmp_path / "backup.db")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["db", "copy", "-c", config, "--to", f"sqlite:///{tmp_path}/copy.db"]) == 0
    assert "now set store.url to it" in capsys.readouterr().out


def test_the_schema_is_brought_up_to_date_without_the_key_and_none_is_made(config: str, tmp_path: Path):
    """A key that is made beside a database that another one sealed would only seem to be the one that was lost."""
    key = tmp_path / "bridgekit.key"
    key.unlink()
    assert main(["db", "migrate", "-c", config]) == 0
    assert not key.exists()


def test_a_copy_needs_the_key_wherever_it_is_kept_and_makes_none(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    key = tmp_path / "bridgekit.key"
    kept = key.read_text()
    assert main(["db", "migrate", "-c", config]) == 0
    key.unlink()
    capsys.readouterr()
    assert main(["db", "copy", "-c", config, "--to", f"sqlite:///{tmp_path}/copy.db"]) == 2
    assert "bridgekit.key is not there" in capsys.readouterr().err
    monkeypatch.setenv("BRIDGEKIT_KEY", kept.strip())
    assert main(["db", "copy", "-c", config, "--to", f"sqlite:///{tmp_path}/copy.db"]) == 0
    assert not key.exists()


def test_the_help_on_backups_says_what_becomes_of_either_database(capsys: pytest.CaptureFixture[str]):
    """SQLite and PostgreSQL alike end in one SQLite file, and nobody has to stop the bridge for that."""
    with pytest.raises(SystemExit):
        main(["db", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "write everything, as it is at one moment, to a new SQLite file; the bridge may be running" in told


def test_a_reader_that_goes_away_is_no_traceback(config: str):
    code = "from bridgekit.cli import main; import sys; sys.exit(main())"
    words = f"{sys.executable} -c '{code}' config schema | head -c 1"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.stdout == "{"
    assert done.stderr == ""


def test_every_command_says_what_it_does():
    def texts(each: object) -> list[str]:
        found: list[str] = []
        for action in each._actions:  # type: ignore[attr-defined]
            if action.choices and isinstance(action.choices, dict):
                found += [about.help or "" for about in action._choices_actions]
                for sub in action.choices.values():
                    found += texts(sub)
        return found

    told = texts(parser())
    assert len(told) >= 12
    assert all(told)
