"""The allow list: loopback, this host's own addresses, and the sources in the configuration."""

import os
import re
import socket
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

from consumer.block.target import Target, is_too_wide, network_target
from consumer.clock import SECOND_US, utc
from consumer.config import Allow
from consumer.errors import SshbellError
from consumer.process.command import run_command
from consumer.store.block import AllowedRow

THIS_HOST = "this host"
_LOOPBACK = ("127.0.0.0/8", "::1")
# Lines of one file or answer, addresses of one name, and characters of a line.
ALLOWED_LIMIT, ALLOWED_LINE_LIMIT = 1000, 300
ALLOWED_COMMAND_LIMIT_S = 10.0
_OUTPUT_LIMIT = 1 << 16
_DAY_S = 86_400
_LAST_S = 253_402_300_799  # 9999-12-31 23:59:59 UTC
_LINE = re.compile(r"\s*(?P<address>[^\s#]+)(?:\s+until\s+(?P<until>\d{4}-\d\d-\d\d))?\s*(?:#\s*(?P<reason>.*?)\s*)?")
_LOCAL = re.compile(r"^ +\|-- ([0-9.]+)\n +/32 host LOCAL$", re.MULTILINE)


class AllowFaultError(SshbellError):
    """A source of the allow list that cannot be read now; its last good answer counts."""

    exit_code = 75


def allow_source(allow: Allow) -> str:
    """Return the name of a source, as ``sshbell block list`` shows it."""
    if allow.command:
        return f"command {allow.command[0]}"
    return f"name {allow.name}" if allow.name else f"file {allow.file}" if allow.file else "sshbell.toml"


def own_addresses(proc: Path = Path("/proc")) -> list[AllowedRow]:
    """Return loopback and this host's addresses, as the kernel lists them; without those it does not show."""
    texts = list(_LOOPBACK)
    try:
        texts += _LOCAL.findall((proc / "net/fib_trie").read_text("ascii"))
        texts += [
            str(IPv6Address(bytes.fromhex(line.split()[0]))) for line in (proc / "net/if_inet6").read_text("ascii").splitlines()
        ]
    except (OSError, ValueError, IndexError):
        pass  # a kernel without IPv6, or a /proc that shows little
    targets = {network_target(text).text for text in texts}
    return [
        AllowedRow(THIS_HOST, text, "an address of this host", None)
        for text in sorted(targets)
        if not (text.startswith("127.") and text != _LOOPBACK[0])
    ]


def answer_of(allow: Allow) -> list[AllowedRow]:
    """
    Ask a source, which may take long, and return its rows.

    Raises:
        AllowFaultError: it gives no answer, or an invalid one.
    """
    source, until_us = allow_source(allow), _end_of(allow.until)
    if allow.address:
        return [AllowedRow(source, network_target(allow.address).text, allow.reason, until_us)]
    if allow.name:
        return [AllowedRow(source, text, allow.reason, until_us) for text in _looked_up(allow.name)]
    rows = [
        AllowedRow(source, target.text, reason or allow.reason, min(filter(None, (until_us, until)), default=None))
        for target, until, reason in _lines(_text_of(allow), source)
    ]
    return list({row.target: row for row in rows}.values())


def _looked_up(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AllowFaultError(f"name {name}: {error}") from error
    addresses = sorted({network_target(str(where[0])).text for *_, where in found})
    if len(addresses) > ALLOWED_LIMIT:
        raise AllowFaultError(f"name {name}: it has more than {ALLOWED_LIMIT:,} addresses")
    return addresses


def _text_of(allow: Allow) -> str:
    if allow.file:
        try:
            # To open a pipe, or read from a terminal, would wait for ever.
            with os.fdopen(os.open(allow.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise AllowFaultError(f"file {allow.file}: it is no regular file")
                data = file.read(_OUTPUT_LIMIT + 1)
        except OSError as error:
            raise AllowFaultError(f"file {allow.file}: {error.strerror}") from error
        if len(data) > _OUTPUT_LIMIT:
            raise AllowFaultError(f"file {allow.file}: it has more than 64 KiB")
    else:
        done = run_command(allow.command, limit_s=ALLOWED_COMMAND_LIMIT_S, output_limit=_OUTPUT_LIMIT)
        if done.fault:
            raise AllowFaultError(f"command {allow.command[0]}: {done.fault}")
        data = done.output
    return data.decode("utf-8", "replace")


def _lines(text: str, source: str) -> Iterable[tuple[Target, int | None, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line) if len(line) <= ALLOWED_LINE_LIMIT else None
        try:
            if found is None or number > ALLOWED_LIMIT:
                raise ValueError("write: ADDRESS until YYYY-MM-DD # reason")  # noqa: TRY301
            target, until_us = network_target(found["address"]), _end_of(found["until"] or "")
            if is_too_wide(target):
                raise ValueError(f"{target.text} holds a large part of the world")  # noqa: TRY301
        except ValueError as error:
            raise AllowFaultError(f"{source}, line {number}: {error}") from error
        yield target, until_us, (found["reason"] or "")


def _end_of(day: str) -> int | None:
    """Return the end of a day in UTC; None for "". Raises a ValueError if there is no such day."""
    if not day:
        return None
    # No day follows the last one of the calendar, and no time after it can be shown.
    return min(round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) + _DAY_S, _LAST_S) * SECOND_US


def answers(
    sources: Iterable[Allow], before: Iterable[AllowedRow], now_us: int, report: Callable[[str], None], *, may_wait: bool = True
) -> list[AllowedRow]:
    """
    Ask all sources, one after the other, and return the allow list; of a source that fails, its rows from ``before``.

    Args:
        sources: of the configuration.
        before: the last answers.
        now_us: the wall clock; rows that have ended are left out.
        report: gets one line about each source that fails.
        may_wait: False asks only the kernel and the configuration itself; of other sources, the rows from ``before`` count.
    """
    known = list(before)
    rows = own_addresses()
    for allow in sources:
        try:
            if not may_wait and not allow.address:
                raise AllowFaultError(f"{allow_source(allow)} has not been asked yet")  # noqa: TRY301
            rows += answer_of(allow)
        except AllowFaultError as error:
            report(f"{error}; its last good answer counts")
            rows += [row for row in known if row.source == allow_source(allow)]
    return [row for row in rows if row.until_us is None or row.until_us > now_us]


def end_text(until_us: int | None) -> str:
    """Return the end of an entry of the allow list, for people."""
    return "" if until_us is None else f"until {utc(until_us - SECOND_US):%Y-%m-%d}"
