"""The command as people and scripts run it: what it prints, how it ends, and what it survives."""

# ruff: noqa: E501 - a hostile line that is broken in two is harder to read

from __future__ import annotations

import bz2
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumer import __version__
from consumer.cli import COMMANDS
from tests import needs
from tests.bare_machine import BARE, on_a_bare_machine
from tests.integration.site import configuration, mail_channel
from tests.integration.terminal import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT_DIR = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "consumer"]
# What the installed script does: see [project.scripts].
SCRIPT = "import sys; from consumer.cli import main; sys.argv[0] = 'sshbell'; sys.exit(main())"
INSTALLED = [sys.executable, "-c", SCRIPT]

OK, USAGE, DATA, NO_INPUT, SOFTWARE, IO, CONFIG = 0, 64, 65, 66, 70, 74, 78
MEMORY_LIMIT_KB = 80 * 1024

DAY = "2026-11-22T"
ACCEPTED = "Accepted password for {user} from {ip} port {port} ssh2"
OPENED = "pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)"
CLOSED = "pam_unix(sshd:session): session closed for user {user}"
FAILED = "Failed password for {user} from {ip} port {port} ssh2"


def line(time: str, pid: int, text: str, host: str = "web1") -> bytes:
    """Return a line of rsyslog's file format on the day of the tests."""
    return f"{DAY}{time}.000000+00:00 {host} sshd[{pid}]: {text}\n".encode("latin-1")


def session(hour: int, user: str = "alice", host: str = "web1", port: int = 4711) -> bytes:
    """Return the lines of a failure and of a session of ten minutes."""
    who = {"user": user, "ip": "192.0.2.7", "port": port}
    texts = [("00:00", FAILED), ("00:02", ACCEPTED), ("00:03", OPENED), ("10:02", CLOSED)]
    return b"".join(line(f"{hour:02}:{time}", port, text.format(**who), host) for time, text in texts)


LOG = session(10)
MANY = b"".join(session(10, port=port) for port in range(1025, 9000))


def run(
    *arguments: str | Path, stdin: bytes | int = b"", command: Sequence[str] = COMMAND, env: dict[str, str] | None = None,
    timeout: float = 60, **more: Any,
) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
    """Run the command to its end."""
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        [*command, *on_a_bare_machine(*map(str, arguments))], cwd=PROJECT_DIR, check=False, timeout=timeout, env={**os.environ, "TZ": "UTC", **(env or {})},
        **({"capture_output": True} | given | more),
    )  # fmt: skip
    return done


