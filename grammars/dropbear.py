r"""
Dropbear's server, 0.44 to 2026.94.

Format strings come from mkj/dropbear; a comment above each rule names the file. Up to 2012.55 most begin with a small letter. A
colon and the port follow each address, even IPv6 (``2001:db8::1:22``); since 2026.94 with brackets (``[2001:db8::1]:22``). The
"Exit" lines have the address in angle brackets (svr-session.c, since 2020.79).

    from  = " from " address ":" port
"""

import pyparsing as pp

from grammars.rule import END, Rule, other, rule

FAMILY = "dropbear"
PROGRAMS = ("dropbear",)

_AT = r"\[?(?P<address>[^ <>\[\]]+)\]?:(?P<port>[0-9]{1,5})"


def _start(text: str) -> pp.ParserElement:
    """Return the beginning of a message: with a capital letter, or with a small letter as in old releases."""
    return pp.MatchFirst([pp.Literal(text), pp.Literal(text[0].lower() + text[1:])])


def _text(name: str, action: str, start: str, tail: str) -> Rule:
    return rule(name, action, _start(start), pp.Regex(tail + END))


def _auth(name: str, action: str, before: str, method: str, after: str, tail: str) -> Rule:
    if before:
        return rule(name, action, _start(before), pp.Literal(method)("method"), pp.Literal(after), pp.Regex(tail + END))
    return rule(name, action, _start(method)("method"), pp.Literal(after), pp.Regex(tail + END))


def _accepted(name: str, before: str, method: str, after: str, tail: str) -> list[Rule]:
    """Return the rules for a success (svr-auth*.c). Since 2022.82 it may be the first of two methods that dropbear requires."""
    return [
        _auth(f"{name}_accepted", "accepted", before, method, after, tail),
        _auth(f"{name}_partial", "partial", before, method, after, f"{tail}, extra auth required"),
    ]


