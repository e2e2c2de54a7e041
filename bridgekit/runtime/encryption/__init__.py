"""Encrypted rooms as the runtime sees them: what is opened, what waits for keys, and what people are told of it."""
