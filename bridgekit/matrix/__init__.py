"""The Matrix side: what the homeserver sends in, and the calls that go out."""