def ended(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    """Check how a command ended, and that it said so in plain words; return what it said."""
    said = (done.stderr or b"").decode()
    assert "Traceback" not in said
    assert "a fault of sshbell itself" not in said
    assert done.returncode == status, said
    return said


def events(output: bytes) -> list[dict[str, Any]]:
    """Return the objects of JSON lines."""
    return [json.loads(one) for one in output.splitlines()]


def told(output: bytes) -> list[tuple[str, str | None]]:
    """Return what was told, as action and user."""
    return [(one["event"]["action"], one.get("user", {}).get("name")) for one in events(output)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a small log."""
    path = tmp_path / "auth.log"
    path.write_bytes(LOG)
    return path


STORY = [("ssh_attempt", "alice"), ("ssh_login", "alice"), ("ssh_logout", "alice")]

# ---------------------------------------------------------------- the face


def test_version() -> None:
    """``--version`` prints name and version, alone."""
    done = run("--version", command=INSTALLED)
    assert (ended(done, OK), done.stdout.decode()) == ("", f"sshbell {__version__}\n")


def commands() -> list[str]:
    """Return the names of all commands."""
    return sorted(COMMANDS)


@pytest.mark.parametrize("command", ["", *commands()])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_an_example(command: str, option: str) -> None:
    """The help of each command shows how it is called."""
    done = run(*filter(None, [command]), option, command=INSTALLED)
    ended(done, OK)
    usage, _, rest = done.stdout.decode().partition("\n")
    assert usage.startswith(f"Usage: sshbell {command}".rstrip())
    assert f"sshbell {command}".rstrip() in rest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replya"], "Did you mean 'replay'?"),
        (["frobnicate"], "No such command"),
        ([], "Commands:"),
        (["--tz", "UTC", "replay", "x"], "follow the command"),
        (["explain", "Nov", "22"], "in single quotes"),
        (["replay", "--since", "2026-11-22", "--until", "2026-11-21", "x"], "--since is not before --until"),
        (["replay"], "Missing argument"),
        (["explain"], "Missing argument"),
        (["replay", "--frobnicate", "x"], "No such option"),
        (["replay", "--format", "xml", "x"], "xml"),
        (["replay", "--jobs", "0", "x"], "--jobs"),
        (["replay", "--jobs", "many", "x"], "--jobs"),
        (["replay", "--since", "whenever", "x"], "2026-11-22"),
        (["replay", "--since", "01/02/2026", "x"], "can be read in two ways"),
        (["replay", "--until", "9d9", "x"], "--until"),
        (["replay", "--since", "999999w", "x"], "--since"),
        (["parse", "--tz", "Europe/Atlantis", "x"], "Europe/Paris"),
        (["parse", "--tz", "", "x"], "Europe/Paris"),
        (["parse", "--tz", "../../etc/passwd", "x"], "Europe/Paris"),
        (["parse", "--tz", "+99:99", "x"], "Europe/Paris"),
        (["parse", "--year", "12", "x"], "--year"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_usage_errors(arguments: list[str], says: str) -> None:
    """What cannot be meant ends with EX_USAGE, and says what could be."""
    assert says in ended(run(*arguments), USAGE)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'sshd_program = ["sshd-ga"]\n', "did you mean 'sshd_programs'"),
        (b"sshd_programs = 1\n", "sshd_programs"),
        (b"sshd_programs = [\n", "sshbell.toml"),
        (b"\xff\xfe", "sshbell.toml"),
    ],
)
@pytest.mark.parametrize("command", ["parse", "replay", "explain"])
def test_bad_configuration(tmp_path: Path, log: Path, content: bytes, says: str, command: str) -> None:
    """A configuration that cannot be used ends with EX_CONFIG, names the file, and suggests the key that was meant."""
    path = tmp_path / "sshbell.toml"
    path.write_bytes(content)
    said = ended(run(command, "--config", path, log), CONFIG)
    assert says in said
    assert "sshbell.toml" in said


def test_missing_configuration(tmp_path: Path, log: Path) -> None:
    """A configuration file that was named must be there."""
    assert "nowhere.toml" in ended(run("replay", "--config", tmp_path / "nowhere.toml", log), CONFIG)


def test_configured_program(tmp_path: Path) -> None:
    """A copy of sshd under another name is read when the configuration names it."""
    config = tmp_path / "sshbell.toml"
    config.write_text('sshd_programs = ["sshd-ga"]\n')
    renamed = LOG.replace(b" sshd[", b" sshd-ga[").replace(b"(sshd:", b"(sshd-ga:")
    assert run("replay", "--format", "json", "-", stdin=renamed).stdout == b""
    assert told(run("replay", "--format", "json", "--config", config, "-", stdin=renamed).stdout) == STORY


@pytest.mark.parametrize("arguments", [["--version"], ["parse", "LOG"], ["replay", "LOG"], ["replay", "--format", "json", "LOG"],
                                       ["replay", "nowhere"], ["explain", "sshd[1]: x"], ["completion", "bash"]])  # fmt: skip
def test_module_and_script_are_the_same(log: Path, arguments: list[str]) -> None:
    """``python -m consumer`` and the installed command do the same."""
    with (PROJECT_DIR / "pyproject.toml").open("rb") as found:
        assert tomllib.load(found)["project"]["scripts"] == {"sshbell": "consumer.__main__:main"}
    words = [str(log) if word == "LOG" else word for word in arguments]
    one, other = run(*words), run(*words, command=INSTALLED)
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


@pytest.mark.parametrize(("shell", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_completion_script(tmp_path: Path, shell: str, check: list[str]) -> None:
    """The script for a shell is one that the shell accepts."""
    done = run("completion", shell)
    assert ended(done, OK) == ""
    script = tmp_path / f"sshbell.{shell}"
    script.write_bytes(done.stdout)
    assert b"_SSHBELL_COMPLETE" in done.stdout
    assert subprocess.run([needs.program(shell, shell), *check, str(script)], capture_output=True, check=False).stderr == b""


def test_completion_answers() -> None:
    """What the script asks for is answered: the commands that begin so."""
    asked = {"_SSHBELL_COMPLETE": "bash_complete", "COMP_WORDS": "sshbell re", "COMP_CWORD": "1"}
    done = run(command=INSTALLED, env=asked)
    assert (done.returncode, done.stdout.decode().splitlines()) == (0, ["plain,replay"])


@pytest.mark.parametrize("command", ["ring", "outbox"])
def test_completion_of_channels(tmp_path: Path, command: str) -> None:
    """``--channel`` is completed from the configuration; where that cannot be read or is wrong, by nothing and in silence."""

    def completed(config: Path, begun: str) -> list[str]:
        words = f"sshbell {command} --config {config} --channel {begun}"
        env = {"_SSHBELL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "5"}
        done = run(command=INSTALLED, env=env)
        assert done.stderr == b""
        return done.stdout.decode().split()

    config = tmp_path / "sshbell.toml"
    config.write_text(configuration(tmp_path, channel=[mail_channel(25, name) for name in ("ops", "oncall", "boss")]))
    assert completed(config, "") == ["plain,ops", "plain,oncall", "plain,boss"]
    assert completed(config, "o") == ["plain,ops", "plain,oncall"]
    assert completed(tmp_path / "none", "o") == []
    config.write_text("nonsense")
    assert completed(config, "o") == []


# ---------------------------------------------------------------- input


@pytest.mark.parametrize("command", ["parse", "replay"])
def test_standard_input(command: str) -> None:
    """``-`` is standard input, packed or not."""
    plain, packed = run(command, "-", stdin=LOG), run(command, "-", stdin=gzip.compress(LOG))
    assert ended(plain, OK) == ended(packed, OK)
    assert plain.stdout == packed.stdout
    assert len(plain.stdout.splitlines()) >= 3


def test_parse_reads_standard_input_by_default() -> None:
    """``parse`` without a file reads standard input."""
    assert run("parse", stdin=LOG).stdout == run("parse", "-", stdin=LOG).stdout != b""


def test_parse_says_what_each_line_says(log: Path) -> None:
    """``parse`` gives one object a line, with where it stood; other programs' lines give none but keep their numbers."""
    log.write_bytes(b"2026-11-22T09:00:00+00:00 web1 cron[5]: hello\n" + LOG)
    said = events(run("parse", log).stdout)
    assert [(one["event"]["action"], one["log"]["file"]) for one in said] == [
        (action, {"path": str(log), "line": number})
        for number, action in enumerate(["failed", "accepted", "session_opened", "session_closed"], 2)
    ]


def test_parse_names_the_module_of_pam() -> None:
    """``pam.module`` is the module that a line names, or the only one that writes such a line."""
    modules = {
        "pam_unix(sshd:session): session closed for user alice": "pam_unix",
        "pam_krb5[42]: authentication fails for 'alice' (alice@EXAMPLE.ORG): Cannot read password": "pam_krb5",
        "pam_made_up(sshd:auth): a side line": "pam_made_up",
        "PAM 2 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.7 ": "pam_unix",
        "Successful Duo login for 'alice' from 192.0.2.7": "pam_duo",
    }
    lines = "".join(f"2026-11-22T09:00:00+00:00 web1 sshd[42]: {text}\n" for text in modules)
    said = events(run("parse", stdin=lines.encode()).stdout)
    assert [one["pam"]["module"] for one in said] == list(modules.values())


@pytest.mark.parametrize("command", ["parse", "replay"])
@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress])
def test_truncated_archive(tmp_path: Path, command: str, packer: Any) -> None:
    """A truncated archive ends with EX_DATAERR; what could be read was told."""
    path = tmp_path / "auth.log.gz"
    path.write_bytes(packer(MANY)[:-20])
    done = run(command, path)
    assert "damaged or truncated" in ended(done, DATA)
    if packer is gzip.compress:
        assert b"alice" in done.stdout


