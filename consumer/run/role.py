"""
The three roles of ``run``: alone, one shard of several, or the one that gathers the events of all shards.

A shard joins lines to events, and watches the lines of its hosts. What takes the events of all hosts stands in the one that
gathers: the other detectors, blocking, the store of ``who`` and ``history``, and ``deliver``. So an address that guesses on hosts
of several shards is found once, and ``max_per_hour`` and digests count for all shards together.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.config import Blocking, Config
from consumer.detect_settings import (
    Detect,
    FirstSeenSettings,
    GuessingSettings,
    ManyAccountsSettings,
    ManyAddressesSettings,
    ScanningSettings,
    SuccessAfterFailuresSettings,
)
from consumer.state_dir import shard_dir

# No detector looks at events.
_NONE = Detect(
    guessing=GuessingSettings(host_rule="", user_rule=""),
    root_by_password=False,
    many_addresses=ManyAddressesSettings("", "", ""),
    many_accounts=ManyAccountsSettings("", ""),
    slow_guessing="",
    scanning=ScanningSettings("", ""),
    success_after_failures=SuccessAfterFailuresSettings("", "", ""),
    first_seen=FirstSeenSettings(what=[]),
    impossible_travel=0,
    password_despite_key=0,
    key_in_two_places=0,
    sshd_penalty="",
    sshd_health=False,
    host_silent=0,
    host_changed_wording=0,
)


class Role(NamedTuple):
    """
    The role of a ``run``.

    Attributes:
        shard: the number of the shard; None if it is none.
        is_gathering: its lines come to shards, so no lines come to it.
    """

    shard: int | None = None
    is_gathering: bool = False

    def config(self, whole: Config) -> Config:
        """Return the configuration as it applies to this role."""
        found = whole.detect
        if self.shard is not None:
            detect = msgspec.structs.replace(
                _NONE, host_silent=found.host_silent, host_changed_wording=found.host_changed_wording, clock_skew=found.clock_skew
            )
            folder = str(shard_dir(Path(whole.state_dir), self.shard))
            # The log file has the lines of all hosts, and a shard knows only those of its own.
            return msgspec.structs.replace(whole, state_dir=folder, catch_up="", detect=detect, block=Blocking())
        if self.is_gathering:
            # No host is silent: its lines come to a shard.
            detect = msgspec.structs.replace(found, host_silent=0)
            return msgspec.structs.replace(whole, catch_up="", detect=detect)
        return whole
