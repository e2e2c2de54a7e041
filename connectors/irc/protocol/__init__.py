"""IRC as a protocol, without IO: lines, capabilities, modes, SASL, and what one connection knows from them."""
