"""``consumer.matching.messages``: from the text of a rule's fields to typed facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.actions import LineAction
from consumer.addresses import ip_text
from consumer.matching.matcher import Matcher
from consumer.matching.messages import AuthMessage, auth_message, method_info, origin, pam_name, sshd_name

if TYPE_CHECKING:
    from consumer.matching.rules import Engine

MATCHERS: dict[Engine, Matcher] = {"lowered": Matcher(), "pyparsing": Matcher(engine="pyparsing")}
KEY = "SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE"
HOSTBASED = {
    "key_type": "RSA",
    "key_fingerprint": "SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE",
    "client_user": "a",
    "client_host": "b",
}
CERTIFICATE = "ID a (serial 5) CA x (serial 18446744073709551615) CA RSA SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"
CA = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"


def message(text: str, program: str = "sshd", engine: Engine = "lowered") -> AuthMessage:
    """Read one text of a program."""
    found = MATCHERS[engine].find(("", "bastion1", program, "4242", text, ""))
    assert found is not None
    return auth_message(found)


WHOLE: dict[str, AuthMessage] = {
    f"Accepted publickey for alice from 192.0.2.1 port 50022 ssh2: ED25519 {KEY}": AuthMessage(
        action=LineAction.ACCEPTED, rule="accepted", user="alice", address="192.0.2.1", ip="192.0.2.1", port=50022,
        method="publickey", key_type="ED25519", key_fingerprint=KEY,
    ),
    f"Accepted publickey for carol from 2001:db8::1 port 50022 ssh2: ED25519-CERT {KEY} {CERTIFICATE}": AuthMessage(
        action=LineAction.ACCEPTED,
        rule="accepted", user="carol", address="2001:db8::1", ip="2001:db8::1", port=50022,
        method="publickey", key_type="ED25519-CERT", key_fingerprint=KEY, certificate_id="a (serial 5) CA x",
        certificate_serial=18446744073709551615, ca_fingerprint=CA, fields={"ca_key_type": "RSA"},
    ),
    f"Accepted publickey for carol from 192.0.2.1 port 50022 ssh2: RSA-CERT ID carol (serial 1) CA RSA {CA}": AuthMessage(
        action=LineAction.ACCEPTED, rule="accepted", user="carol", address="192.0.2.1", ip="192.0.2.1", port=50022,
        method="publickey", key_type="RSA-CERT", certificate_id="carol", certificate_serial=1, ca_fingerprint=CA,
        fields={"ca_key_type": "RSA"},
    ),
    "Accepted keyboard-interactive/pam for ann marie from ::ffff:192.0.2.1 port 1 ssh2": AuthMessage(
        action=LineAction.ACCEPTED,
        rule="accepted", user="ann marie", address="::ffff:192.0.2.1", ip="192.0.2.1", port=1,
        method="keyboard-interactive", submethod="pam",
    ),
    "Accepted gssapi-with-mic for erin from fe80::1%eth0 port 2 ssh2: erin@EXAMPLE.NET": AuthMessage(
        action=LineAction.ACCEPTED, rule="accepted", user="erin", address="fe80::1%eth0", ip="fe80::1", port=2,
        method="gssapi-with-mic", fields={"principal": "erin@EXAMPLE.NET"},
    ),
    "Failed none for invalid user  from UNKNOWN port 65535 ssh2": AuthMessage(
        action=LineAction.FAILED, rule="failed", user="", user_is_valid=False, address="UNKNOWN", port=65535, method="none",
    ),
    "Failed password for zo\\303\\253 from 192.0.2.1 port 3 ssh2": AuthMessage(
        action=LineAction.FAILED,
        rule="failed", user="zoë", address="192.0.2.1", ip="192.0.2.1", port=3, method="password",
    ),
    "message repeated 4 times: [ Failed password for root from 192.0.2.1 port 3 ssh2]": AuthMessage(
        action=LineAction.FAILED,
        rule="failed", user="root", address="192.0.2.1", ip="192.0.2.1", port=3, method="password",
        count=4,
    ),
    "Connection closed by authenticating user zo\\\\303\\\\253 192.0.2.1 port 4 [preauth]": AuthMessage(
        action=LineAction.CONNECTION_CLOSED, rule="connection_closed_authenticating_user", user="zoë", address="192.0.2.1",
        ip="192.0.2.1", port=4, preauth=True,
    ),
    "ROOT LOGIN REFUSED FROM 192.0.2.1 port 4": AuthMessage(
        action=LineAction.USER_DENIED,
        rule="root_login_refused", user="root", address="192.0.2.1", ip="192.0.2.1", port=4,
    ),
    "Starting session: shell on pts/0 for alice from 192.0.2.1 port 4 id 0": AuthMessage(
        action=LineAction.SESSION_STARTED,
        rule="starting_session", user="alice", address="192.0.2.1", ip="192.0.2.1", port=4,
        session_kind="shell", fields={"tty": "pts/0", "session_id": "0"},
    ),
    "PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=alice": AuthMessage(
        action=LineAction.PAM_FAILURE,
        rule="more_failures", user="alice", address="192.0.2.1", ip="192.0.2.1", count=2,
        fields={"uid": "0", "tty": "ssh"},
    ),
    "pam_unix(sshd:session): session closed for user CORP\\bob": AuthMessage(
        action=LineAction.SESSION_CLOSED, rule="session_closed", user="CORP\\bob", fields={"service": "sshd", "type": "session"},
    ),
    "pam_unix(sshd:session): session closed for user caf\xc3\xa9 \xe9": AuthMessage(
        action=LineAction.SESSION_CLOSED, rule="session_closed", user="café \\xe9", fields={"service": "sshd", "type": "session"},
    ),
    "a new kind of login succeeded": AuthMessage(action=LineAction.UNMATCHED),
    "what nobody wrote": AuthMessage(action=LineAction.NOTICE, rule="other", fields={"reason": "what nobody wrote"}),
}  # fmt: skip


@pytest.mark.parametrize("engine", MATCHERS)
@pytest.mark.parametrize("text", WHOLE, ids=[text[:40] for text in WHOLE])
def test_whole_message(text: str, engine: Engine) -> None:
    """A text becomes the message that it is, with all fields, by both engines."""
    assert message(text, engine=engine) == WHOLE[text]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("root", "root"),
        ("", ""),
        ("  a b ", "  a b "),
        ("a\\\\b", "a\\b"),
        ("a\\tb\\nc\\rd", "a\tb\nc\rd"),
        ("\\303\\253", "ë"),
        ("\\377", "\\xff"),
        ("\\\\303\\\\253", "\\303\\253"),
        ("\\001\\033[2J", "\x01\x1b[2J"),
        ("a#012b", "a#012b"),
        ("\\\\", "\\"),
    ],
)
def test_sshd_names(text: str, name: str) -> None:
    """Sshd's encoding is undone once in its own lines, byte by byte, and rsyslog's is left alone."""
    assert sshd_name(text) == name


@pytest.mark.parametrize(
    ("text", "program", "name"),
    [
        ("zo\\\\303\\\\253", "sshd", "zoë"),
        ("CORP\\\\\\\\bob", "sshd", "CORP\\bob"),
        ("CORP\\\\\\\\jsmith", "sshd-session", "CORP\\jsmith"),
        ("CORP\\\\jsmith", "sshd-session", "CORP\\jsmith"),
        ("zo\\303\\253", "sshd-session", "zoë"),
        ("a\\\\tb", "sshd", "a\tb"),
    ],
)
def test_relayed_names(text: str, program: str, name: str) -> None:
    """In what the monitor relays, the encoding is undone twice up to 10.2, and once from 10.3 on."""
    assert message(f"Connection closed by authenticating user {text} 192.0.2.1 port 4 [preauth]", program).user == name


@pytest.mark.parametrize("name", ["CORP\\\\bob", "CORP\\\\nina", "CORP\\\\tom", "a\\\\303b"])
def test_a_relayed_name_that_can_be_read_twice_is_ambiguous(name: str) -> None:
    r"""
    ``CORP\\\\bob [preauth]`` of sshd-session is ``CORP\\bob`` from 10.3 on, and a name with a backspace before.

    Nothing in the line says which, so the message says that its name is not certain.
    """
    read = message(f"Connection closed by authenticating user {name} 192.0.2.1 port 4 [preauth]", "sshd-session")
    assert read.ambiguous or read.user == name.replace("\\\\", "\\")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a#012b", "a\nb"),
        ("#033[2J", "\x1b[2J"),
        ("#177", "\x7f"),
        ("a#b", "a#b"),
        ("#101", "#101"),
        ("a\\tb", "a\\tb"),
        ("\xe9", "\\xe9"),
    ],
)
def test_pam_names(text: str, name: str) -> None:
    """PAM writes raw bytes; what rsyslog does to control characters is undone, and nothing else."""
    assert pam_name(text) == name


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (f"RSA {KEY}", {"key_type": "RSA", "key_fingerprint": KEY}),
        ("RSA 16:27:ac:a5", {"key_type": "RSA", "key_fingerprint": "16:27:ac:a5"}),
        ("ED25519-SK MD5:aa:bb", {"key_type": "ED25519-SK", "key_fingerprint": "MD5:aa:bb"}),
        (f'RSA {KEY}, client user "a", client host "b"', HOSTBASED),
        ("erin@EXAMPLE.NET", {"principal": "erin@EXAMPLE.NET"}),
        (KEY, {"key_fingerprint": KEY}),
        ("something else", {"info": "something else"}),
        ("", {"info": ""}),
    ],
)  # fmt: skip
def test_method_info(text: str, fields: dict[str, str]) -> None:
    """What stands behind ``ssh2:`` is a key, a certificate or a principal; anything else is given as it is."""
    assert method_info(text) == fields


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("UNKNOWN", None),
        ("client.example.net", None),
        ("1.2.3", None),
        ("01.2.3.4", None),
        ("1.2.3.4.", None),
        ("", None),
        (None, None),
        ("\xb2.1.1.1", None),
    ],
)
def test_ip_text(text: str | None, ip: str | None) -> None:
    """An address is one in any spelling, without its zone; a name is none, and nothing raises."""
    assert ip_text(text) == ip


AMBIGUOUS = {
    "Starting session: subsystem 'x' for root from 203.0.113.66 port 22 id 0' for alice from 192.0.2.1 port 4 id 0": True,
    "Starting session: subsystem 'sftp' for alice from 192.0.2.1 port 4 id 0": False,
    "pam_unix(sshd:session): session opened for user x(uid=0) by (uid=0)(uid=1001) by (uid=0)": True,
    "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)": False,
    "Invalid user x from 203.0.113.66 port 22 from 192.0.2.1 port 4": False,
    # The length at which sshd cuts, and one byte less.
    f"Connection closed by invalid user {'x' * 435} 203.0.113.66 port 22 [preauth]": True,
    f"Connection closed by invalid user {'x' * 434} 203.0.113.66 port 22 [preauth]": False,
}


@pytest.mark.parametrize(("text", "ambiguous"), AMBIGUOUS.items(), ids=[text[:60] for text in AMBIGUOUS])
def test_ambiguous(text: str, ambiguous: bool) -> None:  # noqa: FBT001 - a table's column
    """A line that can be read in two ways says so, and one that cannot does not."""
    assert message(text).ambiguous is ambiguous


def test_a_cut_line_gives_no_address() -> None:
    """A line of sshd's greatest length has lost its end: what looks like an address in it is not given as one."""
    text = f"Connection closed by invalid user {'x' * 435} 203.0.113.66 port 22 [preauth]"
    assert len(text) == 500
    read = message(text)
    assert (read.address, read.ip, read.port, read.ambiguous) == (None, None, None, True)


