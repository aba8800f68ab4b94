"""The command line. Each command imports what it needs when it runs, so that ``--version`` and completion answer at once."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from consumer import __version__
from consumer.errors import OutputError, SshbellError, UsageError
from consumer.records import harmless

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.events import Event
    from consumer.matching.matcher import Matcher

EX_USAGE, EX_SOFTWARE, EX_IOERR = 64, 70, 74
_INTERRUPTED = 130


class _Commands(click.Group):
    """A group whose usage errors end with EX_USAGE, and which suggests the command that was meant."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command, and end with a sysexits code: no traceback for anything that a user can cause."""
        if sys.stdout is None:
            _complain(OutputError("standard output is closed"))
            sys.exit(EX_IOERR)
        if sys.stderr is None:
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end of the process
        try:
            super().main(*args, **(kwargs | {"standalone_mode": False}))
            sys.stdout.flush()
            status = 0
        except BaseException as error:  # noqa: BLE001 - the outermost: whatever it was is said in one line
            status = _status_of(error)
        # What is still buffered cannot be written either, and Python would say so at its end.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        if status:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(status)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what stands before the command; say where options stand that are not there."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.message} Options stand behind the command: sshbell replay --tz UTC FILE", ctx
            ) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one where there is none of that name."""
        from difflib import get_close_matches

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], self.list_commands(ctx), 1)
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?" if close else error.message, ctx) from error


def _status_of(error: BaseException) -> int:
    """Say what went wrong, and return the exit code."""
    match error:
        case click.UsageError():
            error.show()
            return EX_USAGE
        case click.ClickException():
            error.show()
            return error.exit_code
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return _INTERRUPTED
        case SshbellError():
            _complain(error)
            return error.exit_code
        case BrokenPipeError() | SystemExit():
            return EX_IOERR  # whoever read us has seen enough; click makes an exit of it
        case OSError():
            _complain(OutputError(f"cannot write the output: {error.strerror or error}"))
            return EX_IOERR
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    _complain(SshbellError(f"a fault of sshbell itself: {type(error).__name__}: {error} at {place}; please report it"))
    return EX_SOFTWARE


def _complain(error: SshbellError) -> None:
    with suppress(OSError):  # where even that cannot be written, the exit code has to do
        click.echo(f"sshbell: {harmless(str(error))}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sshbell", message="%(prog)s %(version)s")
def main() -> None:
    """
    Rings when somebody logs in over SSH.

    Reads sshd, dropbear and PAM lines in any framing: rsyslog's file and JSON formats, RFC 5424,
    journalctl's short and json outputs, BusyBox, macOS.

    \b
    Who logged in, from where, with which key, for how long:
        sshbell replay /var/log/auth.log*
    What each line says, as JSON:
        journalctl -u ssh -o json | sshbell parse
    Why a line was read as it was:
        sshbell explain 'Nov 22 10:00:00 web1 sshd[1]: Accepted password for ...'
    """


# For the completion of names; what cannot be read is said when it is its turn.
_FILE = click.Path(readable=False)


def _number(least: int, most: int) -> click.IntRange:
    number = click.IntRange(least, most)
    number.name = f"number from {least} to {most}"  # in messages
    return number


def _zone(_context: click.Context, _parameter: click.Parameter, name: str | None) -> "tzinfo":
    from consumer.framing.timestamps import local_zone, zone_of

    if name is None:
        return local_zone()
    try:
        return zone_of(name)
    except ValueError as error:
        raise click.BadParameter(f"{error}; give a name such as Europe/Paris, UTC, or an offset such as +02:00") from error


def _reading(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all commands that read lines; they give the command a matcher."""

    @click.option(
        "--year", type=_number(1970, 9999), metavar="YEAR", help="Year of each file's first line, where lines name none."
    )
    @click.option(
        "--tz",
        "zone",
        callback=_zone,
        metavar="ZONE",
        help="Zone of times that name none, and of replay's table; by default this machine's.",
    )
    @click.option(
        "--engine",
        type=click.Choice(["lowered", "pyparsing"]),
        default="lowered",
        show_default=True,
        help="Run the grammars as compiled patterns, or as they are written.",
    )
    @click.option("--config", type=click.Path(dir_okay=False), help="Configuration file; by default /etc/sshbell/sshbell.toml.")
    @wraps(command)
    def with_matcher(*args: Any, engine: str, config: str | None, **kwargs: Any) -> None:
        from consumer.config import load
        from consumer.matching.matcher import Matcher

        command(*args, matcher=Matcher(load(config).sshd_programs, "pyparsing" if engine == "pyparsing" else "lowered"), **kwargs)

    return with_matcher


@main.command(short_help="Say what each line says as JSON.")
@click.argument("files", nargs=-1, metavar="[FILE...]", type=_FILE)
@_reading
def parse(files: tuple[str, ...], matcher: "Matcher", year: int | None, zone: "tzinfo") -> None:
    """
    Say what each line says: one JSON object (Elastic Common Schema) a line of sshd, PAM or dropbear.

    Other programs' lines give nothing. Reads standard input without a FILE, or with "-".

    \b
        sshbell parse /var/log/auth.log | jq 'select(.event.action == "accepted")'
        tail -F /var/log/secure | sshbell parse
    """
    from consumer.parse import parse_file

    write = sys.stdout.buffer
    errors: list[SshbellError] = []
    for path in files or ("-",):
        try:
            for line in parse_file(path, matcher, zone, year):
                write.write(line)
                if path == "-":
                    write.flush()
        except SshbellError as error:
            errors.append(error)
    write.flush()
    _end(errors)


