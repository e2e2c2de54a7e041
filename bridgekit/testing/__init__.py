"""What a bridge is tested with: a fake homeserver, a message ledger, real servers, a connector contract."""
