"""Providers and people on this machine, for tests and the demo."""
