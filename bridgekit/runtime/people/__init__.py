"""Who is in the rooms: what they are called, what they may do there, and how they come, go and are forgotten."""
