"""Tests of the shell that starts, stops and retries."""
