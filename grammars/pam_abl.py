"""
The rules of pam_abl: who is blocked after how many failed logins.

Source: deksai/pam_abl, rule.c, rule_test(), 0.6.0 and 0.9.0. The grammar::

    rule    = clause { blank clause }                any clause may block
    clause  = ["!"] name { "|" name } ":" trigger { "," trigger }
    name    = word ["/" word]                        user or host, and service
    word    = "*" | "[" network "]" | text           text without "/", "|", ":" and blanks
    trigger = count "/" period                       at least count tries within period
    period  = number ["s" | "m" | "h" | "d"]         a number alone is in seconds

A network in brackets, such as ``[192.0.2.0/24]`` or ``[2001:db8::1]``, is sshbell's own: pam_abl ends a word at "/" and ":". The text of
these rules is a setting and no log line, so blanks between clauses may be of any number and kind.
"""

import pyparsing as pp

_NETWORK = pp.Regex(r"\[(?P<network>[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?)\]").set_name("a network in brackets")
_TEXT = pp.Regex(r"[^\s/|:\[\]!,][^\s/|:]*").set_name("a name")
_SERVICE = pp.Regex(r"[^\s/|:]+").set_name("a service")
_NUMBER = pp.Regex("[0-9]+").set_name("a number")

NAME = pp.Group(pp.MatchFirst([_NETWORK, _TEXT("text")]) + pp.Opt(pp.Suppress("/") + _SERVICE("service"))).set_name("a name")
# originalTextFor would lose the names of the parts, so the text of a trigger is put together from them.
TRIGGER = pp.Group(
    _NUMBER("count") + pp.Suppress("/") + _NUMBER("period") + pp.Opt(pp.Regex("[smhd]").set_name("s, m, h or d")("unit"))
).set_name("a trigger, such as 10/1h")
CLAUSE = pp.Group(
    pp.Opt("!")("negated")
    + pp.Group(NAME + pp.ZeroOrMore(pp.Suppress("|") + NAME))("names")
    + pp.Suppress(pp.Literal(":").set_name("a colon before the triggers"))
    + pp.Group(TRIGGER + pp.ZeroOrMore(pp.Suppress(",") + TRIGGER))("triggers")
).set_name("a clause, such as *:10/1h")
# Blanks end a clause, so nothing within one may skip them.
CLAUSE.leave_whitespace()
_BLANK = pp.Regex(r"\s+").set_name("a blank between clauses").leave_whitespace()
RULE = (
    CLAUSE + pp.ZeroOrMore(_BLANK.suppress() + CLAUSE) + pp.Regex(r"\s*\Z").suppress().set_name("a blank or the end of the rule")
).leave_whitespace()
RULE.parse_with_tabs()
