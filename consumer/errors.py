"""All errors that sshbell raises on purpose, with their exit codes (sysexits.h)."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from consumer.text import harmless


class SshbellError(Exception):
    """The base class. The command line exits with ``exit_code``; the text includes what to do next."""

    exit_code = 70


class UsageError(SshbellError):
    """A wrong command line: EX_USAGE."""

    exit_code = 64


class DataError(SshbellError):
    """Invalid input, such as a truncated archive: EX_DATAERR."""

    exit_code = 65


class InputError(SshbellError):
    """A file that cannot be opened or read: EX_NOINPUT."""

    exit_code = 66


class OutputError(SshbellError):
    """Output that cannot be written, for example to a full disk: EX_IOERR."""

    exit_code = 74


class RightsError(SshbellError):
    """Something that only root may do, or that would give root's rights to others: EX_NOPERM."""

    exit_code = 77


class ConfigError(SshbellError):
    """A configuration that cannot be used: EX_CONFIG. Only a start and an installation raise it. Each argument is one fault."""

    exit_code = 78

    def __str__(self) -> str:
        """Return all faults in one line."""
        return "; ".join(map(str, self.args))


class ConfigRightsError(ConfigError):
    """A configuration that the current user may not read: EX_NOPERM."""

    exit_code = 77


class SecretError(SshbellError):
    """A password or token that cannot be read, or that others can read: EX_CONFIG. The text never has a part of the secret."""

    exit_code = 78


class LoweringError(SshbellError):
    """A grammar that cannot be lowered to a regular expression without a change of meaning: an error in sshbell itself."""


class StoreError(SshbellError):
    """State that cannot be written or read now; ``run`` makes rsyslog wait: EX_IOERR."""

    exit_code = 74


class NewerStoreError(StoreError):
    """State that a newer sshbell has written: this one never writes it again."""


class DamagedStoreError(StoreError):
    """State that stays unusable, however long you wait: ``State.renew`` sets the file aside."""


class UndeliveredError(SshbellError):
    """A message that a channel will never accept: EX_UNAVAILABLE."""

    exit_code = 69


class UnavailableError(SshbellError):
    """A part of the way from sshd to the store that does not work: EX_UNAVAILABLE."""

    exit_code = 69


class TryLaterError(SshbellError):
    """Something that may work later, such as a channel that is down: EX_TEMPFAIL."""

    exit_code = 75


def missing_package(error: ImportError, extra: str) -> UnavailableError:
    """Return the error of a command that needs an extra of sshbell, which is not installed."""
    return UnavailableError(f"{error.name} is missing; run: /opt/sshbell/bin/pip install 'sshbell[{extra}]'")


def complain(error: SshbellError) -> None:
    """Print an error on standard error, in one line."""
    with suppress(OSError):  # if even that fails, the exit code has to suffice
        print(f"sshbell: {harmless(str(error))}", file=sys.stderr, flush=True)  # noqa: T201 - the purpose of this function


def end_with(errors: Sequence[SshbellError]) -> None:
    """Print the errors of some files, after all other files have been read; raise the last one."""
    for error in errors[:-1]:
        complain(error)
    if errors:
        raise errors[-1]