ORIGINS = [
    ("sshd", None, "accepted", False, "unverified"),
    ("sshd", (0, ""), "accepted", False, "verified"),
    ("sshd", (0, "/usr/sbin/sshd"), "accepted", False, "verified"),
    ("sshd", (0, "/usr/lib/openssh/sshd-session (deleted)"), "accepted", False, "verified"),
    ("sshd", (0, "/usr/bin/logger"), "accepted", False, "forged"),
    ("sshd", (0, "/usr/bin/python3.11"), "accepted", False, "forged"),
    ("sshd", (1000, "/usr/sbin/sshd"), "accepted", False, "forged"),
    ("sshd", (1000, "/usr/sbin/sshd"), "disconnected", False, "unverified"),
    ("sshd", (1000, ""), "disconnected", True, "forged"),
    ("sshd", (1000, ""), "session_closed", False, "forged"),
    ("sshbell-pam", None, "code_accepted", False, "unverified"),
    ("sshbell-pam", (0, ""), "code_accepted", False, "verified"),
    ("sshbell-pam", (0, "/usr/bin/python3.11"), "code_accepted", False, "verified"),
    ("sshbell-pam", (0, "/usr/bin/python3.11 (deleted)"), "code_accepted", False, "verified"),
    # su runs as root under any name that its user gives it.
    ("sshbell-pam", (0, "/usr/bin/su"), "code_accepted", False, "forged"),
    ("sshbell-pam", (0, "/usr/sbin/sshd"), "code_accepted", False, "forged"),
    ("sshbell-pam", (1000, "/usr/bin/python3.11"), "code_accepted", False, "forged"),
    ("sshbell-pam", (1000, ""), "code_sent", False, "forged"),
    ("sshbell-pam", (1000, ""), "code_refused", False, "forged"),
]


@pytest.mark.parametrize(("program", "trusted", "action", "preauth", "word"), ORIGINS)
def test_origin(
    program: str, trusted: tuple[int, str] | None, action: str, preauth: bool, word: str,  # noqa: FBT001 - a table's column
) -> None:  # fmt: skip
    """The kernel's word about the sender makes a line verified, unverified or forged."""
    family_of = dict.fromkeys(("sshd", "sshd-session", "sshbell-pam"), "sshd").get
    found = origin(trusted, LineAction(action), preauth=preauth, program=program, family_of=lambda name: family_of(name, ""))
    assert found == word
