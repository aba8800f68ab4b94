#!/usr/bin/env python3
"""
Find lines that take more time than their length explains.

Clients choose much of the text that sshd logs, and local users can choose all of it. So this appends texts that slow down some
regular expressions to each message prefix, in each framing. A batch always has the same number of bytes: a linear reader takes
the same time for few long lines as for many short ones, and a quadratic one takes eight times as long if lines are eight times
longer. Each batch goes through ``parse`` and through ``replay``, in this process::

    bench/growth.py

``--rules`` searches for the dearest line of each rule instead: literal pieces of the rule, repeated after each part of a sample
up to the bound, with a wrong and a right end::

    bench/growth.py --rules --show 20

It prints the worst cases, and exits with 1 if doubling a line costs three times as much, or more. The second table shows short
lines, which the rules do read: microseconds per line, compared with ordinary lines.
"""

import argparse
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from make_log import write_log

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from consumer.logs.parse import parse_file
from consumer.logs.replay import Replay
from consumer.matching.matcher import PAM_LIMIT, Matcher
from consumer.matching.rules import SSHD_LIMIT, CompiledRule
from tests.unit.sample_lines import all_samples

# The longest line that sshbell reads whole, and one to compare it with.
LONG_LINE, SHORTER_LINE = 65536, 8192
# Just below the two limits above which the rules do not match texts of sshd and PAM.
SHORT_LENGTHS = (480, 1980)
BATCH_SIZE = 2 * LONG_LINE
# If twice the length takes more than this factor, it is no longer noise.
ALLOWED_GROWTH = 3.0
# A line of SHORTER_LINE bytes that takes this long is slow; a batch that takes this long is not timed again.
SLOW_S, LONG_S = 0.002, 0.2

_STAMP = "2026-11-22T09:47:07.892585+00:00"
# The text before a message, and after it.
FRAMINGS = {
    "rfc3339": (f"{_STAMP} web1 sshd[812]: ", ""),
    "traditional": ("Nov 22 09:47:07 web1 sshd[812]: ", ""),
    "rfc5424": (f"<38>1 {_STAMP} web1 sshd 812 - -  ", ""),
    "busybox": ("Nov 22 09:47:07 web1 auth.info sshd[812]: ", ""),
    "json": (f'{{"timestamp":"{_STAMP}","host":"web1","tag":"sshd[812]:","program":"sshd","procid":"812","message":', "}"),
    "journal": ('{"__REALTIME_TIMESTAMP":"1795341448831349","SYSLOG_IDENTIFIER":"sshd","_PID":"812","MESSAGE":', "}"),
}
# Headers that end too early; hostile text follows at once.
HEADERS = {
    "nothing": "",
    "pri": "<38>",
    "stamp cut": _STAMP[:-6],
    "stamp": f"{_STAMP} ",
    "traditional stamp": "Nov 22 09:47:07 ",
    "host": f"{_STAMP} web1 ",
    "traditional host": "Nov 22 09:47:07 web1 ",
    "tag": f"{_STAMP} web1 sshd[",
    "structured data": f"<38>1 {_STAMP} web1 sshd 812 - ",
    "JSON": '{"tag":"sshd[812]:","message":',
    "JSON list": '{"MESSAGE":[1,',
    "other program": f"{_STAMP} web1 cron[812]: ",
}
_TAIL = " from 192.0.2.7 port 4711 ssh2"
# Messages up to their free text, and their proper ends.
MESSAGES = {
    "": "",
    "Failed password for ": _TAIL,
    "Failed password for invalid user ": _TAIL,
    "Accepted publickey for ": f"{_TAIL}: ED25519-CERT SHA256:abc ID x (serial 1) CA ED25519 SHA256:abc",
    "Postponed publickey for ": f"{_TAIL} [preauth]",
    'Accepted certificate ID "': '" (serial 1) signed by ED25519 CA SHA256:abc via /etc/ca.pub [preauth]',
    "Invalid user ": " from 192.0.2.7 port 4711",
    "Connection closed by invalid user ": " 192.0.2.7 port 4711 [preauth]",
    "Disconnected from user ": " 192.0.2.7 port 4711",
    "Disconnecting invalid user ": " 192.0.2.7 port 4711: Too many authentication failures [preauth]",
    "Received disconnect from 192.0.2.7 port 4711:11: ": " [preauth]",
    "User ": " not allowed because shell x does not exist",
    "Starting session: forced-command (config) '": "' on pts/1 for alice from 192.0.2.7 port 4711 id 0",
    "maximum authentication attempts exceeded for ": f"{_TAIL} [preauth]",
    "error: PAM: Authentication failure for ": " from 192.0.2.7",
    "Bad protocol version identification '": "' from 192.0.2.7 port 4711",
    "Authentication tried for ": " with correct key but not from a permitted host (host=a, ip=192.0.2.7, required=b).",
    "subsystem request for ": " by user alice failed, subsystem not found",
    "pam_unix(sshd:auth): authentication failure; ": "logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7  user=alice",
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser=": " rhost=192.0.2.7  user=alice",
    "pam_unix(sshd:session): session opened for user ": "(uid=1001) by (uid=0)",
    "pam_sss(sshd:auth): received for user ": ": 7 (Authentication failure)",
    "pam_ldap(sshd:auth): Authentication failure; ": "user=alice",
    "message repeated 3 times: [ Failed password for ": f"{_TAIL}]",
    "(pam_unix) ": "",
}
# The text to repeat up to the length.
FILLS = {
    "spaces": " ",
    "letters": "a",
    "digits": "1",
    "backslashes": "\\",
    "octal escapes": "\\303",
    "quotes": '"',
    "apostrophes": "' ",
    "colons": ": ",
    "semicolons": "; ",
    "brackets": "[",
    "closed brackets": "[]",
    "parentheses": "(",
    "from": " from ",
    "from address": " from 1.2.3.4 port 22 ssh2",
    "address": " 1.2.3.4 port 22",
    "preauth": " [preauth]",
    "by uid": "(uid=0) by ",
    "user=": " user=",
    "rhost=": " ruser= rhost=a",
    "session": "' on pts/1 for a from 1.2.3.4 port 22 id 0",
    "not allowed": " not allowed because shell ",
    "code": ": 7 (",
    "serial": '" (serial 1) signed by RSA CA x via ',
    "structured data": '[a b="c"]',
    "structured data, open": '[a b="c" ',
    "annotations": ' @[_PID=1 _UID=0 _GID=0 _COMM=a _EXE=/b _CMDLINE="c"]',
    "annotations, open": " @[_PID=1 _UID=0 _GID=0 _COMM=a",
    "JSON objects": '{"a":',
    "JSON lists": "[1,",
    "rsyslog escapes": "#011",
    "high bytes": "\xe9",
    "hexadecimal": "2001:db8:",
}


