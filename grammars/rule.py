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
    for part in parts:
        if part.skipWhitespace:  # a part that rules share has been done before
            part.leave_whitespace()
    expression = pp.And(list(parts)) if len(parts) > 1 else parts[0].copy()
    return Rule(name, action, expression.leave_whitespace(recursive=False).parse_with_tabs().set_name(name))


# OpenSSH's log.c, do_log(): the prefix of a line at SYSLOG_LEVEL_ERROR or _FATAL. Levels changed between versions.
LEVEL = pp.Opt(pp.MatchFirst([pp.Literal("error: "), pp.Literal("fatal: ")])("level"))
# An address as the daemon wrote it: also a host name, or UNKNOWN. It never holds a blank.
ADDRESS = "(?P<address>[^ ]+)"
PORT = "(?P<port>[0-9]{1,5})"
# Up to 7.1 there is no port. A full stop behind the address is a collector's: without it the line is read again.
AT = rf"{ADDRESS}(?: port {PORT}|(?<!\.))"
# " [preauth]" ends a line that sshd's monitor relays for the process before authentication. Red Hat's relays what a process in a
# chroot says, too, and calls it " [postauth]".
PREAUTH = r"(?:|(?P<preauth> \[preauth\])[ .]*| \[postauth\][ .]*)\Z"
END = r"\Z"

# A line of one of our daemons that no rule reads is a side line, unless it looks as if it told of somebody who comes in, or tries
# to: then it is reported as not understood. It looks so where words of authentication and of a verdict stand together, so that a new
# wording of a login or of a failed try is noticed, and a full disk is not.
_WHO = r"auth(?!orized[a-z])[a-z]*|log ?[io]n|logged|sign(?:ed)? ?in|passw(?:or)?d|passphrase|passkey|pubkey|public ?key|credentials?|user(?:name)?|account"
_VERDICT = (
    r"accept(?:ed|s)|succe(?:ss|ssful|ssfully|eded)|grant(?:ed)?|permitted|allowed|ok|fail(?:ed|ure|s)?|den(?:ied|y)|refus(?:ed|ing)|"
    r"reject(?:ed|ing)?|invalid|illegal|incorrect|wrong|bad|unknown|nonexist[ae]nt|mismatch|lock(?:ed)?|expired|disallowed|revoked"
)
_LIKE_AUTH = (
    rf"(?i:(?=.*\b(?:{_WHO})\b).*\b(?:{_VERDICT})\b|(?:{_VERDICT}|postponed|partial) [^ ]+ for |"
    r".*\b(?:session [a-z]*(?:opened|closed|started|ended)|logged (?:in|out|on|off)|signed in|authenticated|authentication error|access (?:granted|denied))\b)"
)


def other(name: str, *parts: pp.ParserElement, end: str = END) -> Rule:
    """Return the rule for what no rule of a grammar reads and that does not look like authentication; it says something."""
    return rule(name, "notice", *parts, pp.Regex(rf"(?!{_LIKE_AUTH})(?P<reason>.+?){end}"))
