"""Whose key it was: where the files are, what is taken of hostile ones, and what a command may do."""

from __future__ import annotations

import base64
import os
import pwd
import sys
import time
from pathlib import Path

import msgspec
import pytest

from consumer.keys import files as key_owners
from consumer.keys.authorized_keys import COMMENT_LIMIT, LINES_LIMIT, OPTION_LIMIT, parsed
from consumer.keys.fields import Question
from consumer.keys.files import keys_of, owners_by_command, owners_of
from consumer.keys.sshd_config import SshdSettings
from tests import needs

NAME = "carol"
HERE = SshdSettings()
ME = pwd.getpwuid(os.geteuid()).pw_name


def line(number: int, comment: str = "", options: str = "") -> str:
    """Write a made-up key, whose blob says its number."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + number.to_bytes(32, "big")
    return f"{options} ssh-ed25519 {base64.b64encode(blob).decode()} {comment}".strip() + "\n"


def fingerprint(number: int) -> str:
    """Return that key's."""
    return next(parsed(line(number).encode())).sha256


def account(home: Path) -> pwd.struct_passwd:
    """Return an account that has a home."""
    return pwd.struct_passwd((NAME, "x", os.geteuid(), os.getegid(), "", str(home), "/bin/sh"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make a home with a file of two keys."""
    made = tmp_path / "home" / NAME
    (made / ".ssh").mkdir(parents=True, mode=0o700)
    (made / ".ssh/authorized_keys").write_text(line(1, "carol@laptop", 'from="192.0.2.0/24",restrict') + line(2, "carol@desk"))
    return made


def comments(home: Path, settings: SshdSettings = HERE, number: int = 1) -> list[str]:
    """Return the comments of the lines that allow a key."""
    return [owner.comment for owner in owners_of(Question("", fingerprint(number)), account(home), settings)]


def test_owner_is_found_with_file_line_and_options(home: Path) -> None:
    """Also by MD5, with and without its name, and with base64's padding."""
    (path, found), _ = keys_of(account(home), HERE)
    assert path == str(home / ".ssh/authorized_keys")
    assert (found.comment, found.options) == ("carol@laptop", ['from="192.0.2.0/24"', "restrict"])
    assert not found.is_authority
    md5 = next(parsed(line(1).encode())).md5
    for wanted in (fingerprint(1), fingerprint(1) + "=", md5, md5.removeprefix("MD5:"), md5.removeprefix("MD5:").upper()):
        assert owners_of(Question("", wanted), account(home), HERE) == [found]
    assert owners_of(Question("", fingerprint(3)), account(home), HERE) == []
    assert owners_of(Question(""), account(home), HERE) == []


def test_two_owners_of_one_key_are_both_said(home: Path) -> None:
    """In one file and in two, in sshd's order."""
    with (home / ".ssh/authorized_keys").open("a") as file:
        file.write(line(1, "dave@laptop"))
    (home / ".ssh/authorized_keys2").write_text(line(1, "erin@laptop"))
    assert comments(home) == ["carol@laptop", "dave@laptop", "erin@laptop"]


def test_authorities_name_certificates_and_nothing_else(home: Path, tmp_path: Path) -> None:
    """A ``cert-authority`` line of the user's file, or a line of ``TrustedUserCAKeys``; a plain line of the same key is none."""
    (home / ".ssh/authorized_keys").write_text(line(1, "plain") + line(1, "own CA", 'cert-authority,principals="carol"'))
    authorities = tmp_path / "ca.pub"
    authorities.write_text(line(1, "company CA") + line(2, "other CA"))
    settings = HERE._replace(trusted_user_ca_keys=str(authorities))
    wanted = Question("", fingerprint(9), fingerprint(1))
    found = owners_of(wanted, account(home), settings)
    assert [(key.comment, key.options) for key in found] == [("own CA", ['principals="carol"']), ("company CA", [])]
    assert comments(home, settings) == ["plain"]
    assert [(path, key.is_authority) for path, key in keys_of(account(home), settings)] == [
        (str(home / ".ssh/authorized_keys"), False),
        (str(home / ".ssh/authorized_keys"), True),
        (str(authorities), True),
        (str(authorities), True),
    ]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("%h/.ssh/authorized_keys",), True),
        (("none", ".ssh/authorized_keys"), True),
        ((".ssh/../.ssh/authorized_keys",), True),
        (("{home}/../%u/.ssh/authorized_keys",), True),
        (("{home}/../keys-%U/%%u",), True),
        (("%x/.ssh/authorized_keys",), False),
        ((".ssh/authorized_keys%",), False),
        ((), False),
        (("\0",), False),
    ],
)
def test_tokens_are_expanded(home: Path, files: tuple[str, ...], found: bool) -> None:  # noqa: FBT001
    """As in sshd: one that it does not know leads nowhere."""
    other = home.parent / f"keys-{os.geteuid()}"
    other.mkdir()
    (other / "%u").write_text(line(1, "carol@laptop"))
    settings = SshdSettings(tuple(file.replace("{home}", str(home)) for file in files), strict_modes=False)
    assert comments(home, settings) == (["carol@laptop"] if found else [])