def _end(errors: list[SshbellError]) -> None:
    """Say what went wrong with some of the files, after all others have been read."""
    for error in errors[:-1]:
        _complain(error)
    if errors:
        raise errors[-1]


@main.command(short_help="Show how a line was read and why.", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, metavar="LINE")
@_reading
def explain(words: tuple[str, ...], matcher: "Matcher", year: int | None, zone: "tzinfo") -> None:
    """
    Show how a LINE was framed, which rule took which part, and what it became.

    Where no rule reads it: how far the best one got. "-" reads lines from standard input.

    \b
        sshbell explain 'sshd[812]: Failed password for root from 192.0.2.7 port 4711 ssh2'
        grep -a 'sshd' /var/log/auth.log | tail -n 1 | sshbell explain -
    """
    from consumer.explain import explain_lines

    if len(words) > 1:
        raise UsageError("LINE has to be one argument: put it within single quotes, or pipe it into: sshbell explain -")
    for text in explain_lines(words[0], matcher, zone, year):
        click.echo("\n".join(harmless(part) for part in text.split("\n")))


@main.command(short_help="Tell who logged in and from where and for how long.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option("--format", "form", type=click.Choice(["table", "json", "none"]), default="table", show_default=True,
              help="A table for people, JSON lines for programs, or the summary alone.")  # fmt: skip
@click.option(
    "--since",
    metavar="TIME",
    help="Only what happened at or after TIME (2026-11-22 or 2026-11-22T10:00), or not longer ago (90m or 36h or 7d or 2w).",
)
@click.option("--until", metavar="TIME", help="Only what happened before TIME.")
@click.option("--user", help="Only this user.")
@click.option("--host", help="Only this host.")
@click.option("--jobs", type=_number(1, 256), metavar="N", help="Processes that read and match; by default one per core.")
@_reading
def replay(files: tuple[str, ...], matcher: "Matcher", form: str, since: str | None, until: str | None,
           user: str | None, host: str | None, jobs: int | None, year: int | None, zone: "tzinfo") -> None:  # fmt: skip
    """
    Tell what happened: who logged in, from where, with which key, for how long.

    FILEs may be plain, .gz, .bz2, .xz or .zst; several are put in the order of their times. "-" is standard input.

    \b
        sshbell replay /var/log/auth.log*
        sshbell replay --since 7d --user root /var/log/secure
        sshbell replay --format json auth.log | jq 'select(.event.action == "ssh_login")'
    """
    from consumer.replay import Replay
    from consumer.selection import Selection
    from consumer.table import Table, summary_text

    try:
        selection = Selection.of(since, until, user, host, zone)
    except ValueError as error:
        raise UsageError(str(error)) from error
    paths: list[str] = []
    tell: Callable[[Event], None]
    if form == "json":
        from consumer.ecs import json_line, of_event

        out = sys.stdout.buffer

        def tell(event: "Event") -> None:
            out.write(json_line(of_event(event, paths)))

    elif form == "table":
        table = Table(zone, color=_in_color(), width=_width())

        def tell(event: "Event") -> None:
            if row := table.row(event):
                click.echo(row)

    else:

        def tell(event: "Event") -> None:
            pass

    with _progress(list(files), visible=form == "none" or not sys.stdout.isatty()) as progress:
        replayed = Replay(
            matcher, zone=zone, year=year, jobs=jobs or len(os.sched_getaffinity(0)), keep_text=form == "json", tell=tell,
            progress=progress, paths=paths, takes=None if selection.is_all else selection.takes,
        )  # fmt: skip
        summary = replayed.run(list(files))
    sys.stdout.flush()
    if paths:
        click.echo(summary_text(summary), err=form == "json")
    if paths and not selection.is_all and not summary.events:
        click.echo("sshbell: nothing that happened is what --since, --until, --user and --host ask for", err=True)
    _end(replayed.errors)


def _in_color() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int | None:
    from shutil import get_terminal_size

    return get_terminal_size().columns if sys.stdout.isatty() else None


class _progress:  # noqa: N801 - used as a function
    """A bar on standard error, where a person looks at it; told of bytes read so far of the current file."""

    def __init__(self, paths: list[str], *, visible: bool) -> None:
        self._bar: Any = None
        self._done = self._last = 0
        size = sum(Path(path).stat().st_size for path in paths if Path(path).is_file())
        if visible and sys.stderr.isatty() and size > 1 << 20:
            self._bar = click.progressbar(length=size, label="reading", file=sys.stderr)

    def __enter__(self) -> Callable[[int], None]:
        if self._bar is not None:
            self._bar.__enter__()
        return self._to

    def _to(self, position: int) -> None:
        if self._bar is not None:
            self._bar.update(position - self._last if position >= self._last else position)
            self._last = position

    def __exit__(self, *details: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*details)


@main.command(short_help="Print a script that completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print a script that completes sshbell's commands and options in SHELL.

    \b
        echo 'eval "$(sshbell completion bash)"' >> ~/.bashrc
        echo 'autoload -Uz compinit && compinit; eval "$(sshbell completion zsh)"' >> ~/.zshrc
        mkdir -p ~/.config/fish/completions
        sshbell completion fish > ~/.config/fish/completions/sshbell.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(main, {}, "sshbell", "_SSHBELL_COMPLETE").source())
