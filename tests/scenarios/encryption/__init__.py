"""Encrypted rooms on a real Synapse, with clients that nobody here wrote."""
