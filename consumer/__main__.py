"""
The command ``sshbell``, also as ``python -m consumer``.

A login waits for ``sshbell pam challenge`` and ``sshbell pam verify``, so those two start without the command line's library.
"""

import sys

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


def _pam(half: str, config: str) -> None:
    from consumer.codes import run  # noqa: PLC0415 - other commands do not need it

    sys.exit(run.challenge(config) if half == "challenge" else run.verify(config))


if __name__ == "__main__":
    main()