def decided(output: bytes) -> list[Any]:
    """Return the events of a replay that lines decided, without findings."""
    return [event for event in map(json.loads, output.splitlines()) if event["event"]["kind"] == "event"]


def test_truncated_archive_with_several_processes(tmp_path: Path) -> None:
    """What could be read does not depend on how many processes read."""
    path = tmp_path / "auth.log.gz"
    path.write_bytes(gzip.compress(MANY)[:-20])
    outputs = [run("replay", "--format", "json", "--jobs", str(jobs), path).stdout for jobs in (1, 2, 3)]
    assert len(outputs[0].splitlines()) > 0.9 * len(MANY.splitlines()) * 3 / 4
    assert outputs[0] == outputs[1] == outputs[2]


def test_processes_write_the_same(tmp_path: Path) -> None:
    """One process and three write the same bytes."""
    path = tmp_path / "auth.log"
    path.write_bytes(MANY)
    one, three = (run("replay", "--format", "json", "--jobs", jobs, path) for jobs in ("1", "3"))
    assert (one.returncode, one.stderr) == (OK, three.stderr)
    assert one.stdout == three.stdout
    assert len(decided(one.stdout)) == 3 * (9000 - 1025)


@pytest.mark.parametrize("form", ["table", "json", "none"])
@pytest.mark.parametrize("options", [[], ["--year", "2024"]], ids=["no year", "year"])
def test_processes_write_the_same_of_a_pipe(form: str, options: list[str]) -> None:
    """Standard input, packed or not, is read once; stamps without a year follow from each other."""
    months = ("Nov", "Dec", "Jan", "Jun", "Dec", "Jan")
    some = b"".join(session(10, port=port) for port in range(1025, 1500))
    log = b"".join(
        re.sub(rb"^2026-11-22T([\d:]+)\S+", rb"%s 22 \1" % month.encode(), some, flags=re.MULTILINE) for month in months
    )
    for data in (log, gzip.compress(log)):
        one, two = (run("replay", "--format", form, *options, "--jobs", jobs, "-", stdin=data) for jobs in ("1", "2"))
        assert (one.stdout, one.stderr, one.returncode) == (two.stdout, two.stderr, OK)
        assert len(one.stdout) > 200


def test_repetitions_do_not_depend_on_processes(tmp_path: Path) -> None:
    """What syslogd has folded counts for the line before it, also where another process has read that."""
    path = tmp_path / "auth.log"
    failed = "Nov 22 10:00:07 host1 sshd[42]: Failed password for root from 192.0.2.1 port 5 ssh2\n"
    again = "Nov 22 10:00:09 host1 last message repeated 2 times\n"
    path.write_text((failed + again + again) * 9000, encoding="ascii")
    one, three = (run("replay", "--format", "json", "--jobs", jobs, path) for jobs in ("1", "3"))
    assert one.stdout == three.stdout
    assert sum(event["ssh"].get("count", 1) for event in decided(three.stdout)) == 5 * 9000


MONOTONIC = "[ 1234.567890] web1 sshd[42]: Accepted password for alice from 192.0.2.7 port 5 ssh2\n"
WITHIN = "Nov 22 10:00:00 web1 app[9]: web1 sshd[42]: Accepted password for alice from 192.0.2.7 port 5 ssh2\n"
CSV = "2026-11-22T10:00:00Z,web1,sshd,42,Accepted password for alice from 192.0.2.7 port 5 ssh2\n"


@pytest.mark.parametrize("text", [MONOTONIC, CSV, WITHIN], ids=["short-monotonic", "CSV", "within another's message"])
def test_a_framing_that_is_not_read_gets_a_hint(tmp_path: Path, text: str) -> None:
    """A log of which nothing is read is never passed over in silence: one line tells what to do."""
    path = tmp_path / "auth.log"
    path.write_text(text, encoding="ascii")
    parsed = run("parse", path)
    assert parsed.stdout == b""
    (hint,) = parsed.stderr.decode().splitlines()
    assert hint.startswith(f"sshbell: {path}: ")
    replayed = run("replay", path).stdout.decode().splitlines()
    for said in (hint, *(line for line in replayed if "journalctl" in line)):
        assert "LC_ALL=C journalctl -o json" in said
    assert sum("journalctl" in line for line in replayed) == 1


def test_a_log_that_is_read_gets_no_hint(log: Path) -> None:
    """Where all is well nothing is said."""
    assert run("parse", log).stderr == b""
    assert b"journalctl" not in run("replay", log).stdout


