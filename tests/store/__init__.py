"""The store, against SQLite and PostgreSQL alike."""
