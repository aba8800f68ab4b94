"""
``sshbell archive``: Spark shares the hosts among its workers, and writes their events as Parquet, in a directory for each day.

A task has several hosts. If its executor dies, Spark runs the task again elsewhere; only the first complete result of each task
becomes part of the output.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.accumulators import AccumulatorParam
from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema

from consumer.archive.columns import SCHEMA, batches_of
from consumer.archive.host_events import HostReport, ReadingSettings, events_of_host
from consumer.archive.sources import Sources, shared

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Reports = dict[str, HostReport]
# More tasks than cores: so no core has much to do when the others have none, and a lost task costs little.
_TASKS_PER_CORE = 4
_OPTIONS = {
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.sql.session.timeZone": "UTC",
    # The default, INT96, has no bounds by which a query could skip files.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # A forged line may have any year.
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
}


class _ReportsParam(AccumulatorParam[Reports]):
    """Collects the reports of all tasks. A task that runs twice reports the same."""

    def zero(self, _value: Reports) -> Reports:
        return {}

    def addInPlace(self, value1: Reports, value2: Reports) -> Reports:  # noqa: N802 - Spark's name
        return value1 | value2


def spark_session(master: str, *, progress: bool) -> SparkSession:
    """Start Spark, or connect to a cluster. ``spark-defaults.conf`` and ``PYSPARK_SUBMIT_ARGS`` have all other settings."""
    builder = SparkSession.builder.master(master).appName("sshbell archive")
    for name, value in _OPTIONS.items():
        builder = builder.config(name, value)
    return builder.config("spark.ui.showConsoleProgress", str(progress).lower()).getOrCreate()


def write_archive(spark: SparkSession, sources: Sources, out: str, settings: ReadingSettings) -> Reports:
    """
    Read all files, and write their events below ``out``, which must not exist yet.

    Returns:
        What was read, by host.
    """
    reports = spark.sparkContext.accumulator({}, _ReportsParam())
    tasks = spark.sparkContext.defaultParallelism * _TASKS_PER_CORE
    sizes = {host: sum(sources.sizes[path] for path in paths) for host, paths in sources.hosts.items()}
    rows = [[[(host, sources.hosts[host]) for host in hosts]] for hosts in shared(sizes, tasks)]
    found = spark.createDataFrame(
        spark.sparkContext.parallelize(rows, len(rows)), "hosts array<struct<host: string, paths: array<string>>>"
    )

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                for each in row["hosts"]:
                    yield from batches_of(
                        events_of_host(each["paths"], settings, lambda report: reports.add({each["host"]: report}))
                    )

    events = found.mapInArrow(run, from_arrow_schema(SCHEMA))
    events.withColumn("day", f.to_date(f.col("`@timestamp`"))).write.partitionBy("day").option("compression", "zstd").parquet(out)
    return reports.value
