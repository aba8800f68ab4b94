"""The parts of a grammar module: named rules over pyparsing expressions."""

from typing import NamedTuple

import pyparsing as pp


class Rule(NamedTuple):
    """One log message: its name, its meaning (``event.action``), and the expression for its whole text."""

    name: str
    action: str
    expression: pp.ParserElement


def rule(name: str, action: str, *parts: pp.ParserElement) -> Rule:
    r"""
    Join ``parts`` into a rule.

    Spaces are data in a log line, so rules skip nothing and keep tabs. The last part of every rule is a ``pp.Regex`` that ends
    in ``\\Z``.
    """
    for part in parts:
        if part.skipWhitespace:  # if rules share a part, an earlier call has done this
            part.leave_whitespace()
    expression = pp.And(list(parts)) if len(parts) > 1 else parts[0].copy()
    return Rule(name, action, expression.leave_whitespace(recursive=False).parse_with_tabs().set_name(name))


# OpenSSH's log.c, do_log(): the prefix of a line at SYSLOG_LEVEL_ERROR or _FATAL. Levels changed between versions.
LEVEL = pp.Opt(pp.MatchFirst([pp.Literal("error: "), pp.Literal("fatal: ")])("level"))
# An address as the daemon wrote it, which may be a host name or UNKNOWN. It never contains a blank.
ADDRESS = "(?P<address>[^ ]+)"
PORT = "(?P<port>[0-9]{1,5})"
# Up to 7.1 there is no port. A full stop after the address comes from a collector; sshbell removes it and reads the line again.
AT = rf"{ADDRESS}(?: port {PORT}|(?<!\.))"
# sshd's monitor relays the lines of the process before authentication, and ends them with " [preauth]". Red Hat's sshd also
# relays the lines of processes in a chroot, and ends them with " [postauth]".
PREAUTH = r"(?:|(?P<preauth> \[preauth\])[ .]*| \[postauth\][ .]*)\Z"
END = r"\Z"

# A line of sshd or dropbear that no rule reads is a side line. But if it looks like a login or a failed try, sshbell counts it
# as unmatched. A line looks like that if it has both a word of authentication and a word of a verdict. So sshbell notices a new
# wording for a login or a failed try, but ignores a full disk.
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
    """Return the rule for other non-empty lines of a grammar, if they do not look like authentication."""
    return rule(name, "notice", *parts, pp.Regex(rf"(?!{_LIKE_AUTH})(?P<reason>.+?){end}"))
