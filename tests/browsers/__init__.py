"""Chat clients that nobody here wrote, in a real browser: what a person types there, and what the page shows."""
