r"""
OpenSSH's server, 6.0 to 10.5: sshd, sshd-session, sshd-auth; and some lines of older releases.

Format strings come from openssh-portable; a comment above each rule names the file and the function. "6.0+" means all versions
that this grammar knows.

sshd encodes user names (``user``) with vis(3). They never contain a colon, because sshd cuts them there before it looks them up
or logs them (auth2.c, input_userauth_request). So if free text follows a colon, the user part is ``[^:]*``. If the tail is fixed,
the user part is greedy and ``\Z`` anchors the tail: the last ``from ADDRESS port PORT`` comes from sshd.

    line      = ["error: " | "fatal: "] message [" [preauth]"]
    verdict   = ("Accepted" | "Failed" | "Partial" | "Postponed") SP method SP "for" SP
                ["invalid user "] user SP "from" SP address SP "port" SP port SP "ssh2" [": " method_info]
    close     = verb SP [("authenticating" | "invalid" | "") "user" SP user SP] address ["port" SP port]
"""

import pyparsing as pp

from grammars.rule import ADDRESS, AT, END, LEVEL, PORT, PREAUTH, Rule, other, rule

# The programs whose lines this grammar reads. They are one family, because one connection logs under several names.
FAMILY = "sshd"
PROGRAMS = ("sshd", "sshd-session", "sshd-auth", "sshd.pam")


def _sshd(name: str, action: str, *parts: pp.ParserElement) -> Rule:
    return rule(name, action, LEVEL, *parts)


def _text(name: str, action: str, start: str, tail: str) -> Rule:
    """Return the rule for a message that starts with fixed text and ends in one regular expression."""
    return _sshd(name, action, *([pp.Literal(start)] if start else []), pp.Regex(tail))


def _any_of(name: str, action: str, starts: list[str], tail: str) -> Rule:
    """Return the rule for a message that starts with one of several fixed texts."""
    return _sshd(name, action, pp.MatchFirst([pp.Literal(start) for start in starts]), pp.Regex(tail))


def _function(name: str, action: str, functions: list[str], tail: str) -> Rule:
    """Return the rule for a message after the name of a function (``__func__``). FreeBSD's libssh puts "Fssh_" before it."""
    names = pp.MatchFirst([pp.Literal(f"{function}: ") for function in functions])
    return _sshd(name, action, pp.Opt(pp.Literal("Fssh_")), names, pp.Regex(tail))


# "keyboard-interactive/pam": a slash separates the submethod, 6.2+. sshd writes the name from its table of methods.
_METHOD = pp.Regex("[^ ]+")("method")
# "illegal" up to 4.0.
_NOBODY = pp.MatchFirst([pp.Literal("invalid user "), pp.Literal("illegal user ")])
_INVALID = pp.Opt(_NOBODY("invalid"))
_INVALID_USER = "(?:(?:invalid|illegal) user (?P<invalid>))?"
# auth.c on Solaris omits the name.
_NO_NAME = "<(?:invalid|illegal) username>"
# A line that the 500-byte limit has cut within a user name, or after it. A short name with a blank or a full stop at its end is
# complete: a collector added these.
_CUT = rf"(?P<user_cut>.*(?:[^ .]|(?<=.{{200}}))){END}"
_FROM = f" from {AT}(?: ssh[12])?"


def _verdict(name: str, result: str, invalid: list[pp.ParserElement], info: str, user: str = "[^:]*") -> Rule:
    tail = f"(?P<user>{user}) from {AT}(?: ssh[12](?:: (?P<method_info>{info}))?)?{PREAUTH}"
    start = [pp.Literal(result), _METHOD, pp.Literal(" for ")]
    return _sshd(name, name, *start, *invalid, pp.Regex(tail))


def _closed(name: str, action: str, start: str, tail: str = PREAUTH) -> list[Rule]:
    """
    Return the rules for the messages with "USER ADDRESS port PORT": packet.c, sshpkt_fmt_connection_id(), 7.5+.

    Up to 7.4 there is no user part; up to 7.1 no port.
    """
    at = f"{ADDRESS} port {PORT}{tail}"
    nobody = [pp.Literal(start), _NOBODY]
    return [
        _sshd(f"{name}_invalid_user", action, *nobody, pp.Regex(f"(?P<user>.*) (?P<invalid>){at}")),
        _text(f"{name}_authenticating_user", action, f"{start}authenticating user ", f"(?P<user>.*) {at}"),
        _text(f"{name}_user", action, f"{start}user ", f"(?P<user>.*) {at}"),
        # The 500-byte limit can cut off the address. The rest is the user name, or a part of it.
        _sshd(f"{name}_invalid_user_cut", action, *nobody, pp.Regex(f"(?P<invalid>){_CUT}")),
        _text(f"{name}_authenticating_user_cut", action, f"{start}authenticating user ", _CUT),
        _text(name, action, start, f"{AT}{tail}"),
    ]


def _disconnecting(action: str, suffix: str, reason: str) -> list[Rule]:
    """
    Return the rules for "Disconnecting %s: %s", 7.5+, and "Disconnecting: %s", 6.0+.

    They come from packet.c, sshpkt_vfatal() and ssh_packet_disconnect().
    """
    start, tail = "Disconnecting ", f"{ADDRESS} port {PORT}: (?P<reason>{reason}){PREAUTH}"
    kinds = [("invalid user ", "(?P<invalid>)(?P<user>[^:]*) "), ("authenticating user ", "(?P<user>[^:]*) "), ("", "")]
    rules = [_text(f"disconnecting_{kind.replace(' ', '_')}{suffix}", action, start + kind, user + tail) for kind, user in kinds]
    if reason == ".*?":
        # The 500-byte limit has cut the address off.
        rules.append(_text("disconnecting_invalid_user_cut", action, start + "invalid user ", f"(?P<invalid>){_CUT}"))
        rules.append(_text("disconnecting_authenticating_user_cut", action, start + "authenticating user ", _CUT))
    return [*rules, _text(f"disconnecting_old_{suffix}", action, "Disconnecting: ", f"(?P<reason>{reason}){PREAUTH}")]


