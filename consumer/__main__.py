"""
The command ``sshbell``, also as ``python -m consumer``.

A login waits for ``sshbell pam challenge`` and ``sshbell pam verify``, and a script may run ``sshbell block check`` at each
login. So these three start without the command line's library.
"""

import gc
import os
import sys
from pathlib import Path
from typing import NoReturn

from consumer.state_dir import DEFAULT_PATH


def main() -> None:
    """Run a command, and exit with its code."""
    match sys.argv[1:]:
        case ["pam", "challenge" | "verify" as half]:
            _pam(half, DEFAULT_PATH)
        case ["pam", "challenge" | "verify" as half, "--config", path]:
            _pam(half, path)
        case ["block", "check", *words]:
            _block_check(words)
    from consumer.cli import main as command_line  # noqa: PLC0415 - see above

    command_line()


def _pam(half: str, config: str) -> NoReturn:
    # To collect garbage, and to take the interpreter down in order, takes a fifth of the time of these commands.
    gc.disable()
    from consumer.codes import run  # noqa: PLC0415 - other commands do not need it

    os._exit(run.challenge(config) if half == "challenge" else run.verify(config))


def _block_check(words: list[str]) -> None:
    """Print the answer, and exit. Return if it takes the command line to read these words, or to report an error."""
    targets: list[str] = []
    user, as_json = "", False
    config: str | None = None
    while words:
        match words:
            case ["--json", *words]:
                as_json = True
            case ["--user", user, *words]:
                pass
            case ["--config", config, *words]:
                pass
            case [target, *words] if not target.startswith("-"):
                targets.append(target)
            case _:
                return
    is_readable = config is None or (Path(config).is_file() and os.access(config, os.R_OK))
    if len(targets) != 1 or not is_readable or sys.stdout is None:
        return
    gc.disable()
    from consumer.guard import check  # noqa: PLC0415 - other commands do not need it

    try:
        lines, is_blocked = check.check(targets[0], user, config, as_json=as_json)
        os.write(1, lines.encode(sys.stdout.encoding, "backslashreplace"))
    except Exception:  # noqa: BLE001 - the command line asks again, and reports the error as it reports all others
        gc.enable()
        return
    os._exit(int(is_blocked))


if __name__ == "__main__":
    main()
