"""Real IRC servers, and a bare line client, for tests and for the demo."""
