"""
Whatever a peer, a name server, a CA operator or a user writes into a line: the address and the user told are the daemon's.

Each kind of message is rendered as the daemon renders it, with its cuts and encodings, in each framing. What is read may be
unmatched, or marked as ambiguous; it may never be another address, and never another user without that mark.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.matching.messages import AuthMessage, auth_message
from consumer.pipeline import LineReader
from consumer.story.correlate import Correlator
from tests.budget import examples
from tests.property.strategies import (
    ACCOUNTS,
    ADDRESSES,
    FRAMINGS,
    NAMES,
    PORTS,
    RELEASES,
    WITHOUT_TAG,
    Sshd,
    escaped_by_rsyslog,
    hostile,
    in_plain,
    name_as_sent,
)
from tests.unit.framing.test_timestamps import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.bulk

MATCHER = Matcher()
OPENED = b"pam_unix(sshd:session): session opened for user"
LOCKED = b"pam_faillock(sshd:auth): Consecutive login failures for user"
KEY = b"ED25519 SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE"
CA = b"RSA SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"


class Rendered(NamedTuple):
    """A line, and what the daemon meant by it; None: the line names none."""

    program: str
    text: str
    address: str | None
    port: str | None
    user: str | None
    actions: frozenset[str]  # what such a line may be read as, besides unmatched
    exact: bool = True  # the name stands whole in the line; else it may be cut


class Peer(NamedTuple):
    """Who is at the other end, and which release of sshd talks to them."""

    sshd: Sshd
    address: str
    port: str

    @property
    def at(self) -> bytes:
        """The address and port as most lines show them."""
        return f"{self.address} port {self.port}".encode()


PEERS = st.builds(Peer, RELEASES, ADDRESSES, PORTS)
Build = st.SearchStrategy[Rendered]


def sshd_line(peer: Peer, text: bytes, actions: str, user: bytes | None, *, preauth: bool = False, port: bool = True) -> Rendered:
    """Return a line of sshd; ``user`` as it went into the format."""
    line = peer.sshd.line(text, preauth=preauth)
    return Rendered(
        peer.sshd.program, line, peer.address, peer.port if port else None, None if user is None else in_plain(user),
        frozenset(actions.split()), exact=len(line) < 500,
    )  # fmt: skip


def verdicts(draw: st.DrawFn) -> Rendered:
    """auth.c, auth_log(): Failed for any name, Accepted for an account."""
    peer = draw(PEERS)
    kind = draw(st.sampled_from(["invalid", "valid", "key", "certificate", "partial", "postponed"]))
    if kind == "invalid":
        user, method = name_as_sent(draw(NAMES)), draw(st.sampled_from([b"password", b"none", b"keyboard-interactive/pam"]))
        return sshd_line(peer, b"Failed %s for invalid user %s from %s ssh2" % (method, user, peer.at), "failed", user)
    user = draw(ACCOUNTS)[:100]
    if kind == "valid":
        result, action = draw(st.sampled_from([(b"Accepted", "accepted"), (b"Failed", "failed")]))
        return sshd_line(peer, b"%s password for %s from %s ssh2" % (result, user, peer.at), action, user)
    info = KEY
    if kind == "certificate":
        info = b"ED25519-CERT %s ID %s (serial 7) CA %s" % (KEY.split()[1], draw(hostile()), CA)
    if kind == "postponed":
        return sshd_line(peer, b"Postponed publickey for %s from %s ssh2" % (user, peer.at), "postponed", user, preauth=True)
    result, action = draw(st.sampled_from([(b"Accepted", "accepted"), (b"Failed", "failed"), (b"Partial", "partial")]))
    return sshd_line(peer, b"%s publickey for %s from %s ssh2: %s" % (result, user, peer.at, info), action, user)


def invalid_users(draw: st.DrawFn) -> Rendered:
    """auth.c, getpwnamallow(), and its predecessor without a port."""
    peer, user = draw(PEERS), name_as_sent(draw(NAMES))
    if draw(st.booleans()):
        return sshd_line(peer, b"Invalid user %s from %s" % (user, peer.at), "invalid_user", user)
    return sshd_line(peer, b"Invalid user %s from %s" % (user, peer.address.encode()), "invalid_user", user, port=False)


def ends(draw: st.DrawFn) -> Rendered:
    """packet.c: what ends a connection before authentication, with a name of up to 200 bytes; after it, with an account's."""
    peer = draw(PEERS)
    verb, tail, actions = draw(
        st.sampled_from([
            (b"Connection closed by", b"", "connection_closed"),
            (b"Connection reset by", b"", "connection_closed"),
            (b"Disconnected from", b"", "disconnected"),
            (b"Connection from", b" timed out", "timeout"),
            (b"Disconnecting", b": Too many authentication failures", "max_attempts disconnected"),
            (b"ssh_dispatch_run_fatal: Connection from", b": Broken pipe", "protocol_error"),
        ])
    )  # fmt: skip
    kind = draw(st.sampled_from([b"invalid user", b"authenticating user", b"user", b""]))
    if kind == b"":
        return sshd_line(peer, b"%s %s%s" % (verb, peer.at, tail), actions, None, preauth=draw(st.booleans()))
    is_over = kind == b"user" and verb not in {b"Disconnecting", b"ssh_dispatch_run_fatal: Connection from"}
    user = name_as_sent(draw(NAMES), 200) if kind == b"invalid user" else draw(ACCOUNTS)[:200]
    if not is_over and kind == b"user":
        kind = b"authenticating user"
    return sshd_line(peer, b"%s %s %s %s%s" % (verb, kind, user, peer.at, tail), actions, user, preauth=not is_over)


