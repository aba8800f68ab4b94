"""``consumer.matching.matcher``: which rule reads a line, and what is undone before."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import _CACHE_LIMIT, PAM_LIMIT, Matcher
from consumer.matching.rules import CORE, SSHD_LIMIT, Engine, Reading
from consumer.records import HOST, PLACE, PROCID, REPEATS, RULE, TEXT, TRUSTED, USER, Line, Row, Trusted
from tests.unit.sample_lines import NOT_OURS, UNMATCHED, all_samples

MATCHERS: dict[Engine, Matcher] = {"lowered": Matcher(), "pyparsing": Matcher(engine="pyparsing")}
MATCHER = MATCHERS["lowered"]
FAILED = "Failed password for root from 192.0.2.1 port 5000 ssh2"
CLOSED = "session closed for user alice"
OF_DROPBEAR = "Bad password attempt for 'root' from 192.0.2.1:5"

each_engine = pytest.mark.parametrize("engine", MATCHERS)


def row(text: str, program: str = "sshd", *, procid: str = "42", trusted: Trusted | None = None) -> Row:
    """Return a row of a framing."""
    return "2026-11-22T10:00:00.000000+00:00", "bastion1", program, procid, text, trusted or ""


def found(text: str, program: str = "sshd", *, engine: Engine = "lowered", procid: str = "42") -> Reading:
    """Read one text that is ours."""
    result = MATCHERS[engine].find(row(text, program, procid=procid))
    assert result is not None
    return result


def summary(result: Reading) -> tuple[str | None, int, str, str]:
    """Return what a line was read as: rule, count, PID, text."""
    return result.rule.name if result.rule else None, result.repeats, result.procid, result.text


@each_engine
@pytest.mark.parametrize(
    ("text", "program", "expected"),
    [
        (FAILED, "sshd", ("failed", 1, "42", FAILED)),
        (FAILED, "/usr/sbin/sshd", ("failed", 1, "42", FAILED)),
        (FAILED, "sshd-session", ("failed", 1, "42", FAILED)),
        (FAILED, "sshd-auth", ("failed", 1, "42", FAILED)),
        (FAILED, "sshd.pam", ("failed", 1, "42", FAILED)),
        (f"message repeated 2 times: [ {FAILED}]", "sshd", ("failed", 2, "42", FAILED)),
        (f"[ID 800047 auth.info] {FAILED}", "sshd", ("failed", 1, "42", FAILED)),
        (f" {FAILED}", "sshd", ("failed", 1, "42", FAILED)),
        (CLOSED, "sshd(pam_unix)", ("session_closed", 1, "42", f"pam_unix(sshd): {CLOSED}")),
        (f"(pam_unix) {CLOSED}", "sshd", ("session_closed", 1, "42", f"pam_unix(sshd): {CLOSED}")),
        (f"pam_unix(sudo:session): {CLOSED}", "sudo", ("session_closed", 1, "42", f"pam_unix(sudo:session): {CLOSED}")),
        ("message repeated 2 times: [ x]", "sshd", ("other", 2, "42", "x")),
        ("message repeated 2 times: [ login failed]", "sshd", (None, 2, "42", "login failed")),
        ("[ID 800047 auth.info] the disk failed", "sshd", ("other", 1, "42", "the disk failed")),
        (f"{FAILED} ", "sshd", ("failed", 1, "42", FAILED)),
        (f"{FAILED}.", "sshd", ("failed", 1, "42", FAILED)),
        (f"[7] Nov 22 10:00:00 {OF_DROPBEAR}", "dropbear", ("bad_password", 1, "7", OF_DROPBEAR)),
    ],
)  # fmt: skip
def test_what_is_undone(text: str, program: str, expected: tuple[str | None, int, str, str], engine: Engine) -> None:
    """Paths, repetitions, Solaris' message ids and old forms of PAM are undone before a rule reads the text."""
    assert summary(found(text, program, engine=engine)) == expected


@each_engine
def test_a_pid_in_the_text(engine: Engine) -> None:
    """A PID that a relay has left in the text (``sshd [1239]: ...``) is the PID."""
    assert summary(found(f"[1239]: {FAILED}", procid="", engine=engine)) == ("failed", 1, "1239", FAILED)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("nginx", FAILED),
        ("sshd2", FAILED),
        ("xsshd", FAILED),
        ("sshd/x", FAILED),
        ("sftp", "session opened for local user alice from [192.0.2.1]"),
        ("", FAILED),
        ("kernel", f"sshd[42]: {FAILED}"),
    ],
)
def test_other_programs(program: str, text: str) -> None:
    """What another program says is not ours, whatever it says."""
    assert MATCHER.find(row(text, program)) is None


