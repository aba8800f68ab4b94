r"""
OpenSSH's SFTP server, 6.0 to 10.5: sftp-server, and internal-sftp within sshd.

Format strings come from openssh-portable, sftp-server.c. The server runs as the user of the session, and its lines report no
logins. If it runs in a chroot, sshd's monitor writes its lines under sshd's own name, with " [postauth]" at the end.
"""

import pyparsing as pp

from grammars.rule import END, LEVEL, PREAUTH, Rule, rule

FAMILY = "sftp"
PROGRAMS = ("internal-sftp", "sftp-server")


def _text(name: str, start: str, tail: str) -> Rule:
    return rule(name, "notice", LEVEL, pp.Literal(start), pp.Regex(tail + PREAUTH))


RULES: list[Rule] = [
    # sftp_server_main() and sftp_server_cleanup_exit(): the address from SSH_CONNECTION.
    _text("sftp_opened", "session opened for local user ", r"(?P<user>.*) from \[(?P<address>[^\] ]+)\]"),
    _text("sftp_closed", "session closed for local user ", r"(?P<user>.*) from \[(?P<address>[^\] ]+)\]"),
    # process().
    _text("sftp_bad_message", "bad message from ", "(?P<address>[^ ]+) local user (?P<user>.*)"),
]

# All other lines: opened files, and the results.
OTHER = [rule("other", "notice", LEVEL, pp.Regex(f"(?P<reason>.*){END}"))]
