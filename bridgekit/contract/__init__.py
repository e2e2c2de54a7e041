"""The words that everybody shares, and all that a connector may import."""
