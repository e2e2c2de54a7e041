"""Loading: what a good file becomes, and what is said about a bad one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridgekit.config import Address, Config, ConfigError, load
from bridgekit.config.show import secrets, show
from bridgekit.contract.ids import NetworkId
from bridgekit.core.model import Permission
from tests.config.sample import CONNECTORS, WHOLE, External, Keys


def loaded(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load(path, env or {}, CONNECTORS)


def problems(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, env)
    return dict(caught.value.problems)


def test_a_whole_file_becomes_a_config(tmp_path: Path):
    config = loaded(tmp_path, WHOLE)
    assert config.homeserver.url == "http://127.0.0.1:8008"
    assert config.appservice.listen == Address("127.0.0.1", 29330)
    assert config.appservice.url == "http://127.0.0.1:29330"
    assert config.appservice.as_token.get_secret_value() == "as-secret-as-it-gets"
    assert config.public is None
    assert list(config.networks) == ["one"]
    network = config.networks["one"]  # type: ignore[index]
    assert (network.connector, network.name) == ("sample", "one")
    assert [(link.chat, link.room) for link in network.links] == [("#chan", "#room:example.org")]
    assert isinstance(network.config, Keys)
    assert network.config.servers[0].port == 6697
    assert config.path == tmp_path / "config.yaml"


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path):
    config = loaded(tmp_path, WHOLE)
    assert config.store.url.get_secret_value() == f"sqlite:///{tmp_path}/bridgekit.db"
    assert config.store.key_file == tmp_path / "bridgekit.key"
    assert config.appservice.registration == tmp_path / "registration.yaml"
    assert config.networks["one"].config.servers[0].certificate == tmp_path / "me.pem"  # type: ignore[index]


def test_absolute_paths_stay_as_they_are(tmp_path: Path):
    config = loaded(tmp_path, WHOLE + "store: {url: sqlite:////var/lib/b.db, key_file: /etc/b.key}\n")
    assert config.store.url.get_secret_value() == "sqlite:////var/lib/b.db"
    assert config.store.key_file == Path("/etc/b.key")


def test_every_problem_is_told_at_once_with_its_path_and_line(tmp_path: Path):
    text = """\
homeserver: {url: example.org, server_name: "@a:example.org"}
appservice:
  as_tokn: hidden-as
  hs_token: 1234567
  listen: 127.0.0.1
permissions: {"@admin:example.org": admin, "example.org": usr}
networks:
  libera:
    connector: sample
    servers:
      - {host: x, prt: 5, port: abc}
      - {port: 99999}
    linsk: []
  oftc:
    connector: sampel
