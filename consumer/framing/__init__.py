"""From a line of bytes, in any framing that administrators have, to a syslog record."""
