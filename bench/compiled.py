#!/usr/bin/env python3
"""
Compare the compiled build with the plain source: processor time of a replay of each profile's log, and of the start.

``make wheel`` makes the compiled build. The script installs it alone in a temporary folder, and runs both builds in turn::

    bench/compiled.py --rounds 5 --lines 400000 dist/sshbell-*.whl

Processor time is steadier than time on a busy machine. Both processes use this Python.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from make_log import CAPTURED, write_profile
from measure import ROOT, spread
from profiles import PROFILES

# What a start costs: nothing to read.
_EMPTY = Path(os.devnull)
_STARTS = (["--version"], ["replay", "--format", "none", str(_EMPTY)], ["parse", str(_EMPTY)], ["run", "--plain"])


def cpu_s(folder: Path, arguments: list[str], state: Path) -> float:
    """Run sshbell from a folder to its end, and return the processor time of it and its children in seconds."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPATH": str(folder), "HOME": str(state)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-P", "-m", "consumer", *arguments]
    with _EMPTY.open("rb") as nothing:
        subprocess.run(command, cwd=state, env=env, stdin=nothing, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(builds: dict[str, Path], name: str, arguments: list[str], rounds: int, state: Path) -> None:
    """Run a command in both builds in turn, and print a row."""
    seconds: dict[str, list[float]] = {build: [] for build in builds}
    for _ in range(rounds):
        for build, folder in builds.items():
            seconds[build].append(cpu_s(folder, arguments, state))
    ratios = [plain / compiled for plain, compiled in zip(*seconds.values(), strict=True)]
    print(f"{name:<32}", *(f"{spread(values, 3):>24}" for values in seconds.values()), f"{median(ratios):>8.2f}", flush=True)


def main() -> None:
    """Read the command line, install the wheel and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=400_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        state = Path(made)
        installed = state / "installed"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(options.wheel)]
        subprocess.run(install, check=True)
        if not list(installed.glob("sshbell__mypyc*.so")):
            raise SystemExit(f"{options.wheel} is not compiled; make wheel says why")
        (state / "sshbell.toml").write_text(f'state_dir = "{state}/state"\nuser = ""\n')
        builds = {"plain": ROOT, "compiled": installed}
        print(f"{'processor time in seconds':<32}{'plain':>25}{'compiled':>25}{'times':>9}")
        for arguments in _STARTS:
            own = ["--config", str(state / "sshbell.toml")] if arguments[0] == "run" else []
            compare(builds, " ".join(arguments), [*arguments, *own], 3 * options.rounds, state)
        for profile in (CAPTURED, *PROFILES):
            log = state / "auth.log"
            write_profile(log, profile, options.lines)
            compare(builds, f"replay, {profile}", ["replay", "--format", "none", "--jobs", "1", str(log)], options.rounds, state)


if __name__ == "__main__":
    main()
