"""Whatever the order of several connections' lines: each login, logout, try and probe is told once, for whom it was."""

# ruff: noqa: E501 - lines of a log are long

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from consumer.codes.log_lines import PROGRAM, Asker, refused, sent
from consumer.codes.log_lines import accepted as right_code
from consumer.ecs import json_line
from consumer.events import Attempt, Event, Forged, Login, Logout, Probe
from consumer.events_as_ecs import of_event
from consumer.framing.timestamps import Timestamps
from consumer.intake import files
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story import connections
from consumer.story.correlate import Correlator
from tests.budget import examples

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

START = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
USERS = ["alice", "bob", "root", "ann marie", "x from 203.0.113.66 port 22 ssh2"]
HOSTS = ["web1", "web2"]
KINDS = ["pam", "pam-verbose", "no-pam", "no-pam-idle", "killed", "failed", "invalid", "keys", "scanner", "silent", "dropped",
         "code", "code-not-given"]  # fmt: skip

Source = tuple[str | None, str | None]
Truth = dict[Source, Counter[str]]

quick = examples(40)


@functools.cache
def matcher() -> Matcher:
    """Return the one matcher; it has no memory of lines."""
    return Matcher()


@dataclass(frozen=True)
class Spec:
    """One made-up connection."""

    number: int
    kind: str
    host: str
    user: str
    passwords: int

    @property
    def source(self) -> Source:
        """The client's end, which no other connection shares."""
        return f"192.0.2.{self.number % 200 + 1}", str(1024 + self.number)

    def texts(self) -> list[tuple[str, str]]:  # noqa: C901, PLR0911 - one case a kind
        """
        Return the lines as (process, message).

        "M" is the monitor, "C" the session's own process, "T" PAM's, "P" sshbell-pam's, "L" the listener.
        """
        ip, port = self.source
        at, user = f"{ip} port {port}", self.user
        wrong = [("M", f"Failed password for {user} from {at} ssh2")] * self.passwords
        if wrong:
            wrong.insert(
                0,
                (
                    "M",
                    f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}  user={user}",
                ),
            )
        right = ("M", f"Accepted password for {user} from {at} ssh2")
        opened = ("M", f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)")
        closed = ("M", f"pam_unix(sshd:session): session closed for user {user}")
        ends = [("C", f"Received disconnect from {at}:11: disconnected by user"), ("C", f"Disconnected from user {user} {at}")]
        begin = ("M", f'Connection from {at} on 10.0.0.1 port 22 rdomain ""')
        started = ("C", f"Starting session: shell on pts/0 for {user} from {at} id 0")
        match self.kind:
            case "pam":
                return [*wrong, right, opened, *ends, closed]
            case "pam-verbose":
                return [begin, *wrong, right, opened, ("M", "User child is on pid {C}"), started, *ends, closed]
            case "no-pam":
                return [*wrong[1:], right, started, *ends]
            case "no-pam-idle":
                return [*wrong[1:], right, *ends[1:]]
            case "killed":
                return [*wrong, right, opened, ("C", f"Connection closed by {at}")]
            case "failed":
                return [begin, *wrong, ("M", f"Connection closed by authenticating user {user} {at} [preauth]")]
            case "invalid":
                refused = [("M", f"Failed password for invalid user {user} from {at} ssh2")] * self.passwords
                return [
                    ("M", f"Invalid user {user} from {at}"), ("T", "pam_unix(sshd:auth): check pass; user unknown"), *refused,
                    ("M", f"Connection closed by invalid user {user} {at} [preauth]"),
                ]  # fmt: skip
            case "keys":
                return [("M", f"Failed publickey for {user} from {at} ssh2: RSA SHA256:abc")] * 2 + [right, opened, closed]
            case "scanner":
                return [
                    ("M", "error: kex_exchange_identification: Connection closed by remote host"), ("M", f"Connection closed by {at}"),
                ]  # fmt: skip
            case "silent":
                return [begin]
            case "code" | "code-not-given":
                return [begin, *self.code_texts(), *([opened, *ends, closed] if self.kind == "code" else [])]
        return [("L", f"drop connection #11 from [{ip}]:{port} on [10.0.0.1]:22 past MaxStartups")]

    def code_texts(self) -> list[tuple[str, str]]:
        """Return the lines about a code, up to the login, or up to the client's end."""
        ip, port = self.source
        asker, number, at, user = Asker("sshd", 0, self.user, ip or ""), str(1000 + self.number), f"{ip} port {port}", self.user
        wrong = [
            ("P", refused(asker, "wrong", number, "ops")),
            ("M", f"error: PAM: System error for {user} from {ip}"),
            ("M", f"Failed keyboard-interactive/pam for {user} from {at} ssh2"),
        ]
        asked = [("P", sent(asker, number, "ops")), *wrong * self.passwords]
        if self.kind == "code-not-given":
            return [*asked, ("M", f"Connection closed by authenticating user {user} {at} [preauth]")]
        right = ("P", right_code(asker, number, "ops", self.number))
        return [*asked, right, ("M", f"Accepted keyboard-interactive/pam for {user} from {at} ssh2")]

    def truth(self) -> Counter[str]:
        """Return how many events of each kind there are, with the user of a login."""
        logs_in = self.kind in {"pam", "pam-verbose", "no-pam", "no-pam-idle", "killed", "keys", "code"}
        found: Counter[str] = Counter()
        if logs_in:
            found[f"Login {self.user}"] = 1
        if logs_in and self.kind != "killed":
            found[f"Logout {self.user}"] = 1
        if self.kind != "keys" and (logs_in or self.kind in {"failed", "invalid", "code-not-given"}) and self.passwords:
            found["Attempt"] = self.passwords
        if self.kind in {"invalid", "code-not-given"} and not self.passwords:
            found["Attempt"] = 1
        if self.kind == "code":
            found[f"code {self.number}"] = 1
        if self.kind in {"scanner", "silent", "dropped"} or (self.kind == "failed" and not self.passwords):
            found["Probe"] = 1
        return found


