"""
``who``, ``history`` and ``replay`` name the owners of keys as messages do.

``who`` and ``history`` ask the real ``keys``, and wait for nothing that hangs. ``replay`` reads the files of the users itself.
"""

from __future__ import annotations

import asyncio
import copy
import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumer.config import KEYS_SOCKET
from consumer.config_file import load
from consumer.enrich.enricher import Enricher, parts_of
from consumer.keys.authorized_keys import COMMENT_LIMIT
from consumer.keys.export import HOME_LIMIT_S
from consumer.keys.process import TABLE_CHILD_LIMIT
from consumer.keys.table import TABLE_LIMIT_S
from consumer.people.people import People
from consumer.show.owner_names import asked_owners
from consumer.store.queries import keys_used, open_now
from tests import needs
from tests.bare_machine import on_a_bare_machine
from tests.ecs_events import ecs, fields_of
from tests.integration.host import PATIENCE_S, Host, as_user, children_of, is_alive, keys_of
from tests.integration.hung_home import hung
from tests.integration.lines import ours
from tests.integration.site import PROJECT_DIR
from tests.waiting import wait_for

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterator, Sequence

    from tests.integration.site import Run

pytestmark = needs.CHANGES_THE_MACHINE

HERE = socket.gethostname()
STORE = 74


class Asked(Host):
    """A host on which people log in, and are asked about."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.run: Run = self.start()
        self._logins = 0

    def login(self, account: pwd.struct_passwd, info: str, kind: str = "ED25519") -> None:
        """Log somebody in, by the lines that sshd and PAM would write."""
        self._logins += 1
        now = datetime.now(UTC).isoformat()
        for text in (
            f"Accepted publickey for {account.pw_name} from 127.0.0.1 port {self._logins} ssh2: {kind} {info}",
            f"pam_unix(sshd:session): session opened for user {account.pw_name}(uid={account.pw_uid}) by (uid=0)",
        ):
            line = ours(text, pid=self._logins, ts=now, rcvd=now, host=HERE)
            with self.log.open("ab") as log:
                log.write(line)
            assert self.run.send(line) == b"OK\n"
        wait_for(lambda: len(self.events()) == self._logins, "the login is known")

    def shown(self, *arguments: str, prefix: Sequence[str] = ()) -> str:
        """Return what a command writes; an error is all that it may write on standard error."""
        done = self.ask(*arguments, prefix=prefix)
        assert done.stderr == ""
        return done.stdout

    def how(self, *arguments: str) -> list[str]:
        """Return the last column of a table: who, and how."""
        head, *rows = self.shown(*arguments).splitlines()
        return [row[head.index("who and how") :] for row in rows]

    def replayed(self, *arguments: str) -> list[str]:
        """Return the last column of a replay of the logins so far, without the summary."""
        return self.how("replay", str(self.log), *arguments)[: self._logins]

    def enriched(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return an object with what a message would say of its key."""
        bare = copy.deepcopy(found)
        for part, name in (("key", "owner"), ("key", "options"), ("certificate", "ca_owner")):
            bare["ssh"].get(part, {}).pop(name, None)
        assert bare["ssh"] != found["ssh"]
        said = asyncio.run(Enricher(parts_of(load(str(self.config)), People())).enrich(ecs(bare)))
        return fields_of(said.ssh)


@pytest.fixture
def host(open_folder: Path) -> Iterator[Asked]:
    """Return a host whose ``run`` and ``keys`` root has started."""
    with Asked(open_folder) as made:
        yield made


def test_owner_is_named(host: Asked) -> None:
    """In each form, with the options of the line, for root and for sshbell's user; nobody else gets an answer."""
    account, fingerprint = host.user("alice@laptop")
    host.login(account, fingerprint)
    named = f"key of alice@laptop, publickey ED25519 {fingerprint}, verified"
    assert [host.how(command) for command in ("who", "history")] == [[named], [named]]
    assert host.shown("history", "--events").endswith(f"{named}\n")
    assert host.shown("who", prefix=as_user(host.bell)).endswith(f"{named}\n")
    assert host.ask("who", prefix=as_user(account), status=STORE).stdout == ""
    (row,) = csv.DictReader(io.StringIO(host.shown("history", "--csv", "--all-columns")))
    options = 'from="127.0.0.1,192.0.2.0/24"'
    assert (row["ssh.key.owner"], row["ssh.key.options"], row["ssh.certificate.ca_owner"]) == ("alice@laptop", options, "")
    key = {"type": "ED25519", "fingerprint": fingerprint, "owner": ["alice@laptop"], "options": [options]}
    for arguments in (["who"], ["history"], ["history", "--events"]):
        (found,) = host.objects(*arguments)
        assert found["ssh"]["key"] == key
        assert found["ssh"] == host.enriched(found)


