"""One laboratory for all scenarios of a run; without slixmpp they are skipped (in CI they fail to import)."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("slixmpp")

from connectors.irc.testing.ngircd import Ngircd
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.ejabberd import ejabberd as run_ejabberd
from connectors.xmpp.testing.prosody import Prosody
from connectors.xmpp.testing.prosody import prosody as run_prosody
from tests.conftest import run_for_all_tests
from tests.scenarios.xmpp.lab import Lab, laboratory
from tests.scenarios.xmpp.scene import Scene, scenery


@pytest.fixture(scope="package")
def prosody() -> Iterator[Prosody]:
    """An XMPP server of the scenarios' own: it is killed now and then."""
    yield from run_for_all_tests(run_prosody)


@pytest.fixture(scope="package")
def ejabberd() -> Iterator[Ejabberd]:
    """The other XMPP server, likewise."""
    yield from run_for_all_tests(run_ejabberd)


@pytest.fixture(scope="package")
def lab(prosody: Prosody, ejabberd: Ejabberd, ngircd: Ngircd) -> Iterator[Lab]:
    """A bridge between a Synapse, a Prosody, an ejabberd and a plain ngircd."""
    yield from run_for_all_tests(lambda: laboratory(prosody, ejabberd, ngircd))


@pytest.fixture
async def scene(lab: Lab) -> AsyncIterator[Scene]:
    async with scenery(lab) as made:
        yield made
