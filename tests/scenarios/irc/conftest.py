"""One laboratory for all scenarios of a run."""

from collections.abc import Iterator

import pytest

from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.ngircd import Ngircd
from tests.browsers.lounge import TheLounge
from tests.browsers.lounge import the_lounge as run_the_lounge
from tests.conftest import run_for_all_tests
from tests.scenarios.irc.lab import MODERN, PLAIN, Lab, laboratory


@pytest.fixture(scope="package")
def lab(ngircd: Ngircd, inspircd: Inspircd) -> Iterator[Lab]:
    """A bridge between a Synapse, a plain ngircd and a modern InspIRCd with services."""
    yield from run_for_all_tests(lambda: laboratory(ngircd, inspircd))


@pytest.fixture(params=[PLAIN, MODERN])
def network(request: pytest.FixtureRequest) -> str:
    """The scenario is played on each network."""
    return str(request.param)


@pytest.fixture(scope="session")
def the_lounge() -> Iterator[TheLounge]:
    """The Lounge's server, for as many people as like to open its page."""
    yield from run_for_all_tests(run_the_lounge)
