"""XMPP between real servers: Synapse on one side, Prosody on the other."""
