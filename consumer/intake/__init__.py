"""Bytes in: the only place that reads log lines."""
