"""Without the engine (it is built where cargo is) only the test that says so is collected."""

from importlib.util import find_spec

if find_spec("bridgekit_mls") is None or find_spec("bridgekit_mls._engine") is None:
    collect_ignore_glob = ["test_[!i]*.py", "test_interop*.py"]