def changes_of_name(draw: st.DrawFn) -> Rendered:
    """auth2.c, input_userauth_request(): the reason holds two names and two services of the client's."""
    peer, user, other, service = draw(PEERS), name_as_sent(draw(NAMES), 200), draw(NAMES)[:100], draw(hostile())
    reason = b"Change of username or service not allowed: (%s,ssh-connection) -> (%s,%s)" % (user, other, service)
    text = b"Disconnecting invalid user %s %s: %s" % (user, peer.at, reason)
    return sshd_line(peer, text, "disconnected max_attempts protocol_error", user, preauth=True)


def disconnects(draw: st.DrawFn) -> Rendered:
    """packet.c, ssh_packet_read_poll2(): 400 bytes of the peer's own text."""
    peer, text, preauth = draw(PEERS), draw(hostile())[:400], draw(st.booleans())
    code = draw(st.sampled_from([b"11", b"3", b"14"]))
    line = b"Received disconnect from %s:%s: %s" % (peer.at, code, text)
    return sshd_line(peer, (b"" if code == b"11" else b"error: ") + line, "received_disconnect", None, preauth=preauth)


def too_many(draw: st.DrawFn) -> Rendered:
    """auth.c, auth_maxtries_exceeded(): of the worker, with 100 bytes of a name."""
    peer = draw(PEERS)
    prefix, user = draw(
        st.one_of(st.tuples(st.just(b"invalid user "), NAMES.map(name_as_sent)), st.tuples(st.just(b""), ACCOUNTS))
    )
    text = b"error: maximum authentication attempts exceeded for %s%s from %s ssh2" % (prefix, user[:100], peer.at)
    return sshd_line(peer, text, "max_attempts", user[:100], preauth=True)


def not_allowed(draw: st.DrawFn) -> Rendered:
    """auth.c, allowed_user(): with UseDNS the host is a name that the owner of the reverse zone chose, without blanks."""
    peer, user = draw(PEERS), draw(ACCOUNTS)[:100]
    reason = draw(st.sampled_from([b"listed in DenyUsers", b"not listed in AllowUsers", b"not in any group"]))
    host = draw(st.one_of(st.just(peer.address.encode()), hostile(without=b" \t\n\r").filter(bool)))
    read = sshd_line(peer, b"User %s from %s not allowed because %s" % (user, host, reason), "user_denied", user, port=False)
    return read._replace(address=vis_text(host))


def prohibited(draw: st.DrawFn) -> Rendered:
    """auth2.c, 9.9 and newer, RefuseConnection."""
    peer, user = draw(PEERS), name_as_sent(draw(NAMES))
    return sshd_line(
        peer, b"administratively prohibited connection for invalid user %s from %s" % (user, peer.at), "user_denied", user
    )


