#!/usr/bin/env python3
"""
Draw ``sshbell who``, ``sshbell replay`` and ``sshbell audit`` as people see them in a terminal, for the documentation.

::

    bench/terminal_pictures.py docs    writes docs/who.svg, docs/replay.svg and docs/audit.svg

The commands run at a terminal, on a made-up log. Their clock stands still, so that a picture changes only with the program.
Addresses for documentation have no place; here a made-up database gives them one.
"""

import argparse
import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from base64 import b64encode
from contextlib import closing, suppress
from datetime import UTC, datetime
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from mmdb_writer import MMDBWriter
from netaddr import IPSet
from rich.console import Console
from rich.text import Text

from consumer.errors import InputError, complain
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.store.state import State

if TYPE_CHECKING:
    from consumer.events import Event

COLUMNS = 108
NOW_US = int(datetime(2026, 11, 23, 9, 40, tzinfo=UTC).timestamp()) * 1_000_000
# Runs instead of the installed script.
SCRIPT = f"""
import sys
import consumer.clock, consumer.places.special_addresses
consumer.clock.now_us = lambda: {NOW_US}
consumer.places.special_addresses.special_name = lambda number, bits: ""
from pathlib import Path
import consumer.keys.sshd_config, consumer.system.audit, consumer.system.audit_settings, socket
from consumer.keys.authorized_keys import AuthorizedKey
consumer.keys.sshd_config._PATH = str(Path.cwd())
consumer.system.audit.AuditPlaces.__new__.__defaults__ = (str(Path("sshd_config").absolute()), Path("pam.d"))
consumer.system.audit._keys = lambda: ([AuthorizedKey("backup", "ssh-dss", "SHA256:" + "A" * 43, "MD5:", "backup@nas")], [])
consumer.system.audit_settings._exists = lambda name: True
socket.gethostname = lambda: "web1"
from consumer.cli import main
sys.argv[0] = "sshbell"
main()
"""
PLACES = {
    "203.0.113.0/25": ("Lyon", "FR"), "198.51.100.0/25": ("Bonn", "DE"), "192.0.2.0/25": ("Cork", "IE"),
    "198.51.100.128/25": ("Oslo", "NO"),
}  # fmt: skip
PERSONS = {"Carol": "carol@laptop", "Alice": "alice@desk", "Bob": "bob@laptop"}
# Replaces rich's own template, which fetches a font from another host.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def key(owner: str) -> str:
    """Return a made-up fingerprint of somebody's key."""
    return f"SHA256:{b64encode(sha256(owner.encode()).digest()).decode().rstrip('=')}"


