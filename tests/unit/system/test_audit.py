"""The rows of ``sshbell audit``: what each judges, which line it gives, and whose logins it counts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from consumer.keys.authorized_keys import AuthorizedKey, parsed
from consumer.store.queries import KeySeen
from consumer.store.recent_logins import LoginKind
from consumer.system.audit_algorithms import ALGORITHM_ADVICE, host_key_rows
from consumer.system.audit_keys import KEY_ROW_LIMIT, key_rows
from consumer.system.audit_row import ACCOUNT_ROW_LIMIT, Judged, Site, affected, some_accounts
from consumer.system.audit_settings import SETTING_ADVICE
from consumer.system.pam_stack import PamEntry, pam_stack

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from consumer.keys.sshd_config import Values

ADVICE = {advice.name: advice for advice in (*SETTING_ADVICE, *ALGORITHM_ADVICE)}
DAY_US = 86400 * 1_000_000
NOW_US = 1_800_000_000_000_000


def login(
    user: str | None = "alice", methods: str = "publickey", *, failed: int = 0, took_s: int = 0, count: int = 1
) -> LoginKind:
    """Return equal logins; several methods have commas between them."""
    factors = methods if "," in methods else None
    return LoginKind(user, "192.0.2.7", methods.rpartition(",")[2], None, factors, failed, took_s, count, NOW_US)


LOGINS = [
    login("root", "publickey", count=3), login("root", "password", count=2), login("alice", "keyboard-interactive/pam", count=5),
    login("bob", "publickey,keyboard-interactive/pam"), login("carol", "none"), login("dave", failed=3, took_s=50),
    login("erin", failed=5, took_s=90),
]  # fmt: skip


def entry(module: str, *arguments: str) -> PamEntry:
    """Return a line of PAM that authenticates."""
    text = " ".join(["auth required", f"{module}.so", *arguments])
    return PamEntry("auth", module, list(arguments), "/etc/pam.d/sshd:3", text)


CODE = entry("pam_exec", "expose_authtok", "quiet", "/opt/sshbell/bin/sshbell", "pam", "verify")


def settings(text: str) -> Values:
    """Return settings as sshd prints them."""
    found: Values = {}
    for line in text.strip().split("\n"):
        keyword, _, value = line.strip().partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def judged(name: str, text: str, *modules: PamEntry) -> Judged | None:
    """Judge settings as one piece of advice does."""
    return ADVICE[name].judge(Site(settings("UsePAM yes\n" + text), LOGINS, list(modules)))


def prevented(found: Judged) -> Counter[str] | None:
    """Return whose logins the lines would have prevented."""
    return None if found.prevents is None else affected(LOGINS, found.prevents)


NO_PASSWORDS = "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
OATH = entry("pam_oath")


@pytest.mark.parametrize(
    ("name", "text", "modules", "state", "lines", "accounts"),
    [
        ("root login", "PermitRootLogin yes", (), "fault", ("PermitRootLogin prohibit-password",), {"root": 2}),
        ("root login", NO_PASSWORDS + "PermitRootLogin yes", (), "warning", ("PermitRootLogin no",), {"root": 5}),
        ("root login", "PermitRootLogin without-password", (), "warning", ("PermitRootLogin no",), {"root": 5}),
        ("root login", "PermitRootLogin yes\nAuthenticationMethods publickey", (), "warning", ("PermitRootLogin no",),
         {"root": 5}),
        ("passwords", "KbdInteractiveAuthentication no", (), "warning", ("PasswordAuthentication no",),
         {"root": 2, "alice": 5, "carol": 1}),
        ("passwords", "KbdInteractiveAuthentication yes", (), "warning",
         ("PasswordAuthentication no", "KbdInteractiveAuthentication no"), {"root": 2, "alice": 5, "carol": 1}),
        ("passwords", "KbdInteractiveAuthentication yes", (OATH,), "warning",
         ("AuthenticationMethods publickey,keyboard-interactive:pam",), {"root": 2, "alice": 5, "carol": 1}),
        ("empty passwords", "PermitEmptyPasswords yes", (), "fault", ("PermitEmptyPasswords no",), {"carol": 1}),
        ("second factor", "AuthenticationMethods any", (OATH,), "warning",
         ("AuthenticationMethods publickey,keyboard-interactive:pam",), {"root": 3, "dave": 1, "erin": 1}),
        ("second factor", "KbdInteractiveAuthentication no", (OATH,), "fault", ("KbdInteractiveAuthentication yes",), {}),
        ("second factor", "AuthenticationMethods publickey,password publickey", (), "warning",
         ("AuthenticationMethods publickey,keyboard-interactive:pam",), {"root": 3, "dave": 1, "erin": 1}),
        ("second factor", "UsePAM yes", (CODE,), "warning",
         ("AuthenticationMethods publickey,keyboard-interactive:pam",), {"root": 3, "dave": 1, "erin": 1}),
        ("second factor", "KbdInteractiveAuthentication no", (CODE,), "fault", ("KbdInteractiveAuthentication yes",), {}),
        ("second factor", "UsePAM yes", (entry("pam_google_authenticator", "nullok"),), "warning",
         ("auth required pam_google_authenticator.so",), None),
        ("MaxAuthTries", "MaxAuthTries 6", (), "warning", ("MaxAuthTries 4",), {"erin": 1}),
        ("pam_abl", "MaxAuthTries 6", (entry("pam_abl"),), "warning", ("MaxAuthTries 3",), {"dave": 1, "erin": 1}),
        ("LoginGraceTime", "LoginGraceTime 0", (), "warning", ("LoginGraceTime 60",), {"erin": 1}),
        ("LoginGraceTime", "LoginGraceTime 10m", (), "warning", ("LoginGraceTime 60",), {"erin": 1}),
        ("MaxStartups", "MaxStartups 500", (), "warning", ("MaxStartups 10:30:100",), None),
        ("TCP forwarding", "AllowTcpForwarding local", (), "warning", ("AllowTcpForwarding no",), None),
        ("agent forwarding", "AllowAgentForwarding yes", (), "warning", ("AllowAgentForwarding no",), None),
        ("X11 forwarding", "X11Forwarding yes", (), "warning", ("X11Forwarding no",), None),
        ("GatewayPorts", "GatewayPorts clientspecified", (), "warning", ("GatewayPorts no",), None),
        ("PermitTunnel", "PermitTunnel point-to-point", (), "warning", ("PermitTunnel no",), None),
        ("LogLevel", "LogLevel QUIET", (), "fault", ("LogLevel VERBOSE",), {}),
        ("LogLevel", "AuthenticationMethods publickey,password", (), "warning", ("LogLevel VERBOSE",), {}),
        ("PermitUserRC", "PermitUserRC yes", (), "warning", ("PermitUserRC no",), {}),
        ("PermitUserEnvironment", "PermitUserEnvironment LANG,LD_*", (), "fault", ("PermitUserEnvironment no",), {}),
        ("StrictModes", "StrictModes no", (), "fault", ("StrictModes yes",), None),
        ("ciphers", "Ciphers aes256-ctr,3des-cbc", (), "fault", ("Ciphers aes256-ctr",), None),
        ("ciphers", "Ciphers arcfour", (), "fault",
         ("Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes128-ctr",), None),
        ("MACs", "MACs hmac-sha1,hmac-sha2-256", (), "warning", ("MACs hmac-sha2-256",), None),
        ("MACs", "MACs hmac-md5-96,hmac-sha2-256", (), "fault", ("MACs hmac-sha2-256",), None),
        ("key exchange", "KexAlgorithms curve25519-sha256,diffie-hellman-group14-sha1", (), "warning",
         ("KexAlgorithms curve25519-sha256",), None),
        ("key exchange", "KexAlgorithms curve25519-sha256,diffie-hellman-group1-sha1", (), "fault",
         ("KexAlgorithms curve25519-sha256",), None),
        ("host keys", "HostKeyAlgorithms ssh-ed25519,ssh-rsa", (), "warning", ("HostKeyAlgorithms ssh-ed25519",), None),
        ("signatures", "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-dss", (), "fault",
         ("PubkeyAcceptedAlgorithms ssh-ed25519",), {}),
        ("RSA keys", "RequiredRSASize 1024", (), "warning", ("RequiredRSASize 2048",), None),
    ],
)  # fmt: skip
def test_advice(
    name: str, text: str, modules: tuple[PamEntry, ...], state: str, lines: tuple[str, ...], accounts: dict[str, int] | None
) -> None:
    """Each fault is found, with the line that mends it and the logins that this line would have prevented."""
    found = judged(name, text, *modules)
    assert found is not None
    assert (found.state, found.lines) == (state, lines)
    assert prevented(found) == accounts
    # The line mends it: the same advice finds no fault with it.
    if not found.place:
        keywords = {line.partition(" ")[0] for line in lines}
        kept = [line for line in text.split("\n") if line.partition(" ")[0] not in keywords]
        again = judged(name, "\n".join([*lines, *kept]), *modules)
        assert again is not None
        assert again.state == "ok" or again.lines != lines


@pytest.mark.parametrize(
    ("name", "text", "modules"),
    [
        ("root login", "PermitRootLogin no", ()), ("root login", "PermitRootLogin forced-commands-only", ()),
        ("passwords", NO_PASSWORDS, ()), ("passwords", "AuthenticationMethods publickey,keyboard-interactive:pam", (OATH,)),
        ("second factor", NO_PASSWORDS, ()), ("MaxAuthTries", "MaxAuthTries 3", ()),
        ("LoginGraceTime", "LoginGraceTime 1m30s", ()),
        ("second factor", "AuthenticationMethods publickey,keyboard-interactive:pam", (OATH,)),
        ("pam_abl", "MaxAuthTries 3", (entry("pam_abl"),)), ("MaxStartups", "MaxStartups 10:30:100", ()),
        ("AllowUsers", "AllowUsers alice", ()), ("AllowUsers", "AllowGroups staff", ()),
        ("TCP forwarding", "DisableForwarding yes\nAllowTcpForwarding yes", ()), ("LogLevel", "LogLevel INFO", ()),
        ("UsePAM", "UsePAM yes", ()), ("ciphers", "Ciphers chacha20-poly1305@openssh.com,aes256-ctr", ()),
        ("RSA keys", "RequiredRSASize 3072", ()),
    ],
)  # fmt: skip
def test_good_settings(name: str, text: str, modules: tuple[PamEntry, ...]) -> None:
    """What follows the advice gets no line."""
    found = judged(name, text, *modules)
    assert found is not None
    assert (found.state, found.lines) == ("ok", ())


def test_advice_that_does_not_apply() -> None:
    """There is no row about pam_abl without it, about UsePAM without PAM, or about algorithms that only sshd knows."""
    assert judged("pam_abl", "MaxAuthTries 6") is None
    assert ADVICE["UsePAM"].judge(Site(settings("UsePAM no"), [], None)) is None
    found = ADVICE["UsePAM"].judge(Site(settings("UsePAM no"), [], [entry("pam_unix")]))
    assert found is not None
    assert found.state == "warning"
    assert judged("ciphers", "Port 22") is None
    assert judged("ciphers", "Ciphers +aes128-cbc") is None


def test_proposed_accounts_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """AllowUsers takes patterns and hosts, so only plain names of accounts that exist go into a line to copy."""
    monkeypatch.setattr("consumer.system.audit_settings._exists", lambda name: name != "ghost")
    hostile = ["*", "a b", "root@192.0.2.1", "!alice", "x\nPermitRootLogin yes", "\x1b[2J", "alice,bob", "-x"]
    logins = [login(name) for name in ("alice", "ghost", "deploy", None, *hostile)]
    found = ADVICE["AllowUsers"].judge(Site({}, logins, None))
    assert found is not None
    assert found.lines == ("AllowUsers alice deploy",)
    assert found.prevents is not None
    assert affected(logins, found.prevents).keys() == {"ghost", "(unknown)", *hostile}


def test_many_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For many accounts a group is proposed, which keeps everybody out until they are in it; a row names some of them."""
    monkeypatch.setattr("consumer.system.audit_settings._exists", lambda _name: True)
    logins = [login(f"user{number}", count=number + 1) for number in range(ACCOUNT_ROW_LIMIT + 7)]
    found = ADVICE["AllowUsers"].judge(Site({}, logins, None))
    assert found is not None
    assert found.lines == ("AllowGroups ssh-users",)
    assert found.prevents is not None
    accounts = affected(logins, found.prevents)
    assert accounts.total() == sum(one.count for one in logins)
    assert some_accounts(accounts)[0] == f"user{ACCOUNT_ROW_LIMIT + 6}"
    assert len(some_accounts(accounts)) == ACCOUNT_ROW_LIMIT


