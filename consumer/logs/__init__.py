"""Reads log files."""