def test_times_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    """A login at a time that cannot be read is told at no time, and the summary says so."""
    path = tmp_path / "auth.log"
    path.write_text("Foo 22 10:00:00 web1 sshd[42]: Accepted password for alice from 192.0.2.7 port 5 ssh2\n", encoding="ascii")
    said = run("replay", path).stdout.decode()
    assert re.search(r"^unknown +login +alice", said, re.MULTILINE)
    assert "lines without a usable time: 1 " in said


@pytest.mark.parametrize("command", ["parse", "replay"])
def test_missing_file_and_directory(tmp_path: Path, command: str) -> None:
    """A file that is not there, and a directory, end with EX_NOINPUT and are named."""
    assert "nowhere.log: No such file" in ended(run(command, tmp_path / "nowhere.log"), NO_INPUT)
    assert f"{tmp_path}: is a directory" in ended(run(command, tmp_path), NO_INPUT)


@pytest.mark.parametrize("command", ["parse", "replay"])
@pytest.mark.parametrize("number", [1, 2])
def test_file_without_the_right_to_read(command: str, number: int) -> None:
    """A log that only root may read ends with EX_NOINPUT and what to do, alone or among others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        paths = [Path(folder) / f"auth.log.{n}" for n in range(number)]
        for path in paths:
            path.write_bytes(LOG)
            path.chmod(0)
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
        # Root reads everything; without these capabilities (setpriv is util-linux') only what is its own.
        drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
        done = run(command, *paths, command=[*drop, *COMMAND])
    assert ended(done, NO_INPUT).count("run it as root, or as a member of the group") == number


@pytest.mark.parametrize("command", ["parse", "replay"])
def test_file_in_a_directory_without_rights(command: str, tmp_path: Path) -> None:
    """What cannot even be looked at is input that cannot be read, too, not output."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "auth.log").write_bytes(LOG)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    closed.chmod(0)
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = run(command, closed / "auth.log", command=[*drop, *COMMAND])
    closed.chmod(0o700)
    said = ended(done, NO_INPUT)
    assert f"{closed}/auth.log: Permission denied" in said
    assert "output" not in said


@pytest.mark.parametrize("command", [["parse"], ["replay", "--format", "json"]])
def test_good_and_bad_files(tmp_path: Path, command: list[str]) -> None:
    """All good files are read, and each bad one is said, at the end."""
    good = [tmp_path / "a.log", tmp_path / "c.log"]
    good[0].write_bytes(session(10, "alice"))
    good[1].write_bytes(session(12, "carol"))
    broken = tmp_path / "b.log.gz"
    broken.write_bytes(gzip.compress(session(11, "bob"))[:-9])
    done = run(*command, tmp_path / "nowhere.log", good[0], broken, tmp_path, good[1])
    said = ended(done, done.returncode)
    assert done.returncode in {DATA, NO_INPUT}
    assert all(name in said for name in ("nowhere.log", "b.log.gz", "is a directory"))
    assert {user for _, user in told(done.stdout)} >= {"alice", "carol"}


def test_rotated_files_are_put_in_order(tmp_path: Path) -> None:
    """The files of a rotation may be named in any order: what happened is told in the order of time."""
    whole = session(8, "alice") + session(10, "bob") + session(12, "carol") + session(14, "dave")
    lines = whole.splitlines(keepends=True)
    # The cuts are inside sessions.
    parts = {"auth.log": lines[10:], "auth.log.1": lines[6:10], "auth.log.2.gz": lines[2:6], "auth.log.3.gz": lines[:2]}
    for name, part in parts.items():
        data = b"".join(part)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    single = tmp_path / "whole"
    single.write_bytes(whole)
    done = run("replay", "--format", "json", *(tmp_path / name for name in parts))
    ended(done, OK)
    assert told(done.stdout) == told(run("replay", "--format", "json", single).stdout)
    assert [one["event"]["id"] for one in events(done.stdout)] == [
        one["event"]["id"] for one in events(run("replay", "--format", "json", single).stdout)
    ]
    first = events(done.stdout)[0]["log"]["file"]
    assert first == {"path": str(tmp_path / "auth.log.3.gz"), "line": 1}


