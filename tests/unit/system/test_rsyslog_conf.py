"""rsyslog's configuration as it is really written: both syntaxes, comments, strings, includes; and what is advised about it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from consumer.system.rsyslog_conf import RsyslogConfig, trusted_advice
from tests import needs

if TYPE_CHECKING:
    from pathlib import Path

TRUSTED = 'SysSock.Annotate="on" SysSock.ParseTrusted="on" SysSock.UsePIDFromSystem="on"'
LIMITED = TRUSTED.replace(" ", ' SysSock.RateLimit.Interval="0" ', 1)
JOURNAL = 'module(load="imjournal" StateFile="imjournal.state" UsePid="system")'


def config(root: Path, text: str, **files: str) -> RsyslogConfig:
    """Write a configuration below a root and read it."""
    (root / "etc/rsyslog.d").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / "etc/rsyslog.d" / f"{name}.conf").write_text(content)
    (root / "etc/rsyslog.conf").write_text(text)
    return RsyslogConfig(root)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('module(load="imuxsock")', 1),
        ('\n\n  module ( load = "imuxsock" ) # it is', 3),
        ('# "\nModule(SysSock.Use="on"\n  # ) \n load="imuxsock")', 2),
        ("$ModLoad imuxsock # provides support", 1),
        ("$ModLoad imuxsock.so", 1),
        ('/* module(load="imklog")\n */\nmodule(load="imuxsock")', 3),
        ('# module(load="imuxsock")', None),
        ('/* module(load="imuxsock")\n*/', None),
        ('if $msg contains "\\" # no comment" then /var/log/x\nmodule(load="imuxsock")', 2),
        ('module(load="imuxsockx")', None),
        ("", None),
    ],
)
def test_modules(tmp_path: Path, text: str, line: int | None) -> None:
    """A module is found where it is loaded, in either syntax, and not in a remark."""
    found = config(tmp_path, text).module("imuxsock")
    assert (found and found.line) == line


def test_includes(tmp_path: Path) -> None:
    """Included files are read, in order, in either syntax; one that includes itself ends."""
    files = {
        "10-a": 'module(load="omprog")\n',
        "20-b": '$IncludeConfig /etc/rsyslog.d/*.conf\nglobal(privdrop.user.name="bell")\n',
    }
    for text in ("$IncludeConfig /etc/rsyslog.d/*.conf", 'include(file="/etc/rsyslog.d/*.conf" mode="optional")'):
        read = config(tmp_path, text, **files)
        found = read.module("omprog")
        assert found is not None
        assert found.place == f"{tmp_path}/etc/rsyslog.d/10-a.conf:1"
        assert read.includes(tmp_path / "etc/rsyslog.d/20-b.conf")
        assert read.user == "bell"
    assert config(tmp_path, "# $IncludeConfig /etc/rsyslog.d/*.conf", **files).module("omprog") is None


@pytest.mark.parametrize(
    "text", ['include(file="")', "$IncludeConfig /", 'include(text="x")', "$ModLoad", 'module(load="', "\0\xff"]
)
def test_nonsense(tmp_path: Path, text: str) -> None:
    """What rsyslogd will refuse is no reason to fail before it does."""
    assert config(tmp_path, text).module("imuxsock") is None


def test_long_word(tmp_path: Path) -> None:
    """A word of a million letters takes a fraction of a second to read; in the square of its length, it would take hours."""
    long = f'module({"x" * 1_000_000} load="imuxsock" SysSock.Use="off")'
    found = config(tmp_path, long).module("imuxsock")
    assert found is not None
    assert found.parameters == {"load": "imuxsock", "syssock.use": "off"}


@pytest.mark.parametrize(
    "text",
    [
        f'module(load="imuxsock" {TRUSTED})',
        f'module(load="imuxsock" {TRUSTED.lower()})',
        f'module(load="imuxsock"\n  {TRUSTED.replace(" ", "  # so" + chr(10))})',
        "$ModLoad imuxsock\n$SystemLogSocketAnnotate on\n$SystemLogParseTrusted on\n$SystemLogUsePIDFromSystem on",
        JOURNAL,
        'module(load="imuxsock" SysSock.Use="off")\n' + JOURNAL,
    ],
)
def test_trusted(tmp_path: Path, text: str) -> None:
    """Nothing is advised where the kernel or journald vouches for the sender."""
    assert trusted_advice(config(tmp_path, text)) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('module(load="imuxsock") # local', f'module(load="imuxsock" {TRUSTED})'),
        ("$ModLoad imuxsock", f'module(load="imuxsock" {TRUSTED})'),
        (
            'module(load="imuxsock"\n  SysSock.Annotate="off" SysSock.RateLimit.Interval="0")',
            f'module(load="imuxsock" {LIMITED})',
        ),
        (f'module(load="imuxsock" {TRUSTED.replace("on", "off", 1)} )', f'module(load="imuxsock" {TRUSTED} )'),
        ('module(load="imjournal" UsePid="both")', 'module(load="imjournal" UsePid="system")'),
        ('module(load="imudp")', f'module(load="imuxsock" {TRUSTED})'),
    ],
)
def test_advice(tmp_path: Path, text: str, line: str) -> None:
    """The exact line is given, with all that stands in it already, and rsyslogd accepts it."""
    advice = trusted_advice(config(tmp_path, text))
    assert advice is not None
    assert advice.remedy.endswith(f": {line}")
    main = tmp_path / "test.conf"
    main.write_text(f'global(workDirectory="{tmp_path}")\n{line}\naction(type="omfile" file="{tmp_path}/all.log")\n')
    done = subprocess.run([needs.program("rsyslogd", "rsyslog"), "-N1", "-f", main], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert trusted_advice(config(tmp_path, line)) is None
