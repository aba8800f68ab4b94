"""The Python that rsyslogd runs as root, and where its code comes from."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from consumer.process.command import run_command
from consumer.rights import untrusted, untrusted_below

# A Python from a slow disk takes seconds; one that answers never is none.
_LIMIT_S, _OUTPUT_LIMIT_BYTES = 30.0, 1 << 20
# What the interpreter says of itself when nothing of the environment is believed.
_ASKED = """
import os, sys, consumer, grammars
found = [*sys.path, *consumer.__path__, *grammars.__path__, os.path.join(sys.prefix, "pyvenv.cfg")]
print(*dict.fromkeys(found), sep="\\0", end="")
"""


def this_interpreter() -> Path:
    """Return the interpreter that runs us, by the name that makes it find its environment."""
    return Path(os.path.abspath(sys.executable))  # noqa: PTH100 - resolve() would leave the environment


def code_of(interpreter: Path) -> list[Path] | None:
    """Return from where an interpreter takes sshbell and all that it needs; None where it does not find it by itself."""
    done = run_command([interpreter, "-I", "-c", _ASKED], limit_s=_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES)
    if done.fault:
        return None
    return [Path(text) for text in os.fsdecode(done.output).split("\0") if text]


def untrusted_code(interpreter: Path, code: Iterable[Path], root: Path = Path("/")) -> str | None:
    """Return why others than root could change what an interpreter runs, or None."""
    if reason := untrusted(interpreter, root):
        return reason
    done: list[Path] = []
    for folder in sorted(set(code), key=lambda path: len(path.parts)):
        if any(folder.is_relative_to(parent) for parent in done):
            continue
        done.append(folder)
        if reason := untrusted_below(folder, root) if folder.is_dir() else untrusted(folder, root):
            return reason
    return None
