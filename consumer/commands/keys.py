"""``sshbell keys``."""

import sys

import click

from consumer.commands.options import CONFIG, FILE
from consumer.errors import UsageError


@click.group(short_help="Copy the owners of keys from the hosts to a relay.")
def keys() -> None:
    """
    Copy the owners of keys from the hosts to a relay, so that its messages and tables name them.

    \b
        ssh root@web1 sshbell keys export > web1.json
        sshbell keys import web1.json
    """


@keys.command("export", short_help="Write the keys of this host's accounts.")
@click.option("--host", metavar="NAME", help="This host's name in its log lines; by default its hostname.")
def export(host: str | None) -> None:
    """
    Write the keys of all accounts of this host to standard output, with their comments, as JSON lines.

    These are the keys that sshd would accept from files: AuthorizedKeysFile and TrustedUserCAKeys. sshbell reads each home
    directory with the rights of its user. It skips and reports one that takes longer than 5 s. Only root can do this.

    \b
        sudo sshbell keys export > web1.json
    """
    import re
    import socket

    from consumer.clock import isoformat, now_us
    from consumer.errors import InputError, complain
    from consumer.keys.document import FORMAT, VERSION, Head, written
    from consumer.keys.export import exported_keys, want_root

    name = host or socket.gethostname()
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", name):
        raise UsageError(f"--host: {name!r} is not a host name")
    want_root()
    head = Head(FORMAT, VERSION, name, isoformat(now_us()))
    for line in written(head, exported_keys(lambda fault: complain(InputError(fault)))):
        sys.stdout.buffer.write(line)


@keys.command("import", short_help="Import the keys of other hosts.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option("--host", metavar="NAME", help="Host of these keys, named as in its log lines; by default FILE without .json.")
@CONFIG
def import_(files: tuple[str, ...], host: str | None, config: str | None) -> None:
    """
    Import the keys of other hosts, and replace the earlier keys of these hosts; "-" is standard input.

    A host can only name its own keys: web1.json, or --host web1, has to be an export from web1. A truncated or invalid file
    changes nothing.

    \b
        sshbell keys import web1.json db1.example.org.json
        ssh root@web1 sshbell keys export | sshbell keys import --host web1 -
    """
    from contextlib import ExitStack
    from pathlib import Path

    from consumer.clock import now_us
    from consumer.config_file import load
    from consumer.errors import InputError, SshbellError, complain, end_with
    from consumer.keys.document import Document, arrived
    from consumer.keys.index import imported
    from consumer.process.privileges import as_sshbell

    if host is not None and len(files) > 1:
        raise UsageError("--host works with one FILE only; give several files names such as web1.json")
    if host is None and "-" in files:
        raise UsageError("name the host of the keys on standard input: --host web1")
    found = load(config)
    errors: list[SshbellError] = []
    with ExitStack() as stack:
        streams = []
        # The caller opens the files. sshbell's user does everything else, because their contents are not trustworthy.
        for name in files:
            try:
                streams.append((name, sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))))
            except OSError as error:
                errors.append(InputError(f"{name}: {error.strerror}"))
        as_sshbell(found)
        for name, stream in streams:
            whose = host or Path(name).name.removesuffix(".jsonl").removesuffix(".json")
            try:
                with arrived(stream, name) as whole:
                    count = imported(
                        Path(found.state_dir), Document(whole, name), whose, lambda what: complain(InputError(what)),
                        now_us(),
                    )  # fmt: skip
            except SshbellError as error:
                errors.append(error)
            else:
                click.echo(f"{whose}: {count:,} keys")
    end_with(errors)
