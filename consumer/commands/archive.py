"""``sshbell archive``."""

import sys
from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, FILE, YEAR, ZONE, configuration_for_logs
from consumer.errors import InputError, UsageError, end_with, missing_package

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import tzinfo
    from pathlib import Path

    from consumer.archive.host_events import HostReport


@click.command(short_help="Turn the logs of many hosts into Parquet, with Spark.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=FILE)
@click.option("--out", required=True, metavar="DIR", help="New directory for the archive.")
@click.option(
    "--master", default="local[*,4]", show_default=True, metavar="URL", help="Spark's master: spark://HOST:PORT, yarn, k8s://..."
)
@YEAR
@ZONE
@CONFIG
def archive(sources: tuple[str, ...], out: str, master: str, year: int | None, zone: "tzinfo", config: str | None) -> None:
    """
    Turn the logs of many hosts into Parquet files. Query them with DuckDB, Spark or "sshbell history --from-archive".

    SOURCE is a directory with a directory for each host, or a file with the lines of many hosts. The archive has all events that
    "sshbell replay" shows, and no findings. It needs: pip install 'sshbell[spark]'

    \b
        sshbell archive /var/log/hosts --out /srv/ssh-2026
        sshbell archive /var/log/collector.log* --out /srv/ssh-2026
        sshbell archive --master spark://spark1:7077 /nfs/logs --out /nfs/ssh-2026
    """
    from pathlib import Path

    from consumer.archive.host_events import ReadingSettings
    from consumer.text import listed

    settings = configuration_for_logs(config)
    if Path(out).exists() and not _is_empty(Path(out)):
        raise UsageError(f"--out: {out} is not empty; name a new directory, so that no event gets there twice")
    try:
        from consumer.archive.sources import sources_of
        from consumer.archive.spark import write_archive
    except ImportError as error:
        raise missing_package(error, "spark") from error
    files = sources_of(sources)
    if not files.sizes:
        raise InputError(f"{listed(sources)}: there are no files")
    geoip = settings.geoip if settings.geoip == "web" else tuple(settings.geoip)
    reading = ReadingSettings(tuple(settings.sshd_programs), geoip, zone, year)
    try:
        reports = write_archive(
            files, out, master, reading, _show if sys.stderr.isatty() else lambda _ended, _total: None
        ).values()
    finally:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)
    click.echo(_summary_text(reports, out))
    end_with([error for report in reports for error in report.errors])


def _show(ended: int, total: int) -> None:
    """Show the progress in a line of its own, over the last one."""
    click.echo(f"\r\033[Kreading: {ended:,} of {total:,} tasks done", nl=False, err=True)


def _is_empty(folder: "Path") -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def _summary_text(reports: "Collection[HostReport]", out: str) -> str:
    lines, events = sum(report.lines for report in reports), sum(report.events for report in reports)
    return f"{lines:,} lines read, {events:,} events in {out}"
