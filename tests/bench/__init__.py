"""What the bridge costs and how fast it is: `make bench`."""
