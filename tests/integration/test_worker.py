"""``sshbell worker``: real workers, PostgreSQL, rsyslogd's omkafka; the mock cluster of librdkafka in place of brokers."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumer.deliver.decide import budget_of, plan_of
from consumer.deliver.routing import Lead
from consumer.ecs import event_of
from consumer.errors import StoreError
from consumer.logs.unknown import unknown_of_store
from consumer.store.deliveries import delivery_of, outbox_of
from consumer.store.delivery import ACCOUNT_LIMIT
from consumer.store.delivery_rows import Routed, Way
from consumer.store.earlier_logins import EarlierLogins
from consumer.store.outbox import Queued
from consumer.store.worker import LostPartitionError, PartitionProgress, WorkerStore, worker_store
from tests import needs
from tests.integration.kafka import Kafka, Lag, Postgres, Workers
from tests.integration.lines import ours
from tests.integration.truth import CAPTURES_DIR, PROJECT_DIR, Capture, expected_login, flattened
from tests.integration.worker_kills import DROP_IN, Relay
from tests.store_events import START_US, events_of, line, session_lines
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

THREE_HOSTS = CAPTURES_DIR / "three-hosts-9.2p1-debian12" / "merged.rfc3339.log.gz"
NOBODY_TOLD: frozenset[str] = frozenset()
LOGINS = frozenset({"ssh_login"})
FILE_CHANNEL = """
[[channel]]
name = "log"
type = "file"
path = "{path}"
[[route]]
channels = ["log"]
events = ["ssh_login", "ssh_logout"]
"""


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    """Return a cluster without topics."""
    with Kafka() as running:
        yield running


def captured() -> list[tuple[str, bytes]]:
    """Return the lines of the capture of three hosts with colliding and reused PIDs, each with its host."""
    lines = gzip.decompress(THREE_HOSTS.read_bytes()).splitlines()
    return [(line.split(b" ")[1].decode(), line) for line in lines]


def read_lines(store: Postgres | Path) -> int:
    """Return how many lines the workers have read."""
    statement = "SELECT coalesce(sum(next_offset), 0) FROM partition"
    if isinstance(store, Postgres):
        rows = store.query(statement)
        return int(rows[0][0]) if rows else 0
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return int(connection.execute(statement).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def session(user: str, number: int, host: str = "web1", count: int = 1) -> list[tuple[str, bytes]]:
    """Return the lines of sessions in rsyslogd's JSON, each with its host."""
    found = []
    for each in range(number, number + count):
        place = f"192.0.2.7 port {1024 + each % 60_000}"
        for at, text in enumerate(
            (
                f"Accepted password for {user}{each} from {place} ssh2",
                f"pam_unix(sshd:session): session opened for user {user}{each}(uid=1001) by (uid=0)",
                f"pam_unix(sshd:session): session closed for user {user}{each}",
            )
        ):
            found.append((host, ours(text, each // 20_000, 3 * each % 60_000 + at, pid=1000 + each, host=host)))
    return found


# ---------------------------------------------------------------- the store


@pytest.fixture(params=["postgresql", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerStore]:
    """Return each kind of store in turn."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        where: Path | str = postgres.database
    else:
        where = tmp_path
    with closing(worker_store(where, "sshbell", pytest.fail)) as opened:
        yield opened


def test_a_partition_is_taken_with_its_state(store: WorkerStore) -> None:
    """A new partition has neither offset nor state. The next owner gets what was stored last, and a higher epoch."""
    assert store.take(3) == (1, None, [])
    parts = [("host\tsshd\tw\x00\udc80b", [b"1", b"2"]), ("pipeline", [b"\x00\xff"])]
    assert store.commit([PartitionProgress(3, 1, 7, parts)], (), NOBODY_TOLD, 1) == 0
    assert store.take(3) == (2, 7, parts)
    store.commit([PartitionProgress(3, 2, 9, [(parts[0][0], ()), ("pipeline", [b"new"])])], (), NOBODY_TOLD, 1)
    assert store.take(3) == (3, 9, [("pipeline", [b"new"])])
    assert store.take(2) == (1, None, [])


def test_a_zombie_writes_nothing(store: WorkerStore) -> None:
    """Who has lost one of its partitions stores nothing, not even about the others."""
    store.take(0)
    store.take(1)
    store.commit([PartitionProgress(0, 1, 5, [("a", [b"1"])])], (), NOBODY_TOLD, 1)
    store.take(1)
    with pytest.raises(LostPartitionError) as caught:
        store.commit(
            [PartitionProgress(0, 1, 6, [("a", [b"2"])]), PartitionProgress(1, 1, 3, [("b", [b"2"])])],
            events_of(*session_lines(1, "bob")),
            LOGINS,
            1,
        )
    assert caught.value.number == 1
    assert store.take(0) == (2, 5, [("a", [b"1"])])
    assert store.take(1) == (3, None, [])
    assert store.commit([PartitionProgress(0, 2, 6, ())], events_of(*session_lines(1, "bob")), LOGINS, 1) == 1


def test_an_event_is_stored_and_told_once(store: WorkerStore) -> None:
    """The same events again add nothing; a session gets its end in whichever batch it comes."""
    store.take(0)
    events = events_of(*session_lines(1, "bob"))
    assert [store.commit([PartitionProgress(0, 1, number, ())], events, LOGINS, number) for number in (1, 2)] == [1, 0]


def test_hostile_texts(postgres: Postgres) -> None:
    """Any text of a line can be stored: NUL, quotation marks, backslashes before a NUL, bytes that are not UTF-8."""
    names = ["x'; DROP TABLE event; --", 'a"b\\', "nul\x00", "back\\\x00", "back\\\\u0000", "\xff\xfe", "{}[],"]
    with closing(worker_store(postgres.database, "sshbell", pytest.fail)) as opened:
        opened.take(0)
        lines = [line for number, name in enumerate(names) for line in session_lines(number, "bob", info=name)]
        opened.commit([PartitionProgress(0, 1, 1, ())], events_of(*lines), LOGINS, 1)
        opened.set_notes({f"note {number}": name for number, name in enumerate(names)})
    assert postgres.query("SELECT count(*) FROM event WHERE action = 'ssh_login'") == [(len(names),)]


# ---------------------------------------------------------------- outbox and deliveries


def test_numbers_of_messages(postgres: Postgres) -> None:
    """``deliver`` numbers messages when it sees them, so none comes late; and it reads each once, wherever it runs."""
    with closing(worker_store(postgres.database, "sshbell", pytest.fail)) as one:
        one.take(0)
        one.commit([PartitionProgress(0, 1, 1, ())], events_of(*session_lines(1, "alice")), LOGINS, 1)
        with closing(delivery_of(postgres.database, pytest.fail)) as delivery:
            outbox = outbox_of(postgres.database, delivery)
            first, seen = outbox.ahead(0, 100)
            assert [message.seq for message in first] == [1]
            one.commit([PartitionProgress(0, 1, 2, ())], events_of(*session_lines(2, "bob")), LOGINS, 1)
            assert outbox.since(1, 100) == []
            assert [message.seq for message in outbox.ahead(1, 100)[0]] == [2]
            assert seen is not None
            assert not outbox.is_behind(seen)


def test_one_deliver_at_a_time(postgres: Postgres) -> None:
    """The lock goes with the session: a second ``deliver`` writes nothing, and takes over once the first is gone."""
    first = delivery_of(postgres.database, pytest.fail)
    with pytest.raises(StoreError, match="another sshbell deliver"):
        delivery_of(postgres.database, pytest.fail)
    postgres.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(application_name, 'sshbell')")
    with closing(delivery_of(postgres.database, pytest.fail)):
        for _ in range(2):
            with pytest.raises(StoreError):
                first.put_test("test-1", ["ops"], 1, b"{}")
    first.put_test("test-1", ["ops"], 1, b"{}")
    assert first.outcome("test-1") == {"ops": ("pending", 0, None)}
    first.close()


@pytest.mark.parametrize("name", ["nul\x00", "x'; DROP TABLE delivery; --"])
def test_hostile_names_of_messages(name: str, postgres: Postgres) -> None:
    """A forged line may name a user or a host that PostgreSQL cannot store. That must not hold up the messages behind it."""
    with closing(delivery_of(postgres.database, pytest.fail)) as delivery:
        for number, names in enumerate([("web1", name), (name, "bob")], 1):
            known = {"event": {"action": "ssh_login"}, "host": {"name": names[0]}, "user": {"name": names[1]}}
            body = json.dumps(known).encode()
            event = event_of(body)
            lead = Lead("ops", fold=("host", "user"))
            ways = {"ops": Way(plan=plan_of(event, lead, 1, "", None))}
            delivery.route([Routed(Queued(number, f"id{number}", "ssh_login", 1, body), ["ops"], budget_of(event), ways)])
        assert postgres.query("SELECT count(*) FROM delivery") == [(2,)]
    with closing(EarlierLogins(postgres.database)) as earlier:
        assert earlier.of(name, 0, 1) == []


def test_names_by_the_rules_of_a_language(postgres: Postgres) -> None:
    """The budgets of hosts with similar names do not count for a host, in whatever order a language puts them."""
    postgres.query("CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
    english = postgres.database.replace("dbname=postgres", "dbname=english")
    hosts = ["Web1"] * ACCOUNT_LIMIT + ["web1-2"] * ACCOUNT_LIMIT + ["web1"]
    with closing(delivery_of(english, pytest.fail)) as delivery:
        delivery.route(
            Routed(Queued(number, f"id{number}", "ssh_login", 1, b"{}"), ["ops"], f"{host} user{number}")
            for number, host in enumerate(hosts, 1)
        )
        last = delivery.due("ops", 1, [f"{host} user{number}" for number, host in enumerate(hosts[:-1], 1)])
        assert last is not None
        assert last.budget == f"web1 user{len(hosts)}"


# ---------------------------------------------------------------- whole workers


@pytest.mark.parametrize("where", ["postgresql", "sqlite"])
def test_three_hosts(where: str, kafka: Kafka, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Colliding and reused PIDs of three hosts: the truth, in full; the messages go out."""
    store: Postgres | Path = request.getfixturevalue("postgres") if where == "postgresql" else tmp_path / "state" / "state.db"
    sent = tmp_path / "sent.json"
    lines = [*captured(), ("web1", line(START_US, 9, "error: Login of user alice failed: policy 7"))]
    database = store.database if isinstance(store, Postgres) else ""
    with Workers(tmp_path, kafka, database, more=FILE_CHANNEL.format(path=sent)) as workers:
        kafka.produce(lines)
        started = [workers.start() for _ in range(2 if where == "postgresql" else 1)]
        wait_for(lambda: read_lines(store) == len(lines), "all lines are read")
        truth = Capture("three-hosts-9.2p1-debian12", "merged", "rfc3339")
        wanted = len(truth.accepted)

        def messages() -> list[dict[str, Any]]:
            return [flattened(json.loads(line)) for line in sent.read_bytes().splitlines()] if sent.exists() else []

        def logins() -> list[dict[str, Any]]:
            return [event for event in messages() if event["event.action"] == "ssh_login"]

        wait_for(lambda: len(logins()) >= wanted, "all logins are sent")
        found = logins()
        for process in started:
            process.terminate()
        assert [process.wait(DEADLINE_S) for process in started] == [0] * len(started)
    # What each worker stores when it leaves its partitions.
    unknown = unknown_of_store(store.database if isinstance(store, Postgres) else store.parent)
    assert {host: (lines.unmatched, lines.programs["sshd"] > 100) for host, lines in unknown.items()} == {
        "web1": (1, True), "web2": (0, True), "db1": (0, True),
    }  # fmt: skip
    assert len(found) == wanted
    known = {(event["host.name"], event["source.ip"], event["source.port"]): event for event in found}
    for record in truth.accepted:
        event = known[record["host"], record["src_ip"], record["src_port"]]
        expected = expected_login(record, truth)
        assert {key: event.get(key) for key in expected} == expected


def test_the_same_lines_twice(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    """Rsyslogd may send lines again: at once, or much later, when sshbell has forgotten them. Each login is stored once."""
    lines = session("user", 0, count=9000)
    with Workers(tmp_path, kafka, postgres.database) as workers:
        workers.start()
        doubled = [each for line in lines[:3000] for each in (line, line)]
        count = 0
        # All lines of one host: one partition. It keeps 5 MB.
        for part in (doubled, lines[3000:15_000], lines[15_000:], lines[:9000], lines[9000:21_000]):
            count += kafka.produce(part)
            wait_for(lambda: read_lines(postgres) == count, "all lines are read")  # noqa: B023 - it is called here
    assert postgres.query("SELECT action, count(*) FROM event GROUP BY action ORDER BY action") == [
        ("ssh_login", 9000), ("ssh_logout", 9000),
    ]  # fmt: skip


def state_of(process: subprocess.Popen[bytes]) -> str:
    """Return the letter of a process's state: "T" if it is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0]


@pytest.mark.parametrize("place", ["before", "within"])
def test_a_forced_zombie(place: str, kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    """A worker that stops at its transaction, and goes on after another one has its partitions, writes nothing about them."""
    with Workers(tmp_path, kafka, postgres.database, module="tests.integration.stopping") as workers:
        kafka.produce(session("first", 0))
        zombie = workers.start(SSHBELL_TEST_STOP=place)
        wait_for(lambda: read_lines(postgres) == 3, "the worker reads")
        kafka.produce(
            session("zombie", 1, count=0) + [("web1", line.replace(b"zombie1", b"zombie")) for _, line in session("zombie", 1)]
        )
        wait_for(lambda: state_of(zombie) == "T", "it has stopped")
        epoch = postgres.query("SELECT max(epoch) FROM partition")
        workers.start()
        wait_for(lambda: read_lines(postgres) == 6, "the other worker has read all lines")
        stored = postgres.query("SELECT * FROM event ORDER BY id"), postgres.query("SELECT * FROM outbox")
        assert postgres.query("SELECT max(epoch) FROM partition") > epoch
        zombie.send_signal(signal.SIGCONT)
        wait_for(lambda: '"partition_lost"' in workers.log(0), "the zombie knows")
        assert (postgres.query("SELECT * FROM event ORDER BY id"), postgres.query("SELECT * FROM outbox")) == stored
        # It takes part again.
        kafka.produce([each for number in range(40) for each in session("later", 2 + number, f"host{number}")])
        wait_for(lambda: read_lines(postgres) == 126, "all is read")
    assert postgres.query("SELECT count(*), count(DISTINCT \"user\") FROM event WHERE action = 'ssh_login'") == [(42, 42)]


def test_a_deliver_that_waits_ends_with_its_parent(postgres: Postgres, tmp_path: Path) -> None:
    """While another ``deliver`` has the lock, TERM does not end it, and the end of its parent does."""
    config = tmp_path / "sshbell.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\nuser = ""\n[worker]\nbrokers = ["127.0.0.1:1"]\ndatabase = "{postgres.database}"\n'
    )
    ours_end, its_end = socket.socketpair()
    log = tmp_path / "log"
    with closing(delivery_of(postgres.database, pytest.fail)), log.open("wb") as written, ours_end:
        arguments = ["-P", "-m", "consumer", "deliver", "--wake", str(its_end.fileno()), "--config", str(config)]
        waiting = subprocess.Popen(
            [sys.executable, *arguments], cwd=PROJECT_DIR, stderr=written, stdout=written, pass_fds=[its_end.fileno()]
        )
        its_end.close()
        try:
            wait_for(lambda: b"another sshbell deliver has the lock" in log.read_bytes(), "it waits for the lock")
            waiting.terminate()
            wait_for(lambda: b"signal_ignored" in log.read_bytes(), "it ignores TERM")
            ours_end.close()
            assert waiting.wait(DEADLINE_S) == 0
        finally:
            waiting.kill()
            waiting.wait()


def test_a_lost_offset(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    """If the topic no longer has the next line, the worker sends an alarm and ends. It goes on only where the user wants it."""
    sent = tmp_path / "sent.json"
    more = FILE_CHANNEL.format(path=sent)
    with Workers(tmp_path, kafka, postgres.database, more=more) as workers:
        kafka.produce(session("user", 0))
        worker = workers.start()
        wait_for(lambda: read_lines(postgres) == 3, "the worker reads")
        assert workers.stop(worker) == 0
        # The cluster keeps about 5 MB of each partition.
        filler = [("web1", ours("x" * 900, number=number)) for number in range(8000)]
        kafka.produce(filler)
        lost = workers.start()
        assert lost.wait(DEADLINE_S) == 65
        assert "--accept-loss" in workers.log(1)
        assert read_lines(postgres) == 3
        (notice,) = [json.loads(line)["message"] for line in sent.read_bytes().splitlines() if b"sshbell_notice" in line]
        assert re.fullmatch(
            r"Kafka has deleted lines of partition \d of sshbell, from offset 3 on, before sshbell read them\."
            r" sshbell worker has stopped\.",
            notice,
        )
        again = workers.start("--accept-loss")
        wait_for(lambda: read_lines(postgres) == 8003, "it goes on with the oldest line")
        assert again.poll() is None


def test_another_topic_of_the_same_name(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    """If somebody has made the topic anew, and it has grown beyond the stored offset, the worker sends an alarm and ends."""
    sent = tmp_path / "sent.json"
    with Workers(tmp_path, kafka, postgres.database, more=FILE_CHANNEL.format(path=sent)) as workers:
        kafka.produce(session("user", 0))
        worker = workers.start()
        wait_for(lambda: read_lines(postgres) == 3, "the worker reads")
        assert workers.stop(worker) == 0
        # The mock cluster cannot delete a topic, so the store gets the memory of another one.
        postgres.query("UPDATE partition_snapshot SET body = decode(repeat('00', 16), 'hex') WHERE part = 'kafka'")
        kafka.produce(session("user", 1))
        other = workers.start()
        assert other.wait(DEADLINE_S) == 65
        assert read_lines(postgres) == 3
        notices = [json.loads(line)["message"] for line in sent.read_bytes().splitlines() if b"sshbell_notice" in line]
        assert len(notices) == 1
        assert "the topic was deleted and created again" in notices[0]
        workers.start("--accept-loss")
        wait_for(lambda: read_lines(postgres) == 6, "it reads the topic from its oldest line on")
    assert postgres.query("SELECT count(*) FROM event WHERE action = 'ssh_login'") == [(2,)]


def test_a_lost_store(kafka: Kafka, tmp_path: Path) -> None:
    """A damaged file of SQLite makes no worker read the topic from its beginning: it goes on where it was, and sends an alarm."""
    sent = tmp_path / "sent.json"
    store = tmp_path / "state" / "state.db"
    with Workers(tmp_path, kafka, "", more=FILE_CHANNEL.format(path=sent)) as workers:
        kafka.produce(session("user", 0))
        worker = workers.start()
        wait_for(lambda: read_lines(store) == 3, "the worker reads")
        wait_for(lambda: sent.exists() and sent.read_bytes().count(b"\n") == 2, "login and logout are sent")
        lag = Lag(kafka.brokers)
        wait_for(lambda: lag.read() == 3, "Kafka knows how far it is")
        lag.close()
        assert workers.stop(worker) == 0
        # The log of SQLite may hold the newest pages.
        for suffix in ("-wal", "-shm"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        store.write_bytes(b"x" * 8192)
        kafka.produce(session("user", 1))
        workers.start()
        wait_for(lambda: sent.read_bytes().count(b"\n") >= 5, "the alarm and the new session are sent")
        messages = [json.loads(line) for line in sent.read_bytes().splitlines()]
        users = [one["user"]["name"] for one in messages if one["event"]["action"] == "ssh_login"]
        assert users == ["user0", "user1"]
        assert "memory_lost" in workers.log(1)
        (notice,) = [one["message"] for one in messages if one["event"]["action"] == "sshbell_notice"]
        assert "the store was damaged or replaced" in notice


def test_one_worker_with_sqlite(kafka: Kafka, tmp_path: Path) -> None:
    """A second worker with the same files of SQLite refuses to start."""
    with Workers(tmp_path, kafka, "") as workers:
        first = workers.start()
        wait_for(lambda: '"started"' in workers.log(0), "it runs")
        second = workers.start()
        assert second.wait(DEADLINE_S) == 74
        assert workers.stop(first) == 0


def test_rsyslogd_writes_to_kafka(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    """The example for a relay: lines of a host go to one partition, in order, and a worker reads them."""
    if not list(Path("/usr/lib").glob("*/rsyslog/omkafka.so")):
        pytest.skip("omkafka is not installed; apt install rsyslog-kafka")
    (tmp_path / "relay").mkdir()
    count = 200
    with Relay(tmp_path / "relay", kafka.brokers) as relay, Workers(tmp_path, kafka, postgres.database) as workers:
        for number in range(count):
            place = f"192.0.2.7 port {2000 + number}"
            for text in (
                f"Accepted password for user{number} from {place} ssh2",
                f"pam_unix(sshd:session): session opened for user user{number}(uid=1001) by (uid=0)",
                f"pam_unix(sshd:session): session closed for user user{number}",
            ):
                relay.send(f"<38>2026-11-22T10:00:00.{number:06}+00:00 host{number % 20} sshd[7]: {text}\n".encode())
        workers.start()
        wait_for(lambda: read_lines(postgres) == 3 * count, "all lines are read")
        wait_for(lambda: postgres.query("SELECT count(*) FROM event WHERE action = 'ssh_logout'") == [(count,)], "all is stored")
    # With one PID for all sessions of a host, this is true only if the lines of each host have kept their order.
    assert postgres.query("SELECT count(*), count(DISTINCT \"user\") FROM event WHERE action = 'ssh_login'") == [(count, count)]
    assert postgres.query("SELECT count(*) FROM session WHERE closed_us IS NULL") == [(0,)]


def test_the_example_is_valid(tmp_path: Path) -> None:
    """Rsyslogd accepts the example as it is."""
    main = tmp_path / "main.conf"
    main.write_text(f'global(workDirectory="{tmp_path}")\ninclude(file="{DROP_IN}")\n')
    done = subprocess.run(
        [needs.program("rsyslogd", "rsyslog"), "-N1", "-f", main], capture_output=True, check=False, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr


def test_the_core_needs_no_library_of_the_extra() -> None:
    """Without confluent_kafka and psycopg, everything else works; the command says what is missing."""
    code = (
        "import sys\n"
        "for name in ('confluent_kafka', 'psycopg', 'pyspark', 'pyarrow'): sys.modules[name] = None\n"
        "import consumer.pipeline, consumer.run.service, consumer.deliver.process, consumer.logs.replay\n"
        "from consumer.cli import main\n"
        "main(['worker'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=DEADLINE_S)
    assert done.returncode == 69
    assert "pip install 'sshbell[kafka]'" in done.stderr
