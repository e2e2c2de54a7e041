"""Two bridges as MIMI providers, each with a Synapse and a database of its own, that talk over mutual TLS."""
