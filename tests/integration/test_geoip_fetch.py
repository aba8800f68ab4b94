"""``sshbell geoip fetch`` against a real web server on loopback that does all that web servers do, and more."""

from __future__ import annotations

import gzip
import io
import os
import pwd
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mmdb_writer import METADATA_MAGIC, Encoder

from consumer.ecs import GeoFields, SourceFields
from consumer.errors import ConfigError, DataError, InputError, OutputError, SshbellError, TryLaterError, UsageError
from consumer.places import download as geoip_download
from consumer.places import fetch as geoip_fetch
from consumer.places.fetch import fetched
from consumer.places.geoip import Places
from consumer.places.wanted_database import WantedDatabase, of_url
from tests import needs
from tests.databases import ADDRESS, LYON, ORANGE, made
from tests.integration import system_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PROJECT_DIR = Path(__file__).parents[2]
OK, USAGE, DATA, NO_INPUT, IO_ERROR, TRY_LATER, CONFIG = 0, 64, 65, 66, 74, 75, 78
# 2026-01-02T03:04:05Z
MADE_S = 1767323045


class FileServer(ThreadingHTTPServer):
    """Serves what a test puts into ``pages``; notes what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Callable[[Handler], None]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Serve a page, and return its URL."""

        def answer(to: Handler) -> None:
            since = to.headers.get("If-Modified-Since")
            if since is not None and since == headers.get("Last_Modified"):
                to.send_response(304)
                to.end_headers()
                return
            to.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                to.send_header(name.replace("_", "-"), value)
            to.end_headers()
            to.wfile.write(body)

        self.pages[path] = answer
        return f"{self.url}{path}"

    def raw(self, path: str, *pieces: bytes, then_hang: bool = False, for_ever: bytes = b"", pause_s: float = 0) -> str:
        """Send bytes as they are."""

        def answer(to: Handler) -> None:
            for piece in pieces:
                to.wfile.write(piece)
            while for_ever and not self.over.wait(pause_s):
                to.wfile.write(for_ever)
            if then_hang:
                self.over.wait(60)

        self.pages[path] = answer
        return f"{self.url}{path}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the site says."""

    server: FileServer

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        answer = self.server.pages.get(self.path)
        self.close_connection = True
        if answer is None:
            self.send_error(404)
            return
        with suppress(ConnectionError):  # whoever asked has seen enough
            answer(self)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Start a site."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FileServer() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            found.over.set()
            found.shutdown()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where databases are put; an old one is there."""
    found = tmp_path / "geoip"
    found.mkdir(mode=0o755)
    os.utime(made(found / "x.mmdb", {"city": "old"}), (1, 1))
    return found


@pytest.fixture
def new(tmp_path: Path) -> bytes:
    """Return a new database."""
    return made(tmp_path / "new.mmdb", {"city": "new"}).read_bytes()


def silent(_received: int, _total: int | None) -> None:
    """Nobody looks."""


def fetch(url: str, folder: Path) -> str:
    """Fetch into x.mmdb."""
    return fetched(WantedDatabase("x.mmdb", [url]), folder, silent)


def city(folder: Path) -> str:
    """Return what the database in place says; nothing else may be there."""
    assert sorted(path.name for path in folder.iterdir()) == ["x.mmdb"]
    reports: list[str] = []
    places = Places([str(folder / "x.mmdb")], reports.append)
    try:
        return places.text(ADDRESS) + "".join(reports)
    finally:
        places.close()


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a .tar.gz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


# ---------------------------------------------------------------- what is right


@pytest.mark.parametrize("form", ["plain", "gzip", "tar.gz", "tar", "two gzips"])
def test_forms(site: FileServer, folder: Path, new: bytes, form: str) -> None:
    """A database comes as it is, with gzip, or in an archive; what it is is told by what it holds, not by its name."""
    tar_gz = archive(("GeoLite2-City_20260102/COPYRIGHT.txt", b"x"), ("GeoLite2-City_20260102/GeoLite2-City.mmdb", new))
    half = len(new) // 2
    body = {
        "plain": new,
        "gzip": gzip.compress(new),
        "tar.gz": tar_gz,
        "tar": gzip.decompress(tar_gz),
        "two gzips": gzip.compress(new[:half]) + gzip.compress(new[half:]),
    }[form]
    said = fetch(site.serve("/file", body, Last_Modified=formatdate(MADE_S, usegmt=True)), folder)
    assert said.startswith(f"{folder / 'x.mmdb'}: Test, {datetime.now(UTC):%Y-}")
    assert city(folder) == "new"
    found = (folder / "x.mmdb").stat()
    # Who may read the folder may read it.
    assert (int(found.st_mtime), found.st_mode & 0o777) == (MADE_S, 0o644)


def test_who_may_not_read_the_folder_may_not_read_it(site: FileServer, folder: Path, new: bytes) -> None:
    """In a directory of one user alone it is that user's alone."""
    folder.chmod(0o700)
    fetch(site.serve("/x", new), folder)
    assert (folder / "x.mmdb").stat().st_mode & 0o777 == 0o600