@dataclass
class Made:
    """A log line, the connection it is of, and the PID it shows."""

    spec: Spec
    pid: int
    text: str
    at: float = 0.0
    program: str = "sshd"

    def __str__(self) -> str:
        """Show it as rsyslog writes it."""
        return f"{(START + timedelta(seconds=self.at)).isoformat(timespec='microseconds')} {self.spec.host} {self.program}[{self.pid}]: {self.text}"


@dataclass
class Pids:
    """A host with few PIDs, as a container is: one that was given back comes again at once."""

    free: list[int] = field(default_factory=lambda: list(range(400, 100, -1)))


def interleaved(specs: list[Spec], chance: random.Random, step: float) -> list[Made]:
    """Mix the lines of connections, each connection's in order; PIDs are given at the start and come back at the end."""
    hosts = {name: Pids() for name in HOSTS}
    waiting = list(specs)
    running: list[tuple[Spec, list[tuple[str, str]], dict[str, int]]] = []
    lines: list[Made] = []
    now = 0.0
    while waiting or running:
        if waiting and (not running or (len(running) < 6 and chance.random() < 0.4)):
            spec = waiting.pop(0)
            free = hosts[spec.host].free
            running.append((spec, spec.texts(), {"M": free.pop(), "C": free.pop(), "T": free.pop(), "P": free.pop(), "L": 1}))
        spec, texts, pids = chance.choice(running)
        process, text = texts.pop(0)
        program = PROGRAM if process == "P" else "sshd"
        text = text.replace("{C}", str(pids["C"])).replace("sshd 0,", f"sshd {pids['M']},")
        lines.append(Made(spec, pids[process], text, now, program))
        now += chance.random() * step
        if not texts:
            running.remove((spec, texts, pids))
            if spec.kind != "silent":  # that one is still connected
                hosts[spec.host].free += [pids["P"], pids["T"], pids["C"], pids["M"]]
    return lines


specs_of = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(HOSTS), st.sampled_from(USERS), st.integers(0, 3)), min_size=1, max_size=12,
).map(lambda found: [Spec(number, *one) for number, one in enumerate(found)])  # fmt: skip
chances = st.randoms(use_true_random=False)
steps = st.sampled_from([0.01, 1.0, 5.0])


def events_of(lines: Iterable[object]) -> list[Event]:
    """Return everything that is told of a log, read in one block."""
    events: list[Event] = []
    reader = LineReader(matcher(), Timestamps(START + timedelta(days=3), UTC), keep_text=True)
    correlator = Correlator(matcher().rules, lambda name: matcher().program(name).family, events.append)
    correlator.feed(reader.lines("".join(f"{line}\n" for line in lines).encode("latin-1"), 1))
    correlator.settle()
    return events


def by_source(events: Iterable[Event]) -> Truth:
    """Count events by the client's end."""
    found: Truth = {}
    for event in events:
        counts = found.setdefault((event.address, event.port), Counter())
        match event:
            case Login() | Logout():
                counts[f"{type(event).__name__} {event.user}"] += 1
                if isinstance(event, Login) and event.code is not None:
                    counts[f"code {event.code.after_s}"] += 1
            case Attempt():
                counts["Attempt"] += event.count
            case Probe() | Forged():
                counts[type(event).__name__] += 1
    return found


def truth_of(specs: list[Spec]) -> Truth:
    """Return what must be told."""
    return {spec.source: spec.truth() for spec in specs}


@quick
@given(specs_of, chances, steps)
def test_everything_is_told_once(specs: list[Spec], chance: random.Random, step: float) -> None:
    """Logins, logouts, tries and probes are those that happened, whatever ran at the same time and whose PID came back."""
    assert by_source(events_of(interleaved(specs, chance, step))) == truth_of(specs)


