r"""
OpenSSH's server, 6.0 to 10.5: sshd, sshd-session, sshd-auth.

Format strings come from openssh-portable; the file and function stand above each rule. "6.0+" means all
versions that this grammar knows. User names (``user``) are visual-encoded by sshd and never hold a colon:
sshd cuts them there before it looks them up or logs them (auth2.c, input_userauth_request). So in a text with
a free tail behind a colon, the user part is ``[^:]*``, and in a text whose tail is fixed it is greedy and
the tail is anchored with ``\Z``: the last ``from ADDRESS port PORT`` is the daemon's own.

    line      = ["error: " | "fatal: "] message [" [preauth]"]
    verdict   = ("Accepted" | "Failed" | "Partial" | "Postponed") SP method SP "for" SP
                ["invalid user "] user SP "from" SP address SP "port" SP port SP "ssh2" [": " method_info]
    close     = verb SP [("authenticating" | "invalid" | "") "user" SP user SP] address ["port" SP port]
"""

import pyparsing as pp

from grammars.rule import ADDRESS, END, PORT, PREAUTH, Rule, rule

# Program names whose lines this grammar reads; one family, because one connection logs under several.
FAMILY = "sshd"
PROGRAMS = ("sshd", "sshd-session", "sshd-auth", "sshd.pam")

# log.c, do_log(): the prefix of a line at SYSLOG_LEVEL_ERROR or _FATAL. Levels changed between versions.
_LEVEL = pp.Opt(pp.MatchFirst([pp.Literal("error: "), pp.Literal("fatal: ")])("level"))


def _sshd(name: str, action: str, *parts: pp.ParserElement) -> Rule:
    return rule(name, action, _LEVEL, *parts)


def _text(name: str, action: str, start: str, tail: str) -> Rule:
    """A message that starts with fixed text and ends in one regular expression."""
    return _sshd(name, action, *([pp.Literal(start)] if start else []), pp.Regex(tail))


# "keyboard-interactive/pam": the submethod, 6.2+, stands behind a slash.
_METHOD = pp.Regex("[a-z0-9/_-]+")("method")
_INVALID = pp.Opt(pp.Literal("invalid user ")("invalid"))
_FROM = f" from {ADDRESS}(?: port {PORT})?(?: ssh[12])?"


def _verdict(name: str, result: str, invalid: list[pp.ParserElement], info: str) -> Rule:
    tail = f"(?P<user>[^:]*) from {ADDRESS}(?: port {PORT})?(?: ssh[12](?:: (?P<method_info>{info}))?)?{PREAUTH}"
    start = [pp.Literal(result), _METHOD, pp.Literal(" for ")]
    return _sshd(name, name, *start, *invalid, pp.Regex(tail))


def _closed(name: str, action: str, start: str, tail: str = PREAUTH) -> list[Rule]:
    """
    The "USER ADDRESS port PORT" family. ssh_packet: packet.c, sshpkt_fmt_connection_id(), 7.5+.

    Up to 7.4 there is no user part; up to 7.1 no port.
    """
    at = f"{ADDRESS} port {PORT}{tail}"
    return [
        _text(f"{name}_invalid_user", action, f"{start}invalid user ", f"(?P<user>.*) (?P<invalid>){at}"),
        _text(f"{name}_authenticating_user", action, f"{start}authenticating user ", f"(?P<user>.*) {at}"),
        _text(f"{name}_user", action, f"{start}user ", f"(?P<user>.*) {at}"),
        # The 500-byte limit of a line can cut the address off; what is left is the user's name, or a part of it.
        _text(f"{name}_invalid_user_cut", action, f"{start}invalid user ", f"(?P<invalid>)(?P<user_cut>.*){END}"),
        _text(f"{name}_authenticating_user_cut", action, f"{start}authenticating user ", f"(?P<user_cut>.*){END}"),
        _text(name, action, start, f"{ADDRESS}(?: port {PORT})?{tail}"),
    ]


