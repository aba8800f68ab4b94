"""``[codes]``, as the commands for PAM read it: the same values as the whole configuration, and a fault never opens the door."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
import tomli_w

from consumer import codes_settings, config_file
from consumer.codes.settings import PamCodes, PamRule, Settings, settings_of

if TYPE_CHECKING:
    from pathlib import Path

FULL = {
    "channels": ["ops"], "to": "owner", "digits": 6, "session_digits": 4, "valid": "90s", "tries": 1, "timeout": "5s",
    "on_failure": "safe",
    "rule": [{"user": ["a*"], "group": ["g"], "address": ["192.0.2.0/24", "::1"], "service": ["su"], "ask": "new",
              "new": ["address"], "on_failure": "codes"}],
}  # fmt: skip


@pytest.mark.parametrize("table", [{}, FULL, {"rule": [{}, {"ask": "never"}]}])
def test_both_readers_agree(tmp_path: Path, table: dict[str, object]) -> None:
    """The light reader and that of all settings give the same values, the defaults included."""
    channel = [{"name": "ops", "type": "email", "to": ["ops@example.org"]}]
    text = tomli_w.dumps({"state_dir": "/var/lib/x", "channel": channel, "codes": table})
    (tmp_path / "x.toml").write_text(text)
    found = settings_of(str(tmp_path / "x.toml"))
    assert (found.state_dir, found.fault) == ("/var/lib/x", "")
    wanted = msgspec.to_builtins(config_file.parse(text.encode(), "x.toml").codes)
    ours = found.codes._asdict() | {"rule": [rule._asdict() for rule in found.codes.rule]}
    assert json.loads(json.dumps(ours)) == wanted


def test_same_keys() -> None:
    """Neither has a key that the other lacks."""
    assert PamCodes._fields == codes_settings.Codes.__struct_fields__
    assert PamRule._fields == codes_settings.CodeRule.__struct_fields__


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[codes]\ndigits = 5", "digits has a wrong value"),
        ("[codes]\ndigits = true", "digits has a wrong value"),
        ("[codes]\ntries = 0", "tries has a wrong value"),
        ("[codes]\ntries = '3'", "tries has a wrong value"),
        ("[codes]\nvalid = '5'", "valid has a wrong value"),
        ("[codes]\nvalid = '5m\\n'", "valid has a wrong value"),
        ("[codes]\nto = 'all'", "to has a wrong value"),
        ("[codes]\non_failure = 'safe'\ntimeout = '61s'", "timeout has a wrong value"),
        ("[codes]\nvalid = '61m'", "valid has a wrong value"),
        ("[codes]\ntries = 11", "tries has a wrong value"),
        ("[[codes.rule]]\nask = 'new'\nnew = ['adress']", "new has a wrong value"),
        ("[codes]\non_failure = 'open'", "on_failure has a wrong value"),
        ("[codes]\nchannels = 'ops'", "channels is not a list"),
        ("[codes]\nchannels = [1]", "channels has a wrong value"),
        ("[codes]\nsafe = true", "there is no key 'safe'"),
        ("codes = []", "codes is not a table"),
        ("[codes]\nrule = {}", "rule is not a list"),
        ("[[codes.rule]]\nask = 'no'", "ask has a wrong value"),
        ("[[codes.rule]]\nnew = []", "new has a wrong value"),
        ("[[codes.rule]]\nrule = []", "there is no key 'rule'"),
        ("[[codes.rule]]\naddress = ['10.0.0.1/8']", "10.0.0.1/8 has host bits set"),
        ("state_dir = 5", "state_dir is not a text"),
        ("codes = [", "Invalid value"),
        ("x = " + "[" * 100_000, ""),
        ("[codes]\non_failure = 'safe'\ndigits = 1", "digits has a wrong value"),
    ],
)
def test_a_fault_lets_in_emergency_codes_only(tmp_path: Path, text: str, says: str) -> None:
    """Whatever the file says, nothing of it counts; ``safe`` beside a fault does not let in either."""
    (tmp_path / "x.toml").write_text(text)
    found = settings_of(str(tmp_path / "x.toml"))
    assert found._replace(fault="") == Settings(PamCodes(on_failure="codes"), "/var/lib/sshbell")
    assert says in found.fault
    assert found.fault.startswith(str(tmp_path))


def test_without_a_file(tmp_path: Path) -> None:
    """A missing file and one with other bytes are faults, too."""
    (tmp_path / "x.toml").write_bytes(b"\xff")
    assert "No such file" in settings_of(str(tmp_path / "y.toml")).fault
    assert "codec" in settings_of(str(tmp_path / "x.toml")).fault


def test_a_fault_elsewhere(tmp_path: Path) -> None:
    """A fault in another table keeps nobody out."""
    (tmp_path / "x.toml").write_text('[[channel]]\ntype = "no such"\n[codes]\ndigits = 6')
    assert settings_of(str(tmp_path / "x.toml")) == Settings(PamCodes(digits=6), "/var/lib/sshbell")
