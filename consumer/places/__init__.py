"""The place and the network of an address."""