def wrong_host(draw: st.DrawFn) -> Rendered:
    """auth-options.c: the pattern list is what the owner of the key wrote into authorized_keys."""
    peer, required = draw(PEERS), draw(st.one_of(hostile(), st.just(FORGED_REQUIREMENT)))
    tail = b"Authentication tried for alice with correct key but not from a permitted host (host=h, ip=%s, required=%s)."
    start = draw(st.sampled_from([b"/home/alice/.ssh/authorized_keys:1: ", b""]))
    return sshd_line(peer, start + tail % (peer.address.encode(), required), "user_denied", b"alice", port=False)


FORGED_REQUIREMENT = b"x with correct key but not from a permitted host (host=h, ip=6.6.6.6, required=x"


def banners(draw: st.DrawFn) -> Rendered:
    """kex.c and its predecessors: 200 bytes of what the client sent instead of a banner, printable."""
    peer, banner = draw(PEERS), draw(hostile(without=b"\n\r\t\x01\x7f\xff\xb2\xc3\xab"))[:200]
    kind = draw(st.sampled_from(["kex", "old", "remote", "differ", "probed"]))
    match kind:
        case "kex":
            text = b'error: kex_exchange_identification: client sent invalid protocol identifier "%s"' % banner
            return sshd_line(peer, text, "bad_client", None, preauth=draw(st.booleans()))._replace(address=None, port=None)
        case "remote":
            text = b"error: Bad remote protocol version identification: '%s'" % banner[:100]
            return sshd_line(peer, text, "bad_client", None)._replace(address=None, port=None)
        case "old":
            return sshd_line(
                peer, b"Bad protocol version identification '%s' from %s" % (banner[:100], peer.at), "bad_client", None
            )
        case "differ":
            text = b"Protocol major versions differ for %s: SSH-2.0-OpenSSH_7.4 vs. %s" % (peer.at, banner)
            return sshd_line(peer, text, "bad_client", None)
    return sshd_line(peer, b"probed from %s with %s.  Don't panic." % (peer.at, banner), "bad_client", None)


def offers(draw: st.DrawFn) -> Rendered:
    """packet.c, sshpkt_vfatal(): the client's list of algorithms."""
    peer, offer = draw(PEERS), draw(hostile())
    text = b"Unable to negotiate with %s: no matching cipher found. Their offer: %s" % (peer.at, offer)
    return sshd_line(peer, text, "negotiation_failed", None, preauth=True)


def reverse_names(draw: st.DrawFn) -> Rendered:
    """canohost.c: a name of the zone's owner, and the address that it was asked for."""
    peer, name = draw(PEERS), draw(hostile())
    address = peer.address.encode()
    text = draw(
        st.sampled_from([
            b"reverse mapping checking getaddrinfo for %s [%s] failed." % (name, address),
            b"reverse mapping checking getaddrinfo for %s [%s] failed - POSSIBLE BREAK-IN ATTEMPT!" % (name, address),
            b"Address %s maps to %s, but this does not map back to the address." % (address, name),
            b'Nasty PTR record "%s" is set up for %s, ignoring' % (name, address),
        ])
    )  # fmt: skip
    return sshd_line(peer, text, "dns_warning", None, port=False)


def sessions(draw: st.DrawFn) -> Rendered:
    """session.c: the subsystem's name is the user's, up to 900 bytes of it."""
    peer, user = draw(PEERS), draw(ACCOUNTS)
    tail = b" for %s from %s id 0" % (user, peer.at)
    text = draw(
        st.sampled_from([
            b"Starting session: subsystem '%s'" % draw(hostile())[:900] + tail,
            b"Starting session: forced-command (key-option) '%s'" % draw(hostile())[:900] + tail,
            b"Starting session: shell on pts/1" + tail,
            b"Starting session: command" + tail,
            b"Close session: user %s from %s id 0" % (user, peer.at),
        ])
    )  # fmt: skip
    return sshd_line(peer, text, "session_started channel_closed", user)


def subsystems(draw: st.DrawFn) -> Rendered:
    """session.c, session_subsystem_req(): 100 bytes of the user's text before the user's name."""
    peer, user, name = draw(PEERS), draw(ACCOUNTS), draw(hostile())[:100]
    tail = draw(st.sampled_from([b" failed, subsystem not found", b""]))
    read = sshd_line(peer, b"subsystem request for %s by user %s%s" % (name, user, tail), "notice", user)
    return read._replace(address=None, port=None)