def test_further_programs() -> None:
    """A name that was given is sshd's too; its lines are read like any other."""
    matcher = Matcher(["sshd-ga"])
    result = matcher.find(row(FAILED, "sshd-ga"))
    assert result is not None
    assert (summary(result), result.program.family) == (("failed", 1, "42", FAILED), "sshd")
    assert MATCHER.find(row(FAILED, "sshd-ga")) is None


ANNOTATION = " @[_PID=3377 _UID=1012 _GID=1012"


@each_engine
@pytest.mark.parametrize(
    "tail",
    [
        f'{ANNOTATION} _COMM=logger _EXE=/usr/bin/logger _CMDLINE="logger -t sshd"]',
        f"{ANNOTATION} _COMM=logger]",
        f"{ANNOTATION}]",
        f'{ANNOTATION} _COMM= _EXE= _CMDLINE=""]',
    ],
)  # fmt: skip
def test_an_annotation_convicts(tail: str, engine: Engine) -> None:
    """Imuxsock's annotation is cut off, and names the user whose process wrote the line."""
    result = found(FAILED + tail, engine=engine)
    assert (result.rule and result.rule.name, result.text, result.trusted) == ("failed", FAILED, (1012, ""))


@each_engine
@pytest.mark.parametrize(
    "tail",
    [
        f" @[_PID=1 _UID=0 _GID=0 _COMM=sshd]{ANNOTATION} _COMM=logger]",
        f"{ANNOTATION} _COMM=logger] @[_PID=1 _UID=0 _GID=0 _COMM=sshd]",
        f' @[_PID=1 _UID=0 _GID=0 _COMM=sshd]{ANNOTATION} _COMM=logger _CMDLINE="x @[_PID=1 _UID=0 _GID=0 _COMM=sshd]"]',
    ],
)
def test_a_second_annotation_does_not_help(tail: str, engine: Engine) -> None:
    """A sender can write an annotation too: then the line is the convicted user's, or no line of sshd's at all."""
    result = found(FAILED + tail, engine=engine)
    assert result.rule is None or result.trusted == (1012, "")


def test_an_annotation_does_not_acquit() -> None:
    """An annotation of root's proves nothing: where rsyslog adds none, a sender can write it."""
    result = found(f"{FAILED} @[_PID=1 _UID=0 _GID=0 _COMM=sshd]")
    assert (result.text, result.trusted) == (FAILED, None)


@pytest.mark.parametrize(
    "text",
    [
        "Received disconnect from 192.0.2.1 port 5:11: x @[_PID=1 _UID=1000 _GID=1 _COMM=a [preauth]",
        "Received disconnect from 192.0.2.1 port 5:11: x @[_PID=1 _UID=1000 _GID=1 [preauth]",
        'kex_exchange_identification: client sent invalid protocol identifier "x @[_PID=1 _UID=1000 _GID=1 _COMM=a" [preauth]',
        "Connection closed by invalid user x @[_PID=1 _UID=1000 _GID=1 _COMM=a 192.0.2.1 port 5 [preauth]",
        "Unable to negotiate with 192.0.2.1 port 5: x @[_PID=1 _UID=1000 _GID=1 _COMM=a [preauth]",
    ],
)  # fmt: skip
def test_a_client_cannot_write_an_annotation(text: str) -> None:
    """What a client wrote into sshd's own line convicts nobody: sshd's ``[preauth]`` is not the end of an annotation."""
    result = found(text)
    assert (result.text, result.trusted) == (text, None)


@each_engine
@pytest.mark.parametrize(("length", "is_cut"), [(SSHD_LIMIT - 1, False), (SSHD_LIMIT, True)])
def test_sshd_cuts_at_its_limit(length: int, is_cut: bool, engine: Engine) -> None:  # noqa: FBT001 - a table's column
    """A line of sshd's greatest length gives no address and no port; a shorter one does."""
    tail = " 203.0.113.66 port 22 [preauth]"
    start = "Connection closed by invalid user "
    text = start + "x" * (length - len(start) - len(tail)) + tail
    result = found(text, engine=engine)
    core = dict(zip(CORE, result.core(), strict=True))
    assert result.is_ambiguous is is_cut
    assert (core["address"], core["port"]) == ((None, None) if is_cut else ("203.0.113.66", "22"))


@each_engine
def test_longer_than_the_daemon_writes(engine: Engine) -> None:
    """A text that is longer than sshd's or PAM's can be is not theirs: no rule reads it."""
    invalid = "Invalid user " + "x" * SSHD_LIMIT + " from 192.0.2.1 port 5"
    opened = "pam_unix(sshd:session): session closed for user " + "x" * PAM_LIMIT
    assert found(invalid, engine=engine).rule is None
    assert found(opened, engine=engine).rule is None
    assert found(opened[:PAM_LIMIT], engine=engine).rule is not None


