"""``consumer.keys.sshd_config``: when sshd is asked, and what is read where it cannot be asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from consumer.keys import sshd_config
from consumer.keys.sshd_config import SshdConfig, SshdSettings, Values, Visit, arguments, sshd_settings
from tests import needs

if TYPE_CHECKING:
    from pathlib import Path


def test_sshd_is_asked_again_when_its_configuration_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the file itself, of an included one, and of one that comes to them; and not otherwise."""
    asked: list[str] = []
    really = SshdConfig._asked

    def counted(self: SshdConfig, visit: Visit | None) -> Values:
        asked.append(visit.user if visit else "")
        return really(self, visit)

    monkeypatch.setattr(SshdConfig, "_asked", counted)
    path = tmp_path / "sshd_config"

    def files(user: str = "root") -> tuple[str, ...]:
        return sshd_settings(user, "", "192.0.2.1", str(path)).authorized_keys_files

    assert files() == SshdSettings().authorized_keys_files
    path.write_text(f"Include {tmp_path}/*.conf\nAuthorizedKeysFile one\nMatch User dave\nAuthorizedKeysFile dave\n")
    assert files() == ("one",)
    (tmp_path / "1.conf").write_text("AuthorizedKeysFile two")
    assert files() == ("two",)
    (tmp_path / "1.conf").write_text("AuthorizedKeysFile three")
    assert files() == ("three",)
    asked.clear()
    assert {files(f"user{number}") for number in range(1000)} == {("three",)}
    assert files("dave") == ("dave",)
    assert asked == ["dave"]
    (tmp_path / "1.conf").unlink()
    assert files("a b,addr=x") == ("one",)
    assert asked == ["dave", "a b,addr=x"]


def test_configuration_is_read_where_sshd_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none, it fails, or it hangs."""
    path = tmp_path / "sshd_config"
    path.write_text('AuthorizedKeysFile "/etc/keys of/%u"\nMatch Address 192.0.2.0/24\nTrustedUserCAKeys /etc/ssh/ca\n')
    expected = SshdSettings(("/etc/keys of/%u",), trusted_user_ca_keys="/etc/ssh/ca")
    monkeypatch.setattr(sshd_config, "_PATH", str(tmp_path))
    monkeypatch.setattr(sshd_config, "SSHD_LIMIT_S", 0.2)
    assert sshd_settings("root", "", "192.0.2.1", str(path)) == expected
    for text in ("exit 1", "exec sleep 60"):
        (tmp_path / "sshd").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "sshd").chmod(0o755)
        assert sshd_settings("root", "", "192.0.2.1", str(path)) == expected
    os.mkfifo(tmp_path / "pipe")
    assert sshd_settings("root", "", "192.0.2.1", str(tmp_path / "pipe")) == SshdSettings()
    (tmp_path / "loop").write_text(f"Include {tmp_path}/loop\nAuthorizedKeysFile one")
    assert sshd_settings("root", "", "192.0.2.1", str(tmp_path / "loop")) == SshdSettings(("one",))


@pytest.fixture
def no_sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be on a machine without sshd; return a place for its configuration."""
    monkeypatch.setattr(sshd_config, "_PATH", str(tmp_path))
    return tmp_path / "sshd_config"


def test_values_out_of_files(no_sshd: Path) -> None:
    """All of a name are there, the one that counts first; of whole lines nothing is taken out."""
    no_sshd.write_text(
        "Port 22\nPort 2222\nAllowUsers 'a b' c\nForceCommand /bin/echo \"x\" # y\n"
        "Match User root\nAllowUsers d\nMatch all\nPort 3\n"
    )
    config = SshdConfig(str(no_sshd))
    common = {"allowusers": ["a b c"], "forcecommand": ['/bin/echo "x" # y']}
    assert config.values() == {**common, "port": ["3", "22", "2222"]}
    assert config.values(Visit("root", "h", "192.0.2.7")) == {
        **common, "allowusers": ["d", "a b c"], "port": ["3", "22", "2222"],
    }  # fmt: skip
    assert config.is_there
    no_sshd.unlink()
    assert not SshdConfig(str(no_sshd)).is_there


def test_quotes_in_match_depend_on_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sshd may read a Match otherwise than we do, nobody gets an answer that was another's."""
    asked: list[str] = []

    def answered(_config: SshdConfig, visit: Visit) -> Values:
        asked.append(visit.user)
        return {}

    monkeypatch.setattr(SshdConfig, "_asked", answered)
    path = tmp_path / "sshd_config"
    for text, count in (("User nobody", 1), ("User 'alice'", 2), ("User a\\ b", 2)):
        path.write_text(f"Match {text}\nAuthorizedKeysFile none\n")
        asked.clear()
        for user in ("alice", "bob", "alice"):
            sshd_settings(user, "", "192.0.2.1", str(path))
        assert len(asked) == count


def test_a_file_that_may_not_be_read(open_folder: Path) -> None:
    """It is no empty file: whoever asks for the settings hears of it, and a name of a key is only missing."""
    needs.root("become somebody else")
    path = open_folder / "sshd_config"
    path.write_text("LogLevel QUIET\n")
    path.chmod(0o600)
    child = os.fork()
    if not child:
        os.setresuid(65534, 65534, 65534)
        config, status = SshdConfig(str(path)), 1
        try:
            config.values()
        except PermissionError as error:
            is_named = (error.filename, error.strerror) == (str(path), "Permission denied")
            status = 0 if is_named and config.settings(Visit("x", "x", "x")) == SshdSettings() else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []), ("  \t ", []), ("a b", ["a", "b"]), ("'a b' \"c d\"", ["a b", "c d"]), ("a'b'\"c\"d", ["abcd"]), ("''", [""]),
        (r"a\ b", ["a b"]), (r"'a\ b'", [r"a\ b"]), (r"'a\'b' \" \\", ["a'b", '"', "\\"]), (r"a\b \\", [r"a\b", "\\"]),
        ("a #b", ["a"]), ("a#b", ["a#b"]), ("'#a' # b", ["#a"]), ("'a", None), ('a "b', None), ("a\rb", ["a\rb"]),
    ],
)  # fmt: skip
def test_arguments(text: str, words: list[str] | None) -> None:
    """A line is split as sshd splits it; tests/integration/test_sshd_config.py asks sshd."""
    assert arguments(text) == words


def test_arguments_without_comments() -> None:
    """A command is split again when it is run, and nothing in it is a comment then."""
    assert arguments("/bin/x # y", comments=False) == ["/bin/x", "#", "y"]
