"""The pure parts of encryption, and one device without a homeserver."""
