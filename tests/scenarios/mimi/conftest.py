"""One laboratory for all scenarios of a run."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.conftest import run_for_all_tests
from tests.scenarios.mimi.lab import Lab, laboratory

# Without the engine nothing here can run; that it is built where cargo is, a test beside the engine's own says.
if find_spec("bridgekit_mls") is None or find_spec("bridgekit_mls._engine") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two providers, the first of which is the hub of the rooms."""
    yield from run_for_all_tests(laboratory)
