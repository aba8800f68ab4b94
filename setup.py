"""
Compiles the stages that every line passes through to extension modules, with mypyc.

It also lowers the rules of the grammars, so that a start need not do it.

``pip install .`` and ``make wheel`` compile them if there are a C compiler and Python's headers; otherwise, or with
``SSHBELL_PURE=1``, they build the plain package. The source is the same. ``pyproject.toml`` has everything else.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# Only what runs for each line or event. mypyc cannot compile msgspec's structs. It gains nothing where regular expressions do the
# work.
# msgspec must not read a NamedTuple of these modules: see consumer/detect/entries.py.
STAGES = (
    "consumer/detect/block_policy.py",
    "consumer/detect/bounded_table.py",
    "consumer/detect/detectors.py",
    "consumer/detect/findings.py",
    "consumer/detect/first_seen.py",
    "consumer/detect/guessing.py",
    "consumer/detect/host_lines.py",
    "consumer/detect/impossible_travel.py",
    "consumer/detect/key_in_two_places.py",
    "consumer/detect/logins.py",
    "consumer/detect/many_accounts.py",
    "consumer/detect/many_addresses.py",
    "consumer/detect/networks.py",
    "consumer/detect/password_despite_key.py",
    "consumer/detect/root_by_password.py",
    "consumer/detect/scanning.py",
    "consumer/detect/slow_guessing.py",
    "consumer/detect/sshd_health.py",
    "consumer/detect/sshd_penalty.py",
    "consumer/detect/success_after_failures.py",
    "consumer/detect/tries.py",
    "consumer/framing/framer.py",
    "consumer/framing/timestamps.py",
    "consumer/matching/matcher.py",
    "consumer/matching/memory.py",
    "consumer/matching/rules.py",
    "consumer/recent.py",
    "consumer/story/attempts.py",
    "consumer/story/connection.py",
    "consumer/story/connections.py",
    "consumer/story/correlate.py",
    "consumer/story/event_ids.py",
    "consumer/story/forged_lines.py",
    "consumer/story/host.py",
    "consumer/story/known_lines.py",
    "consumer/story/login_codes.py",
    "consumer/story/reporter.py",
    "consumer/story/sessions.py",
    "consumer/story/without_pid.py",
)


def compiled_stages() -> list[Extension]:
    """Return the extension modules to build; none for the plain package."""
    # An editable install stays plain, since a compiled module would hide later edits. Other steps need no modules.
    if "bdist_wheel" not in sys.argv:
        return []
    if os.environ.get("SSHBELL_PURE", "") not in {"", "0"}:
        return _plain("SSHBELL_PURE is set")
    if not _can_compile():
        return _plain("there is no C compiler, or it lacks Python's headers; on Debian and Ubuntu: apt install gcc python3-dev")
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - for a plain package mypy need not be there
    except ImportError as error:
        return _plain(f"mypy cannot be imported ({error})")
    # "make check" checks types strictly and with all libraries. This build must not depend on which of them are installed.
    options = ["--config-file=", "--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent"]
    try:
        # Most of the C code calls Python's own functions. More optimization made no replay faster, and took twice as long.
        found: list[Extension] = mypycify([*options, *STAGES], group_name="sshbell", opt_level="1", debug_level="0")
    except SystemExit:
        return _plain("mypyc cannot compile this source; please report its messages above")
    return found


def _can_compile() -> bool:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", "-x", "c", "-"]
    try:
        done = subprocess.run(command, input=b"#include <Python.h>\n", capture_output=True, check=False)  # noqa: S603
    except OSError:
        return False
    return done.returncode == 0


def _plain(reason: str) -> list[Extension]:
    sys.stderr.write(f"sshbell is built without compiled modules: {reason}\n")
    return []


class BuildWithLoweredRules(build_py):
    """Lowers the rules of all grammars, so that a start need not do it: see ``consumer/matching/grammar_rules.py``."""

    def run(self) -> None:
        """Copy the packages, and write the file."""
        super().run()
        # In an editable install, the grammars may change at any time.
        if not self.editable_mode:
            self._lower()

    def _lower(self) -> None:
        sys.path.insert(0, str(Path(__file__).parent))
        try:
            from consumer.matching import grammar_rules, written_rules  # noqa: PLC0415 - only a wheel needs their libraries
        except ImportError as error:
            sys.stderr.write(f"sshbell will lower its rules at each start: they cannot be imported ({error})\n")
            return
        finally:
            del sys.path[0]
        target = Path(self.build_lib, "consumer", "matching", grammar_rules.RULES_FILE.name)
        target.write_bytes(written_rules.contents_of_file())


class BuildOrLeaveOut(build_ext):
    """Leaves out all extension modules if one of them cannot be built, for example because the memory does not suffice."""

    def run(self) -> None:
        """Build the extension modules. The first one holds all code, so nothing is left behind if it fails."""
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - whatever a compiler or linker does: the plain package works as well
            self.extensions = self.distribution.ext_modules = _plain(f"the compiler has failed ({error})")


setup(ext_modules=compiled_stages(), cmdclass={"build_ext": BuildOrLeaveOut, "build_py": BuildWithLoweredRules})
