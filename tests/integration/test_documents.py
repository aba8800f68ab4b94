"""
README.md and docs/, followed to the letter on a machine of their own: what a newcomer copies works.

The machine is this one in namespaces of mounts and processes, in which every folder that the commands write to is a copy. The
commands are read from the pages. What they call besides sshbell, and what would leave the machine, stands in ``STAND_INS``.
"""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import subprocess
import sysconfig
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import trustme

from tests import needs
from tests.databases import LYON, ORANGE, made
from tests.documents import PAGES, PROJECT_DIR, README, Block, blocks
from tests.integration.mail_server import PASSWORD, Post, authenticator, server_context
from tests.integration.test_geoip_fetch import FileServer, archive
from tests.waiting import DEADLINE_S, came_true

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

pytestmark = pytest.mark.long

SAMPLE = PROJECT_DIR / "tests/samples/captures/three-hosts-9.2p1-debian12/merged.rfc3339.log.gz"

# $1 is a folder for the copies. A folder of the machine becomes a writable one with the same entries, without those of an
# sshbell that the machine has. Other tests change /etc meanwhile: cp fails where a file vanishes, and then begins again. Their
# users and PAM services are not of this machine, and its new users get other numbers than theirs.
NAMESPACE = r"""
set -e
own() {
    mkdir -p "$1$2"
    mount --bind "$2" "$1$2"
    mount -t tmpfs -o mode=755 none "$2"
    for each in "$1$2"/*; do
        case "${each##*/}" in sshbell*|rsyslog) continue ;; esac
        if [ -L "$each" ] || [ -f "$each" ]; then
            cp -a "$each" "$2/"
        elif [ -d "$each" ]; then
            mkdir "$2/${each##*/}"
            mount --rbind "$each" "$2/${each##*/}"
        fi
    done
}
for each in /opt /usr/libexec /usr/local/bin /var/lib; do own "$1/own" "$each"; done
tries=1
until cp -a /etc "$1/etc"; do
    [ "$tries" -lt 20 ]
    tries=$((tries + 1))
    rm -rf "$1/etc"
done
rm -rf "$1/etc/sshbell" "$1/etc/rsyslog.d/30-sshbell.conf" "$1"/etc/pam.d/sshbell-* "$1"/etc/pam.d/sshd-codes-*
for each in passwd shadow group gshadow; do sed -i '/^bell-/d' "$1/etc/$each"; done
printf 'SYS_UID_MAX 899\nSYS_GID_MAX 899\n' >>"$1/etc/login.defs"
mount --bind "$1/etc" /etc
mkdir "$1/dev"
mount -t tmpfs -o mode=755 none "$1/dev"
for each in null zero full random urandom tty; do
    touch "$1/dev/$each"
    mount --bind "/dev/$each" "$1/dev/$each"
done
ln -s /proc/self/fd "$1/dev/fd"
mount --rbind "$1/dev" /dev
for each in /run /var/log /var/spool; do mount -t tmpfs -o mode=755 none "$each"; done
mkdir -p /run/sshd /var/spool/rsyslog
mount -t proc none /proc
hostname web1
echo ready
exec sleep infinity
"""

GCC = f"{sysconfig.get_config_var('MULTIARCH')}-gcc"
STAND_INS = {
    # The packages are there; .ci/run installs what is missing.
    "apt": """shift; for each; do dpkg-query -W -f '${Status}' "$each" | grep -q 'install ok installed' || exit 100; done""",
    "editor": "exit 0",
    "sudo": 'exec "$@"',
    "ssh": 'shift; exec "$@"',
    "systemctl": "echo 'systemd is not there' >&2; exit 1",
    # The compiler of Debian's Python, without optimization, which takes half a minute; test_compiled.py builds with it.
    GCC: f'exec /usr/bin/{GCC} "$@" -O0',
}

# Long enough for pip to compile sshbell on a busy machine; a command that takes longer hangs.
HANGS_S = 3600

# Whose certificate mail.example.org has.
CA_FILE = "/etc/ssl/mail.example.org.pem"

# What docs/operation.md gives for machines without systemd.
RESTART = 'kill "$(cat /run/rsyslogd.pid)" && while [ -e /run/rsyslogd.pid ]; do sleep 0.2; done; rsyslogd'
RELOAD = 'kill -HUP "$(cat /run/rsyslogd.pid)"'


