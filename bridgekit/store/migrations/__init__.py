"""Numbered SQL files, one for each version of the schema; `bridgekit.store.migrate` runs them."""
