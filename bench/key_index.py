#!/usr/bin/env python3
"""
Measure the keys of many accounts: the time to export and import them, and to find the owner of one.

It makes up the accounts and their homes in a private mount namespace (root, util-linux)::

    bench/key_index.py --accounts 10000 --keys 5 --rounds 3
"""

import argparse
import base64
import hashlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from measure import mebibytes, run_timed, run_watched

from consumer.keys.index import KeyIndex

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKUPS = 10_000
UID = 60_000


def key(number: int) -> tuple[str, str]:
    """Return the line of a key and its fingerprint."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(str(number).encode()).digest()
    print_ = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} user{number}@laptop{number % 7}\n", f"SHA256:{print_}"


def make_host(folder: Path, accounts: int, keys: int) -> list[str]:
    """Make an /etc with accounts, and their homes; return the fingerprints."""
    prints = []
    rows = ["root:x:0:0:root:/nonexistent:/bin/sh\n"]
    for number in range(accounts):
        home = folder / "home" / f"user{number}"
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        made = [key(number * keys + at) for at in range(keys)]
        (home / ".ssh" / "authorized_keys").write_text("".join(line for line, _ in made))
        prints += [fingerprint for _, fingerprint in made]
        for place in (home, home / ".ssh", home / ".ssh" / "authorized_keys"):
            os.chown(place, UID + number, UID + number)
        rows.append(f"user{number}:x:{UID + number}:{UID + number}::{home}:/bin/sh\n")
    etc = folder / "etc"
    (etc / "ssh").mkdir(parents=True)
    (etc / "ssh" / "sshd_config").touch()
    (etc / "passwd").write_text("".join(rows))
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\n")
    (folder / "sshbell.toml").write_text(f'state_dir = "{folder}/state"\nuser = ""\n')
    (folder / "state").mkdir()
    return prints


def row(name: str, values: list[float], unit: str) -> None:
    """Print a figure."""
    print(f"{name:<32}  {median(values):8.3f} {unit}  ({min(values):.3f} to {max(values):.3f})", flush=True)


def lookups(folder: Path, prints: list[str]) -> float:
    """Return the microseconds of one look-up in an open index."""
    index = KeyIndex(folder / "state", sys.exit)
    chosen = random.Random(1).choices(prints, k=LOOKUPS)
    assert index.owners("web1", chosen[0])
    start_s = time.perf_counter()
    for fingerprint in chosen:
        if len(index.owners("web1", fingerprint)) != 1:
            sys.exit(f"{fingerprint} was not found")
    return (time.perf_counter() - start_s) / LOOKUPS * 1e6


def main() -> None:
    """Make a host, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=5, help="per account")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sshbell-bench-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        prints = make_host(folder, chosen.accounts, chosen.keys)
        sshbell = f"{sys.executable} -I -m consumer keys"
        script = f"mount --bind {folder}/etc /etc && exec {sshbell} export --host web1 > {folder}/web1.json"
        export = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script]
        import_ = [*sshbell.split(), "import", "--config", f"{folder}/sshbell.toml", f"{folder}/web1.json"]
        print(f"{chosen.accounts:,} accounts with {chosen.keys} keys each, {chosen.rounds} rounds; median and range")
        steps: list[tuple[str, Callable[[], float], str]] = [
            ("keys export", lambda: run_timed(export).clock, "s"), ("keys import", lambda: run_timed(import_).clock, "s"),
            ("look-up", lambda: lookups(folder, prints), "microseconds"),
        ]  # fmt: skip
        figures: dict[str, list[float]] = {name: [] for name, _, _ in steps}
        for _ in range(chosen.rounds):
            for name, step, _ in steps:
                figures[name].append(step())
        for name, _, unit in steps:
            row(name, figures[name], unit)
        for name, command in (("keys export", export), ("keys import", import_)):
            print(f"{f'memory of {name}':<32}  {mebibytes(run_watched(command).largest_process)}")
        print(f"{'keys.db':<32}  {mebibytes((folder / 'state' / 'keys.db').stat().st_size)}")


if __name__ == "__main__":
    main()