def pam_of_sshd(draw: st.DrawFn) -> Rendered:
    """auth-pam.c: PAM's text, then the name, then the address or name of the client."""
    peer = draw(PEERS)
    prefix, user = draw(
        st.one_of(st.tuples(st.just(b"illegal user "), NAMES.map(name_as_sent)), st.tuples(st.just(b""), ACCOUNTS))
    )
    reason = draw(
        st.sampled_from([
            b"Authentication failure", b"Permission denied", b"User not known to the underlying authentication module",
            b"Have exhausted maximum number of retries for service",
        ])
    )  # fmt: skip
    text = b"error: PAM: %s for %s%s from %s" % (reason, prefix, user[:100], peer.address.encode())
    return sshd_line(peer, text, "pam_failure", user[:100], port=False)


def pam_lines(draw: st.DrawFn) -> Rendered:
    """PAM modules: raw bytes, of which rsyslog has escaped the control characters. pam_unix names accounts only."""
    address, account, name = draw(ADDRESSES), draw(ACCOUNTS), draw(NAMES).partition(b":")[0]
    fields = b"logname= uid=0 euid=0 tty=ssh ruser= rhost=%s" % address.encode()
    user, text, actions, has_address = draw(
        st.sampled_from([
            (account, b"%s %s(uid=1001) by (uid=0)" % (OPENED, account), "session_opened", False),
            (account, b"%s %s by (uid=0)" % (OPENED, account), "session_opened", False),
            (account, b"pam_unix(sshd:session): session closed for user %s" % account, "session_closed", False),
            (account, b"pam_unix(sshd:auth): authentication failure; %s  user=%s" % (fields, account), "pam_failure", True),
            (None, b"pam_unix(sshd:auth): authentication failure; %s " % fields, "pam_failure", True),
            (name, b"pam_sss(sshd:auth): authentication failure; %s user=%s" % (fields, name), "pam_failure", True),
            (name, b"pam_sss(sshd:auth): received for user %s: 10 (User not known)" % name, "pam_failure", False),
            (name, b"pam_unix(sshd:auth): check pass; user (%s) unknown" % name, "invalid_user", False),
            (name, b"pam_faillock(sshd:auth): User unknown: %s" % name, "invalid_user notice", False),
            (name, b"%s %s account temporarily locked" % (LOCKED, name), "user_denied", False),
            (name, b"pam_winbind(sshd:auth): user '%s' denied access (incorrect password)" % name, "pam_failure", False),
            (name, b'pam_succeed_if(sshd:auth): requirement "user = x" not met by user "%s"' % name, "notice", False),
            (account, b"PAM 2 more authentication failures; %s  user=%s" % (fields, account), "pam_failure", True),
        ])
    )  # fmt: skip
    return Rendered(
        "sshd", escaped_by_rsyslog(text), address if has_address else None, None, None if user is None else in_plain(user),
        frozenset(actions.split()),
    )  # fmt: skip


def vis_text(text: bytes) -> str:
    """Return a text as sshd's encoding shows it."""
    return Sshd("sshd", encodes_twice=True).line(text)


KINDS: dict[str, Callable[[st.DrawFn], Rendered]] = {
    function.__name__: function
    for function in (
        verdicts, invalid_users, ends, changes_of_name, disconnects, too_many, not_allowed, prohibited, wrong_host, banners,
        offers, reverse_names, sessions, subsystems, pam_of_sshd, pam_lines,
    )
}  # fmt: skip


def read_line(line: str) -> AuthMessage | None:
    """Frame, match and convert one line, as ``parse`` does; None: it is none of ours."""
    (row,) = Framer(MATCHER.is_program, MATCHER.daemon_of).rows(line + "\n")
    found = MATCHER.find(row)
    return None if found is None else auth_message(found)


