"""Who keys, certificates and accounts belong to."""
