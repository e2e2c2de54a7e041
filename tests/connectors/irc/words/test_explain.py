"""Refusals as sentences, and what the end of a connection means."""

from __future__ import annotations

import re

import pytest

from connectors.irc.protocol.masks import hits, singled_out
from connectors.irc.protocol.wire import parse
from connectors.irc.words.explain import _SENTENCES, Closing, closing, explain
from tests.connectors.irc.reading import in_channel


def explained(raw: str, channel: str = "") -> str:
    line = parse(raw.encode())
    assert line is not None
    return explain(line, channel)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (":s 403 me #x :No such channel", "There is no #x: check how it is written."),
        (":s 405 me #x :x", "The bridge is in as many channels as this network allows: leave one first."),
        (":s 433 * bob :Nickname is already in use", "The nick bob is taken: choose another one, or get it back from "
         "NickServ."),
        (":s 470 me #x ##x :Forwarding", "#x sends everybody on to ##x: link that channel instead."),
        (":s 437 me #x :Retry topic change later", "The topic of #x was changed a moment ago: try again in some "
         "seconds."),
        (":s 471 me #x :x", "#x is full: try again when somebody has left, or ask an operator to "
         "raise the limit."),
        (":s 473 me #x :Cannot join channel (+i)", "#x is invite-only: ask an operator to invite the bridge."),
        (":s 482 me #x :x", "Only an operator of #x can do that: ask one to make the bridge an "
         "operator."),
        (":s 499 me #x :You are not \x02worthy\x02", "The network says: You are not worthy."),
        (":s FAIL REDACT UNKNOWN_MSGID #x 1 :x", "The network does not know that message any more."),
        (":s FAIL JOIN ODD_THING :Something odd!", "The network says: Something odd!"),
        (":s 599", "The network refused that without a reason."),
    ],
)  # fmt: skip
def test_a_refusal_is_a_sentence_that_says_what_to_do(raw: str, sentence: str) -> None:
    assert explained(raw) == sentence


@pytest.mark.parametrize("numeric", sorted(_SENTENCES))
def test_every_sentence_is_whole_whatever_the_server_leaves_out(numeric: str) -> None:
    for raw in (
        f":s {numeric}",
        f":s {numeric} me",
        f":s {numeric} me #x :{{0}} {{evil}}",
        f":s {numeric} me {{x}} :y",
    ):
        sentence = explained(raw)
        assert re.fullmatch(r"[A-Z{#].*[.]", sentence), sentence
        assert numeric not in sentence


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("Closing Link: 192.0.2.1 (Trying to reconnect too fast.)", Closing.THROTTLED),
        ("Closing Link: host (Throttled: Reconnecting too fast)", Closing.THROTTLED),
        ("Your host is trying to (re)connect too fast -- throttled.", Closing.THROTTLED),
        ("Closing Link: bot[host] (K-Lined)", Closing.BANNED),
        ("Closing Link: host (*** Banned )", Closing.BANNED),
        ("Closing link: (u@h) [G-Lined: go away]", Closing.BANNED),
        ("Closing link: (u@h) [Z-lined: x]", Closing.BANNED),
        ("Closing Link: host (AKILLed: spam)", Closing.BANNED),
        ("Closing Link: (Z:lined (abuse))", Closing.BANNED),
        ("You are banned from this server- Temporary D-line", Closing.BANNED),
        ("Closing link: (u@h) [No more connections allowed from your host via this connect class (local)]",
         Closing.TOO_MANY),
        ("Closing Link: host (Too many host connections (global))", Closing.TOO_MANY),
        ("Too many connections from your IP", Closing.TOO_MANY),
        ("Closing Link: host (Killed (oper (reason)))", Closing.KILLED),
        ("Closing Link: host (Nickname regained by services)", Closing.KILLED),
        ("Closing Link: host (Killed (irc.example (Nick collision)))", Closing.OTHER),
        ("Closing Link: host (Ping timeout: 240 seconds)", Closing.OTHER),
        ("Closing Link: host (Quit: bye)", Closing.OTHER),
        ("", Closing.OTHER),
    ],
)  # fmt: skip
def test_the_end_of_a_connection_says_what_the_next_may_do(reason: str, what: Closing) -> None:
    assert closing(reason) is what


@pytest.mark.parametrize(
    ("mask", "source", "hit"),
    [
        ("*!*@*", "a!b@c", True),
        ("a!*@*.host", "a!b@x.host", True),
        ("a!*@*.host", "a!b@host", False),
        ("?b*", "ab", True),
        ("?", "", False),
        ("", "", True),
        ("*a*a*a*a*a*a*a*b", "a" * 400, False),
    ],
)
def test_masks_match_as_globs(mask: str, source: str, hit: bool) -> None:
    assert hits(mask, source) is hit


def test_a_mask_singles_out_a_few_and_never_us() -> None:
    one = in_channel()
    channel = one.state.channel("#c")
    assert channel is not None
    assert [u.nick for u in singled_out("BOB!*@*", channel, one.state)] == ["bob"]
    assert [u.nick for u in singled_out("$a:AL", channel, one.state)] == ["alice"]
    assert [u.nick for u in singled_out("*!*@bob.host", channel, one.state)] == ["bob"]
    assert singled_out("*!*@*", channel, one.state) == []
    for name in ("p", "q", "r", "s"):
        one.state.roll.enter(channel, name).host = "same.host"
    assert singled_out("*!*@same.host", channel, one.state) == []


@pytest.mark.parametrize(
    "reason",
    [
        "Closing Link: bridge[~b@proxy.example.org] (Ping timeout: 240 seconds)",
        "Closing link: (banned@drone-ci.example.org) [Server shutting down]",
        "Closing Link: proxy.example.org (Connection reset by peer)",
        "Closing Link: kill[throttle.example.org] by irc.example.org (Excess Flood)",
    ],
)
def test_what_we_are_called_is_no_reason_why_the_server_hangs_up(reason):
    """A bridge on proxy.example.org stayed away for ever after the server's first restart."""
    assert closing(reason) is Closing.OTHER
