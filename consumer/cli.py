"""The command line. Each command imports its modules when it runs, so that ``--version`` and completion answer at once."""

import io
import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any, NoReturn

import click

from consumer import __version__
from consumer.errors import OutputError, SshbellError, UsageError, complain

EX_USAGE, EX_SOFTWARE, EX_IOERR = 64, 70, 74
_INTERRUPTED = 130
_DAY_S = 86_400
# Each is a module of consumer.commands with a click command of the same name; a keyword of Python has "_" behind it there.
COMMANDS = (
    "archive", "audit", "block", "canary", "channels", "check", "completion", "deliver", "explain", "geoip", "history", "import",
    "install", "keys", "outbox", "pam", "parse", "people", "replay", "ring", "route", "run", "status", "template", "uninstall",
    "unknown", "who", "worker",
)  # fmt: skip


class _Commands(click.Group):
    """A group that imports commands on demand, ends with EX_USAGE after usage errors, and suggests corrections."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command, and exit with a sysexits code; print no traceback for errors that a user can cause."""
        if sys.stdout is None:
            if sys.argv[1:2] != ["status"]:
                complain(OutputError("standard output is closed"))
                sys.exit(EX_IOERR)
            # The exit code of status is the answer. No file that it opens may get the number of standard output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - of a descriptor
        if sys.stderr is None:
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end of the process
        if max(abs(time.timezone), abs(time.altzone)) >= _DAY_S:
            # POSIX allows this, but Python's times do not: each would raise an error.
            complain(UsageError("TZ is a day or more away from UTC; sshbell uses UTC"))
            os.environ["TZ"] = "UTC"
            time.tzset()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name that the locale's encoding lacks must not end a table.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            # The code that a command passes to click's exit(); None otherwise.
            status = super().main(*args, **(kwargs | {"standalone_mode": False})) or 0
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 - the outermost: one line for every error
            status = _status_of(error)
        # After a write error, the rest of the buffer cannot be written either; Python would complain about it at exit.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        if status:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(status)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        found: click.Command = getattr(import_module(f"consumer.commands.{name}"), name)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command; for an unknown one, explain that options follow the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(f"{error.message} Options follow the command: sshbell replay --tz UTC FILE", ctx) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest a similar one if there is none of that name."""
        from difflib import get_close_matches

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], self.list_commands(ctx), 1)
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?" if close else error.message, ctx) from error


def _status_of(error: BaseException) -> int:
    """Print the error, and return the exit code."""
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
            complain(error)
            return error.exit_code
        case SystemExit(code=0):
            return 0  # click has answered a shell that completes a line
        case BrokenPipeError() | SystemExit():
            return EX_IOERR  # the reader of our output has closed it; click turns this into SystemExit
        case OSError():
            complain(OutputError(f"cannot write the output: {error.strerror or error}"))
            return EX_IOERR
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    complain(SshbellError(f"a fault of sshbell itself: {type(error).__name__}: {error} at {place}; please report it"))
    return EX_SOFTWARE


def _build() -> str:
    """Return whether sshbell runs as compiled modules, which are files beside the sources, and the Python that runs it."""
    from importlib.machinery import EXTENSION_SUFFIXES

    paths = Path(__file__).parent.rglob("*.so")
    count = sum(path.name.removeprefix(path.name.partition(".")[0]) in EXTENSION_SUFFIXES for path in paths)
    form = f"compiled with mypyc ({count} modules)" if count else "plain Python, not compiled"
    return f"build: {form}\nPython {sys.version.partition(' ')[0]}: {sys.executable}"


def _show_version(ctx: click.Context, _option: click.Parameter, is_wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if is_wanted and not ctx.resilient_parsing:
        click.echo(f"sshbell {__version__}")
        if ctx.params.get("is_verbose"):
            click.echo(_build())
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--verbose", "is_verbose", is_flag=True, is_eager=True, help="With --version: also show whether sshbell is compiled."
)
@click.option("--version", is_flag=True, expose_value=False, callback=_show_version, help="Show the version and exit.")
def main(*, is_verbose: bool) -> None:
    """
    Reports SSH logins as they happen, and shows those in old logs.

    Reads lines of sshd, dropbear and PAM in any format: rsyslog's file and JSON formats, RFC 5424,
    journalctl's short and json outputs, BusyBox, macOS.

    \b
    From log files, show who logged in, from where and for how long:
        sshbell replay /var/log/auth.log*
    Turn each line into JSON:
        journalctl -u ssh -o json | sshbell parse
    Explain how sshbell reads a line:
        sshbell explain 'Nov 22 10:00:00 web1 sshd[1]: Accepted password for ...'
    Install sshbell under rsyslog, and check the installation:
        sudo sshbell install
        sudo sshbell check --connect
    Show who is logged in now, and whether sshbell itself is healthy:
        sudo sshbell who
        sudo sshbell status
    Get the places of addresses, and check the owners of keys:
        sudo sshbell geoip fetch
        sudo sshbell people check
    """
    if is_verbose:
        raise click.UsageError("--verbose belongs to --version; commands have options of their own")
