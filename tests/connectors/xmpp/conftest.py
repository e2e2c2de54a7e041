"""Real servers for all tests of the connector; without slixmpp they are skipped (in CI they fail to import)."""

import os
from collections.abc import Iterator

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("slixmpp")

from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.ejabberd import ejabberd as run_ejabberd
from connectors.xmpp.testing.prosody import Prosody
from connectors.xmpp.testing.prosody import prosody as run_prosody
from tests.conftest import run_for_all_tests


@pytest.fixture(scope="session")
def prosody() -> Iterator[Prosody]:
    """An XMPP server shared by all tests: choose names of rooms and people that nobody else has."""
    yield from run_for_all_tests(run_prosody)


@pytest.fixture(scope="session")
def ejabberd() -> Iterator[Ejabberd]:
    """The other XMPP server, likewise."""
    yield from run_for_all_tests(run_ejabberd)
