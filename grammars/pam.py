r"""
PAM modules, of any service: Linux-PAM 1.1 to 1.7 and its companions.

Format strings come from linux-pam, sssd, samba, nss-pam-ldapd and google-authenticator-libpam; a comment above each
rule names the file. pam_syslog() writes the prefix (libpam/pam_syslog.c). Names in the messages are raw bytes.

    line   = module "(" service [":" type] "): " message

Very old releases of Linux-PAM put the module into the tag, ``sshd(pam_unix)[123]: message``, and some systems write
``(pam_unix) message``. The matcher converts both to the form above: ``pam_unix(sshd): message``.
"""

import pyparsing as pp

from grammars.rule import END, Rule, other, rule

# The fields of an authentication failure, modules/pam_unix/support.c and libpam: two blanks before user=, a single one elsewhere.
# The ssh service always has an empty ruser; other services may write any text there.
_WHO = r"logname=(?P<logname>[^ ]*) uid=(?P<uid>-?[0-9]+) euid=-?[0-9]+ tty=(?P<tty>[^ ]*)"
# A name at the end of the line. Blanks after it come from a collector.
_LAST = r"(?P<user>.*[^ ]|) *"
_FIELDS = rf"{_WHO} ruser=(?P<ruser>[^ ]*) rhost=(?P<address>[^ ]*)(?: {{1,2}}user={_LAST}|(?<!\.) {{0,2}}){END}"
_FIELDS_ODD = rf"{_WHO} ruser=(?P<ruser>.*) rhost=(?P<address>[^ ]*)(?: {{1,2}}user={_LAST}|(?<!\.) {{0,2}}){END}"
# If the end of a line does not match, ``re`` tries every split between two free texts. So the pattern checks the end first.
_BY_END = rf"(?=.*\(uid=-?[0-9]+\){END})"


def _rule(name: str, action: str, module: list[pp.ParserElement], message: str, tail: str) -> Rule:
    """Return the rule for a message that follows ``module``, whose last letter is the bracket, and the service."""
    prefix = [
        *module,
        pp.Regex("[^():]*")("service"),
        pp.Opt(pp.Suppress(pp.Literal(":")) + pp.Regex("[a-z_]+")("type")),
        pp.Literal("): "),
    ]
    return rule(name, action, *prefix, *([pp.Literal(message)] if message else []), pp.Regex(tail))


def _pam(name: str, action: str, modules: str, message: str, tail: str) -> Rule:
    """Return the rule for a message of a module, or of one of several modules."""
    module = pp.MatchFirst([pp.Literal(f"{module}(") for module in modules.split("|")])
    return _rule(name, action, [module], message, tail)


def _any_pam(name: str, action: str, message: str, tail: str) -> Rule:
    """Return the rule for a message of any module."""
    return _rule(name, action, [pp.Literal("pam_"), pp.Regex("[a-z0-9_]+"), pp.Literal("(")], message, tail)


