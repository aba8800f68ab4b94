"""The other half of the contract: the shipped drop-in in the real rsyslogd."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from consumer.actions import EventAction, LineAction
from consumer.clock import now_us
from consumer.events import Attempt, Event, Probe
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader, Pipeline
from consumer.records import TEXT, TIME, Line
from consumer.story.correlate import Correlator
from tests import needs
from tests.integration.rsyslogd import DROP_IN, SHIPPED, Rsyslogd, child
from tests.unit.sample_lines import SAMPLES_DIR, UNMATCHED, all_samples
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.site import Site

MATCHER = Matcher()
START = '[origin software="rsyslogd" swVersion="8.2302.0" x-pid="5" x-info="https://www.rsyslog.com"] start'
BEGINS = "imuxsock[pid: 5, name: /usr/sbin/sshd] from <web1:sshd>: begin to drop messages due to rate-limiting"
LOST = "imuxsock[pid: 5, name: /usr/sbin/sshd]: 21 messages lost due to rate-limiting (3 allowed within 2 seconds)"
# What rsyslogd says of a failing sshbell must not become sshbell's next line.
OWN_TROUBLE = [
    START.replace("start", "rsyslogd was HUPed"),
    START.replace("start", "exiting on signal 15."),
    "action 'sshbell' suspended (module 'omprog'), next retry is Sun Nov 22 10:00:02 2026",
    "omprog: program '/usr/libexec/rsyslog/sshbell' (pid 5) terminated; will be restarted",
]


def tags_of_logs() -> set[str]:
    """Return every tag that samples and captures hold, without the PID."""
    rows = [row for sample in all_samples() for row in Framer(lambda _: True, lambda _: "").rows(sample.whole_line + "\n")]
    for path in sorted((SAMPLES_DIR / "captures").rglob("*.gz")):
        if ".truth." not in path.name:
            framer = Framer(lambda _: True, lambda _: "")
            rows += framer.rows(gzip.decompress(path.read_bytes()).decode("latin-1"))
    # rsyslog makes other names of what is no tag: parts of an address, of a time, of a host.
    return {row[2] for row in rows if re.fullmatch(r"/?[A-Za-z][A-Za-z0-9._/()-]*", row[2])}


def accepted(main: Path) -> None:
    """Check that ``rsyslogd -N1`` accepts a configuration without a word."""
    command = [needs.program("rsyslogd", "rsyslog"), "-N1", "-f", str(main)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    said = [line for line in done.stderr.splitlines() if "config validation run" not in line]
    assert (done.returncode, said) == (0, [])


def main_with(folder: Path, *statements: str) -> Path:
    """Write a main configuration as a distribution does."""
    main = folder / "rsyslog.conf"
    rest = [f'global(workDirectory="{folder}")', *statements, f'action(type="omfile" file="{folder}/auth.log")']
    main.write_text("\n".join(rest) + "\n")
    return main


@pytest.mark.parametrize("shipped", sorted(SHIPPED.glob("*.conf")), ids=lambda path: path.name)
def test_each_file_is_accepted(tmp_path: Path, shipped: Path) -> None:
    """``rsyslogd -N1`` finds no fault with any file that is shipped."""
    accepted(main_with(tmp_path, 'module(load="imuxsock")', f'include(file="{shipped}")'))


def test_lines_of_the_readme_are_accepted(tmp_path: Path) -> None:
    """The lines that README.md gives for the main file, imuxsock or imjournal, are right with the drop-in behind them."""
    lines = re.findall(r"^    (module\(.*\))$", (SHIPPED / "README.md").read_text(), re.MULTILINE)
    assert [re.findall(r'load="(\w+)"', line) for line in lines] == [["imuxsock"], ["imjournal"]]
    for line in lines:
        accepted(main_with(tmp_path, line, f'include(file="{DROP_IN}")'))


def test_every_parameter_has_its_reason() -> None:
    """In the action and in each queue a remark stands above each parameter, or above the one before it that it belongs to."""
    blocks = re.findall(r"^(?:    action|ruleset)\(\n(.*?)\n *\)", DROP_IN.read_text(), re.MULTILINE | re.DOTALL)
    groups = [group for block in blocks for group in re.split(r"\n\n|(?=^ +# )", block, flags=re.MULTILINE)]
    unexplained = [line.strip() for group in groups if "=" in group and "#" not in group for line in group.splitlines()]
    assert unexplained == ['name="sshbell_others"', 'queue.type="LinkedList"', 'type="omprog"']


# What opens or ends a session, or is a step of a login; "exit" is dropbear's.
FIRST = {
    LineAction.ACCEPTED, LineAction.PARTIAL, LineAction.SESSION_OPENED, LineAction.SESSION_CLOSED,
    LineAction.CODE_ACCEPTED, LineAction.CODE_NOT_NEEDED, LineAction.LET_IN_WITHOUT_CODE,
}  # fmt: skip


def goes_first(message: str) -> bool:
    """Return whether the drop-in puts a message of root's into the queue of lines about logins."""
    # POSIX's extended expressions are the same in Python, as far as these use them.
    patterns = re.findall(r're_match\(\$msg, "(\^ .*)"\)', DROP_IN.read_text())
    assert len(patterns) == 4
    return any(re.search(pattern, message) for pattern in patterns)


