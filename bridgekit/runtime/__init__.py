"""Starting, stopping, retrying: the shell around the plan."""
