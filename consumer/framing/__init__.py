"""Turns a line of bytes, in any framing that administrators use, into a syslog record."""
