"""
Families of lines: what one line of a kind says, each of its kind says.

Methods, reasons, modules, services and ports are any; a level, a mark of the monitor, blanks and a full stop change nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from consumer.matching.matcher import Matcher
from consumer.matching.messages import auth_message

MATCHER = Matcher()


class Said(NamedTuple):
    """The part of a message that no variation changes."""

    action: str
    user: str | None = None
    address: str | None = None
    port: int | None = None


def said(text: str, program: str = "sshd") -> Said:
    """Read a text as a line of a program."""
    found = MATCHER.find(("2026-11-22T10:00:00+00:00", "web1", program, "42", text, ""))
    assert found is not None
    message = auth_message(found)
    return Said(message.action, message.user, message.address, message.port)


ROOT = Said("failed", "root", "192.0.2.7", 4711)
#: One line of each family of OpenSSH's. ``{port}`` stands where versions differ.
LINES = {
    "Failed password for root from 192.0.2.7{port} ssh2": ROOT,
    "Failed password for invalid user root from 192.0.2.7{port} ssh2": ROOT,
    "Failed password for illegal user root from 192.0.2.7{port} ssh2": ROOT,
    "Failed password for root from 192.0.2.7{port}": ROOT,
    "Accepted password for root from 192.0.2.7{port} ssh2": ROOT._replace(action="accepted"),
    "Postponed keyboard-interactive for root from 192.0.2.7{port} ssh2": ROOT._replace(action="postponed"),
    "Partial publickey for root from 192.0.2.7{port} ssh2": ROOT._replace(action="partial"),
    "Invalid user root from 192.0.2.7{port}": ROOT._replace(action="invalid_user"),
    "Illegal user root from 192.0.2.7{port}": ROOT._replace(action="invalid_user"),
    "User root from 192.0.2.7{port} not allowed because not listed in AllowUsers": ROOT._replace(action="user_denied"),
    "PAM: Authentication failure for root from 192.0.2.7{port}": ROOT._replace(action="pam_failure"),
    "PAM: Authentication failure for illegal user root from 192.0.2.7{port}": ROOT._replace(action="pam_failure"),
    "ROOT LOGIN REFUSED FROM 192.0.2.7{port}": ROOT._replace(action="user_denied"),
    "maximum authentication attempts exceeded for root from 192.0.2.7{port} ssh2": ROOT._replace(action="max_attempts"),
    "Connection closed by 192.0.2.7{port}": Said("connection_closed", None, "192.0.2.7", 4711),
    "Connection reset by 192.0.2.7{port}": Said("connection_closed", None, "192.0.2.7", 4711),
    "Disconnected from 192.0.2.7{port}": Said("disconnected", None, "192.0.2.7", 4711),
    "Did not receive identification string from 192.0.2.7{port}": Said("bad_client", None, "192.0.2.7", 4711),
    "Bad protocol version identification 'GET / HTTP/1.0' from 192.0.2.7{port}": Said("bad_client", None, "192.0.2.7", 4711),
    "Timeout before authentication for 192.0.2.7{port}": Said("timeout", None, "192.0.2.7", 4711),
    "Unable to negotiate with 192.0.2.7{port}: no matching cipher found.": Said("negotiation_failed", None, "192.0.2.7", 4711),
}  # fmt: skip
every_line = pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=[line.replace("{port}", "") for line in LINES])


@every_line
def test_port_or_none(line: str, expected: Said) -> None:
    """Older versions write no port."""
    assert said(line.format(port=" port 4711")) == expected
    assert said(line.format(port="")) == expected._replace(port=None)


@every_line
@pytest.mark.parametrize("address", ["2001:db8::7", "::ffff:192.0.2.7", "fe80::7%eth0", "client.example.net", "UNKNOWN"])
def test_any_address(line: str, expected: Said, address: str) -> None:
    """An address is IPv4 or IPv6, with a zone, a name, or UNKNOWN."""
    assert said(line.replace("192.0.2.7", address).format(port=" port 4711")) == expected._replace(address=address)


@every_line
@pytest.mark.parametrize("before", ["", "error: ", "fatal: "])
@pytest.mark.parametrize("mark", ["", " [preauth]", " [postauth]"])
@pytest.mark.parametrize("tail", ["", " ", "  ", ".", " ."])
@pytest.mark.parametrize("port", ["", " port 4711"])
def test_level_mark_and_tail(line: str, expected: Said, before: str, mark: str, tail: str, port: str) -> None:
    """The level changed between versions, the mark with what the process was; blanks and a full stop are a collector's."""
    text = before + line.format(port=port) + mark + tail
    assert said(text) == (expected if port else expected._replace(port=None))


@every_line
@pytest.mark.parametrize("program", ["sshd", "sshd-session", "sshd-auth", "/usr/sbin/sshd"])
def test_any_process_of_sshd(line: str, expected: Said, program: str) -> None:
    """Since 9.8 another process writes what sshd wrote."""
    assert said(line.format(port=" port 4711"), program) == expected


@pytest.mark.parametrize("word", ["Accepted", "Failed", "Postponed", "Partial"])
@pytest.mark.parametrize(
    "method",
    [
        "password", "publickey", "none", "hostbased", "keyboard-interactive", "keyboard-interactive/pam",
        "keyboard-interactive/bsdauth", "gssapi-with-mic", "gssapi-keyex", "gssapi", "rsa", "rhosts", "rhosts-rsa", "kerberos",
        "kerberos-2@ssh.com", "publickey-hostbound-v00@openssh.com", "challenge-response", "skey", "x_NEW.method+1@example.org",
    ],
)  # fmt: skip
def test_any_method(word: str, method: str) -> None:
    """The name of a method is whatever sshd's table holds, patches and versions to come included."""
    text = f"{word} {method} for root from 192.0.2.7 port 4711 ssh2"
    assert said(text) == ROOT._replace(action=word.lower())


