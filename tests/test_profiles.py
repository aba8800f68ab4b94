"""The logs of ``bench/make_log.py`` have the shapes of the real servers that they imitate."""

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC
from pathlib import Path

import pytest

from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.matching.matcher import Matcher
from consumer.text import text_of_bytes

pytestmark = pytest.mark.bulk

ROOT = Path(__file__).parent.parent
LINES = 30_000
HOUR_US = 3_600_000_000

# Per thousand lines, measured on three public server logs: lines with a beginning, lines with a port, texts that differ in more
# than the port, addresses, logins and their ends, changes of the hour, leaps of the clock over an hour.
SHAPES = {
    "old-server": {
        "error: Could": 180, "message repeated": 57, "Failed": 180, "port": 250, "texts": 50, "addresses": 1.04, "Accepted": 58,
        "pam_unix(sshd:session): session closed": 58, "hours": 1.62, "leaps": 0.27,
    },
    "flood": {"pam": 670, "port": 310, "texts": 40, "addresses": 9.3, "Accepted": 0, "hours": 1.34, "leaps": 0},
    "bastion": {
        "error: Could": 60, "port": 810, "texts": 220, "addresses": 48, "Accepted": 20.4,
        "pam_unix(sshd:session): session closed": 1.65, "hours": 43, "leaps": 24,
    },
}  # fmt: skip
# The profiles were made for these figures, from a seed.
TOLERANCE = 0.2


def made(folder: Path, profile: str, lines: int, seed: int = 1) -> Path:
    """Return a log of a profile."""
    path = folder / f"{profile}-{seed}.log"
    subprocess.run(
        [sys.executable, ROOT / "bench/make_log.py", "--profile", profile, "--lines", str(lines), "--seed", str(seed), path],
        check=True,
    )
    return path


def shape(path: Path) -> tuple[Counter[str], set[str]]:
    """Return how often things occur in a log, and its hosts."""
    matcher, file = Matcher(), LogFile(str(path))
    framer, timestamps = Framer(matcher.is_program, matcher.daemon_of), Timestamps(file.modified, UTC, file.first_year())
    seen: Counter[str] = Counter()
    texts, addresses, hosts = set(), set(), set()
    last_us = 0
    for block in file.blocks():
        for stamp, host, _program, _procid, text, _trusted in framer.rows(text_of_bytes(block)):
            seen["lines"] += 1
            seen["port"] += " port " in text
            seen["pam"] += text.startswith(("pam_", "PAM "))
            for beginning in ("error: Could", "message repeated", "Failed", "Accepted", "pam_unix(sshd:session): session closed"):
                seen[beginning] += text.startswith(beginning)
            texts.add(re.sub(r" port \d+", " port ", text))
            addresses.update(re.findall(r"\d+\.\d+\.\d+\.\d+", text))
            hosts.add(host)
            time_us = timestamps.microseconds(stamp)
            assert time_us is not None, stamp
            seen["hours"] += time_us // HOUR_US != last_us // HOUR_US
            seen["leaps"] += abs(time_us - last_us) > HOUR_US and last_us > 0
            last_us = time_us
    seen["texts"], seen["addresses"] = len(texts), len(addresses)
    return seen, hosts


@pytest.mark.parametrize("profile", SHAPES)
def test_a_profile_has_the_shape_of_its_server(profile: str, tmp_path: Path) -> None:
    """Shares of lines, texts, addresses and leaps of the clock."""
    seen, _hosts = shape(made(tmp_path, profile, LINES))
    wrong = {
        name: (found, wanted)
        for name, wanted in SHAPES[profile].items()
        if abs((found := 1000 * seen[name] / seen["lines"]) - wanted) > TOLERANCE * wanted + 3000 / seen["lines"]
    }
    assert wrong == {}


def test_the_bastion_writes_days_without_padding_for_three_hosts_over_many_months(tmp_path: Path) -> None:
    """Such stamps have another width from the tenth day of a month on."""
    path = made(tmp_path, "bastion", LINES)
    assert path.read_bytes().startswith(b"Feb 1 ")
    assert shape(path)[1] == {"jump1", "jump2", "jump3"}
    months = dict.fromkeys(line[:3] for line in path.read_text().splitlines())
    assert len(months) >= 4


def test_some_two_thousand_hosts_send_json_to_the_relay(tmp_path: Path) -> None:
    """Every host has connections of its own."""
    path = made(tmp_path, "relay", LINES)
    assert path.read_bytes().startswith(b"{")
    _seen, hosts = shape(path)
    assert 1900 < len(hosts) <= 2000


def test_a_quiet_server_has_few_logins(tmp_path: Path) -> None:
    """Most lines are those of cron and sudo."""
    seen, _hosts = shape(made(tmp_path, "quiet", LINES))
    assert 0 < seen["Accepted"] < LINES / 50
    assert seen["pam"] > LINES / 2


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    """A bench can be run again."""
    for profile in ("old-server", "flood", "bastion", "relay", "quiet"):
        (tmp_path / "again").mkdir(exist_ok=True)
        one, same = made(tmp_path, profile, 500), made(tmp_path / "again", profile, 500)
        assert one.read_bytes() == same.read_bytes()
        assert one.read_bytes() != made(tmp_path, profile, 500, seed=2).read_bytes()