RULES: list[Rule] = [
    # svr-main.c, main_noinetd() and main_inetd().
    _text("child_connection", "connection_opened", "Child connection from ", _AT),
    # svr-authpasswd.c, svr-authpam.c, svr-authpubkey.c.
    *_accepted("password", "", "Password", " auth succeeded for '", f"(?P<user>.*)' from {_AT}"),
    *_accepted("pam", "PAM ", "password", " auth succeeded for '", f"(?P<user>.*)' from {_AT}"),
    *_accepted(
        "pubkey",
        "",
        "Pubkey",
        " auth succeeded for '",
        f"(?P<user>.*)' with (?:(?P<key_type>[^ ]+) )?key (?P<key_fingerprint>[^ ]+(?: [^ ]+)?) from {_AT}",
    ),
    *_accepted("blank", "Auth succeeded with blank ", "password", " for '", f"(?P<user>.*)' from {_AT}"),
    _auth("bad_password", "failed", "Bad ", "password", " attempt for '", f"(?P<user>.*)' from {_AT}"),
    _auth("bad_pam_password", "failed", "Bad PAM ", "password", " attempt for '", f"(?P<user>.*)' from {_AT}"),
    _auth("long_password", "failed", "Too-long ", "password", " attempt for '", f"(?P<user>.*)' from {_AT}"),
    _auth(
        "bad_signature",
        "failed",
        "",
        "Pubkey",
        " auth bad signature for '",
        f"(?P<user>.*)' with key (?P<key_fingerprint>[^ ]+(?: [^ ]+)?) from {_AT}",
    ),
    _text("unknown_algorithm", "notice", "Pubkey auth attempt with unknown algo for '", f"(?P<user>.*)' from {_AT}"),
    _text("pam_not_authenticated", "pam_failure", "Pam_authenticate() failed, ", "rc=(?P<code>-?[0-9]+), (?P<reason>.*)"),
    _text("pam_no_account", "user_denied", "Pam_acct_mgmt() failed, ", "rc=(?P<code>-?[0-9]+), (?P<reason>.*)"),
    # svr-auth.c, checkusername().
    _text(
        "nonexistent_user",
        "invalid_user",
        "Login attempt for nonexistent user",
        f"(?P<invalid>)(?: '(?P<user>.*)')?(?: from {_AT})?",
    ),
    _text("wrong_user", "user_denied", "Login attempt with wrong user ", f"(?P<user>.*) from {_AT}"),
    _text("wrong_user_old", "user_denied", "Login attempt with wrong user ", "(?P<user>.*[^ .])"),
    _text("many_names", "bad_client", "Client trying multiple usernames", f"(?: from {_AT})?"),
    _text("null_byte", "bad_client", "Attempted username with a null byte", f"(?: from {_AT})?"),
    _text("max_tries", "max_attempts", "Max auth tries reached - user '", f"(?P<user>.*)' from {_AT}"),
    _text("max_tries_old", "max_attempts", "Max auth tries reached - user '", "(?P<user>.*)'"),
    _text("root_rejected", "user_denied", "Root login rejected", ""),
    _text("account_locked", "user_denied", "User account '", "(?P<user>.*)' is locked"),
    _text("invalid_shell", "user_denied", "User '", "(?P<user>.*)' has invalid shell, rejected"),
    _text("blank_password", "user_denied", "User '", "(?P<user>.*)' has blank password, rejected"),
    _text(
        "not_in_group",
        "user_denied",
        "Logins are restricted to the group ",
        "(?P<group>[^ ]*) but user '(?P<user>.*)' is not a member",
    ),
    # svr-session.c, svr_dropbear_exit().
    _text(
        "exit_before_auth_user",
        "connection_closed",
        "Exit before auth",
        rf"(?: from <{_AT}>)?(?::? \(user ')(?P<user>.*)', (?P<failures>[0-9]+) fails\): (?P<reason>.*)",
    ),
    _text("exit_before_auth", "connection_closed", "Exit before auth", rf"(?: from <{_AT}>)?: (?P<reason>.*)"),
    _text("exit", "disconnected", "Exit (", rf"(?P<user>.*)\)(?: from <{_AT}>)?: (?P<reason>.*)"),
    # Up to 0.5x.
    _text("exit_after_auth", "disconnected", "Exit after auth (", r"(?P<user>.*)\): (?P<reason>.*)"),
    _text("premature_exit", "connection_closed", "Premature exit: ", "(?P<reason>.*)"),
    _text("early_exit", "connection_closed", "Early exit", f"(?: from <{_AT}>)?: (?P<reason>.*)"),
    # svr-chansession.c, if dropbear logs commands.
    _text("shell_started", "session_started", "User ", "(?P<user>.*) executing (?:login )?(?P<session_kind>shell)"),
    _text("command_started", "session_started", "User ", "(?P<user>.*) executing '(?P<command>.*)'"),
    # svr-main.c: the listener.
    _text("listening_failed", "notice", "Failed listening on '", "(?P<reason>.*)"),
    _text("not_backgrounding", "notice", "Not backgrounding", ""),
    _text("running_in_background", "notice", "Running in background", ""),
    # svr-authpubkey.c, checkfileperm(); svr-authpubkeyoptions.c; svr-kex.c.
    rule(
        "bad_modes",
        "notice",
        pp.Regex("(?P<file>/.*) must be owned by user or root, and not writable by (?:group or )?others" + END),
    ),
    _text("bad_key_options", "notice", "Bad public key options at ", "(?P<file>.*):(?P<line>[0-9]+)"),
    _text("plugin_loaded", "notice", "Successfully loaded and initialized pubkey plugin '", "(?P<file>.*)'"),
    # sk-ecdsa.c and sk-ed25519.c: "bad signature" follows.
    _text("token_not_used", "notice", "Rejecting, ", "(?P<reason>user-presence|user-verification) not set"),
    _text("hostkey_generated", "notice", "Generated hostkey ", "(?P<file>.*), fingerprint is (?P<key_fingerprint>.*)"),
    _text("forced_command", "notice", "Command forced to '", "(?P<command>.*)'"),
]

# All other lines.
OTHER = [other("other")]
