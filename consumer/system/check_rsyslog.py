"""Checks that rsyslogd starts sshbell and passes lines to it."""

import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from consumer.process.command import run_command, system_path
from consumer.rights import untrusted
from consumer.system.interpreter import code_of, untrusted_code
from consumer.system.outcome import AS_ROOT, INSTALL, Outcome, fault, ok, outcome_of, warning
from consumer.system.rsyslog_conf import DROP_IN, ENTRY_POINT, MAIN, RsyslogConfig, trusted_advice
from consumer.system.shards import MAIN_QUEUE_REMEDY, shards_of

_ELSEWHERE = "fix this, or install sshbell in another directory and run sshbell install from there"
# What systemd tells journald about each running unit, as symbolic links, and journald's own settings.
_UNITS = Path("/run/systemd/units")
_JOURNALD = tuple(Path(place, "systemd") for place in ("/usr/lib", "/usr/local/lib", "/run", "/etc"))  # later ones win
# Lines of a unit in 30 s. sshd cannot log so many.
_ENOUGH_LINES = 1_000_000
# For rsyslogd -N1.
_TIMEOUT_S, _OUTPUT_LIMIT_BYTES = 30.0, 1 << 20


def read_configuration() -> tuple[RsyslogConfig | None, list[Outcome]]:
    """Return rsyslogd's configuration; or None and the reasons."""
    outcomes = []
    if shutil.which("rsyslogd", path=system_path()) is None:
        outcomes.append(fault("rsyslogd is not installed", "install the package rsyslog"))
    try:
        return RsyslogConfig(main=MAIN), outcomes
    except FileNotFoundError:
        return None, [*outcomes, fault(f"{MAIN} does not exist", "install the package rsyslog")]
    except OSError as error:
        return None, [*outcomes, outcome_of(error)]


def entry_point() -> Iterator[Outcome]:
    """Check the program that rsyslogd starts as root."""
    try:
        text = ENTRY_POINT.read_text("utf-8", "replace")
    except FileNotFoundError:
        yield fault(f"{ENTRY_POINT} does not exist: rsyslogd has nothing to start", INSTALL)
        return
    if reason := untrusted(ENTRY_POINT):
        yield fault(f"rsyslogd runs it as root, but {reason}", "let only root own and write it")
        return
    if not ENTRY_POINT.stat().st_mode & stat.S_IXUSR:
        yield fault(f"{ENTRY_POINT} is not executable", f"chmod 755 {ENTRY_POINT}")
        return
    interpreter = _interpreter_of(text)
    if interpreter is None:
        yield ok(f"{ENTRY_POINT}, which somebody has changed")
        return
    reason = untrusted(interpreter) if interpreter.exists() else f"{interpreter} does not exist"
    code = [] if reason else code_of(interpreter)
    if code is None:
        reason = f"{interpreter} cannot find sshbell"
    elif not reason:
        reason = untrusted_code(interpreter, code)
    if reason:
        yield fault(f"rsyslogd runs it as root, but {reason}", _ELSEWHERE)
    else:
        yield ok(f"{ENTRY_POINT}, with {interpreter}")


