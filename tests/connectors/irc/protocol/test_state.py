"""What a connection knows of its server, itself and its channels."""

from __future__ import annotations

import pytest

from bridgekit.contract.errors import PeerMisbehaved
from connectors.irc.protocol import modes
from connectors.irc.protocol.changes import CapsChanged, CapsListed, Renamed, Welcomed
from connectors.irc.protocol.isupport import Support
from connectors.irc.protocol.modes import ModeChange, Sort
from tests.connectors.irc.reading import HELLO, enable, in_channel, read, reader, readings


def test_isupport_has_the_defaults_of_the_rfc_and_survives_nonsense() -> None:
    support = Support()
    assert (support.nicklen, support.prefixes, support.chantypes) == (9, (("o", "@"), ("v", "+")), "#&")
    support.update(
        "NICKLEN=x MODES= PREFIX=broken CHANMODES=a,b CASEMAPPING=klingon LINELEN=-1 TARGMAX=A:b".split()
    )
    assert (support.nicklen, support.modes, support.linelen, support.casemapping) == (9, 3, 512, "rfc1459")
    assert support.prefixes == (("o", "@"), ("v", "+"))
    assert support.chanmodes == ("beIq", "k", "l", "imnpst")


def test_isupport_is_read_and_taken_back() -> None:
    support = Support()
    support.update(
        "NETWORK=Example\\x20Net NICKLEN=30 PREFIX=(qaohv)~&@%+ TARGMAX=PRIVMSG:4,KICK:,NAMES:1 LINELEN=1024 WHOX "
        "UTF8ONLY BOT=B CHATHISTORY=100 MSGREFTYPES=msgid,timestamp CLIENTTAGDENY=*,-typing PREFIX=(qaohv)~&@%+".split()
    )
    assert (support.network, support.nicklen, support.linelen) == ("Example Net", 30, 1024)
    assert (support.prefix_modes, support.signs) == ("qaohv", "~&@%+")
    assert [support.targets(c) for c in ("privmsg", "KICK", "NAMES", "JOIN")] == [4, 20, 1, 1]
    assert (support.whox, support.utf8only, support.bot, support.chathistory) == (True, True, "B", 100)
    assert support.msgids
    assert [support.may_send_tag(tag) for tag in ("typing", "draft/reply")] == [True, False]
    support.update(["-WHOX", "-CHATHISTORY", "PREFIX="])
    assert (support.whox, support.chathistory, support.prefixes) == (False, None, ())


def test_capabilities_of_several_lines_are_listed_when_the_last_has_come() -> None:
    """CAP LS 302: "If the reply contains multiple lines, all but the last have a * before the list"."""
    one = reader()
    first, second = readings(
        one, ":s CAP * LS * :sasl=PLAIN,external batch", ":s CAP * LS :draft/multiline=max-bytes=9 x"
    )
    assert first.changes == ()
    assert second.changes == (CapsListed(),)
    assert one.state.caps.sasl_mechanisms() == frozenset({"PLAIN", "EXTERNAL"})
    assert one.state.caps.fields("draft/multiline") == {"max-bytes": "9"}
    assert one.state.caps.requests() == ["batch draft/multiline sasl"]
    assert one.state.caps.requests(frozenset({"sasl"})) == ["batch draft/multiline"]


def test_capabilities_come_and_go() -> None:
    one = reader(*enable("batch"))
    assert "batch" in one.state.caps
    found = readings(
        one,
        ":s CAP me NEW :setname other",
        ":s CAP me DEL :batch",
        ":s CAP me NAK :setname",
        ":s CAP me ACK :-setname",
    )
    assert [r.changes for r in found] == [
        (CapsChanged(offered=frozenset({"setname"})),),
        (CapsChanged(disabled=frozenset({"batch"})),),
        (CapsChanged(refused=frozenset({"setname"})),),
        (CapsChanged(disabled=frozenset({"setname"})),),
    ]
    assert "batch" not in one.state.caps
    assert one.state.caps.requests() == ["setname"]


@pytest.mark.parametrize(
    ("line", "host"),
    [
        (":me!~m@join.host JOIN #x", "join.host"),
        (":me!~m@old CHGHOST ~m chg.host", "chg.host"),
        (":s 396 me vhost.example :is now your hidden host", "vhost.example"),
        (":s 396 me ~m@vhost.example :is now your hidden host", "vhost.example"),
        (":s 311 me me ~m whois.host * :Me", "whois.host"),
        (":s 900 me me!~m@login.host acct :You are now logged in", "login.host"),
    ],
)
def test_we_learn_how_others_see_us(line: str, host: str) -> None:
    one = reader(*HELLO)
    most = one.state.budget("PRIVMSG", "#c")
    read(one, ":me!~m@first JOIN #c", line)
    assert (one.state.user, one.state.host) == ("~m", host)
    assert one.state.budget("PRIVMSG", "#c") == 512 - len(f":me!~m@{host} PRIVMSG #c :\r\n")
    assert most == 512 - len(f":me!{'u' * 11}@{'h' * 63} PRIVMSG #c :\r\n")