@dataclass(frozen=True)
class Case:
    """One way to make hostile lines."""

    framing: str  # or the header that ends too early
    name: str
    before: str
    fill: str
    after: str
    is_json: bool

    def line(self, length: int) -> bytes:
        """Return a line of about ``length`` bytes, never more, with whole fills, so that all lengths end alike."""
        if self.is_json:
            start, _, prefix = self.before.rpartition("\0")
            end, _, close = self.after.rpartition("\0")
            room = length - len(start) - len(close) - len(json.dumps(prefix + end))
            count = max(room, 0) // (len(json.dumps(self.fill)) - 2)
            return f"{start}{json.dumps(prefix + self.fill * count + end)}{close}".encode()
        room = max(length - len(self.before) - len(self.after), 0)
        return (self.before + self.fill * (room // len(self.fill)) + self.after).encode("latin-1")


def cases() -> Iterator[Case]:
    """Yield all cases."""
    for fill_name, fill in FILLS.items():
        for header_name, header in HEADERS.items():
            for end in ("", "]", "x: Failed password for root from 192.0.2.7 port 22 ssh2"):
                yield Case(header_name, f"{header_name} | {fill_name} | {end[:8]}", header, fill, end, is_json=False)
        for prefix, tail in MESSAGES.items():
            for framing, (before, after) in FRAMINGS.items():
                for end_name, end in (("", ""), ("]", "]"), ("proper end", tail)):
                    if end_name and not end:
                        continue
                    is_json = before.startswith("{")
                    mark = "\0" if is_json else ""
                    name = f"{framing} | {prefix}| {fill_name} | {end_name}"
                    yield Case(framing, name, f"{before}{mark}{prefix}", fill, f"{end}{mark}{after}", is_json)


class Bench:
    """Times lines through the two commands."""

    def __init__(self, folder: str) -> None:
        self._path = Path(folder, "hostile.log")
        self._matcher = Matcher()

    def seconds(self, line: bytes, rounds: int = 1) -> dict[str, float]:
        """Return the best time per line of a batch of ``line`` for each command, in seconds."""
        copies = max(BATCH_SIZE // len(line), 1)
        self._path.write_bytes(copies * (line + b"\n"))
        return {command: seconds / copies for command, seconds in self.file_seconds(self._path, rounds).items()}

    def file_seconds(self, path: Path, rounds: int) -> dict[str, float]:
        """Return the best time for a whole file for each command, in seconds."""
        best = {"parse": math.inf, "replay": math.inf}
        for _ in range(rounds):
            start = time.process_time()
            for _event in parse_file(str(path), self._matcher, UTC, None, lambda _text: None):
                pass
            between = time.process_time()
            Replay(self._matcher, zone=UTC, tell=lambda _event: None, keep_text=True).run([str(path)])
            end = time.process_time()
            best = {"parse": min(best["parse"], between - start), "replay": min(best["replay"], end - between)}
            if end - start > LONG_S:
                break
        return best


def literals(pattern: str) -> list[str]:
    """Return the fixed pieces of a regular expression."""
    bare = re.sub(r"\(\?P<\w+>|\(\?<?[:!=]|\[\^?[^\]]*\]|\{[^}]*\}|\\[A-Za-z]|(?<!\\)[()|?*+.^$]", "\0", pattern)
    return [piece for piece in dict.fromkeys(re.sub(r"\\(.)", r"\1", bare).split("\0")) if piece]


def dearest(rule: CompiledRule, sample: str) -> tuple[float, str]:
    """Return seconds and text of the dearest line of a rule that is found."""
    pieces = literals(rule.match.__self__.pattern)  # type: ignore[attr-defined]
    fills = [*pieces, " by (uid=0)", "a", " ", "1", ":", *(one + other for one in pieces for other in pieces[:8] if one != other)]
    starts = [sample, *(sample[: sample.find(piece) + len(piece)] for piece in pieces if piece in sample)]
    if not sample:
        starts = ["".join(pieces[:number]) for number in range(len(pieces) + 1)]
    length = PAM_LIMIT if rule.is_pam else SSHD_LIMIT - 1
    best = 0.0, ""
    for start in starts:
        for fill in fills:
            for end in ("", "x", sample[-12:]):
                text = f"{(start + fill * length)[: length - len(end)]}{end}"
                taken = min(_seconds_of(rule, text) for _ in range(2))
                if taken > best[0]:
                    best = min(taken, _seconds_of(rule, text), _seconds_of(rule, text)), text
    return best


def _seconds_of(rule: CompiledRule, text: str) -> float:
    start = time.process_time()
    rule.match(text)
    return time.process_time() - start


def print_rules(show: int) -> None:
    """Print the dearest line of each rule, the dearest rules first."""
    matcher = Matcher()
    samples: dict[int, str] = {}
    for sample in all_samples():
        found = None if sample.is_whole else matcher.find(("", "web1", sample.program, "812", sample.line, ""))
        if found is not None and found.rule is not None:
            samples.setdefault(found.rule.index, found.text)
    worst = [(*dearest(rule.ready(), samples.get(rule.index, "")), rule) for rule in matcher.rules]
    for seconds, text, rule in sorted(worst, key=lambda entry: -entry[0])[:show]:
        print(f"{seconds * 1e6:8.0f} us  {'pam' if rule.is_pam else rule.family}.{rule.name:<28} {text[:100]!r}")


def growth(bench: Bench, case: Case, rounds: int) -> tuple[float, str, float]:
    """Return the time factor for twice the length, for the slower command, its name, and the seconds for the longer line."""
    line = case.line(SHORTER_LINE)
    before = bench.seconds(line, rounds)
    # A line that is slow already need not be tried at its full length.
    longer = case.line(LONG_LINE if max(before.values()) < SLOW_S else 2 * SHORTER_LINE)
    after = bench.seconds(longer, rounds)
    doublings = math.log2(len(longer) / len(line))
    return max(((after[name] / before[name]) ** (1 / doublings), name, after[name]) for name in before)


def main() -> None:
    """Read the command line, try all cases, and print the worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with TEXT in their name")
    parser.add_argument("--show", type=int, default=12, metavar="N", help="how many of the worst to print")
    parser.add_argument("--rules", action="store_true", help="look for the dearest line of each rule")
    options = parser.parse_args()
    if options.rules:
        print_rules(options.show)
        return
    chosen = [case for case in cases() if options.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        suspects = sorted(chosen, key=lambda case: -growth(bench, case, 1)[0])[: options.show]
        worst = sorted(((*growth(bench, case, 5), case.name) for case in suspects), reverse=True)
        print(f"{len(chosen)} cases. Seconds for the longer line; factor for twice the length:")
        for factor, command, seconds, name in worst:
            print(f"{seconds:10.4f} s  x{factor:4.1f}  {command:<7} {name}")
        bad = sum(factor >= ALLOWED_GROWTH for factor, *_ in worst)

        log = Path(folder, "ordinary.log")
        write_log(log, 20_000)
        ordinary = {name: seconds / 20_000 for name, seconds in bench.file_seconds(log, 3).items()}
        print(f"Ordinary lines: {', '.join(f'{name} {s * 1e6:.1f}' for name, s in ordinary.items())} microseconds per line.")
        for length in SHORT_LENGTHS:
            print(f"Microseconds for a line of {length} bytes; factor to an ordinary line:")
            # The text of a message costs the same in every framing.
            some = [case for case in chosen if case.framing == "rfc3339" or case.framing in HEADERS]
            costs = [(max(bench.seconds(case.line(length)).values()), case) for case in some]
            dear = [case for _, case in sorted(costs, key=lambda cost: -cost[0])[: options.show]]
            again = [(bench.seconds(case.line(length), 3), case.name) for case in dear]
            for best, name in sorted(again, key=lambda entry: -entry[0]["parse"]):
                shown = (
                    f"{command} {best[command] * 1e6:6.0f} us x{best[command] / ordinary[command]:4.0f}  " for command in best
                )
                print(" ", *shown, name)
    if bad:
        raise SystemExit(f"at least {bad} cases take more than {ALLOWED_GROWTH} times as long for twice the length")


if __name__ == "__main__":
    main()