def test_which_lines_go_first() -> None:
    """Of all samples, those lines go first that decide a login or its end, with or without the blank before it; no others do."""
    wrong, first_total = [], 0
    for sample in all_samples():
        is_first = sample.action in FIRST or sample.rule in {"exit", "exit_after_auth"}
        if not sample.is_whole and sample.rule != UNMATCHED and sample.program != "sftp-server":
            first_total += is_first
            wrong += [text for text in (sample.line, f" {sample.line}") if goes_first(text) != is_first]
    assert wrong == []
    assert first_total > 20


def happened(lines: list[Line]) -> Counter[tuple[str | None, ...]]:
    """Return who logged in and out, with the ids, and who failed."""
    events: list[Event] = []
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    correlator.feed(lines)
    correlator.settle()
    return Counter(
        (str(event.action), None if isinstance(event, Attempt) else event.id, event.user, event.address, event.port)
        for event in events
        if not isinstance(event, Probe)
    )


@pytest.mark.parametrize("delay_s", [1, 60, 600])
def test_a_story_out_of_order(delay_s: int) -> None:
    """Lines about logins come that much before all others: the same logins, ends and tries are reported, with the same ids."""
    paths = sorted((SAMPLES_DIR / "captures").rglob("*.rfc3339.log.gz"))
    assert len(paths) > 15
    for path in paths:
        reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
        lines = reader.lines(gzip.decompress(path.read_bytes()), 0)
        late = sorted(lines, key=lambda line: (line[TIME] or 0) + (not goes_first(line[TEXT])) * delay_s * 1_000_000)
        assert happened(late) == happened(lines), path.name


def test_a_login_overtakes_all_others(tmp_path: Path) -> None:
    """Lines of guesses wait: a login passes them. A line that another user has forged does not, nor one with a tricky name."""
    noise = 300
    # Ten lines a second, so that most of them wait, however slow this machine is.
    with Rsyslogd(tmp_path, slowdown_us=100_000) as rsyslogd:
        for number in range(noise):
            rsyslogd.send("sshd[1]", f"Invalid user Accepted password for root from 203.0.113.9 port {number + 1}")
        rsyslogd.send_as(65534, "sshd[1]", "Accepted password for root from 203.0.113.66 port 22 ssh2")
        rsyslogd.send("sshd[1]", "Accepted password for alice from 192.0.2.7 port 4711 ssh2")
        rsyslogd.send("sshd[1]", "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)")
        texts = [line["msg"] for line in rsyslogd.until("session opened")]
    assert len([text for text in texts if "alice" in text]) == 2
    assert len(texts) < noise
    assert not [text for text in texts if "203.0.113.66" in text]