def _disconnecting(action: str, suffix: str, reason: str) -> list[Rule]:
    """packet.c, sshpkt_vfatal() and ssh_packet_disconnect(): "Disconnecting %s: %s" 7.5+, "Disconnecting: %s" 6.0+."""
    start, tail = "Disconnecting ", f"{ADDRESS} port {PORT}: (?P<reason>{reason}){PREAUTH}"
    kinds = [("invalid user ", "(?P<invalid>)(?P<user>[^:]*) "), ("authenticating user ", "(?P<user>[^:]*) "), ("", "")]
    rules = [_text(f"disconnecting_{kind.replace(' ', '_')}{suffix}", action, start + kind, user + tail) for kind, user in kinds]
    if reason == ".*?":
        # The 500-byte limit has cut the address off.
        rules.append(
            _text("disconnecting_invalid_user_cut", action, start + "invalid user ", f"(?P<invalid>)(?P<user_cut>.*){END}")
        )
        rules.append(
            _text("disconnecting_authenticating_user_cut", action, start + "authenticating user ", f"(?P<user_cut>.*){END}")
        )
    return [*rules, _text(f"disconnecting_old_{suffix}", action, "Disconnecting: ", f"(?P<reason>{reason}){PREAUTH}")]


RULES: list[Rule] = [
    # auth.c, auth_log(): "%s %s%s%s for %s%.100s from %.200s port %d ssh2%s%s", 6.2+; 6.0/6.1 without submethod.
    # The Failed line of versions before 3.9 has no " ssh2", some systems' none of the port.
    _verdict("failed", "Failed ", [_INVALID], ".*?"),
    _verdict("accepted", "Accepted ", [], ".*"),
    _verdict("partial", "Partial ", [_INVALID], ".*?"),
    _verdict("postponed", "Postponed ", [_INVALID], ".*?"),
    # auth.c, getpwnamallow(): "Invalid user %.100s from %.100s port %d", without the port up to 7.2.
    _text("invalid_user", "invalid_user", "Invalid user ", f"(?P<invalid>)(?P<user>.*) from {ADDRESS}(?: port {PORT})?{PREAUTH}"),
    _text("illegal_user", "invalid_user", "Illegal user ", f"(?P<invalid>)(?P<user>.*) from {ADDRESS}(?: port {PORT})?{PREAUTH}"),
    # packet.c / sshd.c / serverloop.c: the ends of a connection.
    _text(
        "received_disconnect",
        "received_disconnect",
        "Received disconnect from ",
        rf"{ADDRESS} port {PORT}:(?P<disconnect_code>[0-9]+): (?P<reason>.*?){PREAUTH}",
    ),
    # packet.c, ssh_packet_read_poll2(), up to 7.1: "Received disconnect from %s: %u: %.400s". The colon after an IPv6
    # address is the first that a blank follows.
    _text(
        "received_disconnect_old",
        "received_disconnect",
        "Received disconnect from ",
        rf"{ADDRESS}: ?(?P<disconnect_code>[0-9]+): (?P<reason>.*?){PREAUTH}",
    ),
    *_closed("connection_closed", "connection_closed", "Connection closed by "),
    *_closed("connection_reset", "connection_closed", "Connection reset by "),
    *_closed("disconnected", "disconnected", "Disconnected from "),
    # sshd.c, main() / sshd-session.c: VERBOSE. 6.4 and older without " on ...", 7.1 and older without rdomain.
    _text(
        "connection_opened",
        "connection_opened",
        "Connection from ",
        rf'{ADDRESS} port {PORT}(?: on (?P<local_address>[^ ]+) port (?P<local_port>[0-9]{{1,5}})(?: rdomain "(?P<rdomain>.*)")?)?{PREAUTH}',
    ),
    *_closed("connection_timed_out", "timeout", "Connection from ", r" timed out" + PREAUTH),
    *_disconnecting("max_attempts", "max_attempts", "Too many authentication failures(?: for (?P<user_old>.*?))?"),
    *_disconnecting(
        "protocol_error", "protocol_error", "(?:[Bb]ad client|[Pp]acket corrupt|Corrupted|[Pp]rotocol error|Bad packet).*?"
    ),
    *_disconnecting("disconnected", "other", ".*?"),
    # auth2-pubkeyfile.c / auth2-pubkey.c, VERBOSE: a key was found, which is not a login yet. 7.7+; up to 6.2 "Found matching".
    _text(
        "accepted_key",
        "key_found",
        "Accepted key ",
        rf"(?P<key_type>[^ ]+) (?P<key_fingerprint>[^ ]+) found at (?P<file>.*):(?P<line>[0-9]+){PREAUTH}",
    ),
    _text("found_matching_key", "key_found", "Found matching ", rf"(?P<key_type>[^ ]+) key: (?P<key_fingerprint>[^ ]+){PREAUTH}"),
    _text(
        "accepted_certificate",
        "key_found",
        'Accepted certificate ID "',
        rf'(?P<certificate_id>.*)" \(serial (?P<certificate_serial>[0-9]+)\) signed by (?P<ca_key_type>[^ ]+) CA (?P<ca_fingerprint>[^ ]+) via (?P<file>.*?){PREAUTH}',
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
    # auth2-pubkey.c, 10.x: Refusing certificate ID "%s" serial=%llu signed by %s CA %s: %s; older: the reason alone.
    _text(
        "certificate_refused",
        "user_denied",
        'Refusing certificate ID "',
        rf'(?P<certificate_id>.*)" serial=(?P<certificate_serial>[0-9]+) signed by (?P<ca_key_type>[^ ]+) CA (?P<ca_fingerprint>[^ ]+?):? (?P<reason>.*?){PREAUTH}',
    ),
    _text("certificate_invalid", "user_denied", "Certificate invalid: ", rf"(?P<reason>.*?){PREAUTH}"),
    # auth2.c up to 7.4: the user is unknown; same PID as "Invalid user".
    _text(
        "input_userauth_request", "invalid_user", "input_userauth_request: invalid user ", rf"(?P<invalid>)(?P<user>.*?){PREAUTH}"
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
    _text("closing_connection", "notice", "Closing connection to ", rf"{ADDRESS}(?: port {PORT})?{PREAUTH}"),
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
        rf"(?P<user>.*) from (?P<address>[^ ]+) not allowed because (?P<reason>listed in DenyUsers|not listed in AllowUsers|not in any group|a group is listed in DenyGroups|none of user's groups are listed in AllowGroups){PREAUTH}",
    ),
    _text(
        "user_not_allowed_locally",
        "user_denied",
        "User ",
        rf"(?P<user>.*) not allowed because (?P<reason>account is locked|shell .* does not exist|shell .* is not executable|[^ ]+ exists|listed in DenyUsers|not listed in AllowUsers|not in any group|a group is listed in DenyGroups|none of user's groups are listed in AllowGroups)\.?{PREAUTH}",
    ),
    # auth.c, auth_root_allowed(): 7.2 and older without the port.
    _text("root_login_refused", "user_denied", "ROOT LOGIN REFUSED FROM ", rf"{ADDRESS}(?: port {PORT})?{PREAUTH}"),
    _text("root_forced_command", "notice", "Root login accepted for forced command.", PREAUTH),
    # auth.c, auth_maxtries_exceeded(): 6.8+.
    _text(
        "max_attempts",
        "max_attempts",
        "maximum authentication attempts exceeded for ",
        rf"(?:invalid user (?P<invalid>))?(?P<user>.*){_FROM}{PREAUTH}",
    ),
    _text(
        "max_attempts_cut",
        "max_attempts",
        "maximum authentication attempts exceeded for ",
        rf"(?:invalid user (?P<invalid>))?(?P<user_cut>.*){END}",
    ),
    # auth-pam.c, sshpam_auth_passwd() and input of the keyboard-interactive device: "PAM: %s for %s%.100s from %.100s".
    # One PAM text holds " for " itself; "via" is Apple's.
    _text(
        "pam_error",
        "pam_failure",
        "PAM: ",
        rf"(?P<reason>Have exhausted maximum number of retries for service|.*?) for (?:illegal user (?P<invalid>))?(?P<user>.*) from {ADDRESS}(?: via (?P<local_address>[^ ]+))? ?{PREAUTH}",
    ),
    # auth-pam.c / monitor.c: the account stack said no, after a right password or key.
    _text("pam_account_denied", "user_denied", "Access denied for user ", rf"(?P<user>.*) by PAM account configuration{PREAUTH}"),
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
    _text("refused_by_key_options", "user_denied", "Refused by key options", rf"(?: at (?P<file>.*):(?P<line>[0-9]+))?{PREAUTH}"),
    _text(
        "key_revoked",
        "user_denied",
        "Authentication key ",
        rf"(?P<key_type>[^ ]+) (?P<key_fingerprint>[^ ]+) revoked by file (?P<file>.*?){PREAUTH}",
    ),
    _text("revoked_key_tried", "user_denied", "WARNING: revoked key for ", rf"(?P<user>.*) attempted authentication\.?{PREAUTH}"),
    # auth2.c, 8.5+: "Username too long from %s port %d".
    _text("username_too_long", "protocol_error", "Username too long from ", rf"{ADDRESS} port {PORT}{PREAUTH}"),
    # auth2.c, 9.9+, RefuseConnection.
    _text(
        "connection_prohibited",
        "user_denied",
        "administratively prohibited connection for ",
        rf"(?:invalid user (?P<invalid>))?(?P<user>.*) from {ADDRESS} port {PORT}{PREAUTH}",
    ),
    # libwrap, hosts_access(3), refuse(): sshd with TCP wrappers.
    _text(
        "refused_connect",
        "connection_dropped",
        "refused connect from ",
        rf"(?P<domain>.*) \((?P<address>[^ ()]+)\){PREAUTH}",
    ),
    _text("refused_connect_unresolved", "connection_dropped", "refused connect from ", f"{ADDRESS}{PREAUTH}"),
    # sshd.c, drop_connection() and should_drop_connection(): VERBOSE from 7.4, INFO now and then from 8.4.
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
    _text("penalty", "penalty", "srclimit_penalise: ", rf"(?P<reason>.*?){PREAUTH}"),
    # sshd.c, grace_alarm_handler() up to 9.7 (port from 7.3) and the listener's form, 9.8+.
    _text(
        "grace_timeout_listener",
        "timeout",
        "Timeout before authentication for connection from ",
        rf"{ADDRESS} to (?P<local_address>[^ ,]+), pid = (?P<connection_pid>[0-9]+){PREAUTH}",
    ),
    _text("grace_timeout", "timeout", "Timeout before authentication for ", rf"{ADDRESS}(?: port {PORT})?\.?{PREAUTH}"),
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
    # kex.c, kex_exchange_identification(), 8.0+; sshconnect-style name ssh_exchange_identification in 7.x.
    _text("bad_banner", "bad_client", "kex_exchange_identification: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("bad_banner_old", "bad_client", "ssh_exchange_identification: ", rf"(?P<reason>.*?){PREAUTH}"),
    # sshd-session.c, main(), 8.0+: "banner exchange" + sshpkt_fmt_connection_id().
    _text(
        "banner_exchange", "bad_client", "banner exchange: Connection from ", rf"{ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}"
    ),
    # sshd.c, sshd_exchange_identification(), up to 7.9; kex.c since.
    _text(
        "no_identification", "bad_client", "Did not receive identification string from ", rf"{ADDRESS}(?: port {PORT})?{PREAUTH}"
    ),
    _text(
        "bad_version",
        "bad_client",
        "Bad protocol version identification '",
        rf"(?P<reason>.*)' from {ADDRESS}(?: port {PORT})?{PREAUTH}",
    ),
    _text("bad_remote_version", "bad_client", "Bad remote protocol version identification: '", rf"(?P<reason>.*)'{PREAUTH}"),
    _text("versions_differ", "bad_client", "Protocol major versions differ: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text(
        "versions_differ_old",
        "bad_client",
        "Protocol major versions differ for ",
        rf"{ADDRESS}(?: port {PORT})?: (?P<reason>.*?){PREAUTH}",
    ),
    # sshd.c, sshd_exchange_identification(): clients that say they are scanners.
    _text("probed", "bad_client", "probed from ", rf"{ADDRESS}(?: port {PORT})? with (?P<reason>.*)\.  Don't panic\.{PREAUTH}"),
    _text("scanned", "bad_client", "scanned from ", rf"{ADDRESS}(?: port {PORT})? with (?P<reason>.*)\.  Don't panic\.{PREAUTH}"),
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
    # packet.c: what only a broken or hostile client causes.
    _text("bad_packet_length", "protocol_error", "Bad packet length ", rf"(?P<reason>[0-9]+)\.{PREAUTH}"),
    _text("corrupted_mac", "protocol_error", "Corrupted MAC on input.", PREAUTH),
    _text("corrupted_check", "protocol_error", "Corrupted check bytes on input.", PREAUTH),
    _text("padding_error", "protocol_error", "padding error: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("discarding", "protocol_error", "Finished discarding for ", rf"{ADDRESS}(?: port {PORT})?{PREAUTH}"),
    _text(
        "dispatch_fatal_invalid_user",
        "protocol_error",
        "ssh_dispatch_run_fatal: Connection from invalid user ",
        rf"(?P<invalid>)(?P<user>[^:]*) {ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _text(
        "dispatch_fatal_user",
        "protocol_error",
        "ssh_dispatch_run_fatal: Connection from ",
        rf"(?:authenticating )?user (?P<user>[^:]*) {ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _text(
        "dispatch_fatal",
        "protocol_error",
        "ssh_dispatch_run_fatal: Connection from ",
        rf"{ADDRESS} port {PORT}: (?P<reason>.*?){PREAUTH}",
    ),
    _text("dispatch_protocol_error", "protocol_error", "dispatch_protocol_error: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("read_from_socket_failed", "connection_closed", "Read from socket failed: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("write_failed", "connection_closed", "Write failed: ", rf"(?P<reason>.*?){PREAUTH}"),
    # canohost.c, remote_hostname() / auth.c, remote_hostname(): UseDNS yes. Up to 7.2 ends in " - POSSIBLE BREAK-IN ATTEMPT!".
    _text(
        "reverse_mapping_failed",
        "dns_warning",
        "reverse mapping checking getaddrinfo for ",
        rf"(?P<domain>.*) \[(?P<address>[^\] ]+)\] failed(?: - POSSIBLE BREAK-IN ATTEMPT!?|\.)?{PREAUTH}",
    ),
    _text(
        "address_maps_elsewhere",
        "dns_warning",
        "Address ",
        rf"{ADDRESS} maps to (?P<domain>.*), but this does not map back to the address(?: - POSSIBLE BREAK-IN ATTEMPT!?|\.)?{PREAUTH}",
    ),
    _text("nasty_ptr", "dns_warning", 'Nasty PTR record "', rf'(?P<domain>.*)" is set up for {ADDRESS}, ignoring{PREAUTH}'),
    # Gentoo's and HPN's patch of sshd.c and kex.c.
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
        rf"(?P<local_address>[^ ]+) port (?P<local_port>[0-9]{{1,5}})\.?{PREAUTH}",
    ),
    _text("server_stopped", "server_stopped", "Received signal ", rf"(?P<reason>[0-9]+); terminating\.{PREAUTH}"),
    _text("server_restarted", "server_restarted", "Received SIGHUP; restarting.", PREAUTH),
    # Understood, and without a story: log.c "debug%d: ", monitor.c, session.c, loginrec.c, platform code.
    _text("debug", "debug", "debug", rf"[1-3]: (?P<reason>.*?){PREAUTH}"),
    _text("monitor_trouble", "notice", "mm_", rf"(?P<reason>[a-z_]+: .*?){PREAUTH}"),
    _text("chroot", "notice", 'Changed root directory to "', rf'(?P<file>.*)"{PREAUTH}'),
    # session.c, session_subsystem_req(): the client chooses the name. Since 7.x with the user's.
    *(
        _text(f"subsystem{failed}{old}", "notice", "subsystem request for ", f"{command}{result}{PREAUTH}")
        for failed, result in (("_failed", " failed, subsystem not found"), ("", ""))
        for old, command in (("", "(?P<command>.*) by user (?P<user>.*?)"), ("_old", "(?P<command>.*?)"))
    ),
    _text("logout_record", "notice", "syslogin_perform_logout: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("userauth_pubkey", "notice", "userauth_pubkey: ", rf"(?P<reason>.*?){PREAUTH}"),
    _text("oom_score", "notice", "Set /proc/self/oom_score_adj ", rf"(?P<reason>.*?){PREAUTH}"),
]

# The text behind "ssh2: " of a verdict. auth.c, format_method_key(): "%s %s%s%s", and "%s ID %s (serial %llu) CA %s %s".
METHOD_INFO: list[Rule] = [
    # 7.9+ with the leaf's fingerprint, 6.3 to 7.8 without. The CA operator chooses the ID: it may hold anything.
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
    # gss-serv.c: the client's principal; PuTTY and others never appear here.
    rule("principal", "key", pp.Regex(r"(?P<principal>[^ ]+@[^ ]+)\Z")),
]
