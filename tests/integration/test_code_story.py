"""A login with a code is one story, from real ssh clients through sshd, PAM, rsyslogd and sshbell to mail and to the tables."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from consumer.codes.log_lines import PROGRAM, Asker, accepted, refused, sent
from consumer.events import Attempt, Login, LoginCode
from consumer.pipeline import Pipeline
from tests import needs
from tests.integration.code_host import CodeHost
from tests.integration.lines import CLOSED, OPENED, ours
from tests.integration.rsyslogd import Rsyslogd, child
from tests.integration.site import Site, mail_channel
from tests.waiting import DEADLINE_S, came_true, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

pytestmark = needs.CHANGES_THE_MACHINE

_EVENTS = ["ssh_login", "ssh_attempt", "ssh_forged", "sshd_health"]


class Host(CodeHost):
    """A host whose log goes through rsyslogd to ``run``, which starts ``deliver``. Two mail channels report logins."""

    def configure(self, **codes: Any) -> None:
        """Write the configuration, with a channel for each language."""
        super().configure(**codes)
        text = self.site.config.read_text()
        mails = [mail_channel(self.site.post.port, "ops"), mail_channel(self.site.post.port, "de", language="de")]
        (phone,) = json_of(text, "channel")
        self.site.configure(
            channel=[phone, *mails], codes={"channels": ["phone"], "timeout": "60s"} | codes, catch_up="",
            route=[{"events": _EVENTS, "channels": ["ops", "de"]}],
        )  # fmt: skip

    def _listen(self) -> None:
        """Leave the log to rsyslogd."""
        self.lines = []

    def mails(self, count: int) -> list[EmailMessage]:
        """Wait for so many mails to the first channel, and return them."""

        def found() -> list[EmailMessage]:
            return [mail for mail in self.site.post.inbox.mails if mail["To"] == "ops@example.org"]

        wait_for(lambda: len(found()) >= count, f"{count} mails arrive")
        return found()

    def german(self, message_id: str) -> str:
        """Return the German text of the same message."""

        def found() -> list[EmailMessage]:
            own = message_id.partition("@")[0].partition(".")[0]
            return [mail for mail in self.site.post.inbox.mails if mail["To"] == "de@example.org" and own in mail["Message-ID"]]

        wait_for(found, "the German mail arrives")
        return body(found()[0])


def json_of(text: str, name: str) -> Any:
    """Return a table of a configuration."""
    import tomllib  # noqa: PLC0415

    return tomllib.loads(text)[name]


def body(mail: EmailMessage) -> str:
    """Return the plain text of a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r", "")


@contextmanager
def running(folder: Path, **codes: Any) -> Iterator[Host]:
    """Run the host."""
    with Site(folder) as site, ExitStack() as stack:
        host = Host.__new__(Host)
        site.configure()
        stack.enter_context(Rsyslogd(folder, child=child(site)))
        host.__init__(site, stack, **codes)  # type: ignore[misc] # rsyslogd makes the socket that sshd writes to
        wait_for((site.state_dir / "deliver.sock").is_socket, "deliver takes codes")
        yield host


def test_one_story(open_folder: Path) -> None:
    """A wrong code, then the right one: an attempt with its reason and a login with its code, in all languages and tables."""
    with running(open_folder) as host:
        client = host.asked()
        code = host.code(client)
        client.type(f"{(int(code) + 1) % 10**8:08}")
        assert client.until(r"\nPassword: "), client.said
        assert host.lets_in(client, code), client.said
        tried, login = host.mails(2)[:2]
        user = host.account.pw_name
        assert str(tried["Subject"]).startswith("Failed login"), tried["Subject"]
        assert re.search(r"^Reason: +wrong code$", body(tried), re.MULTILINE), body(tried)
        assert str(login["Subject"]).startswith(f"{user} logged in"), login["Subject"]
        (after_s,) = re.findall(r"^Second factor: +by #phone, after (\d+) s$", body(login), re.MULTILINE)
        assert re.search(r"^Origin: +verified", body(login), re.MULTILINE), body(login)
        german = host.german(login["Message-ID"])
        assert re.search(rf"^Zweiter Faktor: +über #phone, nach {after_s} s$", german, re.MULTILINE), german
        assert re.search("^Grund: +falscher Code$", host.german(tried["Message-ID"]), re.MULTILINE)

        asked = host.site.ask("history", "--config", str(host.site.config), "--json")
        (found,) = (one for one in map(json.loads, asked.stdout.splitlines()) if one["event"]["action"] == "ssh_login")
        assert found["ssh"]["code"]["channel"] == "phone"
        assert found["ssh"]["factors"] == ["publickey", "keyboard-interactive"]
        shown = host.site.ask("history", "--config", str(host.site.config)).stdout
        assert f"second factor by #phone, after {after_s} s" in shown
        attempts = host.site.query("SELECT user, count, reason, origin FROM event WHERE action = 'ssh_attempt'")
        assert attempts == [(user, 1, "wrong code", "verified")]
        assert host.site.query("SELECT count(*) FROM event WHERE action = 'ssh_forged'") == [(0,)]
        # The log has the story, and no code.
        log = (open_folder / "all.log").read_text()
        assert "sshbell-pam[" in log
        assert code not in log
        replayed = host.site.ask("replay", str(open_folder / "all.log")).stdout
        assert f"second factor by #phone, after {after_s} s" in replayed
        events = host.site.ask("replay", "--format", "json", str(open_folder / "all.log")).stdout.splitlines()
        again = {event["event"]["action"]: event for event in map(json.loads, events)}
        assert again["ssh_attempt"]["ssh"]["reason"] == "wrong code"
        assert again["ssh_login"]["ssh"]["code"] == found["ssh"]["code"]
        assert {again[action]["event"]["id"] for action in ("ssh_login", "ssh_attempt")} == {
            event_id for action, _user, _address, event_id in host.site.events() if action in {"ssh_login", "ssh_attempt"}
        }


