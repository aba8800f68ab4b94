"""The process that rsyslog starts."""