def test_not_newer(site: FileServer, folder: Path, new: bytes) -> None:
    """What is there already is not fetched again; one that is damaged is, whatever its time."""
    url = site.serve("/x", new, Last_Modified=formatdate(MADE_S, usegmt=True))
    fetch(url, folder)
    assert fetch(url, folder) == f"{folder / 'x.mmdb'}: up to date"
    (folder / "x.mmdb").write_bytes(b"damaged")
    os.utime(folder / "x.mmdb", (MADE_S, MADE_S))
    fetch(url, folder)
    assert city(folder) == "new"


def test_left_over_from_a_kill(site: FileServer, folder: Path, new: bytes) -> None:
    """What a killed one has left is in nobody's way, and is not followed if it is a link."""
    victim = folder.parent / "victim"
    victim.write_text("mine")
    (folder / ".x.mmdb.packed").symlink_to(victim)
    (folder / ".x.mmdb.unpacked").write_bytes(b"x" * 100_000)
    fetch(site.serve("/x", new), folder)
    assert (city(folder), victim.read_text()) == ("new", "mine")


def test_redirects(site: FileServer, folder: Path, new: bytes) -> None:
    """One on this machine is followed; the authorization goes no further than the server it is for."""
    site.serve("/there", new)
    url = site.serve("/here", b"", 302, Location=f"http://localhost:{site.server_address[1]}/there")
    fetched(WantedDatabase("x.mmdb", [url], "Basic c2VjcmV0"), folder, silent)
    assert site.asked == [("/here", "Basic c2VjcmV0"), ("/there", None)]
    assert city(folder) == "new"


def test_progress(site: FileServer, folder: Path, new: bytes) -> None:
    """Who looks sees how far it is."""
    seen: list[tuple[int, int | None]] = []
    fetched(WantedDatabase("x.mmdb", [site.serve("/x", new)]), folder, lambda received, total: seen.append((received, total)))
    assert seen[-1] == (len(new), len(new))


# ---------------------------------------------------------------- what is wrong


def bomb() -> bytes:
    """Return 20 MiB of zeros in 20 KiB."""
    return gzip.compress(bytes(20 << 20))


def big_header() -> bytes:
    """Return an archive that begins with a header of 20 MiB."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 20 << 20
    return gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(21 << 20))


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _new: b"",
    "a web page": lambda _new: b"<html><title>Log in</title></html>" * 100,
    "half of it": lambda new: new[: len(new) // 2],
    "half of its gzip": lambda new: gzip.compress(new)[:-20],
    "a wrong checksum": lambda new: gzip.compress(new)[:-8] + bytes(8),
    "garbage behind a gzip": lambda new: gzip.compress(new) + b"garbage",
    "a gzip of nothing": lambda _new: gzip.compress(b""),
    "a bomb": lambda _new: bomb(),
    "a bomb in an archive": lambda _new: archive(("x.mmdb", bytes(20 << 20))),
    "a header that is a bomb": lambda _new: big_header(),
    "an archive without a database": lambda _new: archive(("README", b"x"), ("x.csv", b"1,2")),
    "an archive with a link": lambda _new: archive(("x.mmdb", b""), kind=tarfile.SYMTYPE),
    "an archive with a hard link": lambda _new: archive(("x.mmdb", b""), kind=tarfile.LNKTYPE),
    "an archive with a device": lambda _new: archive(("x.mmdb", b""), kind=tarfile.CHRTYPE),
    "half of an archive": lambda new: gzip.compress(gzip.decompress(archive(("x.mmdb", new)))[: 512 + len(new) // 2]),
    "an archive with a wrong checksum": lambda new: archive(("x.mmdb", new))[:-8] + bytes(8),
    "a database of something else": lambda _new: made(
        Path(os.environ["SSHBELL_TEST_DIR"], "e.mmdb"), {"colour": "red"}
    ).read_bytes(),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_wrong_content(site: FileServer, folder: Path, new: bytes, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no database, a broken one or far too large is refused in one line; the old one stays, and nothing else is there."""
    monkeypatch.setenv("SSHBELL_TEST_DIR", str(folder.parent))
    monkeypatch.setattr(geoip_fetch, "UNPACKED_LIMIT_BYTES", 10 << 20)
    url = site.serve("/x", BAD[kind](new))
    with pytest.raises(DataError) as error:
        fetch(url, folder)
    assert str(error.value).startswith(f"{url}: ")
    assert "\n" not in str(error.value)
    assert city(folder) == "old"


