"""What the homeserver sends in, what it left out, and whether it is there."""
