"""Finds the state directory without reading the whole configuration: if that has a fault, or there is no time for it."""

import re
from pathlib import Path

DEFAULT_PATH = "/etc/sshbell/sshbell.toml"
STATE_DIR = "/var/lib/sshbell"
# On which ``guard`` takes commands, in the state directory.
GUARD_SOCKET = "guard.sock"
# On which ``deliver`` takes one-time codes from the commands for PAM, in the state directory.
DELIVER_SOCKET = "deliver.sock"
# On which ``run`` hears that a shard has new events.
GATHER_SOCKET = "gather.sock"
# More processes than this help no machine that one rsyslogd can fill.
SHARD_LIMIT = 64

_STATE_DIR = re.compile(r"""^[ \t]*state_dir[ \t]*=[ \t]*(["'])(/[^"'\n\0]*)\1""", re.MULTILINE)


def state_dir_in(path: str) -> str:
    """Return the state directory that a configuration names, whatever faults it has; the default if it names none."""
    try:
        found = _STATE_DIR.search(Path(path).read_text("utf-8", "replace"))
    except OSError:
        found = None
    return found[2] if found else STATE_DIR


def codes_dir_of(state_dir: str) -> Path:
    """Return the directory of one-time codes: beside the state directory, because only root may read it."""
    return Path(f"{state_dir.rstrip('/')}-codes")


def shard_dir(state_dir: Path, number: int) -> Path:
    """Return the directory of a shard, below the state directory."""
    return state_dir / f"shard-{number}"


def shards_in(state_dir: Path) -> dict[int, Path]:
    """Return the directories of all shards that have run, by number."""
    found = {number: shard_dir(state_dir, number) for number in range(SHARD_LIMIT)}
    return {number: path for number, path in found.items() if path.is_dir()}
