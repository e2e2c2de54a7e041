"""MIMI: what providers of messengers say to one another, so that their users can talk (see README.md)."""
