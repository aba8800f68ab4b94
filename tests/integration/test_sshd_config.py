"""sshd's configuration: however odd a line is, it is read here as the real ``sshd -T`` reads it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from consumer.keys.sshd_config import SshdConfig, Visit
from tests import needs

if TYPE_CHECKING:
    from pathlib import Path

# Debian's sshd has another name for it.
SAME = {"QUIET": "SILENT"}
VISIT = Visit("root", "192.0.2.7", "192.0.2.7")
LINES = [
    "LogLevel QUIET", "LogLevel 'QUIET'", 'LogLevel "QUIET"', "LogLevel QU'IE'T", "LogLevel 'QUI''ET'", 'LogLevel "QUI"\'ET\'',
    "LogLevel=QUIET", "LogLevel = QUIET", "LogLevel\t=\tQUIET", "LogLevel==QUIET", "LogLevel= =QUIET", "LogLevel = = QUIET",
    '"LogLevel" QUIET', '"LogLevel"QUIET', '"LogLevel"\t\tQUIET', '"LogLevel" "QUIET"', '"LogLevel"=QUIET', '"LogLevel" = QUIET',
    'Log"Level" QUIET', 'Log"Level QUIET', '"Log Level" QUIET', "'LogLevel' QUIET", 'LogLevel"QUIET"', "LogLevel'QUIET'",
    '"LogLevel QUIET"', "=LogLevel QUIET", "= LogLevel QUIET", '"" LogLevel QUIET', "LogLevel,QUIET", "LogLevel=", "LogLevel",
    "LogLevel QUIET#x", "LogLevel QUIET #x", "LogLevel 'QUIET' #'x", "LogLevel #QUIET", "#LogLevel QUIET", " # LogLevel QUIET",
    "LogLevel ERROR QUIET", "LogLevel ''", "LogLevel 'QUIET", 'LogLevel "QUIET', "LogLevel \\QUIET", "LogLevel QUIET\\ ",
    "LOGLEVEL quiet", " \t LogLevel  \t QUIET \t ", "LogLevel QUIET\r", "LogLevel\rQUIET", "LogLevel \rQUIET", "\rLogLevel QUIET",
    "LogLevel Q\rUIET", "LogLevel QUIET\f", "\fLogLevel QUIET", "LogLevel\fQUIET", "LogLevel QUIET\v", "LogLevel QUIET\0x",
    "LogLevel Q\0UIET", "\ufeffLogLevel QUIET", "\u00a0LogLevel QUIET", "LogLevel ERROR\nLogLevel QUIET",
    "Match all\nLogLevel QUIET", "LogLevel ERROR\nMatch all\nLogLevel QUIET\nLogLevel FATAL",
    "Match User root\nLogLevel QUIET", "LogLevel ERROR\nMatch User root\nMatch all\nLogLevel VERBOSE",
]  # fmt: skip
MATCHES = [
    "Match User root", "Match User 'root'", 'Match User "root"', "Match User=root", "Match User = root", "Match User =root",
    "Match User= root", 'Match "User" root', "Match 'User' root", "Match all", "Match all # c", "Match all#", "Match User root#c",
    "Match User root # c", "Match User #x", "Match # x", 'Match User "x y",root', 'Match User "x,root"', "Match user root all",
    "Match all all", "Match USER root", "Match User ROOT", "Match ALL", "Match User root\\ x", "Match User root User nobody",
    "Match User root Address 192.0.2.0/24", "Match User=root Address=192.0.2.0/24", "Match=User root", "Match = User root",
    "Match User root,", "Match User ,root", "Match User !root", "Match User *,!root", "Match User", "Match", 'Match User "root',
    "Match User \"root\" Group 'root'", "Match Group root", "Match User  root\t", "Match User root\r", "Match\rUser\rroot",
    "Match invalid-user", "Match LocalPort 22", "Match LocalAddress 127.0.0.1", "Match RDomain x", "Match User r??t",
    "Match Host 192.0.2.7", "Match Address 192.0.2.7/24", "Match Address 192.0.2.*", "Match Address 192.0.2.7,!192.0.2.7",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _sshd() -> str:
    """Return the real one, which root alone can ask."""
    needs.root("ask sshd")
    os.makedirs("/run/sshd", exist_ok=True)  # noqa: PTH103
    return needs.program("sshd", "openssh-server")


def readings(path: Path, text: str) -> tuple[SshdConfig, SshdConfig]:
    """Write a configuration; return it as sshd says it, and as its files do."""
    path.write_text(text, newline="")
    said, written = SshdConfig(str(path)), SshdConfig(str(path))
    written._program = ""
    return said, written


def is_taken(path: Path) -> bool:
    """Tell whether sshd would start with it."""
    command = [needs.program("sshd", "openssh-server"), "-T", "-f", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_log_level(tmp_path: Path) -> None:
    """Quotes, blanks, equals signs, comments and cases: of every line that sshd takes the level is the same here."""
    taken: dict[str, str] = {}
    for line in LINES:
        said, written = readings(tmp_path / "config", line + "\n")
        if is_taken(tmp_path / "config"):
            (level,) = said.values()["loglevel"]
            ours = written.values().get("loglevel", ["INFO"])[0].upper()
            assert SAME.get(ours, ours) == SAME.get(level, level), line
            taken[line] = SAME.get(level, level)
    # What this is about: most of them make sshd silent.
    assert list(taken.values()).count("SILENT") >= 25
    assert taken["LogLevel 'QUIET'"] == "SILENT"


def test_match(tmp_path: Path) -> None:
    """Of every condition that sshd takes it is the same here whether it holds, for somebody and for nobody in particular."""
    held = 0
    for line in MATCHES:
        text = f"AuthorizedKeysFile base\n{line}\nAuthorizedKeysFile 'matched it' \"too\"\n"
        said, written = readings(tmp_path / "config", text)
        for visit in (VISIT, None):
            if "authorizedkeysfile" in (values := said._asked(visit)):
                assert written.values(visit)["authorizedkeysfile"][0] == values["authorizedkeysfile"][0], (line, visit)
                held += values["authorizedkeysfile"] != ["base"]
        if is_taken(tmp_path / "config"):
            assert written.settings(VISIT) == said.settings(VISIT), line
    assert held >= 30


def test_commands(tmp_path: Path) -> None:
    """Of a command nothing is taken out, neither quotes nor comments."""
    for command in ('/bin/echo "%u x" # y', "/bin/echo 'a' \\", "/bin/echo\t#x", "none", "/bin/echo =x"):
        for between in (" ", "=", " = ", "\t"):
            text = f"AuthorizedKeysCommandUser nobody\nAuthorizedKeysCommand{between}{command} \n"
            said, written = readings(tmp_path / "config", text)
            assert said._asked(VISIT), text
            assert written.settings(VISIT) == said.settings(VISIT), text
            assert written.settings(VISIT).authorized_keys_command == ("" if command == "none" else command)


def test_all_settings_by_name(tmp_path: Path) -> None:
    """What sshd says has every setting, also those that nobody wrote; one that has several values has them all."""
    said, _ = readings(tmp_path / "config", "Port 22\nPort 2222\nAllowUsers alice bob\nMatch User root\nPermitRootLogin no\n")
    values = said.values()
    assert (values["port"], values["permitrootlogin"]) == (["22", "2222"], ["without-password"])
    assert sorted(values["allowusers"]) == ["alice", "bob"]
    assert {"maxauthtries", "logingracetime", "permituserrc", "ciphers"} <= values.keys()
    assert said.values(VISIT)["permitrootlogin"] == ["no"]