def key_of(number: int, *, type_: str = "ssh-ed25519", bits: int = 0, comment: str = "") -> AuthorizedKey:
    """Return a line of authorized_keys."""
    sha = "SHA256:" + base64.b64encode(number.to_bytes(32, "big")).decode().rstrip("=")
    return AuthorizedKey("alice", type_, sha, "MD5:" + ":".join(["00"] * 16), comment, [], bits=bits)


def rows_of(keys: list[AuthorizedKey], seen: list[KeySeen], since_us: int | None = 0) -> list[tuple[str, str, str, int | None]]:
    """Return the rows about keys, without reasons and lines."""
    logins = [LoginKind("alice", "192.0.2.7", "publickey", one.info, None, 0, 0, 4, one.last_us) for one in seen]
    rows = key_rows(keys, seen, logins, "web1", since_us, NOW_US)
    return [(row.name, row.state, row.text, row.logins) for row in rows]


def test_keys() -> None:
    """Old keys are faults, with their last use and their logins; unused ones are warnings."""
    dsa, short = key_of(1, type_="ssh-dss", comment="old laptop"), key_of(2, type_="ssh-rsa", bits=1024)
    long, unused, elsewhere = key_of(3, type_="ssh-rsa", bits=4096), key_of(4), key_of(5)
    seen = [
        KeySeen(f"RSA {short.sha256}", "alice", "web1", NOW_US - DAY_US), KeySeen(f"RSA {long.sha256}", "alice", "web1", NOW_US),
        KeySeen(f"DSA {dsa.sha256}", "alice", "web1", NOW_US - 200 * DAY_US),
        KeySeen(f"ED25519 {elsewhere.sha256}", "alice", "web2", NOW_US),
    ]  # fmt: skip
    assert rows_of([dsa, short, long, unused, elsewhere], seen) == [
        ("old keys", "fault", f"{dsa.sha256} (old laptop) of alice: DSA, last used 2026-06-29", 4),
        ("old keys", "fault", f"{short.sha256} of alice: RSA with 1,024 bits, last used 2027-01-14", 4),
        ("unused keys", "warning", f"{dsa.sha256} (old laptop) of alice: last used 2026-06-29", 0),
        ("unused keys", "warning", f"{unused.sha256} of alice: not used in 90 days", 0),
        ("unused keys", "warning", f"{elsewhere.sha256} of alice: not used in 90 days", 0),
    ]


