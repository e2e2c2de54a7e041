"""The config of an IRC network: what would fail later, or inject a line, is told when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.config import ConfigError, load
from connectors.irc.config import IrcConfig
from connectors.irc.connector import connector

BEFORE = """\
homeserver: {url: "http://127.0.0.1:8008/", server_name: example.org}
appservice: {as_token: as-secret-as-it-gets, hs_token: heavily-guarded}
permissions: {"@admin:example.org": admin}
networks:
  libera:
    connector: irc
"""


def network(tmp_path: Path, keys: str) -> IrcConfig:
    path = tmp_path / "config.yaml"
    servers = "" if "servers:" in keys else "    servers: [{host: irc.example.org}]\n"
    path.write_text(BEFORE + servers + "".join(f"    {line}\n" for line in keys.splitlines()))
    found = load(path, {}, {"irc": connector}).networks["libera"].config  # type: ignore[index]
    assert isinstance(found, IrcConfig)
    return found


@pytest.mark.parametrize(
    ("keys", "path", "why"),
    [
        ("servers: [{host: 'irc.example.org\\r\\nQUIT'}]", "servers[0].host", "host name"),
        ('servers: [{host: "irc.example.org\\r\\nQUIT"}]', "servers[0].host", "host name"),
        ("servers: [{host: 'https://irc.example.org'}]", "servers[0].host", "host name"),
        ("servers: [{host: 'a b'}]", "servers[0].host", "host name"),
        ("servers: [{host: 'irc.example.org:6697'}]", "servers[0].host", "without port"),
        ("servers: [{host: a, port: 0}]", "servers[0].port", "1 or more"),
        ("servers: [{host: a, port: 70000}]", "servers[0].port", "65535 or less"),
        ("servers: [{host: a, tls_ca_file: nowhere.pem}]", "servers[0].tls_ca_file", "no such file"),
        ("servers: [{host: a, tls_cert_file: config.yaml}]", "servers[0]", "certificate files are no use"),
        ("servers: [{host: a, tls_key_file: config.yaml}]", "servers[0]", "of a tls_cert_file"),
        ("password_file: nowhere", "password_file", "cannot be read"),
        ("sasl: {mechanism: plain}", "sasl", "plain needs a password"),
        ("sasl: {mechanism: scram-sha-256, account: a}", "sasl", "scram-sha-256 needs a password"),
        ("sasl: {account: a}", "", "sasl needs a password, or a server with a tls_cert_file"),
        ("sasl: {mechanism: external}", "", "sasl.mechanism external needs a server with a tls_cert_file"),
        (
            "servers: [{host: a, tls: false}]\nsasl: {mechanism: plain, password: a}",
            "",
            "sasl.mechanism plain needs a server with tls",
        ),
        ("nickserv: {}", "nickserv.password", "is required"),
        ("sasl: {account: a, password_file: nowhere}", "sasl.password_file", "cannot be read"),
        ("nickserv: {password_file: nowhere}", "nickserv.password_file", "cannot be read"),
        ('password: "one\\ntwo"', "password", "one line"),
        ("nick: 'a b'", "nick", "must be a nick"),
        ('nick: "a\\r\\nb"', "nick", "must be a nick"),
        ("nick: '9lives'", "nick", "must be a nick"),
        ("nick: '#chan'", "nick", "must be a nick"),
        ("username: 'a b'", "username", "one word"),
        ('realname: "a\\nb"', "realname", "one line"),
        ('quit_message: "bye\\nbye"', "quit_message", "one line"),
        ("encoding: hex", "encoding", "no such text encoding"),
        ("encoding: rot13", "encoding", "no such text encoding"),
        ("encoding: klingon", "encoding", "no such text encoding"),
        ("encoding: utf-16", "encoding", "ASCII is as it is"),
        ("encoding: utf-7", "encoding", "ASCII is as it is"),
        ("encoding: punycode", "encoding", "ASCII is as it is"),
        ("encoding: undefined", "encoding", "ASCII is as it is"),
        ("puppets: {webirc: {}}", "puppets.webirc.password", "is required"),
        ("puppets: {webirc: {password: 'a b'}}", "puppets.webirc.password", "one word"),
        ("puppets: {webirc: {password: a, gateway: 'my gate'}}", "puppets.webirc.gateway", "one word"),
        ("puppets: {webirc: {password: a, host: '{nick}.x'}}", "puppets.webirc.host", "may use {localpart}"),
        ("puppets: {nick: '{display}[m]'}", "puppets.nick", "may use {displayname}"),
        ("puppets: {nick: '{displayname'}", "puppets.nick", "each brace closed"),
        ("puppets: {nick: '{localpart.__class__}'}", "puppets.nick", "may use {displayname}"),
        ("puppets: {nick: '{localpart!r}'}", "puppets.nick", "may use {displayname}"),
        ('puppets: {realname: "{mxid}\\nQUIT"}', "puppets.realname", "one line"),
        ("puppets: {ipv6_prefix: '2001:db8::/96'}", "puppets.ipv6_prefix", "a /64 or wider"),
        ("puppets: {ipv6_prefix: '10.0.0.0/8'}", "puppets.ipv6_prefix", "an IPv6 network"),
        ("puppets: {connects_per_second: .inf}", "puppets.connects_per_second", "finite"),
        ("flood: {refill: .nan}", "flood.refill", "finite"),
        ("ident_listen: '127.0.0.1:99999'", "ident_listen", "host:port"),
        ("ident_listen: '113'", "ident_listen", "host:port"),
        ("links: [{chat: chan, room: '!a:x'}]", "links[0].chat", "one looks like #channel"),
        ("links: [{chat: '#a b', room: '!a:x'}]", "links[0].chat", "is not a chat"),
        (
            "links: [{chat: '#Chan[1]', room: '!a:x'}, {chat: '#chan{1}', room: '!b:x'}]",
            "links[1].chat",
            "to the network it is #Chan[1]",
        ),
    ],
)
def test_what_would_fail_later_is_told_at_once(tmp_path: Path, keys: str, path: str, why: str):
    with pytest.raises(ConfigError) as caught:
        network(tmp_path, keys)
    told = dict(caught.value.problems)
    where = f"networks.libera.{path}".rstrip(".")
    assert list(told) == [where]
    assert why in told[where]


def test_what_people_do_write_is_taken(tmp_path: Path):
    (tmp_path / "password").write_text("pass: word \n")
    found = network(
        tmp_path,
        """\
servers: [{host: irc.example.org}, {host: "::1", port: 6667, tls: false}, {host: bücher.example}]
password_file: password
nick: "[bridge]^|`"
realname: "A bridge: https://example.org"
encoding: koi8-r
puppets: {nick: "{localpart}|m", ipv6_prefix: "2001:db8:1:2::/64", webirc: {password: secret}}
ident_listen: "[::]:113"
links: [{chat: "#a", room: "!a:x"}, {chat: "##b", room: "!b:x"}, {chat: "&c", room: "!c:x"}]""",
    )
    assert found.password is not None
    assert found.password.get_secret_value() == "pass: word "
    assert [server.address for server in found.servers][1] == "::1:6667"
    assert found.puppets.webirc is not None
    assert found.puppets.webirc.gateway == "bridgekit"


@pytest.mark.parametrize(
    "encoding", ["cp1252", "latin-1", "shift_jis", "gb18030", "big5", "euc_jp", "cp437", "utf-8"]
)
def test_the_encodings_of_old_clients_are_taken(tmp_path: Path, encoding: str):
    assert network(tmp_path, f"encoding: {encoding}").encoding == encoding
