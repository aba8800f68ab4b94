"""Input: the only package that reads log lines."""
