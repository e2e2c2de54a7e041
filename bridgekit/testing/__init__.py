"""What tests and benchmarks of a bridge stand on: a fast fake homeserver, a message ledger, real servers, the connector contract suite."""
