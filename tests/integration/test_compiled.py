"""The compiled build does what the plain one does, byte for byte, and passes the tests of the stages that are compiled."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import __version__
from consumer.rights import untrusted_below
from consumer.system.interpreter import code_of, untrusted_code
from tests import needs, wheels
from tests.bare_machine import on_a_bare_machine
from tests.budget import examples
from tests.integration.both_builds import CompiledBuild, facts_of
from tests.property.strategies import FRAMINGS
from tests.property.test_engines import mutated
from tests.unit.sample_lines import all_samples
from tests.wheels import PROJECT_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# All in one worker of pytest-xdist: each worker would compile the wheel for itself.
pytestmark = pytest.mark.xdist_group("compiled")

CAPTURES = sorted((PROJECT_DIR / "tests" / "samples" / "captures").glob("*/*.log.gz"))
# The tests of the stages, and of what is closest to them.
STAGE_TESTS = ["detect", "framing", "matching", "story", "logs", "test_pipeline.py", "test_text.py"]
LINES = {
    "read": "Nov 22 10:00:00 web1 sshd[1]: Accepted password for alice from 192.0.2.7 port 4711 ssh2",
    "unread": "Nov 22 10:00:00 web1 sshd[1]: Accepted password for alice at 192.0.2.7 port 4711 ssh2",
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the compiled wheel, once for all tests: that takes half a minute."""
    needs.program("cc", "gcc")
    found, said = wheels.built(tmp_path_factory.mktemp("compiled"), {"SSHBELL_PURE": ""})
    assert "without compiled modules" not in said, said[-5000:]
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it alone into a folder."""
    return wheels.installed(wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def compiled(installed: Path) -> Iterator[CompiledBuild]:
    """Start a process of the compiled build."""
    with CompiledBuild(installed) as found:
        yield found


def ended(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run Python with the modules in a folder before all others."""
    env = {**os.environ, "PYTHONPATH": str(folder), "TZ": "UTC"}
    # -P: the working directory, which has the plain modules, is not in the path.
    return subprocess.run([sys.executable, "-P", *map(str, command)], cwd=PROJECT_DIR, env=env, capture_output=True, check=False)


def same_in_both(installed: Path, *arguments: str | Path) -> bytes:
    """Return the output of a command, which both builds give."""
    ours, theirs = (ended("-m", "consumer", *on_a_bare_machine(*arguments), folder=folder) for folder in (PROJECT_DIR, installed))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    return ours.stdout


def test_every_stage_is_compiled(wheel: Path, installed: Path) -> None:
    """A type error, or a compiler that fails, would give the plain package without an error."""
    modules = {path.removesuffix(".py") + EXTENSION_SUFFIXES[0] for path in wheels.stages()}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    assert found == modules | {"sshbell__mypyc" + EXTENSION_SUFFIXES[0]}
    assert "-py3-none-any" not in wheel.name
    said = ended("-m", "consumer", "--version", "--verbose", folder=installed).stdout.decode()
    assert said.startswith(f"sshbell {__version__}\nbuild: compiled with mypyc ({len(modules)} modules)\n")
    said = ended("-m", "consumer", "--verbose", "--version", folder=PROJECT_DIR).stdout.decode()
    assert said.startswith(f"sshbell {__version__}\nbuild: plain Python, not compiled\n")


def test_the_unit_tests_of_the_stages(installed: Path) -> None:
    """They pass, except those that replace methods of the stages."""
    tests = [PROJECT_DIR / "tests" / "unit" / name for name in STAGE_TESTS]
    done = ended(
        "-m", "pytest", "-q", "-p", "tests.integration.compiled_only", "-p", "no:cacheprovider", "-m", "not plain",
        "--hypothesis-profile=fast", "-o", f"pythonpath={installed} .", *tests, folder=PROJECT_DIR,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode()[-5000:] + done.stderr.decode()[-5000:]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_captures(compiled: CompiledBuild, path: Path) -> None:
    """Both builds make the same of every capture: events, snapshots, single lines, counts."""
    log = gzip.decompress(path.read_bytes())
    ours = facts_of(log)
    assert compiled.facts_of(log) == ours
    assert ours["events"]


def test_samples(compiled: CompiledBuild) -> None:
    """Both builds make the same of every sample, in one log and alone."""
    lines = [sample.whole_line.encode("latin-1") + b"\n" for sample in all_samples()]
    for log in (b"".join(lines), *lines):
        assert compiled.facts_of(log) == facts_of(log)


@examples(150)
@given(st.lists(st.tuples(mutated(), st.sampled_from(sorted(FRAMINGS)), st.integers(1, 3)), min_size=1, max_size=8))
def test_mutated_lines(compiled: CompiledBuild, lines: list[tuple[tuple[str, str], str, int]]) -> None:
    """Both builds make the same of lines that are almost a daemon's, in any framing, and joined by their PIDs."""
    log = "".join(FRAMINGS[framing](program, str(pid), text) + "\n" for (program, text), framing, pid in lines)
    data = log.encode("latin-1", "replace")
    assert compiled.facts_of(data) == facts_of(data)


@examples(100)
@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=6))
def test_any_bytes(compiled: CompiledBuild, lines: list[bytes]) -> None:
    """Both builds make the same of any bytes."""
    log = b"".join(line + b"\n" for line in lines)
    assert compiled.facts_of(log) == facts_of(log)


def test_commands(installed: Path) -> None:
    """Both builds print the same, in every format and with the other engine."""
    paths = [path for path in CAPTURES if path.name in {"info.rfc3339.log.gz", "web1.json.log.gz"}]
    for options in ([], ["--format", "json", "--jobs", "2"]):
        assert same_in_both(installed, "replay", *options, *paths)
    small = next(path for path in CAPTURES if path.name == "hostbased.rfc3339.log.gz")
    assert same_in_both(installed, "parse", "--engine", "pyparsing", small) == same_in_both(installed, "parse", small)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_explain(installed: Path, line: str) -> None:
    """Both builds explain a line alike."""
    assert same_in_both(installed, "explain", "--year", "2026", line)


def test_a_traceback_names_file_and_line(installed: Path) -> None:
    """A fault in compiled code is reported with the place in the source, as in the plain build."""
    fault = "from consumer.matching.matcher import Matcher; Matcher().candidates('no such family', 'a text')"
    ours, theirs = (ended("-c", fault, folder=folder).stderr.decode() for folder in (PROJECT_DIR, installed))
    *_, place = [line for line in ours.splitlines() if "matcher.py" in line]
    at = place.partition(", line ")[2]
    assert f'consumer/matching/matcher.py", line {at}' in theirs
    assert theirs.splitlines()[-1] == ours.splitlines()[-1] == "KeyError: 'no such family'"


def test_the_check_before_install_covers_the_modules(installed: Path, tmp_path: Path) -> None:
    """Rsyslogd runs this code as root, so no other user may change a compiled module."""
    needs.root("own files as root")
    site = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    environment = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path)]
    subprocess.run(environment, check=True)
    shutil.copytree(installed, site, dirs_exist_ok=True)
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    code = code_of(tmp_path / "bin" / "python")
    assert code is not None
    ours = [path for path in code if path.is_relative_to(tmp_path)]
    modules = sorted(site.rglob("*.so"))
    assert len(modules) == len(wheels.stages()) + 1
    assert untrusted_below(site, tmp_path) is None
    for module in modules:
        module.chmod(0o757)
        reason = untrusted_code(tmp_path / "bin" / "python", ours, tmp_path)
        assert reason == f"{module} is writable by everybody (mode 0757)"
        module.chmod(0o755)