def test_links_lead_nowhere_out_of_the_home(home: Path, tmp_path: Path) -> None:
    """Of a file and of a folder; within the home they are followed, and so is one to the whole home."""
    path = home / ".ssh/authorized_keys"
    outside = tmp_path / "outside"
    outside.write_text(path.read_text())
    path.rename(home / "keys")
    path.symlink_to(outside)
    assert comments(home) == []
    path.unlink()
    path.symlink_to("../keys")
    assert comments(home) == ["carol@laptop"]
    path.unlink()
    (tmp_path / "home2").symlink_to(home.parent)
    assert comments(tmp_path / "home2" / NAME, SshdSettings(("keys",))) == ["carol@laptop"]
    (home / ".ssh").rmdir()
    (tmp_path / "authorized_keys").write_text(outside.read_text())
    (home / ".ssh").symlink_to(tmp_path)
    assert comments(home) == []


def test_what_is_no_file_of_keys_costs_the_name_only(home: Path) -> None:
    """None of these blocks or raises."""
    path = home / ".ssh/authorized_keys"
    path.unlink()
    assert comments(home) == []
    os.mkfifo(path)
    assert comments(home) == []
    path.unlink()
    path.symlink_to("missing")
    assert comments(home) == []
    path.unlink()
    path.symlink_to(path)
    assert comments(home) == []
    path.unlink()
    path.mkdir()
    assert comments(home) == []
    assert comments(home, SshdSettings(("/dev/zero", "/dev/tty", "/proc/self/mem", "/" + "x" * 5000), strict_modes=False)) == []
    assert comments(Path("/nonexistent")) == []


def test_a_file_that_others_can_write_is_as_strict_modes_say(home: Path) -> None:
    """``StrictModes``: file and folders up to the home."""
    loose = HERE._replace(strict_modes=False)
    for path in (home / ".ssh/authorized_keys", home / ".ssh", home):
        mode = path.stat().st_mode
        path.chmod(0o775)
        assert comments(home) == []
        assert comments(home, loose) == ["carol@laptop"]
        path.chmod(mode)
    assert comments(home) == ["carol@laptop"]


