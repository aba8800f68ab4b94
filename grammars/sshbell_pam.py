r"""
sshbell's own commands in a PAM stack: ``sshbell pam challenge`` and ``sshbell pam verify``.

Source: ``consumer/codes/log_lines.py``. All texts from the network are encoded as sshd encodes them, so a line is printable ASCII::

    facts   = [reason "): "] ["session " session [" by " channel] [" after " seconds " s"] ", "] [left " left, "] service " " pid
    login   = facts ", " ["from " address " "] "for " user

The PID is that of sshd's monitor, which logs "Accepted" of the same connection.
"""

import pyparsing as pp

from grammars.rule import END, Rule, rule

# One of the programs that log a connection of sshd.
FAMILY = "sshd"
PROGRAMS = ("sshbell-pam",)

_WORD = "[^ ,()]+"
_SESSION = rf"session (?P<code_session>[0-9]+)(?: by (?P<channel>{_WORD}))?"
_AFTER = " after (?P<after_s>[0-9]+) s"
_LEFT = "(?P<codes_left>[0-9]+) left, "
_WHO = rf"(?P<service>{_WORD}) (?P<connection_pid>[0-9]+)"
_REASON = r"(?P<reason>[a-z]+(?: [a-z]+)*)\): "
_LOGIN = rf",(?: from (?P<address>{_WORD}))? for (?P<user>.*){END}"


def _line(name: str, action: str, start: str, facts: str, end: str = _LOGIN) -> Rule:
    return rule(name, action, pp.Literal(start), pp.Regex(f"(?P<code>{facts}){end}"))


RULES: list[Rule] = [
    _line("code_sent", "code_sent", "Code sent: ", f"{_SESSION}, {_WHO}"),
    _line("prompt_without_code", "code_sent", "Prompt without a code: ", f"{_SESSION}, {_WHO}"),
    _line("code_accepted", "code_accepted", "Code accepted: ", f"{_SESSION}{_AFTER}, {_WHO}"),
    _line("emergency_code_accepted", "code_accepted", "Emergency code accepted: ", f"{_LEFT}{_WHO}"),
    _line("code_refused", "code_refused", "Code refused (", f"{_REASON}(?:{_SESSION}, )?{_WHO}"),
    _line("code_not_needed", "code_not_needed", "Code not needed: ", _WHO),
    _line("let_in_without_code", "let_in_without_code", "Let in without a code: ", _WHO),
    _line("code_not_delivered", "code_not_delivered", "Code not delivered: ", f"{_WHO}, (?P<fault>.*)", END),
]

OTHER: list[Rule] = []

# The facts in a line, which is the field "code" of the rules above.
FACTS = rule(
    "facts", "code", pp.Regex(rf"(?:{_REASON})?(?:{_SESSION}(?:{_AFTER})?, )?(?:{_LEFT})?{_WHO}(?:, (?P<fault>.*))?{END}")
)
