"""
Floods sshbell with failed logins and checks that its messages report every login, and add up.

    python tests/integration/tries.py --tries 1000000 --addresses 50000 --logins 100

All of it happens within ten minutes of the host's time. The real ``run`` reads it in confirm mode, and its ``deliver`` sends mail
to a real server in a process of its own. This program plays the part of rsyslogd. Half of the tries are a line each, the others a
line and the end of the connection. The windows of the folds close early, so that nobody has to wait for them.

A login has to be in a message of its own; the tries have to be in a few messages, whose numbers add up to them.
"""

from __future__ import annotations

import argparse
import random
import re
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.host import child_with
from tests.integration.lines import ours
from tests.integration.post_office import PostOffice
from tests.integration.site import Site, mail_channel
from tests.waiting import came_true, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.site import Run

EVENTS = ["ssh_login", "ssh_attempt", "ssh_probe", "ssh_forged"]
# Of the host's time.
SPAN_S = 600
PATIENCE_S = 600.0
NAMES = ("root", "admin", "oracle", "postgres", "git", "test", "ubuntu", "deploy")
LOGIN = re.compile(r"(u\d+) logged in to web1 from 192\.0\.2\.\d+")
ALONE = re.compile(r"Failed login to web1 as \S+ from \S+(?: \(([\d,]+) times\))?")
FOLD = re.compile(r"([\d,]+) more messages?: ([\d,]+) failed logins?(?: and ([\d,]+) more)?")


class Flood(NamedTuple):
    """
    What came of a flood.

    Attributes:
        logins: the latency of the message about each login in seconds, by user; from its last line to the server's acceptance.
        tries: the failed logins in all messages together.
        messages: the messages about failed logins.
        others: subjects of other messages.
        fed_s: the time in which ``run`` read all lines.
        lines: their number.
        run_kib, deliver_kib: the most memory that the processes had (VmHWM).
    """

    logins: dict[str, float]
    tries: int
    messages: int
    others: list[str]
    fed_s: float
    lines: int
    run_kib: int
    deliver_kib: int


def flood(folder: Path, tries: int, addresses: int, logins: int) -> Flood:
    """Run a flood in a folder."""
    post_folder = folder / "post"
    post_folder.mkdir(parents=True)
    with Site(folder) as site, PostOffice(post_folder) as post:
        channel = mail_channel(post.port, max_per_hour=60)
        site.configure(channel=[channel], route=[{"events": EVENTS, "channels": ["ops"]}])
        run = site.start_run()
        started_s = time.monotonic()
        written_ns, lines = _fed(run, tries, addresses, logins)
        fed_s = time.monotonic() - started_s
        wait_for(lambda: _is_routed(site), "deliver has routed all", PATIENCE_S)
        wait_for(lambda: len(_logins_of(post)) >= logins, "a message for each login", PATIENCE_S)
        deliver = child_with(run.pid, b"deliver")
        memory = [_high_water(run.pid), _high_water(deliver)]
        assert run.end()[0] == 0
        _close_windows(site)
        run = site.start_run()
        came_true(lambda: _tries_of(post)[0] >= tries, PATIENCE_S)
        memory[1] = max(memory[1], _high_water(child_with(run.pid, b"deliver")))
        assert run.end()[0] == 0
        found, messages, others = _tries_of(post)
        taken = _logins_of(post)
        return Flood(
            {user: (taken[user] - at_ns) / 1e9 for user, at_ns in written_ns.items()}, found, messages, others, fed_s, lines,
            *memory,
        )  # fmt: skip


def _fed(run: Run, tries: int, addresses: int, logins: int) -> tuple[dict[str, int], int]:
    """Send all lines; return when the last line of each login was written, in nanoseconds since 1970, and their number."""
    dice = random.Random(1)  # noqa: S311 - no secret
    rows = tries + logins
    login_of_row = {round((number + 0.5) * rows / logins): number for number in range(logins)}
    written_ns: dict[str, int] = {}
    sent = lines = 0
    for row in range(rows):
        stamp_s = SPAN_S * row / rows
        login = login_of_row.get(row)
        # As rsyslogd does, this waits for the reply to each line.
        for line in _try(sent, addresses, stamp_s, dice) if login is None else _login(login, stamp_s):
            assert run.send(line) == b"OK\n"
            lines += 1
        if login is None:
            sent += 1
        else:
            written_ns[f"u{login}"] = time.time_ns()
    assert sent == tries
    return written_ns, lines


