"""The MLS engine: its face, its promises, and groups shared with implementations that nobody here wrote."""
