#!/usr/bin/env python3
"""
Measure the processor time to find the owners of keys: to read the files of all users, and to do one look-up, in a made-up tree.

``sshbell keys export`` and an index read all files; each login needs one look-up. This does not become the users::

    bench/keys.py --users 10000 --keys 5
"""

import argparse
import base64
import os
import pwd
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from measure import mebibytes, run_watched, spread

from consumer.keys.authorized_keys import AuthorizedKey, parsed
from consumer.keys.fields import Question
from consumer.keys.files import keys_of, owners_of
from consumer.keys.sshd_config import sshd_settings

OPTIONS = ("", "", "restrict,pty ", 'from="192.0.2.0/24,198.51.100.7" ', 'command="rsync --server, \\"x\\"",no-pty ')
LOOKUPS = 2000


def key(user: int, number: int) -> str:
    """Return a made-up ed25519 key; hashing it costs the same as for a real one."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + (user * 1000 + number).to_bytes(32, "big")
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def account(tree: Path, user: int) -> pwd.struct_passwd:
    """Return a made-up account."""
    return pwd.struct_passwd((f"user{user}", "x", os.geteuid(), os.getegid(), "", str(tree / f"user{user}"), "/bin/sh"))


def make_tree(tree: Path, users: int, keys: int) -> None:
    """Write the homes."""
    for user in range(users):
        folder = tree / f"user{user}/.ssh"
        folder.mkdir(parents=True, mode=0o755)
        lines = [f"{OPTIONS[number % len(OPTIONS)]}{key(user, number)} user{user}@laptop{number}\n" for number in range(keys)]
        (folder / "authorized_keys").write_text("".join(lines))


def show_index(tree: Path, users: int) -> None:
    """Read all files into an index by fingerprint; print the seconds, the microseconds of a look-up, and the number of keys."""
    started = time.process_time()
    index: dict[str, list[AuthorizedKey]] = {}
    for user in range(users):
        who = account(tree, user)
        for _, found in keys_of(who, sshd_settings(who.pw_name, "", "")):
            index.setdefault(found.sha256, []).append(found)
    seconds = time.process_time() - started
    sought = random.Random(1).choices(list(index), k=LOOKUPS)
    started = time.process_time()
    assert all(index[each] for each in sought)
    print(seconds, (time.process_time() - started) / LOOKUPS * 1e6, len(index))


def show_lookups(tree: Path, users: int, keys: int) -> None:
    """Print the microseconds to find one owner in the user's own files: median, and limit for 99 of 100."""
    chosen = random.Random(2)
    took = []
    for _ in range(LOOKUPS):
        user = chosen.randrange(users)
        number = chosen.randrange(keys)
        fingerprint = next(parsed(key(user, number).encode())).sha256
        who = account(tree, user)
        started = time.process_time()
        owners = owners_of(Question(who.pw_name, fingerprint), who, sshd_settings(who.pw_name, "", "192.0.2.1"))
        took.append((time.process_time() - started) * 1e6)
        assert [owner.comment for owner in owners] == [f"user{user}@laptop{number}"]
    print(median(took), sorted(took)[len(took) * 99 // 100])


def main() -> None:
    """Read the command line, and run each round in a new process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        what, tree = options.only
        if what == "index":
            show_index(Path(tree), options.users)
        else:
            show_lookups(Path(tree), options.users, options.keys)
        return
    sshd_settings("root", "", "")
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder), options.users, options.keys)
        command = [sys.executable, __file__, "--users", str(options.users), "--keys", str(options.keys), "--only"]
        rounds: dict[str, list[list[float]]] = {"index": [], "lookups": []}
        for _ in range(options.rounds):
            for what, figures in rounds.items():
                done = subprocess.run([*command, what, folder], check=True, capture_output=True, text=True)
                figures.append([float(word) for word in done.stdout.split()])
        memory = run_watched([*command, "index", folder])
        seconds, looked_up, count = zip(*rounds["index"], strict=True)
        typical, slow = zip(*rounds["lookups"], strict=True)
    print(f"{options.users:,} users with {options.keys} keys: {count[0]:,.0f} keys indexed in {spread(seconds, 2)} s")
    print(f"  memory of that process: {mebibytes(memory.largest_process)}; a look-up in the index: {spread(looked_up, 2)} µs")
    print(f"a look-up in the user's files: median {spread(typical, 0)} µs, 99 of 100 within {spread(slow, 0)} µs")
    print(f"{options.rounds} rounds, median (min-max)")


if __name__ == "__main__":
    main()
