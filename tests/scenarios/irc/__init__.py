"""IRC between real servers: Synapse on one side, ngircd and InspIRCd with services on the other."""