@pytest.mark.parametrize(
    "reason",
    [
        "not listed in AllowUsers", "listed in DenyUsers", "account is locked", "shell /sbin/nologin does not exist",
        "none of user's groups are listed in AllowGroups", "a group is listed in DenyGroups", "not in any group",
        'the policy "no: root" said so, for 1 day', "Café",
    ],
)  # fmt: skip
def test_any_reason(reason: str) -> None:
    """A reason is any text of sshd's, or of a patch's."""
    expected = ROOT._replace(action="user_denied", port=None)
    assert said(f"User root from 192.0.2.7 not allowed because {reason}") == expected
    assert said(f"User root not allowed because {reason}") == expected._replace(address=None)


FIELDS = "logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=root"


@pytest.mark.parametrize("module", ["pam_unix", "pam_sss", "pam_winbind", "pam_ldap", "pam_krb5", "pam_unix2", "pam_made_up"])
@pytest.mark.parametrize("of", ["sshd:auth", "sshd", "sshd-keys:auth", "login:auth"])
@pytest.mark.parametrize("tail", ["", " ", "  "])
def test_failure_of_any_module(module: str, of: str, tail: str) -> None:
    """Many modules write pam_unix's line of a failure; the service is any, and very old ones have no type."""
    assert said(f"{module}({of}): authentication failure; {FIELDS}{tail}") == ROOT._replace(action="pam_failure", port=None)


@pytest.mark.parametrize("tag", ["sshd(pam_unix)", "sshd"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"authentication failure; {FIELDS}", ROOT._replace(action="pam_failure", port=None)),
        ("session opened for user root by (uid=0)", Said("session_opened", "root")),
        ("session opened for user root by root(uid=0)", Said("session_opened", "root")),
        ("session opened for user root(uid=0) by (uid=0)", Said("session_opened", "root")),
        ("session opened for user root(uid=0) by root(uid=0)", Said("session_opened", "root")),
        ("session opened for user root", Said("session_opened", "root")),
        ("session closed for user root", Said("session_closed", "root")),
        ("check pass; user unknown", Said("invalid_user")),
        (f"2 more authentication failures; {FIELDS}", ROOT._replace(action="pam_failure", port=None)),
        (f"1 more authentication failure; {FIELDS}", ROOT._replace(action="pam_failure", port=None)),
    ],
)
def test_module_in_the_tag(tag: str, text: str, expected: Said) -> None:
    """Linux-PAM before 0.99 had the module in the tag, and wrote of sessions without ``by`` and ``uid=``."""
    assert said(text if "(" in tag else f"pam_unix(sshd:session): {text}", tag) == expected


@pytest.mark.parametrize("address", ["192.0.2.7:4711", "2001:db8::7:4711", "[2001:db8::7]:4711", "::ffff:192.0.2.7:4711"])
@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Password auth succeeded for 'root' from {}", "accepted"),
        ("Pubkey auth succeeded for 'root' with key md5 aa:bb from {}", "accepted"),
        ("Pubkey auth succeeded for 'root' with ssh-ed25519 key SHA256:abc from {}", "accepted"),
        ("PAM password auth succeeded for 'root' from {}", "accepted"),
        ("Auth succeeded with blank password for 'root' from {}", "accepted"),
        ("Bad password attempt for 'root' from {}", "failed"),
        ("Bad PAM password attempt for 'root' from {}", "failed"),
        ("Login attempt with wrong user root from {}", "user_denied"),
    ],
)
@pytest.mark.parametrize("tail", ["", " ", "."])
def test_dropbear(address: str, text: str, action: str, tail: str) -> None:
    """Dropbear writes address and port as one; since 2026.94 an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    expected = Said(action, "root", host.strip("[]"), int(port))
    assert said(text.format(address) + tail, "dropbear") == expected


@pytest.mark.parametrize(
    "text",
    [
        "Accepted password for root from 192.0.2.7 port 4711 ssh2 and more",
        "Accepted password root from 192.0.2.7 port 4711 ssh2",
        "User root logged in from 192.0.2.7",
        "Authentication of root with a passkey succeeded",
        "Login of user root was rejected",
        "New session opened for root",
        "authentication error for root from 192.0.2.7",
    ],
)
@pytest.mark.parametrize("program", ["sshd", "dropbear", "pam_new(sshd:auth): "])
def test_a_new_wording_is_reported(text: str, program: str) -> None:
    """A line that tells of a login or a try in words that no rule knows is not passed over as a side line."""
    is_pam = program.startswith("pam_")
    assert said(program + text if is_pam else text, "sshd" if is_pam else program) == Said("unmatched")


@pytest.mark.parametrize(
    "text",
    [
        "error: send_error: write: Broken pipe",
        "error: kex_exchange_identification: Connection closed by remote host",
        "Bad protocol version identification 'GET / HTTP/1.1' from 192.0.2.7 port 4711",
        "error: Could not load host key: /etc/ssh/ssh_host_dsa_key",
        "error: Bind to port 22 on 0.0.0.0 failed: Address already in use.",
        "fatal: Cannot bind any address.",
        "pam_systemd(sshd:session): Failed to create session: No such file or directory",
        "pam_made_up(sshd:account): the moon is full",
        "debug1: Forked child 4242.",
        "something that nobody foresaw",
    ],
)
def test_side_lines_are_not(text: str) -> None:
    """What a scanner provokes, a full disk or a fault of the configuration is no line that nobody understands."""
    assert said(text).action != "unmatched"