def test_a_nick_is_ours_in_any_case() -> None:
    one = reader(nick="Old")
    [welcome] = readings(one, ":s 001 New[] :Welcome")
    assert welcome.changes == (Welcomed("New[]"),)
    assert one.state.is_me("new{}")
    [renamed] = readings(one, ":NEW[]!u@h NICK other")
    assert isinstance(renamed.changes[0], Renamed)
    assert renamed.changes[0].own
    assert one.state.nick == "other"


def test_another_casemapping_folds_everything_anew() -> None:
    one = reader(":s 001 me :x", ":me!m@h JOIN #[x]", ":a[]!u@h JOIN #[X]")
    assert set(one.state.channels) == {"#{x}"}
    assert set(one.state.users) == {"me", "a{}"}
    read(one, ":s 005 me CASEMAPPING=ascii :are supported")
    assert set(one.state.channels) == {"#[x]"}
    assert set(one.state.users) == {"me", "a[]"}
    read(one, ":a[]!u@h QUIT :x")
    assert set(one.state.users) == {"me"}


def test_names_beyond_ascii_are_folded_where_the_server_says_how() -> None:
    one = reader(":s 001 me :x", ":s 005 me CASEMAPPING=ascii :are supported", ":me!m@h JOIN #Ünï")
    assert set(one.state.channels) == {"#Ünï"}
    read(one, ":s 005 me UTF8MAPPING=rfc8265 UTF8ONLY :are supported")
    assert set(one.state.channels) == {"#ünï"}
    assert one.state.is_me("ME")


def test_who_left_all_our_channels_is_forgotten() -> None:
    one = in_channel(":me!~m@my.host JOIN #d", ":alice!a@h JOIN #d")
    read(one, ":alice!a@h PART #c")
    assert one.state.known("alice") is not None
    read(one, ":alice!a@h PART #d", ":me!~m@my.host PART #c")
    assert set(one.state.users) == {"me"}


def test_modes_are_known_only_when_the_server_said_all_of_them() -> None:
    one = reader(*HELLO, ":me!m@h JOIN #c", ":x!y@z MODE #c +s")
    channel = one.state.channels["#c"]
    unknown: dict[str, str] | None = channel.modes
    assert unknown is None
    read(one, ":s 324 me #c +kls key 5")
    assert channel.modes == {"k": "key", "l": "5", "s": ""}
    read(one, ":x!y@z MODE #c -kl+i *")
    assert channel.modes == {"s": "", "i": ""}
    assert channel.key == ""


def test_mode_words_take_the_parameters_that_chanmodes_gives_them() -> None:
    support = Support()
    support.update(["CHANMODES=b,k,l,imnst", "PREFIX=(ov)@+"])
    assert modes.read("+ol-kl+bZ", ["al", "5", "key", "m!*@*"], support) == [
        ModeChange(True, "o", "al", Sort.PREFIX),
        ModeChange(True, "l", "5", Sort.WHEN_SET),
        ModeChange(False, "k", "key", Sort.ALWAYS),
        ModeChange(False, "l", "", Sort.WHEN_SET),
        ModeChange(True, "b", "m!*@*", Sort.LIST),
        ModeChange(True, "Z", "", Sort.FLAG),
    ]
    assert modes.read("+o-k+b", [], support) == [ModeChange(False, "k", "", Sort.ALWAYS)]


def test_mode_changes_are_written_in_few_lines() -> None:
    changes = [(True, "o", "a"), (True, "v", "b"), (False, "o", "c"), (False, "v", "d")]
    assert modes.write(changes, 3) == [("+ov-o", "a", "b", "c"), ("-v", "d")]
    assert modes.write([], 3) == []


@pytest.mark.parametrize(
    "raw", [":a JOIN", ":a KICK #c", ":a NICK", ":a MODE", "BATCH", "BATCH x", "005", ":s 366 me"]
)
def test_a_command_without_what_it_needs_is_misbehaviour(raw: str) -> None:
    one = in_channel()
    if raw == "005":
        assert read(one, raw) == []
        return
    with pytest.raises(PeerMisbehaved):
        read(one, raw)
