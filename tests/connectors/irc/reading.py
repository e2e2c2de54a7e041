"""A connection that reads a script."""

from __future__ import annotations

from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import LoginId
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import parse
from connectors.irc.words.identity import Identity
from connectors.irc.words.translate import Reader, Reading

AT = 1_700_000_000_000
HELLO = (
    ":irc.example 001 me :Welcome",
    ":irc.example 005 me CASEMAPPING=ascii PREFIX=(qaohv)~&@%+ CHANTYPES=# CHANMODES=beI,k,l,imnpsrt "
    "STATUSMSG=@+ WHOX BOT=B NICKLEN=30 :are supported",
)


def reader(*script: str, nick: str = "me", login: LoginId | None = None) -> Reader:
    """A reader that has taken `script` in."""
    one = Reader(State(nick), Identity().view("relay"), login=login, version="test 1")
    read(one, *script)
    return one


def in_channel(*script: str) -> Reader:
    """A reader that is in #c with alice (an operator) and bob, everything known."""
    return reader(
        *HELLO,
        ":me!~m@my.host JOIN #c",
        ":irc.example 332 me #c :the topic",
        ":irc.example 353 me = #c :@alice bob me",
        ":irc.example 366 me #c :End",
        ":irc.example 324 me #c +nt",
        ":irc.example 354 me 152 #c a alice.host alice H@ al :Alice",
        ":irc.example 354 me 152 #c b bob.host bob HB 0 :Bob",
        ":irc.example 354 me 152 #c ~m my.host me H 0 :Me",
        ":irc.example 315 me #c :End",
        *script,
    )


def enable(*caps: str, values: str = "") -> tuple[str, ...]:
    """The lines that switch capabilities on."""
    return (f":s CAP * LS :{values or ' '.join(caps)}", f":s CAP * ACK :{' '.join(caps)}")


def readings(one: Reader, *script: str, at: int = AT) -> list[Reading]:
    """What each line meant."""
    out: list[Reading] = []
    for text in script:
        line = parse(text.encode())
        assert line is not None
        out.append(one.read(line, at))
    return out


def read(one: Reader, *script: str, at: int = AT) -> list[Fact]:
    """The facts of the lines, in order."""
    return [fact for reading in readings(one, *script, at=at) for fact in reading.facts]