def _stamp(at_s: float) -> dict[str, Any]:
    minute, second = divmod(at_s, 60)
    stamp = f"2026-11-22T10:{int(minute):02}:{second:09.6f}+00:00"
    return {"ts": stamp, "rcvd": stamp}


def _login(number: int, at_s: float) -> Iterator[bytes]:
    pid = 100 + number
    stamp = _stamp(at_s)
    yield ours(f"Accepted publickey for u{number} from 192.0.2.{number % 250} port {pid} ssh2: RSA SHA256:abc", pid=pid, **stamp)
    yield ours(f"pam_unix(sshd:session): session opened for user u{number}(uid={pid}) by (uid=0)", pid=pid, **stamp)


def _try(number: int, addresses: int, at_s: float, dice: random.Random) -> Iterator[bytes]:
    """Yield the lines of a try: all addresses take their turns."""
    which, user, port = number % addresses, dice.choice(NAMES), dice.randint(1024, 65535)
    # Each block of 250 addresses is one network of 256.
    address = f"198.{18 + which // 62_500}.{which // 250 % 250}.{which % 250 + 1}"
    pid, stamp = 1000 + number % 4_000_000, _stamp(at_s)
    yield ours(f"Failed password for {user} from {address} port {port} ssh2", pid=pid, **stamp)
    if number % 2:
        yield ours(f"Connection closed by authenticating user {user} {address} port {port} [preauth]", pid=pid, **stamp)


def _is_routed(site: Site) -> bool:
    ((queued,),) = site.query("SELECT coalesce(max(seq), 0) FROM outbox")
    ((routed,),) = site.query("SELECT coalesce(max(seq), 0) FROM cursor", "delivery")
    return bool(queued == routed)


def _close_windows(site: Site) -> None:
    """Have the windows of all folds end now."""
    with closing(sqlite3.connect(site.state_dir / "delivery.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE hold SET due_us = 1 WHERE due_us > 0")


def _subjects(post: PostOffice) -> list[tuple[int, str]]:
    return [(mail.taken_ns, str(mail.message["Subject"]).strip()) for mail in post.mails()]


def _logins_of(post: PostOffice) -> dict[str, int]:
    """Return when the server accepted the message about each login."""
    return {found[1]: at_ns for at_ns, text in _subjects(post) if (found := LOGIN.fullmatch(text))}


def _tries_of(post: PostOffice) -> tuple[int, int, list[str]]:
    """Return the number of tries in all messages, the number of these messages, and the subjects of others."""
    tries = messages = 0
    others = []
    for _, text in _subjects(post):
        if LOGIN.fullmatch(text):
            continue
        if alone := ALONE.fullmatch(text):
            tries += _number(alone[1] or "1")
        elif fold := FOLD.fullmatch(text):
            tries += _number(fold[2]) + _number(fold[3] or "0")
        else:
            others.append(text)
            continue
        messages += 1
    return tries, messages, others


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _high_water(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def main() -> None:
    """Read the command line, run the flood, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=1_000_000)
    parser.add_argument("--addresses", type=int, default=50_000)
    parser.add_argument("--logins", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = flood(Path(name), options.tries, options.addresses, options.logins)
    waits = sorted(found.logins.values())
    rows = (
        f"{found.lines:,} lines in {found.fed_s:.0f} s, {found.lines / found.fed_s:,.0f} a second",
        f"{len(waits)} of {options.logins} logins alone in a message; median {median(waits):.2f} s, worst {waits[-1]:.2f} s",
        f"{found.tries:,} of {options.tries:,} tries in {found.messages} messages; other messages: {found.others}",
        f"memory at most: run {found.run_kib / 1024:.0f} MiB, deliver {found.deliver_kib / 1024:.0f} MiB",
    )
    sys.stdout.write("\n".join(rows) + "\n")
    if len(waits) != options.logins or found.tries != options.tries or found.others:
        raise SystemExit("the messages do not add up")


if __name__ == "__main__":
    main()
