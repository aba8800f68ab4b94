"""Owners of keys: of the logins in the captures, and beside a real sshd, which says which line it took."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.keys.authorized_keys import parsed
from consumer.keys.fields import Question
from consumer.keys.files import owners_of
from consumer.keys.sshd_config import SshdSettings, sshd_settings
from tests import needs
from tests.integration.sshd import free_port
from tests.integration.truth import Capture, Event, run
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CAPTURES = [
    Capture("openssh-9.2p1-debian12", "info", "rfc3339"),
    Capture("openssh-10.5p1-portable", "verbose", "omprog-jsonmesg"),
    Capture("three-hosts-9.2p1-debian12", "merged", "rfc3339"),
    Capture("journald-9.2p1-debian12", "verbose", "json"),
]


def made_up(fingerprint: str) -> tuple[str, str]:
    """Return a key for a fingerprint that was logged, and its own: the captures do not tell the keys."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(fingerprint.encode()).digest()
    own = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}", f"SHA256:{own}"


def wanted(event: Event) -> Question:
    """Return what an event says of the key."""
    return Question(ME.pw_name, event.get("ssh.key.fingerprint", ""), event.get("ssh.certificate.ca_fingerprint", ""))


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_owner_is_found_for_every_login_with_a_key(capture: Capture, tmp_path: Path) -> None:
    """
    Each key of the capture stands in the homes of those who used it, with their names in the comment.

    The captures hold fingerprints and no keys, so each fingerprint in the log is replaced by that of a key made for it.
    """
    text = capture.read()
    # A journal's or a file's JSON may have escaped the slashes.
    text = text.replace(b"\\/", b"/")
    for fingerprint in set(re.findall(rb"SHA256:[A-Za-z0-9+/]{43}", text)):
        text = text.replace(fingerprint, made_up(fingerprint.decode())[1].encode())
    log = tmp_path / "log"
    log.write_bytes(text)
    homes: dict[str, list[str]] = {}
    for record in capture.accepted:
        if "publickey" in record["auth_method"].split("+"):
            name = record.get("user_effective") or record["user"]
            homes.setdefault(name, []).append(f"{made_up(record['key_fp'])[0]} {name} with {record['key_fp'][7:15]}")
            if "cert" in record:
                homes[name].append(f"cert-authority {made_up(record['cert']['ca_fp'])[0]} CA of {name}")
    for name, lines in homes.items():
        (tmp_path / name / ".ssh").mkdir(parents=True, mode=0o700)
        (tmp_path / name / ".ssh/authorized_keys").write_text("\n".join(dict.fromkeys(lines)))
    logins = [
        event for event in run("replay", log) if event["event.action"] == "ssh_login" and event["ssh.method"] == "publickey"
    ]
    by_key = [record for record in capture.accepted if record["auth_method"].split("+")[-1] == "publickey"]
    assert len(logins) == len(by_key) > 0
    for event in logins:
        name = event["user.name"]
        account = pwd.struct_passwd((name, "x", os.geteuid(), os.getegid(), "", str(tmp_path / name), "/bin/sh"))
        owners = owners_of(wanted(event), account, SshdSettings())
        record = next(r for r in by_key if (r["src_ip"], r["src_port"]) == (event["source.ip"], event["source.port"]))
        expected = f"CA of {name}" if "cert" in record else f"{name} with {record['key_fp'][7:15]}"
        assert [owner.comment for owner in owners] == [expected], event


SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile "{folder}/keys of/%u"
TrustedUserCAKeys {folder}/authorities
PidFile none
StrictModes no
PermitRootLogin yes
PermitUserEnvironment yes
UsePAM no
LogLevel VERBOSE
FingerprintHash {hash}
"""
ME = pwd.getpwuid(os.geteuid())


def keygen(*arguments: str | Path) -> None:
    """Run ssh-keygen."""
    subprocess.run([needs.program("ssh-keygen", "openssh-client"), "-q", *arguments], check=True, stdin=subprocess.DEVNULL)


@contextmanager
def sshd(folder: Path, hash_: str = "sha256") -> Iterator[Callable[[Path], list[str]]]:
    """Run sshd; yield what tries a key and returns the lines that it logged meanwhile."""
    needs.root("run an sshd that logs in")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    keygen("-t", "ed25519", "-N", "", "-f", folder / "host_key")
    (folder / "keys of").mkdir()
    (folder / "authorities").touch()
    port = free_port()
    config, log = folder / "sshd_config", folder / "sshd.log"
    config.write_text(SSHD.format(port=port, folder=folder, hash=hash_))
    process = subprocess.Popen([needs.program("sshd", "openssh-server"), "-D", "-f", config, "-E", log], stdin=subprocess.DEVNULL)

    def logged() -> str:
        return log.read_text() if log.exists() else ""

    def tried(key: Path) -> list[str]:
        before = len(logged())
        client = [
            needs.program("ssh", "openssh-client"), "-F", "none", "-p", str(port), "-i", str(key), "-o", "IdentitiesOnly=yes",
            "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "LogLevel=ERROR", f"{ME.pw_name}@127.0.0.1", "true",
        ]  # fmt: skip
        subprocess.run(client, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
        ends = re.compile(r"^(Disconnected from|Connection closed by|Connection reset by)", re.MULTILINE)
        wait_for(lambda: ends.search(logged()[before:]) is not None, "sshd tells of the end")
        return logged()[before:].splitlines()

    try:
        wait_for(lambda: "Server listening" in logged(), "sshd listens")
        yield tried
    finally:
        process.terminate()
        process.wait()


# Before a key: what a real sshd takes, and what it does not. Each is tried.
OPTIONS = [
    "", " ", "\t", "restrict ", "restrict,pty \t ", "NO-PTY,No-Port-Forwarding ", "restrict, ", 'command="true # a, \\"b\\"" ',
    'from="127.0.0.0/8,!10.0.0.1" ', 'environment="A_1=x y",no-X11-forwarding ', 'permitopen="[::1]:80",permitopen="*:*" ',
    'permitlisten="8080" ', 'tunnel="0" ', 'tunnel="any" ', 'expiry-time="20990101" ', 'expiry-time="209901010000Z" ',
    'expiry-time="20990101000000" ', "no-touch-required,verify-required ", "no-verify-required,touch-required ",
    'Command="a\\\\b" ',
    "no-restrict ", "no-cert-authority ", "future ", "ptyx ", ",pty ", "pty,,no-pty ", "pty;x ", "command ", "command=true ",
    'command="true ', 'command="true\\" ', 'command="a",command="b" ', 'from="127.0.0.1",from="*" ', 'environment="a-b=c" ',
    'environment="a" ', 'permitopen="host" ', 'permitopen="host:99999999" ', 'permitlisten="host" ', 'tunnel="x" ',
    'expiry-time="tomorrow" ', 'expiry-time="2099010" ', 'principals="root" ', "ssh-ed25519 ", "12 ", '"pty" ', "#", "x\0", "\r",
    "\v",
]  # fmt: skip


def test_a_line_is_taken_exactly_when_sshd_takes_it(tmp_path: Path) -> None:
    """The key is offered to the real sshd with each of the options, and the file is read here."""
    keygen("-t", "ed25519", "-N", "", "-C", "carol@laptop", "-f", tmp_path / "key")
    key = (tmp_path / "key.pub").read_bytes()
    with sshd(tmp_path) as tried:
        for options in OPTIONS:
            text = b"# first\n" + options.encode() + key
            (tmp_path / "keys of" / ME.pw_name).write_bytes(text)
            accepted = [line for line in tried(tmp_path / "key") if line.startswith("Accepted publickey ")]
            assert [found.comment for found in parsed(text)] == ["carol@laptop"] * len(accepted), options


@pytest.mark.parametrize("hash_", ["sha256", "md5"])
def test_owner_of_a_real_login(tmp_path: Path, hash_: str) -> None:
    """Of keys of all types, and of certificates; as this sshd's settings and log have them."""
    lines = []
    for number, kind in enumerate(["ed25519", "ecdsa", "rsa"], 1):
        keygen("-t", kind, "-N", "", "-C", f"carol's {kind}", "-f", tmp_path / kind)
        lines.append(f'command="true {number}" {(tmp_path / f"{kind}.pub").read_text()}')
    for name in ("own", "company"):
        keygen("-t", "ed25519", "-N", "", "-C", f"{name} CA", "-f", tmp_path / name)
        keygen("-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / f"of_{name}")
        keygen("-s", tmp_path / name, "-I", f"carol at {name}", "-z", "7", "-n", ME.pw_name, tmp_path / f"of_{name}.pub")
    lines.append(f"cert-authority {(tmp_path / 'own.pub').read_text()}")
    with sshd(tmp_path, hash_) as tried:
        (tmp_path / "keys of" / ME.pw_name).write_text("".join(lines))
        (tmp_path / "authorities").write_bytes((tmp_path / "company.pub").read_bytes())
        said = {name: tried(tmp_path / name) for name in ("ed25519", "ecdsa", "rsa", "of_own", "of_company")}
        settings = sshd_settings(ME.pw_name, "", "127.0.0.1", str(tmp_path / "sshd_config"))
    found = {}
    for name, log in said.items():
        path = tmp_path / f"{name}.log"
        path.write_text("".join(f"2026-11-22T10:00:00.000001+00:00 web1 sshd[42]: {line}\n" for line in log))
        (login,) = [event for event in run("replay", path) if event["event.action"] == "ssh_login"]
        (owner,) = owners_of(wanted(login), ME, settings)
        found[name] = (owner.comment, owner.options)
    assert found == {
        "ed25519": ("carol's ed25519", ['command="true 1"']),
        "ecdsa": ("carol's ecdsa", ['command="true 2"']),
        "rsa": ("carol's rsa", ['command="true 3"']),
        "of_own": ("own CA", []),
        "of_company": ("company CA", []),
    }