RULES: list[Rule] = [
    # modules/pam_unix/pam_unix_sess.c: 1.4.0+, then older releases. The login name is usually empty.
    _pam(
        "session_opened",
        "session_opened",
        "pam_unix",
        "session opened for user ",
        rf"{_BY_END}(?P<user>.*)\(uid=(?P<user_uid>[0-9]+|getpwnam error)\) by (?P<by_user>.*)\(uid=(?P<by_uid>-?[0-9]+)\){END}",
    ),
    _pam(
        "session_opened_old",
        "session_opened",
        "pam_unix",
        "session opened for user ",
        rf"{_BY_END}(?P<user>.*) by (?P<by_user>.*)\(uid=(?P<by_uid>-?[0-9]+)\){END}",
    ),
    # 0.7x, and some copies of it, may omit "by".
    _pam(
        "session_opened_bare",
        "session_opened",
        "pam_unix",
        "session opened for user ",
        # ``re`` tries the name letter by letter, so the pattern excludes texts that are too long for a name.
        rf"(?!.{{600}})(?P<user>.*?)(?:\(uid=(?P<user_uid>[0-9]+)\))?(?: by (?P<by_user>[^ ]*))? {{0,8}}{END}",
    ),
    _pam("session_closed", "session_closed", "pam_unix", "session closed for user ", f"{_LAST}{END}"),
    # modules/pam_unix/support.c, _unix_verify_password(): the first failure of a connection.
    _pam("auth_failure", "pam_failure", "pam_unix", "authentication failure; ", _FIELDS),
    _pam("auth_failure_odd", "pam_failure", "pam_unix", "authentication failure; ", _FIELDS_ODD),
    # Many others copy it: pam_winbind, pam_ldap, pam_unix2. pam_sss reports success in the same words.
    _any_pam("module_failure", "pam_failure", "authentication failure; ", _FIELDS),
    _any_pam("module_success", "pam_success", "authentication success; ", _FIELDS),
    # The same file: only the option "audit" adds the name.
    _pam("user_unknown", "invalid_user", "pam_unix", "check pass; user ", rf"(?P<invalid>)(?:\((?P<user>.*)\) )?unknown{END}"),
    _pam(
        "could_not_identify",
        "invalid_user",
        "pam_unix",
        "could not identify user (from ",
        rf"(?P<invalid>)[a-z]+\((?P<user>.*)\)\){END}",
    ),
    _pam("bad_username", "invalid_user", "pam_unix", "bad username [", rf"(?P<invalid>)(?P<user>.*)\]{END}"),
    # modules/pam_unix/pam_unix_acct.c.
    _pam("account_expired", "user_denied", "pam_unix", "account ", rf"(?P<user>.*) has expired \((?P<reason>[^()]*)\){END}"),
    _pam(
        "password_expired", "user_denied", "pam_unix", "expired password for user ", rf"(?P<user>.*) \((?P<reason>[^()]*)\){END}"
    ),
    _pam("password_changed", "notice", "pam_unix", "password changed for ", rf"(?P<user>.*){END}"),
    _pam("no_password", "notice", "pam_unix", "auth could not identify password for [", rf"(?P<user>.*)\]{END}"),
    _pam("conversation_failed", "notice", "pam_unix", "conversation failed", END),
    # libpam/pam_handlers / modules/pam_unix/support.c, _cleanup_failures(): PAM writes it at the end, without a module. It
    # counts failures that sshd has already logged itself.
    rule(
        "more_failures_old",
        "pam_failure",
        pp.Literal("pam_unix("),
        pp.Regex("[^():]*")("service"),
        pp.Opt(pp.Suppress(pp.Literal(":")) + pp.Regex("[a-z_]+")("type")),
        pp.Literal("): "),
        pp.Regex("[0-9]+")("more"),
        pp.Literal(" more authentication failure"),
        pp.Regex(f"s?; {_FIELDS}"),
    ),
    rule(
        "more_failures",
        "pam_failure",
        pp.Literal("PAM "),
        pp.Regex("[0-9]+")("more"),
        pp.Literal(" more authentication failure"),
        pp.Regex(f"s?; {_FIELDS}"),
    ),
    rule(
        "ignoring_max_retries",
        "notice",
        pp.Literal("PAM service("),
        pp.Regex("[^()]*")("service"),
        pp.Literal(") ignoring max retries; "),
        pp.Regex(rf"(?P<reason>[0-9]+ > [0-9]+){END}"),
    ),
    # modules/pam_faillock/pam_faillock.c.
    _pam(
        "faillock",
        "user_denied",
        "pam_faillock",
        "Consecutive login failures for user ",
        rf"(?P<user>.*) account temporarily locked{END}",
    ),
    _pam("faillock_unknown", "invalid_user", "pam_faillock", "User unknown", rf"(?P<invalid>)(?:: (?P<user>.*))?{END}"),
    # modules/pam_tally/pam_tally.c and modules/pam_tally2/pam_tally2.c: removed in Linux-PAM 1.5, but still in old logs.
    _pam(
        "tally_denied",
        "user_denied",
        "pam_tally|pam_tally2",
        "user ",
        rf"(?P<user>.*) \([0-9]+\) (?P<reason>tally [0-9]+, deny [0-9]+|has time limit .*){END}",
    ),
    _pam("tally_unknown", "invalid_user", "pam_tally|pam_tally2", "pam_get_uid; ", rf"(?P<invalid>)no such user.*{END}"),
    # sssd, src/sss_client/pam_sss.c.
    _pam(
        "sss_received", "pam_failure", "pam_sss", "received for user ", rf"(?P<user>.*): (?P<code>[0-9]+) \((?P<reason>.*)\){END}"
    ),
    _pam(
        "sss_denied",
        "user_denied",
        "pam_sss",
        "Access denied for user ",
        rf"(?P<user>.*): (?P<code>[0-9]+) \((?P<reason>.*)\){END}",
    ),
    # samba, nsswitch/pam_winbind.c; modules/pam_userdb/pam_userdb.c.
    _pam("winbind_granted", "pam_success", "pam_winbind|pam_userdb", "user ", rf"[`'](?P<user>.*)' granted access{END}"),
    _pam(
        "winbind_denied",
        "pam_failure",
        "pam_winbind|pam_userdb",
        "user ",
        rf"(?=.*(?:' denied access|\)){END})[`'](?P<user>.*)' denied access(?: \((?P<reason>.*)\))?{END}",
    ),
    _pam("userdb_unknown", "invalid_user", "pam_userdb", "user ", rf"[`'](?P<invalid>)(?P<user>.*)' does not exist{END}"),
    _pam("winbind_failed", "pam_failure", "pam_winbind", "request ", rf"(?P<reason>wbcLogonUser failed: .*){END}"),
    # nss-pam-ldapd, pam/pam.c; older pam_ldap: 'error trying to bind as user "DN" (REASON)'.
    _pam(
        "ldap_failure",
        "pam_failure",
        "pam_ldap",
        "",
        rf"(?P<reason>[Aa]uthentication failure); (?:.*[ ;])?user=(?P<user>.*){END}",
    ),
    _pam(
        "ldap_bind",
        "pam_failure",
        "pam_ldap",
        "error trying to bind as user ",
        rf'(?=.*\){END})"(?P<user>.*)" \((?P<reason>.*)\){END}',
    ),
    # Russ Allbery's pam-krb5: auth.c.
    _pam("krb5_success", "pam_success", "pam_krb5", "user ", rf"(?P<user>.*) authenticated as (?P<principal>.*){END}"),
    # Red Hat's pam_krb5, src/auth.c: its own PID instead of service and type.
    *(
        rule(
            name,
            action,
            pp.Literal("pam_krb5["),
            pp.Regex("[0-9]+"),
            pp.Literal(f"]: authentication {word} for '"),
            pp.Regex(rf"(?P<user>.*)' \((?P<principal>[^()]*)\)(?:: (?P<reason>.*))?{END}"),
        )
        for name, action, word in (("krb5_succeeds", "pam_success", "succeeds"), ("krb5_fails", "pam_failure", "fails"))
    ),
    # duo_unix, pam_duo/pam_duo.c: without the prefix of a module.
    *(
        rule(
            name,
            action,
            pp.MatchFirst([pp.Literal(word) for word in words]),
            pp.Literal(" Duo login for '"),
            pp.Regex(rf"(?P<user>[^:]*)'(?: from (?P<address>[^ ]+?))?(?:: (?P<reason>.*))?{END}"),
        )
        for name, action, words in (
            ("duo_success", "pam_success", ["Successful", "Skipped"]),
            ("duo_failure", "pam_failure", ["Failed", "Aborted", "Error in"]),
        )
    ),
    # google-authenticator-libpam, src/pam_google_authenticator.c: it has its own tag, sshd(pam_google_authenticator). It is
    # not a login yet. FreeBSD calls the module pam_google_auth.
    _pam(
        "google_authenticator_accepted",
        "pam_success",
        "pam_google_authenticator|pam_google_auth",
        "Accepted google_authenticator for ",
        rf"(?P<user>.*){END}",
    ),
    _pam(
        "google_authenticator_invalid",
        "pam_failure",
        "pam_google_authenticator|pam_google_auth",
        "Invalid verification code for ",
        rf"(?P<user>.*){END}",
    ),
    # modules/pam_access/pam_access.c: a grave accent opens the quotes, an apostrophe closes them.
    _pam(
        "access_denied", "user_denied", "pam_access", "access denied for user `", rf"(?P<user>.*)' from `(?P<address>[^ ]*)'{END}"
    ),
    # modules/pam_listfile/pam_listfile.c, pam_securetty/pam_securetty.c, pam_canonicalize_user/pam_canonicalize_user.c.
    _pam(
        "listfile_refused",
        "user_denied",
        "pam_listfile",
        "Refused user ",
        rf"(?P<user>.*) for service (?P<for_service>[^ ]*){END}",
    ),
    _pam("securetty_denied", "user_denied", "pam_securetty", "access denied: ", rf"(?P<reason>.*){END}"),
    _pam("canonicalize_unknown", "invalid_user", "pam_canonicalize_user", "user unknown", rf"(?P<invalid>){END}"),
    # google-compute-engine-oslogin, src/pam/pam_oslogin_login.cc.
    _pam(
        "oslogin_allowed", "pam_success", "pam_oslogin_login", "Organization user ", rf"(?P<user>.*) has login permission\.?{END}"
    ),
    _pam(
        "oslogin_denied",
        "user_denied",
        "pam_oslogin_login",
        "Organization user ",
        rf"(?P<user>.*) does not have login permission\.?{END}",
    ),
    # modules/pam_warn/pam_warn.c.
    _pam(
        "warn",
        "notice",
        "pam_warn",
        "function=[",
        rf"(?P<function>[a-z_]+)\] (?:flags=(?P<flags>[^ ]+) )?service=\[(?P<warned_service>[^\]]*)\] terminal=\[(?P<tty>[^\]]*)\] "
        rf"user=\[(?P<user>.*)\] ruser=\[(?P<ruser>[^\]]*)\] rhost=\[(?P<address>[^\] ]*)\]{END}",
    ),
    # modules/pam_succeed_if/pam_succeed_if.c.
    _pam(
        "requirement_not_met",
        "notice",
        "pam_succeed_if",
        'requirement "',
        rf'(?P<reason>.*)" (?:not met|was met) by user "(?P<user>.*)"{END}',
    ),
    # libpam/pam_handlers.c, _pam_load_module(): each login fails, or goes without the module.
    rule(
        "broken_module",
        "fault",
        pp.Literal("PAM "),
        pp.Regex(rf"(?P<reason>(?:adding faulty module: |unable to dlopen\().*){END}"),
    ),
    # Modules that report no logins.
    *(
        _pam(module.removeprefix("pam_"), "notice", module, "", rf"(?P<reason>.*){END}")
        for module in (
            "pam_env",
            "pam_limits",
            "pam_loginuid",
            "pam_keyinit",
            "pam_nologin",
            "pam_systemd",
            "pam_lastlog",
            "pam_motd",
            "pam_mail",
            "pam_mkhomedir",
            "pam_selinux",
            "pam_succeed_if",
            "pam_time",
            "pam_umask",
            "pam_cap",
            "pam_listfile",
            "pam_exec",
            "pam_gnome_keyring",
            "pam_kwallet5",
            "pam_oddjob_mkhomedir",
            "pam_shells",
            "pam_namespace",
        )
    ),
]

# All other lines, of any module and of the library itself (libpam/pam_syslog.c).
OTHER = [
    other(
        "other_module",
        pp.Literal("pam_"),
        pp.Regex("[a-z0-9_]+"),
        pp.Literal("("),
        pp.Regex("[^():]*")("service"),
        pp.Opt(pp.Suppress(pp.Literal(":")) + pp.Regex("[a-z_]+")("type")),
        pp.Literal("): "),
    ),
    other("other_pam", pp.Literal("PAM ")),
]