def drop_in(rsyslog: RsyslogConfig | None, sshd_programs: Sequence[str]) -> Iterator[Outcome]:
    """Check that rsyslogd reads the drop-in, accepts it, and passes the lines of all sshd_programs."""
    if not DROP_IN.exists():
        yield fault(f"{DROP_IN} does not exist: rsyslog passes no lines to sshbell", INSTALL)
        return
    if rsyslog is not None and not rsyslog.includes(DROP_IN):
        yield fault(f"{MAIN} does not include {DROP_IN}",
                     f'add to it: include(file="{DROP_IN.parent}/*.conf" mode="optional")')  # fmt: skip
        return
    text = DROP_IN.read_text("utf-8", "replace")
    for program in sshd_programs:
        if f'"{program}"' not in text:
            yield warning(f"sshd_programs has {program}, but {DROP_IN} does not pass its lines",
                         f'add "{program}" beside "sshd" in its first "if"')  # fmt: skip
    shards = shards_of(text)
    queue = rsyslog.main_queue() if rsyslog is not None and shards > 1 else None
    if queue is not None and queue.parameters.get("queue.workerthreads") != "1":
        yield fault(f"{queue.place}: with shards, the main queue needs one worker", MAIN_QUEUE_REMEDY)
    rsyslogd = shutil.which("rsyslogd", path=system_path())
    if rsyslogd is None:
        return
    done = run_command(
        [rsyslogd, "-N1", "-f", MAIN], limit_s=_TIMEOUT_S, output_limit=_OUTPUT_LIMIT_BYTES, with_errors=True
    )  # fmt: skip
    lines = done.errors.decode("utf-8", "replace").splitlines()
    reason = next((line for line in lines if "config validation run" not in line), done.fault)
    if not done.fault:
        with_them = f" with {shards} shards" if shards > 1 else ""
        yield ok(f"{DROP_IN}{with_them}, accepted by rsyslogd -N1")
    elif os.geteuid() != 0:
        yield warning(f"rsyslogd -N1: {reason}", AS_ROOT)
    else:
        yield fault(f"rsyslogd -N1: {reason}", f"see: rsyslogd -N1 -f {MAIN}")


def trusted(rsyslog: RsyslogConfig) -> Iterator[Outcome]:
    """Check that rsyslogd records which process sent a line."""
    if advice := trusted_advice(rsyslog):
        yield warning(advice.fault, f"{advice.remedy}; then restart rsyslog")
    else:
        yield ok("the kernel vouches for the sender of each line")


def journald() -> Iterator[Outcome]:
    """Check that journald, where it receives the lines first, drops none of sshd's because there are many."""
    for unit in ("ssh.service", "sshd.service"):
        if not os.path.lexists(_UNITS / f"invocation:{unit}"):
            continue  # it is not running, or this system has no systemd
        interval, burst = _limit_of(unit)
        if not interval or not burst or burst >= _ENOUGH_LINES:
            yield ok(f"journald passes all lines of {unit}")
        else:
            yield warning(
                f"a flood makes journald drop lines of {unit}, and a login may be among them",
                f"systemctl edit {unit}; add [Service] and LogRateLimitBurst=100000000; then restart {unit}",
            )


def _limit_of(unit: str) -> tuple[bool, int]:
    """Return whether journald has an interval for a unit, and its lines in it; without one, or with 0 lines, it has no limit."""
    settings = _journald_settings()
    found = {}
    for key, name in (("RateLimitIntervalSec", "interval"), ("RateLimitBurst", "burst")):
        # The unit's own value is a link to a number. journald takes no notice of LogRateLimitIntervalSec=0.
        own = _UNITS / f"log-rate-limit-{name}:{unit}"
        found[key] = own.readlink().name if own.is_symlink() else settings.get(key, "1")
    burst = found["RateLimitBurst"]
    is_off = re.fullmatch(r"0+[a-z]*", found["RateLimitIntervalSec"]) is not None
    return not is_off, int(burst) if re.fullmatch(r"[0-9]+", burst) else 1


def _journald_settings() -> dict[str, str]:
    """Return journald's own settings of its limit."""
    files: dict[str, Path] = {}
    for place in _JOURNALD:
        main = place / "journald.conf"
        files |= {"": main} if main.is_file() else {}
        files |= {path.name: path for path in place.glob("journald.conf.d/*.conf")}
    settings: dict[str, str] = {}
    for _, path in sorted(files.items()):
        settings |= re.findall(
            r"^(RateLimitIntervalSec|RateLimitBurst)=[ \t]*(\S+)", path.read_text("utf-8", "replace"), re.MULTILINE
        )
    return settings


def _interpreter_of(text: str) -> Path | None:
    """Return the Python that the entry point of sshbell runs; None if somebody has changed that line."""
    for line in text.splitlines():
        if line.startswith("exec ") and " -I -m consumer " in line:
            with suppress(ValueError):
                return Path(shlex.split(line)[1])
    return None
