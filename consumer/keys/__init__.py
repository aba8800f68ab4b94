"""Who has which key: read on this host, exported by others."""
