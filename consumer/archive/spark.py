"""
``sshbell archive``: Spark shares the hosts among its workers, and writes their events as Parquet, in a directory for each day.

A task has several hosts. If its executor dies, Spark runs the task again elsewhere; only the first complete result of each task
becomes part of the output.
"""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.accumulators import AccumulatorParam
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema

from consumer.archive.columns import SCHEMA, batches_of
from consumer.archive.host_events import HostReport, ReadingSettings, events_of_host
from consumer.archive.mixed_files import events_of_pieces, pieces_of_file
from consumer.archive.remote_files import Copies
from consumer.archive.sources import Sources, shared
from consumer.ecs import EcsEvent
from consumer.errors import UnavailableError, complain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Reports = dict[str, HostReport]
TakeReport = Callable[[str, HostReport], None]
TaskProgress = Callable[[int, int], None]
_COLUMNS = from_arrow_schema(SCHEMA)
_PIECES = pa.schema(
    [("host", pa.string()), ("first_us", pa.int64()), ("file", pa.int64()), ("number", pa.int64()), ("lines", pa.binary())]
)
# More tasks than cores: so no core has much to do when the others have none, and a lost task costs little.
_TASKS_PER_CORE = 4
_PROGRESS_S = 1.0
_OPTIONS = {
    "spark.ui.enabled": "false",
    # Into the log file; the error that this module raises has the cause.
    "spark.log.level": "WARN",
    # The progress is ours.
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    # The default, INT96, has no bounds by which a query could skip files.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # The pieces of a collector's files have up to a megabyte each.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(8 << 20),
    # A forged line may have any year.
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
}
# To optimize its own code, Java takes more time than it saves: nearly all the work is in the workers of Python.
_LOCAL_OPTIONS = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}


class _ReportsParam(AccumulatorParam[Reports]):
    """Collects the reports of all tasks. A task that runs twice reports the same."""

    def zero(self, _value: Reports) -> Reports:
        return {}

    def addInPlace(self, value1: Reports, value2: Reports) -> Reports:  # noqa: N802 - Spark's name
        return value1 | value2


def write_archive(sources: Sources, out: str, master: str, settings: ReadingSettings, progress: TaskProgress) -> Reports:
    """
    Read all files, and write their events below ``out``, which must not exist yet, or be empty.

    What Spark, Java and the workers on this machine write goes to a file, which stays if the run fails. Of that, complaints of
    sshbell's own workers appear on standard error.

    Args:
        sources: the files.
        out: the directory.
        master: Spark's.
        settings: how to read.
        progress: gets the number of tasks that have ended, and of all tasks that Spark knows by now.

    Returns:
        What was read, by the name of each host's directory, of each collector's file, and of each host in these files.

    Raises:
        UnavailableError: there is no Java, the cluster does not answer, or the run has failed.
    """
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise UnavailableError("Spark needs Java 17 or later; on Debian and Ubuntu: apt install openjdk-17-jre-headless")
    descriptor, log = tempfile.mkstemp(prefix="sshbell-archive-", suffix=".log")
    with os.fdopen(descriptor, "wb") as file:
        try:
            with _errors_to(file):
                spark = _session(master)
            try:
                with _watched(spark, progress):
                    found = _write(spark, sources, out, settings)
            except Py4JJavaError as error:
                raise UnavailableError(f"Spark: {_cause(error.java_exception)}; see {log}") from error
            finally:
                spark.stop()
        except (PySparkException, Py4JError) as error:
            # The last line of the worker's traceback, without that of Java.
            lines = str(error).partition("JVM stacktrace")[0].splitlines()
            last = [line for line in lines if line and not line[0].isspace()][-1:]
            raise UnavailableError(f"Spark: {''.join(last) or type(error).__name__}; see {log}") from error
    complaints = [line for line in Path(log).read_text("utf-8", "replace").splitlines() if line.startswith("sshbell: ")]
    for line in dict.fromkeys(complaints):
        complain(UnavailableError(line.removeprefix("sshbell: ")))
    Path(log).unlink()
    return found


