"""End-to-end encryption of the Matrix side: Olm and Megolm by vodozemac, everything around them here."""
