"""The people that keys, certificates and accounts belong to."""
