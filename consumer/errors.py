"""Every error that sshbell raises on purpose, and the exit code it becomes (sysexits.h)."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from consumer.text import harmless


class SshbellError(Exception):
    """Base of all: ``exit_code`` is what the command line ends with; the text says what to do next."""

    exit_code = 70


class UsageError(SshbellError):
    """A command line that cannot be meant: EX_USAGE."""

    exit_code = 64


class DataError(SshbellError):
    """Input that is not what its name says, such as a truncated archive: EX_DATAERR."""

    exit_code = 65


class InputError(SshbellError):
    """A file that cannot be opened or read: EX_NOINPUT."""

    exit_code = 66


class OutputError(SshbellError):
    """Output that cannot be written, such as on a full disk: EX_IOERR."""

    exit_code = 74


class RightsError(SshbellError):
    """Something that only root may do, or that would let others do what root may: EX_NOPERM."""

    exit_code = 77


class ConfigError(SshbellError):
    """A configuration that cannot be used; found at start only: EX_CONFIG. Each argument is one thing that is wrong with it."""

    exit_code = 78

    def __str__(self) -> str:
        """Return all of it in one line."""
        return "; ".join(map(str, self.args))


class ConfigRightsError(ConfigError):
    """A configuration that whoever runs this may not read: EX_NOPERM."""

    exit_code = 77


class SecretError(SshbellError):
    """A password or token that is not to be had, or that others can read: EX_CONFIG. It never holds any of it."""

    exit_code = 78


class LoweringError(SshbellError):
    """A grammar that cannot be lowered to a regular expression without changing its meaning: a fault of ours."""


class StoreError(SshbellError):
    """State that cannot be written or read now; ``run`` makes rsyslog wait: EX_IOERR."""

    exit_code = 74


class DamagedStoreError(StoreError):
    """State that waiting does not mend: ``State.renew`` sets the file aside."""


class UndeliveredError(SshbellError):
    """A message that a channel will never take: EX_UNAVAILABLE."""

    exit_code = 69


class TryLaterError(SshbellError):
    """Something that may work later, such as a channel that is down: EX_TEMPFAIL."""

    exit_code = 75


def complain(error: SshbellError) -> None:
    """Say on standard error, in one line, what went wrong."""
    with suppress(OSError):  # where even that cannot be written, the exit code has to do
        print(f"sshbell: {harmless(str(error))}", file=sys.stderr, flush=True)  # noqa: T201 - what this is for


def end_with(errors: Sequence[SshbellError]) -> None:
    """Say what went wrong with some of the files, after all others have been read; the last one is raised."""
    for error in errors[:-1]:
        complain(error)
    if errors:
        raise errors[-1]
