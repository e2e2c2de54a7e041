"""What is said, on its way: to the worker of its room, planned, performed on each side, until its fate is told."""