def test_several_pipes() -> None:
    """Process substitutions are pipes, which can be read once only: all of their lines count, also with several."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("b", "a")]
        for path in paths:
            os.mkfifo(path)
        writers = [
            subprocess.Popen(["sh", "-c", f"cat > {path}"], stdin=subprocess.PIPE)  # noqa: S607
            for path in paths
        ]
        for writer, data in zip(writers, [session(12, "bob"), session(10, "alice")], strict=True):
            assert writer.stdin is not None
            writer.stdin.write(data)
            writer.stdin.close()
        try:
            done = run("replay", "--format", "json", *paths, timeout=10)
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
    ended(done, OK)
    assert told(done.stdout) == [(action, user) for user in ("alice", "bob") for action, _ in STORY]


def test_standard_error_that_cannot_be_written(log: Path) -> None:
    """Nobody to complain to is no reason to lose the output, nor another exit code."""
    for command, redirect, code in (
        (("replay", log), "2>&-", OK), (("replay", log), "2>/dev/full", OK), (("parse", "nofile"), "2>/dev/full", NO_INPUT),
    ):  # fmt: skip
        shell = f"{' '.join([*COMMAND, *on_a_bare_machine(*command)])} {redirect}"
        done = subprocess.run(["/bin/sh", "-c", shell], cwd=PROJECT_DIR, capture_output=True, check=False)
        assert done.returncode == code
        assert (b"alice" in done.stdout) == (code == OK)


def test_closed_standard_streams(log: Path) -> None:
    """A closed standard input or output is an error of input or output, not of ours."""
    for redirect, command, status in (
        ("<&-", ("parse", "-"), NO_INPUT), (">&-", ("parse", log), IO), (">&-", ("replay", log), IO),
    ):  # fmt: skip
        shell = f"{' '.join([*COMMAND, *on_a_bare_machine(*command)])} {redirect}"
        ended(subprocess.run(["sh", "-c", shell], capture_output=True, check=False, cwd=PROJECT_DIR), status)  # noqa: S607


# ---------------------------------------------------------------- output

FORMATS = [["parse"], ["replay", "--format", "table"], ["replay", "--format", "json"], ["replay", "--format", "none"]]


@pytest.mark.parametrize("command", [*FORMATS, ["completion", "bash"], ["--version"], ["--help"]], ids=" ".join)
@pytest.mark.parametrize("many", [False, True])
def test_full_disk(tmp_path: Path, command: list[str], *, many: bool) -> None:
    """Output that cannot be written ends with EX_IOERR, and says so, however little it is."""
    path = tmp_path / "auth.log"
    path.write_bytes(MANY if many else LOG)
    files = [path] if command[0] in {"parse", "replay"} else []
    with Path("/dev/full").open("wb") as full:
        done = run(*command, *files, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert "No space left" in ended(done, IO)


@pytest.mark.parametrize("command", FORMATS[:3], ids=" ".join)
def test_reader_that_leaves(tmp_path: Path, command: list[str]) -> None:
    """Where ``head`` has seen enough, the command ends soon, and says nothing."""
    path = tmp_path / "auth.log"
    path.write_bytes(MANY)
    process = subprocess.Popen(
        [*COMMAND, *on_a_bare_machine(*command, str(path))], cwd=PROJECT_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert said == b""


def test_table(log: Path) -> None:
    """The table has a head, a row for the login and one for its end, and a summary; tries are counted."""
    done = run("replay", log, env={"COLUMNS": "200"})
    ended(done, OK)
    rows = done.stdout.decode().splitlines()
    assert rows[0].split() == ["time", "what", "user", "from", "host", "who", "and", "how"]
    assert [re.sub(" +", " ", row).rstrip() for row in rows[1:3]] == [
        "2026-11-22 10:00:02 login alice 192.0.2.7 port 4711 web1 password",
        "2026-11-22 10:10:02 logout alice 192.0.2.7 port 4711 web1 after 0:10:00",
    ]
    assert "4 lines read, 4 understood, 0 unmatched" in done.stdout.decode()
    assert "ssh_attempt 1" in done.stdout.decode()


def test_format_none(log: Path) -> None:
    """``none`` prints the summary alone."""
    done = run("replay", "--format", "none", log)
    ended(done, OK)
    assert b"4 lines read" in done.stdout
    assert b"login  " not in done.stdout


def test_format_json_has_nothing_but_json(log: Path) -> None:
    """The summary of ``json`` goes to standard error, so that what is piped on is JSON lines alone."""
    done = run("replay", "--format", "json", log)
    assert "4 lines read" in ended(done, OK)
    assert told(done.stdout) == STORY
    duration = events(done.stdout)[2]["event"]["duration"]
    assert duration == 600 * 10**9


def test_time_zone_of_the_table(log: Path) -> None:
    """``--tz`` is the zone of the times shown, and of those that the log does not say the zone of."""
    assert b"2026-11-22 11:00:02  login" in run("replay", "--tz", "Europe/Paris", log).stdout
    bare = LOG.replace(b".000000+00:00", b"")
    said = events(run("replay", "--format", "json", "--tz", "Europe/Paris", "-", stdin=bare).stdout)
    assert said[1]["@timestamp"] == "2026-11-22T09:00:02.000000Z"


def test_unknown_time_gives_no_duration() -> None:
    """Where the time of the login does not exist, no duration is made up."""
    log = session(10, "alice").replace(b"2026-11-22T10:00", b"2026-02-30T10:00")
    done = run("replay", "--format", "json", "-", stdin=log)
    said = {one["event"]["action"]: one for one in events(done.stdout)}
    assert "start" not in said["ssh_login"]["event"]
    assert not {"start", "duration"} & said["ssh_logout"]["event"].keys()
    assert b"after an unknown time" in run("replay", "-", stdin=log).stdout


def test_line_behind_a_hole() -> None:
    """NUL bytes that a crash left before a line cost nothing of it."""
    log = session(10, "alice")
    assert told(run("replay", "--format", "json", "-", stdin=b"\0" * 5000 + log).stdout) == STORY


def test_lines_without_a_time_have_none_in_the_table() -> None:
    """No time is shown where no line gave one, rather than 1970."""
    bare = b"".join(
        b"sshd[1]: " + text.encode() + b"\n" for text in (ACCEPTED.format(user="alice", ip="192.0.2.7", port=1), OPENED)
    )
    done = run("replay", "-", stdin=bare.replace(b"{user}", b"alice"))
    ended(done, OK)
    assert b"alice" in done.stdout
    assert b"1970" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--user", "bob"], ["bob"]),
        (["--user", "nobody"], []),
        (["--host", "db1"], ["carol"]),
        (["--host", "web1"], ["alice", "bob"]),
        (["--since", "2026-11-22T11:30:00Z"], ["bob", "carol"]),
        (["--since", "2026-11-22T12:00:02Z"], ["bob", "carol"]),
        (["--until", "2026-11-22T12:00:02Z"], ["alice"]),
        (["--since", "2026-11-22T11:00", "--until", "2026-11-22T13:00"], ["bob"]),
        (["--since", "2026-11-22T12:30", "--tz", "+02:00"], ["bob", "carol"]),
        (["--since", "2026-11-23"], []),
        (["--until", "2026-11-22"], []),
        (["--since", "36500d", "--user", "alice"], ["alice"]),
    ],
)
def test_selection(arguments: list[str], expected: list[str]) -> None:
    """Events are chosen by time (from, included, to, not), user and host."""
    log = session(10, "alice") + session(12, "bob", port=2) + session(14, "carol", host="db1", port=3)
    done = run("replay", "--format", "json", *arguments, "-", stdin=log)
    ended(done, OK)
    assert [user for action, user in told(done.stdout) if action == "ssh_login"] == expected


def test_selection_counts_what_it_takes(log: Path) -> None:
    """The summary counts the events that were asked for, and says so where there are none."""
    log.write_bytes(session(10, "alice") + session(12, "bob", port=2))
    done = run("replay", "--user", "bob", log)
    ended(done, OK)
    assert "events: ssh_login 1, ssh_logout 1" in done.stdout.decode()
    assert "unverified logins: 1 " in done.stdout.decode()
    assert b"no events match" not in done.stderr
    nothing = ended(run("replay", "--user", "nobody", "--since", "2026-11-22", log), OK)
    assert nothing == "sshbell: no events match --since and --user\n"
    assert "is in the future" in ended(run("replay", "--since", "tomorrow", log), OK)


def test_empty_log(log: Path) -> None:
    """An empty log gets a hint where the lines may be."""
    log.write_bytes(b"")
    done = run("replay", log)
    assert ended(done, OK) == ""
    first, *hints = done.stdout.decode().splitlines()
    assert first == "0 lines read, 0 understood, 0 unmatched"
    assert [hint.partition(":")[0] for hint in hints] == [
        "the input is empty; older lines are in rotated files", "if sshd logs to the journal",
    ]  # fmt: skip


def test_no_summary_of_nothing(tmp_path: Path) -> None:
    """Where no file could be read there is nothing to sum up."""
    assert run("replay", tmp_path / "missing.log").stdout == b""
    broken = tmp_path / "broken.log.gz"
    broken.write_bytes(b"\x1f\x8b")
    assert run("replay", broken).stdout == b""


def test_color(log: Path) -> None:
    """Color is for terminals, and for those who want it: not with NO_COLOR, not on a dumb one, not in a pipe."""
    assert "\x1b[32m" in on_a_terminal("replay", "--config", BARE, log)
    assert "\x1b" not in on_a_terminal("replay", "--config", BARE, log, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("replay", "--config", BARE, log, TERM="dumb")
    assert b"\x1b" not in run("replay", log).stdout


# ESC ] 0 ; sets a terminal's title; CR hides what stands before it; U+202E turns the rest of a line round; U+009B is a CSI.
EVIL = [
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "a\rb",
    "\u202egnp",
    "\u200b",
    "\u2066x\u2069",
    "\x9b31m",
    "\x7f",
    "\xc2\x9b31m",
    "\u2028",
    "\U000e0041",
]


def harmful(output: bytes) -> list[str]:
    """Return the characters of an output that could do something to a terminal."""
    return [char for char in output.decode(errors="backslashreplace") if char != "\n" and not char.isprintable()]


@pytest.mark.parametrize("evil", EVIL)
def test_terminal_is_safe(evil: str) -> None:
    """Whatever a log holds, table and explanation hold nothing that a terminal obeys."""
    raw = evil.encode("utf-8", "surrogateescape")
    name = b"x" + raw + b"y"
    octal = "".join(f"\\{byte:03o}" for byte in raw).encode()
    log = b""
    for number, shown in enumerate((name, b"x" + octal + b"y")):
        who = b"%s from 192.0.2.7 port %d ssh2" % (shown, number + 1)
        at = DAY.encode() + b"10:00:0%d+00:00 w%s sshd[%d]: " % (number, b"eb" if number else raw.replace(b" ", b""), number + 1)
        log += (
            at + b"Accepted publickey for " + who + b": ED25519-CERT SHA256:abc ID k" + shown + b" (serial 1) CA RSA SHA256:d\n"
        )
        log += at + b"pam_unix(sshd:session): session opened for user " + shown + b"(uid=1001) by (uid=0)\n"
        log += at + b"Failed publickey for " + shown + b" from nowhere\n"
    for command in (["replay", "-"], ["explain", "-"]):
        done = run(*command, stdin=log, env={"PYTHONIOENCODING": "utf-8"})
        ended(done, OK)
        assert len(done.stdout) > 100
        assert harmful(done.stdout) == []


@pytest.mark.parametrize("evil", EVIL)
def test_error_messages_are_safe(tmp_path: Path, evil: str) -> None:
    """File names in error messages hold nothing that a terminal obeys either."""
    done = run("replay", tmp_path / f"x{evil}y.log", env={"PYTHONIOENCODING": "utf-8"})
    ended(done, NO_INPUT)
    assert harmful(done.stderr) == []


@pytest.mark.parametrize("command", FORMATS, ids=" ".join)
def test_locale_without_utf8(command: list[str]) -> None:
    """Names that the terminal's encoding lacks are no reason to fail."""
    name = "zo\\303\\253 \\342\\202\\254"
    log = LOG.replace(b"alice", name.encode())
    done = run(*command, "-", stdin=log, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"})
    ended(done, OK)


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_usable_time(tmp_path: Path, jobs: int) -> None:
    """Lines with a time that does not exist are counted, by one process and by several, and their logins are told."""
    log = tmp_path / "auth.log"
    log.write_bytes(MANY + session(10, port=9001).replace(b"2026-11-22T", b"2026-02-29T"))
    done = run("replay", "--format", "none", "--jobs", str(jobs), log)
    ended(done, OK)
    text = done.stdout.decode()
    assert "lines without a usable time: 4 " in text
    assert "ssh_login 7,976" in text
    assert "without a usable time" not in run("replay", "-", stdin=LOG).stdout.decode()


def test_replay_with_another_configuration(tmp_path: Path) -> None:
    """``--with`` shows the findings that a configuration gains and loses, and counts those that stay."""
    log, new = tmp_path / "auth.log", tmp_path / "new.toml"
    failed = "Failed password for {} from 198.51.100.9 port {} ssh2"
    lines = [f"{DAY}10:00:{number:02}Z web1 sshd[{number}]: {failed.format(f'u{number}', number)}" for number in range(1, 16)]
    log.write_text("\n".join(lines) + "\n")
    new.write_text('[detect.guessing]\nhost_rule = ""\n[detect.many_accounts]\naddress = "12/1h"\nprefix = ""\n')
    done = run("replay", "--with", str(new), str(log))
    ended(done, OK)
    said = done.stdout.decode().splitlines()
    assert [line[:2] for line in said[:4]] == ["  ", "- ", "- ", "+ "]
    assert ("rule 10/1h" in said[1], "rule 12/10m" in said[2], "rule 12/1h" in said[3]) == (True, True, True)
    assert said[-2:] == ["many_accounts: 1 gained, 1 lost, 0 the same", "guessing: 0 gained, 1 lost, 0 the same"]
    objects = run("replay", "--format", "json", "--with", str(new), str(log)).stdout.splitlines()
    assert [json.loads(line)["labels"]["change"] for line in objects] == ["lost", "lost", "gained"]


# ---------------------------------------------------------------- explain


def test_explain_a_line() -> None:
    """A line that a rule reads: how it was framed, which rule took which part, and what it became."""
    done = run("explain", LOG.splitlines()[1].decode())
    ended(done, OK)
    said = done.stdout.decode()
    for part in ("framing   iso", "host      web1", "program   sshd   pid 4711", "rule      accepted", "'alice'", '"ssh"'):
        assert part in said
    became = json.loads(said[said.index("{") :])
    assert became["user"]["name"] == "alice"
    assert became["source"] == {"ip": "192.0.2.7", "port": 4711, "address": "192.0.2.7"}


def test_explain_a_line_that_no_rule_reads() -> None:
    """The marker stands under the place where the nearest rule stopped."""
    text = "drop connection #x: login refused"
    said = run("explain", f"Nov 22 10:00:00 web1 sshd[1]: {text}").stdout.decode()
    lines = said.splitlines()
    assert "unmatched: no rule reads this message" in said
    shown = next(number for number, one in enumerate(lines) if one.endswith(text) and not one.startswith("message"))
    marker = lines[shown + 1].index("^")
    assert lines[shown + 1].strip() == "^"
    assert lines[shown][:marker].endswith("drop connection #")


def test_explain_other_lines() -> None:
    """Another program's line, a bare message, and text that is nothing, each get a word."""
    assert "another program's line" in run("explain", "Nov 22 10:00:00 web1 cron[5]: hello").stdout.decode()
    bare = run("explain", "Accepted password for alice from 192.0.2.7 port 4711 ssh2").stdout.decode()
    assert "rule      accepted" in bare
    assert "'alice'" in bare
    for text in ("hello", "", "{", "\n", " ", "-v"):
        done = run("explain", text)
        ended(done, OK)
        assert "a whole line, within quotes" in done.stdout.decode()
    assert b"no line on standard input" in run("explain", "-", stdin=b"").stdout


def test_explain_tells_the_time_of_any_line() -> None:
    """The time is shown of other programs' lines, too: it was read."""
    said = run("explain", "--tz", "UTC", "--year", "2025", "Nov 22 10:00:00 web1 cron[5]: hello").stdout.decode()
    assert "time      2025-11-22T10:00:00.000000Z" in said


# ---------------------------------------------------------------- what it survives


@pytest.mark.parametrize("command", FORMATS, ids=" ".join)
def test_random_bytes(command: list[str]) -> None:
    """Bytes that are no log give nothing, and no error."""
    noise = b"".join(os.urandom(2000) + b"\n" + LOG for _ in range(20))
    done = run(*command, "-", stdin=noise)
    ended(done, OK)
    assert done.stdout != b""


HOSTILE = {
    "year 1": b"0001-01-01T00:00:00+02:00 web1 sshd[1]: %s",
    "year 9999": b"9999-12-31T23:59:59-02:00 web1 sshd[1]: %s",
    "year 0": b"0000-01-01T00:00:00Z web1 sshd[1]: %s",
    "an odd digit in the fraction": b"2026-11-22T10:00:00.123456+00:00 web1 sshd[1]: %s\n2026-11-22T10:00:01.12345\xb2+00:00 web1 sshd[1]: %s",
    "rsyslog's broken fraction": b"2026-11-22T10:00:00.\xb989Z web1 sshd[1]: %s",
    "an odd digit in the second": b"Nov 22 10:00:00 web1 sshd[1]: %s\nNov 22 10:00:1\xb2 web1 sshd[1]: %s",
    "a pid of 5000 digits": b'{"timestamp":"2026-11-22T10:00:00Z","host":"w","tag":"sshd","prog":"sshd","procid":"' + b"9" * 5000 + b'","msg":" %s"}',
    "a pid of 30 digits": b'{"timestamp":"2026-11-22T10:00:00Z","host":"w","tag":"sshd","prog":"sshd","procid":"' + b"9" * 30 + b'","msg":" %s"}',
    "a pid that is an odd digit": b'{"timestamp":"2026-11-22T10:00:00Z","host":"w","tag":"sshd","prog":"sshd","procid":"\xb2","msg":" %s"}',
    "a uid that is an odd digit": b'{"timestamp":"2026-11-22T10:00:00Z","host":"w","tag":"sshd","prog":"sshd","procid":"1","uid":"\xb2","msg":" %s"}',
    "numbers for texts": b'{"timestamp":1e999,"host":{},"tag":[],"prog":null,"procid":1.5,"msg":["%s"]}',
    "lone surrogates": b'{"timestamp":"2026-11-22T10:00:00Z","host":"\\ud800","tag":"sshd","prog":"sshd","procid":"1","msg":" %s"}',
    "nested deep": b'{"tag":' + b"[" * 30000,
    "a great year in an epoch": b"99999999999.5 web1 sshd[1]: %s",
    "a uid of 19 digits": b'{"timestamp":"2026-11-22T10:00:00Z","host":"w","tag":"sshd","prog":"sshd","procid":"1","uid":9999999999999999999,"msg":" %s"}',
}  # fmt: skip
HOSTILE_TEXTS = [
    b"Accepted publickey for alice from 192.0.2.7 port 1 ssh2: ED25519-CERT SHA256:x ID k (serial 99999999999999999999) CA RSA SHA256:y",
    b"Accepted publickey for alice from 192.0.2.7 port 1 ssh2: ED25519-CERT SHA256:x ID k (serial "
    + b"9" * 200
    + b") CA RSA SHA256:y",
    b"pam_unix(sshd:session): session opened for user alice(uid=99999999999999999999) by (uid=-1)",
    b"PAM 99999999999999999999999999999 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=1.2.3.4  user=a",
    b"User child is on pid 99999999999999999999",
    b"message repeated 999999999 times: [ Failed password for root from 192.0.2.7 port 1 ssh2]",
    b"Failed password for root from 192.0.2.7 port 99999 ssh2",
    b"Failed password for root from fe80::1%eth0 port 1 ssh2",
]


def _survives(command: list[str], hostile: bytes) -> bool:
    done = run(*command, "-", stdin=hostile + b"\n" + session(23, "zelda"))
    return done.returncode == OK and b"zelda" in done.stdout


@pytest.mark.parametrize("command", FORMATS[:3], ids=" ".join)
def test_hostile_lines(command: list[str]) -> None:
    """Lines that anybody may send (relays pass on times, hosts and PIDs as they come) break nothing: the next line is read."""
    text = ACCEPTED.format(user="alice", ip="192.0.2.7", port=1).encode()
    lines = {name: form.replace(b"%s", text) for name, form in HOSTILE.items()}
    lines |= {one.decode()[:70]: DAY.encode() + b"10:00:00Z web1 sshd[1]: " + one for one in HOSTILE_TEXTS}
    failures: dict[str, str] = {}
    if not _survives(command, b"\n".join(lines.values())):
        failures = {name: "breaks it" for name, hostile in lines.items() if not _survives(command, hostile)}
    assert failures == {}


# The peak is taken by a small process in between: a child of ours would begin with what pytest itself takes.
MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def run_measured(*arguments: str, stdin: Path) -> tuple[bytes, int, int]:
    """Run the command; return its output, its status, and the most memory that one of its processes took, in kB."""
    with stdin.open("rb") as given:
        done = run(*arguments, stdin=given.fileno(), command=[sys.executable, "-c", MEASURED, *COMMAND])
    status, peak = map(int, done.stderr.splitlines()[-1].split())
    return done.stdout, status, peak


@pytest.mark.parametrize("command", [["parse"], ["replay", "--format", "json"]], ids=" ".join)
def test_line_without_an_end(tmp_path: Path, command: list[str]) -> None:
    """A line of 100 MiB takes less than 80 MiB, and the lines behind it are read."""
    path = tmp_path / "auth.log"
    with path.open("wb") as out:
        for _ in range(100):
            out.write(b"sshd[1]: Accepted password for root from 6.6.6.6 port 1 ssh2 " * 17190)
        out.write(b"\n" + LOG)
    output, status, peak = run_measured(*command, "-", stdin=path)
    path.unlink()
    assert status == OK
    assert peak < MEMORY_LIMIT_KB
    assert {user for _, user in told(output)} - {None} == {"alice"}


def test_memory_of_many_connections(tmp_path: Path) -> None:
    """A flood of connections that never end stays within what the tables may hold."""
    path = tmp_path / "auth.log"
    with path.open("wb") as out:
        for number in range(150_000):
            out.write(line("10:00:00", number, f"Connection from 192.0.2.7 port {number % 60000 + 1} on 10.0.0.1 port 22"))
    _, status, peak = run_measured("replay", "--jobs", "1", "--format", "none", "-", stdin=path)
    assert status == OK
    assert peak < MEMORY_LIMIT_KB


@pytest.mark.parametrize("command", [["parse"], ["replay", "--jobs", "1"], ["replay", "--jobs", "2"]], ids=" ".join)
def test_interrupt(command: list[str]) -> None:
    """Control-C ends the command at once, with 130, without a traceback, and with no process left."""
    process = subprocess.Popen(
        [*COMMAND, *on_a_bare_machine(*command, "-")], cwd=PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LOG)
    process.stdin.flush()
    os.read(process.stdout.fileno(), 10)  # it is at work
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode in {130, -signal.SIGINT}
    assert b"Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
