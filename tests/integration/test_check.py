"""``sshbell check``: each thing that can be wrong is said, with what to do, and ends with 78; what is right is said, too."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.deliver.channels import Delivered, RetryLater
from consumer.deliver.channels.email import Email
from consumer.errors import ConfigRightsError
from consumer.keys import sshd_config
from consumer.rights import Account
from consumer.store.database import version_of
from consumer.system import check, check_rsyslog, check_sshbell, check_sshd
from consumer.system.accounts import Accounts
from consumer.system.check import Result, run_checks
from tests import needs
from tests.integration.rsyslogd import DROP_IN
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.config import Config

PROJECT_DIR = Path(__file__).parents[2]
TRUSTED = 'module(load="imuxsock" SysSock.Annotate="on" SysSock.ParseTrusted="on" SysSock.UsePIDFromSystem="on")'
CHANNEL = (
    '[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@example.org"]\nusername = "a"\npassword = {{ file = "{0}/password" }}\n'
)
ROUTE = '[[route]]\nchannels = ["ops"]\n'


class CheckedHost:
    """A system that is as it should be: everything stands below one directory."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.sshd_config = root / "sshd_config"
        self.sshd_config.write_text("LogLevel VERBOSE\n")
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.config = root / "sshbell.toml"
        (root / "state").mkdir(mode=0o700)
        self.people = root / "people.toml"
        for name, mode in (("auth.log", 0o640), ("password", 0o600), ("people.toml", 0o600)):
            (root / name).touch(mode)
        self.write(
            f'state_dir = "{root}/state"\nuser = "{user}"\ncatch_up = "{root}/auth.log"\npeople = "{self.people}"\n'
            + CHANNEL.format(root)
            + ROUTE
        )
        self.entry_point = root / "entry"
        self.entry_point.write_text(f"#!/bin/sh\nexec {sys.executable} -I -m consumer run\n")
        self.entry_point.chmod(0o755)
        self.drop_in = root / "30-sshbell.conf"
        self.drop_in.write_text(DROP_IN.read_text())
        self.main = root / "rsyslog.conf"
        self.rsyslog(TRUSTED, f'include(file="{root}/30-*.conf")')
        for name, place in (("MAIN", self.main), ("DROP_IN", self.drop_in), ("ENTRY_POINT", self.entry_point)):
            monkeypatch.setattr(check_rsyslog, name, place)
        monkeypatch.setattr(check_sshd, "_SSHD_CONFIG", str(self.sshd_config))
        # What is trusted depends on where the tests run; tests/integration/test_install.py has its tests.
        for module in (check_sshbell, check_rsyslog):
            monkeypatch.setattr(module, "untrusted", lambda _path: None)
        monkeypatch.setattr(check_rsyslog, "untrusted_code", lambda _interpreter, _code: None)

    def write(self, text: str) -> None:
        """Write our configuration."""
        self.config.write_text(text)

    def edit(self, was: str, now: str) -> None:
        """Change our configuration."""
        assert was in self.config.read_text()
        self.write(self.config.read_text().replace(was, now))

    def rsyslog(self, *lines: str) -> None:
        """Write rsyslog's configuration."""
        rest = [f'global(workDirectory="{self.root}")', *lines, f'action(type="omfile" file="{self.root}/all.log")']
        self.main.write_text("\n".join(rest) + "\n")

    def results(self, *, connect: bool = False) -> dict[str, Result]:
        """Return what is found, by name; the worst of several."""
        found: dict[str, Result] = {}
        for result in run_checks(str(self.config), connect=connect):
            order = ["ok", "warning", "fault"]
            if result.name not in found or order.index(result.state) > order.index(found[result.name].state):
                found[result.name] = result
        return found

    def wrong(self, **states: str) -> dict[str, Result]:
        """Check that these are not right, and all others are."""
        found = self.results()
        # Here sshbell is whoever runs the tests, who may be root.
        root = {"privileges"} if os.geteuid() == 0 else set()
        assert {name: one.state for name, one in found.items() if one.state != "ok" and name not in root} == {
            name.replace("_", " "): state for name, state in states.items()
        }
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckedHost:
    """Return a system that is as it should be."""
    needs.program("rsyslogd", "rsyslog")
    return CheckedHost(tmp_path, monkeypatch)


