"""The Python that rsyslogd runs as root: where its code comes from, and which other Python to use if this one is unsafe."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from consumer.process.command import run_command
from consumer.rights import unreachable, untrusted, untrusted_below

# Python takes seconds to start from a slow disk. One that never answers is unusable.
_LIMIT_S, _OUTPUT_LIMIT_BYTES = 30.0, 1 << 20
# Makes an interpreter print the paths of its code; -I makes it ignore the environment.
_ASKED = """
import os, sys, consumer, grammars
found = [*sys.path, *consumer.__path__, *grammars.__path__, os.path.join(sys.prefix, "pyvenv.cfg")]
print(*dict.fromkeys(found), sep="\\0", end="")
"""
# Where the system's own Python is, and others for all users.
_FOLDERS = (Path("/usr/bin"), Path("/usr/local/bin"))
_NAME = re.compile(r"python3(?:\.(\d+))?")
_IS_FIT = "import sys; sys.exit(sys.version_info < (3, 11))"
_HOME = Path("/opt/sshbell")


def this_interpreter() -> Path:
    """Return the running interpreter, by the path that makes it find its virtual environment."""
    return Path(os.path.abspath(sys.executable))  # noqa: PTH100 - resolve() would leave the environment


def code_of(interpreter: Path) -> list[Path] | None:
    """Return the paths from which an interpreter loads sshbell and its dependencies; None if it cannot find sshbell by itself."""
    done = run_command([interpreter, "-I", "-c", _ASKED], limit_s=_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES)
    if done.fault:
        return None
    return [Path(text) for text in os.fsdecode(done.output).split("\0") if text]


def untrusted_code(interpreter: Path, code: Iterable[Path], root: Path = Path("/")) -> str | None:
    """Return why users other than root could change the code that an interpreter runs, or None."""
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


def how_to_install(interpreter: Path) -> str:
    """
    Return how to install sshbell so that rsyslogd can run it, with the full path of a suitable Python.

    ``python3`` alone depends on the search path: with pyenv it belongs to a user.
    """
    real = interpreter.resolve()
    python = _system_python()
    if python is None:
        named = "/usr/bin/python3"
        first = "install your system's own Python, 3.11 or later, for example: apt install python3 python3-venv; then "
    else:
        named = str(python)
        is_other = real != python.resolve()
        first = f"it runs with {real}; use {named} instead, whatever python3 is in your path; " if is_other else ""
        if run_command([python, "-I", "-c", "import venv, ensurepip"], limit_s=_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES).fault:
            first += "apt install python3-venv; "
    # Without --clear, an existing environment keeps its old Python.
    clear = " --clear" if (_HOME / "pyvenv.cfg").exists() else ""
    return (
        f"{first}install sshbell where only root can write; in a clone of it: {named} -m venv {_HOME}{clear}; "
        f"{_HOME}/bin/pip install .; {_HOME}/bin/sshbell install"
    )


def _system_python() -> Path | None:
    """Return a Python, 3.11 or later, that all users may run and only root can change; None if there is none."""
    for folder in _FOLDERS:
        found = {int(name[1] or -1): path for path in folder.glob("python3*") if (name := _NAME.fullmatch(path.name))}
        # python3 without a number is the system's, so it is tried first; then the others, newest first.
        for _, path in sorted(found.items(), key=lambda one: (one[0] >= 0, -one[0])):
            if untrusted(path) or unreachable(path):
                continue
            if not run_command([path, "-I", "-c", _IS_FIT], limit_s=_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES).fault:
                return path
    return None