def test_a_bomb_by_its_growth(site: FileServer, folder: Path) -> None:
    """What is far larger than it was when it was packed is refused long before the bound of all files."""
    with pytest.raises(DataError, match="more than 67,108,864 bytes unpacked"):
        fetch(site.serve("/x", gzip.compress(bytes(100 << 20))), folder)
    assert city(folder) == "old"


def test_room_for_others(site: FileServer, folder: Path, new: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that is nearly full, the rest is left to the journal and the databases of sshbell."""
    free = os.statvfs(folder)
    few = os.statvfs_result((*free[:4], (len(new) - 1) // free.f_frsize, *free[5:]))
    monkeypatch.setattr("os.fstatvfs", lambda _descriptor: few)
    with pytest.raises(OutputError, match="more than half of the free space"):
        fetch(site.serve("/x", new + bytes(free.f_frsize)), folder)
    assert city(folder) == "old"


def endless(bits: int) -> bytes:
    """Return a database whose tree has 2 to the power of its bits leaves, all of them empty."""
    tree = b"".join((number + 1).to_bytes(3, "big") * 2 for number in range(bits))
    fields: dict[str, Any] = {
        "node_count": bits, "record_size": 24, "ip_version": 6 if bits == 128 else 4, "database_type": "x", "languages": [],
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": MADE_S, "description": {},
    }  # fmt: skip
    return tree + bytes(16) + METADATA_MAGIC + Encoder(cache=False).encode_meta(fields)


@pytest.mark.parametrize("bits", [32, 128])
def test_an_endless_tree(site: FileServer, folder: Path, bits: int) -> None:
    """A tree that nobody can walk through is refused once enough of it was seen."""
    with pytest.raises(DataError, match="with neither places nor networks"):
        fetch(site.serve("/x", endless(bits)), folder)
    assert city(folder) == "old"


def test_names_in_an_archive_lead_nowhere(site: FileServer, folder: Path, new: bytes) -> None:
    """An archive says what it holds, and not where that goes."""
    body = archive(("../../../etc/cron.d/x", b"x"), ("/tmp/evil", b"x"), ("../../evil.mmdb", new))  # noqa: S108
    fetch(site.serve("/x", body), folder)
    assert city(folder) == "new"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["geoip", "new.mmdb"]


HEAD = b"HTTP/1.1 200 OK\r\n"


def test_cut_off(site: FileServer, folder: Path, new: bytes) -> None:
    """A connection that breaks in the middle is tried later."""
    url = site.raw("/x", HEAD + b"Content-Length: %d\r\n\r\n" % len(new), new[: len(new) // 2])
    with pytest.raises(TryLaterError, match=f"{len(new) // 2:,} of {len(new):,} bytes"):
        fetch(url, folder)
    url = site.raw("/y", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100\r\nxx")
    with pytest.raises(TryLaterError, match="broke"):
        fetch(url, folder)
    assert city(folder) == "old"


@pytest.mark.parametrize(
    "answer", [b"", b"\x16\x03\x01", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"]
)
def test_no_http(site: FileServer, folder: Path, answer: bytes) -> None:
    """A server that speaks something else is tried later."""
    with pytest.raises(TryLaterError):
        fetch(site.raw("/x", answer), folder)
    assert city(folder) == "old"


def test_too_large(site: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says that it is too large is not begun; what does not say so is ended where it gets so."""
    with pytest.raises(DataError, match="999,999,999,999 bytes; sshbell downloads at most"):
        fetch(site.raw("/x", HEAD + b"Content-Length: 999999999999\r\n\r\n", then_hang=True), folder)
    monkeypatch.setattr(geoip_download, "DOWNLOAD_LIMIT_BYTES", 1 << 20)
    with pytest.raises(DataError, match="more than 1,048,576 bytes"):
        fetch(site.raw("/x", HEAD + b"\r\n", for_ever=b"x" * 65536), folder)
    assert city(folder) == "old"


@pytest.mark.parametrize("pieces", [(), (HEAD,), (HEAD + b"\r\n", b"x" * 100)], ids=["nothing", "in its head", "in its body"])
def test_hangs(site: FileServer, folder: Path, pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing more is left after a while."""
    monkeypatch.setattr(geoip_download, "SILENCE_LIMIT_S", 0.3)
    before = time.monotonic()
    with pytest.raises(TryLaterError):
        fetch(site.raw("/x", *pieces, then_hang=True), folder)
    assert time.monotonic() - before < 10
    assert city(folder) == "old"


@pytest.mark.parametrize("head", [HEAD + b"A: ", HEAD + b"\r\n"], ids=["head", "body"])
def test_trickles(site: FileServer, folder: Path, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then, in its head or its body, does not hold it for ever."""
    monkeypatch.setattr(geoip_fetch, "FETCH_LIMIT_S", 1.0)
    before = time.monotonic()
    with pytest.raises(TryLaterError, match="not complete within 1 s"):
        fetch(site.raw("/x", head, for_ever=b"x", pause_s=0.05), folder)
    assert time.monotonic() - before < 10
    assert city(folder) == "old"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, InputError), (410, InputError), (401, InputError), (403, InputError), (429, TryLaterError), (500, TryLaterError),
        (503, TryLaterError),
    ],
)  # fmt: skip
def test_refused(site: FileServer, folder: Path, status: int, kind: type[SshbellError]) -> None:
    """What the server says decides whether it is worth while to try again."""
    with pytest.raises(kind, match=str(status)):
        fetch(site.serve("/x", b"<html>", status), folder)
    assert city(folder) == "old"


