"""The echo connector: the smallest whole connector."""
