"""Whether there is an engine to test."""

from importlib.util import find_spec

from bridgekit.testing.servers.process import ServerUnavailable


def test_the_engine_is_built():
    if find_spec("bridgekit_mls") is None or find_spec("bridgekit_mls._engine") is None:
        raise ServerUnavailable(
            "bridgekit-mls is not built: install cargo (Rust 1.91 or newer), then run: make mls"
        )
    import bridgekit_mls

    assert bridgekit_mls.VERSION.startswith("bridgekit-mls ")
