"""The machine around us: installation, checks, status."""
