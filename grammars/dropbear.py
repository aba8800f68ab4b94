r"""
Dropbear's server, 0.52 to 2025.88.

Format strings come from mkj/dropbear; the file stands above each rule. An address is followed by a colon and the
port, IPv6 too (``2001:db8::1:22``), and stands in angle brackets in the "Exit" lines (svr-session.c, since 2020.79).

    from  = " from " address ":" port
"""

import pyparsing as pp

from grammars.rule import END, Rule, rule

FAMILY = "dropbear"
PROGRAMS = ("dropbear",)

_AT = r"(?P<address>[^ <>]+):(?P<port>[0-9]{1,5})"


def _text(name: str, action: str, start: str, tail: str) -> Rule:
    return rule(name, action, pp.Literal(start), pp.Regex(tail + END))


def _auth(name: str, action: str, before: str, method: str, after: str, tail: str) -> Rule:
    start = [pp.Literal(before)] if before else []
    return rule(name, action, *start, pp.Literal(method)("method"), pp.Literal(after), pp.Regex(tail + END))


RULES: list[Rule] = [
    # svr-main.c, main_noinetd().
    _text("child_connection", "connection_opened", "Child connection from ", _AT),
    # svr-authpasswd.c, svr-authpam.c, svr-authpubkey.c.
    _auth("password_accepted", "accepted", "", "Password", " auth succeeded for '", f"(?P<user>.*)' from {_AT}"),
    _auth("pam_accepted", "accepted", "PAM ", "password", " auth succeeded for '", f"(?P<user>.*)' from {_AT}"),
    _auth(
        "pubkey_accepted",
        "accepted",
        "",
        "Pubkey",
        " auth succeeded for '",
        f"(?P<user>.*)' with (?:(?P<key_type>[^ ]+) )?key (?P<key_fingerprint>[^ ]+) from {_AT}",
    ),
    _auth("blank_accepted", "accepted", "Auth succeeded with blank ", "password", " for '", f"(?P<user>.*)' from {_AT}"),
    _auth("bad_password", "failed", "Bad ", "password", " attempt for '", f"(?P<user>.*)' from {_AT}"),
    _auth("bad_pam_password", "failed", "Bad PAM ", "password", " attempt for '", f"(?P<user>.*)' from {_AT}"),
    # svr-auth.c, checkusername().
    _text(
        "nonexistent_user", "invalid_user", "Login attempt for nonexistent user", f"(?P<invalid>)(?: '(?P<user>.*)')? from {_AT}"
    ),
    _text("wrong_user", "user_denied", "Login attempt with wrong user ", f"(?P<user>.*) from {_AT}"),
    _text("max_tries", "max_attempts", "Max auth tries reached - user '", f"(?P<user>.*)' from {_AT}"),
    _text("root_rejected", "user_denied", "root login rejected", ""),
    _text("account_locked", "user_denied", "User account '", "(?P<user>.*)' is locked"),
    _text("invalid_shell", "user_denied", "User '", "(?P<user>.*)' has invalid shell, rejected"),
    # svr-session.c, svr_dropbear_exit().
    _text(
        "exit_before_auth_user",
        "connection_closed",
        "Exit before auth",
        rf"(?: from <{_AT}>)?(?::? \(user ')(?P<user>.*)', (?P<failures>[0-9]+) fails\): (?P<reason>.*)",
    ),
    _text("exit_before_auth", "connection_closed", "Exit before auth", rf"(?: from <{_AT}>)?: (?P<reason>.*)"),
    _text("exit", "disconnected", "Exit (", rf"(?P<user>.*)\)(?: from <{_AT}>)?: (?P<reason>.*)"),
    _text("early_exit", "connection_closed", "Early exit: ", "(?P<reason>.*)"),
    # svr-main.c: the listener.
    _text("listening_failed", "notice", "Failed listening on '", "(?P<reason>.*)"),
    _text("not_backgrounding", "notice", "Not backgrounding", ""),
    _text("running_in_background", "notice", "Running in background", ""),
]