def test_authority_is_named(host: Asked) -> None:
    """Of a certificate whoever signed it is named, as in a message; certificates of one authority are one question."""
    account, fingerprint = host.user("the CA, for all of us")
    file = Path(account.pw_dir) / ".ssh/authorized_keys"
    file.write_text(file.read_text().replace("from=", "cert-authority,from="))
    for number in range(2):
        host.login(account, f"SHA256:{str(number) * 43} ID alice (serial {number}) CA ED25519 {fingerprint}", "ED25519-CERT")
    for found in host.objects("who"):
        assert found["ssh"]["certificate"]["ca_owner"] == "the CA, for all of us"
        assert found["ssh"] == host.enriched(found)
    rows = host.how("who")
    assert [row.startswith("signed by 'the CA, for all of us', publickey ED25519-CERT ") for row in rows] == [True, True]
    assert all(row.endswith(" certificate alice, verified") for row in rows)


def test_replay_names_as_who_does(host: Asked) -> None:
    """``replay`` shows the same people, owners and authorities, also where ``keys`` does not run; --no-owners leaves them out."""
    host.people.write_text('[[person]]\nname = "Alice Liddell"\naccounts = ["*"]\n', encoding="utf-8")
    host.configure(user=host.bell.pw_name, people=str(host.people))
    for comment in ("alice@laptop", "a, b", ""):
        host.login(*host.user(comment))
    account, fingerprint = host.user("the CA")
    file = Path(account.pw_dir) / ".ssh/authorized_keys"
    file.write_text(file.read_text().replace("from=", "cert-authority,from="))
    host.login(account, f"SHA256:{'0' * 43} ID alice (serial 7) CA ED25519 {fingerprint}", "ED25519-CERT")
    named = host.how("who")
    assert "Alice Liddell, key of alice@laptop, publickey" in named[0]
    assert "signed by the CA" in named[3]
    objects = [(found["user"], found["ssh"]) for found in host.objects("who")]
    host.run.end()
    assert host.how("who") != named
    assert host.replayed() == named
    said = host.ask("replay", str(host.log), "--format", "json").stdout.splitlines()
    assert [(found["user"], found["ssh"]) for found in map(json.loads, said)] == objects
    assert [row.partition(",")[0].partition(" ")[0] for row in host.replayed("--no-owners")] == ["publickey"] * 4


def test_replay_is_not_held_up(host: Asked) -> None:
    """A home that hangs costs one wait, whatever logins follow; it is reported, and the keys of others are not named any more."""
    hung_user, hung_print = host.user("hung")
    host.login(hung_user, hung_print)
    host.login(*host.user("after"))
    with hung(Path(hung_user.pw_dir)) as home:
        began_s = time.monotonic()
        done = host.ask("replay", str(host.log))
        took_s = time.monotonic() - began_s
    assert f"{hung_user.pw_name}: its keys could not be read, or not within 5 s" in done.stderr
    assert "key of" not in done.stdout
    assert HOME_LIMIT_S <= took_s < HOME_LIMIT_S + PATIENCE_S
    assert len(home.requests) == 1


def test_replay_without_rights(host: Asked) -> None:
    """Somebody who is not root gets the rows without the owners of keys."""
    account, fingerprint = host.user("alice@laptop")
    host.login(account, fingerprint)
    host.log.chmod(0o644)
    command = [*as_user(account), *host.python, "-m", "consumer", *on_a_bare_machine("replay", host.log)]
    done = subprocess.run(command, cwd=PROJECT_DIR, env=host.env, text=True, capture_output=True, check=True)
    assert f"publickey ED25519 {fingerprint}, verified" in done.stdout
    assert "key of" not in done.stdout


def test_order_is_that_of_messages(host: Asked) -> None:
    """What the home says now goes before what an import of this host says; that names what the home no longer has."""
    (moved, moved_print), (gone, gone_print) = host.user("before"), host.user("gone")
    export = [*host.python, "-m", "consumer", "keys", "export", "--host", HERE]
    exported = subprocess.run(export, cwd=PROJECT_DIR, env=host.env, text=True, capture_output=True, check=True).stdout
    host.ask("keys", "import", "--host", HERE, "-", stdin=exported)
    file = Path(moved.pw_dir) / ".ssh/authorized_keys"
    file.write_text(file.read_text().replace("before", "now"))
    (Path(gone.pw_dir) / ".ssh/authorized_keys").unlink()
    host.login(moved, moved_print)
    host.login(gone, gone_print)
    found = host.objects("who")
    assert [each["ssh"]["key"]["owner"] for each in found] == [["now"], ["gone"]]
    assert [each["ssh"] for each in found] == [host.enriched(each) for each in found]