ASKER = Asker("sshd", 7, "alice", "192.0.2.7")
CODE_LINES: list[tuple[str, bool]] = [
    (sent(ASKER, "482913", "ops"), True),
    (refused(ASKER, "wrong", "482913", "ops"), True),
    ("error: PAM: System error for alice from 192.0.2.7", False),
    ("Failed keyboard-interactive/pam for alice from 192.0.2.7 port 4711 ssh2", False),
    (accepted(ASKER, "482913", "ops", 14), True),
    ("Accepted keyboard-interactive/pam for alice from 192.0.2.7 port 4711 ssh2", False),
    (OPENED, False),
    (CLOSED, False),
]


def code_lines() -> list[bytes]:
    """Return them as rsyslogd sends them."""
    found = []
    for at, (text, is_ours) in enumerate(CODE_LINES):
        tag = f"{PROGRAM}[{50 + at}]:"
        own: dict[str, Any] = {"prog": PROGRAM, "tag": tag, "procid": str(50 + at), "exe": "/usr/bin/python3.11"}
        found.append(ours(text, at, **own if is_ours else {}))
    return found


@pytest.mark.parametrize("killed_after", [None, *range(1, len(CODE_LINES))])
def test_run_is_killed(site: Site, killed_after: int | None) -> None:
    """After a kill, ``run`` goes on from its journal and its snapshot: the same events, with the same ids and the same code."""
    run = site.start_run()
    for at, line in enumerate(code_lines()):
        if at == killed_after:
            run.kill()
            run = site.start_run()
        assert run.send(line) == b"OK\n"
    run.end()
    expected = Pipeline([], UTC, 1_795_400_000_000_000, pytest.fail).feed(b"".join(code_lines()))
    attempt, login, logout = expected
    assert isinstance(attempt, Attempt)
    assert isinstance(login, Login)
    assert login.code == LoginCode("accepted", "ops", "482913", 14)
    code = msgspec.json.encode(login.code).decode()
    assert site.query("SELECT action, id, reason, count, origin, code FROM event ORDER BY time_us") == [
        ("ssh_attempt", attempt.id, "wrong code", 1, "verified", None),
        ("ssh_login", login.id, None, 1, "verified", code),
        ("ssh_logout", logout.id, None, 1, "verified", code),
    ]


def test_let_in(open_folder: Path) -> None:
    """No channel takes the code: the login is let in and reported as such, and so are the channels."""
    with running(open_folder, channels=[], on_failure="safe") as host:
        client = host.client()
        assert client.until("(?m)^in$"), client.said
        client.end()
        subjects = {str(mail["Subject"]).partition(" on ")[0].partition(" to ")[0]: body(mail) for mail in host.mails(2)}
        login = next(text for subject, text in subjects.items() if "logged in" in subject)
        assert re.search("^Second factor: +none, because no channel took the code$", login, re.MULTILINE), login
        assert "on_failure" in login
        assert any("No channel takes the one-time codes" in subject for subject in subjects), subjects


def test_a_burst(open_folder: Path) -> None:
    """Somebody with the key asks for one code after another: no more prompts, and one report, whatever follows."""
    with running(open_folder) as host:
        for _ in range(5):
            host.asked().hang_up()
        for _ in range(2):
            client = host.client()
            assert not client.until(r"(?m)^in$|\nPassword: "), client.said
            client.end()

        def told() -> list[EmailMessage]:
            return [mail for mail in host.site.post.inbox.mails if "one prompt for a code after another" in str(mail["Subject"])]

        assert came_true(lambda: len({mail["To"] for mail in told()}) == 1, DEADLINE_S), (
            host.site.query("SELECT action, user, reason FROM event"),
            [str(mail["Subject"]) for mail in host.site.post.inbox.mails],
            (open_folder / "all.log").read_text(),
        )
        reasons = [reason for (reason,) in host.site.query("SELECT reason FROM event WHERE action = 'ssh_attempt'")]
        assert reasons.count("too many codes asked for") == 2
        assert host.site.query("SELECT count(*) FROM event WHERE action = 'sshd_health'") == [(1,)]


def test_a_forged_line(open_folder: Path) -> None:
    """A local user claims a right code: the kernel knows better, and sshbell reports the claim."""
    line = "Code accepted: session 1 by phone after 1 s, sshd 4711, from 192.0.2.7 for alice"
    with Site(open_folder) as site, Rsyslogd(open_folder, child=child(site)) as rsyslogd:
        rsyslogd.send_as(1012, "sshbell-pam[9]", line)

        def reported() -> bool:
            with suppress(sqlite3.OperationalError):  # "run" is just making the file
                return bool(site.events())
            return False

        wait_for(reported, "the claim is reported")
        assert site.query("SELECT action, user, uid, reason FROM event") == [("ssh_forged", "alice", 1012, "code_accepted")]
