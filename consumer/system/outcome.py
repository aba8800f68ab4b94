"""The outcomes of checks, and the context for the checks of sshbell itself."""

from pathlib import Path
from typing import Literal, NamedTuple

from consumer.config import Config
from consumer.rights import Account
from consumer.system.accounts import Accounts
from consumer.system.rsyslog_conf import RsyslogConfig

CheckState = Literal["ok", "warning", "fault"]

INSTALL = "sudo sshbell install"
AS_ROOT = "run it as root to check this: sudo sshbell check"


class Outcome(NamedTuple):
    """A result, the reason in words, and how to fix the fault."""

    state: CheckState
    text: str
    advice: str = ""


class Context(NamedTuple):
    """
    The state of the system, read once for all checks of sshbell itself.

    Attributes:
        place: the configuration file, which may be missing if it is the default one.
        config: the settings.
        rsyslog: rsyslogd's configuration; None if sshbell cannot read it.
        user: the user that ``run`` changes to.
        account: the ids of this user; None if the user does not exist.
        connect: whether to connect to the server of each channel.
    """

    place: Path
    config: Config
    rsyslog: RsyslogConfig | None
    user: str
    account: Account | None
    connect: bool


def context_of(place: Path, config: Config, rsyslog: RsyslogConfig | None, *, connect: bool) -> Context:
    """Return the context of a configuration."""
    user = (rsyslog.user if rsyslog is not None else None) or config.user or "root"
    return Context(place, config, rsyslog, user, Accounts(Path("/")).user(user), connect)


def ok(text: str) -> Outcome:
    """Return the outcome of a check that found no fault."""
    return Outcome("ok", text)


def warning(text: str, advice: str) -> Outcome:
    """Return the outcome of a check that found a possible fault."""
    return Outcome("warning", text, advice)


def fault(text: str, advice: str = "") -> Outcome:
    """Return the outcome of a check that found a fault."""
    return Outcome("fault", text, advice)


def outcome_of(error: OSError) -> Outcome:
    """Return the outcome of a check that could not read a file."""
    text = f"{error.filename}: {error.strerror}"
    return warning(text, AS_ROOT) if isinstance(error, PermissionError) else fault(text)
