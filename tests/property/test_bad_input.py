"""No file and no argument is a fault of sshbell: whatever is wrong with it ends in an error that says so, or is left out."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.cli import EX_SOFTWARE
from consumer.config_file import parse
from consumer.ecs import NoEventError, event_of
from consumer.errors import ConfigError, DataError
from consumer.intake.files import LogFile
from consumer.intake.journal import Journal, Kind, replayed
from consumer.keys.authorized_keys import AuthorizedKey, parsed
from consumer.keys.document import Document, Head, written
from consumer.keys.sshd_config import SshdConfig
from consumer.people.people import People
from consumer.places.fetch import _unpack, _verified
from consumer.places.geoip import Places
from consumer.system.installed import Manifest
from consumer.system.rsyslog_conf import RsyslogConfig
from tests.bare_machine import on_a_bare_machine
from tests.budget import examples
from tests.databases import ADDRESS, ADDRESS_6, LYON, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What parsers stumble over: depth, size, numbers, the ends of texts, what is no Unicode.
MONSTERS = [
    b"[" * 5000, b'{"a":' * 5000, b"{a=" * 5000, b"a." * 5000, b"(" * 5000, b"9" * 5000, b"-1", b"1e999", b"0x" + b"f" * 5000,
    b"nan", b"\0", rb"\u0000", rb"\ud800", b"\xff", b"\xed\xa0\x80", b'"', b"'''", b'"""', b"\\", b"\n", b"\r", b"",
    b"x" * 70_000, b"=", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"http://[::1/", b"*" * 300,
    b"[!]" * 100, b"%s{0}%n", b"2" * 300,
]  # fmt: skip
CHUNK = st.one_of(st.sampled_from(MONSTERS), st.binary(max_size=8))
# Where, how much of what is there goes, and what comes in its place; in parts of the whole.
EDIT = st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 4, 100]), CHUNK)
EDITS = st.lists(EDIT, min_size=1, max_size=3)