def faults(message: AuthMessage, meant: Rendered, framing: str) -> list[str]:
    """Say what a message tells that the daemon did not."""
    wrong = []
    if message.action not in meant.actions:
        wrong.append(f"action {message.action}")
    if message.address is not None and message.address != meant.address:
        wrong.append(f"address {message.address!r}, not {meant.address!r}")
    if message.port is not None and str(message.port) != meant.port:
        wrong.append(f"port {message.port}, not {meant.port}")
    user = meant.user
    if user is not None and framing in {"journal", "short-precise"}:
        user = user.rstrip()  # journald takes white space off the end of a message, so what ends one is not certain
    if message.user is not None and message.user not in {meant.user, user} and not message.ambiguous:
        wrong.append(f"user {message.user!r}, not {meant.user!r}")
    return wrong


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_of_a_peer_changes_who_it_was(kind: str) -> None:
    """A hostile text may make a line unmatched or ambiguous; it never gives another address, nor another user unmarked."""

    @examples(150)
    @given(st.composite(KINDS[kind])(), st.sampled_from(sorted(FRAMINGS)))
    def hold(meant: Rendered, framing: str) -> None:
        message = read_line(FRAMINGS[framing](meant.program, "4242", meant.text))
        if message is None:
            assert framing in WITHOUT_TAG  # there a line is ours only where a rule reads it
            return
        if message.action == "unmatched":
            assert (message.address, message.port, message.user) == (None, None, None)
            return
        wrong = faults(message, meant, framing)
        assert not wrong, (framing, meant.text, wrong)

    hold()


@pytest.mark.parametrize(
    ("text", "user", "address"),
    [
        ("subsystem request for x by user root by user bob failed, subsystem not found", "bob", None),
        ("subsystem request for x failed, subsystem not found by user bob", "bob", None),
        (
            'pam_succeed_if(sshd:auth): requirement "user = x" not met by user "y" not met by user "root"',
            'y" not met by user "root',
            None,
        ),
        (
            "pam_faillock(sshd:auth): User unknown: bob @[_PID=1 _UID=0 _GID=0 _COMM=sshd]",
            "bob @[_PID=1 _UID=0 _GID=0 _COMM=sshd]",
            None,
        ),
        ("Authorized to bob, krb5 principal x, krb5 principal root@R (krb5_kuserok)", "bob", None),
        (
            (
                "Authentication tried for bob with correct key but not from a permitted host (host=h, ip=192.0.2.1, "
                "required=x with correct key but not from a permitted host (host=h, ip=6.6.6.6)."
            ),
            "bob",
            "192.0.2.1",
        ),
    ],
)
def test_text_on_the_wrong_side(text: str, user: str, address: str | None) -> None:
    """Where the text of the user or of a realm stands beside the name, it does not become a part of the name, unmarked."""
    message = read_line(FRAMINGS["rfc3339"]("sshd", "4242", text))
    assert message is not None
    assert message.address in {None, address}
    assert message.ambiguous or message.user in {None, user}


@examples(300)
@given(PEERS, NAMES.map(name_as_sent), st.sampled_from(["Failed password for invalid user ", "Invalid user "]))
def test_a_line_that_was_not_cut_is_read(peer: Peer, user: bytes, start: str) -> None:
    """``Invalid user`` and ``Failed password`` always keep their tail, so each name, whatever it is, is read with its address."""
    tail = b" ssh2" if start.startswith("Failed") else b""
    line = peer.sshd.line(start.encode() + user + b" from " + peer.at + tail)
    message = read_line(FRAMINGS["rfc3339"](peer.sshd.program, "4242", line))
    assert message is not None
    read = (message.user, message.user_is_valid, message.address, str(message.port), message.ambiguous)
    assert read == (in_plain(user), False, peer.address, peer.port, False)


LENGTHS = st.integers(0, 200)


@examples(400)
@given(PEERS, LENGTHS, st.integers(0, 120), st.sampled_from(["rfc3339", "json", "journal", "short-precise", "repeated"]))
def test_a_cut_never_leaves_another_address(peer: Peer, filling: int, blanks: int, framing: str) -> None:
    """
    A client chooses the length of its name so that sshd's cut at 500 bytes falls behind an address of its own.

    Blanks behind that address are taken off by journald, so that the line does not even have the length of a cut one.
    """
    forged = b" 6.6.6.6 port 22 [preauth]"
    name = (b"\xff" * filling)[: 199 - len(forged)] + forged + b" " * blanks
    text = b"Connection closed by invalid user %s %s" % (name_as_sent(name, 200), peer.at)
    line = peer.sshd.line(text, preauth=True)
    message = read_line(FRAMINGS[framing](peer.sshd.program, "4242", line))
    assert message is not None
    assert message.address in {None, peer.address}, line