def test_keys_without_faults() -> None:
    """There is a row that says so; a young store cannot know which keys are unused."""
    good = key_of(1)
    seen = [KeySeen(f"ED25519 {good.sha256}", "alice", "web1", NOW_US)]
    assert [row[1] for row in rows_of([good], seen)] == ["ok", "ok"]
    assert rows_of([good, key_of(2)], seen, NOW_US - 3 * DAY_US)[1][:3] == (
        "unused keys", "ok", "sshbell knows the logins of 3 days; after 90 days it lists unused keys",
    )  # fmt: skip
    assert [row[0] for row in rows_of([good], [], None)] == ["old keys"]


def test_many_keys() -> None:
    """A user with many old keys does not hide the other rows."""
    rows = rows_of([key_of(number, type_="ssh-dss") for number in range(KEY_ROW_LIMIT + 3)], [], None)
    assert len(rows) == KEY_ROW_LIMIT + 1
    assert rows[-1][2] == "and 3 more"


def rsa_line(bits: int) -> bytes:
    """Return a line of authorized_keys with an RSA key."""
    modulus = (1 << bits - 1).to_bytes(bits // 8 + 1, "big")
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (b"ssh-rsa", b"\x01\x00\x01", modulus))
    return b"ssh-rsa " + base64.b64encode(blob) + b" it\x1b[2J\n"