def edited(sample: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Return a sample after some edits."""
    for part, length, chunk in edits:
        at = int(part * len(sample))
        sample = sample[:at] + chunk + sample[at + length :]
    return sample


class Reader(NamedTuple):
    """What reads a file, a good one, and what it may raise."""

    read: Callable[[Path], object]
    sample: Callable[[], bytes]
    errors: tuple[type[Exception], ...] = ()


CONFIG = b"""
state_dir = "/var/lib/sshbell"
keep = "90d"
hosts = { bastion1 = ["192.0.2.10"] }
map_url = "https://map.example.org/{ip}"
geoip = ["/var/lib/GeoIP/*.mmdb"]
[[channel]]
type = "email"
name = "ops"
to = ["Ops <ops@example.org>"]
server = ["mail.example.org"]
port = 587
username = "bell"
oauth2 = { token_url = "https://login.example.org/token", client_id = "x", refresh_token = { file = "/etc/sshbell/token" } }
timezone = "Europe/Berlin"
[[route]]
channels = ["ops"]
events = ["ssh_login"]
include = { user = ["a*"], address = ["192.0.2.0/24"] }
"""
PEOPLE = f"""
[[person]]
name = "Alice"
keys = ["SHA256:{"A" * 43}"]
accounts = ["alice@web*"]
certificates = ["alice-*"]
contacts = {{ email = ["alice@example.org"] }}
""".encode()
KEY = AuthorizedKey("alice", "ssh-ed25519", f"SHA256:{'A' * 43}", f"MD5:{':'.join(['00'] * 16)}", "alice@laptop", ["restrict"])
LOG = b"2026-11-22T10:00:00+00:00 web1 sshd[1]: Accepted publickey for alice from 192.0.2.7 port 4711 ssh2\n" * 50


@cache
def database() -> bytes:
    """Return a database in MaxMind's format."""
    with tempfile.TemporaryDirectory() as folder:
        return made(Path(folder, "x.mmdb"), LYON).read_bytes()


@cache
def segment() -> bytes:
    """Return a segment of a journal."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "journal"), 1)
        journal.append(Kind.LINES, LOG)
        journal.append(Kind.TICK, b"1790000000000000")
        journal.close()
        return Path(folder, "journal", "00000001.journal").read_bytes()


def _ignored(_fault: str) -> None:
    pass


def places(path: Path) -> None:
    """Ask a database, as messages do, and as replay does."""
    for many in (False, True):
        found = Places([str(path)], _ignored, many=many)
        for address in [ADDRESS, ADDRESS_6] * 25:
            found.of(address)
        found.close()


def unpacked(path: Path) -> None:
    """Unpack a download, and look whether it is a database."""
    _unpack(path, path.with_suffix(".unpacked"), "x")
    _verified(path.with_suffix(".unpacked"), "x")


def journal_of(path: Path) -> None:
    """Read a journal of one segment."""
    folder = path.with_name("journal")
    folder.mkdir()
    path.rename(folder / "00000001.journal")
    list(replayed(folder, 1, _ignored))


def rsyslog_of(path: Path) -> None:
    """Read rsyslogd's configuration."""
    found = RsyslogConfig(main=path)
    for name in ("imuxsock", "imjournal"):
        found.module(name)
    for text in (found.user, found.directive("FileOwner"), found.includes(path)):
        str(text)


def archive(pack: Callable[[bytes], bytes]) -> Reader:
    """Return what reads a packed log."""
    return Reader(lambda path: list(LogFile(str(path)).blocks()), lambda: pack(LOG), (DataError,))


READERS = {
    "configuration": Reader(lambda path: parse(path.read_bytes(), "x"), lambda: CONFIG, (ConfigError,)),
    "people": Reader(People.load, lambda: PEOPLE, (ConfigError,)),
    "keys": Reader(
        lambda path: list(Document(io.BytesIO(path.read_bytes()), "x").keys()),
        lambda: b"".join(written(Head("sshbell-keys", 1, "web1", "2026-11-22T10:00:00Z"), [KEY] * 3)),
        (DataError,),
    ),
    "authorized_keys": Reader(
        lambda path: list(parsed(path.read_bytes())), lambda: b'restrict,from="10.*" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 a@b\n' * 3
    ),
    "sshd_config": Reader(
        lambda path: SshdConfig(str(path)).values(), lambda: b"LogLevel VERBOSE\nMatch User a*\nAuthorizedKeysFile %h/x\n"
    ),
    "rsyslog.conf": Reader(rsyslog_of, lambda: b'module(load="imuxsock" SysSock.Annotate="on")\n$FileOwner syslog\n'),
    "installed": Reader(lambda path: Manifest(path).entries, lambda: b'{"entries": []}', (DataError,)),
    "event": Reader(
        lambda path: event_of(path.read_bytes()),
        lambda: b'{"@timestamp":"2026-11-22T10:00:00Z","event":{"id":"1","action":"ssh_login"},"user":{"name":"a"}}',
        (NoEventError,),
    ),
    "database": Reader(places, database),
    "download": Reader(unpacked, lambda: gzip.compress(database()), (DataError,)),
    "journal": Reader(journal_of, segment),
    "plain": archive(lambda log: log), "gz": archive(gzip.compress), "bz2": archive(bz2.compress), "xz": archive(lzma.compress),
    "zst": archive(zstandard.compress),
}  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
@given(edits=EDITS)
@examples(60)
def test_files(kind: str, edits: list[tuple[float, int, bytes]]) -> None:
    """Whatever stands in a file, its reader reads it, or raises what it says that it raises."""
    reader = READERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(edited(reader.sample(), edits))
        with suppress(*reader.errors):
            reader.read(path)


@pytest.mark.parametrize("kind", READERS)
def test_good_files(kind: str) -> None:
    """The samples are good, so that an edit leads to what is behind the first look."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(READERS[kind].sample())
        READERS[kind].read(path)


TEXT = st.one_of(
    st.sampled_from([chunk.decode("utf-8", "surrogateescape").replace("\0", "\x01")[:9000] for chunk in MONSTERS]),
    st.sampled_from(
        ["999999w", "10000-01-01", "+24:00", "-23:59", "../../etc/passwd", "Europe", "::", "1.2.3.4%x", "fe80::1%" + "9" * 300,
         "https://x:0/y", "https:///", "/", ".", "/dev/null", "http://[::1", "-", "http://127.0.0.1:1/x", "https://\u2100.example/x"]
    ),
    st.text(max_size=12).map(lambda text: text.replace("\0", "")),
)  # fmt: skip
COMMANDS = [
    ("explain", "{}"), ("geoip", "{}"), ("geoip", "fetch", "--url", "{}", "--to", "{folder}"),
    ("geoip", "fetch", "--server", "{}", "--to", "{folder}"), ("geoip", "fetch", "--edition", "{}", "--to", "{folder}"),
    ("geoip", "fetch", "--maxmind-account", "{}", "--maxmind-key", "{}", "--to", "{folder}"),
    ("replay", "--since", "{}", "{log}"), ("replay", "--until", "{}", "--user", "{}", "{log}"), ("replay", "--tz", "{}", "{log}"),
    ("replay", "{}"), ("parse", "{}"), ("parse", "--year", "{}", "{log}"), ("history", "--since", "{}"),
    ("history", "--user", "{}"), ("who", "--host", "{}"), ("outbox", "list", "{}"), ("outbox", "drop", "{}", "--channel", "{}"),
    ("status", "--config", "{}"),
    ("keys", "import", "--host", "{}", "{log}"), ("keys", "import", "{}"), ("ring", "--channel", "{}"),
    ("people", "check", "--config", "{}"), ("completion", "{}"), ("{}",), ("--{}",),
]  # fmt: skip
# Runs each line of its input, a list of words in JSON, in a child of its own; writes exit code and standard error.
# The commands import what they need when they run; to do that in each child would take most of the time.
RUNNER = """
import importlib, json, os, pkgutil, sys, tempfile
import consumer, dateparser
from consumer.cli import main
for each in pkgutil.walk_packages(consumer.__path__, "consumer."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
for line in sys.stdin:
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY), said.fileno())):
                os.dup2(file, number)
            try:
                main.main(json.loads(line))
            except SystemExit as ended:
                os._exit(ended.code)
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        print(json.dumps([code, said.read().decode("utf-8", "replace")]), flush=True)
"""


class Runner:
    """Runs commands of sshbell that share a folder, each in a process of its own that has imported all of it before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "geoip").mkdir()
        (folder / "state").mkdir(mode=0o700)
        (folder / "auth.log").write_bytes(LOG)
        config = f'state_dir = "{folder}/state"\nuser = ""\ngeoip = []\nreverse_dns = false\npeople = "{os.devnull}"\n'
        (folder / "sshbell.toml").write_text(config)
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command, and return exit code and standard error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(words)}\n")
        self._process.stdin.flush()
        code, said = json.loads(self._process.stdout.readline())
        return code, said

    def close(self) -> None:
        """End."""
        self._process.communicate()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Return what runs commands."""
    with tempfile.TemporaryDirectory() as folder, closing(Runner(Path(folder))) as found:
        yield found


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@given(text=TEXT)
@example(text="http://[::1/")
@examples(12)
def test_arguments(command: tuple[str, ...], text: str, runner: Runner) -> None:
    """No argument is answered with the code of a fault of ours, or with a signal."""
    places = {"folder": runner.folder / "geoip", "log": runner.folder / "auth.log"}
    words = [word.format(text, text, **places) for word in command]
    if "--config" not in words and len(words) > 1 and command[0] != "completion":
        words += ["--config", str(runner.folder / "sshbell.toml")]
    code, said = runner.run(*words)
    assert 0 <= code < 99, said
    assert code != EX_SOFTWARE, said


@pytest.mark.parametrize(
    "zone", ["AAA24", "AAA-24", "AAA-99999999999", "AAA23BBB24", "A" * 5000, ":/dev/null", "EST5EDT,M99.9.9"]
)
def test_zones(zone: str, tmp_path: Path) -> None:
    """Whatever stands in TZ, a log is read."""
    log = tmp_path / "auth.log"
    log.write_bytes(LOG + b"Nov 22 10:00:00 web1 sshd[1]: Accepted publickey for alice from 192.0.2.7 port 4711 ssh2\n")
    words = [sys.executable, "-m", "consumer", *on_a_bare_machine("replay", "--format", "json", log)]
    done = subprocess.run(words, env=os.environ | {"TZ": zone}, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