class Machine:
    """
    A copy of this machine, on which commands are run by root.

    Attributes:
        clone: the project, as git clones it.
        site: the web server that stands in for those of databases.
    """

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self._stack = ExitStack()
        self._folder = folder
        list_files = [needs.program("git", "git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(list_files, cwd=PROJECT_DIR, check=True, capture_output=True)
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (PROJECT_DIR / name).exists():
                (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT_DIR / name, self.clone / name, follow_symlinks=False)

    def __enter__(self) -> Self:
        with self._stack:
            self._begin()
            self._stack = self._stack.pop_all()
        return self

    def _begin(self) -> None:
        authority = trustme.CA()
        unshare = needs.program("unshare", "util-linux")
        command = [
            unshare,
            "--mount",
            "--propagation",
            "private",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            NAMESPACE,
            "sh",
        ]
        (self._folder / "machine").mkdir()
        process = subprocess.Popen([*command, str(self._folder / "machine")], stdout=subprocess.PIPE, text=True)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        self._stack.enter_context(process.stdout)
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
        self._first = children.split()[0]
        for name, text in STAND_INS.items():
            self.run(f"cat >/usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}", given=f"#!/bin/sh\n{text}\n")
        self.run(f"cat >{CA_FILE}", given=authority.cert_pem.bytes())
        self.run("echo 127.0.0.1 mail.example.org >>/etc/hosts")
        self.run("zcat >/var/log/auth.log", given=SAMPLE.read_bytes())
        self.site = self._stack.enter_context(FileServer())
        web = threading.Thread(target=self.site.serve_forever, kwargs={"poll_interval": 0.02})
        web.start()
        self._stack.callback(web.join)
        self._stack.callback(self.site.shutdown)
        context = server_context(authority, "mail.example.org")
        self._post = Post(tls_context=context, authenticator=authenticator, auth_required=True)
        self._stack.callback(self._post.close)

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    @property
    def mails(self) -> list[EmailMessage]:
        """What mail.example.org has taken."""
        return self._post.inbox.mails

    def run(self, script: str, *, given: str | bytes = "", status: int = 0) -> str:
        """Run a script with bash in the clone, and check how it ends; return what it prints."""
        enter = [needs.program("nsenter", "util-linux"), "--target", self._first, "--mount", "--uts", "--pid"]
        line = f"cd {self.clone} && export PATH=/usr/local/bin:$PATH:/usr/sbin:/sbin && {script}"
        done = subprocess.run(
            [*enter, "bash", "-e", "-o", "pipefail", "-c", line],
            input=given.encode() if isinstance(given, str) else given, capture_output=True, timeout=HANGS_S, check=False,
        )  # fmt: skip
        shown = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == status, f"{script}\n{shown}"
        assert "Traceback" not in shown, shown
        return shown

    def local(self, text: str) -> str:
        """Return a block of a page with what would leave this machine led to where a server of the test listens."""
        here = {
            'server = "mail.example.org"\n': f'server = "mail.example.org"\nport = {self._post.port}\nca_file = "{CA_FILE}"\n',
            "https://mirror.example.org": self.site.url,
            "geoip fetch ": f"geoip fetch --server {self.site.url} ",
            f"--server {self.site.url} --url": "--url",
            "systemctl restart rsyslog": RESTART,
            "systemctl reload rsyslog": RELOAD,
        }
        for was, now in here.items():
            text = text.replace(was, now)
        return text


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Start a machine."""
    needs.root("make namespaces")
    with Machine(tmp_path) as made_machine:
        yield made_machine


def one(language: str, first_words: str) -> Block:
    """Return the block of README.md that begins like this."""
    (found,) = [block for block in blocks(README, language) if block.text.startswith(first_words)]
    return found


# timeout's.
TIMED_OUT = 124
# Of lines that do not end with 0: how they end on a machine on which sshbell runs and no message waits.
ENDS = {
    "tail -n 0 -F /var/log/auth.log | sshbell run --plain": TIMED_OUT,  # it reads as long as somebody writes
    "sshbell outbox drop 3fa29c01": 64,  # there is no such message
    "sshbell canary >/dev/null": 69,  # no sshd runs there
    # The packages of the extra are not there.
    "sshbell archive /var/log/hosts --out /srv/ssh-2026": 69,
    "sshbell archive --master spark://spark1:7077 /nfs/logs --out /nfs/ssh-2026": 69,
    "sshbell history --from-archive /srv/ssh-2026 --user alice": 69,
}


def test_documents(machine: Machine, tmp_path: Path) -> None:
    """README.md from the first line to the last brings mail; every command in docs/ works there; uninstall leaves nothing."""
    assert "carol" in machine.run(one("sh", "make demo").text)
    before = machine.run("ls /etc /etc/rsyslog.d /var/lib; cat /etc/passwd")
    machine.run("rsyslogd")
    machine.run(one("sh", "apt install").text)
    machine.run("cat >>/etc/sshbell/sshbell.toml", given=machine.local(one("toml", '[[channel]]\nname = "ops"').text))
    machine.run("umask 077; cat >/etc/sshbell/mail.password", given=PASSWORD)
    machine.run("sshbell install")
    (module,) = [block.text.strip() for block in blocks(README) if "imuxsock" in block.text]
    machine.run(f"sed -i 's/^module(load=\"imuxsock\".*/{module}/' /etc/rsyslog.conf; grep -qF '{module}' /etc/rsyslog.conf")
    machine.run(one("sh", "sshbell check --connect").text)
    assert len(machine.mails) == 1, "ring sends a mail"
    machine.run(machine.local(one("sh", "systemctl restart").text))
    machine.run("logger -t 'sshd[4242]' 'Accepted password for root from 192.0.2.7 port 4242 ssh2'")
    assert came_true(lambda: len(machine.mails) >= 2, DEADLINE_S), machine.run("tail -n 20 /var/log/sshbell.err; sshbell status")
    assert "192.0.2.7" in str(machine.mails[1].get_body(("plain",))), machine.mails[1]

    serve_databases(machine.site, tmp_path)
    machine.run(machine.local(one("sh", "sshbell geoip fetch").text))
    assert "Lyon" in machine.run("sshbell geoip 193.252.1.1")
    machine.run("echo key >/etc/sshbell/maxmind.key; cd /etc/sshbell; chgrp sshbell maxmind.key; chmod 640 maxmind.key")
    for page in PAGES:
        for block in blocks(page) if page != README else ():
            follow(machine, block)

    # What was changed is kept, and the user who owns it, until it is removed as uninstall advises.
    shown = machine.run("sshbell uninstall")
    advice = re.search(r"(rm -r [^;]+); then run (sshbell uninstall) again", shown)
    assert advice is not None, shown
    machine.run(f"{RESTART}; {advice[1]}; {advice[2]}")
    left = machine.run("ls /etc /etc/rsyslog.d /var/lib; cat /etc/passwd")
    assert set(left.split()) <= set(before.split())


def serve_databases(site: FileServer, folder: Path) -> None:
    """Serve what DB-IP, MaxMind and the mirror of the examples have."""
    today = datetime.now(UTC)
    for edition, record in (("city", LYON), ("asn", ORANGE)):
        body = made(folder / f"{edition}.mmdb", record, kind=f"DBIP-{edition.title()}-Lite").read_bytes()
        site.serve(f"/free/dbip-{edition}-lite-{today:%Y-%m}.mmdb.gz", gzip.compress(body))
    city = made(folder / "GeoLite2-City.mmdb", LYON, kind="GeoLite2-City").read_bytes()
    path = "/geoip/databases/GeoLite2-City/download?suffix=tar.gz"
    site.serve(path, archive(("GeoLite2-City_20260102/GeoLite2-City.mmdb", city)))
    site.serve("/country.mmdb.gz", gzip.compress(city))


def follow(machine: Machine, block: Block) -> None:
    """Run the commands of a block of docs/, each by itself."""
    for line in machine.local(block.text).splitlines() if block.language in {"sh", "cron"} else ():
        command = line.partition("  #")[0].strip()
        if block.language == "cron":
            *_times, _user, command = command.split(maxsplit=6)
        status = ENDS.get(command, 0)
        limit_s = 5 if status == TIMED_OUT else HANGS_S
        machine.run(f"timeout {limit_s} bash -o pipefail -c {shlex.quote(command)}", status=status)