# How a local user may write a line, so that rsyslogd's JSON and its log file might differ. The claim takes the place of {}.
FORGED_FORMS = [
    b"sshd: {}", b"sshd:{}", b"sshd:  {}", b"sshd: \t{}", b"sshd: {} ", b"sshd: {}\t", b"sshd: {}\r", b"sshd: {}\n",
    b"sshd: {}\nx", b"sshd: \xef\xbb\xbf{}", b"sshd: {}" + 9000 * b" ", b"sshd: [x] {}", b"sshd: sshd: {}",
    b"sshd[1]: web1 sshd[2]: {}", b"sshd[1]" + 40 * b"x" + b": {}", b"sshd[]: {}", b"sshd[abc]: {}", b"sshd[-1]: {}",
    b"sshd[99999999999]: {}", b"sshd [1]: {}", b"sshd/x: {}", b"sshd {}", b"sshd sshd[7]: {}", b"sshd(pam_unix): {}",
    b"/usr/sbin/sshd: {}", b"[sshd]: {}", b"a/b sshd[7]: {}", b": sshd[7]: {}", b" sshd[7]: {}", b"- sshd[7]: {}",
    b"/ sshd[7]: {}", b"web1 sshd[7]: {}", b"auth.info sshd[7]: {}", b"CRON: sshd[7]: {}", b"CRON sshd[7]: {}",
    b"CRON: Nov 22 10:00:00 h sshd[7]: {}", b"sshd[7]: Nov 22 10:00:00 h sshd[7]: {}", b"Nov 22 10:00:00 sshd: {}",
    b"Nov 22 10:00:00 web1 sshd[7]: {}", b"2026-11-22T10:00:00Z web1 sshd[7]: {}",
    b"x: 2026-11-22T10:00:00.000000+00:00 web1 sshd[7]: {}", b"x\n2026-11-22T10:00:00.000000+00:00 web1 sshd[7]: {}",
    b"\nsshd[7]: {}", b"sshd: message repeated 2 times: [ {}]", b"sshd: @[_PID=1 _UID=0] {}",
    b'sshd: {} @[_PID=1 _UID=0 _GID=0 _COMM=sshd _EXE=/usr/sbin/sshd _CMDLINE="x"]',
]  # fmt: skip
CLAIMS = [
    b"pam_unix(sshd:session): session opened for user root by (uid=0)",
    *(b"Accepted password for %b from 203.0.113.66 port 22 ssh2" % name for name in (b"root", b"r\xfft", b"r\x01t", 7000 * b"r")),
]


def test_a_forged_line_in_any_form_stays_forged(tmp_path: Path) -> None:
    """Lines of a local user stand in the log file without their writer: ``catch_up`` finds none that sshbell had not got."""
    with Rsyslogd(tmp_path) as rsyslogd:
        for claim in CLAIMS:
            for form in FORGED_FORMS:
                rsyslogd.send_raw_as(65534, b"<86>" + form.replace(b"{}", claim))
        rsyslogd.send("sshd[1]", "the end")
        received, file = tmp_path / "received", tmp_path / "all.log"
        wait_for(lambda: received.exists() and b"the end" in received.read_bytes(), "sshbell gets all lines")
        wait_for(lambda: file.exists() and b"the end" in file.read_bytes(), "rsyslogd writes all lines")
    pipeline = Pipeline([], UTC, now_us(), pytest.fail)
    events = [event for line in received.read_bytes().splitlines(keepends=True) for event in pipeline.feed(line)]
    assert {event.action for event in events} == {EventAction.FORGED}
    assert list(pipeline.missing([file.read_bytes()], UTC)) == []


JOURNAL = """
module(load="imtcp")
module(load="mmjsonparse")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/port")
if $inputname == "imtcp" then action(type="mmjsonparse")
"""