def test_nobody_is_there(folder: Path) -> None:
    """A port on which nobody listens, and a name that there is not, are tried later."""
    with FileServer() as gone:
        url = f"{gone.url}/x"
    with pytest.raises(TryLaterError, match="Connection refused"):
        fetch(url, folder)
    assert city(folder) == "old"


@pytest.mark.parametrize(
    "target",
    [
        "http://[::1/",
        "https://[::1]:x/",
        "http://192.0.2.1/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/x",
        "//192.0.2.1/x",
    ],
)
def test_bad_redirects(site: FileServer, folder: Path, target: str) -> None:
    """Nothing but https is followed to another machine, and no other scheme at all."""
    with pytest.raises((DataError, InputError), match=r"not https|302|invalid URL"):
        fetch(site.serve("/x", b"", 302, Location=target), folder)
    assert city(folder) == "old"


def test_redirects_for_ever(site: FileServer, folder: Path) -> None:
    """A circle is left."""
    with pytest.raises(InputError):
        fetch(site.serve("/x", b"", 302, Location="/x"), folder)
    assert city(folder) == "old"


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/x.mmdb", "http://download.example.org/x.mmdb", "ftp://127.0.0.1/x.mmdb", "file:///etc/passwd", "x.mmdb",
     "https://me:secret@example.org/x.mmdb", "https://exa mple.org/x\r\ny.mmdb", "http://[::1/x", "https://[::1]:x/x", "https:///x",
     "https://me:secret@[::1/x?secret", "me:secret@example.org/x", "https:/me:secret@example.org/x", "//me:secret@example.org:x/",
     "https://example.org:secret@/x", "x?secret@x"],
)  # fmt: skip
def test_bad_urls(folder: Path, url: str) -> None:
    """Refused before anything is sent; a password in one is not shown."""
    with pytest.raises(UsageError) as error:
        fetch(url, folder)
    assert "secret" not in str(error.value)
    with suppress(UsageError):
        of_url(url)
    assert city(folder) == "old"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/country.mmdb.gz?token=secret", "country.mmdb"), ("https://example.org/x.tar.gz", "x.mmdb"),
        ("https://example.org/GeoLite2-City.tgz", "GeoLite2-City.mmdb"), ("https://example.org/free/asn.mmdb", "asn.mmdb"),
        ("https://example.org/", None), ("https://example.org/..", None), ("https://example.org/%2e%2e%2fx.mmdb", None),
        ("https://example.org/.hidden.mmdb", None), ("https://example.org/a*.mmdb", None),
        ("https://example.org/a%00.mmdb", None),
    ],
)  # fmt: skip
def test_names_of_urls(url: str, name: str | None) -> None:
    """The last part of the path names the file, where it is a name; a query is not shown."""
    if name is None:
        with pytest.raises(UsageError, match="names no file"):
            of_url(url)
    else:
        assert of_url(url).name == name


