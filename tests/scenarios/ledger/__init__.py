"""The loss ledger: every message arrives once, or its sender is told; whoever pulls the plug, whenever."""