def test_fields_of_the_journal_that_a_user_sets(tmp_path: Path) -> None:
    """
    Rsyslog takes fields UID and EXE for the kernel's uid and exe. A line with journald's own is judged by those.

    Like imjournal, mmjsonparse puts all fields of an entry beside each other.
    """
    entry = {"_UID": "1012", "_EXE": "/usr/bin/python3", "UID": "0", "EXE": "/usr/sbin/sshd"}
    with Rsyslogd(tmp_path, more=JOURNAL.format(folder=tmp_path)) as rsyslogd:
        port = tmp_path / "port"
        wait_for(lambda: port.exists() and port.read_text().strip(), "imtcp listens")
        with socket.create_connection(("127.0.0.1", int(port.read_text()))) as sender:
            sender.sendall(f"<86>Nov 22 10:00:00 web1 sshd[5]: @cee: {json.dumps(entry)}\n".encode())
        (line,) = (line for line in rsyslogd.until("@cee") if "@cee" in line["msg"])
    assert (line["uid"], line["exe"], line["j_uid"]) == (0, "/usr/sbin/sshd", 1012)
    (row,) = Framer(MATCHER.is_program, MATCHER.daemon_of).rows(json.dumps(line) + "\n")
    assert row[-1] == (1012, "/usr/bin/python3")


def test_filter(tmp_path: Path) -> None:
    """Every tag of ours that samples and captures hold reaches sshbell, with its text whole; no other program's does."""
    known = tags_of_logs()

    def is_ours(tag: str) -> bool:
        # sftp-server tells nothing of who comes in, and a unit in the tag's place is journalctl's.
        return MATCHER.program(tag).family in {"sshd", "dropbear"} and not tag.endswith((".service", ".socket"))

    ours = {tag for tag in known if is_ours(tag)} | {
        "sshd(pam_google_authenticator)", "sshd(pam_unix)", "sshd(pam_faillock)", "sshd-session(pam_unix)", "sshd-auth",
        "sshd-session", "sshd.pam", "dropbear", "/usr/sbin/sshd", "/usr/libexec/openssh/sshd-session",
    }  # fmt: skip
    others = {tag for tag in known if not is_ours(tag)} | {
        "cron", "CRON", "sudo", "su", "su(pam_unix)", "sshbell", "sshbell-pamx",
        "sshdx", "xsshd", "SSHD", "sshd-sessions", "sshd_config", "dropbearkey",
        "sshd.pamx", "/usr/bin/sshdx", "/usr/bin/sudo", "sftp-server", "systemd-logind", "rsyslogd", "rsyslogdx", "rsyslogd-2007",
    }  # fmt: skip
    assert {"sshd", "sshd-session", "dropbear", "sshd(pam_google_authenticator)"} <= {tag for tag in known if is_ours(tag)}
    assert {"CRON", "su", "sudo", "login"} <= others & known
    with Rsyslogd(tmp_path) as rsyslogd:
        for tag in sorted(others | ours):
            rsyslogd.send(f"{tag}[4242]", f"bracketed {tag}")
            rsyslogd.send(tag, f"bare {tag}")
        rsyslogd.send("sshd[1]", "the end")
        lines = rsyslogd.until("the end")
    got = [line["msg"].removeprefix(" ") for line in lines if line["input"] == "imuxsock"]
    assert sorted(got) == sorted([f"{form} {tag}" for tag in ours for form in ("bracketed", "bare")] + ["the end"])


def test_fields_the_kernel_vouches_for(tmp_path: Path) -> None:
    """A line carries who wrote it, whatever PID and name it claims; a line of rsyslogd's own leaves out what is not known."""
    import os  # noqa: PLC0415

    with Rsyslogd(tmp_path) as rsyslogd:
        (own,) = rsyslogd.until("] start")
        rsyslogd.send("sshd[1]", 'claims "to be" \\ PID 1')
        line = rsyslogd.until("claims")[-1]
    assert (line["pid"], line["uid"], line["gid"]) == (os.getpid(), os.geteuid(), os.getegid())
    assert (line["v"], line["tag"], line["prog"], line["msg"]) == (
        "1", f"sshd[{os.getpid()}]:", "sshd", ' claims "to be" \\ PID 1',
    )  # fmt: skip
    assert not {"pid", "uid", "gid", "exe", "j_uid"} & own.keys()


