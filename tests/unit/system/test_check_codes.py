"""``sshbell pam check`` finds each way in without a code, and each stack that lets nobody in."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import msgspec
import pytest

from consumer.codes_settings import CodeRule, Codes
from consumer.config import Config
from consumer.keys import sshd_config
from consumer.process.lock import DELIVER_LOCK, Lock
from consumer.state_dir import DELIVER_SOCKET
from consumer.store.codes import CodeStore
from consumer.system import check_codes
from consumer.system.code_stack import passes_by_password, stack
from consumer.system.pam_stack import pam_stack
from tests import needs
from tests.integration.rsyslogd import DROP_IN as SHIPPED_DROP_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.system.outcome import Outcome

FACTOR = 'auth [success=3 ignore=3 default=ignore] pam_exec.so quiet quiet_log /bin/sh -c [test -z "$SSH_AUTH_INFO_0"]'
CHALLENGE = "auth requisite pam_exec.so stdout quiet /bin/true pam challenge"
UNASKED = "auth [success=2 default=ignore] pam_exec.so quiet quiet_log /bin/true pam verify"
VERIFY = "auth [success=1 default=die] pam_exec.so expose_authtok quiet /bin/true pam verify"
UNIX, PERMIT, DENY = "auth requisite pam_unix.so", "auth required pam_permit.so", "auth required pam_deny.so"
BOTH = [FACTOR, CHALLENGE, UNASKED, VERIFY, UNIX, PERMIT]
# After a key only; the shortest stack.
SIMPLE_VERIFY = VERIFY.replace("[success=1 default=die]", "required")
SIMPLE = [CHALLENGE, SIMPLE_VERIFY, PERMIT]
COMMON_AUTH = ["auth [success=1 default=ignore] pam_unix.so nullok", "auth requisite pam_deny.so", PERMIT]


def checked(folder: Path, *lines: str) -> list[Outcome]:
    """Return the outcomes of a stack."""
    (folder / "sshd").write_text("\n".join(lines) + "\n")
    (folder / "common-auth").write_text("\n".join(COMMON_AUTH) + "\n")
    return list(stack("sshd", folder))


def texts(found: list[Outcome]) -> str:
    """Return what is wrong."""
    return "\n".join(f"{outcome.state}: {outcome.text}" for outcome in found if outcome.state != "ok")


@pytest.mark.parametrize(
    "lines",
    [
        BOTH,
        SIMPLE,
        [FACTOR, CHALLENGE, UNASKED, VERIFY, "auth substack common-auth", PERMIT],
        [CHALLENGE.replace("requisite", "[success=ok default=die]"), SIMPLE_VERIFY, PERMIT],
        [*SIMPLE, "account required pam_unix.so", "session required pam_unix.so"],
    ],
    ids=["both", "simple", "Debian", "in brackets", "other types"],
)
def test_right_stacks(tmp_path: Path, lines: list[str]) -> None:
    """Nothing is wrong with the stacks of docs/codes.md."""
    assert [outcome.state for outcome in checked(tmp_path, *lines)] == ["ok"]


WRONG = {
    "no challenge": ([SIMPLE_VERIFY, PERMIT], "fault", "no auth line runs sshbell pam challenge"),
    "no verify": ([CHALLENGE, PERMIT], "fault", "no auth line runs sshbell pam verify"),
    "none": ([UNIX, PERMIT], "warning", "does not ask sshbell for codes"),
    "verify first": ([SIMPLE_VERIFY, CHALLENGE, PERMIT], "fault", "verify comes before challenge"),
    "not requisite": ([CHALLENGE.replace("requisite", "required"), SIMPLE_VERIFY, PERMIT], "warning", "after a refusal"),
    "optional challenge": ([CHALLENGE.replace("requisite", "optional"), SIMPLE_VERIFY, PERMIT], "warning", "after a refusal"),
    "sufficient": ([CHALLENGE, SIMPLE_VERIFY.replace("required", "sufficient"), PERMIT], "fault", "a wrong code lets in"),
    "optional": ([CHALLENGE, SIMPLE_VERIFY.replace("required", "optional"), PERMIT], "fault", "a wrong code lets in"),
    "sufficient with a password behind": (
        [CHALLENGE, SIMPLE_VERIFY.replace("required", "sufficient"), UNIX], "fault", "a wrong code lets in",
    ),
    "no setcred": ([CHALLENGE, SIMPLE_VERIFY], "fault", "answers setcred"),
    "a password before": ([UNIX, *SIMPLE], "fault", "pam_unix comes first, and pam_exec takes its password for the code"),
    "@include before": (["@include common-auth", *SIMPLE], "fault", "pam_unix comes first"),
    "a password behind": ([CHALLENGE, SIMPLE_VERIFY, UNIX], "fault", "even the right code does not let users in"),
    "@include instead of substack": (
        [FACTOR, CHALLENGE, UNASKED, VERIFY, "@include common-auth", PERMIT], "fault", "even the right code does not let users",
    ),
    "a jump too far": ([CHALLENGE, VERIFY.replace("success=1", "success=4"), PERMIT], "fault", "even the right code"),
    "a jump over the code": ([FACTOR.replace("success=3", "success=4"), CHALLENGE, UNASKED, VERIFY, UNIX, PERMIT], "fault",
                             "without a password and without a code"),
    "open if it fails": (
        [FACTOR.replace("success=3 ignore=3 default=ignore", "success=ignore default=3").replace("-z", "-n"), *BOTH[1:]],
        "fault", "while PAM cannot start a program, a password lets users in without a code",
    ),
    "denied": ([CHALLENGE, SIMPLE_VERIFY, DENY], "fault", "even the right code does not let users in"),
    "no stdout": ([CHALLENGE.replace("stdout ", ""), SIMPLE_VERIFY, PERMIT], "fault", "without stdout"),
    "asks too early": ([CHALLENGE.replace("stdout", "stdout expose_authtok"), SIMPLE_VERIFY, PERMIT], "fault", "before sshbell"),
    "asks nobody": ([CHALLENGE, SIMPLE_VERIFY.replace("expose_authtok ", ""), PERMIT], "fault", "without expose_authtok"),
    "no full path": ([CHALLENGE.replace("/bin/true", "sshbell"), SIMPLE_VERIFY, PERMIT], "fault", "is not a full path"),
    "no program": ([CHALLENGE.replace("/bin/true", "/bin/sshbell-gone"), SIMPLE_VERIFY, PERMIT], "fault", "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_stacks(tmp_path: Path, name: str) -> None:
    """Each mistake is found, and said as what it causes."""
    lines, state, text = WRONG[name]
    found = checked(tmp_path, *lines)
    assert any(outcome.state == state and text in outcome.text for outcome in found), texts(found)
    assert all(outcome.advice for outcome in found if outcome.state != "ok")


def test_a_program_of_a_user(tmp_path: Path) -> None:
    """PAM runs it as root, so nobody else may write it."""
    program = tmp_path / "sshbell"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    lines = [line.replace("/bin/true", str(program)) for line in SIMPLE]
    assert f"PAM runs {program} as root, but" in texts(checked(tmp_path, *lines))


def test_no_service(tmp_path: Path) -> None:
    """The name of the service may be another one."""
    (found,) = stack("sshd", tmp_path)
    assert found.state == "warning"
    assert "--service" in found.advice


# ---------------------------------------------------------------- sshd

BASE = {"usepam": ["yes"], "kbdinteractiveauthentication": ["yes"], "logingracetime": ["120"], "passwordauthentication": ["yes"]}
KBD = "keyboard-interactive:pam"
WAYS = [
    # AuthenticationMethods, with which stack: what is wrong with it.
    (f"publickey,{KBD}", BOTH, ""),
    (f"publickey,{KBD} password,{KBD}", BOTH, ""),
    (f"publickey,{KBD} publickey", BOTH, "publickey lets users in without a code"),
    ("any", BOTH, "publickey lets users in without a code"),
    ("any", BOTH, "password lets users in with a password alone"),
    ("publickey", BOTH, "publickey lets users in without a code"),
    ("publickey,password", BOTH, "publickey,password lets users in without a code"),
    ("password", BOTH, "password lets users in with a password alone"),
    (KBD, BOTH, "keyboard-interactive lets users in with a password alone"),
    (f"{KBD},publickey", BOTH, "keyboard-interactive,publickey lets users in with a password alone"),
    (f"publickey,{KBD}", SIMPLE, ""),
    (f"{KBD},publickey", SIMPLE, "keyboard-interactive,publickey asks for the code first"),
    (KBD, SIMPLE, "keyboard-interactive asks for the code first"),
    ("password", SIMPLE, "password alone never lets users in"),
    ("any", SIMPLE, "publickey lets users in without a code"),
]


@pytest.mark.parametrize(("methods", "lines", "text"), WAYS)
def test_methods(tmp_path: Path, methods: str, lines: list[str], text: str) -> None:
    """Each list of methods that together let in needs the code."""
    checked(tmp_path, *lines)
    entries = pam_stack("sshd", tmp_path)
    found = [outcome.text for outcome in check_codes._settings("", BASE | {"authenticationmethods": [methods]}, entries)]
    assert any(text in each for each in found) if text else found == []


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("usepam", "no", "UsePAM no"),
        ("kbdinteractiveauthentication", "no", "KbdInteractiveAuthentication no"),
        ("logingracetime", "30", "LoginGraceTime 30"),
    ],
)
def test_settings(tmp_path: Path, keyword: str, value: str, text: str) -> None:
    """Without these, sshd asks for no code, or nobody can type it in time."""
    checked(tmp_path, *BOTH)
    values = BASE | {"authenticationmethods": [f"publickey,{KBD}"], keyword: [value]}
    assert [text in outcome.text for outcome in check_codes._settings("", values, pam_stack("sshd", tmp_path))] == [True]


def test_passes_by_password(tmp_path: Path) -> None:
    """With the question for another factor in front, a password satisfies PAM first."""
    for lines, is_enough in ((BOTH, True), (SIMPLE, False)):
        checked(tmp_path, *lines)
        assert passes_by_password(pam_stack("sshd", tmp_path)) is is_enough


def real_sshd(folder: Path, text: str) -> list[Outcome]:
    """Return the outcomes with the real sshd and a configuration."""
    needs.root("let sshd -T read its host keys")
    needs.program("sshd", "openssh-server")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    checked(folder, *BOTH)
    config = folder / "sshd_config"
    config.write_text(f"UsePAM yes\nKbdInteractiveAuthentication yes\n{text}")
    sshd_config._configs.clear()
    return list(check_codes.sshd("sshd", str(config), folder))


def test_of_the_real_sshd(tmp_path: Path) -> None:
    """It names each Match that lets users in without a code."""
    good = f"AuthenticationMethods publickey,{KBD}\n"
    assert [outcome.state for outcome in real_sshd(tmp_path, good)] == ["ok"]
    (found,) = real_sshd(tmp_path, f"{good}Match User backup\nAuthenticationMethods publickey\n")
    assert (found.state, found.text) == ("fault", "Match user backup: publickey lets users in without a code")
    found_texts = texts(real_sshd(tmp_path, "PasswordAuthentication no\n"))
    assert "publickey lets users in without a code" in found_texts
    assert "password lets in" not in found_texts


def test_no_codes_no_word_about_sshd(tmp_path: Path) -> None:
    """A host without these lines is not told how sshd should be."""
    checked(tmp_path, UNIX, PERMIT)
    assert list(check_codes.sshd("sshd", "/dev/null", tmp_path)) == []


# ---------------------------------------------------------------- sshbell itself


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration with codes."""
    (tmp_path / "state").mkdir(mode=0o700)
    return msgspec.structs.replace(Config(), state_dir=str(tmp_path / "state"), codes=Codes(channels=["ops"]))


