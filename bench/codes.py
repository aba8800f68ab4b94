#!/usr/bin/env python3
"""
Show what a one-time code adds to a login: compare ``ssh host true`` by key with the same by key and code.

The real sshd, PAM and ssh on loopback. A socket of this program takes the place of ``deliver`` and answers at once. This program
types the code a second after the prompt, and that second does not count. So neither channel nor human does. Logins with a code
and those without alternate::

    bench/codes.py --logins 100

Needs root, the Debian packages ``openssh-server`` and ``openssh-client``, and the dependencies of the tests.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import spread

from consumer.codes.messages import CodeAnswer, line_of
from tests.integration.code_host import CODE_ONLY, CODE_PROMPT, CodeHost, sshbell
from tests.integration.site import Site

# Of both commands together, at the 95th percentile.
WANTED_MS = 250
# After a prompt, sshd rests for as long as it has worked (ensure_minimum_time_since() in auth2.c), before it reads an answer. No
# human is as fast.
HUMAN_S = 1.0


@contextmanager
def answering(path: Path) -> Iterator[list[str]]:
    """Take the place of ``deliver``; yield the list of the codes that it got."""
    codes: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(10)

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client, client.makefile("rb") as lines:
                    line = lines.readline()
                    if not line:
                        return
                    codes.append(json.loads(line)["code"])
                    client.sendall(line_of(CodeAnswer(channel="phone")))

        thread = threading.Thread(target=serve)
        thread.start()
        yield codes
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
        thread.join()


def log_in(host: CodeHost, codes: list[str] | None) -> float:
    """Return the milliseconds of a login, from the start of ssh to its end, without those of the human."""
    start, human_s = time.perf_counter(), 0.0
    client = host.client(command="true")
    if codes is not None:
        if not client.until(CODE_PROMPT):
            raise SystemExit(f"sshd did not ask for a code: {client.said}")
        prompted = time.perf_counter()
        time.sleep(HUMAN_S)
        client.type(codes[-1])
        human_s = time.perf_counter() - prompted
    if client.end() != 0:
        raise SystemExit(f"the login failed: {client.said}")
    return 1000 * (time.perf_counter() - start - human_s)


def processor_ms(half: str, config: Path, runs: int) -> list[float]:
    """Return the milliseconds of processor time of runs of a command, as pam_exec starts it."""
    env = {"PAM_TYPE": "auth", "PAM_USER": "root", "PAM_SERVICE": "bench"}
    found = []
    for _ in range(runs):
        process = subprocess.Popen(
            [sshbell(), "pam", half, "--config", config], env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        found.append(1000 * (usage.ru_utime + usage.ru_stime))
    return found


def main() -> None:
    """Read the command line, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=100, help="with a code, and as many without")
    options = parser.parse_args()
    if options.logins < 20:
        parser.error("a 95th percentile needs at least 20 logins")
    if os.geteuid() != 0:
        raise SystemExit("only root can run an sshd that accepts logins")
    times: dict[bool, list[float]] = {False: [], True: []}
    with ExitStack() as stack:
        hosts = {}
        for has_code, methods in ((False, "publickey"), (True, "publickey,keyboard-interactive:pam")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.chmod(0o755)
            site = stack.enter_context(Site(folder))
            hosts[has_code] = CodeHost(site, stack, pam=CODE_ONLY, methods=methods)
        with answering(hosts[True].site.state_dir / "deliver.sock") as codes:
            for number in range(options.logins + 2):
                for has_code in (False, True) if number % 2 else (True, False):
                    found = log_in(hosts[has_code], codes if has_code else None)
                    # The first ones create the store, and load programs from the disk.
                    times[has_code] += [found] if number > 1 else []
        starts = {half: processor_ms(half, hosts[False].site.config, 20) for half in ("challenge", "verify")}
    for half, found in starts.items():
        print(f"{half}: {spread(found, 1)} ms of processor time")
    tops = {has_code: quantiles(found, n=20)[-1] for has_code, found in times.items()}
    for has_code, title in ((False, "by key"), (True, "by key and code")):
        print(f"{title:<16} median {median(times[has_code]):.0f} ms, 95th percentile {tops[has_code]:.0f} ms")
    added = tops[True] - tops[False]
    print(f"a code adds {median(times[True]) - median(times[False]):.0f} ms, and at the 95th percentile {added:.0f} ms")
    if added >= WANTED_MS:
        raise SystemExit(f"that is more than {WANTED_MS} ms")


if __name__ == "__main__":
    main()
