"""What tests of the XMPP connector need: launchers for real servers, and people who use them."""
