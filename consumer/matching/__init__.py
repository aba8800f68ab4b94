"""Finds the grammar rule that reads a log line."""
