"""Turns log lines into events: the lines of one connection become one story."""
