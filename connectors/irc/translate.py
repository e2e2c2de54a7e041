"""From lines to facts: the reading half of the connector's translation."""

from __future__ import annotations

import msgspec

from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, MessageId
from connectors.irc.changes import Change
from connectors.irc.compose import OutLine
from connectors.irc.identity import View
from connectors.irc.state import State
from connectors.irc.wire import Line


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """Our own words, come back (echo-message, or a labelled answer): `id` is what the network calls them."""

    command: str  # PRIVMSG, NOTICE, TAGMSG
    target: str
    text: str
    id: MessageId
    label: str = ""


class HistoryEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A chathistory batch is over: how many messages it had, and the server-time tag of its last one."""

    chat: ChatId
    count: int
    last: str = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one line meant. `answers` are CTCP replies to send, rate limited and never urgent."""

    facts: tuple[Fact, ...] = ()
    answers: tuple[OutLine, ...] = ()
    echoes: tuple[Echo, ...] = ()
    history: HistoryEnd | None = None
    changes: tuple[Change, ...] = ()


class Reader:
    """Feeds `state` and `people` line by line and says what happened.

    `login` is whose account this is (None: the relay), which marks own words as `Message.own`. `version` answers
    CTCP VERSION.
    """

    def __init__(
        self, state: State, people: View, *, login: LoginId | None = None, version: str = "bridgekit"
    ) -> None:
        self.state = state
        self.people = people

    def read(self, line: Line, at: int) -> Reading:
        """Take `line` in, received at `at` (ms since the epoch). Raises PeerMisbehaved alone; go on after it."""
        raise NotImplementedError
