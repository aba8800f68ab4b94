"""What a grammar module is made of: named rules over pyparsing expressions."""

from typing import NamedTuple

import pyparsing as pp


class Rule(NamedTuple):
    """One log message: its name, what it says (``event.action``), and the expression for its whole text."""

    name: str
    action: str
    expression: pp.ParserElement


def rule(name: str, action: str, *parts: pp.ParserElement) -> Rule:
    r"""
    Join ``parts`` into a rule.

    Spaces are data in a log line, so nothing is skipped and tabs stay tabs. Every rule's last part is
    a ``pp.Regex`` that ends in ``\\Z``.
    """
    expression = pp.And(list(parts)) if len(parts) > 1 else parts[0].copy()
    return Rule(name, action, expression.leave_whitespace().parse_with_tabs().set_name(name))


# An address as the daemon wrote it: also a host name, or UNKNOWN. It never holds a blank.
ADDRESS = "(?P<address>[^ ]+)"
PORT = "(?P<port>[0-9]{1,5})"
# " [preauth]" ends a line that sshd's monitor relays for the process before authentication.
PREAUTH = r"(?P<preauth> \[preauth\])?\Z"
END = r"\Z"