def test_all_is_well(host: CheckedHost) -> None:
    """Every check is there and right."""
    found = host.wrong()
    assert list(found) == [
        "configuration", "state", "privileges", "catch-up", "secrets", "places", "entry point", "drop-in", "trusted", "sshd",
    ]  # fmt: skip
    assert "accepted by rsyslogd -N1" in found["drop-in"].text
    assert found["configuration"].text.endswith(": 1 channel, 1 route")


def test_broken_configuration(host: CheckedHost) -> None:
    """What cannot be read is a fault, with the suggestion; what does not depend on it is checked all the same."""
    host.write('kepe = "90d"\n')
    found = host.wrong(configuration="fault")
    assert "did you mean 'keep'" in found["configuration"].text
    assert {"drop-in", "trusted", "sshd"} <= found.keys()


def test_people(host: CheckedHost) -> None:
    """A file that says who owns what is right, or it is said what is not; a route to owners wants one with somebody in it."""
    people = host.people
    people.unlink()
    assert "No such file" in host.wrong(people="fault")["people"].text
    people.write_text('[[person]]\nname = "Alice"\nkey = []\n')
    said = "people.toml:3: person 'Alice': there is no key 'key'; did you mean 'keys'?"
    assert host.wrong(people="fault")["people"].text.endswith(said)
    people.write_text("")
    assert "people" not in host.wrong()
    host.edit('channels = ["ops"]', 'channels = ["ops"]\nto_owner = true')
    assert "to_owner" in host.wrong(people="warning")["people"].text
    people.write_text('[[person]]\nname = "Alice"\n')
    assert host.wrong()["people"].text.startswith(f"{people}: 1 person;")


def test_each_fault_has_a_row(host: CheckedHost) -> None:
    """Several faults of one file can be read one by one; what to do is said once."""
    people = host.people
    people.write_text('[[person]]\nnane = "Alice"\naccounts = ["@"]\n[[person]]\nname = "Bob"\nkeys = ["x"]\n')
    rows = [result for result in run_checks(str(host.config), connect=False) if result.name == "people"]
    assert [row.text.removeprefix(str(people)).split(":")[1] for row in rows] == ["1", "2", "3", "6"]
    assert [bool(row.advice) for row in rows] == [False, False, False, True]
    host.write('kepe = "90d"\nkeep = "x"\n')
    rows = [result for result in run_checks(str(host.config), connect=False) if result.name == "configuration"]
    assert rows
    assert all(row.text.count(str(host.config)) == 1 for row in rows)


@pytest.mark.parametrize(("was", "says"), [(ROUTE, "no [[route]] leads to ops"), (CHANNEL + ROUTE, "sshbell sends nothing")])
def test_nobody_is_told(host: CheckedHost, was: str, says: str) -> None:
    """A configuration by which nothing is sent is not what anybody wants."""
    host.edit(was.format(host.root), "")
    found = host.results()["configuration"]
    assert (found.state, says in found.text) == ("warning", True)


def test_channel_for_codes_alone(host: CheckedHost) -> None:
    """A channel that carries codes needs no route."""
    phone = CHANNEL.format(host.root).replace('"ops"', '"phone"')
    host.edit(ROUTE, f'{ROUTE}{phone}[codes]\nchannels = ["phone"]\n')
    found = host.results()["configuration"]
    assert (found.state, "2 channels, 1 route" in found.text) == ("ok", True)


