"""One laboratory for all scenarios with encrypted rooms between Synapse and IRC."""

from collections.abc import Iterator

import pytest

from connectors.irc.testing.ngircd import Ngircd
from tests.conftest import run_for_all_tests
from tests.scenarios.encryption.lab import Lab, laboratory


@pytest.fixture(scope="session")
def lab(ngircd: Ngircd) -> Iterator[Lab]:
    """A bridge process between a Synapse of its own and ngircd."""
    yield from run_for_all_tests(lambda: laboratory(ngircd))
