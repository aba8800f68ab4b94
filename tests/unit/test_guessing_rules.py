"""``consumer.guessing_rules`` and ``grammars/pam_abl.py``: the rules of pam_abl."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import guessing_rules
from consumer.guessing_rules import USUAL_RULE, GuessingRule, Whitelist, limits_of


def triggers(rule: str, name: str, service: str = "sshd") -> list[tuple[int, int]]:
    """Return count and seconds of each trigger that applies."""
    return [(trigger.count, trigger.period_s) for trigger in GuessingRule(rule).triggers(name, service)]


@pytest.mark.parametrize(
    ("rule", "name", "found"),
    [
        ("*:10/1h,30/1d", "alice", [(10, 3600), (30, 86400)]),
        ("*:10/3600,20/1d", "alice", [(10, 3600), (20, 86400)]),  # a period without a letter ends at its last digit
        ("*:1/2s,3/4m", "alice", [(1, 2), (3, 240)]),
        ("!root:10/1h", "alice", [(10, 3600)]),
        ("!root:10/1h", "root", []),
        ("!root|admin/su:10/1h", "admin", [(10, 3600)]),
        ("!root|admin/sshd:10/1h", "admin", []),
        ("root|alice:3/1m", "alice", [(3, 60)]),
        ("root|alice:3/1m", "bob", []),
        ("*/su:3/1m", "bob", []),
        ("*/*:3/1m", "bob", [(3, 60)]),
        ("bob/sshd:3/1m", "bob", [(3, 60)]),
        ("  root:1/1m\t!root:2/1m  ", "root", [(1, 60)]),
        ("root:1/1m *:2/1m", "root", [(1, 60), (2, 60)]),
        ("ali:1/1m", "alice", []),
        ("a*:1/1m", "alice", []),  # only a star alone stands for all names
        ("[192.0.2.0/24]:1/1m", "192.0.2.7", [(1, 60)]),
        ("[192.0.2.0/24]:1/1m", "192.0.3.7", []),
        ("[192.0.2.0/24]:1/1m", "host.example.org", []),
        ("![2001:db8::/32]/sshd:1/1m", "2001:db8::1", []),
        ("[2001:db8::1]:1/1m", "2001:db8:0::1", [(1, 60)]),
        ("", "alice", []),
        (" ", "alice", []),
    ],
)
def test_rules(rule: str, name: str, found: list[tuple[int, int]]) -> None:
    """Names, "!", "|", "/service", several triggers, several clauses, and the units of pam_abl; networks in brackets."""
    assert triggers(rule, name) == found


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("10/1h", "expected a clause, such as *:10/1h at character"),
        ("*", "at character 2"),
        ("*:10", "at character 5"),
        ("*:10/", "character"),
        ("*:10/1w", "expected a blank or the end of the rule at character 7"),
        ("*:10/1h,", "expected a blank or the end of the rule at character 8"),
        ("a||b:1/1h", "character"),
        ("!!a:1/1h", "character"),
        ("*:0/1h", "the count of 0/1h is not between 1 and 1,000"),
        ("*:1001/1h", "the count of 1001/1h"),
        ("*:1/0", "the period of 1/0 is not between a second and 366 days"),
        ("*:1/367d", "the period of 1/367d"),
        (f"*:1/{'9' * 5000}", "the period of"),
        (f"*:{'9' * 5000}/1", "the count of"),
        ("[192.0.2.1/24]:1/1h", "has host bits set"),
        ("[192.0.2.0/33]:1/1h", "192.0.2.0/33"),
    ],
)
def test_no_rules(rule: str, fault: str) -> None:
    """What pam_abl would ignore without a word is an error, which shows the place."""
    with pytest.raises(ValueError, match=r".") as error:
        GuessingRule(rule)
    assert fault in str(error.value)


@given(st.text(alphabet="*!|/:,.[]0123456789smhdab \t", max_size=30))
def test_any_text(text: str) -> None:
    """Any text is a rule or an error; without services, each service has the same triggers."""
    try:
        rule = GuessingRule(text)
    except ValueError:
        return
    if not rule.has_services:
        assert rule.triggers("a", "sshd") == rule.triggers("a", "dropbear") == rule.triggers("a", "")
    assert all(trigger.count <= rule.counts and trigger.period_s <= rule.period_s for trigger in rule.triggers("a", "sshd"))


def test_whitelists() -> None:
    """Names are exact; addresses and networks of both families are compared as such."""
    allowed = Whitelist(["localhost", "192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::1"])
    for name in ("localhost", "192.0.2.200", "198.51.100.7", "2001:db8:1::2", "0:0::1", "::ffff:192.0.2.1"):
        assert allowed.has(name)
    for name in ("localhost.", "192.0.3.1", "2001:db9::1", "", "UNKNOWN", "host"):
        assert not allowed.has(name)
    with pytest.raises(ValueError, match="web/1"):
        Whitelist(["web/1"])


def test_limits() -> None:
    """LOW-HIGH; a HIGH of 0 is no limit."""
    assert (limits_of(""), limits_of("1000-1200"), limits_of("0-0"), limits_of("5-5")) == (None, (1000, 1200), None, (5, 5))
    with pytest.raises(ValueError, match="greater"):
        limits_of("6-5")


def test_the_usual_rule() -> None:
    """It is known as the grammar would read it."""
    assert guessing_rules._clauses_of(USUAL_RULE) == guessing_rules._USUAL_CLAUSES


@pytest.mark.parametrize(
    ("rule", "is_loaded"), [("", False), ('host_rule = "*:12/10m,30/1h"', False), ('user_rule = "*:9/1h"', True)]
)
def test_only_other_rules_are_read(rule: str, is_loaded: bool) -> None:  # noqa: FBT001
    """A command that reads a configuration with the usual rule, and detects guessing by it, does not import pyparsing."""
    text = f"[detect.guessing]\n{rule}\n".encode()
    code = f"""
import sys
from consumer.config_file import parse
from consumer.detect.guessing import Guessing
Guessing(parse({text!r}, "x").detect.guessing)
print("pyparsing" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == f"{is_loaded}\n"
