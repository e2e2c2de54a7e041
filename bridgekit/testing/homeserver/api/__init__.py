"""The client-server API of the fake homeserver, as far as a bridge calls it."""