def log_text() -> str:
    """Return the log of a morning on four hosts."""
    lines: list[tuple[str, str]] = []
    pid = 4000

    def session(begins: str, host: str, user: str, address: str, how: str, ends: str = "", partial: str = "") -> None:
        """Add a login by a method with a key's owner, its end, and the owner of the key that was the first factor."""
        nonlocal pid
        pid += 7
        source = f"for {user} from {address} port {pid + 40000} ssh2"
        texts = [(begins, f"Partial publickey {source}: ED25519 {key(partial)}")] if partial else []
        method, _, owner = how.partition(" ")
        texts.append((begins, f"Accepted {method} {source}" + (f": ED25519 {key(owner)}" if owner else "")))
        texts.append((begins, f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)"))
        if ends:
            texts.append((ends, f"pam_unix(sshd:session): session closed for user {user}"))
        lines.extend((time, f"{host} sshd[{pid}]: {text}") for time, text in texts)

    session("07:46:19", "web1", "root", "198.51.100.201", "password", ends="07:52:43")
    session("07:58:04", "bastion1", "bob", "192.0.2.44", "publickey bob@laptop", ends="09:12:30")
    session("08:02:11", "web1", "deploy", "203.0.113.7", "publickey carol@laptop")
    session("08:02:40", "web2", "deploy", "203.0.113.7", "publickey carol@laptop", ends="08:31:02")
    session("08:15:33", "db1", "alice", "198.51.100.23", "password", partial="alice@desk")
    session("09:30:00", "db1", "backup", "2001:db8:40::17", "publickey backup@nas", ends="09:30:09")
    session("09:31:57", "bastion1", "bob", "192.0.2.44", "publickey bob@laptop")
    guess = "sshd[3900]: Failed password for invalid user admin from 198.51.100.250 port 51514 ssh2"
    lines += [(f"07:40:{second:02}", f"web1 {guess}") for second in range(10, 40, 6)]
    forged = "Accepted publickey for root from 203.0.113.66 port 40022 ssh2: RSA SHA256:abc @[_PID=3377 _UID=1012 _GID=1012]"
    lines.append(("08:44:08", f"web1 sshd[3377]: {forged}"))
    return "".join(f"2026-11-23T{time}.000000+00:00 {text}\n" for time, text in sorted(lines, key=lambda line: line[0]))


# Stands in for sshd, whose defaults differ between versions.
SSHD = """\
#!/bin/sh
cat <<END
usepam yes
permitrootlogin yes
passwordauthentication yes
kbdinteractiveauthentication no
permitemptypasswords no
authenticationmethods any
maxauthtries 6
logingracetime 120
maxstartups 10:30:100
allowtcpforwarding yes
allowagentforwarding no
x11forwarding no
gatewayports no
permittunnel no
loglevel VERBOSE
permituserrc no
permituserenvironment no
strictmodes yes
ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-cbc
END
"""


def prepare(folder: Path) -> None:
    """Write all that the commands read: log, store, configuration, people and places."""
    (folder / "auth.log").write_text(log_text(), encoding="utf-8")
    people = "".join(f'[[person]]\nname = "{name}"\nkeys = ["{key(owner)}"]\n' for name, owner in PERSONS.items())
    (folder / "people.toml").write_text(people, encoding="utf-8")
    (folder / "sshbell.toml").write_text(
        f'state_dir = "{folder}/state"\nuser = ""\ngeoip = ["{folder}/places.mmdb"]\npeople = "{folder}/people.toml"\n',
        encoding="utf-8",
    )
    (folder / "sshd").write_text(SSHD, encoding="utf-8")
    (folder / "sshd").chmod(0o755)
    (folder / "sshd_config").write_text("PermitRootLogin yes\n", encoding="utf-8")
    (folder / "pam.d").mkdir()
    (folder / "pam.d" / "sshd").write_text("auth required pam_unix.so\n", encoding="utf-8")
    places = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoIP2-City", languages=["en"], description="made up")
    for network, (city, country) in PLACES.items():
        names = {"city": {"names": {"en": city}}, "country": {"iso_code": country, "names": {"en": country}}}
        places.insert_network(IPSet([network]), names)
    places.to_db_file(str(folder / "places.mmdb"))
    (folder / "state").mkdir(mode=0o700)
    events: list[Event] = []
    Replay(Matcher(), zone=UTC, tell=events.append).run([str(folder / "auth.log")])
    with closing(State(folder / "state", lambda fault: complain(InputError(fault)))) as state:
        state.record(events, frozenset(), NOW_US)
        state.set_status({"created_us": NOW_US - 40 * 86400 * 1_000_000})


def shown(arguments: list[str], folder: Path, *, status: int = 0) -> str:
    """Return what a command that ends with ``status`` writes to a terminal, with its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, COLUMNS, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    env |= {"TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments, "--config", str(folder / "sshbell.toml")],
        stdout=theirs, stdin=subprocess.DEVNULL, cwd=folder, env=env,
    ) as process:  # fmt: skip
        os.close(theirs)
        output = b""
        with suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 - EIO: the other side is closed
            while piece := terminal.read(65536):
                output += piece
    if process.returncode != status:
        raise SystemExit(f"sshbell {' '.join(arguments)} ended with {process.returncode}")
    return output.decode().replace("\r\n", "\n")


def picture(name: str, command: str, text: str) -> str:
    """Return a terminal with a command and what it has written."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)
    return console.export_svg(title="", code_format=SVG, unique_id=name)


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description="Draw sshbell's tables as SVG.")
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    target = parser.parse_args().folder
    with tempfile.TemporaryDirectory(prefix="sshbell-pictures-") as name:
        folder = Path(name)
        prepare(folder)
        who, replay = shown(["who", "--tz", "UTC"], folder), shown(["replay", "auth.log", "--tz", "UTC"], folder)
        audit = shown(["audit"], folder, status=78).replace(f"{folder}/", "/etc/ssh/")
    (target / "who.svg").write_text(picture("who", "sudo sshbell who", who), encoding="utf-8")
    (target / "audit.svg").write_text(picture("audit", "sudo sshbell audit", audit), encoding="utf-8")
    (target / "replay.svg").write_text(picture("replay", "sshbell replay auth.log", replay), encoding="utf-8")


if __name__ == "__main__":
    main()
