"""The connectors that ship with bridgekit, one package for each network."""
