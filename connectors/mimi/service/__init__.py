"""What a provider does for others: rooms as their hub, key packages, consents, files; without any secret of a group."""
