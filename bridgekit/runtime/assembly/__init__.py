"""The parts are made here, each before those that need it at once; what comes later is looked up when it is asked."""

from __future__ import annotations

from bridgekit.runtime.assembly import asking, gates, linking, networks, speaking, traffic
from bridgekit.runtime.consequences import Consequences
from bridgekit.runtime.parts import Parts


def assemble(parts: Parts) -> None:
    """Make every part. Nothing is started, and nothing read or written."""
    consequences = Consequences(parts)
    speaking.assemble(parts, consequences)
    networks.assemble(parts, consequences)
    gates.assemble(parts, consequences)
    linking.assemble(parts)
    asking.assemble(parts, consequences)
    traffic.assemble(parts)