def test_configuration_that_is_roots_alone(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads it, and sshbell's user, as whom messages go out, does not: a fault, with the remedy."""
    monkeypatch.setattr(check_sshbell, "DEFAULT_PATH", str(host.config))
    monkeypatch.setattr(check_sshbell, "closed_to", lambda _account, place: place if place == host.config else None)
    found = host.results()["configuration"]
    assert (found.state, found.text) == ("fault", f"sshbell's user cannot access {host.config}: deliver cannot start")
    assert found.advice == "sudo sshbell install"


def test_configuration_of_others(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not read the configuration has found no fault of it."""

    def refused(path: str | None) -> Config:
        raise ConfigRightsError(f"{path}: Permission denied")

    monkeypatch.setattr(check, "load", refused)
    found = host.wrong(configuration="warning")["configuration"]
    assert found.advice == "run it as root to check this: sudo sshbell check"


def test_state(host: CheckedHost) -> None:
    """The state is one user's alone, is there, and is not a newer version's or damaged."""
    state = host.root / "state"
    (state / "state.db").touch(0o640)
    (state / "state.db").chmod(0o640)
    assert "state.db does not belong" in host.wrong(state="fault")["state"].text
    (state / "state.db").unlink()
    connection = sqlite3.connect(state / "state.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    (state / "state.db").chmod(0o600)
    assert host.wrong(state="fault")["state"].text.endswith(
        f"a newer sshbell has written it (version 99, this one knows {version_of('state')}); install that one"
    )
    (state / "state.db").write_bytes(b"no database " * 1000)
    assert "state.db" in host.wrong(state="fault")["state"].text
    (state / "state.db").unlink()
    state.chmod(0o755)
    assert str(state) in host.wrong(state="fault")["state"].text
    state.rmdir()
    assert "does not exist" in host.wrong(state="fault")["state"].text


def test_no_such_user(host: CheckedHost) -> None:
    """The user has to exist."""
    host.edit(f'user = "{pwd.getpwuid(os.geteuid()).pw_name}"', 'user = "nobody-of-that-name"')
    assert "user nobody-of-that-name does not exist" in host.wrong(state="fault")["state"].text


def test_privileges(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said who is root, and what is missing where rsyslogd is not."""
    monkeypatch.setattr(Accounts, "user", lambda _accounts, _name: Account(os.geteuid(), os.getegid()))
    host.rsyslog(TRUSTED, f'include(file="{host.root}/30-*.conf")', "$PrivDropToUser syslog")
    found = host.results()["privileges"]
    assert (found.state, "only if syslog can read authorized_keys" in found.text) == ("warning", True)
    host.rsyslog(TRUSTED, f'include(file="{host.root}/30-*.conf")')
    monkeypatch.setattr(Accounts, "user", lambda _accounts, _name: Account(999, 999))
    assert host.results()["privileges"].state == "ok"
    monkeypatch.setattr(Accounts, "user", lambda _accounts, _name: Account(0, 0))
    found = host.results()["privileges"]
    assert (found.state, found.advice) == ("warning", 'set user = "sshbell", and run sudo sshbell install')


def test_keys(host: CheckedHost) -> None:
    """While ``run`` runs its keys is asked; that it does not answer is worth a warning. While none runs nothing is missing."""
    assert "keys" not in host.results()
    with subprocess.Popen(
        [sys.executable, "-m", "consumer", "run", "--plain", "--config", host.config],
        cwd=PROJECT_DIR, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as run:  # fmt: skip
        answers = Result("keys", "ok", f"{host.root}/state/keys.sock answers")
        wait_for(lambda: host.results().get("keys") == answers, "keys answers")
        (host.root / "state/keys.sock").unlink()
        assert host.results()["keys"].state == "warning"
        run.communicate()


def test_catch_up(host: CheckedHost) -> None:
    """A log that is not there is worth a warning; none at all is a decision."""
    (host.root / "auth.log").unlink()
    assert host.results()["catch-up"].state == "warning"
    host.edit(f'"{host.root}/auth.log"', '""')
    assert "catch-up" not in host.wrong()


def test_secrets(host: CheckedHost) -> None:
    """A secret that everybody can read is a fault, and the remedy is given; so is one that is not there."""
    password = host.root / "password"
    password.chmod(0o604)
    assert host.wrong(secrets="fault")["secrets"].advice == f"chmod o-rw {password}"
    password.unlink()
    found = host.wrong(secrets="fault")["secrets"]
    assert "does not exist" in found.text
    assert found.advice == f"(umask 077; cat > {password}), and type the secret"
    host.edit(f'file = "{password}"', 'command = ["/nonexistent/command", "x"]')
    assert "/nonexistent/command" in host.wrong(secrets="fault")["secrets"].text
    host.edit('command = ["/nonexistent/command", "x"]', 'env = "PASSWORD"')
    assert "$PASSWORD" in host.wrong()["secrets"].text


def test_what_its_user_cannot_read(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliver reads configuration, people and secrets as its user: modes, also of the directories above, have to allow it."""
    account = Account(4711, os.getegid())
    monkeypatch.setattr(Accounts, "user", lambda _self, _name: account)
    found = host.results()
    for name in ("configuration", "secrets"):
        assert (found[name].state, "sshbell's user cannot access" in found[name].text) == ("fault", True)
    with tempfile.TemporaryDirectory() as folder:
        for path in (place := Path(folder), config := place / "sshbell.toml", password := place / "password"):
            if path != place:
                path.write_text(host.config.read_text().replace(str(host.root / "password"), str(place / "password")))
                path.chmod(0o640)
        place.chmod(0o750)
        host.config = config
        assert {host.results()[name].state for name in ("configuration", "secrets")} == {"ok"}
        place.chmod(0o700)
        assert {host.results()[name].state for name in ("configuration", "secrets")} == {"fault"}
        place.chmod(0o750)
        password.chmod(0o600)
        assert [host.results()[name].state for name in ("configuration", "secrets")] == ["ok", "fault"]
        people = place / "people.toml"
        people.write_text('[[person]]\nname = "Alice"\n')
        host.edit(str(host.people), str(people))
        for mode, state in ((0o640, "ok"), (0o600, "fault")):
            people.chmod(mode)
            assert host.results()["people"].state == state
        assert "chmod 640" in host.results()["people"].advice


def test_channels(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --connect each channel is tried, and the reason of a failure is shown."""
    results: Iterator[Delivered | RetryLater] = iter([Delivered(), RetryLater("mail.example.org:587 refuses the connection")])

    async def check(_channel: object) -> Delivered | RetryLater:
        return next(results)

    monkeypatch.setattr(Email, "check", check)
    assert "channels" not in host.results()
    assert host.results(connect=True)["channels"] == Result("channels", "ok", "ops answers")
    found = host.results(connect=True)["channels"]
    assert (found.state, found.text) == ("fault", "ops: mail.example.org:587 refuses the connection")


def test_entry_point(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rsyslogd starts has to be there, to be a program, to find sshbell, and to be root's alone."""
    host.entry_point.chmod(0o644)
    assert "is not executable" in host.results()["entry point"].text
    host.entry_point.chmod(0o755)
    host.entry_point.write_text("#!/bin/sh\nexec /nonexistent/python -I -m consumer run\n")
    assert "/nonexistent/python does not exist" in host.results()["entry point"].text
    host.entry_point.write_text(f"#!/bin/sh\nexec {sys.executable} -I -m consumer run\n")
    with monkeypatch.context() as other:
        other.setattr(check_rsyslog, "untrusted_code", lambda _interpreter, _code: "/opt belongs to uid 1000, not to root")
        assert "/opt belongs to uid 1000" in host.results()["entry point"].text
    host.entry_point.write_text("#!/bin/sh\nexec 'torn -I -m consumer run\n")
    assert "somebody has changed" in host.results()["entry point"].text
    host.entry_point.unlink()
    assert host.results()["entry point"].state == "fault"


def test_drop_in(host: CheckedHost) -> None:
    """The drop-in has to be there, to be included, and to be accepted by the real rsyslogd."""
    host.drop_in.write_text(DROP_IN.read_text().replace('type="omprog"', 'type="omprogg"'))
    found = host.results()["drop-in"]
    assert (found.state, "omprogg" in found.text) == ("fault" if os.geteuid() == 0 else "warning", True)
    host.drop_in.write_text(DROP_IN.read_text())
    host.write('sshd_programs = ["sshd-session", "sshd-ga"]\n' + host.config.read_text())
    found = host.results()["drop-in"]
    assert (found.state, "sshd_programs has sshd-ga" in found.text) == ("warning", True)
    host.rsyslog(TRUSTED)
    assert "does not include" in host.results()["drop-in"].text
    host.drop_in.unlink()
    assert "does not exist" in host.results()["drop-in"].text


def test_trusted(host: CheckedHost) -> None:
    """Without the trusted properties the exact line is given."""
    host.rsyslog('module(load="imuxsock")', f'include(file="{host.root}/30-*.conf")')
    found = host.wrong(trusted="warning")["trusted"]
    assert f"{host.main}:2" in found.advice
    assert TRUSTED in found.advice


@pytest.mark.parametrize("can_be_asked", [True, False])
@pytest.mark.parametrize(
    ("text", "state", "says"),
    [
        ("LogLevel QUIET", "fault", "sshd does not log who logs in"),
        ("LogLevel 'QUIET'", "fault", "sshd does not log who logs in"),
        ('# LogLevel DEBUG\n  LogLevel="quiet"\nLogLevel INFO', "fault", "sshd does not log who logs in"),
        ("LogLevel ERROR", "fault", "LogLevel ERROR: sshd does not log"),
        ("Include {folder}/*.conf /etc/no-such-*.conf # so\nLogLevel INFO", "fault", "LogLevel FATAL"),
        ("Match User alice\nLogLevel QUIET", "ok", "LogLevel INFO, SyslogFacility AUTH; with VERBOSE"),
        ("SyslogFacility LOCAL3", "warning", "SyslogFacility LOCAL3"),
        ("SyslogFacility AUTHPRIV", "ok", "SyslogFacility AUTHPRIV"),
        ("LogLevel DEBUG3", "ok", "LogLevel DEBUG3"),
        ("", "ok", "LogLevel INFO"),
    ],
)
def test_sshd(host: CheckedHost, monkeypatch: pytest.MonkeyPatch, text: str, state: str, says: str, can_be_asked: bool) -> None:  # noqa: FBT001
    """
    An sshd that does not log logins is a fault; one that logs elsewhere than catch_up looks is worth a warning.

    The real sshd says so, or its files do where it cannot be asked.
    """
    needs.program("sshd", "openssh-server")
    if not can_be_asked:
        monkeypatch.setattr(sshd_config, "_PATH", str(host.root))
    (host.root / "10-a.conf").write_text("Match User alice\n  LogLevel QUIET\n")
    host.sshd_config.write_text(text.format(folder=host.root) + "\n")
    (host.root / "20-b.conf").write_text("LogLevel FATAL\n")
    found = host.results()["sshd"]
    assert (found.state, says in found.text) == (state, True)


def test_no_sshd(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sshd and without its configuration there may be others' lines; that is worth a warning."""
    monkeypatch.setattr(sshd_config, "_PATH", str(host.root))
    host.sshd_config.unlink()
    found = host.wrong(sshd="warning")["sshd"]
    assert "nothing to do if this host only receives" in found.advice


def test_configuration_of_sshd_that_may_not_be_read(host: CheckedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is root's alone is none without a LogLevel: root has to look."""

    def refused(_self: object, _visit: object = None) -> None:
        raise PermissionError(13, "Permission denied", str(host.sshd_config))

    monkeypatch.setattr(sshd_config.SshdConfig, "values", refused)
    found = host.wrong(sshd="warning")["sshd"]
    assert (found.text, found.advice) == (
        f"{host.sshd_config}: Permission denied", "run it as root to check this: sudo sshbell check",
    )  # fmt: skip


def sshbell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command on this machine, whatever is installed here."""
    return subprocess.run(
        [sys.executable, "-m", "consumer", "check", *arguments], capture_output=True, text=True, check=False, cwd=PROJECT_DIR
    )


def test_command(host: CheckedHost) -> None:
    """The table and the JSON lines say the same, and a fault ends with EX_CONFIG."""
    host.write('kepe = "90d\x1b[2J"\n')
    table, lines = sshbell("--config", host.config), sshbell("--json", "--config", host.config)
    assert (table.returncode, table.stderr, lines.returncode, lines.stderr) == (78, "", 78, "")
    found = [json.loads(line) for line in lines.stdout.splitlines()]
    assert found[0].keys() == {"name", "state", "text", "advice"}
    rows = [line for line in table.stdout.splitlines() if not line.startswith(" ")]
    assert [(row.split()[0], row[9:23].strip()) for row in rows] == [(one["state"], one["name"]) for one in found]
    assert table.stdout.replace("\n", "").isprintable()
    missing = sshbell("--config", host.root / "no-such-file")
    assert (missing.returncode, "no-such-file" in missing.stdout) == (78, True)