def test_nowhere_to_put_it(site: FileServer, tmp_path: Path, new: bytes) -> None:
    """A folder that is not there is said."""
    with pytest.raises(OutputError, match="No such file"):
        fetch(site.serve("/x", new), tmp_path / "none")


def test_full_disk(site: FileServer, folder: Path, new: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full is no fault of the network, and costs nothing that is there."""
    opened = geoip_download.created_file

    def full(path: Path) -> object:
        opened(path).close()
        return open("/dev/full", "wb", buffering=0)  # noqa: PTH123

    monkeypatch.setattr(geoip_download, "created_file", full)
    with pytest.raises(OutputError, match="No space left"):
        fetch(site.serve("/x", new), folder)
    assert city(folder) == "old"


def test_one_at_a_time(site: FileServer, folder: Path, new: bytes) -> None:
    """A second one says so, and touches nothing."""
    with geoip_fetch._alone(folder), pytest.raises(TryLaterError, match="another"):
        fetch(site.serve("/x", new), folder)
    assert city(folder) == "old"


# ---------------------------------------------------------------- the command


def command(
    *arguments: str | Path, status: int = OK, python: Sequence[str] = (sys.executable,), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Call it, and check how it ended."""
    done = subprocess.run(
        [*python, "-m", "consumer", "geoip", "fetch", *map(str, arguments)], cwd=PROJECT_DIR, text=True, check=False,
        capture_output=True, timeout=60, env=env,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "a fault of sshbell" not in done.stderr
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with a state directory."""
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "sshbell.toml"
    path.write_text(f'user = ""\nstate_dir = "{tmp_path}/state"\ngeoip = ["{tmp_path}/state/geoip/*.mmdb"]\n')
    return path


def test_dbip(site: FileServer, config: Path, tmp_path: Path) -> None:
    """City and ASN by default, into the state directory; last month's where this month's is not there yet."""
    today = datetime.now(UTC)
    last = today.replace(day=1) - timedelta(days=1)
    lyon, orange = made(tmp_path / "c.mmdb", LYON, kind="DBIP-City-Lite"), made(tmp_path / "a.mmdb", ORANGE)
    site.serve(f"/free/dbip-city-lite-{last:%Y-%m}.mmdb.gz", gzip.compress(lyon.read_bytes()))
    site.serve(f"/free/dbip-asn-lite-{today:%Y-%m}.mmdb.gz", gzip.compress(orange.read_bytes()))
    done = command("--server", site.url, "--config", config)
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        f"{tmp_path}/state/geoip/dbip-city-lite.mmdb", f"{tmp_path}/state/geoip/dbip-asn-lite.mmdb",
    ]  # fmt: skip
    assert done.stderr == ""
    assert [path for path, _ in site.asked] == [
        f"/free/dbip-city-lite-{today:%Y-%m}.mmdb.gz", f"/free/dbip-city-lite-{last:%Y-%m}.mmdb.gz",
        f"/free/dbip-asn-lite-{today:%Y-%m}.mmdb.gz",
    ]  # fmt: skip
    asked = subprocess.run(
        [sys.executable, "-m", "consumer", "geoip", "--config", str(config), ADDRESS], cwd=PROJECT_DIR, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    assert "Lyon, Auvergne-Rhone-Alpes, FR France" in asked.stdout
    assert "AS3215 Orange S.A." in asked.stdout
    assert (tmp_path / "state/geoip").stat().st_mode & 0o777 == 0o700


def test_maxmind(site: FileServer, config: Path, tmp_path: Path, new: bytes) -> None:
    """With account and key, of which neither is said; the key is sent to no other server."""
    key = tmp_path / "maxmind.key"
    key.write_text("SeCrEt\n")
    key.chmod(0o600)
    path = "/geoip/databases/GeoLite2-Country/download?suffix=tar.gz"
    site.serve("/elsewhere", archive(("GeoLite2-Country_20260102/GeoLite2-Country.mmdb", new)))
    site.serve(path, b"", 302, Location=f"{site.url}/elsewhere")
    options = (
        "--maxmind-account",
        "42",
        "--maxmind-key",
        key,
        "--edition",
        "GeoLite2-Country",
        "--server",
        site.url,
        "--config",
        config,
    )
    assert command(*options).stdout.startswith(f"{tmp_path}/state/geoip/GeoLite2-Country.mmdb: Test")
    assert site.asked == [(path, "Basic NDI6U2VDckV0"), ("/elsewhere", None)]
    site.serve(path, b"Invalid license key", 401)
    done = command(*options, status=CONFIG)
    assert "the account or its licence key is wrong" in done.stderr
    assert "SeCrEt" not in done.stderr + done.stdout
    key.chmod(0o644)
    assert "chmod" in command(*options, status=CONFIG).stderr
    command(*options[2:], status=USAGE)


def test_quiet(site: FileServer, config: Path, tmp_path: Path, new: bytes) -> None:
    """For cron: nothing where all is well, one line for what is not; what works is fetched all the same."""
    url = site.serve("/new.mmdb", new)
    done = command("--quiet", "--url", url, "--config", config)
    assert (done.stdout, done.stderr) == ("", "")
    site.serve(f"/free/dbip-asn-lite-{datetime.now(UTC):%Y-%m}.mmdb.gz", gzip.compress(new))
    done = command("--quiet", "--server", site.url, "--config", config, status=NO_INPUT)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert sorted(path.name for path in (tmp_path / "state/geoip").iterdir()) == ["dbip-asn-lite.mmdb", "new.mmdb"]


def test_to_a_folder_that_is_not_read(site: FileServer, config: Path, tmp_path: Path, new: bytes) -> None:
    """It is said that the configuration does not name it."""
    (tmp_path / "own").mkdir()
    done = command("--url", site.serve("/new.mmdb", new), "--to", tmp_path / "own", "--config", config)
    assert f'"{tmp_path}/own/*.mmdb"' in done.stderr
    assert (tmp_path / "own" / "new.mmdb").read_bytes() == new


def test_to_a_folder_that_will_not_do(site: FileServer, config: Path, tmp_path: Path, new: bytes) -> None:
    """What is not there, or is no directory, is said before anything is fetched, and what to do."""
    url = site.serve("/new.mmdb", new)
    missing = tmp_path / "missing"
    done = command("--url", url, "--to", missing, "--config", config, status=IO_ERROR)
    assert done.stderr.startswith(f"sshbell: {missing}: No such file or directory; create it, and let the user ")
    assert done.stderr.endswith(f" write there: mkdir -p {missing}\n")
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below"):
        command("--url", url, "--to", place, "--config", config, status=USAGE if place.exists() else IO_ERROR)
    with pytest.raises(OutputError, match="it is not a directory"):
        geoip_fetch.check_folder(tmp_path / "file")
    geoip_fetch.check_folder(tmp_path)
    assert site.asked == []


def test_to_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Neither without the right nor on a disk that is mounted read-only; whose it has to be is said."""
    needs.root("become somebody else, and mount")
    child = os.fork()
    if not child:
        os.setresuid(65534, 65534, 65534)
        status = 1
        try:
            geoip_fetch.check_folder(tmp_path)
        except OutputError as error:
            status = str(error) != f"{tmp_path}: Permission denied; let the user nobody write there"
        os._exit(int(status))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = 'mount -t tmpfs -o ro none "$1"; exec "$2" -m consumer geoip fetch --to "$1" --config "$3" --url http://127.0.0.1:9/x'
    config = tmp_path / "sshbell.toml"
    config.write_text('user = ""\n')
    (tmp_path / "disk").mkdir()
    arguments = ["sh", str(tmp_path / "disk"), sys.executable, str(config)]
    done = subprocess.run(
        ["/usr/bin/unshare", "--mount", "--propagation", "private", "sh", "-c", text, *arguments],
        capture_output=True, text=True, check=False, cwd=PROJECT_DIR,
    )  # fmt: skip
    said = f"sshbell: {tmp_path}/disk: Read-only file system; let the user root write there\n"
    assert (done.returncode, done.stderr) == (IO_ERROR, said)


def test_root_gives_itself_up(site: FileServer, new: bytes, open_folder: Path) -> None:
    """What root calls is done as the user of the configuration, whose the files are."""
    needs.root("become somebody else")
    python, env = system_user.command()
    as_root = partial(command, python=python, env=env)
    nobody = pwd.getpwnam("nobody")
    state, config = open_folder / "state", open_folder / "sshbell.toml"
    state.mkdir(mode=0o700)
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    config.write_text(f'user = "nobody"\nstate_dir = "{state}"\ngeoip = ["{state}/geoip/*.mmdb"]\n')
    as_root("--url", site.serve("/x.mmdb", new), "--config", config)
    for path in (state / "geoip", state / "geoip" / "x.mmdb"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (nobody.pw_uid, 0)
    state.chmod(0o500)
    as_root("--url", site.serve("/y.mmdb", new), "--config", config)  # the folder is its own
    site.asked.clear()
    done = as_root("--url", site.serve("/y.mmdb", new), "--to", open_folder, "--config", config, status=IO_ERROR)
    assert site.asked == []
    assert done.stderr == f"sshbell: {open_folder}: Permission denied; let the user nobody write there\n"


def test_progress_on_a_terminal(site: FileServer, config: Path, tmp_path: Path, new: bytes) -> None:
    """Who sits at a terminal sees a bar; with --quiet not."""
    url = site.serve("/new.mmdb", new)
    for options, shows in (([], True), (["--quiet"], False)):
        (tmp_path / "state/geoip/new.mmdb").unlink(missing_ok=True)
        ours, theirs = os.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "consumer", "geoip", "fetch", "--url", url, "--config", str(config), *options],
            cwd=PROJECT_DIR, stderr=theirs, stdout=subprocess.PIPE, check=True, timeout=60, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        seen = b""
        with suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123
            while piece := terminal.read(4096):
                seen += piece
        assert (b"100%" in seen, b"new.mmdb" in seen, bool(done.stdout)) == (shows,) * 3


def test_wrong_usage(config: Path) -> None:
    """What excludes each other, and what is no edition."""
    for options in (
        ["--url", "https://x/y", "--edition", "city"],
        ["--maxmind-account", "1"],
        ["--edition", "../x"],
        ["--edition", ""],
    ):
        command(*options, "--config", config, status=USAGE)
    assert "city, country, asn" in command("--edition", "citty", "--config", config, status=USAGE).stderr
    assert "--maxmind-account" in command("--edition", "GeoLite2-City", "--config", config, status=USAGE).stderr


def test_a_real_archive(site: FileServer, folder: Path, free_package: Path) -> None:
    """The archive of npm's client of a real free database is one like any other."""
    said = fetch(site.serve("/x.tgz", free_package.read_bytes()), folder)
    assert " bytes" in said
    places = Places([str(folder / "x.mmdb")], pytest.fail)
    assert places.of("193.252.1.1") == SourceFields(geo=GeoFields(country_iso_code="FR"))
    places.close()


def test_maxmind_refuses(site: FileServer, folder: Path) -> None:
    """Who has an account is told that it does not do."""
    for status in (401, 403):
        with pytest.raises(ConfigError, match="licence key"):
            fetched(WantedDatabase("x.mmdb", [site.serve("/x", b"", status)], "Basic x"), folder, silent)