def test_a_file_that_may_not_be_read_costs_the_name_only(home: Path) -> None:
    """Read as a user who may not."""
    needs.root("become somebody else")
    (home / ".ssh/authorized_keys").chmod(0o600)
    child = os.fork()
    if not child:
        os.setresuid(65534, 65534, 65534)
        os._exit(len(comments(home)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_user_reads_the_own_file_after_root_has_become_that_user(open_folder: Path) -> None:
    """The way through /proc/self/fd is open then, too, although /proc/self is root's."""
    needs.root("become somebody else")
    home = open_folder / NAME
    home.mkdir()
    (home / "keys").write_text(line(1, "carol@laptop"))
    for path in (home, home / "keys"):
        os.chown(path, 65534, 65534)
        path.chmod(0o700)
    who = pwd.struct_passwd((NAME, "x", 65534, 65534, "", str(home), "/bin/sh"))
    child = os.fork()
    if not child:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os._exit(len(owners_of(Question("", fingerprint(1)), who, SshdSettings(("keys",)))))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_huge_files_are_read_to_their_bounds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of all files together, lines of each, comments, options, owners."""
    path = home / ".ssh/authorized_keys"
    path.write_text(line(1, "carol@laptop") + "\n" * LINES_LIMIT + line(1, "too late"))
    assert comments(home) == ["carol@laptop"]
    with path.open("wb") as file:
        file.write((line(1, "carol@laptop") * 1000).encode())
        file.truncate(1 << 40)
    started = time.monotonic()
    assert len(comments(home)) == key_owners.OWNERS_LIMIT
    assert time.monotonic() - started < 5
    path.write_text(line(1, "carol" * 100, f'command="{"x" * 1000}"'))
    ((_, owner),) = keys_of(account(home), HERE)
    assert len(owner.comment) == COMMENT_LIMIT
    assert owner.comment.endswith("…")
    assert len(owner.options[0]) == OPTION_LIMIT
    whole = line(1, "carol@laptop")
    monkeypatch.setattr(key_owners, "SIZE_LIMIT", len(whole) + 100)
    path.write_text(whole + line(1, "cut in the middle of a comment"))
    (home / ".ssh/authorized_keys2").write_text(line(1, "beyond"))
    assert comments(home) == ["carol@laptop"]


def script(folder: Path, text: str) -> str:
    """Write a command that root alone can write, as sshd wants."""
    path = folder / "command"
    path.write_text(f"#!{sys.executable}\nimport sys, os, time\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder in which a command may stand: temporary folders are everybody's, further up."""
    monkeypatch.setattr(key_owners, "is_guarded", lambda *_: True)
    return tmp_path


def by_command(home: Path, command: str, wanted: Question | None = None) -> list[str]:
    """Return the comments that a command gives."""
    settings = SshdSettings((), command, ME)
    return [owner.comment for owner in owners_by_command(wanted or Question("", fingerprint(1)), account(home), settings)]


def test_command_gets_its_tokens_and_no_shell(home: Path, guarded: Path) -> None:
    """What it prints is read like a file."""
    path = script(guarded, f"print({line(1).strip()!r}, '|'.join(sys.argv[1:]))")
    wanted = Question("", fingerprint(1), key_type="ED25519")
    assert by_command(home, f'{path} %u "%h $(id); x" %% %U %f %t', wanted) == [
        f"carol|{home} $(id); x|%|{os.geteuid()}|{fingerprint(1)}|ssh-ed25519"
    ]
    assert by_command(home, path) == [NAME]
    # A key is not in the log, nor is the curve.
    assert by_command(home, f"{path} %k", wanted) == []
    assert by_command(home, f"{path} %t", msgspec.structs.replace(wanted, key_type="ECDSA")) == []
    assert by_command(home, "command") == []
    assert by_command(home, f'{path} "open') == []


@pytest.mark.parametrize(
    "text",
    [
        "print(KEY); sys.exit(1)",
        "print(KEY, flush=True); time.sleep(60)",
        "print(KEY, flush=True); os.close(1); time.sleep(60)",
        "os.fork() or time.sleep(60); print(KEY, flush=True)",
        "while True: print(KEY)",
        "raise ValueError",
    ],
)
def test_command_that_fails_costs_the_name_only(home: Path, guarded: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs, floods or leaves a child behind is ended in time."""
    monkeypatch.setattr(key_owners, "COMMAND_LIMIT_S", 0.5)
    path = script(guarded, f"KEY = {line(1, 'x').strip()!r}\n{text}")
    started = time.monotonic()
    assert by_command(home, path) == []
    assert time.monotonic() - started < 5


def test_command_runs_only_as_its_user_and_if_only_root_can_write_it(home: Path, tmp_path: Path) -> None:
    """As sshd has it. A temporary folder is below one that all can write."""
    path = script(tmp_path, f"print({line(1, 'x').strip()!r})")
    wanted = Question("", fingerprint(1))
    assert owners_by_command(wanted, account(home), SshdSettings((), path, ME)) == []
    for user in ("", "no-such-user", "daemon"):
        assert owners_by_command(wanted, account(home), SshdSettings((), "/bin/echo", user)) == []
    assert owners_by_command(wanted, account(home), SshdSettings()) == []