def test_hung_home(host: Asked) -> None:
    """It costs its own users their names, the table its limit, and ``keys`` one place, however many keys they have."""
    (victim, first), (well, fingerprint) = host.user("victim"), host.user("laptop")
    host.login(well, fingerprint)
    for end in ("", "2", "3"):
        host.login(victim, f"{first[: len(first) - len(end)]}{end}")
    keys = keys_of(host.run.pid)
    with hung(Path(victim.pw_dir)) as home:
        began_s = time.monotonic()
        rows = host.how("who")
        took_s = time.monotonic() - began_s
        assert home.requests
        assert len(children_of(keys)) == 1
    assert [row.startswith("key of laptop, ") for row in rows] == [True, False, False, False]
    assert TABLE_LIMIT_S <= took_s < TABLE_LIMIT_S + PATIENCE_S


def test_hostile_comments(host: Asked) -> None:
    """What a terminal obeys is shown, what looks like another part of the row is in quotes, what is long is cut there."""
    comments = ["\x1b[2J\u202eevil", "x, verified", "y" * 5_000, "=1+1", "\U000e0041" * 200]
    for comment in comments:
        host.login(*host.user(comment))
    # Others' rows have one owner; this one's has more than are shown.
    account, fingerprint = host.user()
    line = host.public_key(account)
    (Path(account.pw_dir) / ".ssh/authorized_keys").write_text("".join(f"{line} {number}\n" for number in range(9)))
    host.login(account, fingerprint)
    for command in ("who", "history"):
        text = host.shown(command)
        assert text.replace("\n", "").isprintable()
        owners = [row.partition(", publickey ED25519 ")[0] for row in host.how(command)]
        assert owners == [
            r"key of \x1b[2J\u202eevil", "key of 'x, verified'", f"key of {'y' * 99}…", "key of =1+1",
            "key of " + r"\U000e0041" * 99 + "…",
            "key of 0, key of 1, key of 2, key of 3, key of 4, and 4 others",
        ]  # fmt: skip
    cut = "y" * (COMMENT_LIMIT - 1) + "…"
    text = host.shown("history", "--csv")
    assert text.replace("\n", "").isprintable()
    assert [row["ssh.key.owner"] for row in csv.DictReader(io.StringIO(text))][:4] == [
        r"\x1b[2J\u202eevil", "x, verified", cut, "'=1+1"
    ]  # fmt: skip
    assert "\x1b" not in host.shown("who", "--json")
    named = [found["ssh"]["key"]["owner"] for found in host.objects("who")]
    assert named[:3] == [[comments[0]], [comments[1]], [cut]]


def test_hung_homes_leave_room_for_messages(host: Asked) -> None:
    """However many homes hang, and however often somebody looks who is in, a message still names who has another home."""
    victims = [host.user(f"victim {number}") for number in range(TABLE_CHILD_LIMIT + 2)]
    for victim in victims:
        host.login(*victim)
    well, fingerprint = host.user("laptop")
    keys = keys_of(host.run.pid)
    with ExitStack() as homes:
        for account, _ in victims:
            homes.enter_context(hung(Path(account.pw_dir)))
        for _ in range(2):
            assert "key of" not in host.shown("who")
        assert len(children_of(keys)) == TABLE_CHILD_LIMIT
        # All that a table may have is held: it does not wait. Measured without the start of a process.
        asked = open_now(None, None, time.time_ns() // 1000)
        used = list(keys_used(host.state_dir, asked, HERE, of_events=False))
        assert len(used) == len(victims)
        began_s = time.monotonic()
        asked_owners(load(str(host.config)), used)
        assert time.monotonic() - began_s < TABLE_LIMIT_S
        assert host.asked(well.pw_name, fingerprint)[0]["key"]["owner"] == ["laptop"]


@pytest.mark.parametrize("how", ["killed", "stopped", "replaced"])
def test_without_keys(host: Asked, how: str) -> None:
    """Where nobody answers, the table comes without names, and says nothing of it."""
    account, fingerprint = host.user("laptop")
    host.login(account, fingerprint)
    keys, place = keys_of(host.run.pid), host.state_dir / KEYS_SOCKET
    match how:
        case "killed":
            os.kill(keys, signal.SIGKILL)
            wait_for(lambda: not is_alive(keys), "keys is gone")
        case "stopped":
            os.kill(keys, signal.SIGSTOP)
        case _:
            place.unlink()
            shutil.copy(host.config, place)
    began_s = time.monotonic()
    assert host.how("who") == [f"publickey ED25519 {fingerprint}, verified"]
    assert time.monotonic() - began_s < TABLE_LIMIT_S + PATIENCE_S
