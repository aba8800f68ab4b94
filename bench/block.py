#!/usr/bin/env python3
"""
Measure blocking: the answer of the real pam_access, an entry's way into the file, and the answer of ``sshbell block check``.

Needs root, and the Debian package ``pamtester``::

    bench/block.py
    bench/block.py --entries 20000 --orders 500

The answer of pam_access is the processor time of pamtester with the file, less that with an empty one, round by round.
"""

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median, quantiles
from typing import TYPE_CHECKING

import msgspec

from consumer.block.access_conf import access_conf
from consumer.block.target import network_target, outermost
from consumer.guard.messages import ORDERS_LIMIT, Order
from consumer.state_dir import GUARD_SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT_DIR = Path(__file__).parents[1]
PAMTESTER = shutil.which("pamtester") or "pamtester"
HOUR_US = 3600 * 1_000_000


def addresses(number: int, seed: int) -> list[str]:
    """Return different addresses from all over the world, a quarter of them IPv6 networks."""
    dice = random.Random(seed)
    found = {str(ip_address(dice.randrange(1 << 24, 224 << 24))) for _ in range(number - number // 4)}
    found |= {f"{ip_address(dice.randrange(0x2001 << 112, 0x2C00 << 112) >> 64 << 64)}/64" for _ in range(number // 4)}
    # Loopback is never blocked.
    return sorted(text for text in found if not text.startswith("127."))


@contextmanager
def service(file: Path) -> "Iterator[str]":
    """Create a PAM service that asks pam_access about a file."""
    path = Path(f"/etc/pam.d/sshbell-bench-{os.getpid()}-{file.name}")
    path.write_text(f"auth required pam_access.so nodefgroup accessfile={file}\nauth required pam_permit.so\n")
    try:
        yield path.name
    finally:
        path.unlink()


def processor_ms(command: list[str], env: dict[str, str] | None = None) -> float:
    """Return the processor time of a command."""
    begin = getrusage(RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False, env=env)
    end = getrusage(RUSAGE_CHILDREN)
    return (end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime) * 1000


def asked_ms(name: str, address: str) -> float:
    """Return the processor time of pamtester's question."""
    return processor_ms([PAMTESTER, "-I", f"rhost={address}", name, "root", "authenticate"])


def answers_of_pam_access(folder: Path, entries: int, rounds: int) -> None:
    """Print how long pam_access takes with a full file."""
    texts = addresses(entries, 1)
    (folder / "full").write_bytes(access_conf(outermost(map(network_target, texts)), {}, []))
    (folder / "empty").write_bytes(access_conf([], {}, []))
    (folder / "flat").write_text("".join(f"- : ALL : {text}\n" for text in texts))
    with service(folder / "full") as full, service(folder / "empty") as empty, service(folder / "flat") as flat:
        for what, address in (("a stranger", "198.51.100.77"), ("a blocked one", texts[len(texts) // 2].partition("/")[0])):
            found = [(asked_ms(full, address), asked_ms(empty, address), asked_ms(flat, address)) for _ in range(rounds)]
            ours = median(each[0] - each[1] for each in found)
            line_each = median(each[2] - each[1] for each in found)
            print(f"pam_access, {entries:,} entries, {what}: {ours:.2f} ms; with a line for each: {line_each:.2f} ms")


@contextmanager
def guard(folder: Path) -> "Iterator[tuple[socket.socket, Path, Path]]":
    """Run a guard; yield the socket for orders, the file for pam_access, and the configuration."""
    state_dir, access, config = folder / "state", folder / "access.conf", folder / "sshbell.toml"
    state_dir.mkdir(mode=0o700)
    config.write_text(f'state_dir = "{state_dir}"\nuser = ""\n[block]\nmode = "on"\naccess_file = "{access}"\n')
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "consumer.guard.process", str(theirs.fileno()), str(config)]
    env = os.environ | {"PYTHONPATH": str(PROJECT_DIR)}
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=env)
    theirs.close()
    try:
        while not (state_dir / GUARD_SOCKET).exists() or not access.exists():
            time.sleep(0.01)
        yield ours, access, config
    finally:
        ours.close()
        process.wait()


def order(text: str, number: int) -> Order:
    """Return an order to block."""
    return Order(f"bench-{number}", text, time.time_ns() // 1000 + HOUR_US, "a benchmark")


def way_of_orders(orders: socket.socket, access: Path, entries: int, number: int, numbers_begin: int) -> None:
    """Print how long it takes from an order to the entry in the file."""
    texts = [text for text in addresses(entries + 2 * number, 2) if "/" not in text]
    found = []
    for count, text in enumerate(random.Random(3).sample(texts, number)):
        word = f" {text}".encode()
        begin_s = time.perf_counter()
        orders.send(msgspec.json.encode([order(text, numbers_begin + count)]))
        while word not in access.read_bytes():
            time.sleep(0.0005)
        found.append((time.perf_counter() - begin_s) * 1000)
        time.sleep(0.01)
    p99, worst = quantiles(found, n=100)[98], max(found)
    print(f"order to entry, among {entries:,} entries: median {median(found):.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms")


def way_of_lines(folder: Path, number: int) -> None:
    """Print how long it takes from the line that decides, on the input of ``sshbell run``, to the entry in the file."""
    state_dir, access, config = folder / "run", folder / "of_run.conf", folder / "run.toml"
    state_dir.mkdir(mode=0o700)
    config.write_text(
        f'state_dir = "{state_dir}"\nuser = ""\ncatch_up = ""\n[detect.guessing]\nhost_rule = "*:1/1h"\n'
        f'[block]\nmode = "on"\naccess_file = "{access}"\n'
    )
    env = os.environ | {"PYTHONPATH": str(PROJECT_DIR), "TZ": "UTC"}
    command = [sys.executable, "-m", "consumer", "run", "--config", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    while not access.exists():
        time.sleep(0.01)
    found = []
    for count in range(number):
        address = f"203.0.{113 + (count >> 8)}.{count & 255}"
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00"
        line = {
            "v": "1", "ts": stamp, "rcvd": stamp, "host": "web1", "tag": f"sshd[{count + 1}]:", "prog": "sshd",
            "procid": str(count + 1), "msg": f" Failed password for root from {address} port 22 ssh2", "uid": 0,
        }  # fmt: skip
        begin_s = time.perf_counter()
        process.stdin.write(msgspec.json.encode(line) + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        words = (f" {address}\n".encode(), f" {address} ".encode())
        while not any(word in access.read_bytes() for word in words):
            time.sleep(0.0005)
        found.append((time.perf_counter() - begin_s) * 1000)
        time.sleep(0.02)
    process.stdin.close()
    process.wait()
    print(f"line to entry: median {median(found):.1f} ms, p99 {quantiles(found, n=100)[98]:.1f} ms, worst {max(found):.1f} ms")


def commands(config: Path, rounds: int) -> None:
    """Print the processor time of a check."""
    names = (["--version"], ["block", "check", "192.0.2.7", "--config", str(config)])
    python = [sys.executable, "-c", "pass"]
    env = os.environ | {"PYTHONPATH": str(PROJECT_DIR)}
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for command in (python, *([sys.executable, "-m", "consumer", *name] for name in names)):
            name = " ".join(command[-1:] if command is python else command[3:5])
            found.setdefault(name, []).append(processor_ms(command, env))
    for what, times in found.items():
        name = "python alone" if what == "pass" else f"sshbell {what}"
        print(f"{name}: median {median(times):.0f} ms, best {min(times):.0f} ms")


def main() -> None:
    """Measure all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        way_of_lines(folder, given.orders)
        answers_of_pam_access(folder, given.entries, given.rounds)
        with guard(folder) as (orders, access, config):
            way_of_orders(orders, access, 0, given.orders, 0)
            begin_s = time.perf_counter()
            texts = addresses(given.entries - 2 * given.orders, 4)
            for begin in range(0, len(texts), ORDERS_LIMIT):
                some = [order(text, 1_000_000 + begin + count) for count, text in enumerate(texts[begin : begin + ORDERS_LIMIT])]
                orders.send(msgspec.json.encode(some))
            last = texts[-1].encode()
            while last not in access.read_bytes():
                time.sleep(0.01)
            print(f"a flood of {len(texts):,} orders: {time.perf_counter() - begin_s:.1f} s")
            way_of_orders(orders, access, given.entries, given.orders, 2_000_000)
            commands(config, given.rounds)


if __name__ == "__main__":
    main()