def test_starts_with_rsyslogd(tmp_path: Path) -> None:
    """Nobody logs in, and sshbell runs: rsyslogd's own start message starts it."""
    with Rsyslogd(tmp_path) as rsyslogd:
        (line,) = rsyslogd.until("] start")
    assert (line["prog"], line["input"]) == ("rsyslogd", "rsyslogd")


def test_messages_of_rsyslogd(tmp_path: Path) -> None:
    """Of rsyslogd's messages, as they come by the log socket, start and lost lines pass, and no trouble of sshbell's."""
    with Rsyslogd(tmp_path) as rsyslogd:
        rsyslogd.until("] start")
        for text in (*OWN_TROUBLE, START, BEGINS, LOST):
            rsyslogd.send("rsyslogd[5]", text)
        rsyslogd.send("cron[5]", BEGINS)
        rsyslogd.send("sshd[1]", "the end")
        lines = rsyslogd.until("the end")
    assert [line["msg"] for line in lines[1:]] == [f" {text}" for text in (START, BEGINS, LOST, "the end")]


def test_real_rate_limit(tmp_path: Path) -> None:
    """When imuxsock's limit drops lines, sshbell is told so."""
    with Rsyslogd(tmp_path, ' RateLimit.Interval="600" RateLimit.Burst="3"') as rsyslogd:
        rsyslogd.until("] start")
        for number in range(10):
            rsyslogd.send("sshd[1]", f"line {number}")
        lines = rsyslogd.until("due to rate-limiting")
    assert [line["prog"] for line in lines] == ["rsyslogd", "sshd", "sshd", "sshd", "rsyslogd-2177"]
    assert "from <" in lines[-1]["msg"]


def test_fault_at_the_start_does_not_hurt_rsyslogd(site: Site, tmp_path: Path) -> None:
    """With a fault in its configuration sshbell waits for a better one: rsyslogd lives on, and loses no line."""
    site.configure(chanel=[])
    with Rsyslogd(tmp_path, child=child(site)) as rsyslogd:
        rsyslogd.send("sshd[1]", "Accepted password for alice from 192.0.2.7 port 4711 ssh2")
        said = tmp_path / "err"
        wait_for(lambda: said.exists() and "did you mean 'channel'" in said.read_text(), "sshbell says what is wrong")
        site.configure()
        wait_for(lambda: '"started"' in said.read_text(), "sshbell starts")
        wait_for(lambda: b"Accepted password for alice" in journal(site.state_dir / "journal"), "the line arrives")


def journal(folder: Path) -> bytes:
    """Return all that was written down before it was confirmed."""
    return b"".join(path.read_bytes() for path in folder.glob("*.journal"))


# Says on standard error what it is given.
TALKER = """#!{python} -I
import os
os.write(1, b"OK\\n")
while line := os.read(0, 65536):
    os.write(2, line)
    os.write(1, b"OK\\n")
"""


def test_rotated_log(tmp_path: Path) -> None:
    """The real logrotate empties sshbell's log under rsyslogd, which writes on at its beginning."""
    logrotate = needs.program("logrotate", "logrotate")
    talker = tmp_path / "talker"
    talker.write_text(TALKER.format(python=sys.executable))
    talker.chmod(0o755)
    log = tmp_path / "err"
    rules = tmp_path / "rules"
    rules.write_text((SHIPPED / "sshbell.logrotate").read_text().replace("/var/log/sshbell.err", str(log)))
    tmp_path.chmod(0o755)  # logrotate refuses a directory in which others may write
    with Rsyslogd(tmp_path, child=talker) as rsyslogd:
        rsyslogd.send("sshd[1]", "before")
        wait_for(lambda: log.exists() and b"before" in log.read_bytes(), "the first line is there")
        subprocess.run([logrotate, "--force", "--state", tmp_path / "state", rules], check=True, stdin=subprocess.DEVNULL)
        rsyslogd.send("sshd[1]", "behind")
        wait_for(lambda: b"behind" in log.read_bytes(), "the second line is there")
    text = log.read_bytes()
    assert text.startswith(b"{")
    assert b"before" not in text
    assert b"before" in gzip.decompress((tmp_path / "err.1.gz").read_bytes())
