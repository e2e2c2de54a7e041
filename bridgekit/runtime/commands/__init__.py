"""What people can tell the bridge to do, a family of commands in each module."""
