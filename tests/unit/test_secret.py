"""``consumer.secret``: secrets come from where they are kept, and are never shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from consumer import secret as module
from consumer.config_values import Secret
from consumer.errors import SecretError
from consumer.secret import read_secret

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = "t0p-s3cret"


def fault(found: Secret) -> str:
    """Return why there is no secret, which never shows any of it."""
    with pytest.raises(SecretError) as raised:
        read_secret(found)
    assert HIDDEN not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
    return str(raised.value)


def kept(folder: Path, text: bytes = HIDDEN.encode(), mode: int = 0o600) -> str:
    """Write a secret."""
    path = folder / "secret"
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("text", [HIDDEN, f"{HIDDEN}\n", f"{HIDDEN}\r\n"])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_file(tmp_path: Path, text: str, mode: int) -> None:
    """A file is read without its line end; its group may read it."""
    assert read_secret(Secret(file=kept(tmp_path, text.encode(), mode))) == HIDDEN


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_file_of_everybody(tmp_path: Path, mode: int) -> None:
    """A file that everybody can read or write is refused, with what to run."""
    path = kept(tmp_path, mode=mode)
    assert fault(Secret(file=path)).endswith(f"run: chmod o-rw {path}")


def test_no_file(tmp_path: Path) -> None:
    """What is not there, no file, empty, too long or no text is said."""
    assert "No such file" in fault(Secret(file=str(tmp_path / "none")))
    assert fault(Secret(file=str(tmp_path)))
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "not a regular file" in fault(Secret(file=str(tmp_path / "pipe")))
    assert "empty" in fault(Secret(file=kept(tmp_path, b"\n")))
    assert "longer than" in fault(Secret(file=kept(tmp_path, HIDDEN.encode() * 10_000)))
    assert "not UTF-8" in fault(Secret(file=kept(tmp_path, HIDDEN.encode() + b"\xff")))


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable holds it, or is said to hold nothing."""
    monkeypatch.setenv("BELL_SECRET", HIDDEN)
    assert read_secret(Secret(env="BELL_SECRET")) == HIDDEN
    monkeypatch.delenv("BELL_SECRET")
    assert "BELL_SECRET: empty" in fault(Secret(env="BELL_SECRET"))


def test_command() -> None:
    """A command prints it; its arguments are not shown where it fails."""
    assert read_secret(Secret(command=["printf", r"%s\n", HIDDEN])) == HIDDEN
    assert fault(Secret(command=["sh", "-c", f"echo {HIDDEN}; exit 3"])) == "command sh: it ended with 3"
    assert fault(Secret(command=["sh", "-c", f"echo {HIDDEN} >&2; exit 3"])) == "command sh: it ended with 3"
    assert "No such file" in fault(Secret(command=["/no/such/command", HIDDEN]))
    assert "cannot be run" in fault(Secret(command=["a\0b", HIDDEN]))


def test_command_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command has a time limit, whatever it has started."""
    monkeypatch.setattr(module, "COMMAND_LIMIT_S", 0.2)
    assert "no answer within" in fault(Secret(command=["sh", "-c", f"echo {HIDDEN}; sleep 1000 & sleep 1000"]))


def test_command_that_prints_without_end() -> None:
    """No more than the bound is read of it, and it is ended."""
    assert fault(Secret(command=["yes", HIDDEN])) == "command yes: longer than 64 KiB"
    assert "longer than 64 KiB" in fault(Secret(command=["head", "-c", str(64 * 1024 + 1), "/dev/zero"]))


def test_command_that_leaves_its_output_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command has started in a session of its own cannot make us wait for ever."""
    monkeypatch.setattr(module, "COMMAND_LIMIT_S", 0.2)
    assert "no answer within" in fault(Secret(command=["sh", "-c", "setsid sleep 5 & exit 0"]))
