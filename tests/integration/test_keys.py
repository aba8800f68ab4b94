"""``keys export``, ``keys import`` and ``people check``, with accounts, keys and homes that are really there."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from consumer.clock import isoformat
from consumer.ecs import NOTHING
from consumer.errors import DataError, TryLaterError
from consumer.keys import document as key_document
from consumer.keys import export as key_export
from consumer.keys.authorized_keys import parsed
from consumer.keys.document import KEY_LINE_LIMIT, Document, arrived
from consumer.keys.export import ACCOUNT_LIMIT, exported_keys
from consumer.keys.files import KeyFile
from consumer.keys.index import STALE_DAYS, KeyIndex
from consumer.store.state import State
from tests import needs
from tests.ecs_events import ecs, fields_of
from tests.integration.site import configuration
from tests.store_events import DAY_US, session_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.keys.authorized_keys import AuthorizedKey
    from tests.integration.site import Site

PROJECT_DIR = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "consumer"]
DATA, NO_INPUT, USAGE, NO_RIGHTS, CONFIG = 65, 66, 64, 77, 78
NOW_US = time.time_ns() // 1000
AT_US = NOW_US - 2 * 3600 * 1_000_000
UIDS = {"alice": 61001, "bob": 61002, "eve": 61003}


def key_line(seed: str, comment: str) -> str:
    """Return a line of ``authorized_keys``."""
    point = hashlib.sha256(seed.encode()).digest()
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


def fingerprint(line: str) -> str:
    """Return the fingerprint of a key, as sshd logs it."""
    blob = base64.b64decode(line.partition("ssh-ed25519 ")[2].partition(" ")[0])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


ALICE, BOB, EVE = key_line("alice", "alice@laptop"), key_line("bob", "bob@\x1b[31mdesk"), key_line("eve", "who?")


class KeysHost:
    """A host with three accounts; its /etc stands in the place of the real one while a command runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = ["root:x:0:0:root:/nonexistent:/bin/sh", "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"]
        for name, uid in UIDS.items():
            (folder / name / ".ssh").mkdir(parents=True)
            rows.append(f"{name}:x:{uid}:{uid}::{folder / name}:/bin/sh")
        (folder / "etc" / "ssh").mkdir(parents=True)
        (folder / "etc" / "passwd").write_text("\n".join(rows) + "\n")
        (folder / "etc" / "nsswitch.conf").write_text("passwd: files\ngroup: files\n")
        (folder / "etc" / "ssh" / "sshd_config").write_text("AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2\n")
        if Path("/etc/ld.so.cache").exists():
            shutil.copy("/etc/ld.so.cache", folder / "etc")
        self.allow("alice", ALICE, f'from="192.0.2.0/24",restrict {BOB}')
        self.allow("bob", "# nothing", BOB)
        self.allow("eve", EVE)

    def allow(self, name: str, *lines: str) -> None:
        """Write an account's keys; all of its home is its own."""
        (self.folder / name / ".ssh" / "authorized_keys").write_text("\n".join(lines) + "\n")
        self.give(name)

    def give(self, name: str) -> None:
        """Give an account all that is in its home, and nobody else any of it."""
        home = self.folder / name
        for place in (home, *home.rglob("*")):
            os.chown(place, UIDS[name], UIDS[name], follow_symlinks=False)
            if not place.is_symlink():
                place.chmod(0o700 if place.is_dir() else 0o600)

    def run(self, *arguments: str, before: str = ":") -> subprocess.CompletedProcess[bytes]:
        """Run a command on it, and a line of shell before."""
        # The whole directory: who replaces a file of the real one would take away what is mounted on that.
        script = f'mount --bind "$0" /etc && {before} && exec "$@"'
        return subprocess.run(
            ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, str(self.folder / "etc"), *COMMAND, *arguments],
            cwd=PROJECT_DIR, capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    def exported(self, *arguments: str) -> bytes:
        """Return what it exports."""
        done = self.run("keys", "export", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def host(open_folder: Path) -> KeysHost:
    """Return a host. Its folder can be entered by its users."""
    needs.root("read everybody's keys")
    return KeysHost(open_folder)


@pytest.fixture
def relay(site: Site) -> Site:
    """Return a relay: it has not imported anything."""
    site.configure(people=str(site.people))
    return site


def index_of(relay: Site) -> KeyIndex:
    """Return the index of a relay, which has to be without a fault."""
    return KeyIndex(relay.state_dir, pytest.fail)


def test_export(host: KeysHost) -> None:
    """Every account's keys, with comments and options, between a head and the count; nothing is read that is not the user's."""
    (host.folder / "secret").write_text(key_line("secret", "root's") + "\n")
    (host.folder / "secret").chmod(0o600)
    (host.folder / "eve" / ".ssh" / "authorized_keys2").symlink_to(host.folder / "secret")
    os.mkfifo(host.folder / "bob" / ".ssh" / "authorized_keys2")
    host.give("bob")
    head, *keys, tail = map(json.loads, host.exported().splitlines())
    assert (head["format"], head["version"], head["host"]) == ("sshbell-keys", 1, socket.gethostname())
    assert tail == {"keys": 4}
    found = [(key["account"], key["sha256"], key["comment"], key.get("options", [])) for key in keys]
    assert found == [
        ("alice", fingerprint(ALICE), "alice@laptop", []),
        ("alice", fingerprint(BOB), "bob@\x1b[31mdesk", ['from="192.0.2.0/24"', "restrict"]),
        ("bob", fingerprint(BOB), "bob@\x1b[31mdesk", []),
        ("eve", fingerprint(EVE), "who?", []),
    ]


def test_export_without_standard_input(host: KeysHost) -> None:
    """Where there is none a pipe of ours has its number, and is kept."""
    closed = host.run("keys", "export", before="exec <&-")
    assert (closed.returncode, closed.stderr) == (0, b"")
    assert closed.stdout.splitlines()[1:] == host.exported().splitlines()[1:]


def test_root_s_own_keys_and_authorities(host: KeysHost) -> None:
    """They are exported, too, also where root alone may read them; an authority for all accounts once, and for none of them."""
    (host.folder / "root" / ".ssh").mkdir(parents=True, mode=0o700)
    passwd = host.folder / "etc" / "passwd"
    passwd.write_text(passwd.read_text().replace(":/nonexistent:/bin/sh", f":{host.folder}/root:/bin/sh"))
    sshd_config = host.folder / "etc" / "ssh" / "sshd_config"
    sshd_config.write_text(f"{sshd_config.read_text()}TrustedUserCAKeys {host.folder}/ca.pub\n")
    for name, text in (("root/.ssh/authorized_keys", key_line("root", "root@admin")), ("ca.pub", key_line("ca", "our CA"))):
        (host.folder / name).write_text(f"{text}\n")
        (host.folder / name).chmod(0o600)
    host.allow("bob", f"cert-authority {key_line('ca', 'my CA')}")
    keys = list(map(json.loads, host.exported().splitlines()))[1:-1]
    found = [(key["account"], key["comment"], key.get("authority", False)) for key in keys]
    assert [row for row in found if row[0] not in {"alice", "eve"}] == [
        ("root", "root@admin", False),
        ("", "our CA", True),
        ("bob", "my CA", True),
    ]


def test_who_reads_hostile_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that owns nothing and can become nobody; where it dies, or writes what is no key, that account is left out."""
    line = next(parsed(ALICE.encode()))
    accounts = ["root", "daemon", "bin", "sys"]

    def files_of(account: pwd.struct_passwd, _settings: Any) -> Iterator[KeyFile]:
        if account.pw_name in accounts:
            yield KeyFile("", account.pw_name.encode(), account.pw_name)

    def lines_of(file: KeyFile) -> Iterator[AuthorizedKey]:
        if file.text == b"daemon":
            os.kill(os.getpid(), signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.setuid(0)
        ids = [*os.getresuid(), *os.getresgid()]
        rights = [text for text in Path("/proc/self/status").read_text().splitlines() if re.match("Cap(Prm|Eff|Bnd)|NoNew", text)]
        held = sorted(str(path.readlink()).partition(":")[0] for path in Path("/proc/self/fd").iterdir() if path.exists())
        yield msgspec.structs.replace(
            line,
            account=file.account,
            comment=json.dumps([ids, rights, held]),
            sha256="x" if file.text == b"sys" else line.sha256,
        )

    monkeypatch.setattr(key_export, "files_of", files_of)
    monkeypatch.setattr(key_export, "lines_of", lines_of)
    said: list[str] = []
    keys = list(exported_keys(said.append))
    assert sorted(key.account for key in keys) == ["bin", "root"]
    assert sorted(text.partition(":")[0] for text in said) == ["daemon", "sys"]
    for key in keys:
        ids, rights, held = json.loads(key.comment)
        assert ids == [65534] * 6
        assert [text.split()[1] for text in rights] == ["0" * 16] * 3 + ["1"]
        # The end of what is fetched, and ours.
        assert [name for name in held if name != "/dev/null"] == ["pipe", "pipe"]


def test_an_account_with_too_many_keys(host: KeysHost) -> None:
    """Its first ones are written, and that is said; the other accounts' are all there, and a relay takes the whole."""
    host.allow("bob", *(key_line(f"b{number}", "") for number in range(ACCOUNT_LIMIT)))
    host.allow("eve", *(key_line(f"e{number}", "") for number in range(ACCOUNT_LIMIT + 1)))
    done = host.run("keys", "export")
    accounts = Counter(json.loads(line)["account"] for line in done.stdout.splitlines()[1:-1])
    assert accounts == {"alice": 2, "bob": ACCOUNT_LIMIT, "eve": ACCOUNT_LIMIT}
    assert done.stderr.decode() == f"sshbell: eve: it has more than {ACCOUNT_LIMIT:,} keys; the rest is left out\n"


def test_export_is_root_s(host: KeysHost) -> None:
    """Anybody else is told so, and gets nothing at all."""
    setpriv = ["/usr/bin/setpriv", "--reuid", "65534", "--clear-groups", *COMMAND, "keys", "export"]
    done = subprocess.run(setpriv, cwd=PROJECT_DIR, capture_output=True, check=False, timeout=60)
    assert done.returncode == NO_RIGHTS
    assert b"sudo sshbell keys export" in done.stderr
    assert done.stdout == b""
    assert host.run("keys", "export", "--host", "a b").returncode == USAGE


def test_from_host_to_relay(host: KeysHost, relay: Site, tmp_path: Path) -> None:
    """What a host has exported names the owner of a key on the relay: of that account first, and on that host alone."""
    document = tmp_path / "web1.json"
    document.write_bytes(host.exported("--host", "web1"))
    assert relay.ask("keys", "import", str(document)).stdout == "web1: 4 keys\n"
    index = index_of(relay)
    assert [key.account for key in index.owners("WEB1", fingerprint(BOB))] == ["alice", "bob"]
    assert [key.account for key in index.owners("web1", fingerprint(BOB), "bob")] == ["bob"]
    assert index.owners("db1", fingerprint(BOB)) == []
    relay.fill(
        *session_lines(3, "alice", at_us=AT_US, lasts_s=None, info=f": ED25519 {fingerprint(ALICE)}"),
        *session_lines(4, "alice", at_us=AT_US + 1_000_000, lasts_s=None, info=f": ED25519 {fingerprint(BOB)}"),
        *session_lines(5, "alice", at_us=AT_US + 2_000_000, lasts_s=None, info=f": ED25519 {fingerprint(ALICE)}", host="db1"),
    )
    (tmp_path / "people.toml").write_text(f'[[person]]\nname = "Alice"\nkeys = ["{fingerprint(ALICE)}"]\n')
    first, second, third = relay.objects("who")
    assert (first["user"]["full_name"], first["ssh"]["key"]["owner"]) == ("Alice", ["alice@laptop"])
    assert second["ssh"]["key"]["owner"] == ["bob@\x1b[31mdesk"]
    assert second["ssh"]["key"]["options"] == ['from="192.0.2.0/24"', "restrict"]
    assert "full_name" not in second["user"]
    assert (third["user"]["full_name"], "owner" in third["ssh"]["key"]) == ("Alice", False)
    for command in ("who", "history"):
        rows = relay.ask(command).stdout.splitlines()[1:]
        assert rows[0].endswith(f"  Alice, key of alice@laptop, publickey ED25519 {fingerprint(ALICE)}")
        assert rows[1].endswith(f"  key of bob@\\x1b[31mdesk, publickey ED25519 {fingerprint(BOB)}")
        assert rows[2].endswith(f"  Alice, publickey ED25519 {fingerprint(ALICE)}")
    row, *_ = csv.DictReader(relay.ask("history", "--csv").stdout.splitlines())
    assert (row["user.name"], row["user.full_name"], row["source.address"]) == ("alice", "Alice", "192.0.2.7")
    assert (row["ssh.key.fingerprint"], row["ssh.key.owner"]) == (fingerprint(ALICE), "alice@laptop")


def written(*keys: dict[str, Any], host: str = "web1", time_us: int = NOW_US, count: int | None = None, **head: Any) -> bytes:
    """Return a document."""
    rows = [{"format": "sshbell-keys", "version": 1, "host": host, "time": isoformat(time_us)} | head, *keys]
    rows.append({"keys": len(keys) if count is None else count})
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row(number: int = 0, **more: Any) -> dict[str, Any]:
    """Return a key of a document."""
    line = key_line(str(number), "")
    md5 = hashlib.md5(line.encode(), usedforsecurity=False).hexdigest()
    known = {"account": "alice", "type": "ssh-ed25519", "sha256": fingerprint(line), "comment": f"key {number}"}
    return known | {"md5": "MD5:" + ":".join(md5[at : at + 2] for at in range(0, 32, 2))} | more


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "something else": b"hello\n",
    "binary": bytes(range(256)) * 100,
    "JSON of something else": b'{"a":1}\n{"keys":0}\n',
    "another version": written(row(), version=2),
    "no host": written(row(), host="../../etc"),
    "no time": written(row(), time="yesterday"),
    "a time that does not exist": written(row(), time="2026-13-01T00:00:00Z"),
    "cut in a line": written(row())[:-30],
    "cut between lines": written(row()).rpartition(b'{"keys"')[0],
    "another count": written(row(), count=2),
    "more behind it": written(row()) + b"{}\n",
    "no fingerprint": written(row(sha256="SHA256:x")),
    "fingerprint with more": written(row(sha256=row()["sha256"] + "\n")),
    "no text": written(row(comment=3)),
    "long comment": written(row(comment="x" * 2000)),
    "many options": written(row(options=["restrict"] * 100)),
    "long line": written(row(junk="x" * KEY_LINE_LIMIT)),
    "deep": written(row()).replace(b'"key 0"', b"[" * 20_000),
    "half a character": written(row()).replace(b"key 0", b"\\ud800"),
    "no UTF-8": written(row()).replace(b"key 0", b"\xff"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_documents(relay: Site, tmp_path: Path, what: str) -> None:
    """What is no whole export is refused in one line, and what was known stays."""
    document = tmp_path / "web1.json"
    document.write_bytes(written(row(7)))
    relay.ask("keys", "import", str(document))
    document.write_bytes(HOSTILE[what])
    done = relay.ask("keys", "import", str(document), status=DATA)
    assert done.stderr.startswith(f"sshbell: {document}")
    assert done.stderr.count("\n") == 1
    assert done.stderr[:-1].isprintable()
    assert [key.comment for key in index_of(relay).owners("web1", row(7)["sha256"])] == ["key 7"]


def test_a_document_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are good one by one must not fill the disk; no more is copied than is read."""
    document = written(*(row(number, comment="x" * 1000) for number in range(50)))
    monkeypatch.setattr(key_document, "DOCUMENT_LIMIT", len(document))
    with arrived(BytesIO(document), "web1.json") as whole:
        assert len(list(Document(whole, "web1.json").keys())) == 50
    monkeypatch.setattr(key_document, "DOCUMENT_LIMIT", len(document) // 2)
    stream = BytesIO(document)
    with arrived(stream, "web1.json") as whole, pytest.raises(DataError, match="more than 0 MiB"):
        list(Document(whole, "web1.json").keys())
    assert stream.tell() == len(document) // 2 + 1


def test_a_host_that_falls_silent(relay: Site, tmp_path: Path) -> None:
    """In the midst of its document it holds up no other's import."""
    arguments = [*COMMAND, "keys", "import", "--host", "web1", "--config", str(relay.config), "-"]
    (tmp_path / "db1.json").write_bytes(written(row(1), host="db1"))
    # Makes the file, so that no import has to wait for that.
    relay.ask("keys", "import", str(tmp_path / "db1.json"))
    with subprocess.Popen(arguments, cwd=PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        assert silent.stdin is not None
        assert silent.stdout is not None
        # More than a pipe holds: it has begun to read.
        document = written(*(row(number) for number in range(1000)))
        silent.stdin.write(document[:-100])
        silent.stdin.flush()
        assert relay.ask("keys", "import", str(tmp_path / "db1.json")).stdout == "db1: 1 keys\n"
        silent.stdin.write(document[-100:])
        silent.stdin.close()
        assert silent.stdout.read() == b"web1: 1,000 keys\n"


def test_a_host_speaks_for_itself(relay: Site, tmp_path: Path) -> None:
    """The relay says whose keys these are; what another host has exported is refused, and a name may have its domain or not."""
    document = tmp_path / "web1.json"
    document.write_bytes(written(row(), host="db1"))
    done = relay.ask("keys", "import", str(document), status=DATA)
    assert "'db1' exported it" in done.stderr
    assert index_of(relay).all_owned() == []
    document.write_bytes(written(row(), host="web1.example.org"))
    relay.ask("keys", "import", str(document))
    relay.ask("keys", "import", "--host", "web1.example.org", str(document))
    assert [host for host, *_ in index_of(relay).all_owned()] == ["web1", "web1.example.org"]
    for arguments in (["-"], ["--host", "web1", str(document), str(document)]):
        assert "--host" in relay.ask("keys", "import", *arguments, status=USAGE).stderr


def test_import_of_several(relay: Site, tmp_path: Path) -> None:
    """One that fails does not keep the others out, and the newer one takes the older one's place. Standard input goes, too."""
    for name in ("web1", "db1"):
        (tmp_path / f"{name}.json").write_bytes(written(row(1), row(2, account="bob"), host=name))
    files = [str(tmp_path / name) for name in ("web1.json", "none.json", "db1.json")]
    done = relay.ask("keys", "import", *files, status=NO_INPUT)
    assert done.stdout == "web1: 2 keys\ndb1: 2 keys\n"
    assert done.stderr == f"sshbell: {files[1]}: No such file or directory\n"
    arguments = [*COMMAND, "keys", "import", "--host", "db1", "--config", str(relay.config), "-"]
    subprocess.run(arguments, cwd=PROJECT_DIR, input=written(row(3), host="db1"), check=True, timeout=60)
    index = index_of(relay)
    assert index.owners("db1", row(1)["sha256"]) == []
    assert [key.comment for key in index.owners("db1", row(3)["sha256"])] == ["key 3"]
    assert len(index.owners("web1", row(1)["sha256"])) == 1
    assert (relay.state_dir / "keys.db").stat().st_mode & 0o777 == 0o600


def test_an_index_that_is_replaced(relay: Site, tmp_path: Path) -> None:
    """Who has it open sees what an import brings, also in another file; what cannot be read costs names, and is said once."""
    document = tmp_path / "web1.json"
    said: list[str] = []
    index = KeyIndex(relay.state_dir, said.append)
    assert index.owners("web1", row(1)["sha256"]) == []
    for number in (1, 2):
        document.write_bytes(written(row(number)))
        relay.ask("keys", "import", str(document))
        assert [key.comment for key in index.owners("web1", row(number)["sha256"])] == [f"key {number}"]
    for path in relay.state_dir.glob("keys.db*"):
        path.unlink()
    assert index.owners("web1", row(2)["sha256"]) == []
    document.write_bytes(written(row(3)))
    relay.ask("keys", "import", str(document))
    assert len(index.owners("web1", row(3)["sha256"])) == 1
    assert said == []
    for path in relay.state_dir.glob("keys.db*"):
        path.unlink()
    (relay.state_dir / "keys.db").write_bytes(b"x" * 5000)
    assert index.of(ecs({"host": {"name": "web1"}, "ssh": {"key": {"fingerprint": row(3)["sha256"]}}})) == NOTHING
    assert index.all_owned() == []
    assert len(said) == 1
    assert "keys.db" in said[0]


@pytest.mark.parametrize("days", [0, STALE_DAYS - 1, STALE_DAYS + 1, -400])
def test_stale_keys(relay: Site, tmp_path: Path, days: int) -> None:
    """What was exported long ago is shown with its date; a host whose clock is ahead does not stay fresh for that."""
    exported_us = NOW_US - days * DAY_US
    (tmp_path / "web1.json").write_bytes(written(row(1, comment="alice's laptop"), time_us=exported_us))
    relay.ask("keys", "import", str(tmp_path / "web1.json"))
    relay.fill(*session_lines(3, "alice", at_us=AT_US, lasts_s=None, info=f": ED25519 {row(1)['sha256']}"))
    mark = f" (as of {isoformat(exported_us)[:10]})" if days > STALE_DAYS else ""
    (found,) = relay.objects("who")
    assert found["ssh"]["key"]["owner"] == [f"alice's laptop{mark}"]
    assert f"  key of alice's laptop{mark}, publickey ED25519 " in relay.ask("who").stdout
    later_us = time.time_ns() // 1000 + (STALE_DAYS + 1) * DAY_US
    login = ecs({"host": {"name": "web1"}, "user": {"name": "alice"}, "ssh": {"key": {"fingerprint": row(1)["sha256"]}}})
    (owner,) = KeyIndex(relay.state_dir, pytest.fail, lambda: later_us).of(login).ssh.key.owner
    assert owner.startswith("alice's laptop (as of ")


def test_authorities(relay: Site, tmp_path: Path) -> None:
    """The authority of a certificate has a name of its own, good for one account or for all; it is nobody's key."""
    keys = [
        row(1, authority=True, comment="their CA", options=['from="192.0.2.0/24"']),
        row(2, authority=True, account="", comment="our CA"),
        row(3, comment="the key alone"),
    ]
    (tmp_path / "web1.json").write_bytes(written(*keys))
    relay.ask("keys", "import", str(tmp_path / "web1.json"))
    index = index_of(relay)

    def found(number: int, user: str) -> dict[str, Any]:
        ssh = {"certificate": {"id": "x", "ca_fingerprint": row(number)["sha256"]}, "key": {"fingerprint": row(3)["sha256"]}}
        said = index.of(ecs({"host": {"name": "web1"}, "user": {"name": user}, "ssh": ssh}))
        return fields_of(said.ssh)

    # Its key may stand in a line of its own, which did not let it in.
    assert found(1, "alice") == {"key": {"options": ['from="192.0.2.0/24"']}, "certificate": {"ca_owner": "their CA"}}
    assert found(1, "bob") == {}
    assert found(2, "bob") == {"certificate": {"ca_owner": "our CA"}}
    assert index.owners("web1", row(1)["sha256"]) == []
    assert len(index_of(relay).authorities("web1", row(1)["md5"], "alice")) == 1


def hang_for(monkeypatch: pytest.MonkeyPatch, names: Callable[[str], bool]) -> list[str]:
    """Let the homes of some accounts hang whoever reads them; return all accounts."""

    def files_of(account: Any, _settings: Any) -> Iterator[Any]:
        if names(account.pw_name):
            signal.pause()
        return iter(())

    monkeypatch.setattr(key_export, "files_of", files_of)
    monkeypatch.setattr(key_export, "HOME_LIMIT_S", 0.3)
    return [account.pw_name for account in pwd.getpwall()]


def test_homes_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is left out and named, within the limit; where many do, the export has no end, and is no export."""
    hanging = {"nobody", "daemon"}
    names = hang_for(monkeypatch, hanging.__contains__)
    said: list[str] = []
    assert list(exported_keys(said.append)) == []
    assert [text.partition(":")[0] for text in said] == [name for name in names if name in hanging]
    hang_for(monkeypatch, lambda _: True)
    with pytest.raises(TryLaterError):
        list(exported_keys(said.append))


# ------------------------------------------------------------ people check


def test_people_check(host: KeysHost, relay: Site, tmp_path: Path) -> None:
    """Keys that nobody has, of hosts and of logins; a key of two people; unused ones; accounts that are not there."""
    for host_name, days in (("db1", STALE_DAYS + 1), ("db2", STALE_DAYS - 1)):
        document = tmp_path / f"{host_name}.json"
        document.write_bytes(written(row(1), host=host_name, time_us=NOW_US - days * DAY_US))
        relay.ask("keys", "import", str(document))
    certificate = f": ED25519-CERT {row(5)['sha256']} ID {{}} (serial 1) CA ED25519 {row(6)['sha256']}"
    relay.fill(
        *session_lines(1, "carol", at_us=AT_US - 100 * DAY_US, info=f": ED25519 {fingerprint(ALICE)}"),
        *session_lines(2, "alice", at_us=AT_US, info=f": ED25519 {row(2)['sha256']}"),
        *session_lines(3, "alice", at_us=AT_US, info=f": ED25519 {fingerprint(BOB)}"),
        *session_lines(4, "alice", at_us=AT_US, info=certificate.format("alice@corp")),
        *session_lines(5, "alice", at_us=AT_US, info=certificate.format("stranger")),
        *session_lines(6, "alice", at_us=AT_US, method="password", info=""),
    )
    (tmp_path / "people.toml").write_text(
        f'[[person]]\nname = "Alice"\nkeys = ["{fingerprint(ALICE)}"]\naccounts = ["alice", "carol@web*", "zoe", "root@db1"]\n'
        f'certificates = ["alice@*"]\n[[person]]\nname = "Bob"\nkeys = ["{BOB}", "{row(9)["sha256"]}"]\n'
        f'[[person]]\nname = "Carol"\nkeys = ["{fingerprint(BOB)}"]\n'.replace("\x1b", "\\u001b")
    )
    done = host.run("people", "check", "--json", "--config", str(relay.config))
    assert done.returncode == CONFIG, done.stderr
    found = {(one["finding"], one.get("key") or one["accounts"][0]): one for one in map(json.loads, done.stdout.splitlines())}
    assert sorted(found) == sorted(
        [
            ("unowned", fingerprint(EVE)), ("unowned", row(1)["sha256"]), ("unowned", row(2)["sha256"]),
            ("unowned", "certificate 'stranger'"), ("shared", fingerprint(BOB)), ("unseen", fingerprint(ALICE)),
            ("unseen", row(9)["sha256"]), ("account", "zoe"), ("account", "root@db1"), ("stale", "*@db1"),
        ]
    )  # fmt: skip
    assert {one["state"] for (what, _), one in found.items() if what in {"unowned", "shared"}} == {"fault"}
    assert {one["state"] for (what, _), one in found.items() if what in {"unseen", "account", "stale"}} == {"warning"}
    assert found["unowned", fingerprint(EVE)]["accounts"] == [f"eve@{socket.gethostname().partition('.')[0]}"]
    assert found["unowned", row(2)["sha256"]]["last"] == isoformat(AT_US)
    assert found["shared", fingerprint(BOB)]["people"] == ["Bob", "Carol"]
    assert found["unseen", fingerprint(ALICE)]["last"] == isoformat(AT_US - 100 * DAY_US)
    table = host.run("people", "check", "--config", str(relay.config)).stdout.decode()
    assert f"fault    unowned     {fingerprint(EVE)} (who?): eve@" in table
    assert f"warning  unseen      {row(9)['sha256']} of Bob: no login since" in table
    assert table.count("\n") == len(found)


def test_people_check_needs_a_file(relay: Site, tmp_path: Path) -> None:
    """Where nobody is known nothing can be compared, and a broken file is refused as everywhere."""
    assert "people.toml does not exist" in relay.ask("people", "check", status=NO_INPUT).stderr
    (tmp_path / "people.toml").write_text('[[person]]\nname = "Alice"\nkey = []\n')
    assert "did you mean 'keys'?" in relay.ask("people", "check", status=CONFIG).stderr


def test_people_check_without_faults(host: KeysHost) -> None:
    """Where all agrees that is said, and so is what could not be looked at: there is no store, and others see no homes."""
    for name in ("bob", "eve"):
        host.allow(name)
    host.allow("alice", ALICE)
    config = host.folder / "sshbell.toml"
    config.write_text(configuration(host.folder / "state", people=f"{host.folder}/people.toml"))
    (host.folder / "people.toml").write_text(f'[[person]]\nname = "Alice"\nkeys = ["{ALICE}"]\naccounts = ["alice"]\n')
    done = host.run("people", "check", "--config", str(config))
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    left_out, well = done.stderr.decode().splitlines()
    assert left_out.startswith("sshbell: skipping the logins:")
    assert well == "the rest is fine; people: 1, lines with keys: 1"
    (host.folder / "state").mkdir()
    State(host.folder / "state", pytest.fail).close()
    done = host.run("people", "check", "--config", str(config))
    assert (done.stdout, done.stderr) == (b"", b"everything is fine; people: 1, lines with keys: 1\n")
    (host.folder / "people.toml").write_text('[[person]]\nname = "Alice"\naccounts = ["root"]\n')
    setpriv = ["/usr/bin/setpriv", "--reuid", "65534", "--clear-groups", *COMMAND, "people", "check", "--config", str(config)]
    done = subprocess.run(setpriv, cwd=PROJECT_DIR, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert b"sudo sshbell people check" in done.stderr
