#!/usr/bin/env python3
"""
Show that a login does not wait for sshbell: compare the time of ``ssh host true`` with and without sshbell behind rsyslogd.

The real sshd on loopback logs to the real rsyslogd, a new one in each round. In every second round, our drop-in starts
``sshbell run``, and each login causes a mail on loopback. Rounds alternate; everything shares this machine::

    bench/login.py --rounds 6 --logins 30

Needs root, the Debian packages ``rsyslog``, ``openssh-server`` and ``openssh-client``, and the dependencies of the tests.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from latency import CONFIG
from measure import spread

from tests.integration.post_office import PostOffice
from tests.integration.rsyslogd import Rsyslogd, entry_point
from tests.integration.sshd import key, sshd
from tests.waiting import wait_for

# Both write the log file, as usual. Without sshbell, no line gets to the drop-in.
WITHOUT = """
action(type="omfile" file="{folder}/all.log" template="RSYSLOG_FileFormat")
stop
"""


def measure_round(folder: Path, ssh: list[str], post: PostOffice, logins: int, *, is_with: bool) -> list[float]:
    """Return the milliseconds of each login, from the start of ssh to its end."""
    folder.mkdir()
    (folder / "sshbell.toml").write_text(CONFIG.format(folder=folder, port=post.port))
    child = entry_point(folder, [sys.executable, "-m", "consumer", "run", "--config", str(folder / "sshbell.toml")])
    # sshd's /dev/log is a link to this one, which leads to the rsyslogd of the round.
    (folder.parent / "log").unlink(missing_ok=True)
    (folder.parent / "log").symlink_to(folder / "log")
    before = len(post.mails())

    def log_in() -> float:
        start = time.perf_counter()
        subprocess.run([*ssh, "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return 1000 * (time.perf_counter() - start)

    with Rsyslogd(folder, more="" if is_with else WITHOUT.format(folder=folder), child=child):
        log_in()
        if is_with:
            wait_for(lambda: len(post.mails()) == before + 1, "sshbell reports the first login")
        found = [log_in() for _ in range(logins)]
        if is_with:
            wait_for(lambda: len(post.mails()) == before + 1 + logins, "sshbell reports each login")
    if (folder / "state").exists() != is_with:
        raise SystemExit("sshbell ran in a round without it, or did not run in a round with it")
    return found


def main() -> None:
    """Read the command line, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="with sshbell, and as many without")
    parser.add_argument("--logins", type=int, default=30, help="per round")
    options = parser.parse_args()
    if options.rounds < 2 or options.logins < 2:
        parser.error("give at least two rounds and two logins, to see how much they vary by themselves")
    if os.geteuid() != 0:
        raise SystemExit("only root can run an sshd that accepts logins")
    rounds: dict[bool, list[list[float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key(folder / "user_key")
        with PostOffice(folder) as post, sshd(folder, folder / "log") as ssh:
            for number in range(options.rounds):
                # The order alternates, too.
                for is_with in (False, True) if number % 2 else (True, False):
                    title = f"{'with' if is_with else 'without'}{number}"
                    rounds[is_with].append(measure_round(folder / title, ssh, post, options.logins, is_with=is_with))
                    print(f"{title}: {spread(rounds[is_with][-1], 1)} ms", file=sys.stderr)
    print(f"ssh host true, milliseconds; {options.rounds} rounds of {options.logins} logins each, alternating")
    for is_with, title in ((False, "without sshbell"), (True, "with sshbell")):
        every = [each for found in rounds[is_with] for each in found]
        low, middle, high = quantiles(every, n=4)
        print(
            f"{title:<17}median {middle:.1f}, half of them {low:.1f} to {high:.1f}; "
            f"medians of the rounds {spread([median(found) for found in rounds[is_with]], 1)}"
        )
    differences = [median(ours) - median(theirs) for ours, theirs in zip(rounds[True], rounds[False], strict=True)]
    print(f"with minus without, by round: {spread(differences, 1)}")
    alone = [abs(median(one) - median(next_one)) for one, next_one in pairwise(rounds[False])]
    print(f"without, from one round to the next: {spread(alone, 1)}")


if __name__ == "__main__":
    main()
