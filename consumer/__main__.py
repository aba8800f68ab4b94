"""
The command ``sshbell``, also as ``python -m consumer``.

A login waits for ``sshbell pam challenge`` and ``sshbell pam verify``, so those two start without the command line's library.
"""

import gc
import os
import sys
from typing import NoReturn

from consumer.state_dir import DEFAULT_PATH


def main() -> None:
    """Run a command, and exit with its code."""
    match sys.argv[1:]:
        case ["pam", "challenge" | "verify" as half]:
            _pam(half, DEFAULT_PATH)
        case ["pam", "challenge" | "verify" as half, "--config", path]:
            _pam(half, path)
    from consumer.cli import main as command_line  # noqa: PLC0415 - see above

    command_line()


def _pam(half: str, config: str) -> NoReturn:
    # To collect garbage, and to take the interpreter down in order, takes a fifth of the time of these commands.
    gc.disable()
    from consumer.codes import run  # noqa: PLC0415 - other commands do not need it

    os._exit(run.challenge(config) if half == "challenge" else run.verify(config))


if __name__ == "__main__":
    main()
