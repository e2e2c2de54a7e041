"""Everything that decides: pure functions of facts, capabilities and policy."""