_WRITERS = ["packet_write_wait", "packet_write_poll", "ssh_packet_write_wait", "ssh_packet_write_poll"]

RULES: list[Rule] = [
    # auth.c, auth_log(): "%s %s%s%s for %s%.100s from %.200s port %d ssh2%s%s", 6.2+; 6.0/6.1 without submethod.
    # Before 3.9, the Failed line has no " ssh2". On some systems it has no port.
    _verdict("failed", "Failed ", [_INVALID], ".*?", f"(?!{_NO_NAME} )[^:]*"),
    _sshd(
        "failed_invalid_username",
        "failed",
        pp.Literal("Failed "),
        _METHOD,
        pp.Literal(" for "),
        pp.Regex(f"{_NO_NAME}(?P<invalid>){_FROM}{PREAUTH}"),
    ),
    _verdict("accepted", "Accepted ", [], ".*"),
    _verdict("partial", "Partial ", [_INVALID], ".*?"),
    _verdict("postponed", "Postponed ", [_INVALID], ".*?"),
    # auth.c, getpwnamallow(): "Invalid user %.100s from %.100s port %d", without the port up to 7.2.
    _text("invalid_user", "invalid_user", "Invalid user ", f"(?P<invalid>)(?P<user>.*) from {AT}{PREAUTH}"),
    _text("illegal_user", "invalid_user", "Illegal user ", f"(?P<invalid>)(?P<user>.*) from {AT}{PREAUTH}"),
    # packet.c / sshd.c / serverloop.c: the ends of a connection.
    _text(
        "received_disconnect",
        "received_disconnect",
        "Received disconnect from ",
        # Some clients send no text, and collectors remove the blank that remains.
        rf"{ADDRESS} port {PORT}:(?P<disconnect_code>[0-9]+):(?:(?=\Z| \[p[a-z]+\]\Z)| (?P<reason>.*?)){PREAUTH}",
    ),
    # packet.c, ssh_packet_read_poll2(), up to 7.1: "Received disconnect from %s: %u: %.400s". The first colon
    # with a blank after it ends an IPv6 address. Protocol 1 has no code.
    _text(
        "received_disconnect_old",
        "received_disconnect",
        "Received disconnect from ",
        rf"{ADDRESS}: ?(?P<disconnect_code>[0-9]+):(?: (?P<reason>.*?))??{PREAUTH}",
    ),
    _text(
        "received_disconnect_1",
        "received_disconnect",
        "Received disconnect from ",
        rf"{AT}: (?P<reason>.*?){PREAUTH}",
    ),
    *_closed("connection_closed", "connection_closed", "Connection closed by "),
    *_closed("connection_reset", "connection_closed", "Connection reset by "),
    *_closed("disconnected", "disconnected", "Disconnected from "),
    # sshd.c, main() / sshd-session.c: VERBOSE. 6.4 and older without " on ...", 7.1 and older without rdomain.
    _text(
        "connection_opened",
        "connection_opened",
        "Connection from ",
        rf'{AT}(?: on (?P<local_address>[^ ]+) port (?P<local_port>[0-9]{{1,5}})(?: rdomain "(?P<rdomain>.*)")?)?{PREAUTH}',
    ),
    *_closed("connection_timed_out", "timeout", "Connection from ", r" timed out" + PREAUTH),
    # auth.c, auth_maxtries_exceeded(), only 6.7. Up to 6.6 a user name may look like this: see messages.py.
    _text(
        "disconnecting_from_max_attempts",
        "max_attempts",
        "Disconnecting: ",
        f"(?P<reason>Too many authentication failures) for {_INVALID_USER}(?P<user>.*) from {ADDRESS} port {PORT} ssh[12]{PREAUTH}",
    ),
    *_disconnecting("max_attempts", "max_attempts", "Too many authentication failures(?: for (?P<user_old>.*?))?"),
    *_disconnecting(
        "protocol_error", "protocol_error", "(?:[Bb]ad client|[Pp]acket corrupt|Corrupted|[Pp]rotocol error|Bad packet).*?"
    ),
    *_disconnecting("disconnected", "other", ".*?"),
    # auth2-pubkeyfile.c / auth2-pubkey.c, VERBOSE: sshd found a key, which is not a login yet. 7.7+; up to 6.2 "Found matching".
    _text(
        "accepted_key",
        "key_found",
        "Accepted key ",
        rf"(?P<key_type>[^ ]+) (?P<key_fingerprint>[^ ]+) found at (?P<file>.*):(?P<line>[0-9]+){PREAUTH}",
    ),
    _text("found_matching_key", "key_found", "Found matching ", rf"(?P<key_type>[^ ]+) key: (?P<key_fingerprint>[^ ]+){PREAUTH}"),
    # 7.2+ with the serial. 7.7+ with "CA" first, for a CA in authorized_keys.
    _text(
        "accepted_certificate",
        "key_found",
        'Accepted certificate ID "',
        rf'(?P<certificate_id>.*)"(?: \(serial (?P<certificate_serial>[0-9]+)\))? signed by (?:(?P<ca_key_type>[^ ]+) CA|CA [^ ]+) (?P<ca_fingerprint>[^ ]+) (?:via|found at|from) (?P<file>.*?){PREAUTH}',
    ),
    # auth2-hostbased.c, hostbased_key_allowed(), VERBOSE.
    _text(
        "accepted_host_key",
        "key_found",
        "Accepted ",
        rf"(?P<key_type>[^ ]+) public key (?P<key_fingerprint>[^ ]+) from (?P<client_user>.*)@(?P<client_host>[^ ]+){PREAUTH}",
    ),
    # auth-krb5.c / gss-serv-krb5.c, ssh_gssapi_krb5_userok().
    _text(
        "authorized_principal",
        "key_found",
        "Authorized to ",
        rf"(?P<user>.*), krb5 principal (?P<principal>.*) \((?P<reason>[^()]*)\){PREAUTH}",
    ),
    # auth2-pubkey.c, 10.x: Refusing certificate ID "%s" serial=%llu signed by %s CA %s: %s; older: only the reason.
    _text(
        "certificate_refused",
        "user_denied",
        'Refusing certificate ID "',
        rf'(?P<certificate_id>.*)" serial=(?P<certificate_serial>[0-9]+) signed by (?P<ca_key_type>[^ ]+) CA (?P<ca_fingerprint>[^ ]+?):? (?P<reason>.*?){PREAUTH}',
    ),
    _text("certificate_invalid", "user_denied", "Certificate invalid: ", rf"(?P<reason>.*?){PREAUTH}"),
    # auth2.c up to 7.4: the user is unknown; same PID as "Invalid user".
    _sshd(
        "input_userauth_request",
        "invalid_user",
        pp.Literal("input_userauth_request: "),
        _NOBODY,
        pp.Regex(rf"(?P<invalid>)(?P<user>.*?){PREAUTH}"),
    ),
    # session.c, session_begin(): VERBOSE, 6.5+; " id %d" 7.2+.
    _sshd(
        "starting_session",
        "session_started",
        pp.Literal("Starting session: "),
        pp.Regex(
            rf"(?P<session_kind>shell|command|subsystem|forced-command)(?: \((?P<forced_by>[a-z-]+)\))?(?: '(?P<command>.*)')?(?: on (?P<tty>[^ ]+))?"
            rf" for (?P<user>.*) from {ADDRESS} port {PORT}(?: id (?P<session_id>[0-9]+))?{PREAUTH}"
        ),
    ),
    # session.c, session_close_by_channel(): VERBOSE, 7.2+.
    _text(
        "close_session",
        "channel_closed",
        "Close session: user ",
        rf"(?P<user>.*) from {ADDRESS} port {PORT} id (?P<session_id>[0-9]+){PREAUTH}",
    ),
    # sshd-session.c, privsep_postauth(): VERBOSE.
    _text("user_child", "child_started", "User child is on pid ", rf"(?P<child_pid>[0-9]+){PREAUTH}"),
    _text(
        "transferred",
        "notice",
        "Transferred: sent ",
        rf"(?P<bytes_sent>[0-9]+), received (?P<bytes_received>[0-9]+) bytes{PREAUTH}",
    ),
    _text("closing_connection", "notice", "Closing connection to ", rf"{AT}{PREAUTH}"),
    # packet.c / clientloop: "Read error from remote host %.100s port %d: %.100s"; 7.1 and older without the port.
    _text("read_error", "disconnected", "Read error from remote host ", rf"{ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}"),
    _text("read_error_old", "disconnected", "Read error from remote host ", rf"{ADDRESS}: (?P<reason>.*?){PREAUTH}"),
    # serverloop.c, client_alive_check(): since 7.x with " from user ...".
    _text(
        "client_not_responding",
        "timeout",
        "Timeout, client not responding",
        rf"(?: from (?:user (?P<user>.*) )?{ADDRESS} port {PORT})?\.?{PREAUTH}",
    ),
    # serverloop.c, 9.2+, UnusedConnectionTimeout.
    _text(
        "inactive_connection",
        "timeout",
        "terminating inactive connection",
        rf"(?: from (?:user (?P<user>.*) )?{ADDRESS} port {PORT})?{PREAUTH}",
    ),
    # auth.c, allowed_user().
    _text(
        "user_not_allowed",
        "user_denied",
        "User ",
        rf"(?P<user>.*) from {AT} not allowed because (?P<reason>.*?)\.?{PREAUTH}",
    ),
    _text(
        "user_not_allowed_locally",
        "user_denied",
        "User ",
        rf"(?P<user>.*) not allowed because (?P<reason>.*?)\.?{PREAUTH}",
    ),
    # auth.c, auth_root_allowed(): 7.2 and older without the port.
    _text("root_login_refused", "user_denied", "ROOT LOGIN REFUSED FROM ", rf"{AT}{PREAUTH}"),
    _text("root_forced_command", "notice", "Root login accepted for forced command.", PREAUTH),
    # auth.c, auth_maxtries_exceeded(): 6.8+.
    _text(
        "max_attempts",
        "max_attempts",
        "maximum authentication attempts exceeded for ",
        rf"{_INVALID_USER}(?P<user>.*){_FROM}{PREAUTH}",
    ),
    _text(
        "max_attempts_cut",
        "max_attempts",
        "maximum authentication attempts exceeded for ",
        f"{_INVALID_USER}{_CUT}",
    ),
    # auth-pam.c, sshpam_auth_passwd() and input of the keyboard-interactive device: "PAM: %s for %s%.100s from %.100s".
    # One PAM text contains " for " itself. Apple adds "via".
    _text(
        "pam_error",
        "pam_failure",
        "PAM: ",
        rf"(?P<reason>Have exhausted maximum number of retries for service|.*?) for {_INVALID_USER}(?P<user>.*) from {AT}(?: via (?P<local_address>[^ ]+))? ?{PREAUTH}",
    ),
    # auth-pam.c / monitor.c: the account stack denied access, after a correct password or key.
    _text("pam_account_denied", "user_denied", "Access denied for user ", rf"(?P<user>.*) by PAM account configuration{PREAUTH}"),
    # auth1.c and auth2.c, without PAM.
    _text("access_denied", "user_denied", "Access denied for user ", rf"(?P<user>.*?)\.?{PREAUTH}"),
    # auth-pam.c, do_pam_chauthtok().
    _text("pam_password_expired", "user_denied", "Password expired", rf"(?: \((?P<reason>.*)\))?{PREAUTH}"),
    # auth-shadow.c, auth_shadow_acctexpired() and auth_shadow_pwexpired().
    _text("account_expired", "user_denied", "Account ", rf"(?P<user>.*) has expired{PREAUTH}"),
    _text(
        "password_expired",
        "user_denied",
        "User ",
        rf"(?P<user>.*) password has expired \((?P<reason>root forced|password aged)\){PREAUTH}",
    ),
    _text("no_shadow", "notice", "Could not get shadow information for ", rf"(?P<user>.*?){PREAUTH}"),
    # auth.c, auth_secure_path() callers; auth2-pubkey.c.
    _text("bad_modes", "user_denied", "Authentication refused: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text(
        "wrong_host_for_key",
        "user_denied",
        "",
        rf"(?P<file>/[^ ]*):(?P<line>[0-9]+): Authentication tried for (?P<user>.*?) with correct key but not from a permitted host \(host=(?P<host>[^ ]*), ip=(?P<address>[^ ,)]+)(?:, required=(?P<required>.*))?\)\.?{PREAUTH}",
    ),
    _text(
        "wrong_host_for_key_old",
        "user_denied",
        "Authentication tried for ",
        rf"(?P<user>.*?) with correct key but not from a permitted host \(host=(?P<host>[^ ]*), ip=(?P<address>[^ ,)]+)(?:, required=(?P<required>.*))?\)\.?{PREAUTH}",
    ),
    # auth2-pubkeyfile.c, auth_authorise_keyopts(), 8.9+; auth2-pubkey.c; auth-options.c, parse_option_list(), up to 6.x.
    *(
        _text(
            f"wrong_source_for_certificate{old}",
            "user_denied",
            start,
            rf"{place}(?P<user>.*) with valid certificate but not from a permitted (?:source address|host) \((?:ip=)?(?P<address>[^ ()]+)\)\.?{PREAUTH}",
        )
        for old, start, place in (
            ("", "", "(?P<file>/[^ ]*):(?P<line>[0-9]+): Authentication tried for "),
            ("_old", "Authentication tried for ", ""),
        )
    ),
    _text("refused_by_key_options", "user_denied", "Refused by key options", rf"(?: at (?P<file>.*):(?P<line>[0-9]+))?{PREAUTH}"),
    _text(
        "key_revoked",
        "user_denied",
        "Authentication key ",
        rf"(?P<key_type>[^ ]+) (?P<key_fingerprint>[^ ]+) revoked by file (?P<file>.*?){PREAUTH}",
    ),
    # auth.c, auth_key_is_revoked(): sshd cannot read the list of revoked keys, so it accepts no key.
    _text(
        "key_not_checked",
        "user_denied",
        "Error checking authentication key ",
        rf"(?P<key_type>[^ ]+) (?P<key_fingerprint>[^ ]+) in revoked keys file (?P<reason>.*?){PREAUTH}",
    ),
    _any_of(
        "revoked_keys_unreadable",
        "user_denied",
        [
            "Revoked keys file is unreadable: ",
            "Revoked keys file not accessible - ",
            "Revoked keys file not readable - ",
            "Invalid KRL, ",
        ],
        rf"(?P<reason>refusing .*?){PREAUTH}",
    ),
    _text(
        "revoked_key_used",
        "user_denied",
        "WARNING: authentication attempt with a revoked ",
        rf"(?P<key_type>[^ ]+) key (?P<key_fingerprint>[^ ]+) ?{PREAUTH}",
    ),
    # auth2-pubkey.c, userauth_pubkey(), 8.4+: nobody touched the security key.
    _text(
        "signature_refused",
        "user_denied",
        "public key ",
        rf"(?P<key_type>[^ ]+)(?: (?P<key_fingerprint>[^ ]+))? signature for {_INVALID_USER}(?P<user>[^:]*) from {ADDRESS} port {PORT} rejected: (?P<reason>.*?) ?{PREAUTH}",
    ),
    # auth-rhosts.c and auth.c, check_key_in_hostfiles().
    _any_of(
        "refused_for_modes",
        "user_denied",
        ["Rhosts authentication refused for ", "Authentication refused for "],
        rf"(?P<user>[^:]*): (?P<reason>.*?){PREAUTH}",
    ),
    # openbsd-compat/port-aix.c, sys_auth_allowed_user().
    _text("login_restricted", "user_denied", "Login restricted for ", rf"(?P<user>[^:]*): (?P<reason>.*?){PREAUTH}"),
    # auth.c, getpwnamallow() on Cygwin: the case of the name differs.
    _text(
        "name_differs",
        "user_denied",
        "Login name ",
        rf"(?P<user>.*) does not match stored username (?P<stored>.*?){PREAUTH}",
    ),
    # auth-pam.c, check_pam_user(), 10.x: a module has changed the name. Up to 9.x the connection continues.
    _text("pam_user_changed", "user_denied", "PAM user mismatch", PREAUTH),
    _function("pam_user_differs", "user_denied", ["check_pam_user"], rf"(?P<reason>PAM user .*?){PREAUTH}"),
    # auth-pam.c of 3.x and 4.x.
    _text(
        "pam_rejected", "user_denied", "PAM rejected by account configuration", rf"\[(?P<code>[0-9]+)\]: (?P<reason>.*?){PREAUTH}"
    ),
    _text(
        "pam_password_failed",
        "pam_failure",
        "PAM password authentication failed for ",
        rf"{_INVALID_USER}(?P<user>[^:]*): (?P<reason>.*?){PREAUTH}",
    ),
    _text("revoked_key_tried", "user_denied", "WARNING: revoked key for ", rf"(?P<user>.*) attempted authentication\.?{PREAUTH}"),
    # auth2.c, 8.5+: "Username too long from %s port %d".
    _text("username_too_long", "protocol_error", "Username too long from ", rf"{ADDRESS} port {PORT}{PREAUTH}"),
    # auth2.c, 9.9+, RefuseConnection.
    _text(
        "connection_prohibited",
        "user_denied",
        "administratively prohibited connection for ",
        rf"{_INVALID_USER}(?P<user>.*) from {ADDRESS} port {PORT}{PREAUTH}",
    ),
    # libwrap, hosts_access(3), refuse(): an sshd with TCP wrappers.
    _text(
        "refused_connect",
        "connection_dropped",
        "refused connect from ",
        rf"(?P<domain>.*) \((?P<address>[^ ()]+)\){PREAUTH}",
    ),
    _text("refused_connect_unresolved", "connection_dropped", "refused connect from ", f"{ADDRESS}{PREAUTH}"),
    # sshd.c, drop_connection() and should_drop_connection(): at VERBOSE from 7.4, occasionally at INFO from 8.4.
    _text(
        "drop_connection",
        "connection_dropped",
        "drop connection #",
        rf"(?P<connection_number>-?[0-9]+) from \[(?P<address>[^\] ]+)\]:{PORT} on \[(?P<local_address>[^\] ]+)\]:(?P<local_port>[0-9]{{1,5}}) (?P<reason>.*?){PREAUTH}",
    ),
    _text("throttling_begins", "throttling", "beginning MaxStartups throttling", PREAUTH),
    _text(
        "throttling_goes_on",
        "throttling",
        "in MaxStartups throttling for ",
        rf"(?P<duration>[^ ,]+), (?P<dropped>[0-9]+) connections dropped{PREAUTH}",
    ),
    _text(
        "throttling_ends",
        "throttling",
        "exited MaxStartups throttling after ",
        rf"(?P<duration>[^ ,]+), (?P<dropped>[0-9]+) connections dropped{PREAUTH}",
    ),
    _text(
        "throttling_rate_limited",
        "throttling",
        "Maxstartups logging rate-limited: additional ",
        rf"(?P<dropped>[0-9]+) connections dropped{PREAUTH}",
    ),
    # srclimit.c, srclimit_penalise(): 9.8+. The address is a network.
    _text(
        "penalty",
        "penalty",
        "srclimit_penalise: ",
        rf"(?P<reason>(?:ipv[46]: [a-z]+ (?P<address>[0-9A-Fa-f:.]+)/[0-9]+ )?.*?){PREAUTH}",
    ),
    # sshd.c, grace_alarm_handler() up to 9.7 (with the port from 7.3), and the form of the listener, 9.8+.
    _text(
        "grace_timeout_listener",
        "timeout",
        "Timeout before authentication for connection from ",
        rf"{AT} to (?P<local_address>[^ ,]+)(?: port [0-9]+)?, pid = (?P<connection_pid>[0-9]+){PREAUTH}",
    ),
    _text("grace_timeout", "timeout", "Timeout before authentication for ", rf"{AT}\.?{PREAUTH}"),
    # sshd.c, child_reap(), 9.8+.
    _text(
        "session_crash",
        "child_crashed",
        "Session process ",
        rf"(?P<connection_pid>[0-9]+) (?P<reason>unpriv child crash|.*?) for (?:connection from )?{ADDRESS}(?: to (?P<local_address>[^ ]+))?{PREAUTH}",
    ),
    _text(
        "session_killed",
        "child_crashed",
        "session process ",
        rf"(?P<connection_pid>[0-9]+) for connection from {ADDRESS} to (?P<local_address>[^ ]+) (?P<reason>.*?){PREAUTH}",
    ),
    # kex.c, kex_exchange_identification(), 8.0+. In 7.x it has the name from sshconnect.c, ssh_exchange_identification.
    _function("bad_banner", "bad_client", ["kex_exchange_identification"], rf"(?P<reason>.*?){PREAUTH}"),
    _function("bad_banner_old", "bad_client", ["ssh_exchange_identification"], rf"(?P<reason>.*?){PREAUTH}"),
    # sshd-session.c, main(), 8.0+: "banner exchange" + sshpkt_fmt_connection_id().
    _text(
        "banner_exchange", "bad_client", "banner exchange: Connection from ", rf"{ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}"
    ),
    # sshd.c, sshd_exchange_identification(), up to 7.9; then kex.c.
    _text("no_identification", "bad_client", "Did not receive identification string from ", rf"{AT}{PREAUTH}"),
    _text(
        "bad_version",
        "bad_client",
        "Bad protocol version identification '",
        rf"(?P<reason>.*)' from {AT}{PREAUTH}",
    ),
    _text("bad_remote_version", "bad_client", "Bad remote protocol version identification: '", rf"(?P<reason>.*)'{PREAUTH}"),
    _text("versions_differ", "bad_client", "Protocol major versions differ: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text(
        "versions_differ_old",
        "bad_client",
        "Protocol major versions differ for ",
        rf"{AT}: (?P<reason>.*?){PREAUTH}",
    ),
    # sshd.c, sshd_exchange_identification(): clients that identify themselves as scanners.
    _text("probed", "bad_client", "probed from ", rf"{AT} with (?P<reason>.*)\. {{1,2}}Don't panic\.{PREAUTH}"),
    _text(
        "scanned",
        "bad_client",
        "scanned from ",
        rf"{AT} with (?P<reason>.*)\. {{1,2}}Don't panic\.{PREAUTH}",
    ),
    _text("ident_not_written", "bad_client", "Could not write ident string to ", rf"{AT}{PREAUTH}"),
    _text("banner_timeout", "timeout", "Connection timed out during banner exchange", PREAUTH),
    # packet.c, sshpkt_vfatal(): 6.7 to 6.9 without the port; kex.c.
    _text(
        "negotiation_failed",
        "negotiation_failed",
        "Unable to negotiate with ",
        rf"{ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _text("negotiation_failed_old", "negotiation_failed", "Unable to negotiate with ", rf"{ADDRESS}: (?P<reason>.*?){PREAUTH}"),
    _text("no_common_method", "negotiation_failed", "Unable to negotiate a ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("no_matching", "negotiation_failed", "no matching ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("no_hostkey_alg", "negotiation_failed", "no hostkey alg", PREAUTH),
    _text("no_kex_alg", "negotiation_failed", "no kex alg", PREAUTH),
    # packet.c: only broken or hostile clients cause these.
    _text("bad_packet_length", "protocol_error", "Bad packet length ", rf"(?P<reason>[0-9]+)\.?{PREAUTH}"),
    _text("corrupted_mac", "protocol_error", "Corrupted MAC on input", rf"\.?{PREAUTH}"),
    _text("corrupted_check", "protocol_error", "Corrupted check bytes on input", rf"\.?{PREAUTH}"),
    _text("padding_error", "protocol_error", "padding error: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("discarding", "protocol_error", "Finished discarding for ", rf"{AT}{PREAUTH}"),
    _function(
        "dispatch_fatal_invalid_user",
        "protocol_error",
        ["ssh_dispatch_run_fatal"],
        rf"Connection from invalid user (?P<invalid>)(?P<user>[^:]*) {ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _function(
        "dispatch_fatal_user",
        "protocol_error",
        ["ssh_dispatch_run_fatal"],
        rf"Connection from (?:authenticating )?user (?P<user>[^:]*) {ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _function(
        "dispatch_fatal",
        "protocol_error",
        ["ssh_dispatch_run_fatal"],
        rf"Connection from {ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    # dispatch.c and kex.c: an unexpected message. 7.x "kex protocol error: ", 6.x "Hm, kex protocol error: ".
    _function(
        "dispatch_protocol_error",
        "protocol_error",
        ["dispatch_protocol_error", "dispatch_protocol_ignore"],
        rf"(?P<reason>.*?){PREAUTH}",
    ),
    _any_of(
        "kex_protocol_error",
        "protocol_error",
        ["kex_protocol_error: ", "Fssh_kex_protocol_error: ", "kex protocol error: ", "Hm, kex protocol error: "],
        rf"(?P<reason>.*?){PREAUTH}",
    ),
    # kex.c, packet.c, auth1.c, session.c: more unexpected messages. dh.c: an invalid public value from the client.
    _any_of(
        "unexpected",
        "protocol_error",
        [
            "invalid public DH value",
            "non-transport message",
            "SSH2_MSG_EXT_INFO",
            "too many SSH2_MSG_EXT_INFO messages",
            "RekeyLimit exceeded before authentication completed",
            "Invalid ssh1 packet type",
            "Unknown packet type received after authentication",
            "Unknown message during authentication",
            "protocol error",
        ],
        rf":? ?(?P<reason>.*?){PREAUTH}",
    ),
    # sshkey.c, key.c, kex.c, kexgen.c, packet.c, buffer.c: sshd cannot read a packet.
    _function(
        "malformed",
        "protocol_error",
        [
            "key_from_blob",
            "sshkey_from_blob",
            "kex_input_kexinit",
            "kex_input_ext_info",
            "kex_input_newkeys",
            "input_kex_dh_init",
            "input_kex_gen_init",
            "input_kex_dh_gex_request",
            "input_kex_dh_gex_init",
            "kexecdh_server",
            "ssh_packet_read_poll2",
        ],
        rf"(?P<reason>.*?){PREAUTH}",
    ),
    _text("malformed_buffer", "protocol_error", "buffer_get", rf"[a-z0-9_]*: (?P<reason>.*?){PREAUTH}"),
    # packet.c, sshpkt_fatal() after a failed write: the connection is lost.
    _function(
        "packet_not_written_user",
        "connection_closed",
        _WRITERS,
        rf"Connection from (?:(?:authenticating|(?P<invalid>)invalid) )?user (?P<user>[^:]*) {ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _function(
        "packet_not_written",
        "connection_closed",
        _WRITERS,
        rf"Connection (?:from|to) {AT}: (?P<reason>.*?){PREAUTH}",
    ),
    # packet.c, packet_read_seqnr() and packet_write_wait(), up to 6.6.
    _text(
        "packet_timed_out",
        "timeout",
        "Connection to ",
        rf"{AT} timed out while waiting to (?P<reason>read|write){PREAUTH}",
    ),
    # sshd.c and canohost.c: source routing.
    _text(
        "ip_options",
        "protocol_error",
        "Connection from ",
        rf"{AT} with IP opt(?:ion)?s: ?(?P<reason>.*?){PREAUTH}",
    ),
    _text("read_from_socket_failed", "connection_closed", "Read from socket failed: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("write_failed", "connection_closed", "Write failed: ", rf"(?P<reason>.*?){PREAUTH}"),
    # canohost.c, remote_hostname() / auth.c, remote_hostname(): UseDNS yes. Up to 7.2 it ends in " - POSSIBLE BREAK-IN ATTEMPT!".
    _text(
        "reverse_mapping_failed",
        "dns_warning",
        "reverse mapping checking getaddrinfo for ",
        rf"(?P<domain>.*) \[(?P<address>[^\] ]+)\] failed(?: - POSSIBLE BREAK-?IN ATTEMPT!?|\.)?{PREAUTH}",
    ),
    _text(
        "address_maps_elsewhere",
        "dns_warning",
        "Address ",
        rf"{AT} maps to (?P<domain>.*), but this does not map back to the address(?: - POSSIBLE BREAK-?IN ATTEMPT!?|\.)?{PREAUTH}",
    ),
    # canohost.c, get_remote_hostname(), up to 4.x.
    _text(
        "reverse_mapping_failed_old",
        "dns_warning",
        "reverse mapping checking get",
        rf"[a-z]+ for (?P<domain>[^ ]+) failed(?: - POSSIBLE BREAK-?IN ATTEMPT!?|\.)?{PREAUTH}",
    ),
    _text("no_reverse_name", "dns_warning", "Could not reverse map address ", rf"(?P<address>[^ ]+?)\.?{PREAUTH}"),
    _text("nasty_ptr", "dns_warning", 'Nasty PTR record "', rf'(?P<domain>.*)" is set up for {ADDRESS}, ignoring{PREAUTH}'),
    # The patches of Gentoo and HPN for sshd.c and kex.c.
    _text(
        "hpn_version",
        "connection_opened",
        "SSH: Server;Ltype: Version;Remote: ",
        rf"(?P<address>[^ ;]+)-{PORT};(?P<reason>.*?){PREAUTH}",
    ),
    _text(
        "hpn_other", "notice", "SSH: Server;Ltype: ", rf"(?P<reason>[A-Za-z]+);Remote: (?P<address>[^ ;]+)-{PORT};.*?{PREAUTH}"
    ),
    # The listener: sshd.c, server_listen() and main().
    _text(
        "server_listening",
        "server_listening",
        "Server listening on ",
        rf"(?P<local_address>[^ ]+) port (?P<local_port>[0-9]{{1,5}})(?: rdomain (?P<rdomain>.*?))?\.?{PREAUTH}",
    ),
    _text("server_stopped", "server_stopped", "Received signal ", rf"(?P<reason>[0-9]+); terminating\.{PREAUTH}"),
    _text("server_restarted", "server_restarted", "Received SIGHUP; restarting.", PREAUTH),
    # Lines without meaning for logins: log.c "debug%d: ", monitor.c, session.c, loginrec.c, platform code.
    _text("debug", "debug", "debug", rf"[1-3]: (?P<reason>.*?){PREAUTH}"),
    _text("monitor_trouble", "notice", "mm_", rf"(?P<reason>[a-z_]+: .*?){PREAUTH}"),
    _text("chroot", "notice", 'Changed root directory to "', rf'(?P<file>.*)"{PREAUTH}'),
    # session.c, safely_chroot(): the session ends before it starts.
    _text(
        "chroot_bad_modes", "fault", "bad ownership or modes for chroot directory ", rf'(?:component )?"(?P<file>.*)"{PREAUTH}'
    ),
    # monitor.c, monitor_child_preauth(), and sshd.c, privsep_preauth().
    _function(
        "preauth_crash",
        "child_crashed",
        ["monitor_child_preauth", "privsep_preauth"],
        rf"preauth child(?: [0-9]+)? (?P<reason>.*?){PREAUTH}",
    ),
    # misc.c, exited_cleanly() and its predecessors in auth2-pubkey.c. The administrator writes the arguments. So
    # sshbell takes the user name only if it is the sole argument, or if only the fingerprint of the key follows.
    *(
        _any_of(
            f"command_failed{suffix}",
            "fault",
            ["AuthorizedKeysCommand ", "AuthorizedPrincipalsCommand "],
            rf"(?P<command>/[^ ]*)(?= ){arguments} (?P<reason>failed, status [0-9]+|exited on signal [0-9]+|returned status [0-9]+){PREAUTH}",
        )
        for suffix, arguments in (
            ("", " (?P<user>[A-Za-z0-9_][^ /]*)(?: (?P<key_fingerprint>(?:SHA256|MD5):[^ ]+))?"),
            ("_other", ".*?"),
        )
    ),
    # auth2-pubkeyfile.c, auth_openfile(); auth2-pubkey.c; auth2-passwd.c; auth2-gss.c; auth-pam.c; servconf.c: side lines of a
    # try, which gets its own line later.
    _text("keys_not_opened", "notice", "Could not open ", rf"(?P<reason>.* '.*' ?'?.*?){PREAUTH}"),
    _text(
        "pam_trouble",
        "notice",
        "PAM: ",
        rf"(?P<reason>(?:pam_[a-z_]+\(\)|initiali[sz]ation|failed to|could not|expected|conversation|sshpam_).*?){PREAUTH}",
    ),
    _any_of(
        "config_line_again",
        "notice",
        ["reprocess config line ", "rexec line "],
        rf"(?P<line>[0-9]+): (?P<reason>.*?){PREAUTH}",
    ),
    _sshd("config_line", "notice", pp.Regex(rf"(?P<file>/[^ :]*):? line (?P<line>[0-9]+): (?P<reason>.*?){PREAUTH}")),
    # auth-rh-rsa.c and auth-rsa.c, before the verdict; loginrec.c, channels.c, platform.c; internal errors of sshd.
    _any_of(
        "side_line",
        "notice",
        [
            "refusing previously-used ",
            "password change not supported",
            "GSSAPI MIC check failed",
            "Rhosts with RSA host authentication accepted for ",
            "Wrong response to RSA authentication challenge",
            "Client on ",
            "Writing login record failed for ",
            "X11 connection rejected because of wrong authentication",
            "INTERNAL ERROR: ",
            "Internal error: ",
            "Failed to set process credentials",
            "login grace time ",
            "accept from auth socket",
            "Unknown authentication method ",
            "wrong user name passed to monitor: ",
        ],
        rf".*?{PREAUTH}",
    ),
    # serverloop.c and channels.c: allowed and refused forwardings of a session. The client chooses the names and ports.
    _any_of(
        "forward_refused",
        "notice",
        ["refused local port forward: originator ", "refused streamlocal port forward: originator "],
        rf"(?P<originator>[^ ]+) port (?P<originator_port>[0-9]+), target (?P<target>.*?)(?: port (?P<target_port>-?[0-9]+))?{PREAUTH}",
    ),
    _text(
        "forward_not_permitted",
        "notice",
        "Received request ",
        rf"(?:from (?P<originator>[^ ]+) port (?P<originator_port>[0-9]+) )?to connect to (?:host|path) (?P<target>.*?)(?: port (?P<target_port>-?[0-9]+))?, but the request was denied\.?{PREAUTH}",
    ),
    _text(
        "forward_failed", "notice", "connect_to ", rf"(?P<target>.*) port (?P<target_port>[0-9]+): (?P<reason>failed\.){PREAUTH}"
    ),
    _text("forward_unknown_host", "notice", "connect_to ", rf"(?P<target>[^:]*): unknown host \((?P<reason>.*)\){PREAUTH}"),
    _text("forward_not_bound", "notice", "bind [", rf"(?P<target>[^\]]*)\]:(?P<target_port>[0-9]+): (?P<reason>.*?){PREAUTH}"),
    # session.c, session_subsystem_req(): the client chooses the name of the subsystem. Since 7.x with the user name.
    *(
        _text(f"subsystem{failed}{old}", "notice", "subsystem request for ", f"{command}{result}{PREAUTH}")
        for failed, result in (("_failed", " failed, subsystem not found"), ("", ""))
        for old, command in (("", "(?P<command>.*) by user (?P<user>.*?)"), ("_old", "(?P<command>.*?)"))
    ),
    _text("logout_record", "notice", "syslogin_perform_logout: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("userauth_pubkey", "notice", "userauth_pubkey: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("oom_score", "notice", "Set /proc/self/oom_score_adj ", rf"(?P<reason>.*?){PREAUTH}"),
    # packet.c, sshpkt_vfatal(): the error, after the name of any function.
    _sshd(
        "packet_fatal",
        "protocol_error",
        pp.Regex("[A-Za-z0-9_]+")("function"),
        pp.Literal(": Connection from "),
        pp.Regex(
            r"(?:(?:authenticating |invalid (?P<invalid>))?user (?P<user>[^:]*) )?"
            rf"{ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}"
        ),
    ),
]

# All other lines.
OTHER = [other("other", LEVEL, end=PREAUTH)]

# The text after "ssh2: " in a verdict. auth.c, format_method_key(): "%s %s%s%s", and "%s ID %s (serial %llu) CA %s %s".
METHOD_INFO: list[Rule] = [
    # 7.9+ with the leaf's fingerprint, 6.3 to 7.8 without. The operator of the CA chooses the ID, which may contain any text.
    rule(
        "certificate",
        "key",
        pp.Regex(
            r"(?P<key_type>[A-Z0-9-]+-CERT)(?: (?P<key_fingerprint>(?:SHA[0-9]+|MD5):[^ ]+))? ID (?P<certificate_id>.*) \(serial (?P<certificate_serial>[0-9]+)\) CA (?P<ca_key_type>[^ ]+) (?P<ca_fingerprint>[^ ,]+)"
            r'(?:, client user "(?P<client_user>.*)", client host "(?P<client_host>.*)")?\Z'
        ),
    ),
    rule(
        "key",
        "key",
        pp.Regex(
            r'(?P<key_type>[A-Za-z0-9-]+) (?P<key_fingerprint>[^ ,]*:[^ ,]+)(?:, client user "(?P<client_user>.*)", client host "(?P<client_host>.*)")?\Z'
        ),
    ),
    rule("key_without_type", "key", pp.Regex(r"(?P<key_fingerprint>(?:SHA[0-9]+|MD5):[^ ]+)\Z")),
    # gss-serv.c: the principal of the client. Names of client programs, such as PuTTY, never occur here.
    rule("principal", "key", pp.Regex(r"(?P<principal>[^ ]+@[^ ]+)\Z")),
]