@contextmanager
def _errors_to(file: IO[bytes]) -> Iterator[None]:
    """Let the processes that start meanwhile write their errors to a file: Java, and the workers that it starts."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _watched(spark: SparkSession, progress: TaskProgress) -> Iterator[None]:
    """Report progress now and then."""
    is_over = threading.Event()

    def watch() -> None:
        tracker = spark.sparkContext.statusTracker()
        done: dict[int, tuple[int, int]] = {}
        while not is_over.wait(_PROGRESS_S):
            with suppress(Py4JError):  # Spark is about to end
                for stage in tracker.getActiveStageIds():
                    if (found := tracker.getStageInfo(stage)) is not None:
                        done[stage] = found.numCompletedTasks, found.numTasks
                progress(sum(ended for ended, _ in done.values()), sum(of_all for _, of_all in done.values()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _cause(error: Any) -> str:
    while error.getCause() is not None:
        error = error.getCause()
    return str(error.toString())


def _session(master: str) -> SparkSession:
    """Start Spark, or connect to a cluster. ``spark-defaults.conf`` and ``PYSPARK_SUBMIT_ARGS`` have all other settings."""
    if master.startswith("local"):
        # The workers are on this machine: they have the same Python, and nobody else has to reach them.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master(master).appName("sshbell archive")
    for name, value in (_OPTIONS | (_LOCAL_OPTIONS if master.startswith("local") else {})).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _write(spark: SparkSession, sources: Sources, out: str, settings: ReadingSettings) -> Reports:
    reports = spark.sparkContext.accumulator({}, _ReportsParam())
    tasks = spark.sparkContext.defaultParallelism * _TASKS_PER_CORE
    found = [
        read(spark, sources, tasks, settings, lambda name, report: reports.add({name: report}))
        for read, has_files in ((_of_hosts, sources.hosts), (_of_mixed_files, sources.mixed))
        if has_files
    ]
    events = found[0] if len(found) == 1 else found[0].union(found[1])
    days = events.withColumn("day", f.to_date(f.col("`@timestamp`")))
    # A run that fails leaves an empty directory.
    mode = "append" if Path(out).is_dir() else "errorifexists"
    days.write.mode(mode).partitionBy("day").option("compression", "zstd").parquet(out)
    return reports.value


def _of_hosts(spark: SparkSession, sources: Sources, tasks: int, settings: ReadingSettings, report: TakeReport) -> "DataFrame":
    """Return the events of hosts with files of their own. Each row is a task: its hosts, and their files."""
    sizes = {host: sum(sources.sizes[path] for path in paths) for host, paths in sources.hosts.items()}
    rows = [[[(host, sources.hosts[host]) for host in hosts]] for hosts in shared(sizes, tasks)]

    def events(batches: Iterable[pa.RecordBatch]) -> Iterator[EcsEvent]:
        for row in _rows(batches):
            for host in row["hosts"]:
                with Copies(host["paths"]) as copies:
                    take = partial(_report_of, copies, report, host["host"])
                    yield from copies.named(events_of_host(copies.paths, settings, take))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Of all hosts of the task at once: to begin a batch takes as long as hundreds of rows.
        yield from batches_of(events(batches))

    return _tasks(spark, rows, "hosts array<struct<host: string, paths: array<string>>>").mapInArrow(run, _COLUMNS)


def _of_mixed_files(
    spark: SparkSession, sources: Sources, tasks: int, settings: ReadingSettings, report: TakeReport
) -> "DataFrame":
    """Return the events of files with many hosts. Spark brings the pieces of each host together."""
    numbers = {path: number for number, path in enumerate(sources.mixed)}
    files = shared({path: sources.sizes[path] for path in sources.mixed}, tasks)
    rows = [[[(numbers[path], path) for path in some]] for some in files]

    def split(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for row in _rows(batches):
            for file in row["files"]:
                with Copies([file["path"]]) as copies:
                    take = partial(_report_of, copies, report, file["path"])
                    for path in copies.paths:
                        pieces = pieces_of_file(file["number"], path, settings, take)
                        for _number, some in groupby(pieces, key=lambda piece: piece.number):
                            yield pa.RecordBatch.from_pylist([piece._asdict() for piece in some], _PIECES)

    def join(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for host, some in groupby(_rows(batches), key=itemgetter("host")):
            count = 0
            for batch in batches_of(events_of_pieces((piece["lines"] for piece in some), sources.mixed, settings)):
                count += batch.num_rows
                yield batch
            report(host, HostReport(0, count, ()))

    pieces = _tasks(spark, rows, "files array<struct<number: long, path: string>>").mapInArrow(split, from_arrow_schema(_PIECES))
    of_each = pieces.repartition(tasks, "host").sortWithinPartitions("host", "first_us", "file", "number")
    return of_each.mapInArrow(join, _COLUMNS)


def _report_of(copies: Copies, report: TakeReport, name: str, found: HostReport) -> None:
    report(name, copies.reported(found))


def _tasks(spark: SparkSession, rows: list[list[Any]], columns: str) -> "DataFrame":
    """Return a row for each task, each in a partition of its own."""
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, len(rows)), columns)


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()
