"""A long, coverage-guided run against the reading half; not part of the test suite.

    pip install atheris && python -m tests.connectors.irc.fuzz CORPUS_DIR -max_total_time=600 -max_len=2000

Each input is a script of lines. Anything raised but PeerMisbehaved, or a state that contradicts itself, is a find.
"""

from __future__ import annotations

import importlib
import sys

from bridgekit.contract.errors import PeerMisbehaved

MOST_LINES = 60


def one_script(data: bytes) -> None:
    """Read one script on a connection that is in a channel, and look whether the books still agree."""
    from connectors.irc.protocol.wire import parse
    from tests.connectors.irc.reading import AT, in_channel

    one = in_channel()
    for raw in data.split(b"\n")[:MOST_LINES]:
        try:
            line = parse(raw)
            if line is not None:
                for answer in one.read(line, AT).answers:
                    answer.encode()
        except PeerMisbehaved:
            pass
    assert {person: key for key, person in one.people._persons.items()} == one.people._nicks
    assert {key for channel in one.state.channels.values() for key in channel.members} == set(one.state.users)


def main() -> None:
    """Fuzz until the limits of the command line are reached."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["connectors.irc"]):
        importlib.import_module("tests.connectors.irc.reading")
    atheris.Setup(sys.argv, one_script)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
