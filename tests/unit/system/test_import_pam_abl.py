"""``consumer.system.import_pam_abl``: every key and argument of pam_abl is translated or named."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.config_file import parse
from consumer.detect_settings import GuessingSettings
from consumer.errors import InputError
from consumer.system.import_pam_abl import Imported, logical_lines, translated

if TYPE_CHECKING:
    from pathlib import Path

# All that the manual of pam_abl.conf has, and what Debian's own file and older versions have besides.
SAMPLE = """
# a comment
debug
db_home=/var/lib/abl
db_module=/usr/lib/abl/abl-bdb.so
host_db=/var/lib/abl/hosts.db
user_db=/var/lib/abl/users.db
limits=1000-1200
host_purge=2d      # kept for two days
host_rule=*:10/1h,30/1d
user_purge=30
user_rule=!root:10/3600,\\
30/1d
host_whitelist=127.0.0.1;10.0.0.0/8;localhost;;
user_whitelist=backup
host_block_cmd=[/sbin/block] [%h]
host_clear_cmd=[/sbin/clear] [%h]
user_block_cmd=[logger] [block] [%u]
user_clear_cmd=[logger] [clear] [%u]
host_blk_cmd=x
host_clr_cmd=x
user_blk_cmd=x
user_clr_cmd=x
strange=1
"""
ARGUMENTS = ("debug", "check_user", "check_host", "check_both", "log_user", "log_host", "log_both")


def read(folder: Path, text: str) -> Imported:
    """Return the translation of a file."""
    path = folder / "pam_abl.conf"
    path.write_text(text, encoding="utf-8")
    return translated(path)


def settings_of(found: Imported) -> GuessingSettings:
    """Return the settings that sshbell reads in the output, pasted into an empty configuration."""
    return parse(found.toml.encode(), "sshbell.toml").detect.guessing


def test_every_key(tmp_path: Path) -> None:
    """The sample becomes these settings, and every other key is named once."""
    found = read(tmp_path, SAMPLE)
    assert settings_of(found) == GuessingSettings(
        "*:10/1h,30/1d", "!root:10/3600,30/1d", "2d", "1h", "1000-1200", ["127.0.0.1", "10.0.0.0/8", "localhost"], ["backup"]
    )
    named = " ".join(found.notes)
    for key in re.findall("^[a-z_]+", SAMPLE, re.MULTILINE):
        assert key in found.settings or key in found.commands or re.search(rf"\b{key}\b", named), key
    assert "pam_abl 0.9.0 loses the trigger" in named
    assert "user_purge is one hour: pam_abl raises 30" in named


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments_of_the_module(tmp_path: Path, argument: str) -> None:
    """A line of /etc/pam.d leads to the configuration, and its other arguments are named."""
    config = tmp_path / "abl.conf"
    config.write_text("host_rule=*:3/1m\n")
    stack = f"auth required pam_unix.so nullok\n@include common-auth\nauth required pam_abl.so config={config} {argument}\n"
    found = read(tmp_path, stack)
    assert settings_of(found).host_rule == "*:3/1m"
    assert any(note.startswith(f"{argument} is left out") for note in found.notes)


def test_without_rules(tmp_path: Path) -> None:
    """Where pam_abl has no rule, nothing is guessing, although sshbell's default has a rule."""
    found = read(tmp_path, "db_home=/var/lib/abl\n")
    assert (settings_of(found).host_rule, settings_of(found).user_rule) == ("", "")


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("host_purge=86400", "host_purge", "1d"), ("host_purge=90m", "host_purge", "90m"), ("host_purge=1x", "host_purge", "1h"),
        ("host_purge=100000000", "host_purge", "1158d"), ("host_purge=9999999d", "host_purge", "999999d"),
        ("limits=0-0", "limits", ""), ("limits=9-1", "limits", ""), ("limits=10000-20000", "limits", ""),
        ("limits=5-10 trailing", "limits", "5-10"), ("host_rule=*:1/1w", "host_rule", ""),
        ("host_rule=*:2000/1h", "host_rule", ""),
        ("host_rule = *:1/1h", "host_rule", "*:1/1h"), ("host_rule=*:1/1h\nhost_rule=*:2/1h", "host_rule", "*:2/1h"),
        ("host_whitelist=10.0.0.0/99;ok", "host_whitelist", ["ok"]), ('user_whitelist=a"b\\c', "user_whitelist", ['a"b\\c']),
    ],
)  # fmt: skip
def test_odd_values(tmp_path: Path, line: str, key: str, value: object) -> None:
    """What pam_abl takes in its own way is taken so, or left out with a note."""
    found = read(tmp_path, line + "\n")
    assert getattr(settings_of(found), key) == value


def test_nested(tmp_path: Path) -> None:
    """A file may name another one; one that names itself ends, and one that is not there is an error."""
    path = tmp_path / "pam_abl.conf"
    assert any("include each other" in note for note in read(tmp_path, f"config={path}\nuser_rule=*:1/1m\n").notes)
    with pytest.raises(InputError, match="nothere"):
        read(tmp_path, "config=/nothere\n")


@pytest.mark.parametrize("text", ["", "auth required pam_unix.so nullok\n", "strange=1\n"])
def test_nothing_of_pam_abl(tmp_path: Path, text: str) -> None:
    """A file without pam_abl is an error that names the right files: an empty rule would look like a translation."""
    with pytest.raises(InputError, match=r"has no setting of pam_abl; try /etc/security/pam_abl\.conf"):
        read(tmp_path, text)


def test_lines() -> None:
    """As pam_abl reads them."""
    text = "a=1 # b\n  c = 2  \n#\n\nd=3\\\n4\\\n # e\nf"
    assert list(logical_lines(text)) == ["a=1", "c = 2", "d=34", "f"]


@given(st.text(max_size=200))
def test_any_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever stands in a file, the output is TOML that sshbell reads, and nothing that a terminal obeys."""
    if "config" in text:
        return
    found = read(tmp_path_factory.getbasetemp(), f"db_home=/var/lib/abl\n{text}")
    assert tomllib.loads(found.toml).keys() <= {"detect", "block"}
    assert all(line.isprintable() for line in found.toml.splitlines())
    assert isinstance(settings_of(found), msgspec.Struct)
