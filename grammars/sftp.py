r"""
OpenSSH's SFTP server, 6.0 to 10.5: sftp-server, and internal-sftp within sshd.

Format strings come from openssh-portable, sftp-server.c. It runs as the session's user, and says nothing about who comes in. In a
chroot its lines come through sshd's monitor, under its name: " [postauth]".
"""

import pyparsing as pp

from grammars.rule import END, LEVEL, PREAUTH, Rule, rule

FAMILY = "sftp"
PROGRAMS = ("internal-sftp", "sftp-server")


def _text(name: str, start: str, tail: str) -> Rule:
    return rule(name, "notice", LEVEL, pp.Literal(start), pp.Regex(tail + PREAUTH))


RULES: list[Rule] = [
    # sftp_server_main() and sftp_server_cleanup_exit(): the address that SSH_CONNECTION has.
    _text("sftp_opened", "session opened for local user ", r"(?P<user>.*) from \[(?P<address>[^\] ]+)\]"),
    _text("sftp_closed", "session closed for local user ", r"(?P<user>.*) from \[(?P<address>[^\] ]+)\]"),
    # process().
    _text("sftp_bad_message", "bad message from ", "(?P<address>[^ ]+) local user (?P<user>.*)"),
]

# What no rule reads: files that were opened, and what became of it.
OTHER = [rule("other", "notice", LEVEL, pp.Regex(f"(?P<reason>.*){END}"))]
