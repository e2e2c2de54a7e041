"""What stands in HTTP bodies and MLS components: codecs for TLS presentation language, strict both ways.

Each codec is a constant with `encode` and `decode`; `decode` takes the whole input and raises PeerMisbehaved, and
nothing else. Since there is one encoding of each value only, `encode(decode(octets)) == octets`.
"""
