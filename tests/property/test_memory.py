"""
Reading with a memory gives the same lines, counts and examples as reading without.

Every text is read with several ports in each place where one may stand, so that all but the first find a remembered one.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.matching.memory import Memory
from tests.budget import examples
from tests.property.strategies import FRAGMENTS
from tests.property.test_engines import mutated
from tests.unit.sample_lines import all_samples

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from consumer.records import Row, Trusted
    from tests.unit.sample_lines import Sample

pytestmark = pytest.mark.bulk

PROJECT_DIR = Path(__file__).parents[2]
MATCHER, REMEMBERING = Matcher(), Matcher()
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
CAPTURES = sorted((PROJECT_DIR / "tests" / "samples" / "captures").glob("*/*.log.gz"))
SAMPLES = [sample for sample in all_samples() if not sample.is_whole]
PORT = re.compile(r"(?<= port )[0-9]+")
TRUSTED = (0, "/usr/sbin/sshd")


def assert_equal(blocks: Iterable[list[Row]], *, keep_text: bool = True) -> None:
    """Read blocks of one source with a memory and without."""
    memory = Memory(REMEMBERING)
    with_memory, without = Timestamps(NOW, UTC), Timestamps(NOW, UTC)
    counts = [0] * (len(MATCHER.rules) + 2)
    remembered = list(counts)
    MATCHER.examples.clear()
    REMEMBERING.examples.clear()
    place = 1
    for rows in blocks:
        plain = MATCHER.lines(rows, without, place, counts, keep_text=keep_text)
        assert memory.lines(rows, with_memory, place, remembered, keep_text=keep_text) == plain
        place += len(rows)
    assert remembered == counts
    assert REMEMBERING.examples == MATCHER.examples


def with_ports(text: str) -> list[str]:
    """Return a text with other ports in each place of one."""
    found = [text]
    for match in PORT.finditer(text):
        found += [text[: match.start()] + port + text[match.end() :] for port in ("1", "22", "65535", "00022", "123456")]
    return [*found, text]


def rows_of(program: str, texts: Iterable[str], procid: str = "812") -> list[Row]:
    """Return rows that differ in their texts."""
    return [("2026-11-22T09:47:07+00:00", "web1", program, procid, text, "") for text in texts]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_captures(path: Path) -> None:
    """Each capture twice, in blocks of another size the second time."""
    rows = Framer(MATCHER.is_program, MATCHER.daemon_of).rows(gzip.decompress(path.read_bytes()).decode("latin-1"))
    blocks = [rows[begin : begin + 700] for begin in range(0, len(rows), 700)]
    assert_equal([*blocks, rows])


@pytest.mark.parametrize("profile", ["old-server", "flood", "bastion", "relay", "quiet"])
def test_profiles(profile: str, tmp_path: Path) -> None:
    """The logs that the memory is made for."""
    command = [
        sys.executable,
        str(PROJECT_DIR / "bench/make_log.py"),
        "--profile",
        profile,
        "--lines",
        "5000",
        str(tmp_path / "log"),
    ]
    subprocess.run(command, check=True)
    rows = Framer(MATCHER.is_program, MATCHER.daemon_of).rows((tmp_path / "log").read_text())
    assert_equal([rows[begin : begin + 500] for begin in range(0, len(rows), 500)], keep_text=False)


def test_samples() -> None:
    """Every sample of every grammar, with other ports, with a PID and without, from a known sender and from another."""
    for sample in SAMPLES:
        rows = [
            *rows_of(sample.program, with_ports(sample.line)),
            *rows_of(sample.program, with_ports(sample.line), procid=""),
            *rows_of("CRON", with_ports(sample.line)),
            *rows_of(f"{sample.program}(pam_unix)", with_ports(sample.line)),
            *rows_of(sample.program, with_ports(f"message repeated 2 times: [ {sample.line}]")),
        ]
        trusted: list[Row] = [(*row[:5], TRUSTED) for row in rows]
        user: list[Row] = [(*row[:5], (1000, "/usr/bin/logger")) for row in rows]
        assert_equal([rows, trusted, user])


@examples(2500)
@given(mutated(), st.randoms(use_true_random=False))
def test_mutated_samples(mutated_line: tuple[str, str], source: random.Random) -> None:
    """Lines that are almost a message."""
    program, text = mutated_line
    rows = rows_of(program, with_ports(text))
    source.shuffle(rows)
    assert_equal([rows])


@examples(2500)
@given(st.sampled_from(SAMPLES), st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4), st.integers(0, 120))
def test_hostile_lines(sample: Sample, fragments: list[bytes], at: int) -> None:
    """Texts of a peer, put into a message wherever it may be."""
    line, program = sample.line, sample.program
    at = min(at, len(line))
    text = (line[:at] + b"".join(fragments).decode("latin-1") + line[at:]).replace("\n", " ")
    assert_equal([rows_of(program, with_ports(text))])


@examples(600)
@given(st.lists(st.tuples(st.sampled_from(["web1", "web2"]), st.sampled_from(SAMPLES), st.integers(0, 3)), max_size=30))
def test_hosts_in_one_block(lines: list[tuple[str, Sample, int]]) -> None:
    """A failed try that PAM reports counts only on a host that sends no lines of sshd."""
    trusted: list[Trusted | str] = ["", (0, ""), (1000, ""), ""]
    rows: list[Row] = [
        ("2026-11-22T09:47:07+00:00", host, sample.program, "812", sample.line, trusted[kind]) for host, sample, kind in lines
    ]
    assert_equal([rows, rows])
