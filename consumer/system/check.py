"""``sshbell check``: one row for each check, with advice for each fault."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from consumer.config import Config
from consumer.config_file import load
from consumer.errors import ConfigError, ConfigRightsError
from consumer.state_dir import DEFAULT_PATH
from consumer.system import check_codes, check_rsyslog, check_sshbell
from consumer.system.check_sshd import sshd
from consumer.system.outcome import AS_ROOT, CheckState, Outcome, context_of, fault, outcome_of, warning


class Result(msgspec.Struct, frozen=True):
    """One row: the name of the check, its result, the reason in words, and how to fix the fault."""

    name: str
    state: CheckState
    text: str
    advice: str = ""


def run_checks(path: str | None, *, connect: bool) -> Iterator[Result]:
    """
    Yield the results of all checks. A check that cannot read a file yields a result, too.

    Args:
        path: of the configuration; None for the default file, which may be missing.
        connect: whether to connect to the server of each channel.
    """
    rsyslog, outcomes = check_rsyslog.read_configuration()
    yield from _results("rsyslog", outcomes)
    config, outcomes = _read_configuration(path)
    yield from _results("configuration", outcomes)
    if config is not None:
        context = context_of(Path(path or DEFAULT_PATH), config, rsyslog, connect=connect)
        for name, check in check_sshbell.CHECKS.items():
            yield from _results(name, check(context))
    sshd_programs, catch_up = ([], "") if config is None else (config.sshd_programs, config.catch_up)
    # Workers read their lines from Kafka, and rsyslogd may be on other machines.
    has_workers = config is not None and bool(config.worker.brokers)
    if not has_workers:
        yield from _results("entry point", check_rsyslog.entry_point())
        yield from _results("drop-in", check_rsyslog.drop_in(rsyslog, sshd_programs))
    if rsyslog is not None and not has_workers:
        yield from _results("trusted", check_rsyslog.trusted(rsyslog))
    yield from _results("journald", check_rsyslog.journald())
    yield from _results("sshd", sshd(catch_up))
    if config is not None:
        # Without "connect": "channels" has connected to all of them.
        context_of_codes = check_codes.CodesContext(config, service=check_codes.sshd_service())
        is_in_use = check_codes.is_in_use(context_of_codes)
        for check_of_codes in check_codes.CODES_CHECKS.values() if is_in_use else ():
            yield from _results("codes", check_of_codes(context_of_codes))


def run_code_checks(path: str | None, *, connect: bool, service: str | None, sshd_config: str) -> Iterator[Result]:
    """
    Yield the results of the checks of one-time codes.

    Args:
        path: of the configuration; None for the default file.
        connect: whether to connect to the server of each channel for codes.
        service: of PAM; None for that of sshd.
        sshd_config: sshd's configuration file.
    """
    config, outcomes = _read_configuration(path)
    yield from _results("configuration", outcomes)
    if config is not None:
        context_of_codes = check_codes.CodesContext(
            config, connect, service or check_codes.sshd_service(sshd_config), sshd_config
        )
        for name, check_of_codes in check_codes.CODES_CHECKS.items():
            yield from _results(name, check_of_codes(context_of_codes))


def _results(name: str, outcomes: Iterable[Outcome]) -> Iterator[Result]:
    try:
        for outcome in outcomes:
            yield Result(name, *outcome)
    except OSError as error:
        yield Result(name, *outcome_of(error))


def _read_configuration(path: str | None) -> tuple[Config | None, list[Outcome]]:
    """Return the settings; or None and the reasons."""
    try:
        return load(path), []
    except ConfigRightsError as error:
        return None, [warning(str(error), AS_ROOT)]
    except ConfigError as error:
        return None, [fault(text) for text in error.args]
