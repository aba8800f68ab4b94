"""Where an address is, and whose network it is in."""
