"""The networks: the bridge's sessions there, people's accounts, and what a connector may ask."""