"""
    told = problems(tmp_path, text)
    assert told["homeserver.url"] == "must be an http:// or https:// address (config.yaml line 1)"
    assert told["homeserver.server_name"].startswith("must be the server's name as in user ids")
    assert told["appservice.as_tokn"] == "there is no such key; did you mean `as_token`? (config.yaml line 3)"
    assert told["appservice.as_token"] == (
        "is required: here, in a file named by `as_token_file`, or in the environment as"
        " BRIDGEKIT__APPSERVICE__AS_TOKEN (config.yaml line 2)"
    )
    assert (
        told["appservice.hs_token"] == "must be a text (numbers and yes/no need quotes) (config.yaml line 4)"
    )
    assert told["appservice.listen"].startswith("must be host:port")
    assert told['permissions["example.org"]'].startswith("must be 'none', 'relay', 'user' or 'admin'")
    assert told["networks.libera.servers[0].prt"].startswith("there is no such key; did you mean `port`?")
    assert told["networks.libera.servers[0].port"] == "must be a whole number (config.yaml line 11)"
    assert told["networks.libera.servers[1].port"] == "must be 65535 or less (config.yaml line 12)"
    assert told["networks.libera.servers[1].host"] == "is required (config.yaml line 12)"
    assert told["networks.libera.linsk"].startswith("there is no such key; did you mean `links`?")
    assert told["networks.oftc.connector"].startswith(
        "no connector called `sampel` is installed; did you mean `sample`?"
    )
    assert len(told) == 13


def test_what_is_wrong_between_two_values_is_told_beside_what_is_wrong_in_one(tmp_path: Path):
    """Nobody mends a file, and reads only then what else is wrong with it."""
    text = WHOLE.replace("hs_token: heavily-guarded", "hs_token: as-secret-as-it-gets\n  bot: No Bot")
    told = problems(tmp_path, text + "admin: {listen: '127.0.0.1:29330'}\nlog: {level: loud}\n")
    assert told == {
        "appservice": "as_token and hs_token must differ (config.yaml line 2)",
        "appservice.bot": "may only have the characters a-z 0-9 . _ = / + - (config.yaml line 5)",
        "": "admin.listen and appservice.listen must be two different addresses",
        "log.level": "must be 'debug', 'info', 'warning' or 'error' (config.yaml line 13)",
    }


def test_a_rule_says_nothing_while_a_value_that_it_needs_is_wrong(tmp_path: Path):
    text = WHOLE.replace("as_token: as-secret-as-it-gets", "as_token: 'a b'").replace(
        "heavily-guarded", "'a b'"
    )
    assert set(problems(tmp_path, text)) == {"appservice.as_token", "appservice.hs_token"}


def test_an_empty_file_says_what_is_required(tmp_path: Path):
    assert set(problems(tmp_path, "")) == {"homeserver", "appservice", "permissions"}


@pytest.mark.parametrize(
    ("addition", "path", "why"),
    [
        ("networks2: {}", "networks2", "did you mean `networks`?"),
        ("log: {level: loud}", "log.level", "must be 'debug', 'info', 'warning' or 'error'"),
        ("log: loud", "log", "must be keys and values"),
        (
            "public: {url: 'http://a', expires: soon}",
            "public.expires",
            "must be a time such as 90s, 10m, 12h or 7d",
        ),
        ("public: {url: 'http://a', expires: 0}", "public.expires", "must be longer than nothing"),
        (
            "public: {url: 'http://a', expires: true}",
            "public.expires",
            "must be a time such as 90s, 10m, 12h or 7d",
        ),
        ("messages: {display_name: '{nick}'}", "messages.display_name", "may use {name}"),
        ("messages: {display_name: '{name.__class__}'}", "messages.display_name", "may use {name}"),
        ("messages: {display_name: '{network}'}", "messages.display_name", "must use {name} or {id}"),
        ("messages: {display_name: '{'}", "messages.display_name", "may use {name}"),
        ("store: {url: mysql://x}", "store.url", "must be sqlite:///"),
        ("store: {url: 'sqlite:///'}", "store.url", "must be sqlite:///"),
        ("public: {url: 'https://u:p@example.org'}", "public.url", "without user, password"),
        ("admin: {listen: '127.0.0.1:29330'}", "", "must be two different addresses"),
        ("admin: {listen: '127.0.0.1:70000'}", "admin.listen", "must be host:port"),
        ("public: {url: 'http://[::1'}", "public.url", "must be an http:// or https:// address"),
        ("log: {level: 2020-01-01}", "log.level", "must be a plain value"),
        ("log: {level: !secret x}", "log.level", "must be a plain value"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, addition: str, path: str, why: str):
    told = problems(tmp_path, WHOLE + addition + "\n")
    assert list(told) == [path]
    assert why in told[path]


@pytest.mark.parametrize(
    ("network", "path", "why"),
    [
        (
            "matrix: {connector: sample, servers: [{host: a}]}",
            "networks.matrix",
            "it is the Matrix side itself",
        ),
        ("Big: {connector: sample, servers: [{host: a}]}", "networks.Big", "lower case letters"),
        ("two: {servers: [{host: a}]}", "networks.two.connector", "is required"),
        ("two: {connector: sample}", "networks.two.servers", "is required"),
        ("two: {connector: sample, servers: []}", "networks.two.servers", "needs at least 1 of them"),
        ("two: {connector: greedy}", "networks.two.connector", "has keys that belong to the bridge: links"),
        ("two: sample", "networks.two", "must be keys and values"),
        ("two: {connector: careless, token: some, tokne: x}", "networks.two.tokne", "did you mean `token`?"),
        (
            "two: {connector: sample, servers: [{host: a}], links: [{chat: '', room: '!a:example.org'}]}",
            "networks.two.links[0].chat",
            "must not be empty",
        ),
        (
            "two: {connector: sample, servers: [{host: a}], links: [{chat: '#a', room: 'example'}]}",
            "networks.two.links[0].room",
            "must be a room id",
        ),
        (
            "two: {connector: sample, servers: [{host: a}], "
            "links: [{chat: '#a', room: '!a'}, {chat: '#A', room: '!b'}]}",
            "networks.two.links[1].chat",
            "#A is linked twice: to the network it is #a",
        ),
        (
            "two: {connector: sample, servers: [{host: a}], links: [{chat: 'a b', room: '!a'}]}",
            "networks.two.links[0].chat",
            "is not a chat that can be linked",
        ),
        (
            "two: {connector: sample, servers: [{host: a}], links: [{chat: bob, room: '!a'}]}",
            "networks.two.links[0].chat",
            "is not a chat that can be linked",
        ),
        (
            "two: {connector: sample, servers: [{host: a}], login: {type: external, certifcate: x}}",
            "networks.two.login.certifcate",
            "did you mean `certificate`?",
        ),
        (
            "two: {connector: sample, servers: [{host: a}], colors: {red: {host: a, prot: 1}}}",
            "networks.two.colors.red.prot",
            "did you mean `port`?",
        ),
    ],
)
def test_a_wrong_network_is_named(tmp_path: Path, network: str, path: str, why: str):
    told = problems(tmp_path, WHOLE + f"  {network}\n")
    assert why in told[path]


def test_secrets_come_from_files(tmp_path: Path):
    (tmp_path / "token").write_text("from-the-file\n")
    text = WHOLE.replace("as_token: as-secret-as-it-gets", "as_token_file: token")
    text = text.replace("password: open-sesame", "password_file: token")
    config = loaded(tmp_path, text)
    assert config.appservice.as_token.get_secret_value() == "from-the-file"
    assert config.networks["one"].config.servers[0].password.get_secret_value() == "from-the-file"  # type: ignore[index]


def test_the_password_of_a_link_comes_from_a_file(tmp_path: Path):
    (tmp_path / "key").write_text("sesame\n")
    config = loaded(tmp_path, WHOLE.replace('org"}]\n', 'org", password_file: key}]\n'))
    (link,) = config.networks[NetworkId("one")].links
    assert link.password is not None
    assert link.password.get_secret_value() == "sesame"
    assert "sesame" not in repr(config) + show(config)
    assert "sesame" in secrets(config)


def test_a_secret_file_that_is_missing_is_the_only_problem_told(tmp_path: Path):
    told = problems(tmp_path, WHOLE.replace("as_token: as-secret-as-it-gets", "as_token_file: nowhere"))
    assert list(told) == ["appservice.as_token_file"]
    assert "cannot be read: no such file or directory" in told["appservice.as_token_file"]


def test_a_secret_is_given_once(tmp_path: Path):
    told = problems(tmp_path, WHOLE.replace("  hs_token:", "  as_token_file: token\n  hs_token:"))
    assert told["appservice.as_token_file"].startswith("is given as well as `as_token`; keep one of them")


def test_only_secrets_can_be_given_as_files(tmp_path: Path):
    told = problems(tmp_path, WHOLE.replace("  hs_token:", "  bot_file: token\n  hs_token:"))
    assert told["appservice.bot_file"].startswith("there is no such key")


def test_the_environment_overrides_any_single_value(tmp_path: Path):
    text = WHOLE.replace("one:", "my-net:").replace(
        "as_token: as-secret-as-it-gets", "as_token_file: nowhere"
    )
    env = {
        "BRIDGEKIT__APPSERVICE__AS_TOKEN": "from-env",
        "BRIDGEKIT__NETWORKS__MY_NET__SERVERS__0__PORT": "6667",
        "BRIDGEKIT__NETWORKS__MY_NET__SERVERS__1__HOST": "second.example.org",
        "BRIDGEKIT__PUBLIC__URL": "https://bridge.example.org",
        "BRIDGEKIT__LOG__LEVEL": "debug",
        "BRIDGEKIT_CONFIG": "not for us",
        "HOME": "/root",
    }
    config = loaded(tmp_path, text, env)
    assert config.appservice.as_token.get_secret_value() == "from-env"
    keys = config.networks["my-net"].config  # type: ignore[index]
    assert [(server.host, server.port) for server in keys.servers] == [
        ("irc.example.org", 6667),
        ("second.example.org", 6697),
    ]
    assert config.public is not None
    assert config.public.url == "https://bridge.example.org"
    assert config.log.level == "debug"


def test_a_secret_file_may_come_from_the_environment(tmp_path: Path):
    (tmp_path / "token").write_text("from-the-file")
    config = loaded(tmp_path, WHOLE, {"BRIDGEKIT__APPSERVICE__AS_TOKEN_FILE": "token"})
    assert config.appservice.as_token.get_secret_value() == "from-the-file"


def test_a_wrong_override_names_the_variable(tmp_path: Path):
    env = {
        "BRIDGEKIT__LOG__LEVLE": "debug",
        "BRIDGEKIT__LOG__FORMAT": "xml",
        "BRIDGEKIT__NETWORKS__ONE__SERVERS__7__HOST": "x",
        "BRIDGEKIT__HOMESERVER__URL__DEEPER": "x",
    }
    told = problems(tmp_path, WHOLE, env)
    assert told["log.levle"].endswith("did you mean `level`? (environment variable BRIDGEKIT__LOG__LEVLE)")
    assert told["log.format"].endswith("(environment variable BRIDGEKIT__LOG__FORMAT)")
    assert told[""].startswith("the environment variable BRIDGEKIT__")


def test_the_most_exact_permission_counts(tmp_path: Path):
    config = loaded(tmp_path, WHOLE.replace('"*": relay', '"*": relay, "evil.example": none'))
    assert config.permission("@admin:example.org") is Permission.ADMIN
    assert config.permission("@somebody:example.org") is Permission.USER
    assert config.permission("@somebody:evil.example") is Permission.NONE
    assert config.permission("@somebody:elsewhere.example") is Permission.RELAY


def test_somebody_must_be_admin(tmp_path: Path):
    told = problems(tmp_path, WHOLE.replace(": admin", ": user"))
    assert told["permissions"].startswith("needs at least one user or server with the level admin")


def test_a_union_takes_the_member_that_its_type_names(tmp_path: Path):
    text = WHOLE.replace("    links:", "    login: {type: external, certificate: c.pem}\n    links:")
    login = loaded(tmp_path, text).networks["one"].config.login  # type: ignore[index]
    assert login == External(type="external", certificate=tmp_path / "c.pem")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "this is not YAML"),
        ("appservice: {as_token: hunter22, as_token: hunter33}", "the key `as_token` is written twice"),
        ("- a\n- b", "must hold keys and values"),
        ("just words", "must hold keys and values"),
        ("a: \x07", "is not YAML"),
    ],
)
def test_a_file_that_is_no_config_gets_one_sentence(tmp_path: Path, text: str, why: str):
    told = problems(tmp_path, text)
    assert list(told) == [""]
    assert why in told[""]
    assert "hunter" not in told[""]


def test_a_file_that_cannot_be_read_gets_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml is not there: `bridgekit init` writes one"):
        load(tmp_path / "nothing.yaml", {}, CONNECTORS)
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load(tmp_path, {}, CONNECTORS)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.yaml", {}, CONNECTORS)


def test_no_problem_ever_quotes_a_secret(tmp_path: Path):
    text = """\
homeserver: {url: "https://me:planted-1@example.org", server_name: example.org}
appservice: {as_token: "planted 2", hs_token: [planted-3]}
store: {url: "mysql://me:planted-4@host/db"}
permissions: {"*": admin}
networks:
  one:
    connector: sample
    servers: [{host: a, password: {planted-5: planted-6}}, {host: [planted-7], password: planted-8}]
    login: {type: plain, user: 5, password: planted-9}
"""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert "planted" not in str(caught.value)
    assert "planted" not in repr(caught.value.__cause__)


_scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
)
_names = st.sampled_from(
    "homeserver appservice url listen store networks one connector servers host login permissions links chat room "
    "type password password_file public messages expires".split()
)
_values = st.recursive(
    _scalars | st.sampled_from(["sample", "plain", "!a:b", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_names | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(_names, _values, max_size=6))
def test_whatever_stands_in_the_file_ends_in_a_config_or_in_problems(tmp_path: Path, values: dict[str, Any]):
    from ruamel.yaml import YAML

    path = tmp_path / "any.yaml"
    YAML(typ="safe", pure=True).dump(values, path)
    with contextlib.suppress(ConfigError):  # anything else fails
        load(path, {}, CONNECTORS)
