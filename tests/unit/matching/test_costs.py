"""No text makes a rule, or a line with annotations, cost much more than a plain one of its length."""

import time

import pytest

from consumer.matching.matcher import PAM_LIMIT, Matcher
from consumer.records import Row

MATCHER = Matcher()
OPENED = "pam_unix(sshd:session): session opened for user "
FAKE = " @[_PID=1 _UID=0 _GID=0"
#: Times as long as a plain line may take; before, these took 300 to 4,000 times.
ALLOWED = 100


def row(text: str) -> Row:
    """Return a line of sshd's."""
    return "2026-11-22T09:47:07+00:00", "web1", "sshd", "812", text, ""


def filled(start: str, fill: str, end: str = "", length: int = PAM_LIMIT - 10) -> str:
    """Return a text of some length."""
    return start + (fill * length)[: length - len(start) - len(end)] + end


def seconds(text: str) -> float:
    """Return the best CPU time for a line."""
    best = 1.0
    for _ in range(9):
        start = time.process_time()
        for _ in range(5):
            MATCHER.find(row(text))
        best = min(best, time.process_time() - start)
    return best / 5


DEAR = {
    "by": filled(OPENED, " by (uid=0)"),
    "by, without an end": filled(OPENED, " by (uid=0)", "x"),
    "uid and by": filled(OPENED, "(uid=0) by (uid=0)", "x"),
    "blanks": filled(OPENED, " ", "x"),
    "LDAP": filled("pam_ldap(sshd:auth): error trying to bind as user ", '" (', "x"),
    "winbind": filled("pam_winbind(sshd:auth): user '", "' denied access (", "x"),
    "command": filled("AuthorizedKeysCommand /", "/", "x", 498),
    "side line": filled("PAM i:auth", "i:"),
    "annotations": filled(f"{OPENED}a", f" by (uid=0){FAKE}", "]"),
    "annotations behind blanks": filled(OPENED, " " * 900 + FAKE * 30, "]"),
}


@pytest.mark.parametrize("name", DEAR)
def test_dear_lines(name: str) -> None:
    """Each was found by bench/growth.py, or by an attacker."""
    plain = seconds(filled("pam_unix(sshd:session): session closed for user ", "alice"))
    assert seconds(DEAR[name]) <= ALLOWED * plain


def test_what_is_read_stays_read() -> None:
    """Names and blanks that are there in earnest are read as before."""
    for text, user in (
        (f"{OPENED}al by x(uid=0) by (uid=0)", "al by x"),
        (f"{OPENED}alice by (uid=0)", "alice"),
        (f"{OPENED}alice(uid=1001)   ", "alice"),
        ("pam_winbind(sshd:auth): user 'al' denied access (incorrect password)", "al"),
    ):
        found = MATCHER.find(row(text))
        assert found is not None
        assert found.core()[0] == user
