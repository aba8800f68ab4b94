"""From what lines say to what happened: one connection becomes one story."""
