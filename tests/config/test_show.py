"""What is shown of a config, and what never is."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from bridgekit.config import Config, load, secrets, show
from tests.config.sample import CONNECTORS, WHOLE

PUBLIC = "public: {url: https://b.example.org, expires: 43200}\n"
SECRETS = ("as-secret-as-it-gets", "heavily-guarded", "open-sesame", "data base")


def whole(tmp_path: Path) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(WHOLE + 'store: {url: "postgresql://me:data%20base@db.example.org/bridge"}\n' + PUBLIC)
    return load(path, {}, CONNECTORS)


def test_no_secret_is_in_what_python_shows(tmp_path: Path):
    config = whole(tmp_path)
    shown = f"{config!r} {config} {config.model_dump()} {config.model_dump_json()} {config.networks} {config.store}"
    assert not [secret for secret in (*SECRETS, "data%20base") if secret in shown]


def test_config_show_has_everything_but_the_secrets(tmp_path: Path):
    text = show(whole(tmp_path))
    assert not [secret for secret in (*SECRETS, "data%20base") if secret in text]
    values = YAML(typ="safe", pure=True).load(text)
    assert values["store"]["url"] == "postgresql://me:********@db.example.org/bridge"
    assert values["appservice"]["as_token"] == "**********"
    assert values["appservice"]["listen"] == "127.0.0.1:29330"
    assert values["public"]["expires"] == "12h"
    assert values["networks"]["one"]["servers"][0]["host"] == "irc.example.org"
    assert values["networks"]["one"]["links"] == [{"chat": "#chan", "room": "#room:example.org"}]


def test_all_secrets_are_known_to_those_who_must_hide_them(tmp_path: Path):
    assert secrets(whole(tmp_path)) == {*SECRETS, "data%20base"}
