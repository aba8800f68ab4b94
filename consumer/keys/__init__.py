"""The owners of keys: read on this host, or exported by other hosts."""
