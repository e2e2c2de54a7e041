"""XMPP: rooms and people, as a server component or with accounts of its own."""
