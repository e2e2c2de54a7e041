"""Real servers for tests and for the demo: started on free loopback ports, stopped by their pid."""