def test_host_keys(tmp_path: Path) -> None:
    """The length of a key of the host is read from its public half; a missing one is no fault."""
    (tmp_path / "short.pub").write_bytes(rsa_line(1024))
    (tmp_path / "long.pub").write_bytes(rsa_line(2048))
    assert [key.bits for key in parsed(rsa_line(1024) + rsa_line(2048))] == [1024, 2048]
    values = {"hostkey": [f"{tmp_path}/{name}" for name in ("short", "long", "absent")]}
    (row,) = host_key_rows(values)
    assert (row.state, row.text) == ("fault", f"{tmp_path}/short: RSA with 1,024 bits")
    (row,) = host_key_rows({"hostkey": values["hostkey"][1:]})
    assert row.state == "ok"


def test_pam_stack(tmp_path: Path) -> None:
    """Included files are read in place, one type alone where a line asks for it; a file that includes itself ends."""
    (tmp_path / "sshd").write_text(
        "# PAM\n@include common-auth\n-session optional pam_x.so a b # c\naccount include others\n"
        "auth [success=1 \\\n default=ignore] /lib/security/pam_abl.so config=/etc/abl\nnonsense\n@include sshd\n"
    )
    (tmp_path / "common-auth").write_text("auth required pam_oath.so nullok\n")
    (tmp_path / "others").write_text("auth required pam_no.so\naccount required pam_access.so\n")
    found = pam_stack("sshd", tmp_path)
    assert [(one.type, one.module, one.arguments) for one in found[:4]] == [
        ("auth", "pam_oath", ["nullok"]), ("session", "pam_x", ["a", "b"]), ("account", "pam_access", []),
        ("auth", "pam_abl", ["config=/etc/abl"]),
    ]  # fmt: skip
    assert found[0].place == f"{tmp_path}/common-auth:1"
    assert 4 < len(found) < 40
