"""What each role of ``run`` takes from the configuration."""

from __future__ import annotations

import msgspec
import pytest

from consumer.config import Allow, Blocking, Config
from consumer.detect.detectors import Detectors
from consumer.detect_settings import Detect
from consumer.run.role import Role

WHOLE = Config(
    state_dir="/s", block=Blocking(mode="on", allow=[Allow(address="192.0.2.0/24")]), catch_up="/var/log/auth.log", keep="5d",
    detect=Detect(host_silent=7, clock_skew="5m"),
)  # fmt: skip


def detectors(config: Config) -> set[str]:
    """Return the names of the detectors that are on."""
    return set(map(str, Detectors(config.detect, print, config.block, lambda _address: None)._by_name))


def test_alone() -> None:
    """Without shards, the configuration counts as it is."""
    assert Role().config(WHOLE) is WHOLE


def test_shard() -> None:
    """A shard has its own directory, watches its hosts, and leaves all else to the one that gathers."""
    found = Role(shard=3).config(WHOLE)
    assert (found.state_dir, found.catch_up, found.keep) == ("/s/shard-3", "", "5d")
    assert (found.detect.host_silent, found.detect.clock_skew) == (7, "5m")
    assert found.block == Blocking()
    # The policy of blocks is always there; without a finding it does nothing.
    assert detectors(found) == {"host_lines", "ssh_block"}


def test_gathering() -> None:
    """The one that gathers has all detectors, and the settings of blocking; no line comes to it whose absence meant anything."""
    found = Role(is_gathering=True).config(WHOLE)
    assert (found.state_dir, found.catch_up, found.block) == ("/s", "", WHOLE.block)
    assert found.detect.host_silent == 0
    assert detectors(found) == detectors(WHOLE)


@pytest.mark.parametrize("role", [Role(), Role(shard=0), Role(is_gathering=True)])
def test_settings_are_valid(role: Role) -> None:
    """What a role makes of the settings can be read from a journal again, which checks their bounds."""
    found = role.config(WHOLE)
    assert msgspec.json.decode(msgspec.json.encode(found.detect), type=Detect) == found.detect
