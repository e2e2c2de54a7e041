"""The MLS clients that the bridge hosts, and what they do in rooms. The secrets of groups pass through here."""
