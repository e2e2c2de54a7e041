"""Tests of the XMPP connector."""