def test_codes(config: Config) -> None:
    """The channels are named; none, and a way in while they are down, are mistakes."""
    assert [outcome.state for outcome in check_codes.settings(config.codes)] == ["ok"]
    assert [outcome.state for outcome in check_codes.settings(Codes())] == ["fault"]
    for codes in (Codes(channels=["ops"], on_failure="safe"), Codes(channels=["ops"], rule=[CodeRule(on_failure="safe")])):
        assert [outcome.state for outcome in check_codes.settings(codes)] == ["ok", "warning"]


def test_files(config: Config) -> None:
    """Only root may read what codes depend on."""
    needs.root("own the directory of codes")
    folder = Path(f"{config.state_dir}-codes")
    assert "does not exist yet" in next(check_codes.files(config)).text
    CodeStore(folder).close()
    assert [outcome.state for outcome in check_codes.files(config)] == ["ok"]
    (folder / "key").chmod(0o644)
    assert f"{folder}/key does not belong to root alone" in texts(list(check_codes.files(config)))
    (folder / "key").chmod(0o600)
    folder.chmod(0o755)
    assert f"{folder} does not belong to root alone" in texts(list(check_codes.files(config)))
    folder.chmod(0o700)
    (folder / "codes.db").write_bytes(b"no database at all" * 100)
    assert "nobody can log in with a code" in texts(list(check_codes.files(config)))