@each_engine
def test_a_cut_line_is_no_side_line(engine: Engine) -> None:
    """A line of sshd's greatest length may have lost the words that tell of a login, so it stays one that is not understood."""
    text = "User root from " + "x" * SSHD_LIMIT
    assert found(text[: SSHD_LIMIT - 1], engine=engine).rule is not None
    assert found(text[:SSHD_LIMIT], engine=engine).rule is None


def lines(matcher: Matcher, rows: list[Row], *, keep_text: bool = True) -> tuple[list[Line], list[int]]:
    """Read rows as the correlator gets them."""
    counts = [0] * (len(matcher.rules) + 2)
    timestamps = Timestamps(datetime(2026, 11, 23, tzinfo=UTC), UTC)
    return matcher.lines(rows, timestamps, 1, counts, keep_text=keep_text), counts


@each_engine
@pytest.mark.parametrize(("uid", "count"), [(0, 1), (1012, 0)])
def test_a_user_s_line_is_no_fault_of_the_grammars(engine: Engine, uid: int, count: int) -> None:
    """What no rule reads counts, and is shown as an example, only if root wrote it: others could choose the text."""
    matcher = Matcher((), engine)
    text = "Accepted password for a:b CALL 555 from 192.0.2.7 port 4 ssh2"
    told, counts = lines(matcher, [row(text, trusted=(uid, "/usr/bin/logger" if uid else "/usr/sbin/sshd"))])
    assert told == []
    assert counts[-2:] == [count, 0]
    assert ("unmatched" in matcher.examples) == bool(count)


@each_engine
def test_lines_say_what_find_says(engine: Engine) -> None:
    """The way of the hot path and the way of ``parse`` give the same: rule, count, core fields, PID, text, and origin."""
    matcher = MATCHERS[engine]
    samples = [sample for sample in all_samples() if sample.rule not in {NOT_OURS, UNMATCHED}]
    framer = Framer(matcher.is_program, matcher.daemon_of)
    for sample in samples:
        # Alone, so that no line before it can be a witness that PAM's view is not needed.
        rows = framer.rows(sample.whole_line + "\n")
        told, counts = lines(matcher, rows)
        result = matcher.find(rows[0])
        assert result is not None
        if result.rule is None:
            continue  # test_grammars complains about it
        assert counts[result.rule.index] == 1, sample
        assert sum(counts) == 1, sample
        for line in told:
            assert (line[RULE], line[REPEATS], line[TEXT], line[TRUSTED]) == (
                result.rule.index,
                result.repeats,
                result.text,
                result.trusted,
            )
            assert (line[HOST], line[PROCID], line[USER:]) == (result.host, result.procid, result.core())


def test_lines_count_what_is_not_read() -> None:
    """Lines that look like authentication, side lines and lines that no framing fits are counted apart, other programs' not."""
    rows = [row("login succeeded"), row("a side line"), ("", "", "", "", "no header", ""), row("x", "cron"), row(FAILED)]
    told, counts = lines(MATCHER, rows)
    assert [line[TEXT] for line in told] == [FAILED]
    assert counts[-2:] == [1, 1]
    assert sum(counts) == 4


def test_places_count_every_row() -> None:
    """A line's place is its row's, also where rows between say nothing."""
    told, _ = lines(MATCHER, [row("x", "cron"), row(FAILED), row("what nobody wrote"), row(FAILED)], keep_text=False)
    assert [(line[PLACE], line[TEXT]) for line in told] == [(2, ""), (4, "")]


def test_memory_is_bounded() -> None:
    """Peers choose how lines begin and senders choose tags; what is remembered of either has a bound."""
    matcher = Matcher()
    for number in range(_CACHE_LIMIT + 10):
        matcher.find(row(f"{number:012d}"))
        lines(matcher, [row(f"{number:012d}")])
        matcher.find(row("x", f"tag{number}"))
    sizes = [
        *(len(cache) for cache in matcher._candidates.values()),
        *(len(cache) for cache in matcher._plain.values()),
        len(matcher._programs),
    ]
    assert max(sizes) <= _CACHE_LIMIT


def test_both_engines_have_the_same_rules() -> None:
    """The engine changes how a rule is matched and nothing else."""
    names = [
        [(rule.name, rule.action, rule.family, rule.is_pam, rule.index) for rule in matcher.rules]
        for matcher in MATCHERS.values()
    ]
    assert names[0] == names[1]