def test_a_cut_behind_blanks_in_the_journal() -> None:
    """The shortest form of that attack: the name fills the line, and blanks stand where sshd cuts."""
    peer = Peer(Sshd("sshd", encodes_twice=True), "192.0.2.10", "40022")
    forged = b" 6.6.6.6 port 22 [preauth]"
    name = b"\xff" * 70 + b"xx" + forged + b" " * 100
    line = peer.sshd.line(b"Connection closed by invalid user %s %s" % (name[:200], peer.at), preauth=True)
    assert len(line) == 500
    message = read_line(FRAMINGS["journal"](peer.sshd.program, "4242", line))
    assert message is not None
    assert message.address is None


def events_of(lines: list[str]) -> list[Event]:
    """Run whole lines through the pipeline, to the end of the input."""
    told: list[Event] = []
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, told.append)
    reader = LineReader(MATCHER, Timestamps(NOW, UTC), keep_text=True)
    correlator.feed(reader.lines("".join(f"{line}\n" for line in lines).encode("latin-1"), 1))
    correlator.settle()
    return told


@examples(300)
@given(st.data(), st.sampled_from(sorted(set(FRAMINGS) - {"repeated"})))
def test_no_event_of_another_address(data: st.DataObject, framing: str) -> None:
    """
    One connection with one or two hostile lines, and one honest login next to it.

    No login, logout, attempt or probe has an address that no daemon wrote, nobody is told as logged in but those for whom
    sshd wrote ``Accepted`` or PAM opened a session, and nobody is told as a forger: these lines are sshd's own.
    """
    hostiles = [
        data.draw(st.composite(KINDS[data.draw(st.sampled_from(sorted(KINDS)))])()) for _ in range(data.draw(st.integers(1, 2)))
    ]
    frame = FRAMINGS[framing]
    lines = [frame(meant.program, "4242", meant.text) for meant in hostiles]
    lines.insert(
        data.draw(st.integers(0, len(lines))), frame("sshd", "77", "Accepted password for alice from 198.51.100.1 port 9 ssh2")
    )
    real = {meant.address for meant in hostiles} | {None, "198.51.100.1"}
    entering = {meant.user for meant in hostiles if meant.actions & {"accepted", "session_opened"}} | {"alice"}
    for event in events_of(lines):
        assert isinstance(event, Login | Logout | Attempt | Probe | Forged)
        assert event.address in real, (event, lines)
        assert not isinstance(event, Forged), (event, lines)
        if isinstance(event, Login | Logout):
            assert event.user in entering or (event.user or "").rstrip() in {(user or "").rstrip() for user in entering}, (
                event,
                lines,
            )


@examples(200)
@given(
    hostile().filter(lambda text: b"\n" not in text),
    st.sampled_from(["app", "nginx", "my-app", "kernel", "sudo", "CRON", "java"]),
)
def test_other_programs_tell_nothing(text: bytes, program: str) -> None:
    """What a peer makes another program log is no event, whatever words it holds: only PAM's own lines are read there."""
    for name, frame in FRAMINGS.items():
        if name in {"relayed", "repeated"} | WITHOUT_TAG:
            continue  # there the text itself stands where a tag may be
        assert [
            event for event in events_of([frame(program, "4242", text.decode("latin-1"))]) if not isinstance(event, Forged)
        ] == []


@pytest.mark.parametrize("tail", [" [preauth]", ""])
def test_an_annotation_in_a_folded_line(tail: str) -> None:
    """Rsyslog folds equal lines without annotations, too: what a client puts into its name is none of them."""
    name = " from 6.6.6.6 port 22 ssh2 @[_PID=1 _UID=1000 _GID=1 _COMM=x"
    text = f"error: maximum authentication attempts exceeded for invalid user {name} from 192.0.2.10 port 1 ssh2{tail}"
    message = read_line(FRAMINGS["repeated"]("sshd", "4242", text))
    assert message is not None
    assert message.address in {None, "192.0.2.10"}


def test_a_folded_line_that_was_cut() -> None:
    """What a zone's owner writes before sshd's cut is no annotation: the line stays unmatched."""
    text = f"reverse mapping checking getaddrinfo for  @[_PID=1 _UID=1000 _GID=1 _COMM=x{'x' * 500}"[:500]
    message = read_line(FRAMINGS["repeated"]("sshd", "4242", text))
    assert message is not None
    assert message.action == "unmatched"
