"""The IRC connector."""