@pytest.fixture
def listening(config: Config) -> Iterator[None]:
    """Listen as deliver does."""
    lock = Lock(Path(config.state_dir, DELIVER_LOCK))
    assert lock.take()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{config.state_dir}/{DELIVER_SOCKET}")
        server.listen()
        yield
    lock.close()


def test_deliver(config: Config) -> None:
    """Without it, nobody gets a code."""
    assert "deliver is not running" in texts(list(check_codes.deliver(config)))
    lock = Lock(Path(config.state_dir, DELIVER_LOCK))
    assert lock.take()
    assert "nobody gets a code" in texts(list(check_codes.deliver(config)))
    lock.close()


@pytest.mark.usefixtures("listening")
def test_deliver_answers(config: Config) -> None:
    """It listens."""
    assert [outcome.state for outcome in check_codes.deliver(config)] == ["ok"]


def test_drop_in(tmp_path: Path) -> None:
    """The shipped one passes the lines about codes; one from before does not."""
    assert list(check_codes.drop_in(tmp_path / "missing")) == []
    text = SHIPPED_DROP_IN.read_text()
    older = tmp_path / SHIPPED_DROP_IN.name
    older.write_text(text)
    assert list(check_codes.drop_in(older)) == []
    older.write_text(text.replace(', "sshbell-pam"', ""))
    assert "does not pass the lines of sshbell-pam" in texts(list(check_codes.drop_in(older)))


def test_is_in_use(config: Config, tmp_path: Path) -> None:
    """``sshbell check`` has rows about codes only where somebody has set them up."""
    without = check_codes.CodesContext(Config(), pam_folder=tmp_path)
    assert check_codes.is_in_use(without._replace(config=config))
    assert not check_codes.is_in_use(without)
    checked(tmp_path, *SIMPLE)
    assert check_codes.is_in_use(without)
    with patch.object(check_codes, "pam_stack", side_effect=PermissionError):
        assert not check_codes.is_in_use(without)


def test_service(tmp_path: Path) -> None:
    """It is that of sshd's configuration, or has the name of the program."""
    for text, services, expected in (
        ("PAMServiceName corp\n", ("corp", "sshd"), "corp"), ("", ("sshd",), "sshd"), ("", ("sshd.pam",), "sshd.pam"),
        ("", (), "sshd"),
    ):  # fmt: skip
        folder = tmp_path / f"pam.d-{expected}-{len(services)}"
        folder.mkdir()
        for name in services:
            (folder / name).touch()
        config = tmp_path / "sshd_config"
        config.write_text(text)
        assert check_codes.sshd_service(str(config), folder) == expected