@quick
@given(specs_of, chances, steps)
def test_a_login_is_told_before_its_logout(specs: list[Spec], chance: random.Random, step: float) -> None:
    """A logout refers to a login that was told before it, and does not end before that began."""
    told: list[Login] = []
    for event in events_of(interleaved(specs, chance, step)):
        if isinstance(event, Login):
            told.append(event)
        elif isinstance(event, Logout):
            assert event.login in told
            assert event.end_us >= event.login.time_us
            assert (event.user, event.address, event.port) == (event.login.user, event.login.address, event.login.port)


@quick
@given(specs_of, chances, steps, st.data())
def test_neighbours_of_different_connections_may_swap(
    specs: list[Spec], chance: random.Random, step: float, data: st.DataObject
) -> None:
    """Two neighbouring lines of different processes in the other order tell the same story."""
    lines = interleaved(specs, chance, step)
    before = by_source(events_of(lines))
    places = [
        n
        for n in range(len(lines) - 1)
        if lines[n].spec is not lines[n + 1].spec
        and (lines[n].spec.host, lines[n].pid) != (lines[n + 1].spec.host, lines[n + 1].pid)
    ]
    if places:
        place = data.draw(st.sampled_from(places))
        lines[place : place + 2] = lines[place + 1], lines[place]
        assert by_source(events_of(lines)) == before


@quick
@given(specs_of, chances, steps)
def test_replaying_gives_the_same_events(specs: list[Spec], chance: random.Random, step: float) -> None:
    """The same lines give the same events, and each event has an id of its own."""
    lines = interleaved(specs, chance, step)
    once, again = events_of(lines), events_of(lines)
    assert once == again
    assert all(event.id for event in once)
    assert len({event.id for event in once}) == len(once)


@quick
@given(specs_of, chances, steps)
def test_block_borders_do_not_matter(specs: list[Spec], chance: random.Random, step: float) -> None:
    """Lines that are read one by one, and all at once, are the same story."""
    lines = interleaved(specs, chance, step)
    events: list[Event] = []
    reader = LineReader(matcher(), Timestamps(START + timedelta(days=3), UTC), keep_text=True)
    correlator = Correlator(matcher().rules, lambda name: matcher().program(name).family, events.append)
    for place, line in enumerate(lines, 1):
        correlator.feed(reader.lines(f"{line}\n".encode("latin-1"), place))
    correlator.settle()
    assert events == events_of(lines)


@examples(25)
@given(specs_of, chances)
def test_a_flood_costs_no_login(specs: list[Spec], chance: random.Random) -> None:
    """Under a flood from many hosts the tables stay within their limits, and every login is told, for the right user."""
    lines = [str(line) for line in interleaved(specs, chance, 0.01)]
    flooded: list[str] = []
    number = 0
    for line in lines:
        flooded.append(line)
        for _ in range(chance.randrange(12)):
            number += 1
            host = chance.choice([*HOSTS, *(f"flood{n}" for n in range(9))])
            stamp = line.partition(" ")[0]
            flooded.append(f"{stamp} {host} sshd[{9000 + number}]: Connection from 203.0.113.9 port {number} on 10.0.0.1 port 22")
    events: list[Event] = []
    reader = LineReader(matcher(), Timestamps(START + timedelta(days=3), UTC), keep_text=True)
    with patch.object(connections, "CONNECTION_LIMIT", 8), patch.object(connections, "HOST_LIMIT", 4):
        correlator = Correlator(matcher().rules, lambda name: matcher().program(name).family, events.append)
        for place, line in enumerate(flooded, 1):
            correlator.feed(reader.lines(f"{line}\n".encode("latin-1"), place))
            hosts = correlator.held._hosts.values()
            assert len(hosts) <= 4
            assert sum(len(host.connections) for host in hosts) <= 8
            # A session whose PID was reused is still found by its address.
            assert sum(len(host.by_source) for host in hosts) <= 2 * 8
            assert sum(len(host.children) for host in hosts) <= 8
        correlator.settle()
    told = {(event.address, event.port, event.user) for event in events if isinstance(event, Login)}
    expected = {(*spec.source, spec.user) for spec in specs if any(name.startswith("Login") for name in spec.truth())}
    assert expected <= told


@examples(12)
@given(specs_of, chances, steps, st.sampled_from([300, 2000]))
def test_the_number_of_processes_does_not_matter(specs: list[Spec], chance: random.Random, step: float, size: int) -> None:
    """One, two and three processes write the same bytes."""
    lines = interleaved(specs, chance, step)
    outputs: list[bytes] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(files, "BLOCK_SIZE", size),
    ):
        path = Path(folder) / "auth.log"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="latin-1")
        for jobs in (1, 2, 3):
            told: list[bytes] = []
            paths: list[str] = []
            replay = Replay(
                matcher(), zone=UTC, jobs=jobs, paths=paths,
                tell=lambda event, told=told, paths=paths: told.append(json_line(of_event(event, paths))),  # type: ignore[misc]
            )  # fmt: skip
            summary = replay.run([str(path)])
            assert replay.errors == []
            assert summary.lines == len(lines)
            outputs.append(b"".join(told) + repr(summary).encode())
    assert outputs[0] == outputs[1] == outputs[2]
